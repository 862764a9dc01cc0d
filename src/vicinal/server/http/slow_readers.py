"""Clients that do not read their responses: bounds on the time and the bytes of what waits.

Rules: this knows a connection's transport alone, and lives in the event loop's thread.
"""

import asyncio
import logging
import socket
import struct
from contextlib import suppress

WRITE_S_MAX = 30.0
"""Ours: seconds in which the number of bytes that wait to be sent must become smaller."""

WRITE_BYTES_PER_S_MIN = 64 * 1024
"""Ours: how fast a client has to read a response, in addition to `WRITE_S_MAX`."""

UNSENT_BYTES_MAX = 512 << 20
"""Ours: bytes that may wait to be sent on all connections together. Beyond it those that have
waited longest are reset; one connection may always hold the whole of its own response."""

_log = logging.getLogger("uvicorn.error")


class WriteWatch:
    """Resets a connection whose client does not read.

    `watches` are those of all open connections of a server, and of this one until `close`.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        watches: set["WriteWatch"],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._watches = watches
        self._timer: asyncio.TimerHandle | None = None
        self._begin_s = self._end_s = 0.0
        watches.add(self)

    def start(self) -> None:
        """Bound the time of the bytes that wait now, if there are any and no time runs yet."""
        size = self._transport.get_write_buffer_size()
        if size and self._timer is None:
            self._begin_s = self._loop.time()
            self._bound_unsent()
            self._end_s = self._loop.time() + WRITE_S_MAX + size / WRITE_BYTES_PER_S_MIN
            self._timer = self._loop.call_later(WRITE_S_MAX, self._check, size)

    def stop(self) -> None:
        """Stop the time: the client has read. Bytes that are written next have their own."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop for good: the connection is closed."""
        self.stop()
        self._watches.discard(self)

    def _check(self, size_before: int) -> None:
        self._timer = None
        size = self._transport.get_write_buffer_size()
        left_s = self._end_s - self._loop.time()
        if size >= size_before or (size and left_s <= 0):
            self._reset()
        elif size:
            self._timer = self._loop.call_later(min(WRITE_S_MAX, left_s), self._check, size)

    def _bound_unsent(self) -> None:
        sizes = {watch: watch._transport.get_write_buffer_size() for watch in self._watches}  # noqa: SLF001 its own kind
        unsent = sum(sizes.values())
        for watch in sorted(sizes, key=lambda watch: watch._begin_s):  # noqa: SLF001 its own kind
            if unsent <= UNSENT_BYTES_MAX or watch is self:
                return
            if sizes[watch]:
                unsent -= sizes[watch]
                _log.warning("Reset a connection with %d bytes that nobody reads", sizes[watch])
                watch._reset()  # noqa: SLF001 its own kind

    def _reset(self) -> None:
        # Without this the kernel would keep what it has taken, for as long as it likes.
        connection = self._transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
