"""Reading what a new copy is filled with, or another store: the rows of an index as of one moment.

A task in the database's thread reads them in one snapshot, a few batches ahead of the thread that
builds the copy. When the connection is lost, `FillRows` goes on with another snapshot:

* A row is never changed where it is: a vector that is written again moves behind all others, in the
  order of seqnos, and one that is deleted leaves its id in ``gone``. So what was read, without the
  ids that went between the two snapshots, is what the later one has up to there, and what moved
  from there is read again.
* That is so while the log has the last mutation of the earlier snapshot: else a failover may have
  taken it back. And ``gone`` is kept for hours by the database's clock, which may be set: so the
  vectors are counted in the end.
"""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from vicinal.engine.copying import CopyPosition
from vicinal.engine.records import VALUES_DTYPE
from vicinal.engine.shared.catalog import SharedCatalogEntry
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.failures import RETRY_AFTER_S, Lost
from vicinal.engine.shared.session import Session, Timeouts
from vicinal.errors import IndexNotFound, Unavailable
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    MetadataIndex,
    Mutation,
    Seqno,
    Upsert,
    VectorBatch,
)

BATCH_BYTES = 8 << 20  # of values read from the rows at a time; ours
BATCH_ROWS = 5_000
QUEUED_BATCHES = 2
GONE_ROWS = 10_000
PAUSE_S = 0.05  # before a lost connection is made again; doubles up to PAUSE_MAX_S; ours
PAUSE_MAX_S = 1.0
GIVE_UP_AFTER_S = 120.0  # without a row, and a statement may take half of it; ours
FILL_TIMEOUTS = Timeouts(statement_s=60.0, idle_s=600.0)  # segments are written in between


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RowPosition:
    """A row's place in the order of seqnos and ids."""

    seqno: int
    id: bytes


BEFORE_ALL_ROWS = RowPosition(0, b"")


