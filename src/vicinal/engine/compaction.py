"""Sealing and merging: what happens to an index behind its readers' and writers' backs.

Seal (memtable -> segment):

    1  freeze    under the state lock: a new memtable begins, the old one stays readable
    2  build     files of the new segment, from values whose files are verified again;
                 and columns backfilled since the last seal
    3  commit    manifest, tombstones and sealed_seqno in one transaction
    4  swap      under the state lock: the segment replaces the frozen memtable
    5  trim      the log's mutations that the segment holds

Merge (segments -> segment):

    1  choose    segments, by size (`merge.candidates`), with what is dead in them now
    2  build     files of the merged segment; columns backfilled while they were written
    3  commit    manifest and tombstones in one transaction
    4  swap      under the state lock, with what has died meanwhile
    5  remove    the folders merged from; readers keep them mapped

A crash before a commit leaves folders that opening removes, and a crash after it rows and
folders that opening removes. Tombstones are always those as of ``sealed_seqno``: what
died since is in the log. A merge leaves out rows that died after it too, which is safe
because replay kills or replaces exactly those ids (`state.py`).

A merge's long part runs beside seals; both commit under the manifest lock.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from vicinal.engine import memory, merge
from vicinal.engine.log import Log, Manifest
from vicinal.engine.recovery import SEGMENTS, microseconds
from vicinal.engine.state import SealedState, State
from vicinal.errors import Corruption, ResourceExhausted
from vicinal.model import IndexConfig, Mask, Ordinals
from vicinal.segment import build
from vicinal.segment import format as layout
from vicinal.segment.build import NumberedIndex
from vicinal.segment.columns import Column
from vicinal.segment.memtable import MemtableView
from vicinal.segment.segment import Segment


class Compaction:
    """Seals and merges one index. `seal` has one caller at a time, and so has `merge_once`.

    Args:
        folder: The index's folder.
        log: Its log; only this class commits to its manifest.
        state: Its state, used under its lock.
        publish: Called under its lock when its segments have changed.
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
        self._next_segment = log.manifest.next_segment
        self._frozen: tuple[MemtableView, SealedState] | None = None
        """What is being sealed, or could not be yet."""
        self._sealed_live = {each.number: log.live_rows(each) for each in log.manifest.segments}
        """For each segment of the manifest the rows alive as of its sealed_seqno."""

    def seal(self) -> None:
        """Turn the memtable into a segment; with an empty memtable, bring the manifest up to date.

        Raises:
            OSError, ResourceExhausted: it could not be written. The memtable stays frozen, and is
                what the next call seals; nothing is merged until then.
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
        with suppress(ResourceExhausted):  # mutations that stay are trimmed with the next
            self._log.truncate()
        del memtable, sealed, columns
        memory.release()

    def _sealed(
        self, memtable: MemtableView, sealed: SealedState
    ) -> tuple[Segment | None, Ordinals, Sequence[Column]]:
        """Write a frozen memtable as a segment and commit it.

        Returns:
            The segment, the memtable row of each of its rows, and its columns, to be held on to
            until they are in use, so that their files are open then.

        Raises:
            OSError, ResourceExhausted: it could not be written. Nothing is left of it.
        """
        number = self._take_number()
        segment, rows = None, np.empty(0, np.int64)
        columns: list[Column] = []
        try:
            if memtable.live_count:
                self._log.verify_files(sealed.seqno)
                record, rows = build.seal_memtable(
                    self._segments, number, memtable, sealed.metadata_indexes, self._config.metric
                )
                segment = Segment(self._segments, record, self._config.metric)
                columns = [
                    segment.column(layout.column_name(each.number), each.metadata_index.index_type)
                    for each in sealed.metadata_indexes
                ]
            self._commit_seal(sealed, segment)
        except (OSError, ResourceExhausted):
            build.remove(self._segments, number)
            raise
        return segment, rows, columns

    def merge_once(self, *, is_idle: bool) -> bool:
        """Merge what the policy chooses; return whether there was anything to merge.

        Raises:
            OSError, ResourceExhausted: files could not be written. They are removed; nothing has
                changed.
        """
        with self._state.lock:
            views = {each.segment.record.number: each for each in self._state.segments}
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
                return False  # what will be sealed is as of the segments there are
            number = self._take_number()
        merged = [views[each] for each in chosen]
        segment, kept = None, [np.empty(0, np.int64) for _ in chosen]
        try:
            if any(view.live_count for view in merged):
                record, kept = build.merge(
                    self._segments, number, merged, indexes, self._config.metric
                )
                segment = Segment(self._segments, record, self._config.metric)
            with self._manifest_lock:
                if self._frozen is not None:
                    build.remove(self._segments, number)
                    return False
                # Held on to, so that their files are open once they are needed.
                columns = self._commit_merge(chosen, segment, kept)
                with self._state.lock:
                    self._state.replace_segments(chosen, segment, kept)
                    self._publish()
                del columns
        except (OSError, ResourceExhausted):
            build.remove(self._segments, number)
            raise
        for each in chosen:
            build.remove(self._segments, each)
        del views, merged
        memory.release()
        return True

    @property
    def unverified_bytes(self) -> int:
        """How many bytes `verify` would read."""
        with self._state.lock:
            views = self._state.segments
        return sum(file.unverified_bytes for view in views for file in view.segment.files)

    def verify(self, should_stop: Callable[[], bool]) -> None:
        """Read and verify every byte of every segment not verified yet.

        Raises:
            Corruption: a file is damaged.
        """
        with self._state.lock:
            views = self._state.segments
        for view in views:
            for file in view.segment.files:
                file.verify_all(should_stop)

    def check_sizes(self) -> None:
        """Look whether all files that are mapped still have the lengths that they had then.

        Touching a page behind the end of a file would end the process.

        Raises:
            Corruption: one is shorter, or gone.
        """
        with self._state.lock:
            views = self._state.segments
        for view in views:
            try:
                for file in view.segment.files:
                    file.check_size()
            except Corruption:
                with self._state.lock:
                    is_used = any(each.segment is view.segment for each in self._state.segments)
                if is_used:  # else it was merged, and its files removed
                    raise
        self._log.blobs.check_sizes()

    def release(self) -> None:
        """Drop what was kept of segments: the index is closed."""
        self._sealed_live.clear()
        self._frozen = None

    def _commit_seal(self, sealed: SealedState, segment: Segment | None) -> None:
        manifest = self._log.manifest
        views = {each.segment.record.number: each for each in sealed.segments}
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
    ) -> Mapping[str, Column | None]:
        """Commit a merge; return the columns of its segment."""
        columns: Mapping[str, Column | None] = {}
        manifest = self._log.manifest
        live = dict(self._sealed_live)
        masks = [live.pop(number)[rows] for number, rows in zip(chosen, kept, strict=True)]
        records = [each for each in manifest.segments if each.number not in chosen]
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
        columns: Mapping[str, Column | None],
        indexes: Sequence[NumberedIndex],
    ) -> layout.SegmentRecord:
        """Write the columns that exist only in memory, because they were backfilled."""
        components = dict(record.components)
        for each in indexes:
            column = columns[each.metadata_index.property_name]
            name = layout.column_name(each.number)
            if column is not None and name not in components:
                components[name] = build.write_column(
                    self._segments, record.number, each.number, column
                )
        return replace(record, components=components)

    def _take_number(self) -> int:
        self._next_segment += 1
        return self._next_segment - 1
