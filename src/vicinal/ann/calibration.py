"""Calibration of binary quantization: the length of a segment's codes and the margins of searches,
or that no codes will do.

No number of bits orders some data well, and the margin that a search needs depends on the data, too
(`binary`). So rows of the segment serve as queries, *probes*: their exact neighbours are computed,
and the margin that would have found each neighbour. An effort's margin is the one that finds the
share of neighbours which the effort promises: among all rows, and among a tenth of them or fewer,
where neighbours are as far away as they are under a filter, or from queries that are unlike any
row. Copies tell nothing: copies of a probe are left out, and neighbours that are copies of each
other are one sample; few samples make for a larger margin. Of the code lengths the one is kept
whose searches cost least by a simple model; when none reaches `RECALL_MIN`, there are no codes and
the segment is searched exactly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vicinal import interruption
from vicinal.ann import hamming, projection, quantizer
from vicinal.ann.exact import ExactIndex
from vicinal.ann.probes import (
    PROBES,
    SPREAD_NEIGHBOURS,
    Neighbours,
    neighbours_of,
    probes_of,
)
from vicinal.ann.quantizer import DEPTHS, EFFORTS, BinaryCodes, QuantizerParameters
from vicinal.model import Effort, Floats, Metric, Ordinals

RowsInGap = Mapping[tuple[Effort, int], Sequence[Ordinals]]
"""Rows that each probe in a gap should find, for each effort and each of `DEPTHS`."""

# Every number below is ours; where a line names no other source, it was chosen for recall and CPU
# on the data of docs/history/calibration.md.

# ---- what is promised ----

BITS = (512, 1024, 2048)
"""Code lengths that are tried, in bits, shortest first."""

RECALLS = {
    Effort.LOW: (0.99, 0.99),
    Effort.STANDARD: (0.998, 0.997),
    Effort.HIGH: (1.0, 0.999),
}
"""The share of the probes' neighbours that each effort finds, at each of `DEPTHS`."""

RECALL_MIN = 0.99
"""Codes are not kept if a search finds a smaller share even with the largest margin."""

# ---- neighbours that tie ----

_TIE = np.float32(1e-5)  # of a distance: as much as an estimate is wrong

# ---- a smaller part, as rows are under a filter ----

_PART_SHARE = 10  # one row of ten
_PART_ROWS_MIN = 2_000  # else there is no such part
_PART_ROWS_MAX = 20_000

# ---- margins beyond what the probes needed ----

# In shares of the bits, at the first depth: ten neighbours of each probe are few to tell what one
# of a thousand needs.
_ADDED = {Effort.LOW: 0.008, Effort.STANDARD: 0.004, Effort.HIGH: 0.02}
_SMALL_ROWS = 30_000  # rescoring more of them costs next to nothing
_ADDED_SMALL = {Effort.LOW: 0.008, Effort.STANDARD: 0.034, Effort.HIGH: 0.05}
_CONFIDENCE = 0.95  # that a quantile of few samples is not larger than what is added makes it
_UNREACHABLE = 1 << 20  # bits: a margin that no search has

# ---- what a search costs, in dimensions of a rescored row, measured in the compiled search ----

_EXPECTED_PERCENT = 80  # of searches rescore no more rows than the parameters say
_COST_OF_512_BITS = 2.5  # comparing them: 1.5 with AVX-512, 3.2 with AVX2
_COST_OF_512_BITS_SMALL = 5.1  # up to `_SMALL_ROWS`: more rows are cached, rescoring takes half


@dataclass(frozen=True, slots=True)
class Part:
    """Rows among which neighbours of the probes are searched for.

    Attributes:
        rows: The rows, of all.
        exact: Has their values.
        neighbours: The probes' neighbours among them.
    """

    rows: slice | Ordinals
    exact: ExactIndex
    neighbours: Neighbours


