"""An index over sign codes (`projection`): every code is compared, few rows are measured.

A search *ranks* rows by the Hamming distance of their codes to the query's code, and reads
values only of rows that may be near:

1. The first few dozen are *opened*: estimated from their values (`ann.exact`).
2. Let the *reach* be the Hamming distance of the farthest code among the k nearest rows so
   far (but for outliers, where k is large). Every row within the reach and some *slack* is
   opened, too.
3. When rows near the edge of that turn out to be among the k nearest, there may be more
   beyond it: the second step is repeated, with less slack, until nothing is found there.
4. The rows that may be among the k nearest of all that were opened are proposed.

So an easy query reads few rows and a hard one many, under a filter no less than without.
Where rows that pass a filter are all far from the query, codes hardly tell them apart: the
third step notices, and all of them are measured if they are not too many.
How much slack it takes depends on the data: `calibration` measures it, and a `Recipe`
keeps it, for three depths of effort.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from vicinal.ann import projection
from vicinal.ann.base import Proposal
from vicinal.ann.exact import ExactIndex
from vicinal.ann.projection import Bits
from vicinal.model import Effort, Floats, Mask, Metric, Ordinals

Hammings = NDArray[np.int32]

ROWS_MIN = 4_000
"""Below this many rows exact search is as fast (benchmarks/ann_kinds.py)."""

OPENED_MAX = 6_400
"""More rows than this, or than `_OPENED_SHARE_MAX` of all, are not opened by their codes."""

DEPTHS = (10, 100)
"""The k for which slack is measured; in between it is interpolated."""

EFFORTS = (Effort.LOW, Effort.STANDARD, Effort.HIGH)

_OPENED_MIN = 40
_OPENED_TIMES_K = 2
_OPENED_SHARE_MAX = 1 / 8
_MEASURED_MAX = 100_000  # so many rows are measured when codes do not tell which are near
_OUTLIERS = 11
_RANKED_AGAIN = 4  # times as many rows are ranked when the first were too few
_COUNTED_MAX = 2_000  # faiss ranks up to so many faster than sorting does
_GATHERED_SHARE = 0.3  # of all rows; fewer are gathered and ranked alone
_SPARE = 1.25  # more rows are ranked than a mask should leave enough of


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was found to be enough for some rows, and is tried on others like them.

    Attributes:
        bits: Length of a code.
        scale: The s of the dot-product's lift, 1 otherwise.
        slack: Bits of slack, for each of `EFFORTS` at each of `DEPTHS`.
        scored: How many rows most searches estimate at standard effort and each of `DEPTHS`.
    """

    bits: int
    scale: float
    slack: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    scored: tuple[int, int]

    def slack_for(self, k: int, effort: Effort) -> int:
        """Return the bits of slack for the k nearest: straight on a logarithmic scale of k."""
        near, far = self.slack[EFFORTS.index(effort)]
        return near + round(_depth(k) * (far - near))

    def ranked_for(self, k: int) -> int:
        """Return how many rows to rank at first for the k nearest."""
        near, far = self.scored
        count: float = near * (far / near) ** _depth(k)
        return max(opened_count(k), round(count))


