"""Probes: rows of a segment that serve as queries, and their exact neighbours.

No two probes are copies of each other, and neighbours are no copies of their probe: any code finds
those, so they tell nothing of codes (`calibration`). All rows are compared with all probes, a chunk
at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vicinal import interruption
from vicinal.ann import projection
from vicinal.ann.quantizer import DEPTHS
from vicinal.model import Floats, Metric, Ordinals

# Every number below is ours, chosen for recall and CPU on the data of docs/history/calibration.md.

PROBES = 160  # rows; more would only make the added margins smaller, and each reads all rows
_DRAWN_PER_PROBE = 2  # rows, of which one may be a copy of another
SPREAD_NEIGHBOURS = DEPTHS[0]  # of a probe that are looked at for copies, evenly spread
_TIED = 32  # neighbours beyond the deepest, as they may tie with it
_COPY_TO_MEAN = 1e-3  # of the squared distance to the mean: a copy's codes differ in 1 % of bits
_COPY_ROUNDED = 1e-5  # of the squared norm: as near as float32 tells
_TINY = np.finfo(np.float32).tiny
_CHUNK_ROWS = 512  # whose distances to all probes stay in a core's cache


@dataclass(frozen=True, slots=True)
class Probes:
    """Rows that serve as queries, no two of them copies.

    Attributes:
        values: ``(p, d)``.
        centre: ``(d,)``: subtracted from all rows before they are compared. Under the Euclidean
            metric the mean of some rows, as squared norms of rows far from the origin would hide
            how far they are apart; else zeros.
        copy_distances: ``(p,)``: squared distances up to which rows are copies, in squared norms of
            the probe without the centre; under cosine, of rows of norm one.
    """

    values: Floats
    centre: Floats
    copy_distances: Floats


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The exact neighbours of the probes among some rows.

    Attributes:
        probes: ``(p, d)``.
        rows: ``(p, deepest + _TIED)``: the nearest rows that are not copies of the probe.
        distances: Their distances, ascending (`_distances`).
        copies: For each probe, the rows that are copies of it.
        sample_counts: For each of `DEPTHS`, the number of `SPREAD_NEIGHBOURS` of all probes, evenly
            spread, that are no copies of each other.
    """

    probes: Floats
    rows: NDArray[np.int64]
    distances: Floats
    copies: Sequence[Ordinals]
    sample_counts: tuple[int, ...]


def probes_of(values: Floats, row_norms: Floats, metric: Metric, random: RandomState) -> Probes:
    """Return rows that are drawn, of which none is a copy of another."""
    count = min(_DRAWN_PER_PROBE * PROBES, len(values))
    of_values = random.choice(len(values), count, replace=False)
    drawn, row_norms = values[of_values], row_norms[of_values]
    with np.errstate(all="ignore"):
        centre = drawn.mean(axis=0) if metric is Metric.EUCLIDEAN else np.zeros_like(drawn[0])
        lifted = drawn - centre
        if metric is Metric.COSINE:
            lifted /= np.fmax(row_norms, _TINY)[:, None]
        spread = np.square(lifted - lifted.mean(axis=0)).sum(axis=1)
        spread /= np.square(lifted).sum(axis=1)
        copy_distances = np.fmax(_COPY_ROUNDED, _COPY_TO_MEAN * np.fmin(spread, 1.0))
    all_drawn = Probes(drawn, centre, copy_distances.astype(np.float32))
    is_copy = _distances(drawn, row_norms, all_drawn, metric)[1]
    first = np.flatnonzero(~np.tril(is_copy, -1).any(axis=1))[:PROBES]
    return Probes(drawn[first], centre, all_drawn.copy_distances[first])


