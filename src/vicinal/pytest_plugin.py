"""A server for the tests of programs that use Vectorize: the pytest fixture ``vicinal_server``.

One server runs for the whole test session, in a process of its own on a free port, with its
data in a temporary folder. Each test gets an account that no other has used, so it begins
with nothing, at no cost.

    def test_search(vicinal_server):
        client = Cloudflare(base_url=vicinal_server.base_url, api_token=vicinal_server.token)
        client.vectorize.indexes.create(account_id=vicinal_server.account, ...)

The server's settings can be given in the environment as always, VICINAL_MODELS for one;
those that say where it is are chosen here. pytest loads this file in every run, so it
imports nothing of the server.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 30.0
_POLL_S = 0.02
_TRIES = 3  # a port that was free may be taken by the time the server listens

_OURS = frozenset(
    f"VICINAL_{name}" for name in ("URL", "HOST", "PORT", "DATA", "TOKEN", "ACCOUNT", "CONFIG")
)


@dataclass(frozen=True, slots=True)
class VicinalServer:
    """A running server, and an account of it.

    Attributes:
        url: Its origin, like ``http://127.0.0.1:40123``.
        token: A token that may read and write everything.
        account: An account that is this test's alone.
    """

    url: str
    token: str
    account: str

    @property
    def base_url(self) -> str:
        """The base URL for SDKs and wrangler."""
        return f"{self.url}/client/v4"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which SDKs, wrangler and Vicinal's own tools find the server."""
        return {
            "CLOUDFLARE_BASE_URL": self.base_url,
            "CLOUDFLARE_API_BASE_URL": self.base_url,
            "CLOUDFLARE_API_TOKEN": self.token,
            "CLOUDFLARE_ACCOUNT_ID": self.account,
            "VICINAL_URL": self.url,
            "VICINAL_TOKEN": self.token,
            "VICINAL_ACCOUNT": self.account,
        }

    def reset(self) -> None:
        """Delete all indexes of the account."""
        for index in _ask(self, "GET", ""):
            _ask(self, "DELETE", f"/{index['name']}")


@pytest.fixture(scope="session")
def vicinal_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VicinalServer]:
    """The server of this test session; tests want `vicinal_server`, which has an account."""
    folder = tmp_path_factory.mktemp("vicinal")
    for attempt in range(1, _TRIES + 1):
        server = VicinalServer(f"http://127.0.0.1:{_free_port()}", secrets.token_hex(16), "local")
        process = _start(server, folder)
        if _is_ready(server, process):
            break
        if attempt == _TRIES or process.poll() is None:
            _stop(process)
            log = (folder / "server.log").read_text(errors="replace")
            pytest.fail(f"the Vicinal server did not start; it said:\n{log}", pytrace=False)
    yield server
    _stop(process)


@pytest.fixture
def vicinal_server(vicinal_process: VicinalServer) -> Iterator[VicinalServer]:
    """A running server with an account that is empty."""
    server = replace(vicinal_process, account=f"test-{secrets.token_hex(8)}")
    yield server
    server.reset()


def _start(server: VicinalServer, folder: Path) -> "subprocess.Popen[bytes]":
    outer = {name: value for name, value in os.environ.items() if name not in _OURS}
    port = server.url.rpartition(":")[2]
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "vicinal", "serve", "--quiet"),
                *("--data", str(folder / "data"), "--host", "127.0.0.1", "--port", port),
            ],
            # Not on the command line, which every user of the machine can read. The working
            # folder is one without a vicinal.toml.
            env={**outer, "VICINAL_TOKEN": server.token},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _is_ready(server: VicinalServer, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server answers; return false when it has ended or takes too long."""
    end = time.monotonic() + READY_WITHIN_S
    while process.poll() is None and time.monotonic() < end:
        try:
            # With the token, so that another program on the port is not taken for the server.
            _ask(server, "GET", "")
        except (URLError, OSError, ValueError):
            time.sleep(_POLL_S)
        else:
            return True
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ask(server: VicinalServer, method: str, path: str) -> Any:
    """Do something with the account's indexes and return the result."""
    request = urllib.request.Request(
        f"{server.base_url}/accounts/{server.account}/vectorize/v2/indexes{path}",
        method=method,
        headers={"Authorization": f"Bearer {server.token}"},
    )
    # A proxy of the environment is not for this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=READY_WITHIN_S) as answer:
        return json.load(answer)["result"]
