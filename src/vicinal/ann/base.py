"""The seam between a segment and its ANN indexes.

An ANN index is immutable, belongs to one block of rows and speaks *ordinals*: row numbers
``0..n-1`` of that block. It finds *candidates*; `vicinal.distance` alone computes the distances
that a client sees, so every score is exact whichever index found the row. It never sees ids,
namespaces, metadata or JSON.

`kinds` lists the indexes that are built and stored. `exact` is the one that needs no building,
and the oracle for every other one (``tests/conformance/test_ann_index.py``).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Effort, Floats, Mask, Ordinals
from vicinal.native.library import library
from vicinal.prepared import Prepared

Intervals = NDArray[np.int32]

_COMPARED_INTERVALS_MAX = 100  # one after the other; of more a binary search is faster (by hand)


@dataclass(frozen=True, slots=True)
class RowTest:
    """Tells whether a row passes by its number, for rows that a search comes to.

    Attributes:
        numbers: ``(n,)`` int32, C-contiguous; may be memory-mapped.
        intervals: ``(m, 2)``, C-contiguous: a row passes whose number is in one ``[start, stop)``.
    """

    numbers: NDArray[np.int32]
    intervals: Intervals

    def mask(self) -> Mask:
        """Tell for each row whether it passes, ``(n,)``."""
        built = library()
        if built is not None and len(self.intervals) <= _COMPARED_INTERVALS_MAX:
            return built.in_intervals(self.numbers, self.intervals)
        bounds = self.intervals[np.argsort(self.intervals[:, 0])].reshape(-1)
        mask: Mask
        if len(bounds) == 2:  # several times faster
            mask = (self.numbers >= bounds[0]) & (self.numbers < bounds[1])
        else:
            mask = np.searchsorted(bounds, self.numbers, side="right") % 2 == 1
        return mask


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that a search may return: all, those under a mask that pass a test, or a list.

    Attributes:
        count: The number of selected rows.
        mask: ``(n,)``, True for selected rows, or for those that `test` selects from.
        rows: ``(count,)`` distinct ordinals, in any order; together with none of the others.
        test: Selected rows pass it. A mask of a million rows takes longer to make than a search
            that comes to a few thousand of them.
    """

    count: int
    mask: Mask | None = None
    rows: Ordinals | None = None
    test: RowTest | None = None

    @classmethod
    def of_mask(cls, mask: Mask) -> "Selection":
        """Return the selection of a mask's true rows."""
        return cls(int(np.count_nonzero(mask)), mask=mask)

    @classmethod
    def of_rows(cls, rows: Ordinals) -> "Selection":
        """Return the selection of distinct rows."""
        return cls(len(rows), rows=rows)

    @property
    def is_all(self) -> bool:
        """Whether every row is selected."""
        return self.mask is None and self.rows is None and self.test is None

    def masked(self) -> "Selection":
        """Return the same rows without a test, under a mask if there is one."""
        if self.test is None:
            return self
        mask = self.test.mask()
        return Selection(self.count, mask=mask if self.mask is None else mask & self.mask)

    def listed(self) -> "Selection":
        """Return the same rows as a list; not for a selection of all."""
        mask = self.masked().mask
        return self if mask is None else Selection(self.count, rows=np.flatnonzero(mask))


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that contain the nearest ones.

    Attributes:
        rows: ``(m,)`` distinct ordinals, in any order.
        scored_count: The number of rows whose values were read to find them.
        method: How they were found, for explanations.
    """

    rows: Ordinals
    scored_count: int
    method: str


class AnnIndex(Protocol):
    """Finds candidates for the nearest rows of one block of rows."""

    @property
    def row_count(self) -> int:
        """The number of rows of the block, n."""
        ...

    @property
    def parameters(self) -> object | None:
        """Measurements of the rows, for later blocks of the same index to use."""
        ...

    def prepare(
        self, query: Floats, k: int, selection: Selection, effort: Effort
    ) -> Prepared[Candidates]:
        """Prepare a search for the `k` nearest selected rows.

        Args:
            query: ``(d,)`` float32, finite, as the user gave it.
            k: At least 1.
            selection: No other row is ever returned.
            effort: A higher one misses fewer near rows; an exact index ignores it.

        Returns:
            A search that gives at least ``min(k, selection.count)`` rows. An exact index
            includes every row that ties with the k-th nearest; an approximate one misses a
            near row as rarely as its recall says.
        """
        ...
