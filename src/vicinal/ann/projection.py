"""Binary codes: one bit per direction, whose Hamming distance estimates an angle.

Rows and queries are lifted so that the angle between them orders rows as the metric does:

    cosine        v / |v|
    dot-product   (v / s, sqrt(1 - |v|^2 / s^2)) with s the largest norm; a query (q / |q|, 0)
    euclidean     v

Then the mean is taken off, and the signs of the projections on random orthogonal
directions are the code (Charikar, Similarity Estimation Techniques from Rounding
Algorithms, 2002; orthogonal directions make the estimate steadier). Directions depend on
nothing but the number of dimensions, so all segments share them, and a query is projected
once for all of them.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.random import RandomState

from vicinal import interruption
from vicinal.ann.hamming import Bits
from vicinal.model import Floats, Metric
from vicinal.native.library import library
from vicinal.native.library import projection as native_projection

_MEAN_ROWS_MAX = 50_000
_MEAN_NUMBERS = 1 << 17
_CHUNK_ROWS = 16_384
_ENCODED_ROWS = 1 << 17  # in one call: about a tenth of a second
SEED = 20_240_521
_ROUNDS = 3


def encode(
    values: Floats, metric: Metric, scale: float, bits: int, mean: Floats | None = None
) -> tuple[Bits, Floats]:
    """Return the codes of rows, and the projected mean that was taken off.

    Args:
        values: ``(n, d)`` float32.
        metric: How rows are measured.
        scale: The largest norm for dot-product, 1 otherwise.
        bits: A multiple of 8.
        mean: The mean of these rows (`mean_of`), if it is known.

    Returns:
        ``(n, bits / 8)`` and ``(bits,)``; `codes_of` continues with the latter.
    """
    if mean is None:
        mean = mean_of(values, metric, scale)
    offset = _mixed(mean[None, :], bits)[0]
    return codes_of(values, metric, scale, offset), offset


def mean_of(values: Floats, metric: Metric, scale: float) -> Floats:
    """Return the mean of rows as they are projected, or of as many as tell, float32."""
    values = values[:: -(-len(values) // _MEAN_ROWS_MAX)]
    # A few at a time: copies of all rows would be a hundred megabytes to clear and to write.
    at_once = max(_MEAN_NUMBERS // values.shape[1], 1)
    total = sum(
        _lifted(values[start : start + at_once], metric, scale).sum(axis=0, dtype=np.float64)
        for start in range(0, len(values), at_once)
    )
    mean: Floats = (total / len(values)).astype(np.float32)
    return mean


def codes_of(values: Floats, metric: Metric, scale: float, offset: Floats) -> Bits:
    """Return the codes of more rows, with the mean of earlier ones taken off."""
    codes = np.empty((len(values), len(offset) // 8), np.uint8)
    built = library()
    if built is not None:
        flips = flips_for(values.shape[1], metric, len(offset))
        offset = np.ascontiguousarray(offset, np.float32)
        structure = native_projection(flips, offset, values.shape[1], metric, scale)
        for start in interruption.parts(range(0, len(values), _ENCODED_ROWS)):
            end = start + _ENCODED_ROWS
            codes[start:end] = built.encode(structure, values[start:end])
        return codes
    for start in interruption.parts(range(0, len(values), _CHUNK_ROWS)):
        lifted = _lifted(values[start : start + _CHUNK_ROWS], metric, scale)
        projected = products(lifted, _directions(lifted.shape[1], len(offset)))
        with np.errstate(invalid="ignore"):  # rows that overflow get some code or other
            codes[start : start + _CHUNK_ROWS] = np.packbits(projected > offset, axis=1)
    return codes


def code_of_query(query: Floats, metric: Metric, offset: Floats) -> Bits:
    """Return the code of a query, ``(bits / 8,)``."""
    return np.packbits(_projected_query(query.tobytes(), metric, len(offset)) > offset)


def codes_of_queries(queries: Floats, metric: Metric, offset: Floats) -> Bits:
    """Return the codes of queries ``(q, d)`` that are asked once, ``(q, bits / 8)``."""
    if metric is not Metric.DOT_PRODUCT:  # where queries are lifted as rows are
        return codes_of(queries, metric, 1.0, offset)
    projected = [_project(query, metric, len(offset)) for query in queries]
    return np.packbits(np.stack(projected) > offset, axis=1)


def flips_for(dimensions: int, metric: Metric, bits: int) -> Floats:
    """Return the random signs of `_mixed` for queries, ``(rounds, blocks, length)``."""
    return _Transform.of(dimensions + (metric is Metric.DOT_PRODUCT), bits).flips


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
    return _project(np.frombuffer(query, np.float32), metric, bits)


def _project(query: Floats, metric: Metric, bits: int) -> Floats:
    lifted = query
    if metric is not Metric.EUCLIDEAN:
        wide = lifted.astype(np.float64)
        norm = math.sqrt(wide @ wide)
        lifted = (wide / norm).astype(np.float32) if norm > 0 else lifted
    if metric is Metric.DOT_PRODUCT:
        lifted = np.append(lifted, np.float32(0.0))
    projected: Floats = _mixed(lifted[None, :], bits)[0]
    return projected


def products(rows: Floats, others: Floats) -> Floats:
    """Return ``rows @ others.T``; on this thread alone where there is a library.

    numpy hands it to a thread on every core, which takes them from searches.
    """
    built = library()
    if built is not None:
        return built.products(rows, others)
    with np.errstate(over="ignore", invalid="ignore"):
        return cast(Floats, rows @ others.T)


@lru_cache(maxsize=16)
def _directions(dimensions: int, bits: int) -> Floats:
    """Return the random directions ``(bits, dimensions)``, orthogonal in blocks."""
    return np.ascontiguousarray(_mixed(np.eye(dimensions, dtype=np.float32), bits).T)


def _mixed(rows: Floats, bits: int) -> Floats:
    """Project rows ``(n, d)`` on the random directions, ``(n, bits)``.

    A block of directions is `_ROUNDS` times a change of random signs and a Hadamard
    transform: as good as a random rotation (Ailon and Chazelle, The Fast Johnson-
    Lindenstrauss Transform, 2009), in a few microseconds where a matrix would have to be
    read from memory.
    """
    transform = _Transform.of(rows.shape[1], bits)
    left, right = transform.left, transform.right
    padded = np.zeros((len(rows), 1, len(left) * len(right)), np.float32)
    padded[:, 0, : rows.shape[1]] = rows
    mixed: Floats = padded
    with np.errstate(over="ignore", invalid="ignore"):
        for flips in transform.flips:
            turned = (mixed * flips).reshape(len(rows), -1, len(left), len(right))
            mixed = (left @ turned @ right).reshape(len(rows), -1, padded.shape[2])
    return mixed.reshape(len(rows), -1)[:, :bits]


@dataclass(frozen=True, slots=True)
class _Transform:
    """The matrices and signs that `_mixed` multiplies with.

    A Hadamard transform of a length of ``a * b`` is one of ``a`` over the columns and one
    of ``b`` over the rows of an ``(a, b)`` array: `left` and `right`. `flips` is
    ``(rounds, blocks, a * b)``, the same on every machine.
    """

    left: Floats
    right: Floats
    flips: Floats

    @staticmethod
    @lru_cache(maxsize=16)
    def of(dimensions: int, bits: int) -> "_Transform":
        """Return the transform of rows of `dimensions` to `bits`."""
        exponent = max(dimensions - 1, 1).bit_length()
        length = 1 << exponent
        random = RandomState(SEED)  # unlike newer generators', its stream is frozen
        flips = random.randint(0, 2, (_ROUNDS, -(-bits // length), length)) * 2 - 1
        left, right = _hadamard(exponent // 2), _hadamard(exponent - exponent // 2)
        return _Transform(left, right, flips.astype(np.float32))


def _hadamard(exponent: int) -> Floats:
    """Return the orthonormal Hadamard matrix of ``2 ** exponent`` rows."""
    matrix = np.ones((1, 1))
    for _ in range(exponent):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    scaled: Floats = (matrix / np.sqrt(len(matrix))).astype(np.float32)
    return scaled
