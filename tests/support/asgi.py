"""Calls an ASGI application in process, event by event, with nothing in between."""

import asyncio
import atexit
import functools
import json
import threading
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.support.embedder import TinyEmbedder
from tests.support.model_engine import ModelEngine
from vicinal.d1 import Databases
from vicinal.embeddings.base import Embedder
from vicinal.embeddings.reranking import Reranker
from vicinal.engine.base import Engine
from vicinal.server.api.generation import Generator
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App, build
from vicinal.server.http.asgi import Event
from vicinal.snapshots.service import Snapshots
from vicinal.tokens import Tokens

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

INDEXES = "/client/v4/accounts/acme/vectorize/v2/indexes"
ANSWERED_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Received:
    """What came back; no `status` when the application sent nothing."""

    status: int | None
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def result(self) -> Any:
        """The result of a call that must have succeeded."""
        assert self.status == 200, self.body
        return self.json["result"]

    @property
    def error(self) -> tuple[int | None, int, str]:
        """Status, code and text of a call that must have failed in the usual form."""
        envelope = self.json
        assert envelope["success"] is False
        assert envelope["result"] is None
        assert envelope["messages"] == []
        (error,) = envelope["errors"]
        return self.status, error["code"], error["message"]


@dataclass(slots=True)
class Conversation:
    """Plays the client's side of one exchange.

    `chunks` are the parts of the body; after them, and before the application is done, the
    client stays or, with `leaves`, disconnects. With `breaks_off` it goes instead of
    sending the last chunk.
    """

    chunks: Sequence[bytes] = (b"",)
    leaves: bool = False
    breaks_off: bool = False
    received: list[Event] = field(default_factory=list)
    _sent: int = 0

    @property
    def is_sent(self) -> bool:
        """Whether the whole body has been received."""
        return self._sent == len(self.chunks)

    async def receive(self) -> Event:
        if self._sent < len(self.chunks):
            self._sent += 1
            is_last = self._sent == len(self.chunks)
            if not (is_last and self.breaks_off):
                return {
                    "type": "http.request",
                    "body": self.chunks[self._sent - 1],
                    "more_body": not is_last,
                }
        if not (self.leaves or self.breaks_off):
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        self.received.append(event)


def application(
    folder: Path,
    *,
    engine: Engine | None = None,
    embedder: Embedder | None = None,
    config: ServerConfig | None = None,
    tokens: Iterable[str] = (),
    generator: Generator | None = None,
    snapshots: Snapshots | None = None,
    reranker: Reranker | None = None,
    tracer: "Tracer | None" = None,
) -> App:
    """Build the server on a dict, with a token database in `folder`.

    Requests that are written out byte by byte call it ``x``.
    """
    return build(
        engine or ModelEngine(),
        embedder or TinyEmbedder(),
        Tokens(folder / "tokens.db", fixed=tokens),
        Databases(folder / "d1"),
        config or ServerConfig(allowed_hosts=("x",)),
        generator=generator,
        snapshots=snapshots,
        reranker=reranker,
        tracer=tracer,
    )


def call(
    app: App,
    method: str,
    target: str,
    body: bytes | object = b"",
    *,
    headers: Mapping[str, str] | None = None,
    conversation: Conversation | None = None,
) -> Received:
    """Make one request and return its answer.

    Args:
        app: The application.
        method: Like ``POST``.
        target: Path and query, percent-encoded as a client would send it.
        body: Bytes, or anything else to be sent as JSON.
        headers: Beside those that follow from the body.
        conversation: How the body is sent, when not in one piece.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {} if isinstance(body, bytes) else {"content-type": "application/json"}
    if content:
        sent["content-length"] = str(len(content))
    sent |= {name.lower(): value for name, value in (headers or {}).items()}
    path, _, query = target.partition("?")
    talk = conversation or Conversation((content,))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
    }
    run(_bounded(app(scope, talk.receive, talk.send)))
    return received(talk)


async def _bounded(answering: Awaitable[None]) -> None:
    """Wait in the task that answers: another one beside it costs as much as most requests."""
    async with asyncio.timeout(ANSWERED_WITHIN_S):
        await answering


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine as `asyncio.run` does, in the main thread without making a loop each time:
    that takes as long as most requests."""
    if threading.current_thread() is not threading.main_thread():
        asyncio.run(work)
        return
    loop = _loop()
    try:
        loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def received(talk: Conversation) -> Received:
    """Put together what a client has been sent."""
    if not talk.received:
        return Received(None, {}, b"")
    start, *bodies = talk.received
    assert {event["type"] for event in bodies} == {"http.response.body"}
    assert [event.get("more_body", False) for event in bodies[-1:]] == [False]
    body = b"".join(event["body"] for event in bodies)
    if len(bodies) > 1:
        assert b"content-length" not in dict(start["headers"]), "a stream has no length"
    headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    assert len(headers) == len(start["headers"]), "a header was sent twice"
    return Received(start["status"], headers, body)
