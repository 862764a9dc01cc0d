"""Reading what a new copy is filled with, or another store: the rows of an index as of one moment.

A task in the database's thread reads them in one snapshot, a few batches ahead of the thread that
builds the copy.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from vicinal.engine.copying import CopyPosition
from vicinal.engine.records import VALUES_DTYPE
from vicinal.engine.shared.catalog import SharedCatalogEntry
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.session import Timeouts
from vicinal.errors import IndexNotFound
from vicinal.model import (
    CreateMetadataIndex,
    MetadataIndex,
    Mutation,
    Seqno,
    Upsert,
    VectorBatch,
)

BATCH_BYTES = 8 << 20  # of values read from the rows at a time; ours
BATCH_ROWS = 5_000
QUEUED_BATCHES = 2
FILL_TIMEOUTS = Timeouts(statement_s=60.0, idle_s=600.0)  # segments are written in between


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

    Attributes:
        position: Which moment.
        vector_count: Vectors of that moment, also of those not read.
        count: Vectors read.
        last: The last row of the last mutation with vectors.
    """

    position: CopyPosition
    vector_count: int

    def __init__(
        self,
        database: PostgresDatabase,
        entry: SharedCatalogEntry,
        after: RowPosition | None = None,
    ) -> None:
        self._database = database
        self._entry = entry
        self._after = after
        self._queue: asyncio.Queue[Any] = asyncio.Queue(QUEUED_BATCHES)
        self.count = 0
        self.last = after

    def __enter__(self) -> Self:
        self._reading = self._database.submit(self._read())
        self.position, self.vector_count, self._metadata_indexes = self._next()
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.cancel()

    def mutations(self) -> Iterator[Mutation]:
        """Yield what makes the index: its vectors by seqno, and metadata indexes between them.

        So a metadata index has the vectors that it had: those written since, or all by backfill.
        """
        waiting = list(self._metadata_indexes)
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
        for _, mutation in waiting:
            yield mutation

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
        count = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
        async with self._database.transaction(
            Use.FILL, mode="ISOLATION LEVEL REPEATABLE READ READ ONLY", timeouts=FILL_TIMEOUTS
        ) as session:
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
            indexes = [_metadata_index(row) for row in rows]
            await self._queue.put((position, vector_count, indexes))
            if self._after is None:
                fetch = await session.cursor(_ROWS, key)
            else:
                fetch = await session.cursor(_ROWS_AFTER, key, self._after.seqno, self._after.id)
            while rows := await fetch(count):
                await self._queue.put(rows)
        await self._queue.put(None)


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
