"""The library compiled from `SOURCES` (`vicinal.native`), and encoding by it.

Where there is none, numpy and faiss do the same work, more slowly.

Knows arrays and pointers; what they mean is said in `projection`, `signs` and `pool`.
"""

import ctypes
from functools import cache
from pathlib import Path

import numpy as np

from vicinal import native
from vicinal.ann.hamming import Bits
from vicinal.model import Floats, Metric

SOURCES = tuple(Path(__file__).with_name(name) for name in ("signs.c", "pool.c", "kernels.h"))

CODE_BYTES_MAX = 256
"""Longer codes are not searched."""

_METRICS = (Metric.COSINE, Metric.EUCLIDEAN, Metric.DOT_PRODUCT)  # in the order of signs.c
NO_MEMORY = -2
"""The status of what was not done for want of memory."""


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


class Task(ctypes.Structure):
    """See pool.c."""

    _fields_ = (
        ("segment", ctypes.c_void_p),
        ("search", ctypes.c_void_p),
        ("number", ctypes.c_int64),
        ("status", ctypes.c_int64),
        ("seconds", ctypes.c_double),
        ("cpu_seconds", ctypes.c_double),
        ("next", ctypes.c_void_p),
    )


class PoolCalls:
    """The functions of pool.c. Those that return at once keep the interpreter's lock, as
    letting go of it and taking it again costs more than they do."""

    def __init__(self, path: Path) -> None:
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        waiting, quick = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
        self.run = waiting.vicinal_pool_run
        self.run.argtypes, self.run.restype = (pointer,), None
        self.open = quick.vicinal_pool_open
        self.open.argtypes, self.open.restype = (ctypes.c_int,), pointer
        self.put = quick.vicinal_pool_put
        self.put.argtypes, self.put.restype = (pointer, pointer, integer), integer
        self.take = quick.vicinal_pool_take
        self.take.argtypes, self.take.restype = (pointer, pointer, integer), integer
        self.stop = quick.vicinal_pool_stop
        self.stop.argtypes, self.stop.restype = (pointer,), None
        self.close = quick.vicinal_pool_close
        self.close.argtypes, self.close.restype = (pointer,), None


class Library:
    """What the library does; what takes long runs without the interpreter's lock.

    Attributes:
        pool: The functions of pool.c that `pool` calls.
    """

    def __init__(self, path: Path) -> None:
        built = ctypes.CDLL(str(path))
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self._run = built.vicinal_task_run
        self._run.argtypes, self._run.restype = (pointer,), None
        self._encode = built.vicinal_encode
        self._encode.argtypes = (pointer, pointer, integer, pointer)
        self._encode.restype = integer
        self._products = built.vicinal_products
        self._products.argtypes = (pointer, integer, pointer, integer, integer, pointer)
        self._products.restype = None
        self._norms = built.vicinal_norms
        self._norms.argtypes, self._norms.restype = (pointer, integer, integer, pointer), None
        self.pool = PoolCalls(path)

    def run(self, task: Task) -> None:
        """Search in this thread."""
        self._run(ctypes.addressof(task))

    def encode(self, by: Projection, values: Floats) -> Bits:
        """Return the codes of rows ``(n, d)``, ``(n, code_bytes)``.

        Raises:
            MemoryError: Nothing was encoded.
        """
        values = np.ascontiguousarray(values, np.float32)
        codes = np.empty((len(values), by.code_bytes), np.uint8)
        rows, found = values.ctypes.data, codes.ctypes.data
        if self._encode(ctypes.addressof(by), rows, len(values), found) == NO_MEMORY:
            raise MemoryError("no memory to encode rows")
        return codes

    def norms(self, rows: Floats) -> Floats:
        """Return the euclidean norms of rows ``(n, d)``, ``(n,)``, infinite on overflow."""
        rows = np.ascontiguousarray(rows, np.float32)
        found = np.empty(len(rows), np.float32)
        self._norms(rows.ctypes.data, len(rows), rows.shape[1], found.ctypes.data)
        return found

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
    path = native.find("signs", SOURCES)
    return None if path is None else Library(path)


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
