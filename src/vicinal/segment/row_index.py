"""The index of a block of rows: exact search, and an approximate kind where one serves.

This is where kinds are chosen: when rows are written, appended and opened, and for each query.
"""

from dataclasses import dataclass

from vicinal.ann.base import AnnIndex, Candidates, Selection
from vicinal.ann.exact import ExactIndex
from vicinal.ann.kinds import KINDS, AnnKind, Arrays, GrowingIndex
from vicinal.model import Effort, Floats, Metric
from vicinal.prepared import Prepared

EXACT_ROWS_MAX = 200
"""Up to this many rows of a filter are searched exactly, more by the approximate index."""


@dataclass(frozen=True, slots=True)
class RowIndex:
    """The index of a block of rows.

    `approximate` covers the rows of `exact`, or is None where exact search is as good.
    """

    exact: ExactIndex
    approximate: AnnIndex | None = None

    @property
    def parameters(self) -> object | None:
        """The parameters of the approximate index (`ann.kinds.AnnKind`)."""
        return None if self.approximate is None else self.approximate.parameters

    def prepare(
        self, query: Floats, k: int, selection: Selection, effort: Effort
    ) -> Prepared[Candidates]:
        """See `ann.base.AnnIndex`."""
        if selection.count <= EXACT_ROWS_MAX and not selection.is_all:
            return self.exact.prepare(query, k, selection.listed())
        if self.approximate is None or effort is Effort.EXACT:
            return self.exact.prepare(query, k, selection)
        return self.approximate.prepare(query, k, selection, effort)


def build(exact: ExactIndex, parameters: object | None) -> tuple[AnnKind, Arrays] | None:
    """Return the first kind that serves these rows, with the arrays to store."""
    for kind in KINDS:
        arrays = kind.build(exact, parameters)
        if arrays is not None:
            return kind, arrays
    return None


def grow(values: Floats, metric: Metric, parameters: object | None) -> GrowingIndex | None:
    """Begin an index of rows that are appended, of the first kind that serves them."""
    growing = (kind.grow(values, metric, parameters) for kind in KINDS)
    return next((index for index in growing if index is not None), None)
