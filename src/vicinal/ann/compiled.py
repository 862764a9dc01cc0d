"""The compiled search by codes of one segment or memtable (``native/binary.c``).

Where there is no library, `binary` searches in Python: the same candidates, at two to three times
the time. Knows nothing of quantizers and effort; `binary` does.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import hamming, projection
from vicinal.ann.base import Selection
from vicinal.ann.exact import ExactIndex
from vicinal.ann.graph import CodeGraph
from vicinal.ann.hamming import Bits
from vicinal.ann.walk import WalkPlan
from vicinal.model import Floats
from vicinal.native.library import Library, library
from vicinal.native.library import projection as native_projection
from vicinal.native.pool import SearchTask
from vicinal.native.structures import CODE_BYTES_MAX, LINE_BYTES, CodedRows, CodeSearch

_ROWS_MAX = 1 << 32
_NO_ROWS = np.empty(0, np.int64)
_CANDIDATES_MAX = 4_096  # more, as when very many rows tie, are left to Python


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rows a search rescores, in C or in Python.

    Attributes:
        k: Nearest rows that are wanted.
        margin: Bits beyond the radius within which rows are rescored.
        rescored_expected: Rows that it is likely to rescore.
        rescored_min: Rows that are rescored first.
        rescored_max: More rows than this are not rescored by their codes alone.
        walk: How far it walks through the graph; None compares all codes.
    """

    k: int
    margin: int
    rescored_expected: int
    rescored_min: int
    rescored_max: int
    walk: WalkPlan | None = None


class CompiledSearch:
    """Searches the codes of one segment or memtable.

    Args:
        codes: ``(n, b)``, b a multiple of 64.
        sample: The sample of `codes` (`hamming.sample`).
        offset: The projected mean, ``(8 * b,)``.
        exact: Has the rows' values and norms.
        graph: The graph of the codes, if there is one.
    """

    def __init__(
        self,
        built: Library,
        codes: Bits,
        sample: Bits,
        offset: Floats,
        exact: ExactIndex,
        graph: CodeGraph | None = None,
    ) -> None:
        self._library = built
        dimensions = exact.values.shape[1]
        flips = projection.flips_for(dimensions, exact.metric, len(offset))
        offset = np.ascontiguousarray(offset, np.float32)
        self._keepalive: tuple[object, ...] = (codes, sample, flips, offset, exact, graph)
        relative_error, absolute_error = exact.error
        self._rows = CodedRows(
            projection=native_projection(flips, offset, dimensions, exact.metric),
            codes=codes.ctypes.data,
            sample=sample.ctypes.data,
            values=exact.values.ctypes.data,
            norms=exact.norms.ctypes.data,
            row_count=len(codes),
            sample_count=len(sample),
            sample_step=hamming.sample_step(len(codes)),
            relative_error=relative_error,
            absolute_error=absolute_error,
        )
        self._exact = exact
        if exact.blocks is not None and not exact.is_verified:
            self._rows.verified = exact.blocks.verified.ctypes.data
            self._rows.block_bytes = exact.blocks.size
            self._rows.values_start = exact.blocks.start
        if graph is not None:
            entries = graph.entries
            words, pivot_codes = entries.words(codes), entries.pivot_codes(codes)
            self._keepalive = (*self._keepalive, words, pivot_codes)
            self._rows.neighbours = graph.neighbours.ctypes.data
            self._rows.neighbour_count = graph.neighbours.shape[1]
            self._rows.entries = entries.rows.ctypes.data
            self._rows.entry_words = words.ctypes.data
            self._rows.entry_starts = entries.starts.ctypes.data
            self._rows.pivot_codes = pivot_codes.ctypes.data
            self._rows.entry_count = len(entries.rows)
            self._rows.list_count = len(entries.starts)

    @staticmethod
    def of(
        codes: Bits,
        sample: Bits,
        offset: Floats,
        exact: ExactIndex,
        graph: CodeGraph | None = None,
    ) -> "CompiledSearch | None":
        """Return a search over these codes, or None where only Python can search them."""
        built, code_bytes = library(), codes.shape[1]
        fits = code_bytes % LINE_BYTES == 0 and code_bytes <= CODE_BYTES_MAX
        if built is None or not fits or len(codes) >= _ROWS_MAX:
            return None
        return CompiledSearch(built, codes, sample, offset, exact, graph)

    def task(
        self,
        query: Floats,
        plan: Plan,
        selection: Selection,
    ) -> SearchTask:
        """Return a search as `binary.BinaryIndex` does it, for any thread to run.

        Args:
            query: ``(d,)``.
            plan: How many rows it rescores.
            selection: At least one row.
        """
        query = np.ascontiguousarray(query, np.float32)
        candidates = np.empty(_CANDIDATES_MAX, np.int64)
        allowed, listed, test = selection.mask, selection.rows, selection.test
        if allowed is not None:
            allowed = np.ascontiguousarray(allowed)
        if listed is not None:
            listed = np.ascontiguousarray(listed, np.int64)
        search = CodeSearch(
            query=query.ctypes.data,
            allowed=_pointer(allowed),
            listed=_pointer(listed),
            listed_count=0 if listed is None else len(listed),
            eligible_count=selection.count,
            k=plan.k,
            margin=plan.margin,
            rescored_expected=plan.rescored_expected,
            rescored_min=plan.rescored_min,
            rescored_max=plan.rescored_max,
            candidates=candidates.ctypes.data,
            candidates_max=_CANDIDATES_MAX,
        )
        if test is not None:
            search.tested = test.numbers.ctypes.data
            search.intervals = test.intervals.ctypes.data
            search.interval_count = len(test.intervals)
        if plan.walk is not None:
            hidden = plan.walk.hidden
            search.breadth, search.expanded_max = plan.walk.breadth, plan.walk.expanded_max
            search.hidden, search.hidden_count = (
                _pointer(hidden),
                0 if hidden is None else len(hidden),
            )
        keepalive = (self, query, allowed, listed, plan, test)
        if not self._exact.is_verified:
            self._exact.verify(_NO_ROWS)  # tells whether others have verified all by now
        verify = None if self._exact.is_verified or not self._rows.verified else self._exact.verify
        return SearchTask(self._library, self._rows, search, candidates, keepalive, verify)


def _pointer(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
