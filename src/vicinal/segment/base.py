"""A view: one part of a snapshot, seen as it was when the snapshot was taken.

The memtable and each segment give one. A view's rows are numbered from 0; some are dead
(deleted or replaced since). Views never change, so any number of threads read them
without a lock.
"""

from collections.abc import Sequence
from typing import Protocol

from vicinal.ann.base import AnnIndex, Selection
from vicinal.filters.nodes import Filter, Scalar
from vicinal.model import Floats, Mask, MetadataIndex, Ordinals
from vicinal.segment.ids import Hashes, IdTable


class View(Protocol):
    """Rows of one segment or memtable. Methods that take `rows` take ordinals of any order."""

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

    @property
    def index(self) -> AnnIndex:
        """What finds the nearest of its rows."""
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
