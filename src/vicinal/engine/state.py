"""The writable state of an index, which mutations change, and its snapshots.

The state has segments with masks of their live rows, perhaps a memtable that is being sealed, and
the memtable. One applier owns the state. Snapshots are immutable, so a mask that a snapshot has is
replaced by a changed copy.

A mutation has the same effect on the same state at any time. Replay starts from an older state, in
which only rows are missing that a later mutation kills; such a mutation leaves the id in the same
state either way, so a second application changes nothing.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from vicinal.engine.backfill import Backfill, is_complete
from vicinal.engine.log import Entry
from vicinal.engine.snapshot import Snapshot
from vicinal.model import (
    BEFORE_ANY,
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexConfig,
    Insert,
    MetadataIndex,
    Mutation,
    Ordinals,
    Seqno,
    Upsert,
    VectorBatch,
)
from vicinal.segment import build
from vicinal.segment import format as layout
from vicinal.segment.base import View
from vicinal.segment.columns import SealedColumn
from vicinal.segment.format import NumberedIndex
from vicinal.segment.ids import hashes
from vicinal.segment.memtable import Memtable, MemtableView
from vicinal.segment.segment import Segment, SegmentView


@dataclass(frozen=True, slots=True)
class SealedState:
    """The part of the state in segments, as of one seqno, as a manifest records it.

    `at` is the time when the newest mutation in it became readable, UTC.
    """

    segments: tuple[SegmentView, ...] = ()
    metadata_indexes: tuple[NumberedIndex, ...] = ()
    next_metadata_index: int = 1
    seqno: Seqno = BEFORE_ANY
    mutation_id: str | None = None
    at: datetime | None = None


class State:
    """The writable state. Not thread-safe: callers hold `lock` around every call."""

    def __init__(self, config: IndexConfig, sealed: SealedState, *, string_bytes_max: int) -> None:
        self.lock = threading.Lock()
        self._config = config
        self._string_bytes_max = string_bytes_max
        self._segments = {view.segment.record.number: view for view in sealed.segments}
        self._own_masks: set[int] = set()
        """Numbers of segments whose mask no snapshot has, so that it may be written to."""
        self._sealing: Memtable | None = None
        self._metadata_indexes = {
            index.metadata_index.property_name: index for index in sealed.metadata_indexes
        }
        self._next_metadata_index = sealed.next_metadata_index
        self._applied_seqno = sealed.seqno
        self._applied_mutation = sealed.mutation_id
        self._applied_at = sealed.at
        self.unsealed_count = 0
        self.unsealed_bytes = 0
        """Mutations that no segment has, and bytes of their records."""
        self.memtable = self._new_memtable()
        self.has_new_columns = self._renew_terms()
        """Whether there are columns that no file has since the index was opened."""

    @property
    def segments(self) -> tuple[SegmentView, ...]:
        """The segments, oldest first, with masks of their live rows."""
        self._own_masks.clear()
        return tuple(self._segments.values())

    @property
    def metadata_indexes(self) -> tuple[NumberedIndex, ...]:
        """The metadata indexes, oldest first."""
        return tuple(self._metadata_indexes.values())

    def apply(
        self, entry: Entry, mutation: Mutation, at: datetime, backfill: Backfill | None = None
    ) -> None:
        """Apply the next mutation of the log, which becomes readable at a time in UTC.

        Args:
            backfill: Columns that the mutation asks for, as far as they are made; what is missing
                is made now.
        """
        assert entry.seqno == self._applied_seqno + 1
        match mutation:
            case Upsert(batch):
                self._upsert(batch, entry.file)
            case Insert(batch):
                self._insert(batch, entry.file)
            case Delete(ids):
                self._kill(list(dict.fromkeys(ids)))
            case CreateMetadataIndex(metadata_index, is_backfilled):
                if is_backfilled and backfill is None:
                    backfill = Backfill(metadata_index, string_bytes_max=self._string_bytes_max)
                self._create_metadata_index(metadata_index, backfill if is_backfilled else None)
            case DeleteMetadataIndex(property_name):
                self._delete_metadata_index(property_name)
        self._applied_seqno, self._applied_mutation = entry.seqno, entry.mutation_id
        self._applied_at = at
        self.unsealed_count += 1
        self.unsealed_bytes += entry.record.size

    def move_to(self, seqno: Seqno, mutation_id: str | None, at: datetime | None) -> None:
        """Say which mutation this is the state after, when it was not made by replaying the log."""
        self._applied_seqno, self._applied_mutation, self._applied_at = seqno, mutation_id, at

    def snapshot(self) -> Snapshot:
        """Return the state as readers may see it."""
        views: list[View] = list(self.segments)
        views += [memtable.view() for memtable in reversed(self._memtables()) if memtable.row_count]
        return Snapshot(
            tuple(views),
            tuple(index.metadata_index for index in self._metadata_indexes.values()),
            self._applied_seqno,
            self._applied_mutation,
            self._applied_at,
        )

    def release(self) -> None:
        """Release everything; the index is closed."""
        self._segments.clear()
        self._sealing = None
        self.memtable = self._new_memtable()

    def freeze(self) -> tuple[MemtableView, SealedState]:
        """Begin a new memtable; return the old one, to be sealed, and the rest of the state."""
        assert self._sealing is None
        self._sealing, self.memtable = self.memtable, self._new_memtable()
        self.unsealed_count = self.unsealed_bytes = 0
        return self._sealing.view(), SealedState(
            self.segments,
            self.metadata_indexes,
            self._next_metadata_index,
            self._applied_seqno,
            self._applied_mutation,
            self._applied_at,
        )

    def replace_sealing(self, segment: Segment | None, rows: Ordinals) -> None:
        """Put a segment in place of the memtable it was sealed from.

        Args:
            segment: None when no row of the memtable was alive.
            rows: The memtable row of each row of the segment.
        """
        assert self._sealing is not None
        memtable, self._sealing = self._sealing.view(), None
        if segment is not None:
            columns = {
                # A column begun after the freeze has no file of the segment.
                key: column or memtable.sealed_column(key, rows)
                for key, column in segment.metadata_columns(self.metadata_indexes).items()
            }
            self._add_segment(SegmentView.of(segment, memtable.live[rows], columns))

    def merged_columns(
        self, old: Sequence[int], segment: Segment, rows: Sequence[Ordinals]
    ) -> Mapping[str, SealedColumn | None]:
        """Return the columns of a merged segment for today's metadata indexes.

        A column that was backfilled while the merge ran has no file of the segment, and is made
        of the columns of the merged segments.

        Args:
            old: The numbers of the merged segments, in the order of their rows.
            rows: The rows of each merged segment that are in the new one.
        """
        parts = [(self._segments[number], kept) for number, kept in zip(old, rows, strict=True)]
        columns = segment.metadata_columns(self.metadata_indexes)
        for column in (c for i in self._metadata_indexes.values() for c in layout.columns_of(i)):
            key = column.key
            if columns[key] is None and any(view.columns[key] for view, _ in parts):
                columns[key] = build.merged_column(
                    column, [(view.columns[key], kept) for view, kept in parts]
                )
        return columns

    def replace_segments(
        self, old: Sequence[int], segment: Segment | None, rows: Sequence[Ordinals]
    ) -> None:
        """Put a merged segment in place of those it was merged from.

        Args:
            old: As for `merged_columns`.
            segment: None when none of their rows was alive.
            rows: As for `merged_columns`.
        """
        columns = {} if segment is None else self.merged_columns(old, segment, rows)
        views = [self._segments.pop(number) for number in old]
        if segment is not None:
            masks = [view.live[kept] for view, kept in zip(views, rows, strict=True)]
            self._add_segment(SegmentView.of(segment, np.concatenate(masks), columns))

    def _upsert(self, batch: VectorBatch, file: Path | None) -> None:
        last = {vector_id: row for row, vector_id in enumerate(batch.ids)}
        self._kill(list(last))
        self.memtable.append(
            batch, None if len(last) == len(batch) else sorted(last.values()), file
        )

    def _insert(self, batch: VectorBatch, file: Path | None) -> None:
        first: dict[str, int] = {}
        for row, vector_id in enumerate(batch.ids):
            first.setdefault(vector_id, row)
        for memtable in self._memtables():
            first = {id: row for id, row in first.items() if id not in memtable}
        ids = list(first)
        id_hashes = hashes(ids)
        for view in self._segments.values():
            for position in np.flatnonzero(view.find(ids, id_hashes) >= 0).tolist():
                first.pop(ids[position], None)
        self.memtable.append(
            batch, None if len(first) == len(batch) else list(first.values()), file
        )

    def _kill(self, ids: list[str]) -> None:
        for memtable in self._memtables():
            ids = memtable.kill(ids)
        if not ids or not self._segments:
            return
        id_hashes = hashes(ids)
        for number, view in self._segments.items():
            rows = view.find(ids, id_hashes)
            rows = rows[rows >= 0]
            if len(rows):
                live = view.live if number in self._own_masks else view.live.copy()
                live[rows] = False
                self._own_masks.add(number)
                self._segments[number] = replace(
                    view, live=live, live_count=view.live_count - len(rows)
                )

    def _create_metadata_index(
        self, metadata_index: MetadataIndex, backfill: Backfill | None
    ) -> None:
        name = metadata_index.property_name
        existing = self._metadata_indexes.get(name)
        if existing is not None and (backfill is None or self._is_complete(name)):
            return
        # An index that exists gets another number with backfill, as files of columns never change.
        numbered = NumberedIndex(self._next_metadata_index, metadata_index)
        self._metadata_indexes[name] = numbered
        self._next_metadata_index += 1
        for memtable in self._memtables():
            memtable.add_column(
                metadata_index, None if backfill is None else backfill.columns_of_memtable(memtable)
            )
        for number, view in self._segments.items():
            if existing is not None and is_complete(view, name):
                continue
            columns: Mapping[str, SealedColumn | None]
            if backfill is None:
                columns = dict.fromkeys(column.key for column in layout.columns_of(numbered))
            else:
                columns = backfill.columns_of_segment(view)
            self._segments[number] = replace(view, columns={**view.columns, **columns})

    def _renew_terms(self) -> bool:
        """Make text indexes anew whose terms another version of the analyzer has made."""
        outdated = [
            numbered.metadata_index
            for numbered in self.metadata_indexes
            for column in layout.columns_of(numbered)
            if any(view.segment.has_other_terms(column) for view in self._segments.values())
        ]
        for index in outdated:
            backfill = Backfill(index, string_bytes_max=self._string_bytes_max)
            self._create_metadata_index(index, backfill)
        return bool(outdated)

    def _is_complete(self, property_name: str) -> bool:
        """Tell whether a metadata index has indexed every row, dead ones too."""
        return all(is_complete(view, property_name) for view in self._segments.values()) and all(
            memtable.is_complete(property_name) for memtable in self._memtables()
        )

    def _delete_metadata_index(self, property_name: str) -> None:
        numbered = self._metadata_indexes.pop(property_name, None)
        if numbered is None:
            return
        keys = {column.key for column in layout.columns_of(numbered)}
        for memtable in self._memtables():
            memtable.remove_column(numbered.metadata_index)
        for number, view in self._segments.items():
            columns = {k: v for k, v in view.columns.items() if k not in keys}
            self._segments[number] = replace(view, columns=columns)

    def _memtables(self) -> list[Memtable]:
        """Return the memtable, and the one that is being sealed, if one is."""
        return [self.memtable] if self._sealing is None else [self.memtable, self._sealing]

    def _add_segment(self, view: SegmentView) -> None:
        self._segments[view.segment.record.number] = view

    def _new_memtable(self) -> Memtable:
        memtable = Memtable(
            self._config.dimensions,
            self._config.metric,
            string_bytes_max=self._string_bytes_max,
            parameters=newest_parameters(list(self._segments.values())),
        )
        for index in self._metadata_indexes.values():
            memtable.add_column(index.metadata_index)
        return memtable


def newest_parameters(segments: Sequence[SegmentView]) -> object | None:
    """Return the parameters of the newest segment whose index has any, None if none has."""
    indexes = (view.segment.index for view in reversed(segments))
    return next((index.parameters for index in indexes if index.parameters is not None), None)
