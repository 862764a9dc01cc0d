"""The rows of an index: each vector as it is after a prefix of the log, and listings of their ids.

`Rows.checkpoint` brings them further: it replays the next mutations in memory and writes the
outcome, the count of vectors and the seqno in one transaction, so nothing is applied twice. The
row lock in ``folded`` lets one node at a time do it, and ends with its transaction. The transaction
need not be durable: what a crash takes back is done again.

A row keeps the seqno that it appeared at (``born``), and an id that is deleted leaves one in
``gone``, so a listing at a seqno is a query, on any node and without anything kept in memory.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from uuid import UUID

from vicinal.engine.shared import log_reader
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.failures import Lost
from vicinal.engine.shared.log_reader import LogReader
from vicinal.engine.shared.log_records import LoggedMutation
from vicinal.engine.shared.permits import IDS_AT_ONCE
from vicinal.engine.shared.session import Session, Timeouts
from vicinal.errors import IndexNotFound
from vicinal.model import Delete, Insert, Seqno, Upsert, VectorBatch

logger = logging.getLogger(__name__)

CHECKPOINT_BYTES_MAX = 64 << 20  # of records in one transaction, or one mutation; ours
CHECKPOINT_COUNT_MAX = 10_000  # mutations in one transaction; ours
COPY_ROWS = 20_000  # in one statement, which has to end within its time-out; ours
TRUNCATE_AGE_S = 600.0  # a mutation stays in the log so long in any case; ours
TRUNCATE_BYTES = 64 << 20  # and while it is among that many newest bytes; ours
TRUNCATE_AGE_MAX_S = 86_400.0  # but no longer; ours
REMOVE_COUNT = 2_000  # rows removed in one statement; ours
TRUNCATE_COUNT = 200  # mutations, of up to 8 MiB each; ours
CHECKPOINT_TIMEOUTS = Timeouts(statement_s=60.0, idle_s=60.0)  # replaying is done in between


@dataclass(frozen=True, slots=True)
class Folded:
    """How far the rows of an index have come."""

    seqno: Seqno
    mutation_id: UUID | None
    logged_bytes: int
    vector_count: int


@dataclass(slots=True)
class _Row:
    """A vector as the replay leaves it; one with no `batch` is in its row already."""

    born: int
    seqno: int = 0
    batch: VectorBatch | None = None
    offset: int = 0


class Rows:
    """Checkpoints and lists the indexes' rows, for one node.

    Args:
        database: Where they are.
        workers: Replay in memory.
        gone_s: How long ids that are deleted are kept for listings, in seconds.
        log: Reads the logs.

    Attributes:
        checkpoint_count: Checkpoints that have written something.
        checkpoint_s: Seconds of all of them.
    """

    def __init__(
        self, database: PostgresDatabase, workers: Executor, gone_s: float, log: LogReader
    ) -> None:
        self._database = database
        self._log = log
        self._workers = workers
        self._gone_s = gone_s
        self.checkpoint_count = 0
        self.checkpoint_s = 0.0

    # In the database's thread.

    async def checkpoint(self, index_id: UUID) -> Folded | None:
        """Write the next mutations to the rows.

        Returns:
            How far the rows have come; None when another node is at it, or the index is gone.
        """
        started = time.monotonic()
        async with self._database.transaction(
            Use.CHECKPOINT, is_durable=False, timeouts=CHECKPOINT_TIMEOUTS
        ) as session:
            row = await session.fetchrow(
                "SELECT seqno, mutation_id, logged_bytes, vector_count FROM vicinal.folded"
                " WHERE index_id = $1 FOR UPDATE SKIP LOCKED",
                index_id,
            )
            if row is None:
                return None
            folded = Folded(*row.values())
            log_rows = await self._log.fetch(
                session,
                index_id,
                Seqno(folded.seqno + 1),
                CHECKPOINT_BYTES_MAX,
                CHECKPOINT_COUNT_MAX,
            )
            if not log_rows:
                return folded
            loop = asyncio.get_running_loop()
            try:
                logged = await loop.run_in_executor(
                    self._workers, lambda: [row.decode() for row in log_rows]
                )
                folded = await self._write(session, index_id, folded, logged)
            finally:
                log_reader.release(log_rows)
        self.checkpoint_count += 1
        self.checkpoint_s += time.monotonic() - started
        return folded

    async def checkpoint_until(self, index_id: UUID, seqno: Seqno, until: float) -> int:
        """Checkpoint until the rows have come to a seqno; return how many vectors there are.

        Raises:
            Unavailable: they have not until then, in monotonic seconds.
            IndexNotFound: the index is gone.
        """
        while True:
            folded = await self.checkpoint(index_id)
            if folded is None:  # another node is at it
                folded = await self._folded(index_id)
            if folded.seqno >= seqno:
                return folded.vector_count
            if time.monotonic() >= until:
                raise Lost("the rows of the index do not keep up with its log", retry_after=1.0)
            await asyncio.sleep(0)

    async def truncate(self, index_id: UUID) -> None:
        """Remove mutations from the log that are in the rows and that no copy should need.

        The last one stays: copies find out by it whether they have the same log.
        """
        bounds = (TRUNCATE_BYTES, TRUNCATE_AGE_S, TRUNCATE_AGE_MAX_S, TRUNCATE_COUNT)
        async with self._database.session(Use.CHECKPOINT) as session:
            while await _count(session.execute(_TRUNCATE, index_id, *bounds)) == TRUNCATE_COUNT:
                pass
            while (
                await _count(session.execute(_EXPIRE, index_id, self._gone_s, REMOVE_COUNT))
                == REMOVE_COUNT
            ):
                pass

    async def remove_dropped(self) -> bool:
        """Remove some rows of an index that was dropped; return whether there was anything."""
        async with self._database.transaction(Use.CHECKPOINT, is_durable=False) as session:
            row = await session.fetchrow(
                "SELECT index_id FROM vicinal.dropped WHERE NOT is_removed"
                " LIMIT 1 FOR UPDATE SKIP LOCKED"
            )
            if row is None:
                await session.execute(
                    "DELETE FROM vicinal.dropped WHERE is_removed AND at < now() - interval '1 day'"
                )
                return False
            index_id = row["index_id"]
            # First this: it waits for a checkpoint that is under way, and after it none begins.
            await session.execute("DELETE FROM vicinal.folded WHERE index_id = $1", index_id)
            for table, count in _TABLES.items():
                tag = await session.execute(
                    f"DELETE FROM vicinal.{table} WHERE ctid = ANY(ARRAY("
                    f"SELECT ctid FROM vicinal.{table} WHERE index_id = $1 LIMIT $2))",
                    index_id,
                    count,
                )
                if tag != "DELETE 0":
                    return True
            await session.execute(
                "UPDATE vicinal.dropped SET is_removed = true WHERE index_id = $1", index_id
            )
            return True

    async def _folded(self, index_id: UUID) -> Folded:
        async with self._database.session(Use.READ) as session:
            row = await session.fetchrow(
                "SELECT seqno, mutation_id, logged_bytes, vector_count FROM vicinal.folded"
                " WHERE index_id = $1",
                index_id,
            )
        if row is None:
            raise IndexNotFound(str(index_id))
        return Folded(*row.values())

    async def _write(
        self, session: Session, index_id: UUID, folded: Folded, logged: Sequence[LoggedMutation]
    ) -> Folded:
        loop = asyncio.get_running_loop()
        ids = await loop.run_in_executor(self._workers, _ids, logged)
        there: dict[bytes, int] = {}
        for first in range(0, len(ids), IDS_AT_ONCE):
            rows = await session.fetch(
                "SELECT id, born FROM vicinal.vector WHERE index_id = $1 AND id = ANY($2)",
                index_id,
                ids[first : first + IDS_AT_ONCE],
            )
            there.update((row["id"], row["born"]) for row in rows)
        replay = await loop.run_in_executor(self._workers, _replay, there, logged)
        replaced = [id_ for id_ in there if not _is_unchanged(replay.rows.get(id_))]
        for first in range(0, len(replaced), IDS_AT_ONCE):
            await session.execute(
                "DELETE FROM vicinal.vector WHERE index_id = $1 AND id = ANY($2)",
                index_id,
                replaced[first : first + IDS_AT_ONCE],
            )
        written = [(id_, row) for id_, row in replay.rows.items() if row.batch is not None]
        for first in range(0, len(written), COPY_ROWS):
            await session.copy(
                "vector",
                ("index_id", "id", "namespace", "born", "seqno", "floats", "metadata"),
                _fields(index_id, written[first : first + COPY_ROWS]),
            )
        if replay.gone:
            now = (await session.fetchrow("SELECT now()"))[0]
            await session.copy(
                "gone",
                ("index_id", "id", "born", "died", "at"),
                [(index_id, id_, born, died, now) for id_, born, died in replay.gone],
            )
        last = logged[-1]
        count = folded.vector_count + len(replay.rows) - len(there)
        await session.execute(
            "UPDATE vicinal.folded SET seqno = $2, mutation_id = $3, at = now(),"
            " logged_bytes = $4, vector_count = $5 WHERE index_id = $1",
            index_id,
            last.seqno,
            last.mutation_id,
            last.logged_bytes,
            count,
        )
        await session.execute(
            "DELETE FROM vicinal.metadata_index WHERE index_id = $1 AND dropped_seqno <= $2",
            index_id,
            last.seqno,
        )
        return Folded(last.seqno, last.mutation_id, last.logged_bytes, count)


_TABLES = {
    # First this: no part is added to an upload that has no row.
    "upload": REMOVE_COUNT,
    "mutation": TRUNCATE_COUNT,
    "part": TRUNCATE_COUNT,
    "vector": REMOVE_COUNT,
    "gone": REMOVE_COUNT,
    "namespace": REMOVE_COUNT,
    "metadata_index": REMOVE_COUNT,
    "copy": REMOVE_COUNT,
}
"""The tables that an index leaves rows in, and how many are removed in one statement."""

_TRUNCATE = """
WITH bound AS (
  SELECT folded.seqno, head.logged_seqno, head.logged_bytes
  FROM vicinal.folded AS folded JOIN vicinal.head AS head USING (index_id) WHERE index_id = $1),
