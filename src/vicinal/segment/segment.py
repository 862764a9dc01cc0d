"""A sealed segment, memory-mapped, and the view that a snapshot has of it.

A `Segment` is its files: immutable, shared by every snapshot that contains it, unmapped
when the last snapshot is gone (its folder may be removed before). A `SegmentView` adds the parts
that change: which rows are dead, and which metadata indexes have a column.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Self
from weakref import WeakValueDictionary

import numpy as np

from vicinal.ann.base import AnnIndex, Selection
from vicinal.ann.exact import Blocks, ExactIndex
from vicinal.ann.kinds import KINDS, AnnKind
from vicinal.errors import Corruption
from vicinal.filters.nodes import Filter, Operator, Predicate
from vicinal.model import Floats, IndexType, Mask, Metric, Ordinals
from vicinal.native.library import Library
from vicinal.segment import format as layout
from vicinal.segment import selection
from vicinal.segment.binary_column import BinaryColumn
from vicinal.segment.columns import Column, SealedColumn, keys_of
from vicinal.segment.ids import Hashes, IdTable
from vicinal.segment.postings import (
    MADE_BY,
    NO_POSTINGS,
    Lengths,
    Lookup,
    Postings,
    Terms,
    TextColumn,
    totals_of,
)
from vicinal.segment.row_index import RowIndex
from vicinal.storage.files import ComponentFile

logger = logging.getLogger(__name__)

_MANY_ROWS = 64  # adjacent ones are read ahead, as merges ask for them


class Segment:
    """The files of one segment.

    A part of a file is read and verified when it is first needed: opening a million rows reads
    their codes and little else.

    Raises:
        Corruption: on opening, when a component is missing or not what was written; from
            every method, when the bytes it needs are damaged.
    """

    def __init__(self, segments: Path, record: layout.SegmentRecord, metric: Metric) -> None:
        self.record = record
        # Weakly: the file of a removed column may be closed.
        self._files: WeakValueDictionary[str, ComponentFile] = WeakValueDictionary()
        self._folder = layout.folder(segments, record.number)
        row_count = record.row_count
        self._values_file = self._open(layout.VALUES)
        self._values_file.expect("values", "<f4", row_count, None)
        self._values_file.expect("norms", "<f4", row_count)
        self._values: Floats = self._values_file.unverified_array("values")
        self._metadata_file = self._open(layout.METADATA)
        self._metadata_file.expect("offsets", "<u8", row_count + 1)
        self._metadata_file.expect("bytes", "u1", None)
        ids = self._open(layout.IDS)
        ids.expect("offsets", "<u8", row_count + 1)
        ids.expect("bytes", "u1", None)
        ids.expect("hashes", "<u8", row_count)
        ids.expect("rows", "<u4", row_count)
        self.ids = IdTable(ids)
        self.namespaces = self.column(layout.NAMESPACES, IndexType.STRING)
        # Nothing here may point back to the segment: its files are unmapped with its last
        # reference, not when cycles are next collected.
        file = self._values_file
        exact = ExactIndex(
            self._values,
            file["norms"],
            metric,
            partial(_verify, file, record.row_count),
            Blocks(*file.blocks("values")),
        )
        self._norms = exact.norms
        self.index = RowIndex(exact)
        self.lacks_index = False
        for kind in KINDS:
            if kind.component in record.components:
                try:
                    self.index = RowIndex(
                        exact, open_index(kind, self._open(kind.component), exact)
                    )
                except Corruption as error:
                    # An index is made from the values, so nothing is lost: search exactly until
                    # the segment is written again.
                    logger.warning("%s; searching without", str(error))
                    # Nor is its file verified later, which would stop the index: a handler that
                    # keeps records, or what else keeps the error, keeps it open.
                    self._files.pop(kind.component, None)
                    self.lacks_index = True

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return int(self._values.shape[1])

    @property
    def files(self) -> tuple[ComponentFile, ...]:
        """The files whose bytes may not all have been verified yet."""
        return tuple(self._files.values())

    def column(self, name: str, index_type: IndexType) -> Column:
        """Open a column component."""
        file = self._open(name)
        file.expect("codes", "<i4", self.record.row_count)
        file.expect("order", "<u4", None)
        (start_count,) = file.expect("starts", "<u4", None)  # one more than there are keys
        if index_type is IndexType.STRING:
            file.expect("key_offsets", "<u8", max(start_count, 1))
            file.expect("key_bytes", "u1", None)
        else:
            dtype = "<f8" if index_type is IndexType.NUMBER else "?"
            file.expect("keys", dtype, start_count - 1)
        if "uncovered" in file:
            file.expect("uncovered", "<u4", None)
        return Column(index_type, file)

    def text_column(self, name: str) -> TextColumn | None:
        """Open a text column component; None if another version of the analyzer made its terms."""
        file = self._open(name)
        if MADE_BY not in file:
            return None
        file.expect("lengths", "<u4", self.record.row_count)
        (start_count,) = file.expect("starts", "<u8", None)  # one more than there are terms
        file.expect("term_offsets", "<u8", max(start_count, 1))
        file.expect("term_bytes", "u1", None)
        file.expect("heads", "<u8", start_count - 1)
        (posting_count,) = file.expect("rows", "<u4", None)
        file.expect("counts", "<u2", posting_count)
        file.expect("uncovered", "<u4", None)
        return TextColumn(file)

    def metadata_columns(
        self, indexes: Iterable[layout.NumberedIndex]
    ) -> dict[str, SealedColumn | None]:
        """Open the columns of metadata indexes, by key; None where there is no component, or none
        of today's terms."""
        return {
            column.key: self._indexed_column(column)
            if column.component in self.record.components
            else None
            for index in indexes
            for column in layout.columns_of(index)
        }

    def has_other_terms(self, column: layout.IndexedColumn) -> bool:
        """Tell whether there is a text column whose terms another version of the analyzer made."""
        return (
            column.index.index_type is IndexType.TEXT
            and column.component in self.record.components
            and self.text_column(column.component) is None
        )

    def _indexed_column(self, column: layout.IndexedColumn) -> SealedColumn | None:
        if column.index.index_type is IndexType.TEXT:
            return self.text_column(column.component)
        return self.column(column.component, column.index.index_type)

    def values(self, rows: Ordinals) -> Floats:
        """Return a copy of these rows' values."""
        if len(rows) >= _MANY_ROWS and rows[-1] - rows[0] < 2 * len(rows):
            self._values_file.read_ahead("values", int(rows[0]), int(rows[-1]) + 1)
        if not self._values_file.is_verified:
            self._values_file.verify_rows("values", rows)
        return self._values[rows]

    def values_between(self, start: int, stop: int) -> Floats:
        """Return the values of adjacent rows, mapped."""
        self._values_file.read_ahead("values", start, stop)
        self._values_file.verify_slice("values", start, stop)
        return self._values[start:stop]

    def norms(self, rows: Ordinals) -> Floats:
        """Return these rows' norms."""
        return self._norms[rows]

    def metadata(self, rows: Ordinals) -> list[bytes]:
        """Return these rows' metadata."""
        if not self._metadata_file.is_verified:
            offsets = self._metadata.offsets
            for row in rows:
                self._metadata_file.verify_slice("bytes", int(offsets[row]), int(offsets[row + 1]))
        return self._metadata.take(rows)

    def all_metadata(self) -> BinaryColumn:
        """Return the metadata of all rows, verified."""
        self._metadata_file.verify_all()
        return self._metadata

    @cached_property
    def _metadata(self) -> BinaryColumn:
        file = self._metadata_file
        return BinaryColumn(file["offsets"], file.unverified_array("bytes"))

    def _open(self, name: str) -> ComponentFile:
        file = self._files.get(name)
        if file is None:
            file = ComponentFile(self._folder / name, name, self.record.components[name])
            self._files[name] = file
        return file


