"""A service over real sockets that answers as no service should: a script has the connection."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_REQUEST_S_MAX = 30.0  # that a client takes to send a request


@dataclass(slots=True)
class Connection:
    """A connection whose request has been read; `path` and `body` are the request's."""

    path: str
    body: bytes
    _socket: socket.socket
    _is_ended: threading.Event

    def send(self, raw: bytes) -> None:
        """Send bytes.

        Raises:
            OSError: the client has closed the connection.
        """
        self._socket.sendall(raw)

    def head(self, status: str = "200 OK", **headers: str) -> None:
        """Send the head of an answer; underscores in names of headers are hyphens."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode())

    def answer(self, body: Any, status: str = "200 OK", **headers: str) -> None:
        """Send a whole answer; `body` is sent as it is when it is bytes, else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(status, Content_Length=str(len(raw)), **headers)
        self.send(raw)

    def drip(self, raw: bytes, pause_s: float = 0.02) -> None:
        """Send `raw` over and over, byte by byte, until the client goes or the service ends."""
        while True:
            for byte in raw:
                self.send(bytes((byte,)))
                if self._is_ended.wait(pause_s):
                    return

    def flood(self, raw: bytes) -> None:
        """Send `raw` over and over, as fast as it is read, until the client goes."""
        while not self._is_ended.is_set():
            self.send(raw)

    def receive(self) -> None:
        """Read the next request on the connection, and drop it.

        Raises:
            OSError: the client has closed the connection.
        """
        _request(self._socket)

    def hang(self) -> None:
        """Say nothing more, until the client goes or the service ends."""
        self._socket.settimeout(0.05)
        while not self._is_ended.is_set():
            with contextlib.suppress(TimeoutError):
                if not self._socket.recv(65_536):
                    return


@dataclass(slots=True)
class RudeService:
    """A running service: where it is, the requests that it was asked, and how many of their clients
    are there still."""

    url: str
    asked: list[Connection] = field(default_factory=list)
    open_count: int = 0


@contextlib.contextmanager
def rude_service(script: Callable[[Connection], None]) -> Iterator[RudeService]:
    """Serve on a free port of this machine until the block ends; `script` answers a request, and
    its connection is closed when it returns."""
    listener = socket.create_server(("127.0.0.1", 0))
    is_ended = threading.Event()
    service = RudeService(f"http://127.0.0.1:{listener.getsockname()[1]}")
    threads: list[threading.Thread] = []

    def serve(accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError):
            accepted.settimeout(_REQUEST_S_MAX)
            path, body = _request(accepted)
            connection = Connection(path, body, accepted, is_ended)
            service.asked.append(connection)
            service.open_count += 1
            try:
                script(connection)
            finally:
                service.open_count -= 1

    def accept() -> None:
        while not is_ended.is_set():
            with contextlib.suppress(OSError):
                accepted, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(accepted,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield service
    finally:
        is_ended.set()
        with contextlib.suppress(OSError):  # wakes what waits for a connection
            socket.create_connection(listener.getsockname(), 1.0).close()
        accepting.join()
        listener.close()
        for thread in threads:
            thread.join()


def _request(accepted: socket.socket) -> tuple[str, bytes]:
    """Read one request to its end; return its path and its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = accepted.recv(65_536)
        if not part:
            raise ConnectionError("the client has sent no request")
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    while len(body) < int(headers.get("content-length", "0")):
        body += accepted.recv(65_536)
    return lines[0].split()[1], body
