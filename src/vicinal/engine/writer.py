"""The writes of one index: checked, put in order, committed together, acknowledged."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from vicinal.engine import records, recovery, resolution
from vicinal.engine.admission import Admission, check_dimensions
from vicinal.engine.applier import Applier, Logged
from vicinal.engine.backfill import Backfill, backfill_of
from vicinal.engine.blob_files import BlobBatch, BlobWriter
from vicinal.engine.compactor import Compactor
from vicinal.engine.executors import SerialExecutor
from vicinal.engine.health import Health
from vicinal.engine.log import Draft, Entry, Log
from vicinal.engine.reader import Reader
from vicinal.engine.records import LogRecord
from vicinal.engine.resources import Resources
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BodyTooLarge, Error, Overloaded, ResourceExhausted, Unavailable
from vicinal.interruption import interruptible
from vicinal.limits import Limits
from vicinal.model import (
    Accepted,
    CreateMetadataIndex,
    Index,
    Insert,
    Mutation,
    UnresolvedMutation,
    Upsert,
)

logger = logging.getLogger(__name__)

RECORD_BYTES_MAX = 900_000_000  # SQLite stops at 10**9 for a row, all columns together


@dataclass(frozen=True, slots=True)
class _Pending:
    """A mutation on its way to the log."""

    mutation: Mutation
    draft: Draft
    accepted: Future[Accepted]
    vector_count: int | None = None
    backfill: Backfill | None = None


class Writer:
    """Logs the mutations of one index. Thread-safe.

    Args:
        log: Only this class appends to it.
        compactor: Says when memory takes no more vectors.
        resources: Has the threads, and the queue whose bytes are acquired.

    Attributes:
        order: Held to check a mutation and queue it, which gives mutations their order.
        written_at: When the last mutation was appended, in monotonic seconds.
    """

    def __init__(
        self,
        index: Index,
        log: Log,
        applier: Applier,
        reader: Reader,
        compactor: Compactor,
        resources: Resources,
        limits: Limits,
        health: Health,
    ) -> None:
        self.order = threading.Lock()
        self._resolved = threading.Condition(self.order)
        self._is_resolving = False
        self._backfilling = threading.Lock()  # one at a time: a client may ask again
        self._backfill_count = 0  # that wait or are made; changes under `order`
        self._behind: list[_Pending] = []  # mutations behind the one that is being resolved
        self.written_at = time.monotonic()
        self._log = log
        self._applier = applier
        self._reader = reader
        self._resources = resources
        self._limits = limits
        self._check_backpressure = compactor.check_backpressure
        self._health = health
        self._admission = Admission(
            index, limits, reader.snapshot, self.settled, compactor.check_backpressure
        )
        self._commits: SerialExecutor[_Pending] = SerialExecutor(resources.writers, self._commit)

    def open_batch(self) -> BlobWriter:
        """See `engine.base.Engine`."""
        self._health.check()
        return BlobWriter(self._log.blobs, self._admission.index.config.dimensions)

    def append(
        self, mutation: Mutation | UnresolvedMutation, *, wait_until: float = 0.0
    ) -> Future[Accepted]:
        """See `engine.base.Engine`. Waits to be admitted until a moment in monotonic seconds."""
        queue: Callable[[], Future[Accepted]]
        if isinstance(mutation, UnresolvedMutation):
            queue = partial(self._resolve_and_queue, mutation)
        else:
            check_dimensions(mutation, self._admission.index)
            backfill = self._backfill_of(mutation)
            queue = partial(self._queue, mutation, self._draft(mutation), backfill)
        return self._admitted(queue, wait_until)

    def _admitted(
        self, queue_mutation: Callable[[], Future[Accepted]], wait_until: float
    ) -> Future[Accepted]:
        """Queue a mutation, again after a change while there is no room."""
        queue = self._resources.queue
        while True:
            seen = queue.changes  # before it is checked, not to miss a change in between
            try:
                return queue_mutation()
            except Overloaded:
                # Not under `order`: closing, and applying what was delayed, ask for it.
                if not queue.wait_for_change(seen, wait_until - time.monotonic()):
                    raise

    @property
    def pending_count(self) -> int:
        """Number of vectors that are acknowledged, or about to be, and not applied."""
        return max(0, self._admission.vector_count - self._applier.vector_count)

    @property
    def is_idle(self) -> bool:
        """Whether no mutation is on its way."""
        is_made_ready = self._is_resolving or self._backfill_count > 0
        return not is_made_ready and self._commits.is_idle and self._applier.is_idle

    def settled(self) -> Snapshot:
        """Return a snapshot with all mutations appended before; called under `order`.

        Delayed mutations are not waited for: they are applied now. While a mutation is resolved
        `order` is released.
        """
        self._resolved.wait_for(lambda: not self._is_resolving)
        return self._applied()

    def _applied(self) -> Snapshot:
        self._commits.join()
        self._applier.join()
        return self._reader.snapshot

    def close(self) -> None:
        """Wait for the commits under way, and what they apply. None may come after them."""
        with self.order:
            self._resolved.wait_for(lambda: not self._is_resolving)
        self._commits.join()
        self._applier.close()

    def _draft(self, mutation: Mutation) -> Draft:
        record = records.encode(mutation)
        if record.size > RECORD_BYTES_MAX:
            raise BodyTooLarge(
                f"the mutation takes {record.size} bytes, the maximum is {RECORD_BYTES_MAX}"
            )
        return Draft(str(uuid.uuid4()), record, self._finished_blob(mutation, record))

    def _resolve_and_queue(self, mutation: UnresolvedMutation) -> Future[Accepted]:
        """Resolve a mutation behind those queued before, while those that come later wait.

        Raises:
            Error: as `engine.base.Engine.append`; nothing has changed.
        """
        with self.order:
            self._resolved.wait_for(lambda: not self._is_resolving)
            self._health.check()
            self._check_backpressure()
            self._is_resolving = True
        batch: BlobWriter | None = None

        def open_batch() -> BlobWriter:
            nonlocal batch
            batch = self.open_batch()
            return batch

        try:
            snapshot = self._applied()
            self._health.check()  # else the snapshot may lack what could not be logged
            with interruptible(self._health.check):
                resolved = resolution.resolve(
                    snapshot,
                    mutation,
                    self._limits,
                    dimensions=self._admission.index.config.dimensions,
                    bytes_max=RECORD_BYTES_MAX,
                    open_batch=open_batch,
                )
            draft = self._draft(resolved.mutation)
            with self.order:
                self._health.check()
                return self._submit(resolved.mutation, draft, resolved.vector_count)
        finally:
            with self.order:
                self._is_resolving = False
                behind, self._behind = self._behind, []
                self._commits.submit(behind)
                self._resolved.notify_all()
            if batch is not None:
                batch.close()

    def _finished_blob(self, mutation: Mutation, record: LogRecord) -> BlobWriter | None:
        """Return the file that has the record already, whole and fsynced, if there is one."""
        batch = mutation.batch if isinstance(mutation, Insert | Upsert) else None
        # A file made before the index was closed and opened again, or for another index of this
        # name, is gone or another's; the values are mapped all the same.
        if not isinstance(batch, BlobBatch) or batch.writer.files is not self._log.blobs:
            return None
        return batch.writer if batch.writer.finish(record) else None

    def _backfill_of(self, mutation: Mutation) -> Backfill | None:
        """Make the columns that a mutation asks for, if it does, while writes go on.

        Raises:
            Error: as `engine.base.Engine.append`, but for a want of room.
        """
        if not isinstance(mutation, CreateMetadataIndex) or not mutation.backfill:
            return None
        with self.order:
            self._health.check()
            with suppress(Overloaded):  # which may be over until it is queued
                self._admission.check(mutation, 0)
            self._backfill_count += 1
        try:
            with self._backfilling, interruptible(self._health.check):
                return backfill_of(
                    mutation,
                    lambda: self._reader.snapshot,
                    string_bytes_max=self._limits.indexed_string_bytes_max,
                )
        finally:
            with self.order:
                self._backfill_count -= 1

    def _queue(
        self, mutation: Mutation, draft: Draft, backfill: Backfill | None
    ) -> Future[Accepted]:
        """Put a mutation behind those that are on their way, or say why it cannot be.

        Raises:
            Overloaded: there is no room; nothing has changed, so it may be tried again.
        """
        with self.order:
            self._health.check()
            self.written_at = time.monotonic()
            # In this order: what is applied meanwhile may count twice, but never not at all.
            vectors_at_most = self.pending_count + self._reader.snapshot.vector_count
            self._admission.check(mutation, vectors_at_most)
            return self._submit(mutation, draft, backfill=backfill, is_behind=self._is_resolving)

    def _submit(
        self,
        mutation: Mutation,
        draft: Draft,
        vector_count: int | None = None,
        *,
        backfill: Backfill | None = None,
        is_behind: bool = False,
    ) -> Future[Accepted]:
        """Put a checked mutation on its way, or behind the one that is being resolved; called under
        `order`."""
        self.written_at = time.monotonic()
        accepted: Future[Accepted] = Future()
        accepted.set_running_or_notify_cancel()  # what is queued cannot be taken back
        self._resources.acquire(draft.record.size)
        if draft.blob is not None and not draft.blob.keep():
            self._resources.queue.release(draft.record.size)
            raise Unavailable("whoever sent this mutation has given it up")
        self._admission.declare(mutation)
        pending = _Pending(mutation, draft, accepted, vector_count, backfill)
        if is_behind:
            self._behind.append(pending)
        else:
            self._commits.submit([pending])
        return accepted

    def _commit(self, pending: Sequence[_Pending]) -> None:
        accepted_at = recovery.microseconds(datetime.now(UTC))
        entries: list[Entry] = []
        times = self._resources.times
        try:
            if self._health.failure is None:
                start = time.perf_counter()
                entries = self._log.append([write.draft for write in pending], accepted_at)
                times.commits.add(time.perf_counter() - start)
        except ResourceExhausted as error:
            times.commits.add_failure()
            logger.warning("a write to index %r was refused: %s", self._health.name, error)
            self._refuse(pending, error)
            return
        except Exception as error:
            times.commits.add_failure()
            self._health.fail(error)
        if self._health.failure is not None:
            self._refuse(pending, self._health.failure)
            return
        for entry, write in zip(entries, pending, strict=True):
            accepted = Accepted(entry.mutation_id, entry.seqno, write.vector_count)
            write.accepted.set_result(accepted)
        self._applier.submit(
            [
                Logged(entry, write.mutation, write.backfill)
                for entry, write in zip(entries, pending, strict=True)
            ]
        )

    def _refuse(self, pending: Sequence[_Pending], error: Error) -> None:
        """Take mutations back that were queued and are not in the log."""
        self._admission.retract([write.mutation for write in pending])
        self._resources.queue.release(sum(write.draft.record.size for write in pending))
        for write in pending:
            write.accepted.set_exception(error)
