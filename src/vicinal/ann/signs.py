"""Sign codes: one bit a direction, compared by Hamming distance, for segments.

Rows and queries are lifted so that the angle between them orders rows as the metric does:

    cosine        v / |v|
    dot-product   (v / s, sqrt(1 - |v|^2 / s^2)) with s the largest norm; a query (q / |q|, 0)
    euclidean     v

Then the mean is taken off, and the signs of the projections on random orthogonal
directions are the code (Charikar, Similarity Estimation Techniques from Rounding
Algorithms, 2002; orthogonal directions make the estimate steadier). The Hamming distance
of two codes estimates the angle; the nearest few hundred codes are proposed, to be
measured exactly. Directions depend on nothing but the number of dimensions, so all
segments share them, and a query is projected once for all of them.

How many candidates it takes depends on the data, and there are data that no number of
bits orders well. So building *measures*: rows of the segment serve as queries, the exact
answer is computed, and the cheapest code that reaches `RECALL` is kept, with the number
of candidates it took. When none does, there is no index and the segment is searched
exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from vicinal.model import Effort, Floats, Mask, Metric, Ordinals

Bits = NDArray[np.uint8]

ROWS_MIN = 4_000
"""Below this many rows exact search is as fast (benchmarks/ann_kinds.py)."""

RECALL = 0.999
"""Mean recall at which a number of candidates is enough."""

BITS = (512, 1024, 2048)
"""Code lengths tried. Powers of two have the fastest comparison in faiss."""

CANDIDATES_MAX = 3_200
"""More candidates than this cost more than longer codes."""

RECALL_MIN = 0.99
"""Below this mean recall with `CANDIDATES_MAX` of the longest codes there is no index."""

_STEPS = tuple(int(100 * 2 ** (step / 2)) for step in range(11))  # 100 to CANDIDATES_MAX
_DEPTHS = (10, 100)  # the k for which candidates are counted
_EFFORTS = {Effort.LOW: 0.25, Effort.STANDARD: 1.0, Effort.HIGH: 4.0}
_FILTERED = 2  # times as many candidates where a filter leaves out what lies nearest
_SMALL_ROWS = 50_000
_PROBES = 64
_SAME = 1e-5  # relative difference below which two rows are one
_MEAN_ROWS_MAX = 50_000
_CHUNK_ROWS = 16_384
_SEED = 20_240_521
_ROTATED_TOGETHER = 64
_ROTATION_ROUNDS = 3
# What comparing 512 bits, and projecting a dimension of the query on a direction, cost in
# dimensions of a candidate that are measured (benchmarks/ann_kinds.py).
_COST_OF_512_BITS = 5.3
_COST_OF_PROJECTING = 0.18


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was found to be enough for some rows, and is tried on others like them.

    `scale` is the s of the dot-product's lift (1 otherwise), `candidates` how many to
    propose for k of 10 and of 100.
    """

    bits: int
    scale: float
    candidates: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SignCodes:
    """What is stored of a sign index.

    `codes` is ``(n, bits / 8)`` uint8, `offset` the projected mean ``(bits,)`` float32.
    """

    codes: Bits
    offset: Floats
    recipe: Recipe

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store; `of` takes them back."""
        return {
            "codes": self.codes,
            "offset": self.offset,
            "scale": np.array([self.recipe.scale], np.float64),
            "candidates": np.array(self.recipe.candidates, np.int64),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Make codes from stored arrays."""
        near, far = arrays["candidates"].tolist()
        recipe = Recipe(len(arrays["offset"]), float(arrays["scale"][0]), (near, far))
        return cls(arrays["codes"], arrays["offset"], recipe)


