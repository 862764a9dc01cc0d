"""A walk through a graph of codes (`graph`), as ``native/walk.h`` does it: the reference.

A walk begins at *entries*, rows that all others are near to (`entries`). It compares a share of
them that grows with its breadth, in the lists whose pivots are nearest, by the first words of their
codes, and begins at the nearest of each group of them. It always goes on from the nearest rows that
it has compared and not left yet, to all neighbours of these rows. First it finds a number of near
rows, the *breadth*: until no row that is left is nearer than the last of these. Then all rows
within a limit, as the radius of a search says. Rows that a filter does not allow are walked through
and not counted. A walk that has cost as much as comparing every code ends, and every code is
compared.

A walk goes on from a few rows at one time, the *beam*, for what memory does meanwhile: from one
after another it takes a third more CPU (docs/history/ann-kinds.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import hamming
from vicinal.ann.entries import Entries
from vicinal.ann.graph import CodeGraph
from vicinal.ann.hamming import Bits, Codes, Near
from vicinal.model import Mask, Ordinals
from vicinal.native.structures import ENTRY_WORDS

_ENTRIES = 128  # rows where a walk begins, each the nearest of a group
_ENTRIES_BREADTH = 1_024  # from which on all entries are compared
_BEAM_WIDTH = 4  # rows that it goes on from at one time


@dataclass(frozen=True, slots=True)
class WalkPlan:
    """How far a walk goes.

    Attributes:
        breadth: Near rows that it finds first, at least 1.
        expanded_max: Rows that it goes on from; for more, all codes are compared.
        hidden: Rows that it never comes to.
    """

    breadth: int
    expanded_max: int
    hidden: Ordinals | None = None


class Walk:
    """A walk through the graph of some codes.

    Args:
        codes: ``(n, b)``.
        graph: Of these codes.
        code: ``(b,)``: the query's.
        allowed: ``(n,)``; None allows all.

    Attributes:
        expanded_count: Rows that it has gone on from.
        is_open: Whether it may go on.
    """

    def __init__(
        self,
        codes: Bits,
        graph: CodeGraph,
        code: Bits,
        allowed: Mask | None,
        plan: WalkPlan,
    ) -> None:
        farthest = 8 * codes.shape[1]
        self._codes, self._neighbours, self._code = codes, graph.neighbours, code
        self._allowed, self._plan = allowed, plan
        self._seen = np.zeros(len(codes), np.bool_)
        if plan.hidden is not None:
            self._seen[plan.hidden] = True
        self._rows: list[int] = []
        self._hammings: list[int] = []
        self._bins: list[list[int]] = [[] for _ in range(farthest + 1)]
        self._nearest: int = farthest + 1
        self._counts = [0] * (farthest + 1)
        self._bound, self._within = farthest, 0
        self.expanded_count = 0
        self.is_open = True
        begun: dict[int, None] = {}  # as an ordered set
        for entry in _nearest_entries(codes, graph.entries, code, plan.breadth).tolist():
            row = self._begun_at(entry, begun)
            if row is not None:
                begun[row] = None
        self._compare(np.array(list(begun), np.int64))

    @property
    def compared_count(self) -> int:
        """The number of rows whose codes were compared."""
        return len(self._rows)

    def nearest(self) -> Near | None:
        """Return the rows within the bound of the breadth, or None: too many, or too long."""
        return self._walked(None)

    def within(self, limit: int) -> Near | None:
        """Return the rows within `limit`, or None: the walk is too long."""
        return self._walked(limit)

    def _begun_at(self, entry: int, begun: Mapping[int, None]) -> int | None:
        """Return the row at which the walk begins for an entry, or None if all are hidden.

        This is the entry, or of one that is hidden the first neighbour that is not: without the
        entry that, or one like it, would be an entry.
        """
        neighbours: list[int] = self._neighbours[entry].tolist()
        for row in (entry, *neighbours):
            if row < len(self._codes) and row not in begun and not self._seen[row]:
                return row
        return None

    def _walked(self, limit: int | None) -> Near | None:
        while self.is_open and self._is_within(self._bound if limit is None else limit):
            self.is_open = self.expanded_count < self._plan.expanded_max
            if self.is_open:
                self._go_on(self._bound if limit is None else limit)
        if not self.is_open:
            return None
        limit = self._bound if limit is None else limit
        rows, hammings = np.array(self._rows, np.int64), np.array(self._hammings, np.int32)
        is_near = hammings <= limit
        if self._allowed is not None:
            is_near &= self._allowed[rows]
        return Near(rows[is_near], hammings[is_near], limit)

    def _is_within(self, limit: int) -> bool:
        """Find the nearest row that the walk has not gone on from; tell whether it is near."""
        while self._nearest < len(self._bins) and not self._bins[self._nearest]:
            self._nearest += 1
        return self._nearest <= limit and self._nearest < len(self._bins)

    def _go_on(self, limit: int) -> None:
        beam: list[int] = []
        width = min(_BEAM_WIDTH, self._plan.expanded_max - self.expanded_count)
        while len(beam) < width and self._is_within(limit):
            beam.append(self._bins[self._nearest].pop())
        self.expanded_count += len(beam)
        self._compare(self._neighbours[beam].reshape(-1).astype(np.int64))

    def _compare(self, rows: NDArray[np.int64]) -> None:
        rows = rows[rows < len(self._codes)]
        _, first = np.unique(rows, return_index=True)
        rows = rows[np.sort(first)]
        rows = rows[~self._seen[rows]]
        self._seen[rows] = True
        if not len(rows):
            return
        hammings = hamming.distances(self._codes[rows], self._code).tolist()
        for row, distance in zip(rows.tolist(), hammings, strict=True):
            self._rows.append(row)
            self._hammings.append(distance)
            self._bins[distance].append(row)
            self._nearest = min(self._nearest, distance)
            if self._allowed is None or self._allowed[row]:
                self._count(distance)

    def _count(self, distance: int) -> None:
        self._counts[distance] += 1
        if distance > self._bound:
            return
        self._within += 1
        while self._within - self._counts[self._bound] >= self._plan.breadth:
            self._within -= self._counts[self._bound]
            self._bound -= 1


def _nearest_entries(codes: Bits, entries: Entries, code: Bits, breadth: int) -> NDArray[np.uint32]:
    """Return the entries at which a walk begins, at most `_ENTRIES`."""
    lengths, farthest = entries.lengths(), 8 * codes.shape[1]
    of_pivots = hamming.distances(entries.pivot_codes(codes), code)
    by_distance = np.cumsum(np.bincount(of_pivots, weights=lengths, minlength=farthest + 1))
    wanted = -(-len(entries.rows) * breadth // _ENTRIES_BREADTH)
    limit = np.searchsorted(by_distance, wanted)
    is_compared = np.repeat(of_pivots <= limit, lengths)
    words = code.view(np.uint64)[:ENTRY_WORDS]
    hammings = np.bitwise_count(entries.words(codes) ^ words).sum(axis=1, dtype=np.int32)
    nearest: list[int] = []
    for group in range(min(_ENTRIES, len(hammings))):
        compared = np.flatnonzero(is_compared[group::_ENTRIES]) * _ENTRIES + group
        if len(compared):
            nearest.append(compared[hammings[compared].argmin()])
    return entries.rows[nearest]


@dataclass(frozen=True, slots=True)
class WalkedCodes:
    """Codes of which those are compared that a walk comes to, or all if it is too long."""

    codes: Codes
    walk: Walk

    def nearest(self, expected: int, least: int) -> Near:
        """See `hamming.Codes`."""
        count = len(self.codes.codes) if self.codes.count is None else self.codes.count
        near = self.walk.nearest()
        if near is not None and len(near.rows) >= min(least, count):
            return near
        self.walk.is_open = False
        return self.codes.nearest(expected, least)

    def within(self, limit: int) -> Near:
        """See `hamming.Codes`."""
        near = self.walk.within(limit) if self.walk.is_open else None
        return self.codes.within(limit) if near is None else near
