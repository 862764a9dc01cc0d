"""Candidates: the best rows of one search, over all views of a snapshot.

Candidates are arrays, as only few become matches: ids are read of those alone, and where ties are
broken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Ordinals
from vicinal.segment.base import View

Keys = NDArray[np.float32] | NDArray[np.float64]
"""Of rows, smaller ones being better: distances, or negative scores."""


@dataclass(frozen=True, slots=True)
class RankedRows:
    """Distinct rows of several views; all ``(n,)``. `parts` are the numbers of their views."""

    parts: Ordinals
    rows: Ordinals
    keys: Keys

    def __len__(self) -> int:
        return len(self.keys)

    def taken(self, positions: Ordinals) -> "RankedRows":
        """Return those at these positions, in their order."""
        return RankedRows(self.parts[positions], self.rows[positions], self.keys[positions])

    def positions_in(self, part: int) -> Ordinals:
        """Return the positions of those of a view."""
        return np.flatnonzero(self.parts == part)

    def ids(self, views: Sequence[View]) -> list[str]:
        """Return the ids of all."""
        parts = self.parts.tolist()
        if not parts or min(parts) == max(parts):
            return views[parts[0]].ids(self.rows) if parts else []
        ids = [""] * len(parts)
        for part in set(parts):
            positions = self.positions_in(part)
            for position, vector_id in zip(
                positions.tolist(), views[part].ids(self.rows[positions]), strict=True
            ):
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
        """Return the same, the rows of each view ascending."""
        return self.taken(np.argsort(self.rows))

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
    if len(per_view) == 1:
        rows, keys = per_view[0]
        return RankedRows(np.zeros(len(rows), np.int64), rows, keys)
    parts = [np.full(len(rows), part, np.int64) for part, (rows, _) in enumerate(per_view)]
    return RankedRows(
        np.concatenate([np.empty(0, np.int64), *parts]),
        np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in per_view)]),
        np.concatenate([np.empty(0), *(keys for _, keys in per_view)]),
    )


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
