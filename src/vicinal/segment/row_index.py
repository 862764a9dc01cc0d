"""The choice between exact search and an approximate index for each query."""

from dataclasses import dataclass

from vicinal.ann.base import AnnIndex, Candidates, Selection
from vicinal.ann.exact import ExactIndex
from vicinal.model import Effort, Floats
from vicinal.prepared import Prepared

EXACT_ROWS_MAX = 200
"""Up to this many rows of a filter are searched exactly, of more those with the nearest codes."""


@dataclass(frozen=True, slots=True)
class RowIndex:
    """The index of a block of rows; implements `ann.base.AnnIndex`.

    `approximate` covers the rows of `exact`, or is None where exact search is as fast.
    """

    exact: ExactIndex
    approximate: AnnIndex | None = None

    @property
    def row_count(self) -> int:
        """See `ann.base.AnnIndex`."""
        return self.exact.row_count

    def prepare(
        self, query: Floats, k: int, selection: Selection, effort: Effort
    ) -> Prepared[Candidates]:
        """See `ann.base.AnnIndex`."""
        if selection.count <= EXACT_ROWS_MAX and not selection.is_all:
            return self.exact.prepare(query, k, selection.listed())
        if self.approximate is None or effort is Effort.EXACT:
            return self.exact.prepare(query, k, selection)
        return self.approximate.prepare(query, k, selection, effort)
