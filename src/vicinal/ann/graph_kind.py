"""The kind of index of large segments: binary codes with a graph.

Whether a graph serves, and how far a search walks, is measured: rows of the segment are searched
for that a walk never comes to itself, with ever larger breadths, until a search finds the share of
neighbours that its effort promises. An effort that no breadth serves compares all codes, and where
low effort is not served there is no graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import calibration, quantizer
from vicinal.ann.binary import BinaryIndex, BinaryKind, GrowingBinaryIndex
from vicinal.ann.calibration import RECALLS, Calibration, Neighbours
from vicinal.ann.exact import ExactIndex
from vicinal.ann.graph import DEGREE, CodeGraph, build_neighbours, expanded_max
from vicinal.ann.quantizer import (
    DEPTHS,
    EFFORTS,
    BinaryCodes,
    PerEffort,
    QuantizerParameters,
    rescored_min,
)
from vicinal.ann.walk import WalkPlan
from vicinal.model import Effort, Floats, Metric

ROWS_MIN = 200_000
"""Below this many rows comparing all codes costs a search less than its other parts; ours."""

_BREADTHS = (50, 70, 100, 140, 200, 280, 400, 560, 800, 1_100, 1_600, 2_300, 3_200)
_SCAN_WALKS = 1  # comparing all codes takes as long as this many of the longest walks
_BREADTHS_BEYOND = 2  # of the breadth that was enough: probes are few
BREADTHS_MIN = {Effort.LOW: 280, Effort.STANDARD: 560, Effort.HIGH: 800}
"""Probes are rows, which lie nearer to others than queries do. Of a million rows held-out queries
find 0.9925 of their neighbours at standard effort with 400, where the probes find all, and 0.9985
with 560; of 200,000 jittered ones 0.987 at low effort with 100, and 0.9907 with 280
(docs/history/ann-kinds.md)."""
_EXPANDED_SHARE_MAX = 0.5  # of the longest walk, on average: half the cost of comparing all


class GraphKind:
    """Implements `ann.kinds.AnnKind`.

    Args:
        rows_min: Fewer rows get no graph.
        breadths_min: The least breadth of each effort.
    """

    component = "graph"

    def __init__(
        self, rows_min: int = ROWS_MIN, breadths_min: Mapping[Effort, int] = BREADTHS_MIN
    ) -> None:
        self._rows_min = rows_min
        self._breadths_min = breadths_min
        self._codes = BinaryKind()

    def build(
        self, exact: ExactIndex, parameters: object | None
    ) -> Mapping[str, NDArray[Any]] | None:
        """See `ann.kinds.AnnKind`."""
        if exact.row_count < self._rows_min:
            return None
        calibrated = _calibration(exact, parameters)
        neighbours = None if calibrated is None else build_neighbours(calibrated.codes.codes)
        if calibrated is None or neighbours is None:
            return None
        breadths = _breadths(exact, calibrated, neighbours, self._breadths_min)
        if breadths is None:
            return None
        graph = CodeGraph(neighbours, breadths, expanded_max(exact.row_count))
        return {**calibrated.codes.arrays(), **graph.arrays()}

    def layout(self, row_count: int) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """See `ann.kinds.AnnKind`."""
        return {
            **self._codes.layout(row_count),
            "neighbours": ("<u4", (row_count, DEGREE)),
            "breadths": ("<i8", (3, 2)),
        }

    def open(self, arrays: Mapping[str, NDArray[Any]], exact: ExactIndex) -> BinaryIndex:
        """See `ann.kinds.AnnKind`."""
        graph = CodeGraph.of(arrays, exact.row_count)
        return BinaryIndex(BinaryCodes.of(arrays), exact, graph)

    def grow(
        self, values: Floats, metric: Metric, parameters: object | None
    ) -> GrowingBinaryIndex | None:
        """See `ann.kinds.AnnKind`: codes alone."""
        return self._codes.grow(values, metric, parameters)


def _calibration(exact: ExactIndex, parameters: object | None) -> Calibration | None:
    values, norms, metric = exact.values, exact.norms, exact.metric
    if not isinstance(parameters, QuantizerParameters):
        return calibration.calibrate(values, norms, metric)
    codes = quantizer.encode(values, metric, parameters)
    return calibration.with_neighbours(codes, values, norms, metric)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Searches for all probes with one breadth."""

    recall: float
    expanded_mean: float


def _breadths(
    exact: ExactIndex,
    calibrated: Calibration,
    neighbours: NDArray[np.uint32],
    breadths_min: Mapping[Effort, int],
) -> PerEffort | None:
    """Return the breadths for each effort and depth, or None where a graph does not serve."""
    near = calibrated.parts[0].neighbours  # among all rows
    none = (0, 0)
    longest = expanded_max(exact.row_count)
    index = BinaryIndex(calibrated.codes, exact, CodeGraph(neighbours, (none, none, none), longest))

    def breadth(effort: Effort, depth: int) -> int:
        wanted = RECALLS[effort][DEPTHS.index(depth)]
        for number, breadth in enumerate(_BREADTHS[:-_BREADTHS_BEYOND]):
            if breadth < rescored_min(depth):
                continue
            trial = _trial(index, near, effort, depth, breadth)
            if trial.expanded_mean > _EXPANDED_SHARE_MAX * longest:
                return 0
            if trial.recall >= wanted:
                kept = max(_BREADTHS[number + _BREADTHS_BEYOND], breadths_min[effort])
                return kept if kept <= _EXPANDED_SHARE_MAX * longest else 0
        return 0

    low, standard, high = (
        (breadth(effort, DEPTHS[0]), breadth(effort, DEPTHS[1])) for effort in EFFORTS
    )
    return (low, standard, high) if low[0] else None


def _trial(
    index: BinaryIndex, near: Neighbours, effort: Effort, depth: int, breadth: int
) -> _Trial:
    """Search for each probe, from which it and its copies are hidden."""
    longest = expanded_max(index.row_count)
    hits = expected = expanded = 0
    for number, probe in enumerate(near.probes):
        is_row = np.isfinite(near.distances[number, :depth])
        wanted = near.rows[number, :depth][is_row]
        walk = WalkPlan(breadth, longest, near.copies[number])
        rows, count = index.walked(probe, depth, effort, walk)
        if count >= longest:
            # All codes were compared in addition, and found what they find.
            rows, count = wanted, count + _SCAN_WALKS * longest
        hits += int(np.isin(wanted, rows).sum())
        expected += len(wanted)
        expanded += count
    return _Trial(hits / max(expected, 1), expanded / len(near.probes))
