"""A map by neighbours: each vector is drawn to those nearest to it and kept away from others.

Principal axes show what is far apart, but lay groups over each other that differ in a third
direction. This layout looks only at who is near to whom, as UMAP's does (McInnes, Healy and
Melville, 2018), of which it is the plain middle:

1. find the k nearest of every vector, exactly;
2. weigh these edges: 1 for the nearest, less the farther away, by the vector's own scale;
3. begin at the positions along the principal axes;
4. in each round pull the ends of some edges together, chosen by their weights, and push every
   vector away from a few others, chosen at random; both by less in each round.

Only closeness means something in the result: neither its axes nor the width of a gap do. The same
vectors give the same map.
"""

import numpy as np
from numpy.typing import NDArray

from vicinal import interruption
from vicinal.model import Floats, Ordinals

NEIGHBORS = 15  # UMAP's default
ROUNDS = 200
PUSHES = 5  # vectors that one is pushed away from in a round, for each that it is drawn to; UMAP's
_A, _B = 1.577, 0.895  # UMAP's curve of forces where points come as near as 0.1
_FORCE_MAX = 4.0
_WIDTH = 10.0  # of the beginning
_BLOCK_ROWS = 512

Wide = NDArray[np.float64]


def nearest(rows: Floats, count: int) -> tuple[Ordinals, Floats]:
    """Return the `count` nearest other rows of every row, and their distances, nearest first.

    Args:
        rows: ``(n, d)`` as `axes.comparable` returns them, n greater than `count`.
        count: At least 1.
    """
    scale = np.float32(np.abs(rows).max(initial=0.0) or 1.0)
    scaled = rows / scale
    squares = np.square(scaled).sum(axis=1)
    neighbors = np.empty((len(rows), count), np.int64)
    gaps = np.empty((len(rows), count), np.float32)
    for first in interruption.parts(range(0, len(rows), _BLOCK_ROWS)):
        block = scaled[first : first + _BLOCK_ROWS]
        squared = squares[first : first + len(block), None] + squares - 2.0 * (block @ scaled.T)
        squared[np.arange(len(block)), first + np.arange(len(block))] = np.inf
        some = np.argpartition(squared, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(squared, some, axis=1)
        order = np.argsort(values, axis=1, kind="stable")
        neighbors[first : first + len(block)] = np.take_along_axis(some, order, axis=1)
        gaps[first : first + len(block)] = np.sqrt(
            np.maximum(np.take_along_axis(values, order, axis=1), 0.0)
        )
    return neighbors, gaps


def layout(positions: Floats, neighbors: Ordinals, gaps: Floats) -> Floats:
    """Return the positions ``(n, 2)`` of a map by neighbours, which begins with `positions`."""
    count, degree = neighbors.shape
    heads, ends = np.repeat(np.arange(count), degree), neighbors.ravel()
    weights = _weights(gaps).ravel()
    random = np.random.default_rng(0)
    width = float(np.abs(positions).max(initial=0.0)) or 1.0
    points: Wide = positions.astype(np.float64) * (_WIDTH / width)
    points += random.normal(0.0, 1e-3, points.shape)  # vectors that are equal have to part
    for number in interruption.parts(range(ROUNDS)):
        rate = 1.0 - number / ROUNDS
        chosen = random.random(len(weights)) < weights
        pulled = _pulled(points, heads[chosen], ends[chosen])
        pushed = _pushed(points, random.integers(0, count, (PUSHES, count)))
        points += rate * (pulled + pushed)
    finite: Floats = points.astype(np.float32)
    return finite


def between(positions: Floats, gaps: Floats) -> Floats:
    """Return the place ``(2,)`` of a vector among others: near those that it is nearest to.

    Args:
        positions: ``(k, 2)``, of its nearest.
        gaps: ``(k,)``, how far these are.
    """
    weights = 1.0 / (gaps.astype(np.float64) + 1e-6 + 0.01 * float(gaps.max(initial=0.0)))
    middle: Floats = np.average(positions, axis=0, weights=weights).astype(np.float32)
    return middle


def _weights(gaps: Floats) -> Floats:
    least = gaps[:, :1]
    scale = np.maximum((gaps - least).mean(axis=1, keepdims=True), np.float32(1e-9))
    weights: Floats = np.exp(-(gaps - least) / scale)
    return weights


def _pulled(points: Wide, heads: Ordinals, ends: Ordinals) -> Wide:
    """Return how far edges move their ends: of several edges of a point the mean."""
    apart = points[heads] - points[ends]
    squared = np.square(apart).sum(axis=1) + 1e-9
    strength = (-2.0 * _A * _B * squared ** (_B - 1.0)) / (1.0 + _A * squared**_B)
    force = np.clip(strength[:, None] * apart, -_FORCE_MAX, _FORCE_MAX)
    moved = np.empty_like(points)
    degrees = np.bincount(heads, minlength=len(points)) + np.bincount(ends, minlength=len(points))
    for axis in range(2):
        ahead = np.bincount(heads, force[:, axis], len(points))
        moved[:, axis] = ahead - np.bincount(ends, force[:, axis], len(points))
    average: Wide = moved / np.maximum(degrees, 1)[:, None]
    return average


def _pushed(points: Wide, others: Ordinals) -> Wide:
    """Return how far points are moved by others, whose numbers are the columns of `others`."""
    moved = np.zeros_like(points)
    for numbers in others:
        apart = points - points[numbers]
        squared = np.square(apart).sum(axis=1)
        strength = 2.0 * _B / ((0.001 + squared) * (1.0 + _A * squared**_B))
        moved += np.clip(strength[:, None] * apart, -_FORCE_MAX, _FORCE_MAX)
    return moved
