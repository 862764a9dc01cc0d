"""Appending to the log of an index, in the order that one row lock gives all nodes.

    append -> queue of the index -> one transaction for all that waits -> acknowledged

The transaction holds the index's row of ``head``, so seqnos have no gaps and mutations become
visible in their order, whichever nodes write. COMMIT is the only commit point.

When a connection is lost on the way, the same mutations are tried again with the same ids until
their deadline. An attempt that may follow a COMMIT looks for the ids first; it changes ``head`` in
any case, so that its own COMMIT waits until the standbys have what the earlier one wrote. After the
deadline a mutation is refused with `Unavailable`, which says when its outcome is not known.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import NamedTuple
from uuid import UUID, uuid4

from vicinal.engine.shared import log_records
from vicinal.engine.shared.database import RETRY_PAUSE_S, PostgresDatabase, Use
from vicinal.engine.shared.drafts import SharedDraft
from vicinal.engine.shared.failures import Lost, given_up
from vicinal.engine.shared.log_reader import LogReader
from vicinal.engine.shared.permits import Head, Permits
from vicinal.engine.shared.session import Session
from vicinal.errors import Error, IndexNotFound, Overloaded, Unavailable
from vicinal.model import Accepted, CreateMetadataIndex, DeleteMetadataIndex, Mutation, Seqno

logger = logging.getLogger(__name__)

GROUP_BYTES_MAX = 64 << 20  # of one transaction, or one mutation; ours
GROUP_COUNT_MAX = 1_000
CLOSE_WITHIN_S = 5.0  # ours
COPY_BYTES = 64 << 20  # of one COPY, which has to end within one statement's time-out; ours
UNFOLDED_BYTES_MAX = 2 << 30  # logged and not in the rows: writers wait for the checkpoint; ours

_COLUMNS = (
    "index_id", "seqno", "mutation_id", "accepted_at", "logged_bytes", "size", "checksum", "record"
)  # fmt: skip


class _Logged(NamedTuple):
    """A draft with its place in the log; `logged_bytes` are those of all records up to it."""

    seqno: Seqno
    logged_bytes: int
    mutation_id: UUID
    draft: SharedDraft


Resolver = Callable[[Seqno], SharedDraft]
"""Resolves a mutation against the state after a seqno; called in a thread, and again when an
attempt to log its draft has failed."""


@dataclass(slots=True, eq=False)
class Pending:
    """A mutation on its way to the log: a draft, or what resolves to one. Times are monotonic
    seconds; `queued_bytes` are to be released."""

    draft: SharedDraft | None
    resolver: Resolver | None
    queued_bytes: int
    until: float
    backpressure_until: float
    mutation_id: UUID = field(default_factory=uuid4)
    accepted: Future[Accepted] = field(default_factory=Future)
    may_be_logged: bool = False
    """Whether a COMMIT with this mutation was sent whose answer never came."""


class Ledger:
    """Appends to the logs of all indexes, for one node.

    Args:
        database: Where they are.
        permits: Says what may be logged.
        log: Is given records to keep for those who follow.
        write_deadline_s: After how many seconds a mutation is given up.
        on_settled: Called in the database's thread with each mutation's index and bytes once it is
            acknowledged or refused.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        permits: Permits,
        log: LogReader,
        write_deadline_s: float,
        on_settled: Callable[[UUID, int], None],
    ) -> None:
        self._database = database
        self._permits = permits
        self._log = log
        self._write_deadline_s = write_deadline_s
        self._on_settled = on_settled
        self._closing = threading.Lock()
        self._is_closed = False
        self._queues: dict[UUID, deque[Pending]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def append(
        self,
        index_id: UUID,
        name: str,
        draft: SharedDraft | Resolver,
        queued_bytes: int,
        backpressure_until: float,
    ) -> Future[Accepted]:
        """Log a mutation; see `engine.base.Engine.append`. From any thread.

        All that is refused is set on the future.

        Args:
            index_id: Of the index.
            name: Of the index, for messages.
            draft: The mutation to log; its memory must stay as it is until the future is done. A
                resolver makes it once its place in the log is known.
            queued_bytes: Bytes to be released once it is settled.
            backpressure_until: Until when to wait while too much is logged and not in the rows.
        """
        until = time.monotonic() + self._write_deadline_s
        pending = Pending(
            draft if isinstance(draft, SharedDraft) else None,
            None if isinstance(draft, SharedDraft) else draft,
            queued_bytes,
            until,
            backpressure_until,
        )
        pending.accepted.set_running_or_notify_cancel()  # what is queued cannot be taken back
        with self._closing:
            if self._is_closed:
                raise Unavailable("the engine is closed")
            self._database.post(lambda: self._enqueue(index_id, name, pending))
        return pending.accepted

    def close(self) -> None:
        """Let what is queued finish, for `CLOSE_WITHIN_S`; refuse what has not, and all later."""
        with self._closing:
            self._is_closed = True
        self._database.run_coroutine(self._finish())

    # In the database's thread.

    def _enqueue(self, index_id: UUID, name: str, pending: Pending) -> None:
        queue = self._queues.get(index_id)
        if queue is not None:
            queue.append(pending)
            return
        self._queues[index_id] = deque([pending])
        task = asyncio.get_running_loop().create_task(self._drain(index_id, name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)

    async def _finish(self) -> None:
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=CLOSE_WITHIN_S)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        reason = Unavailable("the engine is closed")
        for index_id, queue in self._queues.items():
            for pending in queue:
                unknown = given_up(reason, may_be_done=pending.may_be_logged)
                self._refuse(index_id, pending, unknown)
        self._queues.clear()

    async def _drain(self, index_id: UUID, name: str) -> None:
        """Log what waits until nothing does. The group under way stays at the queue's head."""
        queue = self._queues[index_id]
        is_away = False
        while queue:
            group = _group(queue)
            try:
                await _ship(group)
                logged_count = await self._attempt(index_id, name, group)
            except Lost as error:
                if not is_away:
                    logger.warning("writing to index %r is tried again: %s", name, error)
                is_away = True
                self._expire(index_id, queue, error)
                await asyncio.sleep(RETRY_PAUSE_S)
            except Overloaded as error:
                self._expire(index_id, queue, error)
                await asyncio.sleep(RETRY_PAUSE_S)
            except Error as error:
                for pending in group:
                    self._refuse(index_id, pending, error)
                    queue.popleft()
            except Exception as error:  # a mistake of ours must not leave writers without an answer
                logger.exception("writing to index %r failed", name)
                for pending in group:
                    if not pending.accepted.done():
                        reason = Unavailable(f"the write failed: {error!r}", retry_after=1.0)
                        unknown = given_up(reason, may_be_done=True)
                        self._refuse(index_id, pending, unknown)
                    queue.popleft()
            else:
                is_away = False
                for _ in range(logged_count):
                    queue.popleft()
        del self._queues[index_id]

    def _expire(self, index_id: UUID, queue: deque[Pending], error: Error) -> None:
        """Refuse what has no time for another attempt."""
        now = time.monotonic() + RETRY_PAUSE_S
        kept = []
        for pending in queue:
            if isinstance(error, Overloaded) and not pending.may_be_logged:
                is_over = now >= pending.backpressure_until
            else:
                is_over = now >= pending.until
            if not is_over:
                kept.append(pending)
            elif isinstance(error, Overloaded) and not pending.may_be_logged:
                self._refuse(index_id, pending, error)
            else:
                unknown = given_up(error, may_be_done=pending.may_be_logged)
                self._refuse(index_id, pending, unknown)
        queue.clear()
        queue.extend(kept)

    def _refuse(self, index_id: UUID, pending: Pending, error: Error) -> None:
        pending.accepted.set_exception(error)
        self._settle(index_id, pending, is_logged=False)

    def _settle(self, index_id: UUID, pending: Pending, *, is_logged: bool) -> None:
        if pending.draft is not None:
            pending.draft.settle(is_logged=is_logged)
        self._on_settled(index_id, pending.queued_bytes)

    async def _attempt(self, index_id: UUID, name: str, group: Sequence[Pending]) -> int:
        """Log mutations in one transaction, or refuse them; return how many were settled."""
        outcomes: list[Accepted | Error] = []
        session: Session | None = None
        try:
            async with self._database.transaction(Use.APPEND) as session:
                self._permits.check_losses(self._database.lost_count)
                outcomes = await self._write(session, index_id, name, group)
        except (Lost, asyncio.CancelledError):
            if session is not None and session.is_committing:
                for pending, outcome in zip(group, outcomes, strict=False):
                    if isinstance(outcome, Accepted):
                        pending.may_be_logged = True
            self._permits.evict(index_id)
            raise
        except BaseException:
            self._permits.evict(index_id)
            raise
        for pending, outcome in zip(group, outcomes, strict=False):
            if isinstance(outcome, Accepted):
                self._keep(index_id, pending)
                pending.accepted.set_result(outcome)
                self._settle(index_id, pending, is_logged=True)
            else:
                self._refuse(index_id, pending, outcome)
        return len(outcomes)

    def _keep(self, index_id: UUID, pending: Pending) -> None:
        draft = pending.draft
        if draft is not None and draft.is_in_row and isinstance(draft.parts[0], bytes):
            self._log.keep(index_id, pending.mutation_id, draft.parts[0])

    async def _write(
        self, session: Session, index_id: UUID, name: str, group: Sequence[Pending]
    ) -> list[Accepted | Error]:
        """Do the transaction; return what is to be said of the first mutations of the group."""
        row = await session.fetchrow(_LOCK_HEAD, index_id)
        if row is None:
            raise IndexNotFound(name)
        head = Head(index_id, name, *row.values())
        known = await _already_logged(session, index_id, group)
        is_behind = head.logged_bytes - head.folded_bytes > UNFOLDED_BYTES_MAX
        if is_behind and not known:
            raise Overloaded(
                f"{head.logged_bytes - head.folded_bytes} bytes of mutations of index {name!r} "
                f"are not in its rows yet, {UNFOLDED_BYTES_MAX} are allowed",
                retry_after=1.0,
                queue="rows",
            )
        outcomes: list[Accepted | Error] = []
        new: list[_Logged] = []
        for pending in group:
            seqno = known.get(pending.mutation_id)
            if seqno is not None:
                count = None if pending.draft is None else pending.draft.vector_count
                outcomes.append(Accepted(str(pending.mutation_id), seqno, count))
                continue
            try:
                if pending.resolver is not None:
                    if new:
                        break  # it needs what is before it in a copy: in the next transaction
                    resolve = partial(pending.resolver, head.logged_seqno)
                    pending.draft = await asyncio.to_thread(resolve)
                draft = pending.draft
                assert draft is not None
                if not await self._permits.admit(session, head, draft.mutation, is_first=not new):
                    break  # it needs what is before it in the rows: in the next transaction
            except Lost:
                raise
            except Error as error:
                outcomes.append(error)
                continue
            head.logged_seqno = Seqno(head.logged_seqno + 1)
            head.logged_bytes += draft.record.size
            head.mutation_id = pending.mutation_id
            await _declare(session, head, draft.mutation)
            new.append(_Logged(head.logged_seqno, head.logged_bytes, pending.mutation_id, draft))
            outcomes.append(
                Accepted(str(pending.mutation_id), head.logged_seqno, draft.vector_count)
            )
        if new or known or head.is_recounted:
            await _log(session, head, new)
        return outcomes


_LOCK_HEAD = (
    "SELECT head.logged_seqno, head.logged_bytes, head.mutation_id, head.vectors_at_most,"
    " head.namespace_count, head.namespace_epoch, folded.logged_bytes AS folded_bytes"
    " FROM vicinal.head AS head JOIN vicinal.folded AS folded USING (index_id)"
    " WHERE index_id = $1 FOR UPDATE OF head"
)

_UPDATE_HEAD = (
    "UPDATE vicinal.head SET logged_seqno = $2, logged_bytes = $3, mutation_id = $4,"
    " vectors_at_most = $5, namespace_count = $6, namespace_epoch = $7 WHERE index_id = $1"
)

_LOG_ONE = (
    "WITH logged AS (INSERT INTO vicinal.mutation (index_id, seqno, mutation_id, accepted_at,"
    " logged_bytes, size, checksum, record) VALUES ($1, $2, $4, $8, $3, $9, $10, $11)) "
    + _UPDATE_HEAD
)


async def _already_logged(
    session: Session, index_id: UUID, group: Sequence[Pending]
) -> dict[UUID, Seqno]:
    """Return which mutations an earlier attempt has logged, the answer to whose COMMIT was lost."""
    doubtful = [pending.mutation_id for pending in group if pending.may_be_logged]
    if not doubtful:
        return {}
    rows = await session.fetch(
        "SELECT mutation_id, seqno FROM vicinal.mutation"
        " WHERE index_id = $1 AND mutation_id = ANY($2)",
        index_id,
        doubtful,
    )
    return {row["mutation_id"]: Seqno(row["seqno"]) for row in rows}


async def _declare(session: Session, head: Head, mutation: Mutation) -> None:
    """Note which metadata indexes there are from this mutation on, which has been admitted."""
    match mutation:
        case CreateMetadataIndex(metadata_index, backfill):
            if backfill:  # a copy that is filled later makes the index where it covers all
                await session.execute(
                    "UPDATE vicinal.metadata_index SET dropped_seqno = $3 WHERE index_id = $1"
                    " AND property_name = $2 AND dropped_seqno IS NULL AND NOT is_backfilled",
                    head.index_id,
                    metadata_index.property_name.encode(),
                    head.logged_seqno,
                )
            await session.execute(
                "INSERT INTO vicinal.metadata_index SELECT $1, $2, $3, $4, $5, NULL"
                " WHERE NOT EXISTS (SELECT 1 FROM vicinal.metadata_index"
                " WHERE index_id = $1 AND property_name = $3 AND dropped_seqno IS NULL)",
                head.index_id,
                head.logged_seqno,
                metadata_index.property_name.encode(),
                metadata_index.type_name,
                backfill,
            )
        case DeleteMetadataIndex(property_name):
            await session.execute(
                "UPDATE vicinal.metadata_index SET dropped_seqno = $3"
                " WHERE index_id = $1 AND property_name = $2 AND dropped_seqno IS NULL",
                head.index_id,
                property_name.encode(),
                head.logged_seqno,
            )
        case _:
            pass


async def _log(session: Session, head: Head, new: Sequence[_Logged]) -> None:
    """Write mutations and the end of the log."""
    accepted_at = round(datetime.now(UTC).timestamp() * 1e6)
    ends = (
        head.index_id, head.logged_seqno, head.logged_bytes, head.mutation_id,
        head.vectors_at_most, head.namespace_count, head.namespace_epoch,
    )  # fmt: skip
    if len(new) == 1 and new[0].draft.is_in_row:  # in one round trip
        draft = new[0].draft
        await session.execute(
            _LOG_ONE, *ends, accepted_at, draft.record.size, draft.checksum, draft.parts[0]
        )
        return
    rows = []
    for seqno, logged_bytes, mutation_id, draft in new:
        whole = draft.parts[0] if draft.is_in_row else None
        rows.append(
            (
                head.index_id, seqno, mutation_id, accepted_at, logged_bytes,
                draft.record.size, draft.whole_checksum, whole,
            )
        )  # fmt: skip
    if rows:
        await session.copy("mutation", _COLUMNS, rows)
    for seqno, _, _, draft in new:
        if not draft.is_in_row:
            await _copy_parts(session, head.index_id, seqno, draft.parts)
        if draft.upload is not None:
            await draft.upload.adopt(session, seqno, len(draft.parts))
    await session.execute(_UPDATE_HEAD, *ends)


async def _ship(group: Sequence[Pending]) -> None:
    """Have the database get what it lacks of uploads, before the end of the log is locked."""
    for pending in group:
        if pending.draft is not None and pending.draft.upload is not None:
            await pending.draft.upload.ship()


async def _copy_parts(
    session: Session, index_id: UUID, seqno: Seqno, parts: Sequence[bytes | memoryview]
) -> None:
    step = COPY_BYTES // log_records.PART_BYTES
    for first in range(0, len(parts), step):
        await session.copy(
            "part",
            ("index_id", "seqno", "number", "bytes"),
            [
                (index_id, seqno, number, part)
                for number, part in enumerate(parts[first : first + step], first)
            ],
        )


def _group(queue: deque[Pending]) -> list[Pending]:
    """Return the first mutations of a queue that go together."""
    group: list[Pending] = []
    size = 0
    for pending in islice(queue, GROUP_COUNT_MAX):
        size += pending.queued_bytes
        if group and size > GROUP_BYTES_MAX:
            break
        group.append(pending)
    return group


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("appending has stopped", exc_info=task.exception())
