"""A copy: one index in a local folder that follows a log which is kept elsewhere.

    fill     an empty folder gets the rows as of one seqno, in segments
    replay   the mutations after it, in order, each once: applied, one new snapshot, visible
               -> a full memtable: sealed and merged (`compactor`)

A copy has no log of its own: what is in its memtable when the process ends is replayed again from
`position`, which is where its segments end. Replaying is never refused; it waits while the memtable
is several times full. Damage, and any error but want of disk space, ends the copy: its keeper
removes it and fills another.

Locks as in `index`: the state's is held to apply, freeze and swap; reads take none (`reader`).
"""

import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from vicinal.engine import recovery
from vicinal.engine.admission import vector_count
from vicinal.engine.backfill import backfill_of
from vicinal.engine.compaction import Compaction
from vicinal.engine.compactor import Compactor, SealPolicy
from vicinal.engine.cursors import Cursors
from vicinal.engine.health import Health
from vicinal.engine.log import Entry, Log
from vicinal.engine.options import EngineOptions
from vicinal.engine.reader import Reader
from vicinal.engine.records import LogRecord
from vicinal.engine.recovery import SEGMENTS
from vicinal.engine.resources import Resources
from vicinal.engine.snapshot import EMPTY
from vicinal.engine.state import SealedState, State
from vicinal.engine.watched import index_usage
from vicinal.errors import Corruption, Error, Unavailable
from vicinal.interruption import interruptible
from vicinal.model import (
    BEFORE_ANY,
    Index,
    IndexAddress,
    Mutation,
    Seqno,
)
from vicinal.storage import private
from vicinal.storage.files import sync, sync_directory
from vicinal.usage import IndexUsage

logger = logging.getLogger(__name__)

FILLED = "filled"  # a file that is there once all of a copy is
FILL_ROWS_MAX = 100_000  # of a segment that filling makes; ours
FILL_BYTES_MAX = 256 << 20  # of its values; ours
WAIT_S = 1.0  # between two looks whether a memtable that could not be sealed now is
IDLE_SEAL_ROWS_MIN = 1_000  # as in `index`
IDLE_COUNT = 2  # calls of `compact_idle` without a mutation before it merges and seals; ours
IDLE_COUNT_SHORT = 12  # before it seals fewer rows; ours

_NO_RECORD = LogRecord(b"")


@dataclass(frozen=True, slots=True)
class CopyPosition:
    """How far a copy has come: the newest mutation that it contains, None before any."""

    seqno: Seqno = BEFORE_ANY
    mutation_id: str | None = None


class FillSource(Protocol):
    """The content of a new copy.

    Attributes:
        vector_count: How many vectors about; decides how large segments are, no more.
    """

    vector_count: int

    def mutations(self) -> Iterator[Mutation]:
        """Yield what makes the index; these mutations are not those of the log."""

    def finish(self, vector_count: int) -> CopyPosition:
        """Return where the index is after all mutations.

        Args:
            vector_count: How many vectors the copy has.

        Raises:
            Error: the copy is not what it should be.
        """


def is_filled(folder: Path) -> bool:
    """Tell whether a folder holds a whole copy."""
    return (folder / FILLED).exists()


def fill(folder: Path, index: Index, options: EngineOptions, source: FillSource) -> None:
    """Make a copy in a folder that is not there, or holds one that is not whole.

    May be interrupted; the folder is then not whole.

    Args:
        folder: Where.
        index: Of what.
        options: Of the engine.
        source: Its content.

    Raises:
        ResourceExhausted: the disk is full.
        Error: the source cannot be read.
    """
    shutil.rmtree(folder, ignore_errors=True)
    private.make_folder(folder)
    private.make_folder(folder / SEGMENTS)
    Log.create(folder)
    log = Log(folder)
    try:
        string_bytes_max = options.limits.indexed_string_bytes_max
        state = State(index.config, SealedState(), string_bytes_max=string_bytes_max)
        compaction = Compaction(folder, log, index.config, state, lambda: None)
        now = datetime.now(UTC)
        row_count = _fill_row_count(source.vector_count, index.config.dimensions)
        for number, mutation in enumerate(source.mutations(), 1):
            state.apply(Entry(Seqno(number), "", 0, _NO_RECORD), mutation, now)
            if state.memtable.row_count >= row_count:
                compaction.seal()
        position = source.finish(state.snapshot().vector_count)
        state.move_to(position.seqno, position.mutation_id, now if position.seqno else None)
        compaction.seal()
        state.release()
        compaction.release()
        log.close()
    except BaseException:
        log.close(is_clean=False)
        raise
    with open(folder / FILLED, "xb", opener=private.opener) as file:
        sync(file.fileno())
    sync_directory(folder)
    sync_directory(folder.parent)


