"""HTTP connections with a bound on what comes before the body, and on the wait for its start.

uvicorn's parser takes headers of any length and waits for them for ever; the application
sees a request only when its head is complete, so the bounds have to be here. And a timer that
runs anyway costs less than one for each body: `bodies` times what comes after its first bytes.

The rest of a long body passes by the parser (`uploads`).
"""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vicinal.server.uploads import BUFFERS, LENT_BODY, Buffers, LentBody, Upload

HEAD_BYTES_MAX = 64 * 1024  # ours: request line and headers; what other servers allow is 8 to 64
HEAD_S_MAX = 30.0  # ours: from the connection, or the first byte, to the first of the body
UPLOAD_BYTES_MIN = 256 * 1024  # ours: a few reads of a socket

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\n"
_END = b"content-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed when a request's head is too long, or it or the first bytes of
    the body take too long.

    For uvicorn's setting ``http``.
    """

    _head_bytes = 0
    _is_in_head = False
    _unread_bytes = 0  # of the body, as far as its head says
    _timer: asyncio.TimerHandle | None = None
    _upload: Upload | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to a head that is not complete."""
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(_TOO_LARGE)
        elif self._unread_bytes >= UPLOAD_BYTES_MIN and not self.pipeline:
            if BUFFERS not in self.app_state:  # which all connections share
                self.app_state[BUFFERS] = Buffers(self.loop)
            self._upload = Upload(
                self,
                self._unread_bytes,
                self._body_arrives,
                self._body_ends,
                self.app_state[BUFFERS],
            )
            self._receive_by(self._upload)

    def on_message_begin(self) -> None:
        """Begin to wait for a head, and what follows it."""
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        """Stop counting; what follows is not the head."""
        self._is_in_head = False
        if self.parser.should_upgrade():
            self._end()  # no body follows, and another protocol takes the connection
        else:
            lengths = [value for name, value in self.headers if name == b"content-length"]
            self._unread_bytes = int(lengths[0]) if lengths else 0  # the parser took it
        if self._unread_bytes < UPLOAD_BYTES_MIN:
            super().on_headers_complete()
            return
        lent = LentBody()
        self.scope["extensions"] = {LENT_BODY: {"receive": lent.receive}}
        super().on_headers_complete()
        lent.cycle = self.cycle

    def on_body(self, body: bytes) -> None:
        """Stop waiting."""
        self._end()
        self._unread_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop waiting."""
        self._end()
        self._unread_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        if self._upload is not None:
            self._upload.answered()
            self._upload = None
        super().on_response_complete()

    def _receive_by(self, protocol: asyncio.BaseProtocol) -> None:
        if self.transport.is_closing():
            return
        self.transport.pause_reading()  # a loop asks whose buffers to fill when reading begins
        self.transport.set_protocol(protocol)
        if not self.flow.read_paused:
            self.transport.resume_reading()

    def _body_arrives(self) -> None:
        self._end()
        self._unset_keepalive_if_required()

    def _body_ends(self) -> None:
        self._unread_bytes = 0
        # The one there was still waits for the body; a new one is set up as uvicorn does.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._receive_by(self)

    def _begin(self) -> None:
        self._end()
        self._head_bytes = 0
        self._is_in_head = True
        self._timer = self.loop.call_later(HEAD_S_MAX, self._refuse, _TOO_SLOW)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status_line: bytes) -> None:
        self._end()
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self._is_in_head and is_answering:
            self.cycle.keep_alive = False  # closes once the request before is answered
            return
        # Without a body the application has not answered, unless it needs none.
        is_silent = self._head_bytes == 0 if self._is_in_head else self.cycle.response_started
        if not is_silent and not self.transport.is_closing():
            self.transport.write(status_line + _END)
        self.transport.close()
