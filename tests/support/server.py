"""Servers for tests that need a socket: the application in a thread, or the whole process."""

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import uvicorn
from uvicorn.config import LoopFactoryType

from tests.support.ports import free_port
from vicinal.server.app import App
from vicinal.server.http.connection import BoundedProtocol
from vicinal.server.http.websocket import WebSocketRefusal

ONE_THREAD = {"VICINAL_EMBEDDING_THREADS": "1"}
"""For a server with a model: several threads spin for each other, while other tests want cores."""

READY_WITHIN_S = 180.0
STOPPED_WITHIN_S = 120.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        port: Where it listens, on loopback.
        token: May do everything.
        account: One to use.
        process: The process, None when the server is a thread of this one.
    """

    port: int
    token: str
    account: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What the SDKs and wrangler take as their base URL."""
        return f"{self.origin}/client/v4"

    def connect(self) -> socket.socket:
        """Open a connection, for clients that misbehave on purpose."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextmanager
def in_thread(
    app: App,
    *,
    token: str = "any",
    loop: LoopFactoryType = "auto",
    keep_alive_s: int = 5,
    shutdown_timeout_s: int | None = None,
    connections_max: int | None = None,
) -> Iterator[Running]:
    """Serve an application over real sockets from a thread of this process."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]  # is called, no more
            BoundedProtocol,
            connections_max=connections_max,
            on_refused=app.services.metrics.refused if isinstance(app, App) else lambda _: None,
        ),
        ws=WebSocketRefusal,
        log_config=None,
        access_log=False,
        server_header=False,
        loop=loop,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=shutdown_timeout_s,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="server")
    thread.start()
    try:
        running = Running(listener.getsockname()[1], token, "acme")
        wait_until_ready(running)
        yield running
    finally:
        server.should_exit = True
        thread.join(STOPPED_WITHIN_S)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


@contextmanager
def in_process(
    folder: Path,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    around: Sequence[str] = (),
) -> Iterator[Running]:
    """Run ``vicinal serve`` with a token, as a user would; its log goes to ``server.log``.

    `around` is a command that becomes the one behind it, such as ``nice``.
    """
    running = start(folder, arguments=arguments, environment=environment, around=around)
    try:
        yield running
    finally:
        stop(running)


def start(
    folder: Path,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    around: Sequence[str] = (),
) -> Running:
    """Start ``vicinal serve`` and wait until it is ready; the caller stops it."""
    token, port = secrets.token_hex(8), free_port()
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *around,
                *(sys.executable, "-m", "vicinal", "serve"),
                *("--data", str(folder / "data"), "--port", str(port), "--token", token),
                *arguments,
            ],
            cwd=folder,
            env=_clean_environment() | ONE_THREAD | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = Running(port, token, "acme", process)
    try:
        wait_until_ready(running)
    except BaseException as error:
        stop(running)
        error.add_note((folder / "server.log").read_text(errors="replace")[-2000:])
        raise
    return running


def stop(running: Running) -> None:
    """Stop a process as a service manager would."""
    assert running.process is not None
    running.process.terminate()
    try:
        running.process.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()
        raise


def wait_until_ready(running: Running) -> None:
    """Ask until the server says that it is ready; it is told apart from one that died."""
    end = time.monotonic() + READY_WITHIN_S
    while True:
        if running.process is not None and running.process.poll() is not None:
            raise RuntimeError(f"the server ended with status {running.process.returncode}")
        try:
            with urlopen(f"{running.origin}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            if time.monotonic() > end:
                raise
        time.sleep(_POLL_S)


def _clean_environment() -> dict[str, str]:
    """This process's environment without settings that a developer may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VICINAL_")}
