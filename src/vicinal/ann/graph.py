"""A graph of a large segment's codes: from every row to rows whose codes are near.

A search walks through it (`walk`) and compares a few thousand codes where it would compare all. It
is built from the codes alone:

1. Rows are divided into parts: each goes to the nearest of some rows drawn at random, the pivots,
   and large parts are divided again. First a row goes to a few pivots, so that parts overlap.
2. Rows of a part are compared with each other. A row keeps the nearest of all its parts.
3. Of these it keeps the nearest first, and none that is much nearer to one that is kept than to
   the row: a walk gets there by way of that one. This is what makes few neighbours enough
   (Fu et al., Fast Approximate Nearest Neighbor Search With The Navigating Spreading-out Graph,
   2019).
4. The same is done among every fourth row, every sixteenth and so on, and these get neighbours
   that are farther away: where rows lie in close groups, all that are nearest are of one group.
5. Each row becomes a neighbour of its neighbours, while there is space.

A walk through it begins at `entries`.

``native/graph.c`` does what touches every code; where there is no library, no graph is built.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vicinal import interruption
from vicinal.ann import projection
from vicinal.ann.entries import Entries
from vicinal.ann.hamming import Bits, sample
from vicinal.ann.quantizer import DEPTHS, EFFORTS, PerEffort, at_depth, rescored_min
from vicinal.model import Effort
from vicinal.native.library import Library, library
from vicinal.native.structures import LINE_BYTES, Graph

Neighbours = NDArray[np.uint32]

# Every number below is ours, chosen for recall and CPU at 300,000 x 384 (docs/decisions.md).

DEGREE = 32
"""The neighbours of a row; 128 bytes."""

_KEPT_MAX = 20  # of a row's nearest; others are of levels, or have the row as a neighbour
_LEVEL_STRIDES = (4, 16, 64)  # every fourth row has neighbours among these as well, and so on
_KEPT_OF_LEVEL_MAX = 8  # of these
_RATIO = 1.4  # a row is much nearer to another if its distance times this is less
_ROUNDS = 2  # of dividing all rows
_PIVOTS_OF_ROW = 3  # that a row goes to in the first division
_PIVOTS_MAX = 128
_PART_ROWS = 1_000  # at most; all of them are compared with each other
_PIVOTS_PER_PART = 4
_ALIKE_SHARE = 0.9  # of a part that goes to one pivot: rows are alike, and are cut as they come
_CHUNK_ROWS = 1 << 16  # pruned in one call

_NEAR_DEPTH_MAX = 2.5 * DEPTHS[0]
"""The k up to which breadths grow in proportion where none serves the second of `DEPTHS`. Of groups
of copies the hundred nearest are of several groups, and no short walk finds them; but the ten
nearest of a share of the rows are more than ten of all (docs/history/ann-kinds.md)."""

_FILTERED_SHARE_MAX = 0.4  # of the longest walk, for one under a filter
_EXPANSION_CODES = 80
"""A walk goes on from a row in less time than comparing this many codes in order takes: 0.38 µs, as
long as 68 of a million codes (docs/history/ann-kinds.md)."""


@dataclass(frozen=True, slots=True)
class CodeGraph:
    """The graph of a block of n rows.

    Attributes:
        neighbours: ``(n, DEGREE)`` uint32, filled up with the row itself.
        entries: Rows at which a walk may begin (`entries_of`).
        breadths: Near rows that a walk finds first, for each effort and depth of `quantizer`; 0
            where all codes are compared.
        expanded_max: Rows that a walk goes on from; for more, all codes are compared.
    """

    neighbours: Neighbours
    entries: Entries
    breadths: PerEffort
    expanded_max: int

    def breadth_for(self, k: int, effort: Effort, share: float) -> int:
        """Return the near rows that a search for the k nearest finds first; 0 for no walk.

        Args:
            share: The share of the rows that a filter selects, above 0. The fewer, the longer is a
                walk; 1 without a filter.
        """
        near, far = self.breadths[EFFORTS.index(effort)]
        # The k nearest of a share are among the k / share nearest of all, which a walk finds as
        # it finds those; of the rows that it finds first the share counts.
        depth = k / share
        if not near or (not far and depth > _NEAR_DEPTH_MAX):
            return 0
        in_proportion = near * max(1.0, depth / DEPTHS[0])
        breadth: float = at_depth(near, far, depth) if far else in_proportion
        if share == 1 and (far or depth <= DEPTHS[0]):
            return round(breadth)  # as it was measured
        breadth *= max(1.0, depth / DEPTHS[1])
        if breadth > _FILTERED_SHARE_MAX * self.expanded_max:
            return 0
        return max(ceil(share * breadth), rescored_min(k))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store; `of` takes them back."""
        return {
            "neighbours": self.neighbours,
            **self.entries.arrays(),
            "breadths": np.array(self.breadths, np.int64),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], row_count: int) -> Self:
        """Return the graph of stored arrays.

        Raises:
            ValueError: the arrays contradict each other.
        """
        neighbours, breadths = arrays["neighbours"], arrays["breadths"]
        if neighbours.shape != (row_count, DEGREE):
            raise ValueError(f"the graph does not have {DEGREE} neighbours for each row")
        if breadths.shape != (3, 2) or breadths.min() < 0:
            raise ValueError("the graph has no breadth for each effort")
        low, standard, high = ((near, far) for near, far in breadths.tolist())
        entries = Entries.of(arrays, row_count)
        return cls(neighbours, entries, (low, standard, high), expanded_max(row_count))