def _depth(k: int) -> float:
    """Return where k lies between the `DEPTHS`, from 0 to 1 on a logarithmic scale."""
    return min(max(log(k / DEPTHS[0]) / log(DEPTHS[1] / DEPTHS[0]), 0.0), 1.0)


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
            "slack": np.array(self.recipe.slack, np.int64),
            "scored": np.array(self.recipe.scored, np.int64),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Make codes from stored arrays."""
        low, standard, high = ((near, far) for near, far in arrays["slack"].tolist())
        near, far = arrays["scored"].tolist()
        scale = float(arrays["scale"][0])
        recipe = Recipe(len(arrays["offset"]), scale, (low, standard, high), (near, far))
        return cls(arrays["codes"], arrays["offset"], recipe)


class SignIndex:
    """Proposes rows by their sign codes; implements `ann.base.AnnIndex`.

    Args:
        codes: Of the rows of `exact`.
        exact: Knows the rows' values.
    """

    def __init__(self, codes: SignCodes, exact: ExactIndex) -> None:
        self._codes = codes.codes
        self._offset = codes.offset
        self._recipe = codes.recipe
        self._exact = exact

    def candidates(
        self,
        query: Floats,
        k: int,
        allowed: Mask | None,
        effort: Effort = Effort.STANDARD,
    ) -> Proposal:
        """See `ann.base.AnnIndex`; a higher effort leaves fewer near rows out."""
        if allowed is None:
            codes = _Codes(self._codes, self._encode(query))
            return self._proposal(query, k, codes, effort)
        allowed_count = int(np.count_nonzero(allowed))
        if allowed_count <= _GATHERED_SHARE * len(allowed):
            return self.candidates_among(query, k, np.flatnonzero(allowed), effort)
        codes = _Codes(self._codes, self._encode(query), allowed=allowed, count=allowed_count)
        return self._proposal(query, k, codes, effort)

    def candidates_among(
        self, query: Floats, k: int, rows: Ordinals, effort: Effort = Effort.STANDARD
    ) -> Proposal:
        """The same over these distinct rows only; cost grows with ``len(rows)``."""
        if len(rows) <= opened_count(k):
            return self._exact.candidates_among(query, k, rows)
        # As words, which numpy gathers faster than bytes.
        gathered = self._codes.view(np.uint64).take(rows, axis=0).view(np.uint8)
        codes = _Codes(gathered, self._encode(query), rows=rows)
        return self._proposal(query, k, codes, effort)

    def _encode(self, query: Floats) -> Bits:
        return projection.code_of_query(query, self._exact.metric, self._offset)

    def _proposal(self, query: Floats, k: int, codes: "_Codes", effort: Effort) -> Proposal:
        most = max(OPENED_MAX, int(_OPENED_SHARE_MAX * codes.total), opened_count(k))
        most = min(most, codes.count)
        ranked = codes.ranked(min(self._recipe.ranked_for(k), most))
        count = min(opened_count(k), most)
        opened = _Opened(self._exact, query, ranked, count)
        slack = self._recipe.slack_for(k, effort)
        limit = opened.reach(k) + slack
        while count < most:
            while (wanted := ranked.within(limit)) == len(ranked.rows) < most:
                ranked = codes.ranked(min(_RANKED_AGAIN * wanted, most))
            count = min(max(wanted, count), most)
            opened.extend(ranked, count)
            farther = opened.reach(k) + slack // 2
            if farther <= limit:
                break
            limit = farther
        else:
            if most < codes.count <= _MEASURED_MAX:
                return codes.measured(self._exact, query, k)
        return opened.proposal(k)


class _Opened:
    """The rows that a search has opened: the first ones of a ranking, which may grow."""

    def __init__(self, exact: ExactIndex, query: Floats, ranked: "_Ranked", count: int) -> None:
        self._exact = exact
        self._query = query
        self._ranked = ranked
        self._rows = ranked.rows[:count]
        self._products = exact.products(query, self._rows)
        self._estimates = exact.estimates(self._rows, self._products)

    def extend(self, ranked: "_Ranked", count: int) -> None:
        """Open the first `count` rows of a ranking."""
        if ranked is not self._ranked:
            # Rows with the same distance may have changed places.
            self._ranked = ranked
            self._products, self._estimates = self._products[:0], self._estimates[:0]
        done = len(self._products)
        self._rows = ranked.rows[:count]
        if count > done:
            more = self._rows[done:]
            products = self._exact.products(self._query, more)
            estimates = self._exact.estimates(more, products)
            self._products = np.concatenate([self._products, products])
            self._estimates = np.concatenate([self._estimates, estimates])

    def reach(self, k: int) -> int:
        """Return the reach of the k nearest rows, or of all."""
        hammings = self._ranked.hammings[: len(self._rows)]
        if len(hammings) > k:
            hammings = hammings[self._estimates.argpartition(k - 1)[:k]]
        return reach(hammings)

    def proposal(self, k: int) -> Proposal:
        """Propose those that may be among the k nearest."""
        rows = self._exact.nearest(self._query, k, self._rows, self._products, self._estimates)
        return Proposal(rows, len(self._rows))


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Rows in the order of their codes' distances, and the distances."""

    rows: Ordinals
    hammings: Hammings

    def within(self, limit: int) -> int:
        """Return how many rows are within a distance."""
        return int(self.hammings.searchsorted(limit, "right"))


