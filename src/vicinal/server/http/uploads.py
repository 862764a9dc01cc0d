"""Zero-copy receive: the bytes of a long body pass by the HTTP parser into pooled buffers.

Through uvicorn's parser each byte of a body is copied five times, and reading is paused and resumed
every 64 KiB. A body whose length is known needs no parsing: `connection` makes an `Upload` the
protocol of its transport until the body has ended. It fills one buffer after the other, gives each
full one to the request, and reads on while the application works on it; reading pauses while a part
waits to be received. Bytes that come slowly are given to the request before their buffer is full.

Three buffers are used in turn: the application works on one, the next waits and the one after that
is filled. All uploads of a server share a `BufferPool`, as new memory costs more than receiving
into it, and release their buffers when the request has been answered. An application that receives
by the extension `ZERO_COPY_BODY` of the ASGI scope gets the buffers themselves; uvicorn's own
``receive`` copies them.

Rules: this knows lengths and buffers, not their content, and nothing of uvicorn. It lives in the
event loop's thread.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol

ZERO_COPY_BODY = "vicinal.zero_copy_body"
"""The extension of the ASGI scope of a request with a long body: ``{"receive": callable}``, like
ASGI's own, but the ``body`` of an event may be a buffer. It is the caller's until the next call but
one, and must not be changed."""

FIRST_BYTES = 64 * 1024
PART_BYTES = 2000 * 1024
"""Bytes of the first buffer, and of those after it: a client that sends little holds little. Each
part wakes a thread twice, which is dear: half as much takes a tenth more of ingest's CPU."""

WAIT_S_MAX = 1.0  # ours: before a buffer is given to the request though it is not full

_BUFFERS = 3
_SPARE_MAX = 16  # ours: what four uploads use at a time, and one of them twice
_SPARE_S = 2.0  # ours: how long buffers are kept that no upload uses


class BufferPool:
    """Buffers of `PART_BYTES` that were used, kept a while for the next upload."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: list[bytearray] = []
        self._unused_count = 0  # the fewest there were since the timer ran last
        self._timer: asyncio.TimerHandle | None = None

    def acquire(self) -> bytearray:
        """Return a buffer, whose content is undefined."""
        if not self._spare:
            return bytearray(PART_BYTES)
        buffer = self._spare.pop()
        self._unused_count = min(self._unused_count, len(self._spare))
        return buffer

    def release(self, buffers: Iterable[bytearray]) -> None:
        """Keep buffers that nothing refers to any more; those of another length are not kept."""
        self._spare += [buffer for buffer in buffers if len(buffer) == PART_BYTES]
        del self._spare[_SPARE_MAX:]
        if self._spare and self._timer is None:
            self._unused_count = len(self._spare)
            self._timer = self._loop.call_later(_SPARE_S, self._evict)

    def _evict(self) -> None:
        del self._spare[: self._unused_count]
        self._timer = None
        self.release(())


class UploadConnection(Protocol):
    """The connection of an upload for its newest request; `asyncio.Protocol` has the other methods.

    `body_arrives` notes that bytes have come and `body_ends` takes back the transport. `put_body`
    gives bytes to the request, and returns whether it keeps `part` itself instead of a copy.
    """

    loop: asyncio.AbstractEventLoop

    def body_arrives(self) -> None: ...
    def put_body(self, part: bytearray | memoryview, *, is_last: bool) -> bool: ...
    def body_ends(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class Upload(asyncio.BufferedProtocol):
    """Receives the next `size` bytes of a connection, at least 1, as the body of its request."""

    def __init__(self, connection: UploadConnection, size: int, pool: BufferPool) -> None:
        self._connection = connection
        self._left = size
        self._pool = pool
        self._is_answered = False
        self._buffer = bytearray()  # none before something arrives
        self._buffer_bytes = FIRST_BYTES
        self._kept: deque[bytearray] = deque()  # full buffers that the request may be reading
        self._filled = 0
        self._timer = connection.loop.call_later(WAIT_S_MAX, self._flush)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory that the next bytes go to, which ends where the body ends."""
        if not self._buffer:
            size = min(self._buffer_bytes, self._left)
            self._buffer = self._pool.acquire() if size == PART_BYTES else bytearray(size)
        end = min(len(self._buffer), self._filled + self._left)
        return memoryview(self._buffer)[self._filled : end]

    def buffer_updated(self, nbytes: int) -> None:
        """Give the request a buffer that is full, or the last."""
        self._connection.body_arrives()
        self._filled += nbytes
        self._left -= nbytes
        if self._left == 0 or self._filled == len(self._buffer):
            self._put()
        if self._left == 0:
            self._timer.cancel()
            self._release()
            self._connection.body_ends()

    def answered(self) -> None:
        """Release all buffers when the body has ended: the request has been answered."""
        self._is_answered = True
        self._release()

    def eof_received(self) -> None:
        """Have the connection closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection, which wakes an application that waits for more."""
        self._timer.cancel()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def _release(self) -> None:
        if self._left == 0 and self._is_answered:
            self._pool.release((*self._kept, self._buffer))
            self._kept.clear()
            self._buffer = bytearray()

    def _flush(self) -> None:
        if self._filled:
            self._put()
        self._timer = self._connection.loop.call_later(WAIT_S_MAX, self._flush)

    def _put(self) -> None:
        filled, self._filled = self._filled, 0
        is_full = filled == len(self._buffer)
        part = self._buffer if is_full else memoryview(self._buffer)[:filled]
        if self._connection.put_body(part, is_last=self._left == 0):
            self._kept.append(self._buffer)
            # Nothing is read before this part is received, and that is when the first is free.
            spare = self._kept.popleft() if len(self._kept) == _BUFFERS else bytearray()
            self._buffer = spare if len(spare) == PART_BYTES else bytearray()
            self._buffer_bytes = PART_BYTES  # of those to come