def expanded_max(row_count: int) -> int:
    """Return the rows that a walk goes on from, at most: in the time of comparing all codes."""
    return row_count // _EXPANSION_CODES


def build_neighbours(codes: Bits) -> Neighbours | None:
    """Return the neighbours of rows with these codes, ``(n, b)``, or None without a library."""
    built = library()
    if built is None or codes.shape[1] % LINE_BYTES:
        return None
    random = RandomState(projection.SEED)  # unlike newer generators', its stream is frozen
    graph = _linked(built, codes, _KEPT_MAX, random)
    for step in _LEVEL_STRIDES:
        graph.extend(_linked(built, sample(codes, step), _KEPT_OF_LEVEL_MAX, random), step)
    interruption.point()
    graph.link_back(built)
    return graph.neighbours


@dataclass(frozen=True, slots=True)
class _Links:
    """The neighbours that rows have.

    Attributes:
        neighbours: ``(n, DEGREE)``.
        counts: ``(n,)``: how many of these each row has.
    """

    neighbours: Neighbours
    counts: NDArray[np.uint8]

    def extend(self, level: "_Links", step: int) -> None:
        """Append the neighbours of every `step`-th row among these rows."""
        counts = self.counts[::step].astype(np.int64)
        for at in range(_KEPT_OF_LEVEL_MAX):
            rows = np.flatnonzero((at < level.counts) & (counts < DEGREE))
            self.neighbours[rows * step, counts[rows]] = level.neighbours[rows, at] * step
            counts[rows] += 1
        self.counts[::step] = counts

    def link_back(self, built: Library) -> None:
        """Make each row a neighbour of its neighbours, and fill up with the row itself."""
        graph = Graph(
            neighbours=self.neighbours.ctypes.data,
            counts=self.counts.ctypes.data,
            row_count=len(self.neighbours),
            neighbour_count=DEGREE,
        )
        built.link_back(graph, self.counts.copy())


def _linked(built: Library, codes: Bits, kept_max: int, random: RandomState) -> _Links:
    """Return the nearest neighbours of rows, pruned.

    Their distances, half of the memory of the neighbours, are dropped: nothing after this needs
    them, and the next level's arrays take as much.
    """
    row_count = len(codes)
    neighbours = np.zeros((row_count, DEGREE), np.uint32)
    hammings = np.zeros((row_count, DEGREE), np.uint16)
    counts = np.zeros(row_count, np.uint8)
    graph = Graph(
        row_codes=codes.ctypes.data,
        neighbours=neighbours.ctypes.data,
        hammings=hammings.ctypes.data,
        counts=counts.ctypes.data,
        row_count=row_count,
        code_bytes=codes.shape[1],
        neighbour_count=DEGREE,
        kept_max=kept_max,
    )
    for _ in range(_ROUNDS):
        rows = np.arange(row_count, dtype=np.uint32)
        divided = _parts(built, graph, codes, rows, random, _PIVOTS_OF_ROW)
        for part in interruption.parts(divided):
            built.link_part(graph, part)
    for start in interruption.parts(range(0, row_count, _CHUNK_ROWS)):
        built.prune(graph, start, min(start + _CHUNK_ROWS, row_count), _RATIO)
    return _Links(neighbours, counts)


def _parts(
    built: Library,
    graph: Graph,
    codes: Bits,
    rows: NDArray[np.uint32],
    random: RandomState,
    pivots_of_row: int,
) -> Iterator[NDArray[np.uint32]]:
    """Divide rows into parts of at most `_PART_ROWS`.

    The rows of each pivot are looked for in turn. Sorting all by their pivots saves 0.1 s of a
    million rows and takes 60 MB, while the arrays of the graph are at their largest (by hand).
    """
    if len(rows) <= _PART_ROWS:
        yield rows
        return
    pivot_count = min(_PIVOTS_PER_PART * len(rows) // _PART_ROWS + 2, _PIVOTS_MAX)
    pivots = rows[random.randint(0, len(rows), pivot_count)]
    nearest = built.nearest_pivots(graph, rows, codes[pivots], pivots_of_row).reshape(-1)
    for pivot in range(pivot_count):
        part = rows[np.flatnonzero(nearest == pivot) // pivots_of_row]
        if len(part) > _ALIKE_SHARE * len(rows):
            yield from (part[at : at + _PART_ROWS] for at in range(0, len(part), _PART_ROWS))
        elif len(part) > 1:
            yield from _parts(built, graph, codes, part, random, 1)