class _Codes:
    """The codes a search looks at, and the query's code.

    Args:
        codes: ``(n, b)``.
        code: ``(b,)``.
        rows: ``(n,)``: the row of each code; None when that is its place.
        allowed: ``(n,)``; None allows all.
        count: How many are allowed, if `allowed` is given.
    """

    def __init__(
        self,
        codes: Bits,
        code: Bits,
        rows: Ordinals | None = None,
        allowed: Mask | None = None,
        count: int | None = None,
    ) -> None:
        self._codes = codes
        self._code = code
        self._rows = rows
        self._allowed = allowed
        self.total = len(codes)
        self.count = len(codes) if count is None else count

    def ranked(self, count: int) -> _Ranked:
        """Return at least `count` of the allowed codes nearest to the query's, or all."""
        if self._allowed is None:
            ranked = rank(self._codes, self._code, min(count, self.total))
            if self._rows is None:
                return ranked
            return _Ranked(self._rows[ranked.rows], ranked.hammings)
        fetched = min(int(_SPARE * count * self.total / self.count) + 1, self.total)
        while True:
            ranked = rank(self._codes, self._code, fetched)
            is_allowed = self._allowed[ranked.rows]
            if fetched == self.total or np.count_nonzero(is_allowed) >= count:
                return _Ranked(ranked.rows[is_allowed], ranked.hammings[is_allowed])
            fetched = min(_RANKED_AGAIN * fetched, self.total)

    def measured(self, exact: ExactIndex, query: Floats, k: int) -> Proposal:
        """Propose by measuring every allowed row, without a look at its code."""
        if self._rows is None:
            return exact.candidates(query, k, self._allowed)
        return exact.candidates_among(query, k, self._rows)


def rank(codes: Bits, code: Bits, count: int) -> _Ranked:
    """Return the `count` of ``(n, b)`` codes that are nearest to a code ``(b,)``."""
    if count > _COUNTED_MAX:
        hammings = distances(codes, code)
        rows = np.argpartition(hammings, count - 1)[:count] if count < len(codes) else None
        rows = np.arange(len(codes)) if rows is None else rows
        rows = rows[np.argsort(hammings[rows], kind="stable")]
        return _Ranked(rows, hammings[rows])
    hammings, rows = np.empty(count, np.int32), np.empty(count, np.int64)
    faiss.hammings_knn_mc(
        faiss.swig_ptr(code),
        faiss.swig_ptr(codes),
        1,
        len(codes),
        count,
        codes.shape[1],
        faiss.swig_ptr(hammings),
        faiss.swig_ptr(rows),
        None,
    )
    return _Ranked(rows, hammings)


def reach(hammings: Hammings) -> int:
    """Return how far the codes of the nearest rows are, but for one in `_OUTLIERS`."""
    outliers = len(hammings) // _OUTLIERS
    if not outliers:
        return int(hammings.max())
    return int(np.partition(hammings, -outliers - 1)[-outliers - 1])


def opened_count(k: int) -> int:
    """Return how many rows are opened for the k nearest."""
    return max(_OPENED_MIN, _OPENED_TIMES_K * k)


def distances(codes: Bits, code: Bits) -> Hammings:
    """Return the Hamming distance of each of ``(n, b)`` codes to a code ``(b,)``."""
    found = np.empty(len(codes), np.int32)
    faiss.hammings(
        faiss.swig_ptr(code),
        faiss.swig_ptr(codes),
        1,
        len(codes),
        codes.shape[1],
        faiss.swig_ptr(found),
    )
    return found


def by_recipe(values: Floats, metric: Metric, recipe: Recipe) -> SignCodes:
    """Return codes by a recipe found for rows like these; nothing is measured."""
    codes, offset = projection.encode(values, metric, recipe.scale, recipe.bits)
    return SignCodes(codes, offset, recipe)


class GrowingSigns:
    """Codes of rows that keep coming, by a recipe found for earlier ones. One writer.

    Args:
        recipe: Of a segment of the same index.
        metric: How rows are measured.
        values: The first rows, ``(n, d)``, whose mean is taken off all.
    """

    def __init__(self, recipe: Recipe, metric: Metric, values: Floats) -> None:
        codes = by_recipe(values, metric, recipe)
        self._recipe = recipe
        self._metric = metric
        self._codes, self._offset = codes.codes, codes.offset
        self._count = len(values)

    def extend(self, values: Floats) -> None:
        """Append the codes of more rows."""
        end = self._count + len(values)
        if end > len(self._codes):
            # Readers keep the old array: the rows they may see never change in it.
            grown = np.empty((2 * end, self._codes.shape[1]), np.uint8)
            grown[: self._count] = self._codes[: self._count]
            self._codes = grown
        self._codes[self._count : end] = projection.codes_of(
            values, self._metric, self._recipe.scale, self._offset
        )
        self._count = end

    def codes(self, row_count: int) -> SignCodes:
        """Return the codes of the first `row_count` rows."""
        return SignCodes(self._codes[:row_count], self._offset, self._recipe)
