"""Measures what sign codes it takes for the rows of a segment, and whether any will do.

There are data that no number of bits orders well, and how much slack a search needs depends on
the data, too (`binary`). So rows of the segment serve as queries: their exact answers are
computed, and for each true neighbour how much slack would have found it. The slack of an effort
is what finds the share of neighbours that the effort promises: among all rows, and among a
tenth of them or fewer, where neighbours are as far away as they are under a filter, or from
queries that are unlike any row. Copies tell nothing: those of a probe are left out, and
neighbours that are copies of each other are one sample, so that there may be few samples, and
more slack for the want of them. Of the code lengths, the one is kept whose searches cost least
by a simple model; when none reaches `RECALL_MIN`, there are no codes and the segment is
searched exactly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vicinal.ann import hamming, projection, quantizer
from vicinal.ann.exact import ExactIndex
from vicinal.ann.quantizer import DEPTHS, EFFORTS, BinaryCodes, QuantizerParameters
from vicinal.model import Effort, Floats, Metric, Ordinals

BITS = (512, 1024, 2048)
"""Code lengths tried, shortest first."""

RECALLS = {
    Effort.LOW: (0.99, 0.99),
    Effort.STANDARD: (0.998, 0.997),
    Effort.HIGH: (1.0, 0.999),
}
"""The share of the probes' true neighbours that each effort finds, for the two depths."""

RECALL_MIN = 0.99
"""Codes with which a search finds less even at the largest slack are not kept."""

# More slack than the probes needed, in shares of the bits, at the first depth: ten neighbours
# of each probe are few to tell what one of a thousand needs.
_MARGINS = {Effort.LOW: 0.008, Effort.STANDARD: 0.004, Effort.HIGH: 0.02}
_SMALL_ROWS = 30_000  # up to so many, more slack costs next to nothing
_SMALL_MARGINS = {Effort.LOW: 0.008, Effort.STANDARD: 0.034, Effort.HIGH: 0.05}
_MOST = 80  # percent of searches that open no more rows than the parameters say
_PROBES = 160
_DRAWN_TIMES = 2  # as many rows are drawn, as some may be copies of others
_SAMPLES = 10  # neighbours of a probe that are looked at for copies
# Rows are copies when their squared distance is at most this share of that to the mean, which
# changes a bit of a hundred, or of their squared norm, which is what float32 tells.
_SAME = 1e-3
_SAME_ROUNDED = 1e-5
_TINY = np.finfo(np.float32).tiny
_CONFIDENCE = 0.95
_TIED = 32  # more neighbours than the deepest are looked at, as they may tie with it
_CHUNK_ROWS = 512  # whose distances to all probes stay in a core's cache
_THINNED = 10  # of so many rows one is left
_THINNED_ROWS_MIN = 2_000
_THINNED_ROWS_MAX = 20_000
_SEED = 20_240_521
_NEVER = 1 << 20  # bits of slack that no search has
# What comparing 512 bits, and projecting a dimension of the query on a direction, cost in
# dimensions of a row that are measured: of the search in Python (why: docs/history/calibration.md).
_COST_OF_512_BITS = 5.1
_COST_OF_PROJECTING = 0.2


