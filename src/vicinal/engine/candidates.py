"""Candidates: the best rows of one search, over all views of a snapshot.

Candidates are arrays, as only few become matches: ids are read of those alone, and where ties are
broken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Ordinals
from vicinal.segment.base import View

Keys = NDArray[np.float32] | NDArray[np.float64]
"""Of rows, smaller ones being better: distances, or negative scores."""


_PART_BITS = 32
_ROW_MASK = (1 << _PART_BITS) - 1


@dataclass(frozen=True, slots=True)
class RankedRows:
    """Distinct rows of several views; both ``(n,)``. A row's number is that of its view, `part`,
    above 32 bits of its row in it."""

    numbers: Ordinals
    keys: Keys

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def parts(self) -> Ordinals:
        """The numbers of the views, ``(n,)``."""
        return self.numbers >> _PART_BITS

    @property
    def rows(self) -> Ordinals:
        """The rows in their views, ``(n,)``."""
        return self.numbers & _ROW_MASK

    def taken(self, positions: Ordinals) -> "RankedRows":
        """Return those at these positions, in their order."""
        return RankedRows(self.numbers[positions], self.keys[positions])

    def positions_in(self, part: int) -> Ordinals:
        """Return the positions of those of a view."""
        return np.flatnonzero(self.parts == part)

    def ids(self, views: Sequence[View]) -> list[str]:
        """Return the ids of all."""
        parts, rows = self.parts.tolist(), self.rows
        if not parts or min(parts) == max(parts):
            return views[parts[0]].ids(rows) if parts else []
        ids = [""] * len(parts)
        for part in set(parts):
            positions = [at for at, its_part in enumerate(parts) if its_part == part]
            of_part = views[part].ids(rows[positions])
            for position, vector_id in zip(positions, of_part, strict=True):
                ids[position] = vector_id
        return ids

    def best(self, views: Sequence[View], count: int) -> "RankedRows":
        """Return the best ones, at most `count`, in any order; ties are broken by id."""
        if len(self) <= count:
            return self
        order = np.argpartition(self.keys, count - 1)
        best, left = order[:count], order[count:]
        bound = self.keys[best[-1]]
        tied = left[self.keys[left] == bound]
        if len(tied):
            is_tied = self.keys[best] == bound
            tied = np.sort(np.concatenate([best[is_tied], tied]))
            best = best[~is_tied]
            tied = tied[_first_by_id(self.taken(tied), views, count - len(best))]
            best = np.concatenate([best, tied])
        return self.taken(best)

    def by_row(self) -> "RankedRows":
        """Return the same, view by view, the rows of each ascending."""
        return self.taken(np.argsort(self.numbers))

    def rows_by_part(self, part_count: int) -> list[Ordinals]:
        """Return the rows of each view, of rows that are `by_row`."""
        firsts = np.arange(part_count + 1) << _PART_BITS
        bounds = np.searchsorted(self.numbers, firsts).tolist()
        rows = self.rows
        return [rows[start:end] for start, end in pairwise(bounds)]

    def ordered(self, views: Sequence[View]) -> "tuple[RankedRows, list[str]]":
        """Return the same, best first, ties by id; and the ids."""
        ids = self.ids(views)
        unordered = list(zip(self.keys.tolist(), ids, range(len(ids)), strict=True))
        ordered = sorted(unordered)
        if ordered == unordered:
            return self, ids
        order = np.array([at for _, _, at in ordered], np.int64)
        return self.taken(order), [vector_id for _, vector_id, _ in ordered]


def ranked_rows(per_view: Sequence[tuple[Ordinals, Keys]]) -> RankedRows:
    """Return rows of each view, with their keys, as one."""
    if not per_view:
        return RankedRows(np.empty(0, np.int64), np.empty(0))
    numbers = [rows | (part << _PART_BITS) for part, (rows, _) in enumerate(per_view)]
    return RankedRows(np.concatenate(numbers), np.concatenate([keys for _, keys in per_view]))


def _first_by_id(ranked: RankedRows, views: Sequence[View], count: int) -> Ordinals:
    """Return the positions of the `count` first ids."""
    # Short texts tie often, and only few of those are needed.
    kept = []
    for part, view in enumerate(views):
        positions = ranked.positions_in(part)
        if len(positions):
            rows = ranked.rows[positions]
            first = view.first_by_id(rows, count)
            kept.append(positions if len(first) == len(rows) else positions[np.isin(rows, first)])
    positions = np.concatenate(kept)
    ids = ranked.taken(positions).ids(views)
    return positions[sorted(range(len(ids)), key=ids.__getitem__)[:count]]
