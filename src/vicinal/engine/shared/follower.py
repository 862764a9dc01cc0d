"""Following the log: one statement asks how far all indexes in use are, and what moved is pulled.

    poll   catalog, ends of logs and of rows, of all open copies and of what was written here
             -> dropped elsewhere: the copy goes
             -> another mutation at the copy's position: the log went back in a failover, refill
             -> further: pull the mutations, replay them in the copy
             -> the rows lag: checkpoint

A notice of another node that an index has moved (`notices`) begins a poll at once; without one a
poll comes after a pause, which is short while something moves.

A pull reads the copy's last mutation again and compares its id, so a copy never goes on from a
mutation that the log does not have, or no longer has. Nothing here decides anything: every node may
do all of it at any time.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from vicinal.engine.copying import CopiedIndex, CopyPosition
from vicinal.engine.log import Entry
from vicinal.engine.shared import log_reader
from vicinal.engine.shared.catalog import SharedCatalog
from vicinal.engine.shared.copies import Copies
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.lags import Lags
from vicinal.engine.shared.log_reader import LogReader
from vicinal.engine.shared.log_records import Row
from vicinal.engine.shared.nodes import Nodes
from vicinal.engine.shared.notices import Notices
from vicinal.engine.shared.rows import Rows
from vicinal.engine.shared.uploads import Uploads
from vicinal.errors import Error, Unavailable
from vicinal.model import Mutation, Seqno

logger = logging.getLogger(__name__)

ACTIVE_POLL_S = 0.005  # while something moves; ours
IDLE_POLL_S = 0.05  # ours
NOTICED_POLL_S = 0.2  # the same while notices arrive; ours
ACTIVE_S = 1.0  # how long after something moved; ours
FAILED_POLL_S = 0.5  # while the database is away; ours
PULL_BYTES = 16 << 20  # of records at a time; ours
PULL_COUNT = 1_000
CHECKPOINT_BYTES = 4 << 20  # of the log that the rows lack: written at once; ours
CHECKPOINT_AFTER_S = 1.0  # else after this long; ours
TRUNCATE_EVERY_S = 30.0  # of one index; ours
REMOVE_EVERY_S = 1.0  # looks for rows of dropped indexes; ours
FIND_ORPHANS_EVERY_S = 60.0  # looks for indexes that nobody checkpoints or truncates; ours
HOUSEKEEPING_EVERY_S = 5.0  # looks after the local copies; ours

_Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where the log and the rows of an index end."""

    index_id: UUID
    logged_seqno: Seqno
    mutation_id: UUID | None
    logged_bytes: int
    folded_seqno: Seqno
    folded_bytes: int


