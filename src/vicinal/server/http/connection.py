"""HTTP connections: how many, how long, and where one request ends and the next begins.

uvicorn's parser takes headers of any length, uvicorn waits for them for ever, and both take
what follows a request to change the protocol (``Upgrade: h2c``) for something else than
its body. The application sees a request only when its head is complete, so all that has to be
here. The rules:

* As long as nobody works on a request, a timer runs that no byte of the client stops: for a
  head, for the first byte of a body, for the rest of a body that has been answered already, for
  the next request. `bodies` times a body that the application reads.
* What was written is read within a time, or the connection is aborted.
* A protocol that is not spoken is not changed to: the request is served as it stands (RFC
  9110, 7.8). Its parser would skip the body, so another goes on behind the head.
* Behind a request that is refused nothing is parsed.

The rest of a long body passes by the parser (`uploads`). Of uvicorn's inside this uses what
`HttpToolsProtocol` has as attributes, and its ``on_`` callbacks.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPResponseStartEvent,
    Scope,
)
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from vicinal.errors import Unavailable
from vicinal.server.http import framing, websocket
from vicinal.server.http.framing import Refusal
from vicinal.server.http.uploads import (
    BUFFER_POOL,
    ZERO_COPY_BODY,
    BufferPool,
    Upload,
    ZeroCopyBody,
)
from vicinal.wire import codes, envelope

HEAD_BYTES_MAX = 64 * 1024  # ours: request line and headers; what other servers allow is 8 to 64
HEAD_S_MAX = 30.0
"""Ours: from the connection, or the first byte, to the first of the body; also for what comes of a
body after its request has been answered (nginx, too, gives that 30 s in all)."""

WRITE_S_MAX = 30.0
"""Ours: how long the bytes that wait to be sent may stay as many as they are."""

WRITE_BYTES_PER_S_MIN = 64 * 1024
"""Ours: how fast a client has to read what it asked for, beside `WRITE_S_MAX`."""

UNSENT_BYTES_MAX = 512 << 20
"""Ours: what may wait to be sent on all connections together, before those that have waited longest
are reset. One may always hold the whole of its own answer."""

PIPELINED_MAX = 256
"""Ours: requests that may wait behind the one that is being answered. With their 64 KiB of
bytes many more could come at once, each of which takes kilobytes here."""

UPLOAD_BYTES_MIN = 256 * 1024  # ours: a few reads of a socket

_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"a request line and its headers, or trailers, have more than {HEAD_BYTES_MAX} bytes",
)
_TOO_SLOW = Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")
_UNREADABLE = Refusal(HTTPStatus.BAD_REQUEST, "the request is not HTTP/1.1")
_TOO_MANY = Refusal(
    HTTPStatus.BAD_REQUEST, f"more than {PIPELINED_MAX} requests wait behind each other"
)

_FULL_LOGGED = "vicinal.full_logged"  # of a server's state
_FULL_LOGGED_S = 60.0  # ours: how often it is said


class _Refused(Exception):
    """Stops the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose bytes, time and requests are bounded. For uvicorn's setting ``http``.

    Args:
        config, server_state, app_state, _loop: As uvicorn gives them.
        connections_max: Connections there may be; one more is answered 503 and closed. None
            for any number.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections_max: int | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = self._new_parser()
        self._connections_max = connections_max
        self._is_deaf = False  # whatever comes is dropped
        self._is_in_head = False
        self._is_in_body = False
        self._is_priming = False  # a parser is told of a head that has been seen
        self._is_further = False  # what came last was not all of one head, nor of trailers
        self._head_bytes = 0  # of a head or trailers, but for what came with their beginning
        self._unread_bytes = 0  # of the body, as far as its head says
        self._refusal: Refusal | None = None  # why the parser was stopped
        self._upload: Upload | None = None
        self._answered: RequestResponseCycle | None = None  # the request whose turn it is
        self._timer: asyncio.TimerHandle | None = None  # for what is awaited from the client
        self._write_timer: asyncio.TimerHandle | None = None
        self._write_begin_s = self._write_end_s = 0.0

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if self._connections_max is not None and len(self.connections) > self._connections_max:
            self._turn_away(self._connections_max)
        else:
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell whoever works on a request; uvicorn tells the newest alone."""
        self._end()
        if self._write_timer is not None:
            self._write_timer.cancel()
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to a head that is not complete."""
        if self._is_deaf:
            return
        self._is_further = False
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self._refuse(self._refusal or _UNREADABLE)
            return
        if not self._is_further and (self._is_in_head or self._is_in_body):
            self._head_bytes += len(data)
        if self._is_deaf:
            return
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(_TOO_LARGE)
        elif self._unread_bytes >= UPLOAD_BYTES_MIN and not self.pipeline:
            self._begin_upload()

    def pause_writing(self) -> None:
        """Begin to watch whether the client reads."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """The client has read; what is written next has its own time."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    # What the parser finds

    def on_message_begin(self) -> None:
        """Begin to wait for a head, and what follows it."""
        if self._is_priming:
            return
        super().on_message_begin()
        self._begin()
        self._goes_further(1)

    def on_url(self, url: bytes) -> None:
        """Note the target, or a part of it."""
        if not self._is_priming:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; trailers are none."""
        if self._is_in_head and not self._is_priming:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and stop counting; what follows is the body."""
        if self._is_priming:
            return
        self._check_head()
        lengths = framing.values(self.headers, b"content-length")
        self._unread_bytes = int(lengths[0]) if lengths else 0
        if self._unread_bytes < UPLOAD_BYTES_MIN:
            super().on_headers_complete()
        else:
            lent = ZeroCopyBody()
            self.scope["extensions"] = {ZERO_COPY_BODY: {"receive": lent.receive}}
            super().on_headers_complete()
            lent.cycle = self.cycle
        if not self.pipeline:
            self._answered = self.cycle
        self._is_in_head = False
        self._is_in_body = True
        self._goes_further(0)

    def on_body(self, body: bytes) -> None:
        """Stop waiting, unless the request is answered: what is left of it has its time."""
        if not self.cycle.response_complete:
            self._end()
        self._unread_bytes -= len(body)
        self._goes_further(0)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop waiting for this request."""
        if self.parser.should_upgrade():
            return  # its body, if it has one, is yet to come
        super().on_message_complete()
        self._body_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it."""
        if self._upload is not None:
            self._upload.answered()
            self._upload = None
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()
        self._unset_keepalive_if_required()  # any byte would stop it; ours goes on
        self._watch_writing()
        if self.transport.is_closing() or self._is_in_head or not self.cycle.response_complete:
            return
        if self._is_in_body:
            self._await(HEAD_S_MAX, self._close)
        else:
            self._await(self.timeout_keep_alive, self._close)

    # How it works

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # As uvicorn: requests behind one that asks for the end are not parsed as an error.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _parse(self, left: memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(left)
            except httptools.HttpParserUpgrade as upgrade:
                left = left[upgrade.args[0] :]
            else:
                return
            if self._should_upgrade():
                self._refuse_websocket()
                return
            self._is_priming = True
            self.parser = self._new_parser()
            self.parser.feed_data(framing.same_body(self.headers))
            self._is_priming = False

    def _check_head(self) -> None:
        self._refusal = framing.refusal(
            self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers
        )
        if self._refusal is None and len(self.pipeline) >= PIPELINED_MAX:
            self._refusal = _TOO_MANY
        if self._refusal is not None:
            raise _Refused
        authority, self.url = framing.split_target(self.url)
        if authority is not None:
            others = [each for each in self.headers if each[0] != b"host"]
            self.headers[:] = [(b"host", authority), *others]

    def _goes_further(self, head_bytes: int) -> None:
        self._is_further = True
        self._head_bytes = head_bytes

    def _body_complete(self) -> None:
        self._end()
        self._is_in_body = False
        self._unread_bytes = 0
        if self.cycle.response_complete and not self.transport.is_closing():
            self._await(self.timeout_keep_alive, self._close)

    def _begin_upload(self) -> None:
        if BUFFER_POOL not in self.app_state:  # which all connections share
            self.app_state[BUFFER_POOL] = BufferPool(self.loop)
        self._upload = Upload(
            self,
            self._unread_bytes,
            self._body_arrives,
            self._body_ends,
            self.app_state[BUFFER_POOL],
        )
        if self.cycle.response_complete:
            self._upload.answered()
        self._receive_by(self._upload)

    def _receive_by(self, protocol: asyncio.BaseProtocol) -> None:
        if self.transport.is_closing():
            return
        self.transport.pause_reading()  # a loop asks whose buffers to fill when reading begins
        self.transport.set_protocol(protocol)
        if not self.flow.read_paused:
            self.transport.resume_reading()

    def _body_arrives(self) -> None:
        if not self.cycle.response_complete:
            self._end()

    def _body_ends(self) -> None:
        # The one there was still waits for the body.
        self.parser = self._new_parser()
        self._receive_by(self)
        self._body_complete()

    def _begin(self) -> None:
        self._is_in_head = True
        self._await(HEAD_S_MAX, self._too_slow)

    def _await(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self._end()
        self._timer = self.loop.call_later(seconds, otherwise)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self.pipeline and not self._is_in_head:  # nothing is read before its turn has come
            self._await(HEAD_S_MAX, self._too_slow)
        else:
            self._refuse(_TOO_SLOW)

    def _refuse(self, refusal: Refusal) -> None:
        """Say why, unless there is something else to be said, and close."""
        self._end()
        self._is_deaf = True
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self._is_in_head and is_answering:
            self.cycle.keep_alive = False  # closes once the requests before are answered
            return
        if self._is_in_body and self.pipeline:
            self.pipeline[0] = (self.cycle, _refusing(refusal))  # it is the newest
            return
        # Without a body the application has not answered, unless it needs none.
        is_silent = self._head_bytes == 0 if self._is_in_head else self.cycle.response_started
        if not is_silent:
            if refusal is not _TOO_SLOW:
                self.logger.warning("Refused a request: %s", refusal.reason)
            self.transport.write(refusal.written())
        self._close()

    def _refuse_websocket(self) -> None:
        self._end()
        self._is_deaf = True
        self._is_in_body = False
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # closes once the requests before are answered
        else:
            self.transport.write(websocket.REFUSAL)
            self._close()

    def _turn_away(self, connections_max: int) -> None:
        now_s = self.loop.time()
        if now_s >= self.app_state.get(_FULL_LOGGED, 0.0):
            self.app_state[_FULL_LOGGED] = now_s + _FULL_LOGGED_S
            self.logger.warning(
                "%d connections are open, the most there may be; more are refused", connections_max
            )
        self._is_deaf = True
        self.transport.write(_full(connections_max))
        self._close()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
        self._watch_writing()

    def _abort(self) -> None:
        # Without this the kernel would keep what it has taken, for as long as it likes.
        connection = self.transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _watch_writing(self) -> None:
        size = self.transport.get_write_buffer_size()
        if size and self._write_timer is None:
            self._write_begin_s = self.loop.time()
            self._bound_unsent()
            self._write_end_s = self.loop.time() + WRITE_S_MAX + size / WRITE_BYTES_PER_S_MIN
            self._write_timer = self.loop.call_later(WRITE_S_MAX, self._check_writing, size)

    def _bound_unsent(self) -> None:
        waiting = sorted(
            (
                (each._write_begin_s, each.transport.get_write_buffer_size(), each)  # noqa: SLF001 its own kind
                for each in self.connections
                if isinstance(each, BoundedProtocol)
            ),
            key=lambda each: each[0],
        )
        unsent = sum(size for _, size, _ in waiting)
        for _, size, each in waiting:
            if unsent <= UNSENT_BYTES_MAX or each is self:
                return
            if size:
                unsent -= size
                self.logger.warning("Reset a connection with %d bytes that nobody reads", size)
                each._abort()  # noqa: SLF001 its own kind

    def _check_writing(self, size_before: int) -> None:
        self._write_timer = None
        size = self.transport.get_write_buffer_size()
        left_s = self._write_end_s - self.loop.time()
        if size >= size_before or (size and left_s <= 0):
            self._abort()
        elif size:
            self._write_timer = self.loop.call_later(
                min(WRITE_S_MAX, left_s), self._check_writing, size
            )


def _full(connections_max: int) -> bytes:
    answer = codes.response_for(
        Unavailable(f"{connections_max} connections are open, the most there may be")
    )
    body = envelope.REST.failure(answer)
    return (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\nretry-after: 1\r\nconnection: close\r\n\r\n%b" % (len(body), body)
    )


def _refusing(refusal: Refusal) -> ASGI3Application:
    """Return an application that refuses a request whose turn comes later."""

    async def refuse(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": refusal.headers,
            "trailers": False,
        }
        await send(start)
        await send({"type": "http.response.body", "body": refusal.body, "more_body": False})

    return refuse
