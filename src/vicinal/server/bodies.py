"""Reading the body of a request: bounded, whole or part by part.

A body that is too large is refused as soon as that is known. The connection stays usable
only when the rest of the body is known to be short enough to read past; otherwise it is
closed, and so it is for a client that asked with ``Expect: 100-continue`` before sending.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from vicinal.errors import BadBody, BadContentType, BodyTooLarge, Overloaded
from vicinal.server.asgi import Headers, Receive
from vicinal.server.work import CallerGone

_SKIPPED_TIMES_MAX = 2  # of the limit: a body up to this long is read past rather than cut off


class Meter:
    """Counts the bytes of all bodies held, so that many large ones cannot fill the memory."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held = 0

    def take(self, size: int, own: int) -> None:
        """Count `size` more bytes for a body that holds `own` bytes already.

        Raises:
            Overloaded: other bodies hold too much. Nothing is counted.
        """
        others = self._held - own
        if others and self._held + size > self._bytes_max:
            raise Overloaded(
                f"{self._held} bytes of other requests are being read, "
                f"of the {self._bytes_max} there may be",
                retry_after=1.0,
            )
        self._held += size

    def give_back(self, size: int) -> None:
        """Count `size` bytes fewer."""
        self._held -= size


class Body:
    """The body of one request, while it arrives. Used from the event loop's thread alone.

    Attributes:
        count: How many bytes have arrived. They count for `meter` until `release`.
        is_complete: Whether it has ended.

    Raises:
        BodyTooLarge: it says that it will be longer than `bytes_max`.
        BadContentType: it is compressed.
    """

    def __init__(
        self, receive: Receive, headers: Headers, bytes_max: int, meter: Meter, idle_s: float
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
            BadBody: it stopped arriving.
            Overloaded: too many bytes are held for other requests.
            CallerGone: the client went before the end; there is nobody to answer.
        """
        if self.is_complete:
            return b""
        part: bytes | bytearray = b""
        is_own = False
        if self.count == 0:  # how long that may take is bounded already (`protocol`)
            part = self._next(await self._receive())
            if self.is_complete or (size is not None and len(part) >= size):
                return part
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._idle_s) as idle:
                while not self.is_complete and (size is None or len(part) < size):
                    chunk = self._next(await self._receive())
                    idle.reschedule(clock() + self._idle_s)
                    if not part:
                        part = chunk
                        continue
                    if not is_own:
                        part, is_own = bytearray(part), True
                    part += chunk  # where it is: a copy in the end would take as much again
        except TimeoutError:
            raise BadBody(
                f"the body stopped after {self.count} bytes for {self._idle_s:g} seconds"
            ) from None
        return part

    def release(self) -> None:
        """Count what has arrived no more."""
        self._meter.give_back(self._held)
        self._held = 0

    def _next(self, event: Mapping[str, Any]) -> bytes:
        if event["type"] == "http.disconnect":
            raise CallerGone
        chunk: bytes = event.get("body", b"")
        if self.count + len(chunk) > self._bytes_max:
            raise BodyTooLarge(
                f"the body has more than {self._bytes_max} bytes, which is the limit"
            )
        self._meter.take(len(chunk), self._held)
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
    return int(length) if length.isdigit() else 0
