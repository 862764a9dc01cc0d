"""Reading the body of a request: bounded, whole or part by part.

A body that is too large is refused as soon as that is known. The connection stays usable
only when the rest of the body is known to be short enough to read past; otherwise it is
closed, and so it is for a client that asked with ``Expect: 100-continue`` before sending.

Memory is set aside for a body before anything of it is read, so that whatever has begun can end.
A body for which there is none waits for a while, in the order of arrival, and is not received
meanwhile. One that does not say how long it will be is counted as it comes.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from vicinal.errors import BadBody, BadContentType, BodyTooLarge, Overloaded
from vicinal.server.concurrency import ClientDisconnected
from vicinal.server.http.asgi import Headers, Receive

_DIGITS_MAX = 100
_SKIPPED_TIMES_MAX = 2  # of the limit: a body up to this long is read past rather than cut off


SMALL_BYTES = 64 * 1024
"""Ours: a body up to this length does not wait behind longer ones, if there is room for it."""

WAIT_S_MAX = 10.0
"""Ours: how long a body waits for memory. Less than clients wait, and than what `connection` gives
to one whose first bytes have not been asked for."""

BYTES_PER_S_MIN = 500
"""Ours, and Apache's: how fast a body has to arrive in all, beside the seconds it may stop."""


class BodyBudget:
    """Counts the bytes of all bodies held, so that many large ones cannot fill the memory.

    Used from the event loop's thread alone. At most `bytes_max` are held, and what a single
    body has beyond: so one of any length is served, alone or not, and with it all end.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held = 0
        self._over: object = None  # whose bytes may be beyond the bound
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def reserve(self, size: int) -> None:
        """Count `size` bytes as soon as those that wait already have been counted.

        Raises:
            Overloaded: other bodies have held too much for `WAIT_S_MAX`. Nothing is counted.
        """
        if self._has_room(size) and (not self._waiting or size <= SMALL_BYTES):
            self._held += size
            return
        place = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await place[1]
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
            if place[1].cancelled():
                self._admit()
            else:  # it was counted, but nobody is there any more
                self.give_back(size)
            if isinstance(error, TimeoutError):
                raise self._overloaded() from None
            raise

    def take(self, size: int, owner: object) -> None:
        """Count `size` more bytes for a body that did not say how long it will be.

        Raises:
            Overloaded: other bodies hold too much. Nothing is counted.
        """
        if not self._has_room(size) and self._over is not owner:
            if self._over is not None:
                raise self._overloaded()
            self._over = owner
        self._held += size

    def give_back(self, size: int, owner: object = None) -> None:
        """Count `size` bytes fewer; all of those that `owner` took, if it is given."""
        self._held -= size
        if owner is not None and self._over is owner:
            self._over = None
        self._admit()

    def _has_room(self, size: int) -> bool:
        return self._held == 0 or self._held + size <= self._bytes_max

    def _admit(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][0]):
            size, admitted = self._waiting.popleft()
            if not admitted.done():
                self._held += size
                admitted.set_result(None)

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"{self._held} bytes of other requests are being read, "
            f"of the {self._bytes_max} there may be",
            retry_after=1.0,
        )


class Body:
    """The body of one request, while it arrives. Used from the event loop's thread alone.

    Attributes:
        count: How many bytes have arrived. They count until `release`, or as `hold` says.
        is_complete: Whether it has ended.

    Raises:
        BodyTooLarge: it says that it will be longer than `bytes_max`.
        BadContentType: it is compressed.
    """

    def __init__(
        self, receive: Receive, headers: Headers, bytes_max: int, meter: BodyBudget, idle_s: float
    ) -> None:
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            raise BadContentType(
                f"content encoding {encoding.decode('latin-1')!r} is not understood"
            )
        self.announced = _announced(headers)
        """Bytes there will be, as its sender says; 0 where nothing is said."""
        if self.announced > bytes_max:
            raise BodyTooLarge(f"the body has {self.announced} bytes, the limit is {bytes_max}")
        self.count = 0
        self.is_complete = False
        self._held = 0
        self._counts_what_comes = self.announced == 0
        self._start_s: float | None = None  # not before there is memory for it
        self._receive = receive
        self._bytes_max = bytes_max
        self._meter = meter
        self._idle_s = idle_s

    async def take(self, size: int | None = None) -> bytes | bytearray:
        """Return what arrives next: all of it, or once there are `size` bytes, these or more.

        Empty only when the body has ended. What is returned is the caller's until the call after
        the next, and must not be changed.

        Raises:
            BodyTooLarge: it is longer than `bytes_max`.
            BadBody: it stopped arriving, or does so too slowly.
            Overloaded: too many bytes are held for other requests, and were for a while.
            ClientDisconnected: the client went before the end; there is nobody to answer.
        """
        if self.is_complete:
            return b""
        if self._start_s is None:
            if self.announced:
                await self._meter.reserve(self.announced)
                self._held = self.announced
            self._start_s = asyncio.get_running_loop().time()
        part: bytes | bytearray = b""
        is_own = False
        if self.count == 0:  # how long that may take is bounded already (`connection`)
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
                f"the body stopped after {self.count} bytes for {self._idle_s:g} seconds, or "
                f"came at less than {BYTES_PER_S_MIN} bytes a second"
            ) from None
        return part

    def hold(self, size: int) -> None:
        """Count `size` bytes instead of what has arrived or will: so many are held at a time.

        Never more than the body was said to have. Can be called again with another size.

        Raises:
            Overloaded: too many bytes are held for other requests.
        """
        self._counts_what_comes = False
        size = min(size, self.announced or self._bytes_max)
        if size > self._held:
            self._meter.take(size - self._held, self)
        else:
            self._meter.give_back(self._held - size)
        self._held = size

    def release(self) -> None:
        """Count what has arrived no more."""
        self._meter.give_back(self._held, self)
        self._held = 0

    def _patience_end_s(self, start_s: float) -> float:
        now_s = asyncio.get_running_loop().time()
        return self._idle_s + min(now_s, start_s + self.count / BYTES_PER_S_MIN)

    def _next(self, event: Mapping[str, Any]) -> bytes:
        if event["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk: bytes = event.get("body", b"")
        if self.count + len(chunk) > self._bytes_max:
            raise BodyTooLarge(
                f"the body has more than {self._bytes_max} bytes, which is the limit"
            )
        if self._counts_what_comes:
            self._meter.take(len(chunk), self)
            self._held += len(chunk)
        self.count += len(chunk)
        self.is_complete = not event.get("more_body", False)
        return chunk


def must_close(headers: Headers, bytes_max: int) -> bool:
    """Tell whether a connection cannot be used again after refusing to read its body."""
    if b"expect" in headers or b"transfer-encoding" in headers:
        return True
    return _announced(headers) > _SKIPPED_TIMES_MAX * bytes_max


def _announced(headers: Headers) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length[:_DIGITS_MAX]) if length.isdigit() else 0  # as long, it is too long
