"""A view: the rows of a segment or memtable as they were when a snapshot was taken.

Rows are numbered from 0; some are dead (deleted or replaced). Views never change, so any number
of threads read them without a lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from vicinal.ann.base import Selection
from vicinal.filters.nodes import Filter
from vicinal.model import Floats, Mask, Ordinals
from vicinal.native.library import Library
from vicinal.segment.columns import AnyColumn
from vicinal.segment.ids import Hashes, IdTable
from vicinal.segment.postings import Lengths, Lookup, Postings, Terms
from vicinal.segment.row_index import RowIndex


class View(Protocol):
    """Rows of one segment or memtable. Methods that take `rows` take ordinals of any order."""

    @property
    def name(self) -> str:
        """The name of the part in explanations."""
        ...

    @property
    def live(self) -> Mask:
        """``(rows,)``: False for dead rows."""
        ...

    @property
    def live_count(self) -> int:
        """The number of rows that are not dead."""
        ...

    def find(self, ids: Sequence[str], id_hashes: Hashes) -> Ordinals:
        """Return the live row of each id, ``(len(ids),)``, -1 where there is none."""
        ...

    def select(self, namespace: str, filter_: Filter) -> Selection:
        """Return the live rows in a namespace (``""``: any) that pass a filter.

        Every property of the filter must have a metadata index.
        """
        ...

    @property
    def index(self) -> RowIndex:
        """The index that finds the nearest rows."""
        ...

    def values(self, rows: Ordinals) -> Floats:
        """Return a copy of the values, ``(len(rows), dimensions)``, as they were given."""
        ...

    def ids(self, rows: Ordinals) -> list[str]:
        """Return the vector ids."""
        ...

    @property
    def id_source(self) -> IdTable | Sequence[str]:
        """The id of every row, dead ones too: all that a listing keeps of a view."""
        ...

    def first_by_id(self, rows: Ordinals, count: int) -> Ordinals:
        """Return those of these rows that have the `count` first ids, and maybe some more."""
        ...

    def with_prefix(self, rows: Ordinals, prefix: str) -> Ordinals:
        """Return those of these rows whose id begins with `prefix`."""
        ...

    def buffers(self) -> Iterable[Floats]:
        """Return the arrays in memory that the values are read from; none for mapped files."""
        ...

    @property
    def byte_count(self) -> int:
        """The bytes of its files; of a memtable, of its values in memory."""
        ...

    def namespaces(self, rows: Ordinals) -> list[str]:
        """Return the namespaces, ``""`` for none."""
        ...

    def metadata(self, rows: Ordinals) -> list[bytes]:
        """Return the metadata as compact JSON, ``b""`` for none."""
        ...

    @property
    def columns(self) -> Mapping[str, AnyColumn | None]:
        """The columns of each metadata index, by key (`format.columns_of`): that of scalars or of
        texts by the property itself. None where no row has a value."""
        ...

    def term_lengths(self, property_name: str) -> Lengths | None:
        """Return the number of terms that a text index has of each row, dead ones too; None where
        no row was indexed."""
        ...

    def term_totals(self, property_name: str) -> tuple[int, int]:
        """Return the number of live rows that have terms in a text index, and of these terms."""
        ...

    def postings(self, property_name: str, term: str) -> Postings:
        """Return the rows, dead ones too, that a text index has for a term."""
        ...

    def term_lookup(self, built: Library, property_name: str, terms: Terms) -> Lookup | None:
        """Return the postings of terms in a text index, of dead rows too, for the compiled search;
        None where no row was indexed."""
        ...

    def covered_count(self, property_name: str) -> int:
        """Return the number of live rows that the metadata index of a property has indexed."""
        ...

    def live_namespaces(self) -> set[str]:
        """Return the distinct namespaces of the live rows, without ``""``."""
        ...
