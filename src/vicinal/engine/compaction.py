"""Sealing and merging of one index, concurrently with its readers and writers.

Seal (memtable -> segment):

    1  freeze    under the state lock: a new memtable begins, the old one stays readable
    2  build     files of the new segment, from values whose files are verified again;
                 and columns backfilled since the last seal
    3  commit    manifest, tombstones and sealed_seqno in one transaction
    4  swap      under the state lock: the segment replaces the frozen memtable
    5  truncate  the log's mutations that the segment has

Merge (segments -> segment):

    1  choose    segments, by size (`merge.candidates`), with their dead rows
    2  build     files of the merged segment; columns backfilled while they were written
    3  commit    manifest and tombstones in one transaction
    4  swap      under the state lock, with the rows that died meanwhile
    5  remove    the folders merged from, once no copy is made of them; readers keep them mapped

Opening removes the folders that a crash before a commit leaves, and the rows and folders that a
crash after it leaves. Tombstones are those as of ``sealed_seqno``: later deaths are in the log. A
merge leaves out rows that died later too, which is safe because replay kills or replaces exactly
those ids (`state.py`).

A merge's long part runs beside seals; both commit under the manifest lock. The second step of a
merge is given up when the index is closed: its files are removed, and nothing has changed. A seal,
which memory bounds, is finished.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vicinal.engine import memory, merge
from vicinal.engine.log import Log
from vicinal.engine.manifest import Manifest
from vicinal.engine.recovery import SEGMENTS, microseconds
from vicinal.engine.state import SealedState, State, newest_parameters
from vicinal.errors import Corruption, ResourceExhausted
from vicinal.interruption import Interrupted, interruptible
from vicinal.model import IndexConfig, Mask, Ordinals
from vicinal.segment import build
from vicinal.segment import format as layout
from vicinal.segment.columns import SealedColumn
from vicinal.segment.format import NumberedIndex
from vicinal.segment.memtable import MemtableView
from vicinal.segment.segment import Segment, SegmentView


class Compaction:
    """Seals and merges one index. `seal` has one caller at a time, and so has `merge_once`.

    Args:
        log: Only this class commits to its manifest.
        publish: Called under the state's lock when its segments have changed.
    """

    def __init__(
        self,
        folder: Path,
        log: Log,
        config: IndexConfig,
        state: State,
        publish: Callable[[], None],
    ) -> None:
        self._segments = folder / SEGMENTS
        self._log = log
        self._config = config
        self._state = state
        self._publish = publish
        self._manifest_lock = threading.Lock()
        self._is_interrupted = False
        self._next_segment = log.manifest.next_segment
        self._frozen: tuple[MemtableView, SealedState] | None = None
        """The memtable that is being sealed, or that the next seal has to write."""
        self._sealed_live = {
            record.number: log.live_rows(record) for record in log.manifest.segments
        }
        """Segment number -> mask of the rows alive as of the manifest's sealed_seqno."""

    def interrupt(self) -> None:
        """Give up the merge that is being written, as the index is about to be closed."""
        self._is_interrupted = True

    def seal(self) -> None:
        """Turn the memtable into a segment; with an empty memtable, bring the manifest up to date.

        Raises:
            OSError, ResourceExhausted: a file could not be written. The memtable stays frozen, and
                the next call seals it; nothing is merged until then.
        """
        with self._manifest_lock:
            if self._frozen is None:
                with self._state.lock:
                    self._frozen = self._state.freeze()
                    self._publish()
            memtable, sealed = self._frozen
            segment, rows, columns = self._sealed(memtable, sealed)
            with self._state.lock:
                self._state.replace_sealing(segment, rows)
                self._publish()
            self._frozen = None
        with suppress(ResourceExhausted):  # the next seal truncates the rest
            self._log.truncate()
        memtable_bytes = memtable.byte_count
        del memtable, sealed, columns
        memory.release_after(memtable_bytes + _written_bytes(segment))

    def _sealed(
        self, memtable: MemtableView, sealed: SealedState
    ) -> tuple[Segment | None, Ordinals, Mapping[str, SealedColumn | None]]:
        """Write a frozen memtable as a segment and commit it.

        Returns:
            The segment, the memtable row of each of its rows, and its columns, to be kept until
            they are in use, so that their files are open then.

        Raises:
            OSError, ResourceExhausted: a file could not be written. All files are removed.
        """
        number = self._take_number()
        segment, rows = None, np.empty(0, np.int64)
        columns: Mapping[str, SealedColumn | None] = {}
        try:
            if memtable.live_count:
                self._log.verify_files(sealed.seqno)
                # Of the segments now: this memtable may have begun before there was one.
                parameters = newest_parameters(sealed.segments)
                record, rows = build.seal_memtable(
                    self._segments, number, memtable, sealed.metadata_indexes, self._config.metric,
                    parameters,
                )  # fmt: skip
                segment = Segment(self._segments, record, self._config.metric)
                columns = segment.metadata_columns(sealed.metadata_indexes)
            self._commit_seal(sealed, segment)
        except (OSError, ResourceExhausted):
            build.remove(self._segments, number)
            raise
        return segment, rows, columns

    def merge_once(self, *, is_idle: bool) -> bool:
        """Merge the segments that the policy chooses; tell whether it chose any.

        Raises:
            OSError, ResourceExhausted, Interrupted: files could not be written, or that was given
                up. They are removed; nothing has changed.
        """
        with self._state.lock:
            views = {view.segment.record.number: view for view in self._state.segments}
            indexes = self._state.metadata_indexes
        chosen = merge.candidates(
            [
                merge.SegmentSize(number, len(view.live), view.live_count, view.segment.lacks_index)
                for number, view in views.items()
            ],
            is_idle=is_idle,
        )
        if not chosen:
            return False
        with self._manifest_lock:
            if self._frozen is not None:
                return False  # the frozen state refers to the present segments
            number = self._take_number()
        merged = [views[old] for old in chosen]
        segment, kept = None, [np.empty(0, np.int64) for _ in chosen]
        try:
            if any(view.live_count for view in merged):
                with interruptible(self._check_open):  # and not once it is committed
                    record, kept = build.merge(
                        self._segments, number, merged, indexes, self._config.metric
                    )
                segment = Segment(self._segments, record, self._config.metric)
            with self._manifest_lock:
                if self._frozen is not None:
                    build.remove(self._segments, number)
                    return False
                # Kept, so that their files are open when they are needed.
                columns = self._commit_merge(chosen, segment, kept)
                with self._state.lock:
                    self._state.replace_segments(chosen, segment, kept)
                    self._publish()
                del columns
        except (OSError, ResourceExhausted, Interrupted):
            build.remove(self._segments, number)
            raise
        for old in chosen:
            self._log.pins.remove_segment(old, partial(build.remove, self._segments, old))
        del views, merged
        memory.release_after(_written_bytes(segment))
        return True

    @property
    def unverified_bytes(self) -> int:
        """Bytes that `verify` would read."""
        return sum(file.unverified_bytes for view in self._views() for file in view.segment.files)

    def verify(self, should_stop: Callable[[], bool]) -> None:
        """Read and verify all unverified bytes of all segments.

        Raises:
            Corruption: a file is damaged.
        """
        for view in self._views():
            for file in view.segment.files:
                file.verify_all(should_stop)

    def check_sizes(self) -> None:
        """Check that all mapped files still have their lengths.

        Reading a page behind the end of a file would end the process.

        Raises:
            Corruption: a file has another length, or is gone.
        """
        for view in self._views():
            try:
                for file in view.segment.files:
                    file.check_size()
            except Corruption:
                is_used = any(used.segment is view.segment for used in self._views())
                if is_used:  # else it was merged, and its files removed
                    raise
        self._log.blobs.check_sizes()

    def release(self) -> None:
        """Release the segments of a closed index."""
        self._sealed_live.clear()
        self._frozen = None

    def _views(self) -> Sequence[SegmentView]:
        with self._state.lock:
            return self._state.segments

    def _commit_seal(self, sealed: SealedState, segment: Segment | None) -> None:
        manifest = self._log.manifest
        views = {view.segment.record.number: view for view in sealed.segments}
        records = [
            self._with_columns(record, views[record.number].columns, sealed.metadata_indexes)
            for record in manifest.segments
        ]
        live = {number: view.live for number, view in views.items()}
        if segment is not None:
            records.append(segment.record)
            live[segment.record.number] = np.ones(segment.record.row_count, np.bool_)
        self._commit(
            replace(
                manifest,
                segments=tuple(records),
                metadata_indexes=sealed.metadata_indexes,
                next_metadata_index=sealed.next_metadata_index,
                sealed_seqno=sealed.seqno,
                sealed_mutation=sealed.mutation_id,
                sealed_at=None if sealed.at is None else microseconds(sealed.at),
            ),
            live,
        )

    def _commit_merge(
        self, chosen: Sequence[int], segment: Segment | None, kept: Sequence[Ordinals]
    ) -> Mapping[str, SealedColumn | None]:
        """Commit a merge; return the columns of its segment."""
        columns: Mapping[str, SealedColumn | None] = {}
        manifest = self._log.manifest
        live = dict(self._sealed_live)
        masks = [live.pop(number)[rows] for number, rows in zip(chosen, kept, strict=True)]
        records = [record for record in manifest.segments if record.number not in chosen]
        if segment is not None:
            with self._state.lock:
                columns = self._state.merged_columns(chosen, segment, kept)
                indexes = self._state.metadata_indexes
            records.append(self._with_columns(segment.record, columns, indexes))
            live[segment.record.number] = np.concatenate(masks)
        self._commit(replace(manifest, segments=tuple(records)), live)
        return columns

    def _commit(self, manifest: Manifest, live: Mapping[int, Mask]) -> None:
        self._log.commit(replace(manifest, next_segment=self._next_segment), live)
        self._sealed_live = dict(live)

    def _with_columns(
        self,
        record: layout.SegmentRecord,
        columns: Mapping[str, SealedColumn | None],
        indexes: Sequence[NumberedIndex],
    ) -> layout.SegmentRecord:
        """Write backfilled columns, which are in memory alone."""
        components = dict(record.components)
        for indexed in (column_ for index in indexes for column_ in layout.columns_of(index)):
            column, name = columns[indexed.key], indexed.component
            if column is not None and name not in components:
                components[name] = build.write_column(self._segments, record.number, name, column)
        return replace(record, components=components)

    def _check_open(self) -> None:
        if self._is_interrupted:
            raise Interrupted

    def _take_number(self) -> int:
        self._next_segment += 1
        return self._next_segment - 1


def _written_bytes(segment: Segment | None) -> int:
    return 0 if segment is None else sum(s.size for s in segment.record.components.values())
