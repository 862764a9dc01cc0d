"""HTTP connections: their number, their time, and where one request ends and the next begins.

uvicorn's parser takes headers of any length, uvicorn waits for them for ever, and both take the
bytes behind a request to change the protocol (``Upgrade: h2c``) for something else than its body.
The application sees a request only when its head is complete, so all that has to be here.

* While nobody works on a request, a timer runs that no byte of the client stops: for a head, for
  the first byte of a body, for the rest of a body that has been answered already, for the next
  request. `bodies` times a body that the application reads.
* A response is read within a time (`slow_readers`), or the connection is reset.
* A protocol that is not spoken is not changed to: the request is served as it stands (RFC
  9110, 7.8). Its parser would skip the body, so another goes on behind the head.
* Nothing behind a request that is refused is parsed.
* A long body passes by the parser (`uploads`).

This alone uses the inside of uvicorn, whose connection it extends. The attributes and methods that
it uses are listed in ``tests/unit/server/http/test_uvicorn.py``, which fails when this module uses
another, and when a version of uvicorn that is allowed has one of them otherwise.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from vicinal.errors import Unavailable
from vicinal.server.http import framing, request_ids, respond, websocket
from vicinal.server.http.asgi import Receive, Scope, Send
from vicinal.server.http.framing import Refusal
from vicinal.server.http.request_ids import NO_ID, RequestId
from vicinal.server.http.response import Response
from vicinal.server.http.slow_readers import WriteWatch
from vicinal.server.http.uploads import ZERO_COPY_BODY, BufferPool, Upload
from vicinal.wire import codes, envelope

HEAD_BYTES_MAX = 64 * 1024  # ours: request line and headers; what other servers allow is 8 to 64
HEAD_S_MAX = 30.0
"""Ours: from the connection, or the first byte, to the first of the body; also for what comes of a
body after its request has been answered (nginx, too, gives that 30 s in all)."""

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

_FULL_LOGGED_S = 60.0  # ours: seconds between two warnings that connections are refused

_SHARED = "vicinal.connections"  # the key of `_Shared` in the state of a server


@dataclass(slots=True)
class _Shared:
    """State that all connections of a server share."""

    pool: BufferPool
    watches: set[WriteWatch] = field(default_factory=set)
    next_warning_s: float = 0.0  # that connections are refused, on the loop's clock


class _RequestRefused(Exception):
    """Stops the parser."""


class _ZeroCopyBody:
    """The body of a request, received without a copy: see `uploads.ZERO_COPY_BODY`.

    Attributes:
        cycle: uvicorn's request and response, once there is one.
    """

    cycle: RequestResponseCycle

    async def receive(self) -> dict[str, Any]:
        """Return the next event, as ASGI has it, but that its ``body`` may be a buffer."""
        cycle = self.cycle
        if cycle.waiting_for_100_continue:
            return dict(await cycle.receive())
        if not cycle.disconnected and not cycle.response_complete:
            cycle.flow.resume_reading()
            await cycle.message_event.wait()
            cycle.message_event.clear()
        if cycle.disconnected or cycle.response_complete:
            return {"type": "http.disconnect"}
        body, cycle.body = cycle.body, bytearray()
        return {"type": "http.request", "body": body, "more_body": cycle.more_body}


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose bytes, time and requests are bounded. For uvicorn's setting ``http``.

    Args:
        config, server_state, app_state, _loop: As uvicorn gives them.
        connections_max: Connections there may be; one more is answered 503 and closed. None
            for any number.
        has_request_ids: Whether answers that are given here have an id of their request.
        on_refused: Called with a word for the cause of every refusal.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections_max: int | None = None,
        has_request_ids: bool = True,
        on_refused: Callable[[str], None] = lambda cause: None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = self._new_parser()
        self._connections_max = connections_max
        self._has_request_ids = has_request_ids
        self._on_refused = on_refused
        self._ignores_input = False
        self._is_in_head = False
        self._is_in_body = False
        self._is_priming = False  # a new parser is fed a head that has been read already
        self._has_progressed = False  # the newest bytes were not all of one head, nor of trailers
        self._head_bytes = 0  # of a head or trailers, without those that came with their beginning
        self._unread_bytes = 0  # of the body, if its head says how long it is
        self._refusal: Refusal | None = None  # why the parser was stopped
        self._upload: Upload | None = None
        self._current: RequestResponseCycle | None = None  # the request that is being answered
        self._timer: asyncio.TimerHandle | None = None  # for bytes awaited from the client
        self._watch: WriteWatch
        self._shared: _Shared = self.app_state.setdefault(_SHARED, _Shared(BufferPool(self.loop)))

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch = WriteWatch(transport, self.loop, self._shared.watches)
        if self._connections_max is not None and len(self.connections) > self._connections_max:
            self._turn_away(self._connections_max)
        else:
            self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell the request that is being answered; uvicorn tells the newest."""
        self._stop_timer()
        self._watch.close()
        if self._current is not None and not self._current.response_complete:
            self._current.disconnected = True
            self._current.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to a head that is not complete."""
        if self._ignores_input:
            return
        self._has_progressed = False
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self._refuse(self._refusal or _UNREADABLE)
            return
        if not self._has_progressed and (self._is_in_head or self._is_in_body):
            self._head_bytes += len(data)
        if self._ignores_input:
            return
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(_TOO_LARGE)
        elif self._unread_bytes >= UPLOAD_BYTES_MIN and not self.pipeline:
            self._begin_upload()

    def pause_writing(self) -> None:
        """Begin to watch whether the client reads."""
        super().pause_writing()
        self._watch.start()

    def resume_writing(self) -> None:
        """Stop watching: the client has read."""
        self._watch.stop()
        super().resume_writing()

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin to wait for a head, and for the first byte of a body."""
        if self._is_priming:
            return
        super().on_message_begin()
        self._begin_head()
        self._progress(1)

    def on_url(self, url: bytes) -> None:
        if not self._is_priming:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers are none."""
        if self._is_in_head and not self._is_priming:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and stop counting: the body follows."""
        if self._is_priming:
            return
        self._check_head()
        lengths = framing.values(self.headers, b"content-length")
        self._unread_bytes = int(lengths[0]) if lengths else 0
        if self._unread_bytes < UPLOAD_BYTES_MIN:
            super().on_headers_complete()
        else:
            body = _ZeroCopyBody()
            self.scope["extensions"] = {ZERO_COPY_BODY: {"receive": body.receive}}
            super().on_headers_complete()
            body.cycle = self.cycle
        if not self.pipeline:
            self._current = self.cycle
        self._is_in_head = False
        self._is_in_body = True
        self._progress(0)

    def on_body(self, body: bytes) -> None:
        """Stop waiting, unless the request is answered: the rest of its body has its time."""
        self.body_arrives()
        self._unread_bytes -= len(body)
        self._progress(0)
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
            self._current = self.pipeline[-1][0]
        super().on_response_complete()
        self._unset_keepalive_if_required()  # any byte would stop it; ours goes on
        self._watch.start()
        if self.transport.is_closing() or self._is_in_head or not self.cycle.response_complete:
            return
        seconds = HEAD_S_MAX if self._is_in_body else self.timeout_keep_alive
        self._start_timer(seconds, self._close)

    # The connection of an upload

    def body_arrives(self) -> None:
        """Stop waiting, unless the request is answered."""
        if not self.cycle.response_complete:
            self._stop_timer()

    def put_body(self, part: bytearray | memoryview, *, is_last: bool) -> bool:
        """Give bytes to the request, as the parser would; return whether it keeps `part` itself."""
        cycle = self.cycle
        if cycle.response_complete:
            return False
        is_kept = False
        if isinstance(part, bytearray) and not cycle.body:
            cycle.body, is_kept = part, True
        else:
            cycle.body += part
        cycle.more_body = not is_last
        if not is_last:
            self.flow.pause_reading()
        cycle.message_event.set()
        return is_kept

    def body_ends(self) -> None:
        """Go on with the parser behind a body that passed by it."""
        self.parser = self._new_parser()  # the one there was still waits for the body
        self._receive_by(self)
        self._body_complete()

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
            raise _RequestRefused
        authority, self.url = framing.split_target(self.url)
        if authority is not None:
            others = [header for header in self.headers if header[0] != b"host"]
            self.headers[:] = [(b"host", authority), *others]

    def _progress(self, head_bytes: int) -> None:
        self._has_progressed = True
        self._head_bytes = head_bytes

    def _body_complete(self) -> None:
        self._stop_timer()
        self._is_in_body = False
        self._unread_bytes = 0
        if self.cycle.response_complete and not self.transport.is_closing():
            self._start_timer(self.timeout_keep_alive, self._close)

    def _begin_upload(self) -> None:
        self._upload = Upload(self, self._unread_bytes, self._shared.pool)
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

    def _begin_head(self) -> None:
        self._is_in_head = True
        self._start_timer(HEAD_S_MAX, self._too_slow)

    def _start_timer(self, seconds: float, at_end: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, at_end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self.pipeline and not self._is_in_head:  # nothing is read before its turn has come
            self._start_timer(HEAD_S_MAX, self._too_slow)
        else:
            self._refuse(_TOO_SLOW)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with the reason, unless another response is due or has begun, and close."""
        self._stop_timer()
        self._ignores_input = True
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self._is_in_head and is_answering:
            self.cycle.keep_alive = False  # closes once the requests before are answered
            return
        if self._is_in_body and self.pipeline:
            self._on_refused(f"http_{refusal.status:d}")
            # The newest request is the first.
            self.pipeline[0] = (self.cycle, _refusing(refusal, self._new_request_id()))
            return
        # In a body: the application has not answered yet, unless a response has started.
        is_silent = self._head_bytes == 0 if self._is_in_head else self.cycle.response_started
        if not is_silent:
            self._on_refused(f"http_{refusal.status:d}")
            request_id = self._new_request_id()
            if refusal is not _TOO_SLOW:
                fields = {"request": request_ids.text(request_id)} if request_id else {}
                self.logger.warning(
                    "Refused a request: %s", refusal.reason, extra={"fields": fields}
                )
            self.transport.write(refusal.written(request_ids.lines(request_id)))
        self._close()

    def _refuse_websocket(self) -> None:
        self._stop_timer()
        self._ignores_input = True
        self._is_in_body = False
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # closes once the requests before are answered
        else:
            self.transport.write(websocket.refusal(request_ids.lines(self._new_request_id())))
            self._close()

    def _turn_away(self, connections_max: int) -> None:
        now_s = self.loop.time()
        if now_s >= self._shared.next_warning_s:
            self._shared.next_warning_s = now_s + _FULL_LOGGED_S
            self.logger.warning(
                "%d connections are open, the most there may be; more are refused", connections_max
            )
        self._ignores_input = True
        self._on_refused("connections")
        self.transport.write(_full(connections_max, request_ids.lines(self._new_request_id())))
        self._close()

    def _new_request_id(self) -> RequestId:
        return request_ids.new() if self._has_request_ids else NO_ID

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
        self._watch.start()


def _full(connections_max: int, further: bytes) -> bytes:
    answer = codes.response_for(
        Unavailable(f"{connections_max} connections are open, the most there may be")
    )
    body = envelope.REST.failure(answer)
    return (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\nretry-after: 1\r\n%bconnection: close\r\n\r\n%b"
        % (len(body), further, body)
    )


def _refusing(refusal: Refusal, request_id: RequestId) -> Any:  # as uvicorn types an application
    """Return an ASGI application that refuses a request whose turn comes later."""
    response = Response(
        refusal.body,
        refusal.status,
        ((b"connection", b"close"), *request_id),
        content_type=b"text/plain; charset=utf-8",
    )

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await respond.send(send, response)

    return refuse
