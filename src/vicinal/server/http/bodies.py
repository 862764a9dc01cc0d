"""Request bodies: received whole or part by part, bounded in bytes, time and memory.

A body that is too large is refused as soon as that is known. The connection stays usable only when
the rest of the body is known to be short enough to read past; otherwise it is closed, and so it is
for a client that asked with ``Expect: 100-continue`` before sending.

Memory is set aside for a body before anything of it is read, so that every body that has begun can
end. A body for which there is no memory waits for a while, in the order of arrival, and is not
received meanwhile. A body of unknown length is counted as it comes.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from vicinal.budget import Budget
from vicinal.errors import BadBody, BadContentType, BodyTooLarge, Overloaded
from vicinal.server.concurrency import ClientDisconnected
from vicinal.server.http.asgi import Headers, Receive

_DIGITS_MAX = 100
_SKIPPED_TIMES_MAX = 2  # of the limit: a body up to this long is read past rather than cut off


SMALL_BYTES = 64 * 1024
"""Ours: a body up to this length does not wait behind longer ones, if there is memory for it."""

WAIT_S_MAX = 10.0
"""Ours: seconds that a body waits for memory. Less than clients wait, and than `connection` gives
a body whose first bytes have not been received."""

BYTES_PER_S_MIN = 500
"""Ours, and Apache's: how fast a body has to arrive in all, in addition to the seconds it may
pause."""


class BodyBudget:
    """Bytes of all bodies in memory, bounded. Used from the event loop's thread alone.

    A single body may go beyond the bound at a time: so one of any length is served, alone or not,
    and all that have begun can end.

    Attributes:
        counted: The bytes in use.
    """

    def __init__(self, bytes_max: int) -> None:
        self.counted = Budget(bytes_max)
        self._beyond_owner: object = None  # whose bytes may be beyond the bound
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> None:
        """Count `size` bytes as soon as all that wait already have been counted.

        Raises:
            Overloaded: other bodies have used too much for `WAIT_S_MAX`. Nothing is counted.
        """
        if (not self._waiting or size <= SMALL_BYTES) and self.counted.acquire(size):
            return
        admitted = asyncio.get_running_loop().create_future()
        waiter = (size, admitted)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await admitted
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if admitted.cancelled():
                self._admit()
            else:  # counted, but the caller is gone
                self.release(size)
            if isinstance(error, TimeoutError):
                raise self._overloaded() from None
            raise

    def acquire_more(self, size: int, owner: object) -> None:
        """Count `size` more bytes for a body that did not say how long it will be.

        Raises:
            Overloaded: other bodies use too much. Nothing is counted.
        """
        if self.counted.acquire(size):
            return
        if self._beyond_owner not in (None, owner):
            raise self._overloaded()
        self._beyond_owner = owner
        self.counted.acquire(size, is_bounded=False)

    def release(self, size: int, owner: object = None) -> None:
        """Count `size` bytes fewer; the last ones of `owner`, if it is given."""
        self.counted.release(size)
        if owner is not None and self._beyond_owner is owner:
            self._beyond_owner = None
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.counted.acquire(self._waiting[0][0]):
            size, admitted = self._waiting.popleft()
            if admitted.done():
                self.counted.release(size)
            else:
                admitted.set_result(None)

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"{self.counted.used} bytes of other requests are being read, "
            f"of the {self.counted.bound} there may be",
            retry_after=1.0,
            queue="bodies",
        )


class Body:
    """The body of one request, while it arrives. Used from the event loop's thread alone.

    Attributes:
        announced_bytes: Length of the body by its head; 0 where the head says none.
        received_bytes: Bytes that have arrived, counted until `release`, or as `hold` says.
        is_complete: Whether the body has ended.

    Raises:
        BodyTooLarge: the body will be longer than `bytes_max`, by its head.
        BadContentType: the body is compressed.
    """

    def __init__(
        self, receive: Receive, headers: Headers, bytes_max: int, budget: BodyBudget, idle_s: float
    ) -> None:
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            raise BadContentType(
                f"content encoding {encoding.decode('latin-1')!r} is not understood"
            )
        self.announced_bytes = _announced_bytes(headers)
        if self.announced_bytes > bytes_max:
            raise BodyTooLarge(
                f"the body has {self.announced_bytes} bytes, the limit is {bytes_max}"
            )
        self.received_bytes = 0
        self.is_complete = False
        self._counted_bytes = 0
        self._counts_received = self.announced_bytes == 0
        self._start_s: float | None = None  # not before there is memory for it
        self._receive = receive
        self._bytes_max = bytes_max
        self._budget = budget
        self._idle_s = idle_s

    async def receive(self, size: int | None = None) -> bytes | bytearray:
        """Return the next `size` bytes or more, all that are left for None.

        Empty only when the body has ended. The result is the caller's until the call after the
        next, and must not be changed.

        Raises:
            BodyTooLarge: the body is longer than `bytes_max`.
            BadBody: the body stopped arriving, or arrives too slowly.
            Overloaded: the bodies of other requests use too much memory, and did for a while.
            ClientDisconnected: the client went before the end; there is nobody to answer.
        """
        if self.is_complete:
            return b""
        if self._start_s is None:
            if self.announced_bytes:
                await self._budget.acquire(self.announced_bytes)
                self._counted_bytes = self.announced_bytes
            self._start_s = asyncio.get_running_loop().time()
        part: bytes | bytearray = b""
        is_own = False
        if self.received_bytes == 0:  # `connection` bounds how long that may take
            part = self._next(await self._receive())
            if self.is_complete or (size is not None and len(part) >= size):
                return part
        try:
            async with asyncio.timeout_at(self._patience_end_s(self._start_s)) as idle:
                while not self.is_complete and (size is None or len(part) < size):
                    chunk = self._next(await self._receive())
                    idle.reschedule(self._patience_end_s(self._start_s))
                    if not part:
                        part = chunk
                        continue
                    if not is_own:
                        part, is_own = bytearray(part), True
                    part += chunk  # where it is: a copy in the end would take as much again
        except TimeoutError:
            raise BadBody(
                f"the body stopped after {self.received_bytes} bytes for {self._idle_s:g} seconds, "
                f"or came at less than {BYTES_PER_S_MIN} bytes a second"
            ) from None
        return part

    def hold(self, size: int) -> None:
        """Count `size` bytes from now on: the most that are in memory at a time.

        Never more than the announced length. Can be called again with another size.

        Raises:
            Overloaded: the bodies of other requests use too much memory.
        """
        self._counts_received = False
        size = min(size, self.announced_bytes or self._bytes_max)
        if size > self._counted_bytes:
            self._budget.acquire_more(size - self._counted_bytes, self)
        else:
            self._budget.release(self._counted_bytes - size)
        self._counted_bytes = size

    def release(self) -> None:
        """Count nothing of this body any more."""
        self._budget.release(self._counted_bytes, self)
        self._counted_bytes = 0

    def _patience_end_s(self, start_s: float) -> float:
        now_s = asyncio.get_running_loop().time()
        return self._idle_s + min(now_s, start_s + self.received_bytes / BYTES_PER_S_MIN)

    def _next(self, event: Mapping[str, Any]) -> bytes:
        if event["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk: bytes = event.get("body", b"")
        if self.received_bytes + len(chunk) > self._bytes_max:
            raise BodyTooLarge(
                f"the body has more than {self._bytes_max} bytes, which is the limit"
            )
        if self._counts_received:
            self._budget.acquire_more(len(chunk), self)
            self._counted_bytes += len(chunk)
        self.received_bytes += len(chunk)
        self.is_complete = not event.get("more_body", False)
        return chunk


def must_close(headers: Headers, bytes_max: int) -> bool:
    """Tell whether a connection cannot be used again after refusing to read its body."""
    if b"expect" in headers or b"transfer-encoding" in headers:
        return True
    return _announced_bytes(headers) > _SKIPPED_TIMES_MAX * bytes_max


def _announced_bytes(headers: Headers) -> int:
    length = headers.get(b"content-length", b"0")
    # A longer number is over all limits by its first digits.
    return int(length[:_DIGITS_MAX]) if length.isdigit() else 0