class Follower:
    """Follows the indexes that this node has copies of or writes to. For the database's thread.

    Args:
        database: Where the log is.
        catalog: Is told of changes.
        copies: Are brought further.
        rows: Are brought further.
        nodes: Are told how far the copies are.
        uploads: Have those removed that nodes left which ended.
        workers: Replay and checkpoint.
        visibility_delay_s: How much later than it could a mutation is replayed.
        log: Reads the logs.

    Attributes:
        lags: How far each open copy is behind.
        polled_at: When the database answered last, monotonic seconds.
        round_trip_s: How long that poll took, in seconds.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        catalog: SharedCatalog,
        copies: Copies,
        rows: Rows,
        nodes: Nodes,
        uploads: Uploads,
        workers: Executor,
        visibility_delay_s: float,
        log: LogReader,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._copies = copies
        self._rows = rows
        self._nodes = nodes
        self._uploads = uploads
        self._workers = workers
        self._visibility_delay_s = visibility_delay_s
        self._log = log
        self._notices = Notices(database, lambda: nodes.count, self._on_notice)
        self._kicked = asyncio.Event()
        self._moved_at = -ACTIVE_S
        self._unfolded: dict[UUID, float] = {}
        """Indexes whose rows may lag, since when in monotonic seconds."""
        self._busy: set[tuple[str, UUID]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: dict[str, float] = {}
        self._truncated_at: dict[UUID, float] = {}
        self.lags = Lags()
        self.polled_at = time.monotonic()
        self.round_trip_s = 0.0

    # From any thread.

    def kick(self) -> None:
        """Poll at once, and often for a while: a copy has opened."""
        self._database.post(self._kick)

    def announce_deletion(self, index_id: UUID) -> None:
        """Have other nodes poll soon: this one has dropped an index."""
        self._database.post(partial(self._notices.send, index_id, is_last=True))

    # In the database's thread.

    def _kick(self) -> None:
        self._moved_at = time.monotonic()
        self._kicked.set()

    def note_written(self, index_id: UUID) -> None:
        """Say that this node has logged something, which has to come into the rows."""
        self._unfolded.setdefault(index_id, time.monotonic())
        self._notices.send(index_id)
        self._kicked.set()

    async def follow(self) -> None:
        """Follow until cancelled."""
        noticing = asyncio.get_running_loop().create_task(self._notices.exchange())
        try:
            await self._follow()
        finally:
            noticing.cancel()

    async def _follow(self) -> None:
        is_away = False
        while True:
            try:
                await self._poll()
                if is_away:
                    logger.warning("the database answers again")
                is_away = False
            except Error as error:
                if not is_away:
                    logger.warning("the log is not followed for now: %s", error)
                    self._notices.reconnect()
                is_away = True
            except Exception:  # a mistake of ours must not end the following for good
                logger.exception("the log could not be followed")
                is_away = True
            if is_away:
                await asyncio.sleep(FAILED_POLL_S)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(
                        self._pause_s()
                    ):  # unlike wait_for, never misses its end
                        await self._kicked.wait()
            self._kicked.clear()

    async def stop(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _pause_s(self) -> float:
        if time.monotonic() - self._moved_at < ACTIVE_S:
            return ACTIVE_POLL_S
        return NOTICED_POLL_S if self._notices.is_listening else IDLE_POLL_S

    def _on_notice(self, index_ids: Collection[UUID] | None) -> None:
        kept = self._copies.kept_ids()
        if index_ids is None or not kept.isdisjoint(index_ids):
            self._kicked.set()

    async def _poll(self) -> None:
        copies = dict(self._copies.open_copies())
        # Before the log is looked at, which moves forward only: a copy that is ahead lies.
        positions = {index_id: copy.position for index_id, copy in copies.items()}
        index_ids = list({*copies, *self._unfolded})
        async with self._database.session(Use.POLL) as session:
            started = time.monotonic()
            rows = await session.fetch(_POLL, index_ids)
            self.round_trip_s = time.monotonic() - started
            reported = {index_id: position.seqno for index_id, position in positions.items()}
            await self._nodes.beat(session, reported, self._copies.kept_ids)
        self.polled_at = time.monotonic()
        ends_by_id = {
            row["index_id"]: _Ends(*list(row.values())[2:]) for row in rows if row["index_id"]
        }
        for index_id in index_ids:
            ends = ends_by_id.get(index_id)
            if ends is None:
                self._unfolded.pop(index_id, None)
                self._catalog.evict(index_id)
            else:
                self._start_due(ends, copies.get(index_id), positions.get(index_id))
        followed = positions.keys() & ends_by_id.keys()
        for index_id in followed:
            logged = ends_by_id[index_id].logged_seqno
            self.lags.note(index_id, positions[index_id].seqno, logged, self.polled_at)
        self.lags.keep(followed)
        await self._catalog.follow(rows[0]["catalog_version"], rows[0]["index_count"])
        self._keep_house()

    def _start_due(
        self, ends: _Ends, copy: CopiedIndex | None, position: CopyPosition | None
    ) -> None:
        """Start what an index needs."""
        if copy is not None and position is not None:
            if copy.failure is not None:
                self._copies.refill(ends.index_id, copy, "damage")
            elif position.seqno > ends.logged_seqno or (
                position.seqno == ends.logged_seqno
                and position.mutation_id != _text(ends.mutation_id)
            ):
                self._copies.refill(ends.index_id, copy, "log went back")
            elif position.seqno < ends.logged_seqno:
                self._start("pull", ends.index_id, partial(self._pull, ends, copy))
        now = time.monotonic()
        if ends.logged_seqno == ends.folded_seqno:
            self._unfolded.pop(ends.index_id, None)
        else:
            since = self._unfolded.setdefault(ends.index_id, now)
            lag = ends.logged_bytes - ends.folded_bytes
            if lag >= CHECKPOINT_BYTES or now - since >= CHECKPOINT_AFTER_S:
                self._start("fold", ends.index_id, partial(self._checkpoint, ends.index_id))

    def _start(self, kind: str, index_id: UUID, work: _Work) -> None:
        """Do something for an index unless it is being done."""
        if (kind, index_id) in self._busy:
            return
        self._busy.add((kind, index_id))
        task = asyncio.get_running_loop().create_task(self._guarded(kind, index_id, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, kind: str, index_id: UUID, work: _Work) -> None:
        try:
            await work()
        except Unavailable as error:
            logger.info("%s of index %s is tried again: %s", kind, index_id, error)
            await asyncio.sleep(FAILED_POLL_S)
        except Exception:
            logger.exception("%s of index %s failed", kind, index_id)
            await asyncio.sleep(FAILED_POLL_S)
        finally:
            self._busy.discard((kind, index_id))
            self._kicked.set()

    async def _pull(self, ends: _Ends, copy: CopiedIndex) -> None:
        """Replay what the copy lacks; the log went to `ends` at least."""
        index_id = ends.index_id
        loop = asyncio.get_running_loop()
        while copy.failure is None:
            position = copy.position
            async with self._database.session(Use.FOLLOW) as session:
                before, rows = await self._log.fetch_after(
                    session, index_id, Seqno(position.seqno + 1), PULL_BYTES, PULL_COUNT
                )
            try:
                if cause := _fault(position, before, rows, ends):
                    self._copies.refill(index_id, copy, cause)
                    return
                if not rows:
                    return
                self._moved_at = time.monotonic()
                if self._visibility_delay_s:
                    await asyncio.sleep(self._visibility_delay_s)
                await loop.run_in_executor(self._workers, _replay, copy, rows)
            finally:
                log_reader.release(rows)
            self._copies.note_progress(index_id)
            self._moved_at = time.monotonic()

    async def _checkpoint(self, index_id: UUID) -> None:
        while True:
            folded = await self._rows.checkpoint(index_id)
            if folded is None:
                return  # another node is at it
            async with self._database.session(Use.CHECKPOINT) as session:
                row = await session.fetchrow(
                    "SELECT logged_seqno FROM vicinal.head WHERE index_id = $1", index_id
                )
            if row is None or folded.seqno >= row[0]:
                break
        self._unfolded.pop(index_id, None)
        now = time.monotonic()
        if now - self._truncated_at.get(index_id, -TRUNCATE_EVERY_S) >= TRUNCATE_EVERY_S:
            if len(self._truncated_at) > 10_000:
                self._truncated_at.clear()
            self._truncated_at[index_id] = now
            await self._rows.truncate(index_id)

    # Now and then.

    def _keep_house(self) -> None:
        now = time.monotonic()
        for name, every_s, work in (
            ("remove", REMOVE_EVERY_S, self._remove),
            ("sweep", FIND_ORPHANS_EVERY_S, self._find_orphans),
            ("tend", HOUSEKEEPING_EVERY_S, self._keep_copies),
        ):
            if now >= self._due.get(name, 0.0):
                self._due[name] = now + every_s
                self._start(name, self._nodes.node_id, work)

    async def _remove(self) -> None:
        while await self._rows.remove_dropped():
            pass

    async def _find_orphans(self) -> None:
        """Find indexes whose node ended before its checkpoint, and copies of gone indexes."""
        local = self._copies.local_ids()
        async with self._database.session(Use.READ) as session:
            behind = await session.fetch(
                "SELECT index_id FROM vicinal.head AS head JOIN vicinal.folded AS folded"
                " USING (index_id) WHERE head.logged_seqno > folded.seqno LIMIT 1000"
            )
            there = await session.fetch(
                "SELECT index_id FROM vicinal.catalog WHERE index_id = ANY($1)", local
            )
        for row in behind:
            self._unfolded.setdefault(row["index_id"], time.monotonic())
        for index_id in set(local) - {row["index_id"] for row in there}:
            self._copies.remove(index_id, str(index_id))
        await self._uploads.remove_orphans()

    async def _keep_copies(self) -> None:
        self._log.evict()
        await asyncio.get_running_loop().run_in_executor(self._workers, self._copies.keep_house)


_POLL = """
SELECT cluster.catalog_version, cluster.index_count, head.index_id, head.logged_seqno,
  head.mutation_id, head.logged_bytes, folded.seqno AS folded_seqno,
  folded.logged_bytes AS folded_bytes
FROM vicinal.cluster AS cluster LEFT JOIN (
  vicinal.head AS head JOIN vicinal.folded AS folded USING (index_id))
ON head.index_id = ANY($1)
"""


def _fault(
    position: CopyPosition, before: UUID | None, rows: Sequence[Row], ends: _Ends
) -> str | None:
    """Return why a copy cannot go on with these mutations, the one `before` them being its last."""
    is_cut = not rows and position.seqno < ends.logged_seqno
    if is_cut or (position.seqno and before is None):
        return "log truncated"
    if _text(before) != position.mutation_id or (rows and rows[0].seqno != position.seqno + 1):
        return "log went back"
    return None


def _replay(copy: CopiedIndex, rows: Sequence[Row]) -> None:
    """Decode mutations and apply them; what is wrong with one ends the copy."""
    entries: list[tuple[Entry, Mutation]] = []
    for row in rows:
        logged = row.decode()
        entry = Entry(
            logged.seqno, str(logged.mutation_id), logged.accepted_at, logged.record, logged.file
        )
        entries.append((entry, logged.mutation))
    copy.replay(entries)


def _text(mutation_id: UUID | None) -> str | None:
    return None if mutation_id is None else str(mutation_id)
