"""The structures and constants of ``structures.h``, with the same names, for ctypes.

Structures are filled by keywords. They hold pointers: the arrays pointed to must outlive them.
``hatch_build.py`` runs this file where nothing but the standard library is installed.
"""

import ctypes
from ctypes import c_double, c_float, c_int64, c_uint8, c_uint64, c_void_p
from typing import Any

COSINE, EUCLIDEAN, DOT_PRODUCT = 0, 1, 2
UNSETTLED, NO_MEMORY, UNVERIFIED = -1, -2, -3
LINE_BYTES = 64
"""The length of a code that the library reads is a multiple of this."""

CODE_BYTES_MAX = 256
"""Longer codes are not searched by the library."""

NEIGHBOURS_MAX = 64
"""A row of a graph has at most as many neighbours."""

ENTRY_WORDS = 4
"""The words of 8 bytes, of a row's code, by which rows where a walk begins are chosen."""

LISTS_MAX = 2_048
"""A graph has at most as many lists of entries."""

EXPONENT_MIN, EXPONENT_MAX = -65, 40
"""Of ten: numbers that need other powers are not read by the library."""


def _fields(*declarations: tuple[Any, str]) -> tuple[tuple[str, Any], ...]:
    """Return fields as they are declared in C: a type, and the names of all that have it."""
    return tuple((name, kind) for kind, names in declarations for name in names.split())


class Projection(ctypes.Structure):
    """How rows and queries get their codes."""

    _fields_ = _fields(
        (c_void_p, "flips offset"),
        (c_int64, "rounds blocks length code_bytes dimensions metric"),
        (c_double, "scale"),
    )


class CodedRows(ctypes.Structure):
    """The rows of a segment or memtable, and their codes."""

    _fields_ = _fields(
        (Projection, "projection"),
        (c_void_p, "codes sample values norms verified"),
        (c_int64, "block_bytes values_start"),
        (c_void_p, "neighbours entries entry_words entry_starts pivot_codes"),
        (c_int64, "neighbour_count entry_count list_count"),
        (c_int64, "row_count sample_count sample_step"),
        (c_float, "relative_error absolute_error"),
    )


class CodeSearch(ctypes.Structure):
    """One query of some coded rows."""

    _fields_ = _fields(
        (c_void_p, "query allowed tested intervals listed"),
        (c_int64, "interval_count"),
        (c_int64, "listed_count eligible_count k margin breadth expanded_max"),
        (c_void_p, "hidden"),
        (c_int64, "hidden_count"),
        (c_int64, "rescored_expected rescored_min rescored_max"),
        (c_void_p, "candidates"),
        (c_int64, "candidates_max"),
        (c_void_p, "verify"),
        (c_int64, "rescored_count unverified_count"),
        (c_int64, "compared_count expanded_count"),
        (c_float, "query_norm"),
        (c_uint8 * CODE_BYTES_MAX, "query_code"),
    )


class Graph(ctypes.Structure):
    """A graph that is built."""

    _fields_ = _fields(
        (c_void_p, "row_codes neighbours hammings counts"),
        (c_int64, "row_count code_bytes neighbour_count kept_max"),
    )


class PoolTask(ctypes.Structure):
    """A search that any thread may run."""

    _fields_ = _fields(
        (c_void_p, "rows search"),
        (c_int64, "number status"),
        (c_double, "seconds cpu_seconds"),
        (c_void_p, "next"),
    )


class Power(ctypes.Structure):
    """The first 128 bits of a power of ten, the highest of which is set."""

    _fields_ = _fields((c_uint64, "high low"))


class LineRecord(ctypes.Structure):
    """Where a record and its members are in a text, in bytes."""

    _fields_ = _fields(
        (c_int64, "start end id id_end namespace namespace_end metadata metadata_end")
    )


class LineReader(ctypes.Structure):
    """A text that is read, and how far."""

    _fields_ = _fields(
        (c_void_p, "text powers"),
        (c_int64, "size dimensions records_max"),
        (c_void_p, "values records"),
        (c_int64, "position record_count line_end_count"),
    )


class TermTable(ctypes.Structure):
    """The sealed text column of a segment."""

    _fields_ = _fields(
        (c_void_p, "term_offsets term_bytes starts rows counts lengths"),
        (c_int64, "term_count byte_count posting_count row_count length_min"),
    )


class TermPostings(ctypes.Structure):
    """The postings of one term in one view."""

    _fields_ = _fields(
        (c_void_p, "rows counts lengths"),
        (c_int64, "count row_step count_step length_min position"),
        (c_double, "most most_left"),
    )


class WordSearch(ctypes.Structure):
    """One search for words in a view."""

    _fields_ = _fields(
        (c_void_p, "terms weights scales"),
        (c_int64, "term_count row_count"),
        (c_void_p, "allowed"),
        (c_double, "constant"),
        (c_int64, "k"),
        (c_void_p, "best"),
        (c_int64, "best_count"),
        (c_void_p, "rows scores"),
        (c_int64, "capacity found_count scored_count posting_count"),
    )


STRUCTURES: tuple[type[ctypes.Structure], ...] = (
    Projection, CodedRows, CodeSearch, Graph, PoolTask, Power, LineRecord, LineReader,
    TermTable, TermPostings, WordSearch,
)  # fmt: skip


def assertions() -> str:
    """Return C that compiles only where ``structures.h`` has the same layout and constants."""
    expected = {name: value for name, value in globals().items() if isinstance(value, int)}
    for structure in STRUCTURES:
        name = structure.__name__
        expected[f"sizeof({name})"] = ctypes.sizeof(structure)
        for field_name, *_ in structure._fields_:
            field = getattr(structure, field_name)
            expected[f"offsetof({name}, {field_name})"] = field.offset
            expected[f"sizeof((({name} *)0)->{field_name})"] = field.size
    checks = (
        f'_Static_assert({term} == {value}, "{term} is {value} in structures.py");'
        for term, value in expected.items()
    )
    return "\n".join(["#include <stddef.h>", '#include "structures.h"', *checks, ""])
