"""Reading the logs of indexes, for what follows them on one node: its copies, and the rows.

Both want what was logged a moment ago, and mostly on this node. So the newest long records are kept
for some seconds, and the database is not asked for them: it has them in pieces of 2 KB, and putting
these together and sending them costs more than keeping them. Which mutations there are is always
asked: a record is kept by its mutation's id, and counts only where the log has that.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from vicinal.engine.shared.log_records import Row, SpooledRecord
from vicinal.engine.shared.session import Session
from vicinal.model import Seqno

KEPT_BYTES_MAX = 64 << 20  # of records; ours
KEPT_SIZE_MIN = 64 << 10  # shorter ones are read as cheaply; ours
KEPT_S = 5.0  # rows follow the log within a second or two; ours


@dataclass(frozen=True, slots=True)
class _KeptRecord:
    """A record; `at` is when it was kept, in monotonic seconds."""

    index_id: UUID
    record: bytes
    at: float


class LogReader:
    """Reads mutations. For the database's thread alone.

    Args:
        folder: Where long records are put while they are read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: OrderedDict[UUID, _KeptRecord] = OrderedDict()  # oldest first
        self._kept_bytes = 0

    def keep(self, index_id: UUID, mutation_id: UUID, record: bytes) -> None:
        """Keep a record for a while, if it is worth it; its bytes never change."""
        if len(record) < KEPT_SIZE_MIN or mutation_id in self._kept:
            return
        self._kept[mutation_id] = _KeptRecord(index_id, record, time.monotonic())
        self._kept_bytes += len(record)
        while self._kept_bytes > KEPT_BYTES_MAX:
            self._evict_oldest()

    def evict(self) -> None:
        """Keep no longer what nobody should need any more."""
        until = time.monotonic() - KEPT_S
        while self._kept and next(iter(self._kept.values())).at <= until:
            self._evict_oldest()

    async def fetch(
        self, session: Session, index_id: UUID, first: Seqno, bytes_max: int, count_max: int
    ) -> Sequence[Row]:
        """Return mutations from a seqno on, in order: see `fetch_after`."""
        return (await self.fetch_after(session, index_id, first, bytes_max, count_max))[1]

    async def fetch_after(
        self, session: Session, index_id: UUID, first: Seqno, bytes_max: int, count_max: int
    ) -> tuple[UUID | None, Sequence[Row]]:
        """Return the id of the mutation before a seqno, and mutations from there on, in order.

        These are one, and more while they are within bounds. The id is None when that mutation is
        not in the log.

        Args:
            session: Of a transaction or not: the rows of a mutation are committed at once.
            index_id: Of the index.
            first: The seqno.
            bytes_max: Bound on the bytes of their records together.
            count_max: Bound on their number.
        """
        kept = {
            mutation_id: record.record
            for mutation_id, record in self._kept.items()
            if record.index_id == index_id
        }
        rows = await session.fetch(_FETCH, index_id, first, bytes_max, count_max, list(kept))
        before = await session.fetchrow(
            "SELECT mutation_id FROM vicinal.mutation WHERE index_id = $1 AND seqno = $2",
            index_id,
            first - 1,
        )
        complete_rows: list[Row] = []
        try:
            for row in rows:
                record = await self._record(session, index_id, row, kept)
                if record is None:  # removed meanwhile
                    break
                complete_rows.append(Row(**{**row, "record": record}))
        except BaseException:
            release(complete_rows)
            raise
        return (None if before is None else before[0]), complete_rows

    async def _record(
        self, session: Session, index_id: UUID, row: Any, kept: Mapping[UUID, bytes]
    ) -> bytes | SpooledRecord | None:
        record: bytes | None = row["record"]
        if record is not None:
            self.keep(index_id, row["mutation_id"], record)
            return record
        if (record := kept.get(row["mutation_id"])) is not None:
            return record
        return await self._fetch_parts(session, index_id, row)

    async def _fetch_parts(
        self, session: Session, index_id: UUID, row: Any
    ) -> SpooledRecord | None:
        record = SpooledRecord(self._folder)
        try:
            number = 0
            while record.size < row["size"]:
                part = await session.fetchrow(
                    "SELECT bytes FROM vicinal.part"
                    " WHERE index_id = $1 AND seqno = $2 AND number = $3",
                    index_id,
                    row["seqno"],
                    number,
                )
                if part is None:
                    record.remove()
                    return None
                await asyncio.to_thread(record.add, part["bytes"])
                number += 1
        except BaseException:
            record.remove()
            raise
        return record

    def _evict_oldest(self) -> None:
        _, oldest = self._kept.popitem(last=False)
        self._kept_bytes -= len(oldest.record)


def release(rows: Sequence[Row]) -> None:
    """Remove the files of long records."""
    for row in rows:
        row.release()


_FETCH = """
SELECT seqno, mutation_id, accepted_at, logged_bytes, size, checksum,
  CASE WHEN mutation_id = ANY($5) THEN NULL ELSE record END AS record
FROM vicinal.mutation WHERE index_id = $1 AND seqno >= $2 AND (seqno = $2
  OR logged_bytes <= $3 + (
    SELECT logged_bytes FROM vicinal.mutation WHERE index_id = $1 AND seqno = $2))
ORDER BY seqno LIMIT $4
"""
