"""The memtable: the newest vectors of an index, in memory.

A small memtable is searched exactly; a larger one has an index that grows with it and uses the
parameters of a segment's index (`row_index`).

One applier writes; it appends rows and marks rows dead, then takes a `MemtableView` for the
next snapshot. Arrays are shared with views, which is safe because a written row never changes:
appending writes behind every view's row count, and growing or marking dead replaces the array
instead of writing to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import TypeGuard, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from vicinal.ann.base import Selection
from vicinal.ann.exact import ExactIndex, norms
from vicinal.ann.kinds import GrowingIndex
from vicinal.filters.nodes import AnyOf, Clause, Filter, Not, Operator, Predicate
from vicinal.index_storage import MEMTABLE
from vicinal.model import (
    Floats,
    IndexType,
    Mask,
    MetadataIndex,
    Metric,
    Ordinals,
    VectorBatch,
)
from vicinal.native.library import Library
from vicinal.segment import format as layout
from vicinal.segment import growing, row_index
from vicinal.segment.arena import MappedArena
from vicinal.segment.columns import Column, GrowingColumn, SealedColumn, keys_of
from vicinal.segment.growing import AnyGrowing, BackfilledColumns
from vicinal.segment.ids import Hashes
from vicinal.segment.postings import (
    NO_POSTINGS,
    GrowingTextColumn,
    Lengths,
    Lookup,
    Postings,
    Terms,
    totals_of,
)
from vicinal.segment.row_index import RowIndex

_FEW = 1_000  # rows
# Address space for the rows that arrive while the memtable before is sealed, within bounds: ours.
_RESERVED_ROWS, _RESERVED_BYTES = 80_000, 256 << 20

T = TypeVar("T")
Number = TypeVar("Number", bound=np.generic)


class Memtable:
    """The mutable rows of an index. Not thread-safe: its one applier calls everything."""

    def __init__(
        self,
        dimensions: int,
        metric: Metric,
        *,
        string_bytes_max: int,
        parameters: object | None = None,
    ) -> None:
        self.row_count = 0
        self.live_count = 0
        self._metric = metric
        self._parameters = parameters
        self._growing: GrowingIndex | None = None
        self._string_bytes_max = string_bytes_max
        self._arena: MappedArena | None = None  # of `_values`, above `_FEW` rows
        self._values: Floats = np.empty((64, dimensions), np.float32)
        self._norms: Floats = np.empty(64, np.float32)
        self._live: Mask = np.zeros(64, np.bool_)
        self._is_live_shared = False
        self._ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self.kill_count = 0  # raised before a row dies, so that readers notice
        self._metadata: list[bytes] = []
        self._namespaces = GrowingColumn(IndexType.STRING)
        self._columns: dict[str, AnyGrowing] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the values, the part of the memory that grows with dimensions."""
        return int(self._values[: self.row_count].nbytes)

    def append(
        self,
        batch: VectorBatch,
        rows: Sequence[int] | None = None,
        file: Path | None = None,
    ) -> None:
        """Append vectors whose ids are live nowhere in the memtable.

        Args:
            rows: The rows of the batch to append; None appends all.
            file: Has the values of the batch from `FILE_OFFSET` on, if given; it never changes.
        """
        if rows is not None:
            file = None
            batch = VectorBatch(
                [batch.ids[row] for row in rows],
                batch.values[list(rows)],
                [batch.namespaces[row] for row in rows],
                [batch.metadata[row] for row in rows],
            )
        coded_count = self.row_count
        start = self._store(batch.values, file)
        end = start + len(batch)
        self._norms[start:end] = norms(batch.values)
        if self._growing is not None:
            self._growing.extend(self._values[coded_count:end])
        else:
            self._growing = row_index.grow(self._values[:end], self._metric, self._parameters)
        self._live[start:end] = True
        self._ids.extend(batch.ids)
        self._row_of.update(zip(batch.ids, range(start, end), strict=True))
        self._metadata.extend(batch.metadata)
        self._namespaces.extend(namespace or None for namespace in batch.namespaces)
        self._extend_columns(batch.metadata)
        self.row_count = end
        self.live_count += len(batch)

    def kill(self, ids: Sequence[str]) -> list[str]:
        """Mark the rows of these ids dead; return the ids that are not in the memtable."""
        rows = {
            vector_id: self._row_of[vector_id] for vector_id in ids if vector_id in self._row_of
        }
        if rows:
            self.kill_count += 1
            for vector_id in rows:
                del self._row_of[vector_id]
            if self._is_live_shared:
                self._live = self._live.copy()
                self._is_live_shared = False
            self._live[list(rows.values())] = False
            self.live_count -= len(rows)
        return [vector_id for vector_id in ids if vector_id not in rows]

    def __contains__(self, vector_id: str) -> bool:
        return vector_id in self._row_of

    def add_column(
        self, metadata_index: MetadataIndex, backfilled: BackfilledColumns | None = None
    ) -> None:
        """Begin the columns of an index, in which rows already there lack a value, or take over
        those of its first rows."""
        if backfilled is None:
            columns = growing.begun(metadata_index, self.row_count)
        else:
            backfilled.extend(self._metadata[backfilled.row_count :])
            columns = backfilled.columns
        # Views hold the dictionary they were given, so it is replaced, not changed.
        self._columns = {**self._columns, **columns}

    def is_complete(self, property_name: str) -> bool:
        """Tell whether every row has been indexed by the metadata index of a property."""
        return not self._columns[property_name].uncovered_count

    def remove_column(self, metadata_index: MetadataIndex) -> None:
        """Remove the columns of an index; views keep theirs."""
        keys = growing.keys_of(metadata_index)
        self._columns = {k: v for k, v in self._columns.items() if k not in keys}

    def view(self) -> "MemtableView":
        """Return the rows as they are now; later writes do not change the view."""
        self._is_live_shared = True
        count = self.row_count
        exact = ExactIndex(self._values[:count], self._norms[:count], self._metric)
        approximate = None if self._growing is None else self._growing.index(exact)
        return MemtableView(
            live=self._live[:count],
            live_count=self.live_count,
            _values=self._values[:count],
            index=RowIndex(exact, approximate),
            _norms=exact.norms,
            memtable=self,
            _kill_count=self.kill_count,
            _ids=self._ids,
            _row_of=self._row_of,
            _metadata=self._metadata,
            _namespaces=self._namespaces,
            columns=self._columns,
        )

    def _store(self, values: Floats, file: Path | None) -> int:
        """Copy values behind all rows, or map them there; return the row of the first."""
        start, end = self.row_count, self.row_count + len(values)
        self._reserve(end)
        if file is not None and self._arena is not None:
            first = self._arena.map_file(start, len(values), file)
            if first is not None:
                self._skip(first - start)
                return first
        self._values[start:end] = values
        return start

    def _skip(self, count: int) -> None:
        """Append rows that were never alive."""
        start, end = self.row_count, self.row_count + count
        self._norms[start:end] = 0
        self._live[start:end] = False
        self._ids.extend([""] * count)
        self._metadata.extend([b""] * count)
        self._namespaces.extend([None] * count)
        self._extend_columns([b""] * count)
        self.row_count = end

    def _extend_columns(self, encoded: Sequence[bytes]) -> None:
        if not self._columns:
            return
        growing.extend(self._columns, encoded, string_bytes_max=self._string_bytes_max)

    def _reserve(self, row_count: int) -> None:
        capacity = len(self._values)
        if row_count <= capacity:
            return
        # Rows not written to take no memory, so a large memtable grows once: growing copies it.
        reserved = min(_RESERVED_ROWS, _RESERVED_BYTES // self._values[0].nbytes)
        capacity = max(row_count, 2 * capacity, reserved if row_count > _FEW else 0)
        count, old = self.row_count, self._values
        if capacity > _FEW:
            self._arena = MappedArena(capacity, old.shape[1])
            self._values = self._arena.values
        else:
            self._values = np.empty((capacity, old.shape[1]), np.float32)
        self._values[:count] = old[:count]
        self._norms = _grown(self._norms[:count], capacity)
        self._live = _grown(self._live[:count], capacity)
        self._is_live_shared = False


@dataclass(frozen=True, slots=True)
class MemtableView:
    """The memtable as one snapshot sees it: the rows before `len(live)`."""

    live: Mask
    live_count: int
    columns: Mapping[str, AnyGrowing]
    index: RowIndex
    memtable: Memtable
    _kill_count: int
    _values: Floats
    _norms: Floats
    _ids: Sequence[str]
    _row_of: Mapping[str, int]
    _metadata: Sequence[bytes]
    _namespaces: GrowingColumn

    def find(self, ids: Sequence[str], id_hashes: Hashes) -> Ordinals:
        """See `segment.base.View`."""
        count = len(self.live)
        rows = np.array([self._row_of.get(vector_id, -1) for vector_id in ids], np.int64)
        rows[rows >= count] = -1
        if self.memtable.kill_count != self._kill_count:
            # The memtable has changed, and its map may lack ids that are alive in this view.
            index_of = {vector_id: index for index, vector_id in enumerate(ids)}
            for row in np.flatnonzero(self.live).tolist():
                index = index_of.get(self._ids[row])
                if index is not None:
                    rows[index] = row
            rows[~self.live[rows]] = -1
        return rows

    def select(self, namespace: str, filter_: Filter) -> Selection:
        """See `segment.base.View`."""
        if not namespace and not filter_:
            is_all = self.live_count == len(self.live)
            return Selection(self.live_count, mask=None if is_all else self.live)
        mask = self.live
        if namespace:
            is_in = Predicate("", Operator.EQ, (namespace,))
            mask = mask & self._namespaces.mask(is_in, len(self.live))
        for clause in filter_:
            mask = mask & self._mask(clause)
        return Selection.of_mask(mask)

    def _mask(self, clause: Clause) -> Mask:
        """Tell for each row whether it passes a clause."""
        row_count = len(self.live)
        match clause:
            case Predicate(name, Operator.CONTAINS, operands):
                if layout.elements_key(name) not in self.columns:
                    return np.zeros(row_count, np.bool_)
                column = self._values_column(layout.elements_key(name))
                return column.mask_containing(operands[0], row_count)
            case Predicate(name, Operator.EXISTS) if layout.elements_key(name) in self.columns:
                scalar = self._values_column(name).mask(clause, row_count)
                array = self._values_column(layout.elements_key(name)).mask(clause, row_count)
                return scalar | array if clause.operands[0] else scalar & array
            case Predicate(name):
                return self._values_column(name).mask(clause, row_count)
            case AnyOf(filters):
                mask = np.zeros(row_count, np.bool_)
                for branch in filters:
                    mask |= self._mask_of_all(branch)
                return mask
            case Not(inner):
                return ~self._mask_of_all(inner)
            case _:
                assert_never(clause)

    def _values_column(self, key: str) -> GrowingColumn:
        """Return a column that a filter names."""
        column = self.columns[key]
        assert isinstance(column, GrowingColumn)
        return column

    def _mask_of_all(self, filter_: Filter) -> Mask:
        mask = np.ones(len(self.live), np.bool_)
        for clause in filter_:
            mask &= self._mask(clause)
        return mask

    @property
    def name(self) -> str:
        """See `segment.base.View`."""
        return MEMTABLE

    def values(self, rows: Ordinals) -> Floats:
        """See `segment.base.View`."""
        return self._values[rows]

    def values_between(self, start: int, stop: int) -> Floats:
        """Return the values of adjacent rows, dead or alive, without a copy."""
        return self._values[start:stop]

    def norms(self, rows: Ordinals) -> Floats:
        """Return the norms of these rows, ``(len(rows),)``."""
        return self._norms[rows]

    def ids(self, rows: Ordinals) -> list[str]:
        """See `segment.base.View`."""
        return _at(self._ids, rows)

    @property
    def id_source(self) -> Sequence[str]:
        """See `segment.base.View`."""
        return self._ids

    def first_by_id(self, rows: Ordinals, count: int) -> Ordinals:
        """See `segment.base.View`."""
        if len(rows) <= max(count, _FEW):
            return rows
        first = nsmallest(count, rows.tolist(), key=self._ids.__getitem__)
        return np.array(first, np.int64)

    def with_prefix(self, rows: Ordinals, prefix: str) -> Ordinals:
        """See `segment.base.View`."""
        has = np.fromiter((self._ids[row].startswith(prefix) for row in rows.tolist()), np.bool_)
        return rows[has]

    def buffers(self) -> Iterable[Floats]:
        """See `segment.base.View`."""
        return (self._values,)

    @property
    def byte_count(self) -> int:
        """See `segment.base.View`."""
        return len(self.live) * self.dimensions * self._values.itemsize

    def namespaces(self, rows: Ordinals) -> list[str]:
        """See `segment.base.View`."""
        values = (self._namespaces.value(row) for row in rows.tolist())
        return ["" if value is None else str(value) for value in values]

    def metadata(self, rows: Ordinals) -> list[bytes]:
        """See `segment.base.View`."""
        return _at(self._metadata, rows)

    def metadata_between(self, start: int, stop: int) -> Sequence[bytes]:
        """Return the metadata of adjacent rows, dead or alive."""
        return self._metadata[start:stop]

    def live_namespaces(self) -> set[str]:
        """See `segment.base.View`."""
        codes = self._namespaces.codes(len(self.live))
        return keys_of(self._namespaces.keys, codes[self.live])

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return int(self._values.shape[1])

    def sealed_columns(self, rows: Ordinals) -> tuple[Column, Mapping[str, SealedColumn]]:
        """Return sealed columns of these rows: the namespaces, and those of metadata indexes.

        A column of elements that no row has a value in is left out.
        """
        sealed = {key: self.sealed_column(key, rows) for key in self.columns}
        kept = {key: column for key, column in sealed.items() if column is not None}
        return self._namespaces.sealed(rows), kept

    def sealed_column(self, key: str, rows: Ordinals) -> SealedColumn | None:
        """Return one sealed column of these rows; None for elements where no row has a value."""
        growing = self.columns[key]
        if isinstance(growing, GrowingTextColumn):
            return growing.sealed(rows)
        has_elements = layout.property_of(key) != key
        column = growing.sealed(rows, is_indexed=not has_elements)
        return None if has_elements and not len(column.keys) else column

    def term_lengths(self, property_name: str) -> Lengths | None:
        """See `segment.base.View`."""
        column = self.columns[property_name]
        return column.lengths_of(len(self.live)) if _is_text(column) else None

    def term_totals(self, property_name: str) -> tuple[int, int]:
        """See `segment.base.View`."""
        lengths = self.term_lengths(property_name)
        return (0, 0) if lengths is None else totals_of(lengths, self.live)

    def postings(self, property_name: str, term: str) -> Postings:
        """See `segment.base.View`."""
        column = self.columns[property_name]
        return column.postings(term, len(self.live)) if _is_text(column) else NO_POSTINGS

    def term_lookup(self, _built: Library, property_name: str, terms: Terms) -> Lookup | None:
        """See `segment.base.View`."""
        column = self.columns[property_name]
        if not _is_text(column):
            return None
        return column.lookup(terms, self.live, has_dead=self.live_count < len(self.live))

    def covered_count(self, property_name: str) -> int:
        """See `segment.base.View`."""
        older = self.live[: self.columns[property_name].uncovered_count]
        return self.live_count - int(np.count_nonzero(older))


def _is_text(column: AnyGrowing) -> TypeGuard[GrowingTextColumn]:
    return isinstance(column, GrowingTextColumn)


def _grown(items: NDArray[Number], capacity: int) -> NDArray[Number]:
    """Return a copy of these items in an array of this capacity."""
    grown = np.empty(capacity, items.dtype)
    grown[: len(items)] = items
    return grown


def _at(items: Sequence[T], rows: Ordinals) -> list[T]:
    """Return the items of these rows."""
    # Python may keep for long what many numbers take for a moment.
    starts = range(0, len(rows), _FEW)
    return [items[row] for start in starts for row in rows[start : start + _FEW].tolist()]