@dataclass(frozen=True, slots=True)
class _Truth:
    """The exact answers of the probes.

    Attributes:
        probes: ``(p, d)``.
        rows: ``(p, deepest + tied)``: the nearest rows that are not copies of the probe.
        distances: Of those, ascending (`_comparable`).
        same: For each probe, the rows that are copies of it.
        samples: For each of `DEPTHS`, how many of `_SAMPLES` neighbours of each probe, evenly
            spread, are no copies of each other.
    """

    probes: Floats
    rows: NDArray[np.int64]
    distances: Floats
    same: Sequence[Ordinals]
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Probes:
    """Rows that serve as queries, no two of them copies.

    Attributes:
        values: ``(p, d)``.
        centre: ``(d,)``: what is taken off all rows to compare them: nothing, but under the
            Euclidean metric, where squared norms of rows that are far from the origin would
            hide how far they are apart, the mean of some.
        within: ``(p,)``: how far copies may be, in squared norms of the probe without the
            centre; under cosine, of rows of norm one.
    """

    values: Floats
    centre: Floats
    within: Floats


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows in which the probes are searched for: which ones, their values, the answers."""

    rows: slice | Ordinals
    exact: ExactIndex
    truth: _Truth


@dataclass(frozen=True, slots=True)
class _Needs:
    """What searches with some codes would have needed.

    Attributes:
        slack: For each of `DEPTHS` ``(p, k)``: bits of slack that find each neighbour.
        within: For each of `DEPTHS` ``(p, bits)``: how many rows' codes lie within the reach
            and so many bits.
        samples: For each of `DEPTHS`, those of the `_Truth`.
    """

    slack: tuple[NDArray[np.int64], ...]
    within: tuple[NDArray[np.int64], ...]
    samples: tuple[int, ...]


def build(values: Floats, row_norms: Floats, metric: Metric) -> BinaryCodes | None:
    """Return the cheapest codes that are good enough for these rows, or None.

    Args:
        values: ``(n, d)`` float32; may be memory-mapped, and is read a few times over.
        row_norms: ``(n,)`` float32, as `exact.norms` gives them.
        metric: How rows are measured.
    """
    row_count, dimensions = values.shape
    scale = float(row_norms.max()) if metric is Metric.DOT_PRODUCT else 1.0
    if row_count < quantizer.ROWS_MIN or scale == 0.0 or not np.isfinite(scale):
        return None
    is_small = row_count <= _SMALL_ROWS
    parts = _parts(values, row_norms, metric)
    mean = projection.mean_of(values, metric, scale)
    best: BinaryCodes | None = None
    best_cost = float(row_count * dimensions)  # of measuring every row
    for bits in BITS:
        cost = row_count * _COST_OF_512_BITS * bits / 512
        cost += _COST_OF_PROJECTING * bits * dimensions
        if cost + quantizer.rescored_min(DEPTHS[0]) * dimensions >= best_cost:
            break
        codes, offset = projection.encode(values, metric, scale, bits, mean)
        needs = [_needs(codes[part.rows], offset, part) for part in parts]
        slack = _slack(needs, bits, is_small=is_small)
        if slack is None:
            continue
        scored = [
            within[:, min(each, bits - 1)]
            for within, each in zip(
                needs[0].within, slack[EFFORTS.index(Effort.STANDARD)], strict=True
            )
        ]
        near, far = (_most(each) for each in scored)
        if is_small and near >= quantizer.RESCORED_MAX:
            continue  # reading so many here and there is slower than all, and finds less
        cost += float(scored[0].mean()) * dimensions
        if cost < best_cost:
            parameters = QuantizerParameters(bits, scale, slack, (near, max(near, far)))
            best, best_cost = BinaryCodes(codes, offset, parameters), cost
    return best


def _parts(values: Floats, row_norms: Floats, metric: Metric) -> Sequence[_Part]:
    random = RandomState(_SEED)  # unlike the newer generators', its stream is frozen
    drawn = random.choice(len(values), min(_DRAWN_TIMES * _PROBES, len(values)), replace=False)
    probes = _probes(values[drawn], row_norms[drawn], metric)
    everything = _Part(
        slice(None),
        ExactIndex(values, row_norms, metric),
        _truth(values, row_norms, metric, probes),
    )
    count = min(len(values) // _THINNED, _THINNED_ROWS_MAX)
    if count < _THINNED_ROWS_MIN:
        return (everything,)
    rows = np.sort(random.choice(len(values), count, replace=False))
    thinned, norms = values[rows], row_norms[rows]
    return (
        everything,
        _Part(rows, ExactIndex(thinned, norms, metric), _truth(thinned, norms, metric, probes)),
    )


def _probes(drawn: Floats, row_norms: Floats, metric: Metric) -> _Probes:
    """Return the first rows that are no copies of earlier ones."""
    with np.errstate(all="ignore"):
        centre = drawn.mean(axis=0) if metric is Metric.EUCLIDEAN else np.zeros_like(drawn[0])
        lifted = drawn - centre
        if metric is Metric.COSINE:
            lifted /= np.fmax(row_norms, _TINY)[:, None]
        spread = np.square(lifted - lifted.mean(axis=0)).sum(axis=1)
        spread /= np.square(lifted).sum(axis=1)
        within = np.fmax(_SAME_ROUNDED, _SAME * np.fmin(spread, 1.0))
    every = _Probes(drawn, centre, within.astype(np.float32))
    is_same = _comparable(drawn, row_norms, every, metric)[1]
    first = np.flatnonzero(~np.tril(is_same, -1).any(axis=1))[:_PROBES]
    return _Probes(drawn[first], centre, every.within[first])


def _truth(values: Floats, row_norms: Floats, metric: Metric, probes: _Probes) -> _Truth:
    deepest, count = max(DEPTHS) + _TIED, len(probes.values)
    rows = np.zeros((count, deepest), np.int64)
    nearest = np.full((count, deepest), np.inf, np.float32)
    same: list[list[int]] = [[] for _ in range(count)]
    for start in range(0, len(values), _CHUNK_ROWS):
        end = min(start + _CHUNK_ROWS, len(values))
        near, is_same = _comparable(values[start:end], row_norms[start:end], probes, metric)
        for probe, row in zip(*(each.tolist() for each in np.nonzero(is_same)), strict=True):
            same[probe].append(start + row)
        both = np.concatenate([nearest, near], axis=1)
        both_rows = np.concatenate(
            [rows, np.broadcast_to(np.arange(start, end), (count, end - start))], axis=1
        )
        kept = np.argpartition(both, deepest - 1, axis=1)[:, :deepest]
        nearest = np.take_along_axis(both, kept, axis=1)
        rows = np.take_along_axis(both_rows, kept, axis=1)
    order = np.argsort(nearest, axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    nearest = np.take_along_axis(nearest, order, axis=1)
    return _Truth(
        probes.values,
        rows,
        nearest,
        [np.array(each, np.int64) for each in same],
        tuple(
            _sample_count(values, row_norms, metric, probes, rows[:, places], nearest[:, places])
            for places in (slice(0, depth, depth // _SAMPLES) for depth in DEPTHS)
        ),
    )


def _comparable(
    rows: Floats, row_norms: Floats, queries: _Probes, metric: Metric
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return ``(queries, rows)`` distances that order rows as the metric does.

    Copies of the query are infinitely far, and told: they are found by any code. So are rows
    whose numbers overflow.
    """
    with np.errstate(all="ignore"):
        if metric is Metric.EUCLIDEAN:
            rows = rows - queries.centre
            row_norms = np.linalg.norm(rows, axis=1)
        centred = queries.values - queries.centre
        dots = np.ascontiguousarray(projection.products(rows, centred).T)
        norms = np.linalg.norm(centred, axis=1)[:, None]
        within = queries.within[:, None]
        if metric is Metric.COSINE:
            distances = -np.divide(dots, row_norms, out=np.zeros_like(dots), where=row_norms > 0)
            is_same = distances <= (within / 2 - 1) * norms
        else:
            distances = np.square(row_norms) - 2 * dots
            is_same = distances <= (within - 1) * np.square(norms)
            if metric is Metric.DOT_PRODUCT:
                distances = -dots
    distances[is_same | np.isnan(distances)] = np.inf
    return distances, is_same


