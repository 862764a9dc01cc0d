"""The kind of index of large segments: binary codes with a graph.

A walk compares few codes, so these are longer than where all are compared, and margins are wider:
both make for fewer misses among rows that are far from the query, and rescoring them was most of
what the slowest queries cost (docs/history/ann-kinds.md).

Whether a graph serves, and how far a search walks, is measured: rows of the segment, *probes*, are
searched for with ever larger breadths, until a search finds the share of neighbours that its effort
promises. A walk never comes to the probe itself. Rows lie nearer to others than queries do, so each
probe is searched for once more without its nearest rows, as if it lay in a gap between all rows. An
effort that no breadth serves compares all codes, and where low effort is not served there is no
graph. A few neighbours that no walk which pays comes to are not expected: in a sample of 1,600 they
would decide by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal import interruption
from vicinal.ann import calibration, quantizer
from vicinal.ann.binary import BinaryIndex, BinaryKind, GrowingBinaryIndex
from vicinal.ann.calibration import RECALLS, Calibration, RowsInGap, rows_in_gap
from vicinal.ann.entries import entries_of
from vicinal.ann.exact import ExactIndex
from vicinal.ann.graph import DEGREE, CodeGraph, build_neighbours, expanded_max
from vicinal.ann.probes import Neighbours
from vicinal.ann.quantizer import (
    DEPTHS,
    EFFORTS,
    BinaryCodes,
    PerEffort,
    QuantizerParameters,
    rescored_min,
)
from vicinal.ann.walk import WalkPlan
from vicinal.model import Effort, Floats, Metric, Ordinals

ROWS_MIN = 200_000
"""Below this many rows comparing all codes costs a search less than its other parts; ours."""

_LENGTHS = (1_024, 2_048)  # of codes, in bits, that are tried
_MARGINS_MIN = {Effort.LOW: 1.05, Effort.STANDARD: 1.5, Effort.HIGH: 2.1}
"""The least margins for the first depth, in standard deviations of the difference of two Hamming
distances, ``sqrt(bits / 2)``: probes are rows, and need less than queries that lie between rows or
far away (docs/history/ann-kinds.md)."""

_BREADTHS = (
    *(50, 70, 100, 140, 200, 280, 400, 560, 800, 1_100, 1_600, 2_300, 3_200, 4_600, 6_400),
    *(9_100, 12_800, 18_000, 25_600),  # of ten million rows in a fifth of a scan
)  # fmt: skip
_ROUNDED = 1e-6
_NO_BREADTHS: PerEffort = ((0, 0), (0, 0), (0, 0))
_SCAN_WALKS = 1  # comparing all codes takes as long as this many of the longest walks
BREADTHS_MIN = {Effort.LOW: 140, Effort.STANDARD: 560, Effort.HIGH: 1_600}
"""Shorter walks save next to nothing, and 160 probes say little about one miss in a thousand."""
_EXPANDED_SHARE_MAX = 0.5  # of the longest walk, on average: less than half of the CPU of a scan


@dataclass(frozen=True, slots=True)
class Gap:
    """How probes are searched for, and what of them is enough.

    Attributes:
        hidden: Nearest rows of a probe that are hidden from it.
        beyond: Breadths that are kept beyond the one that was enough.
        unreachable_max: The share of neighbours that may lie beyond every breadth that pays. They
            are not expected of any effort; where they are more, all are.
    """

    hidden: int
    beyond: int
    unreachable_max: float


GAPS = (Gap(0, 2, 0.001), Gap(5, 2, 0.01))
"""Of 300,000 grown rows held-out queries find 0.992 of their neighbours with a breadth of 140 and
0.999 with 560; probes need 70 and 140 with a gap of five rows, 200 and 1,100 with one of ten. A
larger gap takes from the graph what leads to the rows around it. Even one of five does for up to
two of 1,600 neighbours among groups of copies; and in one of ten builds of a million grown rows
one of 1,600 needed a breadth of 4,600 for itself (docs/history/ann-kinds.md)."""


class GraphKind:
    """Implements `ann.kinds.AnnKind`.

    Args:
        rows_min: Fewer rows get no graph.
        breadths_min: The least breadth of each effort.
        gaps: See `GAPS`.
    """

    component = "graph"
    added = ("entries", "entry_starts")

    def __init__(
        self,
        rows_min: int = ROWS_MIN,
        breadths_min: Mapping[Effort, int] = BREADTHS_MIN,
        gaps: Sequence[Gap] = GAPS,
    ) -> None:
        self._rows_min = rows_min
        self._breadths_min = breadths_min
        self._gaps = gaps
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
        longest = expanded_max(exact.row_count)
        entries = entries_of(calibrated.codes.codes, neighbours)
        graph = CodeGraph(neighbours, entries, _NO_BREADTHS, longest)
        index = BinaryIndex(calibrated.codes, exact, graph)
        near = calibrated.parts[0].neighbours  # among all rows
        per_effort = breadths(index, near, self._breadths_min, self._gaps)
        if per_effort is None:
            return None
        graph = replace(graph, breadths=per_effort)
        return {**calibrated.codes.arrays(), **graph.arrays()}

    def layout(self, row_count: int) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """See `ann.kinds.AnnKind`."""
        return {
            **self._codes.layout(row_count),
            "neighbours": ("<u4", (row_count, DEGREE)),
            "entries": ("<u4", (None,)),
            "entry_starts": ("<u4", (None,)),
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
    if isinstance(parameters, QuantizerParameters) and parameters.bits in _LENGTHS:
        codes = quantizer.encode(values, metric, _widened(parameters))
        return calibration.with_neighbours(codes, values, norms, metric)
    calibrated = calibration.calibrate(values, norms, metric, _LENGTHS)
    if calibrated is None:
        return None
    codes = calibrated.codes
    return replace(calibrated, codes=replace(codes, parameters=_widened(codes.parameters)))


def _widened(parameters: QuantizerParameters) -> QuantizerParameters:
    """Return the parameters with margins that are at least `_MARGINS_MIN`."""
    deviation = math.sqrt(parameters.bits / 2)
    low, standard, high = (
        (max(near, round(_MARGINS_MIN[effort] * deviation)), far)
        for effort, (near, far) in zip(EFFORTS, parameters.margins, strict=True)
    )
    return replace(parameters, margins=(low, standard, high))


@dataclass(frozen=True, slots=True)
class _Hunt:
    """A search for a probe: rows that a walk never comes to, and those that it should find."""

    probe: Floats
    hidden: Ordinals
    expected: Ordinals


def _nearest(near: Neighbours, depth: int) -> Sequence[Ordinals]:
    """Return the nearest rows of each probe."""
    return [
        rows[np.isfinite(distances)]
        for rows, distances in zip(near.rows[:, :depth], near.distances[:, :depth], strict=True)
    ]


def _hunts(near: Neighbours, expected: Sequence[Ordinals], gap: Gap) -> Sequence[_Hunt]:
    """Return a search for each probe, from which it, its copies and a gap are hidden."""
    return [
        _Hunt(probe, np.concatenate([copies, rows[: gap.hidden]]), wanted)
        for probe, copies, rows, wanted in zip(
            near.probes, near.copies, near.rows, expected, strict=True
        )
    ]


@dataclass(frozen=True, slots=True)
class _Trial:
    """Searches for all probes with one breadth.

    Attributes:
        is_enough: Whether they found the share of neighbours that was wanted.
        expanded_mean: Rows that a walk went on from, of those walks that were made.
    """

    is_enough: bool
    expanded_mean: float


def breadths(
    index: BinaryIndex, near: Neighbours, breadths_min: Mapping[Effort, int], gaps: Sequence[Gap]
) -> PerEffort | None:
    """Return the breadths for each effort and depth, or None where a graph does not serve.

    Args:
        index: Has a graph, and no breadths.
        near: The probes, with their neighbours among its rows.
        breadths_min: The least breadth of each effort.
        gaps: See `GAPS`.
    """
    assert index.graph is not None
    expanded_max = _EXPANDED_SHARE_MAX * index.graph.expanded_max
    of_gap = {gap: _reachable(index, near, gap) for gap in gaps}

    def breadth(effort: Effort, depth: int, least: int) -> int:
        kept = max(breadths_min[effort], least)
        for gap, expected in of_gap.items():
            hunts = _hunts(near, expected[effort, depth], gap)
            enough = _breadth(index, hunts, effort, depth, gap.beyond)
            kept = max(kept, enough)
            if not enough or kept > expanded_max:
                return 0
        return kept

    def of_effort(effort: Effort, lower: tuple[int, int]) -> tuple[int, int]:
        first, second = zip(DEPTHS, lower, strict=True)
        return breadth(effort, *first), breadth(effort, *second)

    low = of_effort(Effort.LOW, (0, 0))
    if not low[0]:
        return None
    standard = of_effort(Effort.STANDARD, low)
    return low, standard, of_effort(Effort.HIGH, standard)


def _reachable(index: BinaryIndex, near: Neighbours, gap: Gap) -> RowsInGap:
    """Return the neighbours of probes, without those beyond every breadth that pays if few are.

    Margins promise nothing of probes in a gap: of theirs those remain that all codes find.
    """
    assert index.graph is not None
    longest = index.graph.expanded_max
    if gap.hidden:
        kept = dict(rows_in_gap(index.codes, index.exact, near, gap.hidden))
    else:
        kept = {(effort, depth): _nearest(near, depth) for effort in EFFORTS for depth in DEPTHS}
    pairs = zip(_BREADTHS, _BREADTHS[gap.beyond :], strict=False)
    largest = max((least for least, b in pairs if b <= _EXPANDED_SHARE_MAX * longest), default=0)
    for depth in DEPTHS if largest else ():
        wanted = kept[Effort.HIGH, depth]
        unreachable: list[Ordinals] = []
        for hunt in interruption.parts(_hunts(near, wanted, gap)):
            walk = WalkPlan(largest, longest, hunt.hidden)
            rows, count = index.walked(hunt.probe, depth, Effort.HIGH, walk)
            is_missed = np.isin(hunt.expected, rows, invert=True) & (count < longest)
            unreachable.append(hunt.expected[is_missed])
        if sum(map(len, unreachable)) > gap.unreachable_max * sum(map(len, wanted)):
            continue
        for effort in EFFORTS:
            kept[effort, depth] = [
                rows[np.isin(rows, some, invert=True)]
                for rows, some in zip(kept[effort, depth], unreachable, strict=True)
            ]
    return kept


def _breadth(
    index: BinaryIndex, hunts: Sequence[_Hunt], effort: Effort, depth: int, beyond: int
) -> int:
    """Return the least breadth with which probes find what the effort promises; 0 if none does.

    Args:
        index: Has a graph, and no breadths.
        beyond: Return the breadth that is this many larger.
    """
    assert index.graph is not None
    longest = index.graph.expanded_max
    share = RECALLS[effort][DEPTHS.index(depth)]
    for number, breadth in enumerate(_BREADTHS[:-beyond]):
        if breadth < rescored_min(depth):
            continue
        trial = _trial(index, hunts, effort, depth, breadth, share)
        if trial.expanded_mean > _EXPANDED_SHARE_MAX * longest:
            return 0
        if trial.is_enough:
            return _BREADTHS[number + beyond]
    return 0


def _trial(
    index: BinaryIndex,
    hunts: Sequence[_Hunt],
    effort: Effort,
    depth: int,
    breadth: int,
    share: float,
) -> _Trial:
    """Search for each probe, until too many rows were missed for a share that is wanted."""
    assert index.graph is not None
    longest = index.graph.expanded_max
    misses_max = (1 - share) * sum(len(hunt.expected) for hunt in hunts) + _ROUNDED
    misses = expanded = walks = 0
    for hunt in interruption.parts(hunts):
        walk = WalkPlan(breadth, longest, hunt.hidden)
        rows, count = index.walked(hunt.probe, depth, effort, walk)
        walks += 1
        if count >= longest:
            # All codes were compared in addition, and found what they find.
            expanded += count + _SCAN_WALKS * longest
            continue
        expanded += count
        misses += int(np.isin(hunt.expected, rows, invert=True).sum())
        if misses > misses_max:
            break
    return _Trial(misses <= misses_max, expanded / walks)
