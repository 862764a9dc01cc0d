"""Reading of NDJSON in the form of usual clients, many records in one call of ``native/lines.c``.

That call runs without the interpreter's lock. It stops before the first record in another form,
right or wrong; `vectors` reads that record, and all records where no library was built.
"""

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Floats
from vicinal.native.library import library
from vicinal.native.structures import EXPONENT_MAX, EXPONENT_MIN, LineReader, LineRecord
from vicinal.wire.members import Text

Span = tuple[int, int, int, int, int, int, int, int]
"""Start and end in the text of a record, its id, its namespace and its metadata; those of a missing
member are equal."""

_SPAN_LENGTH = ctypes.sizeof(LineRecord) // 8


def is_built() -> bool:
    """Tell whether there is a library that reads lines."""
    return library() is not None


def read_records(
    text: Text | memoryview, position: int, values: Floats, end: int | None = None
) -> tuple[list[Span], int, int]:
    """Read the records from `position` on, up to the first in another form.

    Args:
        text: Lines of NDJSON.
        position: Start of a line, or of space before it.
        values: ``(n, d)``, C-contiguous, for the values of at most n records; the first rows are
            written.
        end: End of the last line to be read; None for the end of `text`.

    Returns:
        The records, all with an id and d finite values; the position after the last record or
        after the space behind it; and the number of line ends before that position.
    """
    built = library()
    if built is None or not len(values):
        return [], position, 0
    read_text, powers_of_ten = np.frombuffer(text, np.uint8), powers()
    records = np.empty((len(values), _SPAN_LENGTH), np.int64)
    reader = LineReader(
        text=read_text.ctypes.data,
        powers=powers_of_ten.ctypes.data,
        size=len(text) if end is None else end,
        dimensions=values.shape[1],
        records_max=len(values),
        values=values.ctypes.data,
        records=records.ctypes.data,
        position=position,
    )
    built.read_lines(reader)
    spans = [tuple(record) for record in records[: reader.record_count].tolist()]
    return spans, reader.position, reader.line_end_count


@cache
def powers() -> NDArray[np.uint64]:
    """Return the first 128 bits of powers of ten, ``(n, 2)``; a fraction is rounded up."""
    powers_of_ten = []
    for exponent in range(EXPONENT_MIN, EXPONENT_MAX + 1):
        if exponent >= 0:
            power = 10**exponent
            bits = power.bit_length()
            power = power << (128 - bits) if bits <= 128 else power >> (bits - 128)
        else:
            divisor = 10**-exponent
            power = (1 << (127 + divisor.bit_length())) // divisor + 1
        powers_of_ten.append((power >> 64, power & (2**64 - 1)))
    return np.array(powers_of_ten, np.uint64)
