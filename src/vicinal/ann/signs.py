"""An index over sign codes (`projection`): every code is compared, few rows are measured.

A search orders rows by the Hamming distance of their codes to the query's code (`hamming`),
and reads values only of rows that may be near:

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

`compiled` does the same in one call where it can. What is here says what is right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import log
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import hamming, projection
from vicinal.ann.base import Candidates, Selection
from vicinal.ann.compiled import CompiledSearch, Plan
from vicinal.ann.exact import ExactIndex
from vicinal.ann.hamming import Bits, Codes, Hammings
from vicinal.model import Effort, Floats, Metric, Ordinals
from vicinal.native.pool import SearchTask
from vicinal.prepared import Prepared

CODES, LISTED_CODES = "codes", "codes of the selected rows"
"""The methods of explanations."""

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
_GATHERED_SHARE = 0.08  # of all rows; the codes of fewer are gathered first


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

    def near_for(self, k: int) -> int:
        """Return how many rows a search for the k nearest is likely to open."""
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
    """Finds candidates by their sign codes; implements `ann.base.AnnIndex`.

    Args:
        codes: Of the rows of `exact`.
        exact: Knows the rows' values.
        is_compiled: Whether `compiled` searches where it can.
    """

    def __init__(self, codes: SignCodes, exact: ExactIndex, *, is_compiled: bool = True) -> None:
        self._codes = codes.codes
        self._offset = codes.offset
        self._recipe = codes.recipe
        self.exact = exact
        self._is_compiled = is_compiled

    @property
    def row_count(self) -> int:
        """See `ann.base.AnnIndex`."""
        return len(self._codes)

    def prepare(
        self, query: Floats, k: int, selection: Selection, effort: Effort
    ) -> Prepared[Candidates]:
        """See `ann.base.AnnIndex`."""
        few = opened_count(k)
        mask, count = selection.mask, selection.count
        if mask is not None and count <= max(_GATHERED_SHARE * len(mask), few):
            selection = selection.listed()
        if selection.rows is not None and count <= few:
            return self.exact.prepare(query, k, selection)
        total = len(self._codes) if selection.rows is None else count
        plan = Plan(
            k=k,
            slack=self._recipe.slack_for(k, effort),
            rescored_expected=self._recipe.near_for(k),
            rescored_min=few,
            rescored_max=max(OPENED_MAX, int(_OPENED_SHARE_MAX * total), few),
        )
        if self.compiled is None or not self.exact.may_read():
            return Prepared(partial(self._search, query, plan, selection))
        task = self.compiled.task(query, plan, count, selection.mask, selection.rows)
        return Prepared(partial(self._finish, query, plan, selection, task), (task,))

    @cached_property
    def _sample(self) -> Bits:
        return hamming.sample(self._codes)

    @cached_property
    def compiled(self) -> CompiledSearch | None:
        """The compiled search, where there is one."""
        if not self._is_compiled:
            return None
        return CompiledSearch.of(self._codes, self._sample, self._offset, self.exact)

    def _finish(
        self, query: Floats, plan: Plan, selection: Selection, task: SearchTask
    ) -> Candidates:
        result = task.candidates()
        if result is None:
            return self._search(query, plan, selection)
        return Candidates(*result, CODES if selection.rows is None else LISTED_CODES)

    def _search(self, query: Floats, plan: Plan, selection: Selection) -> Candidates:
        code = projection.code_of_query(query, self.exact.metric, self._offset)
        rows = selection.rows
        if rows is None:
            codes = Codes(
                self._codes, code, self._sample, allowed=selection.mask, count=selection.count
            )
        else:
            # As words, which numpy gathers faster than bytes.
            gathered = self._codes.view(np.uint64).take(rows, axis=0).view(np.uint8)
            codes = Codes(gathered, code, rows=rows)
        near = codes.nearest(plan.rescored_expected, plan.rescored_min)
        opened = _Opened(self.exact, query)
        limit, farther, beyond = -1, near.distance_of(plan.rescored_min), plan.slack
        while farther > limit:
            if farther > near.limit:
                near = codes.within(farther)
            if near.count_within(farther) > plan.rescored_max:
                # Those whose codes are nearest will do if nothing was found near the edge.
                opened = _Opened(self.exact, query)
                opened.extend(*near.first(plan.rescored_max))
                edge = farther if limit >= 0 else farther + plan.slack
                is_edge_near = opened.reach(plan.k) + plan.slack // 2 > edge
                if is_edge_near and selection.count <= _MEASURED_MAX:
                    return self.exact.find_candidates(query, plan.k, selection)
                break
            opened.extend(*near.between(limit, farther))
            limit, farther, beyond = farther, opened.reach(plan.k) + beyond, plan.slack // 2
        return Candidates(
            opened.nearest(plan.k), opened.count, CODES if rows is None else LISTED_CODES
        )


_NO_ROWS = np.empty(0, np.int64)
_NO_HAMMINGS = np.empty(0, np.int32)
_NO_NUMBERS = np.empty(0, np.float32)


class _Opened:
    """The rows that a search has opened."""

    def __init__(self, exact: ExactIndex, query: Floats) -> None:
        self._exact = exact
        self._query = query
        self._rows: Ordinals = _NO_ROWS
        self._hammings: Hammings = _NO_HAMMINGS
        self._products: Floats = _NO_NUMBERS
        self._estimates: Floats = _NO_NUMBERS

    def extend(self, rows: Ordinals, hammings: Hammings) -> None:
        """Open more rows."""
        products = self._exact.products(self._query, rows)
        estimates = self._exact.estimates(rows, products)
        if len(self._rows):
            rows = np.concatenate([self._rows, rows])
            hammings = np.concatenate([self._hammings, hammings])
            products = np.concatenate([self._products, products])
            estimates = np.concatenate([self._estimates, estimates])
        self._rows, self._hammings = rows, hammings
        self._products, self._estimates = products, estimates

    def reach(self, k: int) -> int:
        """Return the reach of the k nearest rows, or of all."""
        hammings = self._hammings
        if len(hammings) > k:
            hammings = hammings[self._estimates.argpartition(k - 1)[:k]]
        return reach(hammings)

    @property
    def count(self) -> int:
        """How many rows were opened."""
        return len(self._rows)

    def nearest(self, k: int) -> Ordinals:
        """Return those that may be among the k nearest."""
        return self._exact.nearest(self._query, k, self._rows, self._products, self._estimates)


def reach(hammings: Hammings) -> int:
    """Return how far the codes of the nearest rows are, but for one in `_OUTLIERS`."""
    outliers = len(hammings) // _OUTLIERS
    if not outliers:
        return int(hammings.max())
    return int(np.partition(hammings, -outliers - 1)[-outliers - 1])


def opened_count(k: int) -> int:
    """Return how many rows are opened for the k nearest."""
    return max(_OPENED_MIN, _OPENED_TIMES_K * k)


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
