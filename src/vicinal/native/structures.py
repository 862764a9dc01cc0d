"""The structures and constants of ``structures.h``, with the same names, for ctypes.

Structures are filled by keywords. They hold pointers: the arrays pointed to must outlive them.
"""

import ctypes
from collections.abc import Iterator
from ctypes import c_double, c_float, c_int64, c_uint8, c_uint64, c_void_p

COSINE, EUCLIDEAN, DOT_PRODUCT = 0, 1, 2
UNSETTLED, NO_MEMORY = -1, -2
LINE_BYTES = 64
"""The length of a code that the library reads is a multiple of this."""

CODE_BYTES_MAX = 256
"""Longer codes are not searched by the library."""

EXPONENT_MIN, EXPONENT_MAX = -65, 40
"""Of ten: numbers that need other powers are not read by the library."""

_CONSTANTS = (
    "COSINE", "EUCLIDEAN", "DOT_PRODUCT", "UNSETTLED", "NO_MEMORY", "LINE_BYTES",
    "CODE_BYTES_MAX", "EXPONENT_MIN", "EXPONENT_MAX",
)  # fmt: skip


class Projection(ctypes.Structure):
    """How rows and queries get their codes."""

    _fields_ = (
        ("flips", c_void_p),
        ("offset", c_void_p),
        ("rounds", c_int64),
        ("blocks", c_int64),
        ("length", c_int64),
        ("code_bytes", c_int64),
        ("dimensions", c_int64),
        ("metric", c_int64),
        ("scale", c_double),
    )


class CodedRows(ctypes.Structure):
    """The rows of a segment or memtable, and their codes."""

    _fields_ = (
        ("projection", Projection),
        ("codes", c_void_p),
        ("sample", c_void_p),
        ("values", c_void_p),
        ("norms", c_void_p),
        ("row_count", c_int64),
        ("sample_count", c_int64),
        ("sample_step", c_int64),
        ("relative_error", c_float),
        ("absolute_error", c_float),
    )


class CodeSearch(ctypes.Structure):
    """One query of some coded rows."""

    _fields_ = (
        ("query", c_void_p),
        ("allowed", c_void_p),
        ("listed", c_void_p),
        ("listed_count", c_int64),
        ("eligible_count", c_int64),
        ("k", c_int64),
        ("margin", c_int64),
        ("rescored_expected", c_int64),
        ("rescored_min", c_int64),
        ("rescored_max", c_int64),
        ("candidates", c_void_p),
        ("candidates_max", c_int64),
        ("rescored_count", c_int64),
        ("query_norm", c_float),
        ("query_code", c_uint8 * CODE_BYTES_MAX),
    )


class PoolTask(ctypes.Structure):
    """A search that any thread may run."""

    _fields_ = (
        ("rows", c_void_p),
        ("search", c_void_p),
        ("number", c_int64),
        ("status", c_int64),
        ("seconds", c_double),
        ("cpu_seconds", c_double),
        ("next", c_void_p),
    )


class Power(ctypes.Structure):
    """The first 128 bits of a power of ten, the highest of which is set."""

    _fields_ = (("high", c_uint64), ("low", c_uint64))


class LineRecord(ctypes.Structure):
    """Where a record and its members are in a text, in bytes."""

    _fields_ = (
        ("start", c_int64),
        ("end", c_int64),
        ("id", c_int64),
        ("id_end", c_int64),
        ("namespace", c_int64),
        ("namespace_end", c_int64),
        ("metadata", c_int64),
        ("metadata_end", c_int64),
    )


class LineReader(ctypes.Structure):
    """A text that is read, and how far."""

    _fields_ = (
        ("text", c_void_p),
        ("powers", c_void_p),
        ("size", c_int64),
        ("dimensions", c_int64),
        ("records_max", c_int64),
        ("values", c_void_p),
        ("records", c_void_p),
        ("position", c_int64),
        ("record_count", c_int64),
        ("line_end_count", c_int64),
    )


STRUCTURES: tuple[type[ctypes.Structure], ...] = (
    Projection, CodedRows, CodeSearch, PoolTask, Power, LineRecord, LineReader,
)  # fmt: skip


class _Entry(ctypes.Structure):
    """An entry of ``layout.c``."""

    _fields_ = (("name", ctypes.c_char_p), ("offset", c_int64), ("size", c_int64))


Layout = list[tuple[str, int, int]]
"""Name, offset and size of each structure and field; name, value and 0 of each constant."""


def layout() -> Layout:
    """Return the layout that Python has."""
    return [*((name, globals()[name], 0) for name in _CONSTANTS), *_layout_of_structures()]


def _layout_of_structures() -> Iterator[tuple[str, int, int]]:
    for structure in STRUCTURES:
        yield structure.__name__, 0, ctypes.sizeof(structure)
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            yield f"{structure.__name__}.{name}", field.offset, field.size


def layout_of(library: ctypes.CDLL) -> Layout:
    """Return the layout that a library was compiled with."""
    entry = ctypes.pointer(_Entry.in_dll(library, "vicinal_layout"))
    entries: Layout = []
    while (field := entry[len(entries)]).name is not None:
        entries.append((field.name.decode(), field.offset, field.size))
    return entries
