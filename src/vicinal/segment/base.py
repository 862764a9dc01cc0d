"""A view: one part of a snapshot, seen as it was when the snapshot was taken.

The tail and each segment give one. A view's rows are numbered from 0; some are dead
(deleted or replaced since). Views never change, so any number of threads read them
without a lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vicinal.ann.signs import SignIndex
from vicinal.filters.nodes import Filter, Scalar
from vicinal.model import Floats, Mask, MetadataIndex, Ordinals
from vicinal.segment.ids import Hashes


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


MEASURED_ROWS_MAX = 1_000
"""Up to this many selected rows are all measured; of more, those with the nearest codes."""


def proposed(
    signs: SignIndex | None, query: Floats, k: int, selection: Selection
) -> Ordinals | None:
    """Return the selected rows to measure, or None for all under the selection's mask."""
    rows = selection.rows
    if rows is None and selection.mask is not None and selection.count <= MEASURED_ROWS_MAX:
        rows = np.flatnonzero(selection.mask)
    if signs is None or (rows is not None and len(rows) <= MEASURED_ROWS_MAX):
        return rows
    if rows is not None:
        return signs.candidates_among(query, k, rows)
    return signs.candidates(query, k, selection.mask)


class View(Protocol):
    """Rows of one segment or tail. Methods that take `rows` take ordinals of any order."""

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

    def candidates(self, query: Floats, k: int, selection: Selection) -> Ordinals:
        """Return rows among which the `k` nearest selected ones are (`ann.base`)."""
        ...

    def values(self, rows: Ordinals) -> Floats:
        """Return a copy of the values, ``(len(rows), dimensions)``, as they were given."""
        ...

    def ids(self, rows: Ordinals) -> list[str]:
        """Return the vector ids."""
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
