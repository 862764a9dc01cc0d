"""Ids of requests: a header of every answer, and a member of the lines that the log has of it.

An id is made here for every request, and never taken from one: a caller's own header of this name
is not looked at, so that nobody can have two requests logged as one. It has 64 random bits, so
servers need not agree; the platform's ids have the same length and header.
"""

import os
from binascii import hexlify

HEADER = b"cf-ray"
"""The platform's, which clients and people know to quote."""

_BATCH = 256  # made at one time: a request takes one that is ready
_DIGITS = 16

RequestId = tuple[tuple[bytes, bytes], ...]
"""The headers that tell an id: one, or none where ids are switched off."""

NO_ID: RequestId = ()

_ready: list[RequestId] = []


def new() -> RequestId:
    """Return a new id. Thread-safe."""
    try:
        return _ready.pop()
    except IndexError:
        digits = hexlify(os.urandom(_BATCH * _DIGITS // 2))
        batch = [((HEADER, digits[at : at + _DIGITS]),) for at in range(0, len(digits), _DIGITS)]
        request_id = batch.pop()
        _ready.extend(batch)
        return request_id


def text(request_id: RequestId) -> str:
    """Return an id as a text, ``""`` where there is none."""
    return request_id[0][1].decode() if request_id else ""


def lines(request_id: RequestId) -> bytes:
    """Return the lines of a head that is written by hand."""
    return b"".join([b"%b: %b\r\n" % header for header in request_id])
