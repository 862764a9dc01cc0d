"""The library compiled from ``signs.c`` and ``kernels.h`` (`vicinal.native`), and encoding by it.

Where there is none, numpy and faiss do the same work, more slowly.

Knows arrays and pointers; what they mean is said in `projection` and `signs`.
"""

import ctypes
from functools import cache
from pathlib import Path

import numpy as np

from vicinal import native
from vicinal.ann.hamming import Bits
from vicinal.model import Floats, Metric

SOURCES = tuple(Path(__file__).with_name(name) for name in ("signs.c", "kernels.h"))

CODE_BYTES_MAX = 256
"""Longer codes are not searched."""

_METRICS = (Metric.COSINE, Metric.EUCLIDEAN, Metric.DOT_PRODUCT)  # in the order of signs.c
_NO_MEMORY = -2


class Projection(ctypes.Structure):
    """See signs.c."""

    _fields_ = (
        ("signs", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("rounds", ctypes.c_int64),
        ("blocks", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("code_bytes", ctypes.c_int64),
        ("dimensions", ctypes.c_int64),
        ("metric", ctypes.c_int64),
        ("scale", ctypes.c_double),
    )


class Segment(ctypes.Structure):
    """See signs.c."""

    _fields_ = (
        ("projection", Projection),
        ("codes", ctypes.c_void_p),
        ("sample", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("norms", ctypes.c_void_p),
        ("row_count", ctypes.c_int64),
        ("sample_count", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("relative", ctypes.c_float),
        ("absolute", ctypes.c_float),
    )


class Search(ctypes.Structure):
    """See signs.c."""

    _fields_ = (
        ("query", ctypes.c_void_p),
        ("allowed", ctypes.c_void_p),
        ("listed", ctypes.c_void_p),
        ("listed_count", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("k", ctypes.c_int64),
        ("slack", ctypes.c_int64),
        ("wanted", ctypes.c_int64),
        ("at_least", ctypes.c_int64),
        ("most", ctypes.c_int64),
        ("found", ctypes.c_void_p),
        ("capacity", ctypes.c_int64),
        ("opened_count", ctypes.c_int64),
        ("size", ctypes.c_float),
        ("code", ctypes.c_uint8 * CODE_BYTES_MAX),
    )


class Library:
    """What the library does; every method runs without the interpreter's lock."""

    def __init__(self, built: ctypes.CDLL) -> None:
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self._search = built.vicinal_search
        self._search.argtypes, self._search.restype = (pointer, pointer), integer
        self._encode = built.vicinal_encode
        self._encode.argtypes = (pointer, pointer, integer, pointer)
        self._encode.restype = integer
        self._products = built.vicinal_products
        self._products.argtypes = (pointer, integer, pointer, integer, integer, pointer)
        self._products.restype = None

    def search(self, segment: Segment, search: Search) -> int:
        """Return how many rows were found, or less than 0 if that is left to Python.

        Raises:
            MemoryError: Nothing was searched.
        """
        status: int = self._search(ctypes.addressof(segment), ctypes.addressof(search))
        if status == _NO_MEMORY:
            raise MemoryError("no memory for a search by sign codes")
        return status

    def encode(self, by: Projection, values: Floats) -> Bits:
        """Return the codes of rows ``(n, d)``, ``(n, code_bytes)``.

        Raises:
            MemoryError: Nothing was encoded.
        """
        values = np.ascontiguousarray(values, np.float32)
        codes = np.empty((len(values), by.code_bytes), np.uint8)
        rows, found = values.ctypes.data, codes.ctypes.data
        if self._encode(ctypes.addressof(by), rows, len(values), found) == _NO_MEMORY:
            raise MemoryError("no memory to encode rows")
        return codes

    def products(self, rows: Floats, others: Floats) -> Floats:
        """Return ``rows @ others.T`` of ``(n, d)`` and ``(m, d)``."""
        rows = np.ascontiguousarray(rows, np.float32)
        others = np.ascontiguousarray(others, np.float32)
        found = np.empty((len(rows), len(others)), np.float32)
        self._products(
            rows.ctypes.data, len(rows), others.ctypes.data, len(others), rows.shape[1],
            found.ctypes.data,
        )  # fmt: skip
        return found


@cache
def library() -> Library | None:
    """Return the library built from `SOURCES`, or None where there is none."""
    built = native.load("signs", SOURCES)
    return None if built is None else Library(built)


def projection_by(
    signs: Floats, offset: Floats, dimensions: int, metric: Metric, scale: float = 1.0
) -> Projection:
    """Return the structure; it points to `signs` and `offset`, which must outlive it.

    Args:
        signs: ``(rounds, blocks, length)``, C-contiguous.
        offset: ``(bits,)``, C-contiguous.
        dimensions: Of rows and queries.
        metric: How they are measured.
        scale: The largest norm of the rows under dot-product.
    """
    rounds, blocks, length = signs.shape
    return Projection(
        signs.ctypes.data, offset.ctypes.data, rounds, blocks, length, len(offset) // 8,
        dimensions, _METRICS.index(metric), scale,
    )  # fmt: skip
