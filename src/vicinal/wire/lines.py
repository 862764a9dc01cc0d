"""Reading what usual clients send as NDJSON: many records in one call of ``lines.c``.

That call runs without the interpreter's lock. It passes over what it would not read, right or
wrong; `vectors` reads that, and everything where the library was not built.
"""

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vicinal import native
from vicinal.model import Floats
from vicinal.wire.members import Text

SOURCES = (Path(__file__).with_name("lines.c"), Path(__file__).with_name("numbers.h"))

EXPONENT_MIN, EXPONENT_MAX = -65, 40  # as in numbers.h

Span = tuple[int, int, int, int, int, int, int, int]
"""Where a record starts and ends in the text, and so its id, namespace and metadata; a member
that is not there is empty."""

_SPAN_LENGTH = 8


class _Lines(ctypes.Structure):
    """See lines.c."""

    _fields_ = (
        ("text", ctypes.c_void_p),
        ("powers", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("dimensions", ctypes.c_int64),
        ("capacity", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("records", ctypes.c_void_p),
        ("position", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("ends", ctypes.c_int64),
    )


def is_built() -> bool:
    """Tell whether the library is there."""
    return _library() is not None


def read(
    text: Text | memoryview, position: int, values: Floats, end: int | None = None
) -> tuple[list[Span], int, int]:
    """Read the records from `position` on, up to the first one that is not read here.

    Args:
        text: Lines of NDJSON.
        position: Where to begin; the start of a line, or before it.
        values: ``(n, d)``, C-contiguous: its first rows are written, one for each record; no more
            records than it has rows are read.
        end: Where the text to be read ends, if not with `text`; the end of a line.

    Returns:
        The records, which have ids and d finite values each; the position after the last, or
        after the space that follows it; and how many line ends were passed over.
    """
    library = _library()
    if library is None or not len(values):
        return [], position, 0
    read_text, table = np.frombuffer(text, np.uint8), powers()
    found = np.empty((len(values), _SPAN_LENGTH), np.int64)
    lines = _Lines(
        read_text.ctypes.data, table.ctypes.data, len(text) if end is None else end,
        values.shape[1], len(values), values.ctypes.data, found.ctypes.data, position,
    )  # fmt: skip
    library.vicinal_read_lines(ctypes.byref(lines))
    spans = [tuple(row) for row in found[: lines.count].tolist()]
    return spans, lines.position, lines.ends


@cache
def _library() -> ctypes.CDLL | None:
    path = native.find("lines", SOURCES)
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    library.vicinal_read_lines.restype = None
    return library


@cache
def powers() -> NDArray[np.uint64]:
    """Return the first 128 bits of each power of ten, ``(n, 2)``; a fraction is rounded up."""
    found = []
    for exponent in range(EXPONENT_MIN, EXPONENT_MAX + 1):
        if exponent >= 0:
            power = 10**exponent
            bits = power.bit_length()
            power = power << (128 - bits) if bits <= 128 else power >> (bits - 128)
        else:
            divisor = 10**-exponent
            power = (1 << (127 + divisor.bit_length())) // divisor + 1
        found.append((power >> 64, power & (2**64 - 1)))
    return np.array(found, np.uint64)