def open_index(kind: AnnKind, file: ComponentFile, exact: ExactIndex) -> AnnIndex:
    """Return the index that a file has.

    Raises:
        Corruption: the file is damaged, or is not of this kind.
    """
    for name, (dtype, shape) in kind.layout(exact.row_count).items():
        if name in file or name not in kind.added:
            file.expect(name, dtype, *shape)
    try:
        return kind.open(file, exact)
    except ValueError as error:
        raise Corruption(f"{file.path}: {error}") from error


def _verify(file: ComponentFile, row_count: int, rows: Ordinals | None) -> bool:
    """Verify the values of these rows, or of all; tell whether all are verified."""
    if rows is None:
        file.read_ahead("values", 0, row_count)
        file.verify_all()
    else:
        file.verify_rows("values", rows)
    return file.is_verified


@dataclass(frozen=True, slots=True)
class SegmentView:
    """A segment as one snapshot sees it.

    `columns` has an entry for every column of the snapshot's metadata indexes
    (`format.columns_of`); None where no row has a value, as for an index that came after them.
    """

    segment: Segment
    live: Mask
    live_count: int
    columns: Mapping[str, SealedColumn | None]
    _term_totals: dict[str, tuple[int, int]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, segment: Segment, live: Mask, columns: Mapping[str, SealedColumn | None]) -> Self:
        """Return the view of a segment with this mask of its live rows."""
        return cls(segment, live, int(np.count_nonzero(live)), columns)

    def find(self, ids: Sequence[str], id_hashes: Hashes) -> Ordinals:
        """See `segment.base.View`."""
        rows = self.segment.ids.find(ids, id_hashes)
        rows[(rows >= 0) & ~self.live[rows]] = -1
        return rows

    def select(self, namespace: str, filter_: Filter) -> Selection:
        """See `segment.base.View`."""
        row_count = len(self.live)
        terms = selection.terms(filter_, self.columns, row_count)
        if namespace:
            is_in = Predicate("", Operator.EQ, (namespace,))
            terms.append(selection.predicate_term(self.segment.namespaces, is_in, row_count))
        return selection.select(terms, self.live, self.live_count)

    @property
    def name(self) -> str:
        """See `segment.base.View`."""
        return f"segment {self.segment.record.number}"

    @property
    def index(self) -> RowIndex:
        """See `segment.base.View`."""
        return self.segment.index

    def values(self, rows: Ordinals) -> Floats:
        """See `segment.base.View`."""
        return self.segment.values(rows)

    def ids(self, rows: Ordinals) -> list[str]:
        """See `segment.base.View`."""
        return self.segment.ids.take(rows)

    @property
    def id_source(self) -> IdTable:
        """See `segment.base.View`."""
        return self.segment.ids

    def first_by_id(self, rows: Ordinals, count: int) -> Ordinals:
        """See `segment.base.View`."""
        return self.segment.ids.first(rows, count)

    def with_prefix(self, rows: Ordinals, prefix: str) -> Ordinals:
        """See `segment.base.View`."""
        return self.segment.ids.with_prefix(rows, prefix)

    def buffers(self) -> Iterable[Floats]:
        """See `segment.base.View`."""
        return ()

    @property
    def byte_count(self) -> int:
        """See `segment.base.View`."""
        return sum(seal.size for seal in self.segment.record.components.values())

    def namespaces(self, rows: Ordinals) -> list[str]:
        """See `segment.base.View`."""
        column = self.segment.namespaces
        if not len(column.keys):
            return [""] * len(rows)
        values = (column.value(row) for row in rows.tolist())
        return ["" if value is None else str(value) for value in values]

    def metadata(self, rows: Ordinals) -> list[bytes]:
        """See `segment.base.View`."""
        return self.segment.metadata(rows)

    def term_lengths(self, property_name: str) -> Lengths | None:
        """See `segment.base.View`."""
        column = self.columns[property_name]
        return column.lengths if isinstance(column, TextColumn) else None

    def term_totals(self, property_name: str) -> tuple[int, int]:
        """See `segment.base.View`. Counted once: the view does not change."""
        totals = self._term_totals.get(property_name)
        if totals is None:
            lengths = self.term_lengths(property_name)
            totals = (0, 0) if lengths is None else totals_of(lengths, self.live)
            self._term_totals[property_name] = totals
        return totals

    def postings(self, property_name: str, term: str) -> Postings:
        """See `segment.base.View`."""
        column = self.columns[property_name]
        return column.postings(term) if isinstance(column, TextColumn) else NO_POSTINGS

    def term_lookup(self, built: Library, property_name: str, terms: Terms) -> Lookup | None:
        """See `segment.base.View`."""
        column = self.columns[property_name]
        if not isinstance(column, TextColumn):
            return None
        return column.lookup(built, terms, None if self.live_count == len(self.live) else self.live)

    def covered_count(self, property_name: str) -> int:
        """See `segment.base.View`."""
        column = self.columns[property_name]
        if column is None:
            return 0
        older = column.uncovered
        return self.live_count - int(np.count_nonzero(self.live[older]))

    def live_namespaces(self) -> set[str]:
        """See `segment.base.View`."""
        return keys_of(self.segment.namespaces.keys, self.segment.namespaces.codes[self.live])
