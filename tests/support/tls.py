"""A front with TLS before a server of a test, by an authority of the test's own."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine and its key; it is its own authority."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext", NAMES),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@contextmanager
def tls_front(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Pass connections with TLS on to a port of this machine; yield the port to connect to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context, port), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:  # closed
            return
        threading.Thread(target=_serve, args=(raw, context, port), daemon=True).start()


def _serve(raw: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        suppress(OSError),
        raw,
        socket.create_connection(("127.0.0.1", port)) as behind,
        context.wrap_socket(raw, server_side=True) as front,
    ):
        threading.Thread(target=_pass_on, args=(behind, front), daemon=True).start()
        _pass_on(front, behind)


def _pass_on(source: socket.socket, destination: socket.socket) -> None:
    with suppress(OSError, ValueError):
        while part := source.recv(65_536):
            destination.sendall(part)
        destination.shutdown(socket.SHUT_WR)
