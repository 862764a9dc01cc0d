"""A small OpenAI-compatible service for text over real HTTP, which can misbehave in every way."""

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GONE_WITHIN_S = 60.0


@dataclass(slots=True)
class Asked:
    """One request, and the connection to answer it on.

    `headers` have names in lower case. `sent` counts the bytes of an answer in pieces.
    """

    path: str
    headers: dict[str, str]
    body: Any
    handler: BaseHTTPRequestHandler
    sent: int = 0

    def answers(self, body: Any, status: int = 200, **headers: str) -> None:
        """Answer at once; `body` is sent as it is when it is bytes, else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.begins(status, **{"Content-Length": str(len(raw)), **headers})
        with suppress(OSError):  # the client may have read enough
            self.handler.wfile.write(raw)

    def begins(self, status: int = 200, **headers: str) -> None:
        """Send the head of an answer."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()

    def streams(self) -> None:
        """Send the head of an answer in pieces."""
        self.begins(Content_Type="text/event-stream", Transfer_Encoding="chunked")

    def sends(self, raw: bytes) -> None:
        """Send a piece."""
        self.handler.wfile.write(b"%x\r\n%b\r\n" % (len(raw), raw))
        self.handler.wfile.flush()
        self.sent += len(raw)

    def says(self, *members: Any) -> None:
        """Send each as an event; what is text as it is."""
        for member in members:
            data = member if isinstance(member, str) else json.dumps(member)
            self.sends(f"data: {data}\n\n".encode())

    def ends(self) -> None:
        """Send the end of an answer in pieces."""
        self.handler.wfile.write(b"0\r\n\r\n")

    def cuts(self) -> None:
        """Close the connection where it is."""
        self.handler.close_connection = True
        with suppress(OSError):
            self.handler.connection.shutdown(socket.SHUT_RDWR)

    def is_left(self) -> bool:
        """Wait until the client has closed the connection; tell whether it did."""
        connection = self.handler.connection
        readable, _, _ = select.select([connection], [], [], GONE_WITHIN_S)
        if not readable:
            return False
        with suppress(OSError):
            return not connection.recv(1)
        return True


@dataclass(slots=True)
class Service:
    """A running service: where it is, what it was asked, and what went wrong in a script."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


@contextmanager
def generation_service(script: Callable[[Asked], None]) -> Iterator[Service]:
    """Serve on a free port of this machine until the block ends; `script` answers a request."""
    service = Service("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            service.asked.append(Asked(self.path, headers, json.loads(raw), self))
            try:
                script(service.asked[-1])
            except OSError:
                self.close_connection = True
            except BaseException as error:
                service.errors.append(error)
                raise

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing: what matters is in `errors`."""

    server = Server(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert service.errors == []


def answer(text: str | None, **message: Any) -> dict[str, Any]:
    """A whole answer."""
    return {
        "id": "x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def piece(text: str | None = None, *, last: bool = False, **delta: Any) -> dict[str, Any]:
    """An event of an answer in pieces."""
    content = {"content": text} if text is not None else {}
    return {
        "choices": [
            {"index": 0, "delta": content | delta, "finish_reason": "stop" if last else None}
        ],
        "usage": None,
    }


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def streaming(texts: Sequence[str]) -> Callable[[Asked], None]:
    """A script that streams texts, or answers with all of them when no stream is wanted."""

    def script(asked: Asked) -> None:
        if not asked.body.get("stream"):
            asked.answers(answer("".join(texts)))
            return
        asked.streams()
        asked.says(piece("", role="assistant"), *map(piece, texts), piece(last=True), USAGE)
        asked.says("[DONE]")
        asked.ends()

    return script
