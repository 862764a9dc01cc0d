"""One open index: commits and applies mutations, and publishes snapshots.

    append -> commit lane: one transaction for all that waits -> acknowledged
                -> apply lane: fold into the memtable, publish one new snapshot -> visible
                             -> a full memtable: sealed and merged (`compactor`)

Locks, in the order they may be taken:

    _order        gives mutations their order; held to check one and queue it
    (manifest)    inside `Compaction`: a whole seal, the commit of a merge
    _state_lock   the writable state; held to apply, freeze and swap

Reads take none (`reader`).

A write for which the disk is too full, or that finds too many files open, is refused, and the
next one is tried as if nothing had been. Any other write to the log that fails leaves unknown
what is on disk. So it stops the index's writing: all is refused with `Unavailable` until it is
opened again, and then its log says what was kept; reading goes on from the newest snapshot.
Damage that is found stops reading, too, with `Corruption`.
"""

import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vicinal.engine import records, recovery
from vicinal.engine.admission import Admission, check_dimensions
from vicinal.engine.blob_files import BlobBatch, BlobWriter
from vicinal.engine.compaction import Compaction
from vicinal.engine.compactor import Compactor
from vicinal.engine.cursors import Cursors
from vicinal.engine.executors import SerialExecutor
from vicinal.engine.log import Draft, Entry, Log
from vicinal.engine.options import EngineOptions
from vicinal.engine.reader import Reader
from vicinal.engine.records import LogRecord
from vicinal.engine.resources import Resources
from vicinal.engine.snapshot import EMPTY, Snapshot
from vicinal.errors import (
    BodyTooLarge,
    Corruption,
    Error,
    Overloaded,
    ResourceExhausted,
    Unavailable,
)
from vicinal.model import (
    Accepted,
    BatchWriter,
    Index,
    Insert,
    Mutation,
    Seqno,
    Upsert,
)

logger = logging.getLogger(__name__)

RECORD_BYTES_MAX = 900_000_000  # SQLite stops at 10**9 for a row, all columns together
IDLE_SEAL_ROWS_MIN = 1_000  # fewer rows are scanned as fast as a segment of them; ours


@dataclass(frozen=True, slots=True)
class _Pending:
    """A mutation on its way to the log."""

    mutation: Mutation
    draft: Draft
    accepted: Future[Accepted]


@dataclass(frozen=True, slots=True)
class _Logged:
    """A durable mutation on its way to the state. `due` is monotonic seconds."""

    entry: Entry
    mutation: Mutation
    due: float