class SignIndex:
    """Proposes rows by their sign codes; implements `ann.base.AnnIndex`."""

    def __init__(self, codes: SignCodes, metric: Metric) -> None:
        self._codes = codes.codes
        self._offset = codes.offset
        self._metric = metric
        self._candidates = codes.recipe.candidates

    def candidate_count(
        self, k: int, effort: Effort = Effort.STANDARD, *, is_filtered: bool = False
    ) -> int:
        """Return how many candidates hold the `k` nearest rows, or allowed rows."""
        near, far = self._candidates
        count = float(near)
        if k > _DEPTHS[0]:
            # Straight on a doubly logarithmic scale through the two that were measured.
            slope = np.log(far / near) / np.log(_DEPTHS[1] / _DEPTHS[0])
            count = near * (k / _DEPTHS[0]) ** max(slope, 0.0)
        return max(k, int(count * _EFFORTS[effort] * (_FILTERED if is_filtered else 1)))

    def candidates(
        self,
        query: Floats,
        k: int,
        allowed: Mask | None,
        effort: Effort = Effort.STANDARD,
    ) -> Ordinals:
        """See `ann.base.AnnIndex`; effort multiplies the number of candidates."""
        selector = None
        if allowed is not None:
            packed = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(packed))
        count = self.candidate_count(k, effort, is_filtered=allowed is not None)
        return _nearest_codes(self._codes, self._encode(query), count, selector)

    def candidates_among(
        self, query: Floats, k: int, rows: Ordinals, effort: Effort = Effort.STANDARD
    ) -> Ordinals:
        """The same over these distinct rows only; cost grows with ``len(rows)``."""
        count = self.candidate_count(k, effort, is_filtered=True)
        if len(rows) <= count:
            return rows
        return rows[_nearest_codes(self._codes[rows], self._encode(query), count)]

    def _encode(self, query: Floats) -> Bits:
        projected = _projected_query(query.tobytes(), self._metric, len(self._offset))
        return np.packbits(projected > self._offset)


def build(values: Floats, row_norms: Floats, metric: Metric) -> SignCodes | None:
    """Return the cheapest codes that are good enough for these rows, or None.

    Args:
        values: ``(n, d)`` float32; may be memory-mapped, and is read a few times over.
        row_norms: ``(n,)`` float32, as `exact.norms` gives them.
        metric: How rows are measured.
    """
    row_count, dimensions = values.shape
    scale = float(row_norms.max()) if metric is Metric.DOT_PRODUCT else 1.0
    if row_count < ROWS_MIN or scale == 0.0 or not np.isfinite(scale):
        return None
    probes = _probes(values)
    bounds = _bounds(values, row_norms, metric, probes)
    best: SignCodes | None = None
    best_cost = float(row_count * dimensions)  # of measuring every row
    for bits in BITS:
        cost = row_count * _COST_OF_512_BITS * bits / 512
        cost += _COST_OF_PROJECTING * bits * dimensions
        if cost >= best_cost:
            break
        codes, offset = encode(values, metric, scale, bits)
        counts = _enough(codes, offset, values, row_norms, metric, probes, bounds)
        if counts is not None and cost + counts[0] * dimensions < best_cost:
            best_cost = cost + counts[0] * dimensions
            best = SignCodes(codes, offset, Recipe(bits, scale, counts))
    return best


def by_recipe(values: Floats, metric: Metric, recipe: Recipe) -> SignCodes:
    """Return codes by a recipe found for rows like these: ten times as fast as `build`."""
    codes, offset = encode(values, metric, recipe.scale, recipe.bits)
    return SignCodes(codes, offset, recipe)


class GrowingSigns:
    """Codes of rows that keep coming, by a recipe found for earlier ones. One writer.

    Args:
        recipe: Of a segment of the same index.
        metric: How rows are measured.
        values: The first rows, ``(n, d)``, whose mean is taken off all.
    """

    def __init__(self, recipe: Recipe, metric: Metric, values: Floats) -> None:
        self._recipe = recipe
        self._metric = metric
        self._codes, self._offset = encode(values, metric, recipe.scale, recipe.bits)
        self._count = len(values)

    def extend(self, values: Floats) -> None:
        """Append the codes of more rows."""
        end = self._count + len(values)
        if end > len(self._codes):
            # Readers keep the old array: the rows they may see never change in it.
            grown = np.empty((2 * end, self._codes.shape[1]), np.uint8)
            grown[: self._count] = self._codes[: self._count]
            self._codes = grown
        self._codes[self._count : end] = _codes(
            values, self._metric, self._recipe.scale, self._offset
        )
        self._count = end

    def index(self, row_count: int) -> SignIndex:
        """Return an index of the first `row_count` rows."""
        codes = SignCodes(self._codes[:row_count], self._offset, self._recipe)
        return SignIndex(codes, self._metric)


