"""An index over binary codes (`quantizer`): it compares codes and rescores few rows.

A search orders rows by the Hamming distance of their codes to the query's code (`hamming`),
and reads values only of rows that may be near:

1. The first few dozen are *rescored*: their distances are estimated from their values
   (`ann.exact`).
2. Let the *radius* be the Hamming distance of the farthest code among the k nearest rescored
   rows (but for outliers, where k is large). Every row within the radius and a *margin* is
   rescored, too.
3. When rows near the edge of that turn out to be among the k nearest, there may be more
   beyond it: the second step is repeated, with half the margin, until nothing is found there.
4. The candidates are the rescored rows that may be among the k nearest.

So an easy query reads few rows and a hard one many, under a filter no less than without.
Where rows that pass a filter are all far from the query, codes hardly tell them apart: the
third step notices, and all of them are searched exactly if they are not too many.

Every code is compared, or those that a walk through a graph comes to, where the segment has one
(`graph`, `walk`). Where a filter leaves few rows, just their codes are compared.

`compiled` does the same in one call where it can. This file is its reference.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import calibration, hamming, projection, quantizer
from vicinal.ann.base import Candidates, Selection
from vicinal.ann.compiled import CompiledSearch, Plan
from vicinal.ann.exact import ExactIndex
from vicinal.ann.graph import CodeGraph
from vicinal.ann.hamming import Bits, Codes, Hammings
from vicinal.ann.quantizer import BinaryCodes, QuantizerParameters, rescored_min
from vicinal.ann.walk import Walk, WalkedCodes, WalkPlan
from vicinal.model import Effort, Floats, Metric, Ordinals
from vicinal.native.pool import SearchTask
from vicinal.prepared import Prepared

CODES, LISTED_CODES = "codes", "codes of the selected rows"
WALKED_CODES = "codes, by their graph"
"""The methods of explanations."""

_RESCORED_SHARE_MAX = 1 / 8
_EXACT_MAX = 100_000  # rows that are searched exactly when codes do not tell which are near
_GATHERED_SHARE = 0.08  # of all rows; the codes of fewer are gathered first


class BinaryIndex:
    """Finds candidates by their codes; implements `ann.base.AnnIndex`.

    Args:
        codes: The codes of the rows of `exact`.
        exact: Has the rows' values.
        graph: The graph of the codes, if there is one.
        is_compiled: Whether `compiled` searches where it can.
    """

    def __init__(
        self,
        codes: BinaryCodes,
        exact: ExactIndex,
        graph: CodeGraph | None = None,
        *,
        is_compiled: bool = True,
    ) -> None:
        self.codes = codes
        self._codes = codes.codes
        self._offset = codes.offset
        self.parameters = codes.parameters
        self.row_count = len(codes.codes)
        self.exact = exact
        self.graph = graph
        self._is_compiled = is_compiled

    def prepare(
        self, query: Floats, k: int, selection: Selection, effort: Effort
    ) -> Prepared[Candidates]:
        """See `ann.base.AnnIndex`."""
        few = rescored_min(k)
        count = selection.count
        is_listed = selection.is_all or selection.rows is not None
        if not is_listed and count <= max(_GATHERED_SHARE * self.row_count, few):
            selection = selection.listed()
        if selection.rows is not None and count <= few:
            return self.exact.prepare(query, k, selection)
        plan = self._plan(k, few, selection, effort)
        may_read = self.exact.is_verified or self.exact.blocks is not None
        if self.compiled is None or not may_read:
            return Prepared(partial(self._search, query, plan, selection))
        task = self.compiled.task(query, plan, selection)
        return Prepared(partial(self._finish, query, plan, selection, task), (task,))

    def _plan(self, k: int, few: int, selection: Selection, effort: Effort) -> Plan:
        total = len(self._codes) if selection.rows is None else selection.count
        walk = None
        if self.graph is not None and selection.rows is None:
            breadth = self.graph.breadth_for(k, effort, selection.count / total)
            walk = WalkPlan(breadth, self.graph.expanded_max) if breadth else None
        return Plan(
            k=k,
            margin=self.parameters.margin_for(k, effort),
            rescored_expected=self.parameters.rescored_for(k),
            rescored_min=few,
            rescored_max=max(quantizer.RESCORED_MAX, int(_RESCORED_SHARE_MAX * total), few),
            walk=walk,
        )

    def walked(self, query: Floats, k: int, effort: Effort, walk: WalkPlan) -> tuple[Ordinals, int]:
        """Search all rows by a walk through the graph; only where it is compiled.

        Returns:
            The candidates, none if the search is left to Python, and the number of rows that the
            walk went on from; `WalkPlan.expanded_max` if all codes were compared in the end.
        """
        compiled = self.compiled
        assert compiled is not None
        selection = Selection(self.row_count)
        plan = replace(self._plan(k, rescored_min(k), selection, effort), walk=walk)
        task = compiled.task(query, plan, selection)
        task.run()
        result = task.candidates()
        return (_NO_ROWS if result is None else result[0]), task.expanded_count

    @cached_property
    def _sample(self) -> Bits:
        return hamming.sample(self._codes)

    @cached_property
    def compiled(self) -> CompiledSearch | None:
        """The compiled search, where there is one."""
        if not self._is_compiled:
            return None
        return CompiledSearch.of(self._codes, self._sample, self._offset, self.exact, self.graph)

    def _finish(
        self, query: Floats, plan: Plan, selection: Selection, task: SearchTask
    ) -> Candidates:
        if task.is_unverified:
            task.run()
        result = task.candidates()
        if result is None:
            return self._search(query, plan, selection)
        return Candidates(*result, _method(plan, selection))

    def _search(self, query: Floats, plan: Plan, selection: Selection) -> Candidates:
        code = projection.code_of_query(query, self.exact.metric, self._offset)
        selection = selection.masked()
        rows = selection.rows
        codes: Codes | WalkedCodes
        if rows is None:
            codes = compared = Codes(
                self._codes, code, self._sample, allowed=selection.mask, count=selection.count
            )
            if plan.walk is not None and self.graph is not None:
                walk = Walk(self._codes, self.graph, code, selection.mask, plan.walk)
                codes = WalkedCodes(compared, walk)
        else:
            # As words, which numpy gathers faster than bytes.
            gathered = self._codes.view(np.uint64).take(rows, axis=0).view(np.uint8)
            codes = Codes(gathered, code, rows=rows)
        near = codes.nearest(plan.rescored_expected, plan.rescored_min)
        rescored = _RescoredRows(self.exact, query)
        limit, farther, beyond = -1, near.distance_of(plan.rescored_min), plan.margin
        while farther > limit:
            if farther > near.limit:
                near = codes.within(farther)
                if plan.walk is not None:
                    # A walk that goes on may come to rows that are nearer than some rescored ones.
                    rescored, limit = _RescoredRows(self.exact, query), -1
            if near.count_within(farther) > plan.rescored_max:
                # The rows with the nearest codes will do if none was found near the edge.
                rescored = _RescoredRows(self.exact, query)
                rescored.extend(*near.first(plan.rescored_max))
                edge = farther if limit >= 0 else farther + plan.margin
                is_edge_near = rescored.radius(plan.k) + plan.margin // 2 > edge
                if is_edge_near and selection.count <= _EXACT_MAX:
                    return self.exact.find_candidates(query, plan.k, selection)
                break
            rescored.extend(*near.between(limit, farther))
            limit, farther, beyond = farther, rescored.radius(plan.k) + beyond, plan.margin // 2
        method = _method(plan, selection)
        return Candidates(rescored.nearest(plan.k), rescored.count, method)


def _method(plan: Plan, selection: Selection) -> str:
    if selection.rows is not None:
        return LISTED_CODES
    return CODES if plan.walk is None else WALKED_CODES


_NO_ROWS = np.empty(0, np.int64)
_NO_HAMMINGS = np.empty(0, np.int32)
_NO_NUMBERS = np.empty(0, np.float32)


class _RescoredRows:
    """The rows that a search has rescored."""

    def __init__(self, exact: ExactIndex, query: Floats) -> None:
        self._exact = exact
        self._query = query
        self._rows: Ordinals = _NO_ROWS
        self._hammings: Hammings = _NO_HAMMINGS
        self._products: Floats = _NO_NUMBERS
        self._estimates: Floats = _NO_NUMBERS

    def extend(self, rows: Ordinals, hammings: Hammings) -> None:
        """Rescore more rows."""
        products = self._exact.products(self._query, rows)
        estimates = self._exact.estimates(self._exact.norms[rows], products)
        if len(self._rows):
            rows = np.concatenate([self._rows, rows])
            hammings = np.concatenate([self._hammings, hammings])
            products = np.concatenate([self._products, products])
            estimates = np.concatenate([self._estimates, estimates])
        self._rows, self._hammings = rows, hammings
        self._products, self._estimates = products, estimates

    def radius(self, k: int) -> int:
        """Return the radius of the k nearest rows, or of all."""
        hammings = self._hammings
        if len(hammings) > k:
            hammings = hammings[self._estimates.argpartition(k - 1)[:k]]
        return quantizer.radius(hammings)

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def nearest(self, k: int) -> Ordinals:
        """Return the rows that may be among the k nearest."""
        exact, rows = self._exact, self._rows
        return exact.nearest(
            self._query, k, rows, exact.norms[rows], self._products, self._estimates
        )


class GrowingBinaryIndex:
    """Codes of rows that are appended; implements `ann.kinds.GrowingIndex`.

    Args:
        values: The first rows, ``(n, d)``, whose mean is taken off all.
        metric: How rows are measured.
        parameters: The parameters of a segment of the same index.
    """

    def __init__(self, values: Floats, metric: Metric, parameters: QuantizerParameters) -> None:
        first = quantizer.encode(values, metric, parameters)
        self._parameters = parameters
        self._metric = metric
        self._codes, self._offset = first.codes, first.offset
        self._count = len(values)

    def extend(self, values: Floats) -> None:
        """See `ann.kinds.GrowingIndex`."""
        end = self._count + len(values)
        if end > len(self._codes):
            # Readers keep the old array: the rows they may see never change in it.
            grown = np.empty((2 * end, self._codes.shape[1]), np.uint8)
            grown[: self._count] = self._codes[: self._count]
            self._codes = grown
        self._codes[self._count : end] = projection.codes_of(
            values, self._metric, self._parameters.scale, self._offset
        )
        self._count = end

    def index(self, exact: ExactIndex) -> BinaryIndex:
        """See `ann.kinds.GrowingIndex`."""
        codes = self._codes[: exact.row_count]
        return BinaryIndex(BinaryCodes(codes, self._offset, self._parameters), exact)


class BinaryKind:
    """Implements `ann.kinds.AnnKind`."""

    component = "codes"
    added = ()

    def build(
        self, exact: ExactIndex, parameters: object | None
    ) -> Mapping[str, NDArray[Any]] | None:
        """See `ann.kinds.AnnKind`. Calibrates where it has no parameters."""
        if isinstance(parameters, QuantizerParameters) and exact.row_count >= quantizer.ROWS_MIN:
            return quantizer.encode(exact.values, exact.metric, parameters).arrays()
        codes = calibration.build(exact.values, exact.norms, exact.metric)
        return None if codes is None else codes.arrays()

    def layout(self, row_count: int) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """See `ann.kinds.AnnKind`."""
        return {
            "codes": ("u1", (row_count, None)),
            "offset": ("<f4", (None,)),
            "scale": ("<f8", (1,)),
            "slack": ("<i8", (3, 2)),
            "scored": ("<i8", (2,)),
        }

    def open(self, arrays: Mapping[str, NDArray[Any]], exact: ExactIndex) -> BinaryIndex:
        """See `ann.kinds.AnnKind`."""
        return BinaryIndex(BinaryCodes.of(arrays), exact)

    def grow(
        self, values: Floats, metric: Metric, parameters: object | None
    ) -> GrowingBinaryIndex | None:
        """See `ann.kinds.AnnKind`."""
        if isinstance(parameters, QuantizerParameters) and len(values) >= quantizer.ROWS_MIN:
            return GrowingBinaryIndex(values, metric, parameters)
        return None
