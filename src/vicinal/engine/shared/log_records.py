"""Records of the log as rows of the database: cut into parts on the way in, checked on the way out.

A record is what `engine.records` makes of a mutation. One of up to `PART_BYTES` is in the row of
its mutation; a longer one is in rows of ``part``, as a field of PostgreSQL takes several times its
size in memory on both sides and ends at 1 GB. Such a one is read into a file, part by part, and
mapped into memory, so that it takes as much of a node's memory as there is to spare.
"""

import mmap
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
from zlib_ng.zlib_ng import crc32

from vicinal.engine import records
from vicinal.engine.blob_files import VALUES_OFFSET
from vicinal.engine.records import VALUES_DTYPE, LogRecord
from vicinal.errors import Corruption
from vicinal.model import Mutation, Seqno
from vicinal.storage import private
from vicinal.storage.sqlite import translating

PART_BYTES = 8 << 20  # of a field; ours


@dataclass(frozen=True, slots=True)
class LoggedMutation:
    """A mutation as the log has it, decoded. `accepted_at` is microseconds since the epoch. `file`
    has the record, if that is long, as `engine.log.Entry` says."""

    seqno: Seqno
    mutation_id: UUID
    accepted_at: int
    logged_bytes: int
    record: LogRecord
    mutation: Mutation
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of ``mutation``, not decoded. `size` and `logged_bytes` (all records up to this one)
    are bytes. Who has one calls `release` in the end."""

    seqno: Seqno
    mutation_id: UUID
    accepted_at: int
    logged_bytes: int
    size: int
    checksum: int
    record: "bytes | SpooledRecord"

    def release(self) -> None:
        """Remove the file of a long record; what is mapped stays."""
        if isinstance(self.record, SpooledRecord):
            self.record.remove()

    def decode(self) -> LoggedMutation:
        """Return the mutation.

        Raises:
            Corruption: the record is not what was written.
        """
        raw = self.record
        file: Path | None = None
        if isinstance(raw, SpooledRecord):
            size, checksum, file = raw.size, raw.checksum, raw.path
        else:
            size, checksum = len(raw), crc32(raw)
        if size != self.size or checksum != self.checksum:
            raise Corruption(
                f"mutation {self.mutation_id} in the database's log fails its checksum"
            )
        try:
            record = raw.mapped() if isinstance(raw, SpooledRecord) else LogRecord.of(raw)
            return LoggedMutation(
                self.seqno,
                self.mutation_id,
                self.accepted_at,
                self.logged_bytes,
                record,
                records.decode(record),
                file,
            )
        except Corruption as error:
            raise Corruption(
                f"mutation {self.mutation_id} in the database's log {error}"
            ) from error


class SpooledRecord:
    """A record in a file of its own, made part by part: values begin at `VALUES_OFFSET`.

    One thread adds parts, and another may remove the record meanwhile: a part that comes after that
    is dropped, and so is the file that it opens.

    Args:
        folder: Where the file is to be; the first part makes it.

    Attributes:
        path: Of the file.
        size: Bytes of the record.
        checksum: Its CRC-32.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{uuid4()}.log"
        self.size = 0
        self.checksum = 0
        self._head = bytearray()  # with the length before it
        self._head_bytes = records.LENGTH_BYTES
        self._file: FileIO | None = None
        self._is_removed = False
        self._lock = threading.Lock()  # between the two above

    def add(self, part: bytes) -> None:
        """Append bytes of the record.

        Raises:
            ResourceExhausted, Unavailable: the file cannot be written.
        """
        self.checksum = crc32(part, self.checksum)
        self.size += len(part)
        rest = memoryview(part)
        while rest and len(self._head) < self._head_bytes:
            missing = self._head_bytes - len(self._head)
            self._head += rest[:missing]
            rest = rest[missing:]
            if len(self._head) == records.LENGTH_BYTES:
                self._head_bytes += records.header_bytes(self._head)
        with translating(self.path):
            file = self._opened()
            while rest and not self._is_removed:
                rest = rest[file.write(rest) :]

    def _opened(self) -> FileIO:
        """Return the file, made by the first call; closed by `mapped` or `remove`."""
        if self._file is not None:
            return self._file
        file = open(self.path, "x+b", buffering=0, opener=private.opener)  # noqa: SIM115 - see above
        with self._lock:
            self._file = file
            is_removed = self._is_removed
        if is_removed:
            self.remove()
        else:
            file.truncate(VALUES_OFFSET)
            file.seek(VALUES_OFFSET)
        return file

    def mapped(self) -> LogRecord:
        """Return the record; its values are mapped into memory.

        Raises:
            Corruption: it is none.
        """
        value_bytes = self.size - len(self._head)
        if len(self._head) < self._head_bytes or value_bytes % VALUES_DTYPE.itemsize:
            raise Corruption(f"is of {self.size} bytes")
        header = bytes(self._head[records.LENGTH_BYTES :])
        if not value_bytes:
            return LogRecord(header)
        assert self._file is not None, "parts came"
        with self._file as file, translating(self.path):
            memory = mmap.mmap(file.fileno(), VALUES_OFFSET + value_bytes, access=mmap.ACCESS_READ)
        return LogRecord(header, np.frombuffer(memory, VALUES_DTYPE, offset=VALUES_OFFSET))

    def remove(self) -> None:
        """Close and remove the file."""
        with self._lock:
            self._is_removed = True
            file = self._file
        if file is None:
            return
        file.close()
        with suppress(OSError):  # the next start does
            self.path.unlink(missing_ok=True)


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


def _slices(whole: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(whole), PART_BYTES):
        yield whole[start : start + PART_BYTES]
