"""Exact search: score every selected row in float32, keep all that can be among the k nearest.

A float32 dot product of d terms is off by at most about ``d * 2**-24`` times the product
of the norms (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). So each
row gets an interval that holds its true distance, and a row is dropped only when k other
intervals lie wholly below its own. `vicinal.distance` measures the rows that are left, mostly k
and a few; no tie is ever cut here.

Distances on this page are *estimates*: monotone in the true ones, not equal to them.
Euclidean stays squared and cosine keeps the query's norm.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vicinal.ann.base import Candidates, Selection
from vicinal.model import Effort, Floats, Metric, Ordinals
from vicinal.native.library import library
from vicinal.prepared import Prepared

SCAN, LIST = "exact scan", "exact over the selected rows"
"""The methods of explanations."""

_TINY = float(np.finfo(np.float32).tiny)
_PRODUCT_MAX = float(np.finfo(np.float32).max) / 2  # whose sums do not overflow on the way
_CHUNK_ROWS = 256  # whose values stay in a core's cache


def norms(rows: Floats) -> Floats:
    """Return the euclidean norm of each row, ``(n,)`` float32."""
    built = library()
    if built is not None:
        return built.norms(rows)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    with np.errstate(over="ignore"):
        return cast(Floats, np.sqrt(squares).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of the file that values are mapped from, which are verified one by one.

    Attributes:
        verified: Whether each block is verified; another thread may set it.
        size: Of a block, in bytes.
        start: The byte of the file at which the values begin.
    """

    verified: NDArray[np.bool_]
    size: int
    start: int


