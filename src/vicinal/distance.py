"""Distances and scores: the only source of the numbers a client sees.

A *distance* is smaller for nearer vectors in every metric, so that results of many segments merge
without knowing the metric. A *score* is the number on the wire:

    metric        distance           score           sorted by score
    cosine        -cosine            cosine          descending
    euclidean     L2, not squared    the distance    ascending
    dot-product   -dot product       the distance    ascending

(platform docs, best practices for creating indexes). Distances are accumulated in float64
row by row and rounded once to float32, so they depend on nothing but the two vectors:
not on the position of a row, on its batch or on the library that found it. A zero
vector under cosine has score 0 and a cosine is clamped to [-1, 1].
"""

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Floats, Metric

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float64).tiny)


def distances(rows: Floats, query: Floats, metric: Metric) -> Floats:
    """Return the distance of each row to the query.

    Args:
        rows: ``(n, d)`` float32, finite.
        query: ``(d,)`` float32, finite.
        metric: The distance function.

    Returns:
        ``(n,)`` float32, finite: distances beyond float32 are the largest finite value, as
        JSON has no infinity.
    """
    wide_rows = rows.astype(np.float64, order="C")  # sums run along rows in any layout
    wide_query = query.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        exact = np.sqrt(np.square(wide_rows - wide_query).sum(axis=1))
    else:
        exact = -np.vecdot(wide_rows, wide_query)
        if metric is Metric.COSINE:
            exact = _divided_by_norms(exact, wide_rows, wide_query)
    # Not np.clip, which takes as long as the rest for the few rows that are rescored.
    bounded: Floats = np.minimum(np.maximum(exact, -_FLOAT32_MAX), _FLOAT32_MAX).astype(np.float32)
    # Adding 0.0 turns -0.0 into 0.0, which would otherwise show on the wire.
    bounded += np.float32(0.0)
    return bounded


def score(distance: float, metric: Metric) -> float:
    """Return the score on the wire for a distance."""
    return 0.0 - distance if metric is Metric.COSINE else distance


def _divided_by_norms(
    negative_dots: NDArray[np.float64], rows: NDArray[np.float64], query: NDArray[np.float64]
) -> NDArray[np.float64]:
    norms = np.sqrt(np.vecdot(rows, rows)) * np.sqrt(np.vecdot(query, query))
    if not norms.all():
        negative_dots, norms = np.where(norms > 0.0, negative_dots, 0.0), np.maximum(norms, _TINY)
    clamped: NDArray[np.float64] = np.minimum(np.maximum(negative_dots / norms, -1.0), 1.0)
    return clamped
