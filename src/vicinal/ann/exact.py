"""Exact search: measure every allowed row in float32, keep all that can be among the k nearest.

A float32 dot product of d terms is off by at most about ``d * 2**-24`` times the product
of the norms (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). So each
row gets an interval that holds its true distance, and a row is dropped only when k other
intervals lie wholly below its own. What is left, mostly k rows and a few, is for
`vicinal.distance` to measure; no tie is ever cut here.

Distances on this page are monotone in the true ones, not equal to them: euclidean stays
squared and cosine keeps the query's norm.
"""

from typing import cast

import faiss
import numpy as np
from numpy.typing import NDArray

from vicinal.model import Floats, Mask, Metric, Ordinals

_TINY = float(np.finfo(np.float32).tiny)


def norms(rows: Floats) -> Floats:
    """Return the euclidean norm of each row, ``(n,)`` float32."""
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    with np.errstate(over="ignore"):
        return cast(Floats, np.sqrt(squares).astype(np.float32))


class ExactIndex:
    """Exact search over rows that stay where they are.

    Args:
        values: ``(n, d)`` float32, C-contiguous; may be memory-mapped.
        row_norms: ``(n,)`` float32, as `norms` gives them.
        metric: How to measure.
    """

    def __init__(self, values: Floats, row_norms: Floats, metric: Metric) -> None:
        self._values = values
        self._norms = row_norms
        self._metric = metric

    def candidates(self, query: Floats, k: int, allowed: Mask | None) -> Ordinals:
        """See `ann.base.AnnIndex`. Includes every row that may tie with the k-th."""
        count, dimensions = self._values.shape
        estimates = np.empty(count, np.float32)
        function = (
            faiss.fvec_L2sqr_ny
            if self._metric is Metric.EUCLIDEAN
            else faiss.fvec_inner_products_ny
        )
        function(
            faiss.swig_ptr(estimates),
            faiss.swig_ptr(query),
            faiss.swig_ptr(self._values),
            dimensions,
            count,
        )
        if allowed is None:
            return self._nearest(estimates, self._norms, query, k)
        rows = np.flatnonzero(allowed)
        return rows[self._nearest(estimates[rows], self._norms[rows], query, k)]

    def candidates_among(self, query: Floats, k: int, rows: Ordinals) -> Ordinals:
        """The same over these distinct rows only; cost grows with ``len(rows)``."""
        rows = np.ascontiguousarray(rows, np.int64)
        estimates = np.empty(len(rows), np.float32)
        function = (
            faiss.fvec_L2sqr_by_idx
            if self._metric is Metric.EUCLIDEAN
            else faiss.fvec_inner_products_by_idx
        )
        function(
            faiss.swig_ptr(estimates),
            faiss.swig_ptr(query),
            faiss.swig_ptr(self._values),
            faiss.swig_ptr(rows),
            len(query),
            1,
            len(rows),
        )
        return rows[self._nearest(estimates, self._norms[rows], query, k)]

    def _nearest(self, estimates: Floats, row_norms: Floats, query: Floats, k: int) -> Ordinals:
        """Return the positions whose interval is not wholly above k others."""
        if len(estimates) <= k:
            return np.arange(len(estimates))
        lower, upper = self._intervals(estimates, row_norms, query)
        bound = np.partition(upper, k - 1)[k - 1]
        return np.flatnonzero(lower <= bound)

    def _intervals(
        self, estimates: Floats, row_norms: Floats, query: Floats
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return bounds of the distances; estimates that overflowed get the whole line."""
        relative = np.float32((len(query) + 8) * 2.0**-23)  # twice the bound: sums may be fused
        # Terms below float32's normal range may round to nothing.
        absolute = np.float32(len(query) * _TINY)
        with np.errstate(all="ignore"):
            if self._metric is Metric.EUCLIDEAN:
                distances, slack = estimates, relative * estimates + absolute
            else:
                size = np.float32(np.linalg.norm(query.astype(np.float64)))
                distances = -estimates
                slack = relative * size * row_norms + absolute
                if self._metric is Metric.COSINE:
                    scale = np.divide(
                        np.float32(1.0),
                        row_norms,
                        out=np.zeros_like(row_norms),
                        where=row_norms > 0,
                    )
                    distances, slack = distances * scale, slack * scale
            lower, upper = distances - slack, distances + slack
        unknown = ~(np.isfinite(lower) & np.isfinite(upper))
        if unknown.any():
            lower[unknown], upper[unknown] = -np.inf, np.inf
        return lower, upper