def neighbours_of(values: Floats, row_norms: Floats, metric: Metric, probes: Probes) -> Neighbours:
    """Search for all probes, a chunk of rows at a time."""
    deepest, count = max(DEPTHS) + _TIED, len(probes.values)
    near = _NearRows.none(count, deepest)
    copies: list[list[int]] = [[] for _ in range(count)]
    for start in interruption.parts(range(0, len(values), _CHUNK_ROWS)):
        end = min(start + _CHUNK_ROWS, len(values))
        distances, is_copy = _distances(values[start:end], row_norms[start:end], probes, metric)
        for probe, row in np.argwhere(is_copy).tolist():
            copies[probe].append(start + row)
        near.add(start, distances)
    near.cut()
    rows, nearest = near.rows, near.distances
    spread = [slice(0, depth, depth // SPREAD_NEIGHBOURS) for depth in DEPTHS]
    return Neighbours(
        probes.values,
        rows,
        nearest,
        [np.array(rows_of_probe, np.int64) for rows_of_probe in copies],
        tuple(
            _sample_count(values, row_norms, metric, probes, rows[:, some], nearest[:, some])
            for some in spread
        ),
    )


@dataclass(slots=True)
class _NearRows:
    """The nearest rows of each probe, of those that were added.

    Attributes:
        rows: ``(p, deepest)``; any row where there is none.
        distances: Theirs, ascending; infinite where there is none.
        waiting: Probes, rows and distances that may be among these.
    """

    rows: NDArray[np.int64]
    distances: Floats
    waiting: list[tuple[Ordinals, Ordinals, Floats]]

    @classmethod
    def none(cls, count: int, deepest: int) -> "_NearRows":
        """Return those of `count` probes before rows were added."""
        distances = np.full((count, deepest), np.inf, np.float32)
        return cls(np.zeros((count, deepest), np.int64), distances, [])

    def add(self, start: int, distances: Floats) -> None:
        """Add rows from `start` on, with distances ``(p, m)``."""
        probes, columns = np.nonzero(distances < self.distances[:, -1:])
        self.waiting.append((probes, start + columns, distances[probes, columns]))
        if sum(len(probes) for probes, _, _ in self.waiting) >= self.rows.size:
            self.cut()

    def cut(self) -> None:
        """Keep the nearest of what is kept and waits; of rows that tie the first."""
        count, deepest = self.rows.shape
        kept = (np.repeat(np.arange(count), deepest), self.rows.ravel(), self.distances.ravel())
        probes, rows, distances = map(np.concatenate, zip(kept, *self.waiting, strict=True))
        self.waiting = []
        order = np.lexsort((distances, probes))
        ranks = np.arange(len(order)) - np.searchsorted(probes[order], probes[order])
        order = order[ranks < deepest]
        self.rows, self.distances = (
            column[order].reshape(count, deepest) for column in (rows, distances)
        )


def _distances(
    rows: Floats, row_norms: Floats, probes: Probes, metric: Metric
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return ``(probes, rows)`` distances that order rows as the metric does, and which are copies.

    Copies of a probe are infinitely far: any code finds them. So are rows whose numbers overflow.
    """
    with np.errstate(all="ignore"):
        if metric is Metric.EUCLIDEAN:
            rows = rows - probes.centre
            row_norms = np.linalg.norm(rows, axis=1)
        centred = probes.values - probes.centre
        dots = np.ascontiguousarray(projection.products(rows, centred).T)
        norms = np.linalg.norm(centred, axis=1)[:, None]
        copy_distances = probes.copy_distances[:, None]
        if metric is Metric.COSINE:
            distances = -np.divide(dots, row_norms, out=np.zeros_like(dots), where=row_norms > 0)
            is_copy = distances <= (copy_distances / 2 - 1) * norms
        else:
            distances = np.square(row_norms) - 2 * dots
            is_copy = distances <= (copy_distances - 1) * np.square(norms)
            if metric is Metric.DOT_PRODUCT:
                distances = -dots
    distances[is_copy | np.isnan(distances)] = np.inf
    return distances, is_copy


def _sample_count(
    values: Floats,
    row_norms: Floats,
    metric: Metric,
    probes: Probes,
    rows: NDArray[np.int64],
    distances: Floats,
) -> int:
    """Return the number of ``(p, m)`` neighbours that are no copies of the one before, at least 1.

    Copies are as far from a probe as each other, and so next to each other.
    """
    neighbours, is_row = values[rows], np.isfinite(distances)
    with np.errstate(all="ignore"):
        neighbours -= probes.centre
        if metric is Metric.COSINE:
            neighbours /= np.fmax(row_norms[rows], _TINY)[:, :, None]
        apart = np.square(neighbours[:, 1:] - neighbours[:, :-1]).sum(axis=2)
        norms = np.square(neighbours[:, :-1]).sum(axis=2)
        is_copy = apart <= probes.copy_distances[:, None] * norms
    return max(int(is_row.sum() - (is_copy & is_row[:, 1:]).sum()), 1)