class RowsSnapshot:
    """The rows of an index as of one moment, read by a task in the database's thread.

    Args:
        database: Where they are.
        entry: The index.
        after: Read the rows after this one alone, in the order of seqnos and ids; None reads all,
            those of one seqno in any order.
        since: The moment that the rows before are of, None where they are of no matter.
        rows_max: Bound on the rows that are read at a time.

    Attributes:
        position: Which moment.
        vector_count: Vectors of that moment, also of those not read.
        metadata_indexes: The metadata indexes of that moment, by the seqno of their creation.
        waiting: The metadata indexes that `mutations` has not yielded.
        count: Vectors read.
        last: The last row of the last mutation with vectors.
    """

    position: CopyPosition
    vector_count: int
    metadata_indexes: Sequence[tuple[int, CreateMetadataIndex]]
    waiting: list[tuple[int, CreateMetadataIndex]]

    def __init__(
        self,
        database: PostgresDatabase,
        entry: SharedCatalogEntry,
        after: RowPosition | None = None,
        since: CopyPosition | None = None,
        rows_max: int = BATCH_ROWS,
    ) -> None:
        self._database = database
        self._entry = entry
        self._after = after
        self._since = since
        self._rows_max = rows_max
        self._queue: asyncio.Queue[Any] = asyncio.Queue(QUEUED_BATCHES)
        self.count = 0
        self.last = after

    def __enter__(self) -> Self:
        self._reading = self._database.submit(self._read())
        try:
            self.position, self.vector_count, self.metadata_indexes = self._next()
        except BaseException:
            self._reading.cancel()
            raise
        self.waiting = list(self.metadata_indexes)
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.cancel()

    def gone(self) -> Iterator[Delete]:
        """Yield the ids that went after the moment `since`; to be read before `mutations`."""
        while (rows := self._next()) is not None:
            yield Delete([row["id"].decode() for row in rows])

    def mutations(self) -> Iterator[Mutation]:
        """Yield what makes the index: its vectors by seqno, and metadata indexes between them.

        So a metadata index has the vectors that it had: those written since, or all by backfill.
        """
        waiting = self.waiting
        while (rows := self._next()) is not None:
            seqnos = [row["seqno"] for row in rows]
            first = 0
            while waiting and waiting[0][0] <= seqnos[-1]:
                end = bisect_left(seqnos, waiting[0][0])
                if end > first:
                    yield self._upsert(rows[first:end])
                yield waiting.pop(0)[1]
                first = end
            yield self._upsert(rows[first:])
        while waiting:
            yield waiting.pop(0)[1]

    def _next(self) -> Any:
        """Return what the task has read next."""
        item = self._database.run_coroutine(self._queue.get())
        if isinstance(item, Exception):
            raise item
        return item

    def _upsert(self, rows: Sequence[Any]) -> Upsert:
        self.count += len(rows)
        self.last = RowPosition(rows[-1]["seqno"], rows[-1]["id"])
        values = np.frombuffer(b"".join([row["floats"] for row in rows]), VALUES_DTYPE)
        return Upsert(
            VectorBatch(
                [row["id"].decode() for row in rows],
                values.reshape(len(rows), self._entry.index.config.dimensions),
                [row["namespace"].decode() for row in rows],
                [row["metadata"] for row in rows],
            )
        )

    async def _read(self) -> None:
        try:
            await self._read_all()
        except Exception as error:  # told to the thread that fills
            await self._queue.put(error)

    async def _read_all(self) -> None:
        key = self._entry.key
        row_bytes = 4 * self._entry.index.config.dimensions
        count = max(1, min(self._rows_max, BATCH_ROWS, BATCH_BYTES // row_bytes))
        async with self._database.transaction(
            Use.FILL, mode="ISOLATION LEVEL REPEATABLE READ READ ONLY", timeouts=FILL_TIMEOUTS
        ) as session:
            position = await self._read_moment(session)
            if self._since is not None:
                await self._read_gone(session, position, self._since)
            if self._after is None:
                fetch = await session.cursor(_ROWS, key)
            else:
                fetch = await session.cursor(_ROWS_AFTER, key, self._after.seqno, self._after.id)
            while rows := await fetch(count):
                await self._queue.put(rows)
        await self._queue.put(None)

    async def _read_moment(self, session: Session) -> CopyPosition:
        key = self._entry.key
        folded = await session.fetchrow(
            "SELECT seqno, mutation_id, vector_count FROM vicinal.folded WHERE index_id = $1"
            " AND EXISTS (SELECT 1 FROM vicinal.head WHERE index_id = $1)",
            key,
        )
        if folded is None:
            raise IndexNotFound(self._entry.index.name)
        seqno, mutation_id, vector_count = folded
        rows = await session.fetch(
            "SELECT created_seqno, property_name, type, is_backfilled"
            " FROM vicinal.metadata_index WHERE index_id = $1 AND created_seqno <= $2"
            " AND (dropped_seqno IS NULL OR dropped_seqno > $2) ORDER BY created_seqno",
            key,
            seqno,
        )
        position = CopyPosition(Seqno(seqno), None if mutation_id is None else str(mutation_id))
        await self._queue.put((position, vector_count, [_metadata_index(row) for row in rows]))
        return position

    async def _read_gone(
        self, session: Session, position: CopyPosition, since: CopyPosition
    ) -> None:
        key = self._entry.key
        if position != since:
            row = await session.fetchrow(
                "SELECT mutation_id FROM vicinal.mutation WHERE index_id = $1 AND seqno = $2",
                key,
                since.seqno,
            )
            is_there = row is not None and str(row["mutation_id"]) == since.mutation_id
            if not is_there or position.seqno < since.seqno:
                raise Unavailable(
                    f"copying index {self._entry.index.name!r} to this node has to begin anew, as "
                    "the log has no longer what was copied",
                    retry_after=RETRY_AFTER_S,
                )
            fetch = await session.cursor(
                "SELECT id FROM vicinal.gone WHERE index_id = $1 AND died > $2", key, since.seqno
            )
            while rows := await fetch(GONE_ROWS):
                await self._queue.put(rows)
        await self._queue.put(None)


class FillRows:
    """Implements `engine.copying.FillSource` over the rows, also where connections are lost.

    Args:
        database: Where they are.
        entry: The index.
        check_wanted: Raises what ends the filling; called before each mutation, and before a
            connection is made again.

    Raises:
        Lost: on entering, when the connection is lost.
        IndexNotFound: on entering, when the index is gone.
    """

    vector_count: int

    def __init__(
        self,
        database: PostgresDatabase,
        entry: SharedCatalogEntry,
        check_wanted: Callable[[], None],
    ) -> None:
        self._database = database
        self._entry = entry
        self._check_wanted = check_wanted
        self._moment: CopyPosition | None = None
        """Of which moment is what earlier snapshots have read, None before they have any."""
        self._after: RowPosition | None = None  # how far that is
        self._declared: dict[int, str] = {}
        """Its metadata indexes, by the seqno of their creation."""
        self._rows_max = BATCH_ROWS
        self._pause_s = PAUSE_S
        self._is_continued = False

    def __enter__(self) -> Self:
        self._snapshot = RowsSnapshot(self._database, self._entry).__enter__()
        self.vector_count = self._snapshot.vector_count
        self._moved_at = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._snapshot.__exit__()

    def mutations(self) -> Iterator[Mutation]:
        """See `engine.copying.FillSource`.

        Raises:
            Lost: the connection is lost, and none that reads a row can be had.
            Unavailable: what was read cannot be gone on from.
            IndexNotFound: the index is gone.
        """
        while True:
            try:
                yield from self._rest()
                return
            except Lost as error:
                if not self._is_continued:
                    name = self._entry.index.name
                    logger.info("copying index %r goes on after this: %s", name, error)
                self._is_continued = True
                self._note_read()
                self._go_on(error)

    def finish(self, vector_count: int) -> CopyPosition:
        """See `engine.copying.FillSource`."""
        expected = self._snapshot.vector_count
        if self._is_continued and vector_count != expected:
            raise Unavailable(
                f"copying index {self._entry.index.name!r} to this node has to begin anew: "
                f"{vector_count} vectors came of {expected}",
                retry_after=RETRY_AFTER_S,
            )
        return self._snapshot.position

    def _rest(self) -> Iterator[Mutation]:
        """Yield what the snapshot has that was not read before, and what that must lose."""
        snapshot = self._snapshot
        if self._moment is not None:
            yield from snapshot.gone()
            kept = {seqno for seqno, _ in snapshot.metadata_indexes}
            for seqno in self._declared.keys() - kept:
                yield DeleteMetadataIndex(self._declared.pop(seqno))
        self._moment = snapshot.position
        for mutation in snapshot.mutations():
            self._check_wanted()
            yield mutation

    def _note_read(self) -> None:
        """Remember how far a snapshot has come whose connection is lost; read less at a time where
        that was nowhere."""
        snapshot = self._snapshot
        if snapshot.last == self._after:
            self._rows_max = max(1, self._rows_max // 4)
        else:
            assert snapshot.last is not None
            self._rows_max = min(BATCH_ROWS, self._rows_max * 2)
            self._pause_s, self._moved_at = PAUSE_S, time.monotonic()
            # The first reads the vectors of a mutation in any order: so again all of its last.
            is_ordered = self._after is not None
            self._after = snapshot.last if is_ordered else RowPosition(snapshot.last.seqno, b"")
            waiting = {seqno for seqno, _ in snapshot.waiting}
            for seqno, mutation in snapshot.metadata_indexes:
                if seqno not in waiting:
                    self._declared[seqno] = mutation.metadata_index.property_name
        if self._after is None:
            self._moment = None

    def _go_on(self, error: Lost) -> None:
        """Begin another snapshot, waiting for the database while that may help."""
        while time.monotonic() - self._moved_at < GIVE_UP_AFTER_S:
            self._snapshot.__exit__()
            time.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
            self._check_wanted()
            try:
                self._snapshot = RowsSnapshot(
                    self._database, self._entry, self._after, self._moment, self._rows_max
                ).__enter__()
                return
            except Lost as again:
                error = again
        raise error


_ROWS = (
    "SELECT id, namespace, seqno, floats, metadata FROM vicinal.vector"
    " WHERE index_id = $1 ORDER BY seqno"
)

_ROWS_AFTER = (
    "SELECT id, namespace, seqno, floats, metadata FROM vicinal.vector"
    " WHERE index_id = $1 AND seqno >= $2 AND (seqno, id) > ($2, $3) ORDER BY seqno, id"
)


def _metadata_index(row: Any) -> tuple[int, CreateMetadataIndex]:
    metadata_index = MetadataIndex.of_type_name(row["property_name"].decode(), row["type"])
    return row["created_seqno"], CreateMetadataIndex(metadata_index, row["is_backfilled"])