def _probes(values: Floats) -> Floats:
    """Return rows that serve as queries, ``(probes, d)``.

    A query to come is like a row, but is not one: `_comparable` hides a probe's duplicates.
    """
    random = np.random.RandomState(_SEED)  # its stream is frozen, unlike the newer generators'
    rows = np.sort(random.choice(len(values), _PROBES, replace=False))
    return np.ascontiguousarray(values[rows])


def _bounds(values: Floats, row_norms: Floats, metric: Metric, probes: Floats) -> Floats:
    """Return how near the k-th nearest row of each probe is, ``(probes, depths)``."""
    deepest = max(_DEPTHS)
    nearest = np.full((deepest, len(probes)), np.inf, np.float32)
    for start in range(0, len(values), _CHUNK_ROWS):
        end = start + _CHUNK_ROWS
        near = _comparable(values[start:end], row_norms[start:end], probes, metric)
        nearest = np.partition(np.concatenate([nearest, near]), deepest - 1, axis=0)[:deepest]
    bounds: Floats = np.sort(nearest, axis=0)[[depth - 1 for depth in _DEPTHS]].T
    # A little slack, as candidates are measured again one by one.
    bounds += np.float32(1e-5) * np.abs(bounds)
    return bounds


def _enough(
    codes: Bits,
    offset: Floats,
    values: Floats,
    row_norms: Floats,
    metric: Metric,
    probes: Floats,
    bounds: Floats,
) -> tuple[int, int] | None:
    """Return how many candidates reach `RECALL` at each depth, or None if none does."""
    hits = np.zeros((len(_DEPTHS), len(_STEPS)))
    for probe, bound in zip(probes, bounds, strict=True):
        code = np.packbits(_projected_query(probe.tobytes(), metric, len(offset)) > offset)
        rows = _nearest_codes(codes, code, CANDIDATES_MAX)
        near = _comparable(values[rows], row_norms[rows], probe[None, :], metric)[:, 0]
        for depth, each in enumerate(bound):
            # Rows that tie with the k-th nearest are as good as it.
            found = np.cumsum(near <= each)
            at = np.minimum(np.array(_STEPS), len(found)) - 1
            hits[depth] += np.minimum(found[at], _DEPTHS[depth])
    recalls = hits / (len(probes) * np.array(_DEPTHS)[:, None])
    if recalls[0, -1] < RECALL_MIN:
        return None
    # More than was enough here, for queries harder than the rows themselves; where it is
    # cheap, so many more that hardly a neighbour is ever missed.
    margin = 2 if len(codes) <= _SMALL_ROWS else 1
    near_step, far_step = (
        min(int(np.argmax(each >= min(RECALL, float(each[-1])))) + margin, len(_STEPS) - 1)
        for each in recalls
    )
    return _STEPS[near_step], _STEPS[max(near_step, far_step)]


def _comparable(rows: Floats, row_norms: Floats, queries: Floats, metric: Metric) -> Floats:
    """Return ``(rows, queries)`` numbers that order rows as the metric does.

    Rows that are the same as the query get infinity: they are found by any code.
    """
    row_norms = row_norms[:, None]
    # Numbers that overflow compare as not near, so such rows count as not found.
    with np.errstate(over="ignore", invalid="ignore"):
        dots = _products(rows, queries)
        query_norms = np.linalg.norm(queries, axis=1)[None, :]
        if metric is Metric.DOT_PRODUCT:
            distances = -dots
        elif metric is Metric.EUCLIDEAN:
            distances = np.square(row_norms) - 2 * dots
        else:
            distances = -np.divide(dots, row_norms, out=np.zeros_like(dots), where=row_norms > 0)
        is_same = dots >= (1 - _SAME) * np.square(query_norms)
        is_same &= np.abs(row_norms - query_norms) <= _SAME * query_norms
    distances[is_same] = np.inf
    return distances


