"""The entries of a graph (`graph`): rows at which a walk may begin, in lists.

All other rows are near to an entry: where a few dozen rows lie so close that all their neighbours
are among them, a walk gets in only if it begins there. Comparing all entries was a fifth of what a
search of a million rows cost, so they are kept in lists around *pivots*, some of the entries, and a
walk compares those whose pivots are nearest to the query (docs/history/ann-kinds.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vicinal import interruption
from vicinal.ann.hamming import Bits
from vicinal.native.library import Library, library
from vicinal.native.structures import ENTRY_WORDS, LISTS_MAX, Graph

# Every number below is ours, chosen for recall and CPU (docs/history/ann-kinds.md).

_ENTRIES_PER_ROOT = 90  # of the number of rows, at most
_EARLIER_STEP = 32  # between entries of graphs without any, of earlier versions
_FURTHER = (0, 2, 4, 8, 16)  # neighbours whose neighbours an entry stands for, too; then all
_LISTS_PER_ROOT = 3  # of the number of entries: short lists say more of where entries are


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows at which a walk may begin.

    Attributes:
        rows: ``(m,)`` uint32, at least one.
        starts: ``(p,)`` uint32, where in `rows` each list begins; 0 first. The first row of a list
            is its pivot.
    """

    rows: NDArray[np.uint32]
    starts: NDArray[np.uint32]

    def words(self, codes: Bits) -> NDArray[np.uint64]:
        """Return the first words of the entries' codes, ``(m, ENTRY_WORDS)``.

        Whole codes take longer to compare, and say little more about where to begin
        (docs/history/ann-kinds.md).
        """
        return np.ascontiguousarray(codes.view(np.uint64)[self.rows, :ENTRY_WORDS])

    def pivot_codes(self, codes: Bits) -> Bits:
        """Return the codes of the pivots, ``(p, b)``."""
        return codes[self.rows[self.starts]]

    def lengths(self) -> NDArray[np.int64]:
        """Return how many entries each list has, ``(p,)``."""
        starts = self.starts.astype(np.int64)
        return np.append(starts[1:], len(self.rows)) - starts

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store; `of` takes them back."""
        return {"entries": self.rows, "entry_starts": self.starts}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], row_count: int) -> Self:
        """Return the entries of stored arrays; graphs of earlier versions have some of these.

        Raises:
            ValueError: the arrays contradict each other.
        """
        rows, starts = arrays.get("entries"), arrays.get("entry_starts")
        if rows is None:
            rows = np.arange(0, row_count, _EARLIER_STEP, dtype=np.uint32)
        if not len(rows) or rows.max() >= row_count:
            raise ValueError(f"the graph does not begin at any of its {row_count} rows")
        if starts is None:
            starts = np.zeros(1, np.uint32)
        entries = cls(rows, starts)
        if len(starts) > LISTS_MAX:
            raise ValueError(f"the graph has {len(starts)} lists of entries, at most {LISTS_MAX}")
        if not len(starts) or starts[0] or entries.lengths().min() < 1:
            raise ValueError(f"the graph's {len(rows)} entries are not all in lists with rows")
        return entries


def entries_of(codes: Bits, neighbours: NDArray[np.uint32]) -> Entries:
    """Return where a walk may begin through the graph with these neighbours, ``(n, d)``.

    Every other row is a neighbour of an entry or, where these would be too many, of one of its
    nearest neighbours; where these are too many as well (beyond some 10,000,000 rows), every
    second or third remains. As many rows chosen evenly leave out groups of rows that nothing else
    leads to (docs/history/ann-kinds.md).
    """
    built = library()
    assert built is not None, "a graph is built by the library alone"
    row_count, degree = neighbours.shape
    neighbours = np.ascontiguousarray(neighbours, np.uint32)
    graph = Graph(neighbours=neighbours.ctypes.data, row_count=row_count, neighbour_count=degree)
    count_max = _ENTRIES_PER_ROOT * (isqrt(row_count) + 1)
    for further in interruption.parts((*_FURTHER, degree)):
        rows = built.cover(graph, further)
        if len(rows) <= count_max:
            break
    return _listed(built, codes, rows[:: -(-len(rows) // count_max)])


def _listed(built: Library, codes: Bits, rows: NDArray[np.uint32]) -> Entries:
    """Put rows in lists around some of them."""
    rows, codes = rows.copy(), np.ascontiguousarray(codes)
    list_count = min(_LISTS_PER_ROOT * isqrt(len(rows)), LISTS_MAX)
    pivots = rows[:: -(-len(rows) // list_count)]
    graph = Graph(row_codes=codes.ctypes.data, row_count=len(codes), code_bytes=codes.shape[1])
    interruption.point()
    lists = built.nearest_pivots(graph, rows, codes[pivots], 1).reshape(-1)
    order = np.lexsort((rows != pivots[lists], lists))
    starts = np.flatnonzero(np.diff(lists[order], prepend=-1)).astype(np.uint32)
    return Entries(rows[order], starts)
