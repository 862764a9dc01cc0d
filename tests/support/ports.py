"""Ports of this machine for programs that must be told one."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PORTS = range(20_000, 32_000)
"""Where `free_port` looks: below what systems give to connections and to servers that ask for any
port, so that none of these takes a port between its being found and its being used."""


def free_port() -> int:
    """Return a port of `PORTS` that nobody listens on, for programs that must be told one."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def closed_port() -> Iterator[int]:
    """Hold a port that refuses connections for as long as the block runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
