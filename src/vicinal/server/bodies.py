"""Reading the body of a request: whole, bounded, or not at all.

A body that is too large is refused as soon as that is known. The connection stays usable
only when the rest of the body is known to be short enough to read past; otherwise it is
closed, and so it is for a client that asked with ``Expect: 100-continue`` before sending.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from vicinal.errors import BadBody, BadContentType, BodyTooLarge, Overloaded
from vicinal.server.calls import Headers, Receive
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


async def read(
    receive: Receive, headers: Headers, bytes_max: int, meter: Meter, idle_s: float
) -> bytes | bytearray:
    """Read a whole body. What was taken from `meter` is the length of what is returned.

    Raises:
        BodyTooLarge: it is, or says it will be, longer than `bytes_max`.
        BadContentType: it is compressed.
        BadBody: it stopped arriving.
        Overloaded: too many bytes are held for other requests.
        CallerGone: the client went before the end; there is nobody to answer.
    """
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise BadContentType(f"content encoding {encoding.decode('latin-1')!r} is not understood")
    announced = _announced(headers)
    if announced > bytes_max:
        raise BodyTooLarge(f"the body has {announced} bytes, the limit is {bytes_max}")
    body: bytes | bytearray = b""
    try:
        event = await receive()
        body = _with(body, event, bytes_max, meter)
        if not event.get("more_body", False):
            return body
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(idle_s) as idle:
            while event.get("more_body", False):
                event = await receive()
                body = _with(body, event, bytes_max, meter)
                idle.reschedule(clock() + idle_s)
        return body
    except TimeoutError:
        meter.give_back(len(body))
        raise BadBody(f"the body stopped after {len(body)} bytes for {idle_s:g} seconds") from None
    except BaseException:
        meter.give_back(len(body))
        raise


def _with(
    body: bytes | bytearray, event: Mapping[str, Any], bytes_max: int, meter: Meter
) -> bytes | bytearray:
    """Append what has arrived to a body, which grows where it is: a copy in the end would take
    as much again."""
    if event["type"] == "http.disconnect":
        raise CallerGone
    chunk: bytes = event.get("body", b"")
    if len(body) + len(chunk) > bytes_max:
        raise BodyTooLarge(f"the body has more than {bytes_max} bytes, which is the limit")
    meter.take(len(chunk), len(body))
    if not body:
        return chunk
    if isinstance(body, bytes):
        body = bytearray(body)
    body += chunk
    return body


def must_close(headers: Headers, bytes_max: int) -> bool:
    """Tell whether a connection cannot be used again after refusing to read its body."""
    if b"expect" in headers or b"transfer-encoding" in headers:
        return True
    return _announced(headers) > _SKIPPED_TIMES_MAX * bytes_max


def _announced(headers: Headers) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0