def _sample_count(
    values: Floats,
    row_norms: Floats,
    metric: Metric,
    probes: _Probes,
    rows: NDArray[np.int64],
    distances: Floats,
) -> int:
    """Return how many of ``(p, m)`` neighbours are no copies of the one before, at least 1.

    Copies are as far from a probe as each other, and so next to each other.
    """
    near, found = values[rows], np.isfinite(distances)
    with np.errstate(all="ignore"):
        near -= probes.centre
        if metric is Metric.COSINE:
            near /= np.fmax(row_norms[rows], _TINY)[:, :, None]
        apart = np.square(near[:, 1:] - near[:, :-1]).sum(axis=2)
        is_same = apart <= probes.within[:, None] * np.square(near[:, :-1]).sum(axis=2)
    return max(int(found.sum() - (is_same & found[:, 1:]).sum()), 1)


def _needs(codes: hamming.Bits, offset: Floats, part: _Part) -> _Needs:
    """Search for each probe as `binary.BinaryIndex` does, and note what would have helped.

    `codes` are those of the part.
    """
    exact, truth, bits = part.exact, part.truth, len(offset)
    slack = [np.zeros((len(truth.probes), depth), np.int64) for depth in DEPTHS]
    within = [np.zeros((len(truth.probes), bits), np.int64) for _ in DEPTHS]
    probe_codes = projection.codes_of_queries(truth.probes, exact.metric, offset)
    for place, (probe, code) in enumerate(zip(truth.probes, probe_codes, strict=True)):
        hammings = hamming.distances(codes, code)
        hammings[truth.same[place]] = bits
        counts = np.cumsum(np.bincount(hammings, minlength=2 * bits + 1))
        for depth, needed, reached in zip(DEPTHS, slack, within, strict=True):
            opened_to = int(np.searchsorted(counts, quantizer.rescored_min(depth)))
            opened = np.flatnonzero(hammings <= opened_to)[: quantizer.RESCORED_MAX]
            estimates = exact.estimates(opened, exact.products(probe, opened))
            reach = quantizer.radius(hammings[opened[np.argsort(estimates)[:depth]]])
            near = _as_near_as(depth, truth.distances[place])
            # Of rows that tie with the last, those are wanted that are found first.
            wanted = np.sort(hammings[truth.rows[place, :near]])[:depth]
            missing = np.where(wanted <= opened_to, 0, np.maximum(wanted - reach, 0))
            missing[counts[wanted] > quantizer.RESCORED_MAX] = _NEVER
            needed[place, : len(wanted)] = missing
            upto = np.maximum(np.minimum(reach + np.arange(bits), 2 * bits), opened_to)
            reached[place] = np.minimum(counts[upto], quantizer.RESCORED_MAX)
    return _Needs(tuple(slack), tuple(within), truth.samples)