class OpenIndex:
    """An open index. Thread-safe.

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
        self.reader = Reader(index, folder.name, cursors, self._fail)
        self._options = options
        self._resources = resources
        self._log = Log(folder)
        try:
            state = recovery.recover(
                folder,
                self._log,
                index.config,
                string_bytes_max=options.limits.indexed_string_bytes_max,
            )
        except BaseException:
            self._log.close(is_clean=False)
            raise
        self._state = state
        self._state_lock = threading.Lock()
        self.reader.snapshot = state.snapshot()
        self._applied = threading.Condition()
        self._order = threading.Lock()
        self._admission = self._new_admission()
        self._is_admission_stale = False
        self._appended_vectors = 0  # changes under _order
        self._refused_vectors = 0  # changes in the commit lane
        self._applied_vectors = 0  # changes under _state_lock
        self._delayed: deque[_Logged] = deque()
        self._failure: Error | None = None
        self._closed: Error | None = None
        self._compaction = Compaction(
            folder, self._log, index.config, state, self._state_lock, self._publish
        )
        self._compactor = Compactor(
            index.name,
            self._compaction,
            resources,
            merges=options.merges,
            is_seal_due=self._is_seal_due,
            fail=self._stop,
        )
        self._commits = SerialExecutor(resources.writers, self._commit)
        self._applies = SerialExecutor(resources.writers, self._apply)
        self._appended_at = time.monotonic()
        self._is_compacted = False
        self._compactor.start()

    def open_batch(self) -> BatchWriter:
        """See `engine.base.Engine`."""
        self._check_failure()
        return BlobWriter(self._log.blobs, self.index.config.dimensions)

    def append(self, mutation: Mutation, *, wait_until: float = 0.0) -> Future[Accepted]:
        """See `engine.base.Engine`. Waits for room until a moment in monotonic seconds."""
        check_dimensions(mutation, self.index)
        record = records.encode(mutation)
        if record.size > RECORD_BYTES_MAX:
            raise BodyTooLarge(
                f"the mutation takes {record.size} bytes, the maximum is {RECORD_BYTES_MAX}"
            )
        draft = Draft(str(uuid.uuid4()), record, self._finished_blob(mutation, record))
        room = self._resources.queue
        while True:
            seen = room.changes  # before it is looked at, not to miss what comes in between
            try:
                return self._queue(mutation, draft)
            except Overloaded:
                # Not under `_order`: closing, and applying what was delayed, ask for it.
                if not room.wait_for_change(seen, wait_until - time.monotonic()):
                    raise

    def _finished_blob(self, mutation: Mutation, record: LogRecord) -> BlobWriter | None:
        """Return the file that has the record already, whole and fsynced, if there is one."""
        batch = mutation.batch if isinstance(mutation, Insert | Upsert) else None
        # A file made before the index was closed and opened again, or for another index of this
        # name, is gone or another's; the values are mapped all the same.
        if not isinstance(batch, BlobBatch) or batch.writer.files is not self._log.blobs:
            return None
        return batch.writer if batch.writer.finish(record) else None

    def _queue(self, mutation: Mutation, draft: Draft) -> Future[Accepted]:
        """Put a mutation behind those that are on their way, or say why it cannot be.

        Raises:
            Overloaded: there is no room; nothing has changed, so it may be tried again.
        """
        accepted: Future[Accepted] = Future()
        accepted.set_running_or_notify_cancel()  # what is queued cannot be taken back
        with self._order:
            self._check_failure()
            self._appended_at, self._is_compacted = time.monotonic(), False
            self._check_backpressure()
            if self._is_admission_stale:
                self._catch_up()
                self._is_admission_stale, self._admission = False, self._new_admission()
            # In this order: what is applied meanwhile may count twice, but never not at all.
            vectors_at_most = self.pending_count + self.reader.snapshot.vector_count
            self._admission.check(mutation, vectors_at_most)
            self._resources.acquire(draft.record.size)
            if draft.blob is not None and not draft.blob.keep():
                self._resources.queue.release(draft.record.size)
                raise Unavailable("whoever sent this mutation has given it up")
            self._admission.declare(mutation)
            self._appended_vectors += _vector_count(mutation)
            self._commits.put([_Pending(mutation, draft, accepted)])
        return accepted

    def wait_applied(self, seqno: Seqno, timeout_s: float) -> bool:
        """See `engine.base.Engine`."""
        with self._applied:
            self._applied.wait_for(
                lambda: self.reader.snapshot.applied_seqno >= seqno or self._is_stopped,
                timeout_s,
            )
        self._check_failure()
        return self.reader.snapshot.applied_seqno >= seqno

    @property
    def pending_count(self) -> int:
        """How many vectors are acknowledged, or about to be, and not applied."""
        return max(0, self._appended_vectors - self._applied_vectors - self._refused_vectors)

    def compact(self) -> None:
        """See `engine.base.Engine`."""
        with self._order:
            self._check_failure()
            self._catch_up()
            self._compactor.seal(is_forced=True)
        try:
            self._compactor.join()
        finally:
            self._check_failure()

    @property
    def is_quiet(self) -> bool:
        """Whether no work is queued or under way."""
        workers = (self._commits, self._applies, self._compactor)
        return not self._delayed and all(each.is_idle for each in workers)

    def compact_idle(self) -> None:
        """Tidy the index when nothing has been written to it for a while."""
        with self._order:
            is_idle = time.monotonic() - self._appended_at >= self._options.idle_s
            if is_idle and not self._is_compacted and not self._is_stopped:
                self._is_compacted = True
                if self._state.memtable.row_count >= IDLE_SEAL_ROWS_MIN:
                    self._compactor.seal(is_forced=True)
                self._compactor.merge_idle()
        try:
            self._compaction.check_sizes()
            self._log.blobs.check_sizes()
        except Corruption as error:
            self._fail(error)

    def close(self, reason: Error, *, is_kept: bool = True) -> None:
        """Let what is under way finish, refuse what comes later with `reason`, close the log.

        Args:
            reason: Why.
            is_kept: Whether the index will be opened again; else nothing more is written.

        Raises:
            sqlite3.Error: the log was not closed cleanly; it has what it acknowledged.
        """
        with self._order:
            self._closed = self.reader.failure = reason
        self._compactor.interrupt()
        self._commits.join()
        self._applies.join()
        self._compactor.stop()
        with self._applied:
            self._applied.notify_all()
        # Which also wakes those who wait for room in this index.
        self._resources.queue.release(sum(each.entry.record.size for each in self._delayed))
        self._delayed.clear()
        self._release_state()
        self._log.close(is_clean=self._failure is None and is_kept)

    # What the commit lane does.

    def _commit(self, pending: Sequence[_Pending]) -> None:
        accepted_at = recovery.microseconds(datetime.now(UTC))
        entries: list[Entry] = []
        try:
            if self._failure is None:
                entries = self._log.append([each.draft for each in pending], accepted_at)
        except ResourceExhausted as error:
            logger.warning("a write to index %r was refused: %s", self.index.name, error)
            self._refuse(pending, error)
            return
        except Exception as error:
            self._stop(error)
        if self._failure is not None:
            self._refuse(pending, self._failure)
            return
        for entry, each in zip(entries, pending, strict=True):
            each.accepted.set_result(Accepted(entry.mutation_id, entry.seqno))
        due = time.monotonic() + self._options.visibility_delay_s
        logged = [
            _Logged(entry, each.mutation, due) for entry, each in zip(entries, pending, strict=True)
        ]
        if self._options.visibility_delay_s:
            self._delayed.extend(logged)
            timer = threading.Timer(self._options.visibility_delay_s, self._release)
            timer.daemon = True
            timer.start()
        else:
            self._applies.put(logged)

    def _refuse(self, pending: Sequence[_Pending], error: Error) -> None:
        """Take mutations back that were queued and are not in the log."""
        self._is_admission_stale = True
        self._refused_vectors += sum(_vector_count(each.mutation) for each in pending)
        self._resources.queue.release(sum(each.draft.record.size for each in pending))
        for each in pending:
            each.accepted.set_exception(error)

    def _release(self) -> None:
        """Pass on the delayed mutations that are due; a timer for each batch calls this."""
        with self._order:
            if self._closed is not None:
                return
            self._applies.put(self._take_delayed(time.monotonic()))

    def _take_delayed(self, due: float) -> Sequence[_Logged]:
        taken = []
        while self._delayed and self._delayed[0].due <= due:
            taken.append(self._delayed.popleft())
        return taken

    # What the apply lane does.

    def _apply(self, logged: Sequence[_Logged]) -> None:
        is_full = False
        try:
            if self._failure is None:
                with self._state_lock:
                    for each in logged:
                        self._state.apply(each.entry, each.mutation, datetime.now(UTC))
                        self._applied_vectors += _vector_count(each.mutation)
                    self._publish()
                    is_full = self._is_seal_due()
        except Exception as error:
            self._stop(error)
        self._resources.queue.release(sum(each.entry.record.size for each in logged))
        with self._applied:
            self._applied.notify_all()
        if is_full:
            self._compactor.seal()

    def _publish(self) -> None:
        self.reader.snapshot = self._state.snapshot()
        self._resources.queue.notify()  # a memtable that is being sealed leaves room for another

    def _is_seal_due(self) -> bool:
        state, options = self._state, self._options
        return (
            self._memtable_is_full()
            or state.unsealed_count >= options.memtable_rows_max
            or state.unsealed_bytes >= options.memtable_bytes_max
        )

    def _memtable_is_full(self, times: int = 1) -> bool:
        memtable = self._state.memtable
        return (
            memtable.row_count >= times * self._options.memtable_rows_max
            or memtable.nbytes >= times * self._options.memtable_bytes_max
        )

    # What `append` checks, in the order of calls.

    @property
    def _is_stopped(self) -> bool:
        return self._failure is not None or self._closed is not None

    def _check_failure(self) -> None:
        reason = self._failure or self._closed
        if reason is not None:
            # Each raising adds to a traceback, and this one is raised again and again.
            raise reason.with_traceback(None)

    def _check_backpressure(self) -> None:
        if self._memtable_is_full(self._options.memtables_max):
            self._compactor.check()
            raise Overloaded(
                f"index {self.index.name!r} takes vectors faster than it can seal them",
                retry_after=1.0,
            )

    def _new_admission(self) -> Admission:
        return Admission(
            self.index.name, self._options.limits, self.reader.snapshot, self._settled_snapshot
        )

    def _release_state(self) -> None:
        """Drop what keeps files open: lanes point back here, so that this may be a while."""
        self.reader.snapshot = EMPTY
        self._state.release()
        self._compaction.release()
        self._admission = self._new_admission()

    def _settled_snapshot(self) -> Snapshot:
        self._catch_up()
        return self.reader.snapshot

    def _catch_up(self) -> None:
        """Wait until the snapshot contains all that was queued; called under `_order`.

        Delayed mutations are not waited for: they are applied now.
        """
        self._commits.join()
        self._applies.put(self._take_delayed(math.inf))
        self._applies.join()

    def _stop(self, error: Exception) -> None:
        """Refuse all writes from now on, as one could not be gone on with."""
        if not isinstance(error, Error):
            logger.error("index %r stopped", self.index.name, exc_info=error)
            error = Unavailable(
                f"index {self.index.name!r} has stopped, as it could not go on: {error}"
            )
        self._fail(error)

    def _fail(self, error: Error) -> None:
        if self._failure is None:
            self._failure = error
        if isinstance(error, Corruption) and self.reader.failure is None:
            self.reader.failure = error
        with self._applied:
            self._applied.notify_all()
        self._resources.queue.notify()  # nobody has to wait for room any more


def _vector_count(mutation: Mutation) -> int:
    return len(mutation.batch) if isinstance(mutation, Insert | Upsert) else 0