old AS (
  SELECT mutation.seqno FROM vicinal.mutation AS mutation, bound
  WHERE index_id = $1 AND mutation.seqno <= bound.seqno AND mutation.seqno < bound.logged_seqno
    AND mutation.accepted_at < (extract(epoch FROM now()) - $3) * 1e6
    AND (mutation.logged_bytes < bound.logged_bytes - $2::bigint
         OR mutation.accepted_at < (extract(epoch FROM now()) - $4) * 1e6)
  ORDER BY mutation.seqno LIMIT $5),
parts AS (
  DELETE FROM vicinal.part WHERE index_id = $1 AND seqno IN (SELECT seqno FROM old))
DELETE FROM vicinal.mutation WHERE index_id = $1 AND seqno IN (SELECT seqno FROM old)
"""

_EXPIRE = """
DELETE FROM vicinal.gone WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM vicinal.gone
  WHERE index_id = $1 AND at < now() - make_interval(secs => $2) LIMIT $3))
"""


async def _count(statement: Awaitable[str]) -> int:
    """Return how many rows a statement changed."""
    return int((await statement).rpartition(" ")[2])


@dataclass(slots=True)
class _Replay:
    """The outcome of mutations: vectors that are there then, and (id, born, died) of others."""

    rows: dict[bytes, _Row]
    gone: list[tuple[bytes, int, int]]


def _is_unchanged(row: _Row | None) -> bool:
    return row is not None and row.batch is None


def _ids(logged: Sequence[LoggedMutation]) -> list[bytes]:
    """Return the ids that mutations name, each once."""
    ids: dict[str, None] = {}
    for entry in logged:
        match entry.mutation:
            case Insert(batch) | Upsert(batch):
                ids.update(dict.fromkeys(batch.ids))
            case Delete(named):
                ids.update(dict.fromkeys(named))
            case _:
                pass
    return [id_.encode() for id_ in ids]


def _replay(there: dict[bytes, int], logged: Sequence[LoggedMutation]) -> _Replay:
    """Apply mutations in memory to the vectors that are there, of which `born` is known."""
    rows = {id_: _Row(born) for id_, born in there.items()}
    gone: list[tuple[bytes, int, int]] = []
    for entry in logged:
        match entry.mutation:
            case Insert(batch):
                for offset, name in enumerate(batch.ids):
                    id_ = name.encode()
                    if id_ not in rows:
                        rows[id_] = _Row(entry.seqno, entry.seqno, batch, offset)
            case Upsert(batch):
                for offset, name in enumerate(batch.ids):
                    id_ = name.encode()
                    before = rows.get(id_)
                    born = entry.seqno if before is None else before.born
                    rows[id_] = _Row(born, entry.seqno, batch, offset)
            case Delete(ids):
                for name in ids:
                    row = rows.pop(name.encode(), None)
                    if row is not None:
                        gone.append((name.encode(), row.born, entry.seqno))
            case _:
                pass
    return _Replay(rows, gone)


def _fields(index_id: UUID, rows: Sequence[tuple[bytes, _Row]]) -> Iterator[tuple[object, ...]]:
    for id_, row in rows:
        batch, offset = row.batch, row.offset
        assert batch is not None
        yield (
            index_id,
            id_,
            batch.namespaces[offset].encode(),
            row.born,
            row.seqno,
            batch.values[offset].tobytes(),
            batch.metadata[offset],
        )