def _fill_row_count(vector_count: int, dimensions: int) -> int:
    """Return after how many rows a segment is sealed: all have the same number, if possible.

    A small last one would cost queries as much as a large one, and is not worth a merge.
    """
    row_count_max = max(1, min(FILL_ROWS_MAX, FILL_BYTES_MAX // (4 * dimensions)))
    segment_count = max(1, math.ceil(vector_count / row_count_max))
    return max(1, math.ceil(vector_count / segment_count))


class CopiedIndex:
    """An open copy. Thread-safe, but that one thread at a time replays.

    Attributes:
        reader: Answers reads.

    Raises:
        Corruption: on opening, when something of it is missing or damaged.
        Unavailable: on opening, when another process has it open.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        options: EngineOptions,
        resources: Resources,
        cursors: Cursors,
    ) -> None:
        self.index = index
        self.folder = folder
        self._log, self._state = recovery.open_index(
            folder, index.config, string_bytes_max=options.limits.indexed_string_bytes_max
        )
        self._health = _CopyHealth(index.name, resources.queue)
        self.reader = Reader(index, folder.name, cursors, self._health)
        self.reader.snapshot = self._state.snapshot()
        self.pending_count = 0
        """Vectors in mutations that are being replayed and that queries do not see yet."""
        self._idle_count = 0  # calls of `compact_idle` since something was replayed
        self._policy = _CopyPolicy(index.name, self._state, options)
        self._compaction = Compaction(folder, self._log, index.config, self._state, self._publish)
        self._compactor = Compactor(self._compaction, self._policy, resources, self._health)
        self._compactor.start()

    @property
    def position(self) -> CopyPosition:
        """How far what queries see has come."""
        snapshot = self.reader.snapshot
        return CopyPosition(snapshot.applied_seqno, snapshot.applied_mutation)

    def usage(self, address: IndexAddress) -> IndexUsage:
        """Return its numbers; its index is known by `address` now."""
        return index_usage(
            address,
            self.reader.snapshot,
            self.folder,
            self.pending_count,
            is_failed=self._health.failure is not None,
        )

    @property
    def failure(self) -> Error | None:
        """The error that has ended the copy, None while it runs."""
        return self._health.failure

    def check_readable(self) -> None:
        """Raise why the copy is not read any more, if it is not."""
        self._health.check_readable()

    def replay(self, entries: Sequence[tuple[Entry, Mutation]]) -> None:
        """Apply the next mutations; they are visible when this returns.

        Raises:
            Error: the copy has ended, or is closed; it cannot be gone on with.
        """
        self._wait_for_sealing()
        self.pending_count = sum(vector_count(mutation) for _, mutation in entries)
        try:
            with interruptible(self._health.check):
                backfills = [
                    backfill_of(
                        mutation,
                        lambda: self.reader.snapshot,
                        string_bytes_max=self._policy.options.limits.indexed_string_bytes_max,
                    )
                    for _, mutation in entries
                ]
            with self._state.lock:
                for (entry, mutation), backfill in zip(entries, backfills, strict=True):
                    self._state.apply(entry, mutation, datetime.now(UTC), backfill)
                self._publish()
        except Exception as error:
            if self._health.closed is None:
                self._health.fail(error)
            self._health.check()
        if self._health.failure is not None:
            self._health.check()
        self.pending_count, self._idle_count = 0, 0
        self._compactor.seal_if_due()

    def wait_applied(self, seqno: Seqno, timeout_s: float) -> bool:
        """Wait until queries see a mutation; return whether they do by then."""
        self._health.wait_for(lambda: self.reader.snapshot.applied_seqno >= seqno, timeout_s)
        self._health.check()
        return self.reader.snapshot.applied_seqno >= seqno

    def compact(self) -> None:
        """See `engine.base.Engine`."""
        self._health.check()
        self._compactor.seal()
        try:
            self._compactor.join()
        finally:
            self._health.check()

    def compact_idle(self) -> None:
        """Seal and merge what nothing has been replayed into for a while, or since it was filled.

        A few rows are sealed as well in the end: the log may not have them for ever.
        """
        if self._health.is_stopped:
            return
        self._idle_count += 1
        is_long = self._state.memtable.row_count >= IDLE_SEAL_ROWS_MIN
        is_behind = self._state.unsealed_count > 0
        if is_behind and self._idle_count == (IDLE_COUNT if is_long else IDLE_COUNT_SHORT):
            self._compactor.seal()
        if self._idle_count in (IDLE_COUNT, IDLE_COUNT_SHORT):
            self._compactor.merge_idle()
        try:
            self._compaction.check_sizes()
        except Corruption as error:
            if self._health.closed is None:  # else the copy may have been removed
                self._health.fail(error)

    def interrupt(self) -> None:
        """Give up what would take long, as the copy is about to be closed."""
        self._compactor.interrupt()

    def close(self, reason: Error) -> None:
        """Refuse all from now on with `reason`, let what is under way finish, close the files."""
        self._health.closed = reason
        self.interrupt()
        self._health.notify()
        self._compactor.close()
        with self._state.lock:
            self.reader.snapshot = EMPTY
            self._state.release()
        with suppress(Error):  # its manifest is as of the last seal, which is all it has to be
            self._log.close(is_clean=False)

    def _wait_for_sealing(self) -> None:
        bound = self._policy.options.memtables_max
        while self._policy.is_full(bound):
            self._health.check()
            self._health.wait_for(lambda: not self._policy.is_full(bound), WAIT_S)
        self._health.check()

    def _publish(self) -> None:
        self.reader.snapshot = self._state.snapshot()
        self._health.notify()


class _CopyPolicy(SealPolicy):
    """Seals by the memtable and the number of mutations: a copy has no log that grows."""

    @property
    def is_due(self) -> bool:
        return self.is_full() or self.state.unsealed_count >= self.options.memtable_rows_max


class _CopyHealth(Health):
    """Any error ends a copy: it is not read any more either."""

    def fail(self, error: Exception) -> None:
        if not isinstance(error, Error):
            logger.error("the copy of index %r has ended", self.name, exc_info=error)
            error = Unavailable(
                f"the copy of index {self.name!r} has ended: {error}", retry_after=1.0
            )
        self._refuse(error, is_readable=False)