def _as_near_as(depth: int, distances: Floats) -> int:
    """Return how many rows are as near as the depth-th; what is infinitely far is no row."""
    bound = distances[depth - 1]
    if not np.isfinite(bound):
        return int(np.isfinite(distances[:depth]).sum())
    # A little more, as distances are estimated.
    return int(np.searchsorted(distances, bound + np.float32(1e-5) * np.abs(bound), "right"))


def _slack(
    needs: Sequence[_Needs], bits: int, *, is_small: bool
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None:
    """Return the slack for each of `EFFORTS` that is enough in every part, or None."""
    near, far = (
        [(np.sort(each.slack[depth], axis=None), each.samples[depth]) for each in needs]
        for depth in range(len(DEPTHS))
    )
    if min(np.mean(needed < _NEVER) for needed, _ in near) < RECALL_MIN:
        return None

    def enough(needed: NDArray[np.int64], share: float) -> int:
        place = min(int(np.ceil(share * len(needed))), len(needed)) - 1
        reachable = needed[needed < _NEVER]
        return int(needed[place]) if needed[place] < _NEVER else int(reachable[-1])

    def both(effort: Effort) -> tuple[int, int]:
        share_near, share_far = RECALLS[effort]
        margin = round((_SMALL_MARGINS if is_small else _MARGINS)[effort] * bits)

        def largest(needs: Sequence[tuple[NDArray[np.int64], int]], share: float) -> int:
            # The error is that of the larger depth's share, as a share of 1 has none.
            return max(
                enough(needed, share) + _uncertainty(share_far, samples, bits)
                for needed, samples in needs
            )

        return (
            min(largest(near, share_near) + margin, bits),
            min(largest(far, share_far), bits),
        )

    low, standard, high = (both(each) for each in EFFORTS)
    return low, standard, high


def _most(counts: NDArray[np.int64]) -> int:
    """Return the count that `_MOST` percent of all do not exceed."""
    # Not numpy's percentile, which imports modules that nothing else here needs.
    return int(np.sort(counts)[-(-len(counts) * _MOST // 100) - 1])


def _uncertainty(share: float, samples: int, bits: int) -> int:
    """Return by how many bits a quantile of so few samples may be too small.

    What searches need is distributed about as the difference of two codes' Hamming distances
    is, normally with a variance of ``bits / 2`` or less; and that is known of the error of a
    quantile (Mosteller, On Some Useful Inefficient Statistics, 1946). The error that all
    probes without copies leave is none: margins allow for it.
    """
    normal = NormalDist()
    error = math.sqrt(share * (1 - share)) / normal.pdf(normal.inv_cdf(share))
    lacking = 1 / math.sqrt(samples) - 1 / math.sqrt(_SAMPLES * _PROBES)
    deviations = normal.inv_cdf(_CONFIDENCE) * error * max(lacking, 0.0)
    return round(deviations * math.sqrt(bits / 2))