class ExactIndex:
    """Exact search over rows that stay where they are.

    Args:
        values: ``(n, d)`` float32, C-contiguous; may be memory-mapped.
        row_norms: ``(n,)`` float32, as `norms` gives them.
        verify: Called with the rows (None: all) before their values are read, until it returns
            that all are verified; what it raises is passed on.
        blocks: Tell which rows need not be verified any more.

    Attributes:
        is_verified: Whether all values may be read without `verify`.
    """

    def __init__(
        self,
        values: Floats,
        row_norms: Floats,
        metric: Metric,
        verify: Callable[[Ordinals | None], bool] | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        self.metric = metric
        self.values = values
        self._values_at = values.ctypes.data
        self.norms = row_norms
        self.row_count = len(row_norms)
        self.parameters = None
        self._verify = verify
        self.blocks = blocks
        self.is_verified = verify is None or verify(np.empty(0, np.int64))

    @property
    def error(self) -> tuple[float, float]:
        """How far a product may be off: by the norms' product (euclidean: itself), and beside."""
        dimensions = self.values.shape[1]
        return float(_relative_error(dimensions)), float(_absolute_error(dimensions))

    def verify(self, rows: Ordinals | None) -> None:
        """Verify these rows, or all, before their values are read."""
        if not self.is_verified and self._verify is not None:
            self.is_verified = self._verify(rows)

    def prepare(
        self, query: Floats, k: int, selection: Selection, effort: Effort = Effort.EXACT
    ) -> Prepared[Candidates]:
        """See `ann.base.AnnIndex`."""
        return Prepared(partial(self.find_candidates, query, k, selection))

    def find_candidates(self, query: Floats, k: int, selection: Selection) -> Candidates:
        """Return every selected row that may tie with the k-th nearest; cost grows with the
        length of a list, and not with the count of a mask."""
        if selection.rows is not None:
            method, rows = LIST, selection.rows
            products = self.products(query, rows)
        else:
            method, products = SCAN, self.products(query, None)
            mask = selection.masked().mask
            if mask is None:
                rows = np.arange(len(self.norms))
            else:
                rows = np.flatnonzero(mask)
                products = products[rows]
        row_norms = self.norms[rows]
        estimates = self.estimates(row_norms, products)
        nearest = self.nearest(query, k, rows, row_norms, products, estimates)
        return Candidates(nearest, len(rows), method)

    def products(self, query: Floats, rows: Ordinals | None) -> Floats:
        """Return ``(len(rows),)``, or ``(n,)``: squared distances under euclidean, else dot
        products; of all rows if `rows` is None."""
        self.verify(rows)
        is_euclidean = self.metric is Metric.EUCLIDEAN
        built = library()
        if built is not None:
            return built.row_products(
                self._values_at, self.row_count, query, rows, is_euclidean=is_euclidean
            )
        products = np.empty(len(self.values) if rows is None else len(rows), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(products), _CHUNK_ROWS):
                chunk = slice(start, start + _CHUNK_ROWS)
                values = self.values[chunk if rows is None else rows[chunk]]
                # Not `@`, which would take a thread on every core.
                if is_euclidean:
                    values = values - query
                    np.einsum("ij,ij->i", values, values, out=products[chunk])
                else:
                    np.einsum("ij,j->i", values, query, out=products[chunk])
        return products

    def estimates(self, row_norms: Floats, products: Floats) -> Floats:
        """Return distances that order rows as the metric does, NaN or infinite on overflow."""
        if self.metric is Metric.EUCLIDEAN:
            return products
        if self.metric is Metric.DOT_PRODUCT:
            return -products
        with np.errstate(all="ignore"):
            return cast(Floats, products / -row_norms)

    def nearest(
        self,
        query: Floats,
        k: int,
        rows: Ordinals,
        row_norms: Floats,
        products: Floats,
        estimates: Floats,
    ) -> Ordinals:
        """Return the rows whose interval is not wholly above k others.

        Norms, products and estimates are those of the rows, in their order.
        """
        if len(rows) <= k:
            return rows
        if self.metric is Metric.COSINE:
            smallest, largest = float(row_norms.min()), float(row_norms.max())
            size = _size(query)
            # Where nothing overflows or is rounded to nothing, intervals as wide as the widest do.
            if smallest >= _TINY and max(largest, 1.0) * size <= _PRODUCT_MAX:
                width = float(_relative_error(len(query))) * size
                width += float(_absolute_error(len(query))) / smallest
                bound = float(np.partition(estimates, k - 1)[k - 1]) + 2.0 * width
                return rows[estimates <= bound]
        lower, upper = self._intervals(products, row_norms, query)
        bound = np.partition(upper, k - 1)[k - 1]
        return cast(Ordinals, rows[lower <= bound])

    def _intervals(
        self, products: Floats, row_norms: Floats, query: Floats
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return bounds of the distances; the whole line where nothing bounds them."""
        relative = _relative_error(len(query))
        absolute = _absolute_error(len(query))
        with np.errstate(all="ignore"):
            if self.metric is Metric.EUCLIDEAN:
                distances, margin = products, relative * products + absolute
            else:
                distances = -products
                margin = relative * np.float32(_size(query)) * row_norms + absolute
                if self.metric is Metric.COSINE:
                    scale = np.divide(
                        np.float32(1.0),
                        row_norms,
                        out=np.zeros_like(row_norms),
                        where=row_norms > 0,
                    )
                    distances, margin = distances * scale, margin * scale
            lower, upper = distances - margin, distances + margin
        unknown = ~(np.isfinite(lower) & np.isfinite(upper))
        if self.metric is Metric.COSINE:
            unknown |= (row_norms > 0) & (row_norms < _TINY)  # rounded by up to a half
        if unknown.any():
            lower[unknown], upper[unknown] = -np.inf, np.inf
        return lower, upper


def _relative_error(dimensions: int) -> np.float32:
    # Twice the bound, as sums may be fused.
    return np.float32((dimensions + 8) * 2.0**-23)


def _absolute_error(dimensions: int) -> np.float32:
    # Terms below float32's normal range may round to nothing.
    return np.float32(dimensions * _TINY)


def _size(query: Floats) -> float:
    wide = query.astype(np.float64)
    return math.sqrt(wide @ wide)