def encode(values: Floats, metric: Metric, scale: float, bits: int) -> tuple[Bits, Floats]:
    """Return the codes of rows, and the projected mean that was taken off.

    Args:
        values: ``(n, d)`` float32.
        metric: How rows are measured.
        scale: The largest norm for dot-product, 1 otherwise.
        bits: A multiple of 8.
    """
    step = -(-len(values) // _MEAN_ROWS_MAX)
    mean = _lifted(values[::step], metric, scale).mean(axis=0, dtype=np.float64)
    directions = _directions(len(mean), bits)
    with np.errstate(over="ignore", invalid="ignore"):
        offset = directions @ mean.astype(np.float32)
    codes = np.empty((len(values), bits // 8), np.uint8)
    for start in range(0, len(values), _CHUNK_ROWS):
        end = start + _CHUNK_ROWS
        codes[start:end] = _codes(values[start:end], metric, scale, offset)
    return codes, offset


def _codes(values: Floats, metric: Metric, scale: float, offset: Floats) -> Bits:
    lifted = _lifted(values, metric, scale)
    projected = _products(lifted, _directions(lifted.shape[1], len(offset)))
    with np.errstate(invalid="ignore"):  # rows that overflow get some code or other
        return np.packbits(projected > offset, axis=1)


def _lifted(rows: Floats, metric: Metric, scale: float) -> Floats:
    if metric is Metric.EUCLIDEAN:
        return rows
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if metric is Metric.COSINE:
            unit: Floats = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
            return unit
        heights = np.sqrt(np.maximum(1.0 - np.square(norms / scale), 0.0))
    lifted: Floats = np.concatenate([rows / scale, heights], axis=1, dtype=np.float32)
    return lifted


@lru_cache(maxsize=64)
def _projected_query(query: bytes, metric: Metric, bits: int) -> Floats:
    """Project a query, ``(bits,)``; kept, as every segment of an index asks for the same."""
    lifted = np.frombuffer(query, np.float32)
    if metric is not Metric.EUCLIDEAN:
        norm = np.linalg.norm(lifted.astype(np.float64))
        lifted = (lifted / norm).astype(np.float32) if norm > 0 else lifted
    if metric is Metric.DOT_PRODUCT:
        lifted = np.append(lifted, np.float32(0.0))
    projected = np.empty(bits, np.float32)
    faiss.fvec_inner_products_ny(
        faiss.swig_ptr(projected),
        faiss.swig_ptr(lifted),
        faiss.swig_ptr(_directions(len(lifted), bits)),
        len(lifted),
        bits,
    )
    return projected


def _products(rows: Floats, others: Floats) -> Floats:
    """Return ``rows @ others.T``, on this thread alone.

    numpy would hand it to a thread on every core, which takes them from searches and then
    spins for a while; faiss keeps to the threads that it was allowed.
    """
    transform = faiss.LinearTransform(others.shape[1], len(others), False)
    faiss.copy_array_to_vector(others.ravel(), transform.A)
    transform.is_trained = True
    products: Floats = transform.apply(rows)
    return products


@lru_cache(maxsize=16)
def _directions(dimensions: int, bits: int) -> Floats:
    """Return random directions ``(bits, dimensions)``, orthogonal in blocks.

    The same on every machine: the stream of random numbers is frozen, and a QR
    decomposition with a positive diagonal is unique.
    """
    random = np.random.RandomState(_SEED)
    blocks = [_rotation(dimensions, random) for _ in range(-(-bits // dimensions))]
    return np.ascontiguousarray(np.concatenate(blocks)[:bits], np.float32)


def _rotation(dimensions: int, random: np.random.RandomState) -> NDArray[np.float64]:
    """Return a random rotation ``(dimensions, dimensions)``.

    Small rotations of a few dimensions each, shuffled in between, mix all of them after a
    few rounds: as good as one large rotation, and made in milliseconds instead of a second.
    """
    rotation = np.eye(dimensions)
    for _ in range(_ROTATION_ROUNDS):
        rotation = rotation[random.permutation(dimensions)]
        for start in range(0, dimensions, _ROTATED_TOGETHER):
            part = rotation[start : start + _ROTATED_TOGETHER]
            q, r = np.linalg.qr(random.standard_normal((len(part), len(part))))
            rotation[start : start + len(part)] = (q * np.sign(np.diag(r))).T @ part
    return rotation


def _nearest_codes(codes: Bits, code: Bits, count: int, selector: object = None) -> Ordinals:
    """Return the rows whose codes are nearest, nearest first."""
    count = min(count, len(codes))
    distances = np.empty(count, np.int32)
    rows = np.empty(count, np.int64)
    faiss.hammings_knn_mc(
        faiss.swig_ptr(code),
        faiss.swig_ptr(codes),
        1,
        len(codes),
        count,
        codes.shape[1],
        faiss.swig_ptr(distances),
        faiss.swig_ptr(rows),
        selector,
    )
    found: Ordinals = rows[rows >= 0]
    return found
