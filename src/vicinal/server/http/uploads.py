"""The rest of a long body, received into the memory that it is read from.

Through uvicorn's parser each byte of a body is copied five times, and reading is stopped and begun
again every 64 KiB. But of a body whose length is known there is nothing to parse: `connection`
hands the connection to an `Upload` until the body has ended. It fills one part after the other,
gives each to uvicorn's request as the parser would, and reads on while the application works on
it: a part that nobody has taken is the last one read. What came slowly is given away unfilled.

Parts are in three buffers by turns, as one may be worked on, the next be waiting and the one after
that be filled. All uploads of a server take these from its `BufferPool`, as new memory costs more
than what is received into it, and give them back once the request is answered. An application that
asks `ZeroCopyBody`, which the scope of such a request has among its extensions, gets these buffers
themselves; uvicorn would copy each once more.

Rules: this knows lengths and parts, not what is in them. It lives in the event loop's thread.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

BUFFER_POOL = "vicinal.buffer_pool"  # of a server's state: its `BufferPool`
ZERO_COPY_BODY = (
    "vicinal.zero_copy_body"  # an extension of the ASGI scope: a `ZeroCopyBody.receive`
)

FIRST_BYTES = 64 * 1024
PART_BYTES = 2000 * 1024
"""How much is given away at first, and then: whoever sends little holds little. Each part wakes a
thread twice, which is dear: half as much takes a tenth more of ingest's CPU."""

_BUFFERS = 3
_SPARE_MAX = 16  # ours: what four uploads use at a time, and one of them twice
_SPARE_S = 2.0  # ours: how long buffers are kept that nobody uses

WAIT_S_MAX = 1.0  # ours: before what there is of a part is given away


class BufferPool:
    """BufferPool of `PART_BYTES` that were used, kept a while for who needs one next."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: list[bytearray] = []
        self._unused_count = 0  # the fewest there were since the timer ran last
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> bytearray:
        """Return a buffer with anything in it."""
        if not self._spare:
            return bytearray(PART_BYTES)
        taken = self._spare.pop()
        self._unused_count = min(self._unused_count, len(self._spare))
        return taken

    def give_back(self, buffers: Iterable[bytearray]) -> None:
        """Take back buffers that nobody uses; those of another length are let go."""
        self._spare += [each for each in buffers if len(each) == PART_BYTES]
        del self._spare[_SPARE_MAX:]
        if self._spare and self._timer is None:
            self._unused_count = len(self._spare)
            self._timer = self._loop.call_later(_SPARE_S, self._let_go)

    def _let_go(self) -> None:
        del self._spare[: self._unused_count]
        self._timer = None
        self.give_back(())


class ZeroCopyBody:
    """What an application receives of a long body, lent instead of copied.

    Attributes:
        cycle: uvicorn's side of the request, once there is one.
    """

    cycle: RequestResponseCycle

    async def receive(self) -> dict[str, Any]:
        """Return the next event, as ASGI has it, but that its ``body`` may be a buffer.

        That is the caller's until the next call but one, and must not be changed.
        """
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


class Upload(asyncio.BufferedProtocol):
    """Receives so many bytes for the newest request of a connection, then calls `done`.

    Bytes of a request that is answered already are dropped.

    Args:
        http: The connection's protocol otherwise.
        size: How many bytes, at least 1.
        arrives: Called whenever some have arrived.
        done: Called when all have; sets the transport's next protocol.
        buffers: Where parts come from.
    """

    def __init__(
        self,
        http: HttpToolsProtocol,
        size: int,
        arrives: Callable[[], None],
        done: Callable[[], None],
        buffers: BufferPool,
    ) -> None:
        self._http = http
        self._cycle = http.cycle
        self._left = size
        self._arrives = arrives
        self._done = done
        self._buffers = buffers
        self._is_answered = False
        self._part = bytearray()  # none before something arrives
        self._part_bytes = FIRST_BYTES
        self._given: deque[bytearray] = deque()  # the parts before, that may be in use
        self._filled = 0
        self._timer = http.loop.call_later(WAIT_S_MAX, self._give_what_there_is)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go: nowhere beyond the body."""
        if not self._part:
            self._part = self._new()
        end = min(len(self._part), self._filled + self._left)
        return memoryview(self._part)[self._filled : end]

    def buffer_updated(self, nbytes: int) -> None:
        """Give a part away that is full, or the last."""
        self._arrives()
        self._filled += nbytes
        self._left -= nbytes
        if self._left == 0 or self._filled == len(self._part):
            self._give()
        if self._left == 0:
            self._timer.cancel()
            self._release()
            self._done()

    def answered(self) -> None:
        """Use parts again that were given away: the request is answered."""
        self._is_answered = True
        self._release()

    def eof_received(self) -> None:
        """Have the connection closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for more."""
        self._timer.cancel()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._http.resume_writing()

    def _new(self) -> bytearray:
        size = min(self._part_bytes, self._left)
        return self._buffers.take() if size == PART_BYTES else bytearray(size)

    def _release(self) -> None:
        if self._left == 0 and self._is_answered:
            self._buffers.give_back((*self._given, self._part))
            self._given.clear()
            self._part = bytearray()

    def _give_what_there_is(self) -> None:
        if self._filled:
            self._give()
        self._timer = self._http.loop.call_later(WAIT_S_MAX, self._give_what_there_is)

    def _give(self) -> None:
        cycle, filled = self._cycle, self._filled
        self._filled = 0
        if cycle.response_complete:
            return
        if cycle.body:  # from before the upload
            cycle.body += memoryview(self._part)[:filled]
        elif filled < len(self._part):
            cycle.body = self._part[:filled]
        else:
            cycle.body = self._part
            self._given.append(self._part)
            # Nothing is read before this part is asked for, and that is when the first is free.
            spare = self._given.popleft() if len(self._given) == _BUFFERS else bytearray()
            self._part = spare if len(spare) == PART_BYTES else bytearray()
            self._part_bytes = PART_BYTES  # of those to come
        cycle.more_body = self._left > 0
        if cycle.more_body:
            self._http.flow.pause_reading()
        cycle.message_event.set()
