"""Records of the log as rows of the database: cut into parts on the way in, checked on the way out.

A record is what `engine.records` makes of a mutation. One of up to `PART_BYTES` is in the row of
its mutation; a longer one is in rows of ``part``, as a field of PostgreSQL takes several times its
size in memory on both sides and ends at 1 GB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from zlib_ng.zlib_ng import crc32

from vicinal.engine import records
from vicinal.engine.records import LogRecord
from vicinal.engine.shared.session import Session
from vicinal.errors import Corruption
from vicinal.model import Mutation, Seqno

PART_BYTES = 8 << 20  # of a field; ours


@dataclass(frozen=True, slots=True)
class LoggedMutation:
    """A mutation as the log has it, decoded. `accepted_at` is microseconds since the epoch."""

    seqno: Seqno
    mutation_id: UUID
    accepted_at: int
    logged_bytes: int
    record: LogRecord
    mutation: Mutation


@dataclass(frozen=True, slots=True)
class Row:
    """A row of ``mutation``, not decoded. `size` and `logged_bytes` (all records up to this one)
    are bytes."""

    seqno: Seqno
    mutation_id: UUID
    accepted_at: int
    logged_bytes: int
    size: int
    checksum: int
    record: bytes

    def decode(self) -> LoggedMutation:
        """Return the mutation.

        Raises:
            Corruption: the record is not what was written.
        """
        if len(self.record) != self.size or crc32(self.record) != self.checksum:
            raise Corruption(
                f"mutation {self.mutation_id} in the database's log fails its checksum"
            )
        try:
            record = LogRecord.of(self.record)
            return LoggedMutation(
                self.seqno,
                self.mutation_id,
                self.accepted_at,
                self.logged_bytes,
                record,
                records.decode(record),
            )
        except Corruption as error:
            raise Corruption(
                f"mutation {self.mutation_id} in the database's log {error}"
            ) from error


def cut(record: LogRecord) -> Sequence[bytes | memoryview]:
    """Return the bytes of a record in parts of at most `PART_BYTES`; values are not copied."""
    if record.size <= PART_BYTES:
        return [bytes(record)]
    head = bytes(LogRecord(record.header))
    values = record.values.data.cast("B")
    return [*_slices(memoryview(head)), *_slices(values)]


def checksum(parts: Sequence[bytes | memoryview]) -> int:
    """Return the CRC-32 of a record in parts."""
    value = 0
    for part in parts:
        value = crc32(part, value)
    return value


async def fetch(
    session: Session, index_id: UUID, first: Seqno, bytes_max: int, count_max: int
) -> Sequence[Row]:
    """Return mutations from a seqno on, in order: one, and more while they are within bounds."""
    return (await fetch_after(session, index_id, first, bytes_max, count_max))[1]


async def fetch_after(
    session: Session, index_id: UUID, first: Seqno, bytes_max: int, count_max: int
) -> tuple[UUID | None, Sequence[Row]]:
    """Return the id of the mutation before a seqno, and mutations from there on, in order.

    These are one, and more while they are within bounds. The id is None when that mutation is not
    in the log.

    Args:
        session: Of a transaction or not: the rows of a mutation are committed at once.
        index_id: Of the index.
        first: The seqno.
        bytes_max: Bound on the bytes of their records together.
        count_max: Bound on their number.
    """
    rows = await session.fetch(
        "SELECT seqno, mutation_id, accepted_at, logged_bytes, size, checksum, record"
        " FROM vicinal.mutation WHERE index_id = $1 AND seqno >= $2 AND (seqno = $2"
        " OR logged_bytes <= $3 + (SELECT logged_bytes FROM vicinal.mutation"
        " WHERE index_id = $1 AND seqno = $2)) ORDER BY seqno LIMIT $4",
        index_id,
        first,
        bytes_max,
        count_max,
    )
    before = await session.fetchrow(
        "SELECT mutation_id FROM vicinal.mutation WHERE index_id = $1 AND seqno = $2",
        index_id,
        first - 1,
    )
    complete_rows: list[Row] = []
    for row in rows:
        record = row["record"]
        if record is None:
            record = await _fetch_parts(session, index_id, row)
            if record is None:  # removed meanwhile
                break
        complete_rows.append(Row(**{**row, "record": record}))
    return (None if before is None else before[0]), complete_rows


async def _fetch_parts(session: Session, index_id: UUID, row: Any) -> bytes | None:
    parts: list[bytes] = []
    left = row["size"]
    while left > 0:
        part = await session.fetchrow(
            "SELECT bytes FROM vicinal.part WHERE index_id = $1 AND seqno = $2 AND number = $3",
            index_id,
            row["seqno"],
            len(parts),
        )
        if part is None:
            return None
        parts.append(part["bytes"])
        left -= len(part["bytes"])
    return b"".join(parts)


def _slices(whole: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(whole), PART_BYTES):
        yield whole[start : start + PART_BYTES]
