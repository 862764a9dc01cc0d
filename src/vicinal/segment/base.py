"""A view: one part of a snapshot, seen as it was when the snapshot was taken.

The tail and each segment give one. A view's rows are numbered from 0; some are dead
(deleted or replaced since). Views never change, so any number of threads read them
without a lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from vicinal.ann.base import Proposal
from vicinal.ann.exact import ExactIndex
from vicinal.ann.signs import SignIndex
from vicinal.filters.nodes import Filter, Scalar
from vicinal.model import Effort, Floats, Mask, MetadataIndex, Ordinals
from vicinal.segment.ids import Hashes, IdTable
from vicinal.steps import Steps


@dataclass(frozen=True, slots=True)
class Selection:
    """The live rows that a query may return: all, under a mask, or listed.

    `mask` is ``(rows,)``; `rows` holds distinct ordinals. Both None: every row is meant.
    """

    count: int
    mask: Mask | None = None
    rows: Ordinals | None = None

    @classmethod
    def of_mask(cls, mask: Mask) -> "Selection":
        """Return the selection of a mask's true rows."""
        return cls(int(np.count_nonzero(mask)), mask=mask)

    def listed(self) -> Ordinals:
        """Return the rows of a selection that does not mean all."""
        if self.rows is not None:
            return self.rows
        assert self.mask is not None
        return np.flatnonzero(self.mask)


MEASURED_ROWS_MAX = 200
"""Up to this many selected rows are all measured; of more, those with the nearest codes."""


class Method(StrEnum):
    """How the candidates of a view are found."""

    SCAN = "exact scan"
    LIST = "exact over the selected rows"
    CODES = "codes"
    LISTED_CODES = "codes of the selected rows"


def method(signs: SignIndex | None, selection: Selection, effort: Effort) -> Method:
    """Choose how to find the candidates of a selection."""
    is_few = selection.count <= MEASURED_ROWS_MAX
    is_all = selection.rows is None and selection.mask is None
    if is_few and not is_all:
        return Method.LIST
    if signs is None or effort is Effort.EXACT:
        return Method.SCAN if selection.rows is None else Method.LIST
    return Method.CODES if selection.rows is None else Method.LISTED_CODES


def propose(
    exact: ExactIndex,
    signs: SignIndex | None,
    query: Floats,
    k: int,
    selection: Selection,
    effort: Effort,
) -> Steps[Proposal]:
    """Return, in steps, rows among which the `k` nearest selected ones are."""
    match method(signs, selection, effort):
        case Method.SCAN:
            return exact.candidates(query, k, selection.mask)
        case Method.LIST:
            return exact.candidates_among(query, k, selection.listed())
        case Method.CODES:
            assert signs is not None
            return (yield from signs.searching(query, k, selection.mask, effort))
        case Method.LISTED_CODES:
            assert signs is not None
            return (yield from signs.searching_among(query, k, selection.listed(), effort))


class View(Protocol):
    """Rows of one segment or tail. Methods that take `rows` take ordinals of any order."""

    @property
    def name(self) -> str:
        """What to call it in an explanation."""
        ...

    @property
    def live(self) -> Mask:
        """``(rows,)``: False for dead rows."""
        ...

    @property
    def live_count(self) -> int:
        """How many rows are not dead."""
        ...

    def find(self, ids: Sequence[str], id_hashes: Hashes) -> Ordinals:
        """Return the live row of each id, -1 where there is none."""
        ...

    def select(self, namespace: str, filter_: Filter) -> Selection:
        """Return the live rows in a namespace (``""``: any) that pass a filter.

        Every property of the filter must have a metadata index.
        """
        ...

    def method(self, selection: Selection, effort: Effort) -> Method:
        """Return how `searching` will find them."""
        ...

    def searching(
        self, query: Floats, k: int, selection: Selection, effort: Effort
    ) -> Steps[Proposal]:
        """Return, in steps, rows among which the `k` nearest selected ones are (`ann.base`)."""
        ...

    def values(self, rows: Ordinals) -> Floats:
        """Return a copy of the values, ``(len(rows), dimensions)``, as they were given."""
        ...

    def ids(self, rows: Ordinals) -> list[str]:
        """Return the vector ids."""
        ...

    @property
    def id_source(self) -> IdTable | Sequence[str]:
        """The id of each row: of all that a view is, what a listing has to keep."""
        ...

    def namespaces(self, rows: Ordinals) -> list[str]:
        """Return the namespaces, ``""`` for none."""
        ...

    def metadata(self, rows: Ordinals) -> list[bytes]:
        """Return the metadata as compact JSON, ``b""`` for none."""
        ...

    def indexed_values(
        self, row: int, metadata_indexes: Sequence[MetadataIndex]
    ) -> list[tuple[str, Scalar]]:
        """Return property and value of each of these metadata indexes that has one."""
        ...

    def live_namespaces(self) -> set[str]:
        """Return the namespaces of the live rows, without ``""``."""
        ...