@dataclass(frozen=True, slots=True)
class _Needs:
    """The margins that searches with some codes needed in a part.

    Attributes:
        margins: For each of `DEPTHS` ``(p, k)``: the bits with which each neighbour is found.
        rescored: For each of `DEPTHS` ``(p, bits)``: the rows rescored with a margin of m bits.
        sample_counts: As of the `Neighbours`.
    """

    margins: tuple[NDArray[np.int64], ...]
    rescored: tuple[NDArray[np.int64], ...]
    sample_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Codes, and the neighbours that they were measured with: among all rows, then among a part."""

    codes: BinaryCodes
    parts: Sequence[Part]


def build(values: Floats, row_norms: Floats, metric: Metric) -> BinaryCodes | None:
    """Return the cheapest codes that are good enough for these rows (`calibrate`), or None."""
    calibration = calibrate(values, row_norms, metric)
    return None if calibration is None else calibration.codes


def with_neighbours(
    codes: BinaryCodes, values: Floats, row_norms: Floats, metric: Metric
) -> Calibration:
    """Return codes whose parameters are known, with the neighbours of probes."""
    return Calibration(codes, _parts(values, row_norms, metric))


def calibrate(
    values: Floats, row_norms: Floats, metric: Metric, lengths: Sequence[int] = BITS
) -> Calibration | None:
    """Return the cheapest codes that are good enough for these rows, or None.

    Args:
        values: ``(n, d)`` float32; may be memory-mapped, and is read a few times over.
        row_norms: ``(n,)`` float32, as `exact.norms` returns them.
        metric: How distances are measured.
        lengths: Of codes that are tried, in bits, shortest first.
    """
    row_count, dimensions = values.shape
    scale = float(row_norms.max()) if metric is Metric.DOT_PRODUCT else 1.0
    if row_count < quantizer.ROWS_MIN or scale == 0.0 or not np.isfinite(scale):
        return None
    is_small = row_count <= _SMALL_ROWS
    cost_of_512_bits = _COST_OF_512_BITS_SMALL if is_small else _COST_OF_512_BITS
    parts = _parts(values, row_norms, metric)
    mean = projection.mean_of(values, metric, scale)
    best: Calibration | None = None
    best_cost = float(row_count * dimensions)  # of exact search
    for bits in lengths:
        cost = row_count * cost_of_512_bits * bits / 512
        if cost + quantizer.rescored_min(DEPTHS[0]) * dimensions >= best_cost:
            break
        codes, offset = projection.encode(values, metric, scale, bits, mean)
        needs = [_needs(codes[part.rows], offset, part) for part in parts]
        margins = _margins(needs, bits, is_small=is_small)
        if margins is None:
            continue
        standard = margins[EFFORTS.index(Effort.STANDARD)]
        near, far = (
            counts[:, min(margin, bits - 1)]
            for counts, margin in zip(needs[0].rescored, standard, strict=True)
        )
        expected_near, expected_far = _expected(near), _expected(far)
        if is_small and expected_near >= quantizer.RESCORED_MAX:
            continue  # 6,400 scattered rows take longer than all in order, and miss some
        cost += float(near.mean()) * dimensions
        if cost < best_cost:
            expected = (expected_near, max(expected_near, expected_far))
            parameters = QuantizerParameters(bits, scale, margins, expected)
            best = Calibration(BinaryCodes(codes, offset, parameters), parts)
            best_cost = cost
    return best


def _parts(values: Floats, row_norms: Floats, metric: Metric) -> Sequence[Part]:
    """Return all rows, and a part of them if there are enough."""
    random = RandomState(projection.SEED)  # unlike newer generators', its stream is frozen
    probes = probes_of(values, row_norms, metric, random)

    def part(rows: slice | Ordinals, values: Floats, norms: Floats) -> Part:
        neighbours = neighbours_of(values, norms, metric, probes)
        return Part(rows, ExactIndex(values, norms, metric), neighbours)

    everything = part(slice(None), values, row_norms)
    count = min(len(values) // _PART_SHARE, _PART_ROWS_MAX)
    if count < _PART_ROWS_MIN:
        return (everything,)
    rows = np.sort(random.choice(len(values), count, replace=False))
    return (everything, part(rows, values[rows], row_norms[rows]))


def _needs(codes: hamming.Bits, offset: Floats, part: Part) -> _Needs:
    """Search a part for each probe as `binary.BinaryIndex` does, and note which margins would do.

    Args:
        codes: The codes of the part.
        offset: The projected mean, ``(bits,)``.
    """
    exact, neighbours, bits = part.exact, part.neighbours, len(offset)
    probes = neighbours.probes
    margins = [np.zeros((len(probes), depth), np.int64) for depth in DEPTHS]
    rescored = [np.zeros((len(probes), bits), np.int64) for _ in DEPTHS]
    probe_codes = projection.codes_of_queries(probes, exact.metric, offset)
    of_probes = enumerate(zip(probes, probe_codes, strict=True))
    for number, (probe, code) in interruption.parts(of_probes):
        hammings = hamming.distances(codes, code)
        hammings[neighbours.copies[number]] = bits
        counts = np.cumsum(np.bincount(hammings, minlength=2 * bits + 1))
        for depth, depth_margins, depth_rescored in zip(DEPTHS, margins, rescored, strict=True):
            limit, radius = _rescored_within(exact, probe, hammings, counts, depth)
            tied = _count_with_ties(depth, neighbours.distances[number])
            # Of rows that tie with the last, those count that are found first.
            nearest = np.sort(hammings[neighbours.rows[number, :tied]])[:depth]
            needed = np.where(nearest <= limit, 0, np.maximum(nearest - radius, 0))
            needed[counts[nearest] > quantizer.RESCORED_MAX] = _UNREACHABLE
            depth_margins[number, : len(nearest)] = needed
            limits = np.maximum(np.minimum(radius + np.arange(bits), 2 * bits), limit)
            depth_rescored[number] = np.minimum(counts[limits], quantizer.RESCORED_MAX)
    return _Needs(tuple(margins), tuple(rescored), neighbours.sample_counts)


def _rescored_within(
    exact: ExactIndex,
    probe: Floats,
    hammings: hamming.Hammings,
    counts: NDArray[np.int64],
    depth: int,
) -> tuple[int, int]:
    """Return how far the rows are that a search rescores first, and how far the nearest of them.

    Args:
        exact: The rows.
        probe: ``(d,)``.
        hammings: ``(n,)``: their distances in bits.
        counts: For each number of bits, the rows within it.
        depth: The k of the search.
    """
    limit = int(np.searchsorted(counts, quantizer.rescored_min(depth)))
    first = np.flatnonzero(hammings <= limit)[: quantizer.RESCORED_MAX]
    estimates = exact.estimates(exact.norms[first], exact.products(probe, first))
    return limit, quantizer.radius(hammings[first[np.argsort(estimates)[:depth]]])


def rows_in_gap(
    codes: BinaryCodes, exact: ExactIndex, neighbours: Neighbours, gap: int
) -> RowsInGap:
    """Return the rows that searches of all codes find for probes whose nearest rows are hidden.

    Args:
        codes: Of all rows.
        exact: All rows.
        neighbours: Of the probes among them.
        gap: How many of a probe's nearest rows are hidden from it.

    Returns:
        For each effort and each of `DEPTHS` the rows that are found of each probe's nearest; as
        many may be searched for as are not hidden.
    """
    bits, parameters = codes.parameters.bits, codes.parameters
    proposed: dict[tuple[Effort, int], list[Ordinals]] = {
        (effort, depth): [] for effort in EFFORTS for depth in DEPTHS
    }
    probe_codes = projection.codes_of_queries(neighbours.probes, exact.metric, codes.offset)
    of_probes = enumerate(zip(neighbours.probes, probe_codes, strict=True))
    for number, (probe, code) in interruption.parts(of_probes):
        hammings = hamming.distances(codes.codes, code)
        hammings[neighbours.copies[number]] = bits
        hammings[neighbours.rows[number, :gap]] = bits
        counts = np.cumsum(np.bincount(hammings, minlength=bits + 1))
        rescored = int(np.searchsorted(counts, quantizer.RESCORED_MAX, "right")) - 1
        is_row = np.isfinite(neighbours.distances[number])
        for depth in DEPTHS:
            limit, radius = _rescored_within(exact, probe, hammings, counts, depth)
            rows = neighbours.rows[number, gap : gap + depth][is_row[gap : gap + depth]]
            for effort in EFFORTS:
                farthest = min(radius + parameters.margin_for(depth, effort), rescored)
                farthest = max(farthest, limit)
                proposed[effort, depth].append(rows[hammings[rows] <= farthest])
    return proposed


def _count_with_ties(depth: int, distances: Floats) -> int:
    """Return the number of rows that are as near as the depth-th; none is infinitely far."""
    bound = distances[depth - 1]
    if not np.isfinite(bound):
        return int(np.isfinite(distances[:depth]).sum())
    return int(np.searchsorted(distances, bound + _TIE * np.abs(bound), "right"))


def _margins(
    needs: Sequence[_Needs], bits: int, *, is_small: bool
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None:
    """Return the margins for each of `EFFORTS` that are enough in every part, or None."""
    near, far = (
        [(np.sort(part.margins[depth], axis=None), part.sample_counts[depth]) for part in needs]
        for depth in range(len(DEPTHS))
    )
    if min(np.mean(margins < _UNREACHABLE) for margins, _ in near) < RECALL_MIN:
        return None

    def enough(margins: NDArray[np.int64], share: float) -> int:
        margin = margins[min(int(np.ceil(share * len(margins))), len(margins)) - 1]
        return int(margin if margin < _UNREACHABLE else margins[margins < _UNREACHABLE][-1])

    def of_effort(effort: Effort) -> tuple[int, int]:
        share_near, share_far = RECALLS[effort]
        added = round((_ADDED_SMALL if is_small else _ADDED)[effort] * bits)

        def largest(parts: Sequence[tuple[NDArray[np.int64], int]], share: float) -> int:
            # The error is that of the larger depth's share, as a share of 1 has none.
            return max(
                enough(margins, share) + _uncertainty(share_far, sample_count, bits)
                for margins, sample_count in parts
            )

        return min(largest(near, share_near) + added, bits), min(largest(far, share_far), bits)

    low, standard, high = map(of_effort, EFFORTS)
    return low, standard, high


def _expected(counts: NDArray[np.int64]) -> int:
    """Return the count that `_EXPECTED_PERCENT` of all do not exceed."""
    # Not numpy's percentile, which imports modules that nothing else here needs.
    return int(np.sort(counts)[-(-len(counts) * _EXPECTED_PERCENT // 100) - 1])


def _uncertainty(share: float, sample_count: int, bits: int) -> int:
    """Return the bits by which a quantile of this many samples may be too small.

    The margins that searches need are distributed about as the difference of two codes' Hamming
    distances is: normally, with a variance of ``bits / 2`` or less. The error of a quantile of that
    is known (Mosteller, On Some Useful Inefficient Statistics, 1946). The error that remains with
    all probes and no copies is left to the added margins.
    """
    normal = NormalDist()
    error = math.sqrt(share * (1 - share)) / normal.pdf(normal.inv_cdf(share))
    lacking = 1 / math.sqrt(sample_count) - 1 / math.sqrt(SPREAD_NEIGHBOURS * PROBES)
    deviations = normal.inv_cdf(_CONFIDENCE) * error * max(lacking, 0.0)
    return round(deviations * math.sqrt(bits / 2))
