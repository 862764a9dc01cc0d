"""The compiled search by sign codes: finds the library of ``signs.c`` and calls it.

The library is built when the package is (``hatch_build.py``), if there is a C compiler, and
carries the checksum of its source in its name: one of another version is never loaded. Where
there is none, `signs` searches in Python: the same answers, at two to three times the time.

Knows nothing of recipes and effort; `signs` does.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import hamming, projection
from vicinal.ann.base import Proposal
from vicinal.ann.exact import ExactIndex
from vicinal.ann.hamming import Bits
from vicinal.model import Floats, Mask, Metric, Ordinals

SOURCE = Path(__file__).with_name("signs.c")

_METRICS = (Metric.COSINE, Metric.EUCLIDEAN, Metric.DOT_PRODUCT)  # in the order of signs.c
_LINE_BYTES = 64  # of which a code has a whole number
_CODE_BYTES_MAX = 256
_ROWS_MAX = 1 << 32
_FOUND_MAX = 4_096  # more proposals, as when very many rows tie, are left to Python
_NO_MEMORY = -2


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search goes, whoever does it.

    Attributes:
        k: How many nearest rows are wanted.
        slack: Bits beyond the reach that are opened.
        near_count: How many rows it is likely to open.
        opened_min: How many rows are opened first.
        opened_max: More rows than this are not opened by their codes alone.
    """

    k: int
    slack: int
    near_count: int
    opened_min: int
    opened_max: int


class _Segment(ctypes.Structure):
    """See signs.c."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("sample", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("norms", ctypes.c_void_p),
        ("row_count", ctypes.c_int64),
        ("sample_count", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("code_bytes", ctypes.c_int64),
        ("dimensions", ctypes.c_int64),
        ("metric", ctypes.c_int64),
        ("signs", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("rounds", ctypes.c_int64),
        ("blocks", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("relative", ctypes.c_float),
        ("absolute", ctypes.c_float),
    )


class _Search(ctypes.Structure):
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
        ("code", ctypes.c_uint8 * _CODE_BYTES_MAX),
    )


@cache
def library() -> ctypes.CDLL | None:
    """Return the library built from `SOURCE`, or None where there is none."""
    path = SOURCE.with_name(f"_signs-{sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so")
    if not path.exists():
        return None
    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # built for another kind of machine
        return None
    found.vicinal_search.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    found.vicinal_search.restype = ctypes.c_int64
    return found


class CompiledSearch:
    """Searches one segment's codes.

    Args:
        codes: ``(n, b)``, b a multiple of 64.
        sample: That of `codes`.
        offset: The projected mean, ``(8 * b,)``.
        exact: Knows the rows' values.
    """

    def __init__(
        self, built: ctypes.CDLL, codes: Bits, sample: Bits, offset: Floats, exact: ExactIndex
    ) -> None:
        self._function = built.vicinal_search
        signs = projection.signs_for(exact.values.shape[1], exact.metric, len(offset))
        offset = np.ascontiguousarray(offset, np.float32)
        self._kept = (codes, sample, signs, offset, exact)  # what the pointers point to
        relative, absolute = exact.error
        self._segment = _Segment(
            codes=codes.ctypes.data,
            sample=sample.ctypes.data,
            values=exact.values.ctypes.data,
            norms=exact.norms.ctypes.data,
            row_count=len(codes),
            sample_count=len(sample),
            step=hamming.sample_step(len(codes)),
            code_bytes=codes.shape[1],
            dimensions=exact.values.shape[1],
            metric=_METRICS.index(exact.metric),
            signs=signs.ctypes.data,
            offset=offset.ctypes.data,
            rounds=signs.shape[0],
            blocks=signs.shape[1],
            length=signs.shape[2],
            relative=relative,
            absolute=absolute,
        )
        self._row_count = len(codes)
        self._address = ctypes.addressof(self._segment)

    @staticmethod
    def of(codes: Bits, sample: Bits, offset: Floats, exact: ExactIndex) -> "CompiledSearch | None":
        """Return a search over these codes, or None where it takes Python's."""
        built, code_bytes = library(), codes.shape[1]
        fits = code_bytes % _LINE_BYTES == 0 and code_bytes <= _CODE_BYTES_MAX
        if built is None or not fits or len(codes) >= _ROWS_MAX:
            return None
        return CompiledSearch(built, codes, sample, offset, exact)

    def search(
        self,
        query: Floats,
        plan: Plan,
        count: int,
        allowed: Mask | None = None,
        listed: Ordinals | None = None,
    ) -> Proposal | None:
        """Search as `signs.SignIndex` does; None where it takes Python's search.

        Args:
            query: ``(d,)``.
            plan: How.
            count: How many rows are meant; at least 1.
            allowed: ``(n,)``: which. Without it and `listed`, all.
            listed: Which, by their ordinals; not together with `allowed`.

        Raises:
            MemoryError: Nothing was searched.
        """
        # A name for each: what is pointed to must live as long as the call.
        query = np.ascontiguousarray(query, np.float32)
        found = np.empty(_FOUND_MAX, np.int64)
        if allowed is not None:
            allowed = np.ascontiguousarray(allowed)
        if listed is not None:
            listed = np.ascontiguousarray(listed, np.int64)
        search = _Search(
            query.ctypes.data,
            _pointer(allowed),
            _pointer(listed),
            0 if listed is None else len(listed),
            count,
            plan.k,
            plan.slack,
            plan.near_count,
            plan.opened_min,
            plan.opened_max,
            found.ctypes.data,
            _FOUND_MAX,
        )
        status = self._function(self._address, ctypes.addressof(search))
        if status == _NO_MEMORY:
            raise MemoryError("no memory for a search by sign codes")
        return Proposal(found[:status], search.opened_count) if status >= 0 else None


def _pointer(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
