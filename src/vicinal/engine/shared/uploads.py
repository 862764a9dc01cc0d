"""Long batches on their way into the log: their values go into the database while they arrive.

    receive   `UploadWriter` writes them to a file of this node, chunk by chunk (`blob_files`)
    ship      what is in the file becomes rows of ``part`` under a negative seqno, which no mutation
              has, each in a transaction of its own that need not be durable
    log       the ledger has the rest shipped, and its transaction gives the parts the seqno of
              their mutation: the first that others see of them

So neither the memory of a node nor the time that the end of a log is locked grows with a body.
Parts that are lost on the way, with a connection or in a failover, are shipped again: the ledger's
transaction counts them, and the file stays until it is committed.

``upload`` names the parts that are no mutation's yet. Who gives an upload up removes them; those of
a node that has ended are removed by any other. Parts are added only while the row is there, so none
is added to an upload that was taken for abandoned.
"""

import asyncio
import logging
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from zlib_ng.zlib_ng import crc32, crc32_combine

from vicinal.engine.blob_files import VALUES_OFFSET, BlobBatch, BlobFiles, BlobWriter
from vicinal.engine.records import VALUES_DTYPE
from vicinal.engine.shared import log_records
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.failures import Lost
from vicinal.engine.shared.session import Session
from vicinal.errors import Error
from vicinal.model import Insert, Mutation, Seqno, Upsert

logger = logging.getLogger(__name__)

LONG_BYTES = log_records.PART_BYTES  # up to this length a record is one field
PART_BYTES = 2 << 20  # of a part that is shipped: what one upload takes of memory; ours
ABANDONED_S = 60.0  # a node that was not seen for so long has ended; ours
REMOVE_COUNT = 50  # parts removed in one statement; ours


@dataclass(frozen=True, slots=True)
class _Key:
    """Where the parts of an upload are: under the negative `seqno`."""

    index_id: UUID
    seqno: int


class BatchUpload:
    """The values of one batch on their way into the database.

    For the database's thread, except for `advance` and `cancel`.

    Args:
        database: Where they go.
        uploads: Has this one.
        index_id: Of the index.
        path: The file that they arrive in; it may be removed after this.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(
        self, database: PostgresDatabase, uploads: "Uploads", index_id: UUID, path: Path
    ) -> None:
        self.index_id = index_id
        self._database = database
        self._uploads = uploads
        self._file = path.open("rb", buffering=0)  # closed by `close`
        self._received_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        self._begin()

    def _begin(self) -> None:
        self._key = _Key(self.index_id, -1 - secrets.randbelow(1 << 62))
        self._is_begun = False
        self._shipped_bytes = 0
        self._part_count = 0
        self._checksum = 0

    def advance(self, received_bytes: int) -> None:
        """Say how many bytes are in the file by now. From any thread."""
        self._received_bytes = received_bytes
        self._database.post(self._ship_soon)

    def cancel(self) -> None:
        """Give the upload up, and remove what was shipped. From any thread."""
        self._database.post(self._end)

    async def ship(self) -> None:
        """Ship all that has been received.

        Raises:
            Lost: the connection is lost; to be tried again.
            ResourceExhausted: the database's disk is full.
        """
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._ship(1)

    async def adopt(self, session: Session, seqno: Seqno, parts_before: int) -> None:
        """Make the parts those of a mutation, after the parts that it begins with.

        Args:
            session: The transaction that logs it.
            seqno: Of the mutation.
            parts_before: How many the mutation has already.

        Raises:
            Lost: parts are missing; they will be shipped again.
        """
        tag = await session.execute(
            _ADOPT, self._key.index_id, self._key.seqno, seqno, parts_before
        )
        if int(tag.rpartition(" ")[2]) != self._part_count:
            self._begin_again()
            raise Lost("parts of an upload are lost, and shipped again", retry_after=1.0)

    def checksum(self, head_checksum: int) -> int:
        """Return the CRC-32 of a record whose values these are, all shipped."""
        combined: int = crc32_combine(head_checksum, self._checksum, self._shipped_bytes)
        return combined

    def settle(self, *, is_logged: bool) -> None:
        """End the upload, whose mutation was acknowledged or refused."""
        if is_logged:
            self._is_begun = False  # the parts are the mutation's
        self._end()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _ship_soon(self) -> None:
        is_due = self._received_bytes - self._shipped_bytes >= PART_BYTES
        if is_due and not self._is_over and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._ship_in_background())

    async def _ship_in_background(self) -> None:
        try:
            await self._ship(PART_BYTES)
            self._task = None
        except Error as error:  # the ledger ships the rest, and says what is in the way
            logger.info("values of an upload are shipped later: %s", error)

    async def _ship(self, count_min: int) -> None:
        """Ship parts while `count_min` bytes are there to ship."""
        while not self._is_over:
            left = self._received_bytes - self._shipped_bytes
            if left < count_min:
                return
            if not self._is_begun:
                await self._register()
            self._file.seek(VALUES_OFFSET + self._shipped_bytes)
            part = self._file.read(min(left, PART_BYTES))
            async with self._database.session(Use.UPLOAD) as session:
                tag = await session.execute(
                    _PART, self._key.index_id, self._key.seqno, self._part_count, part
                )
            if tag != "INSERT 0 1":
                self._begin_again()
                raise Lost("an upload was taken for abandoned", retry_after=1.0)
            self._checksum = crc32(part, self._checksum)
            self._shipped_bytes += len(part)
            self._part_count += 1

    async def _register(self) -> None:
        self._is_begun = True  # from here on there may be something to remove
        async with self._database.session(Use.UPLOAD) as session:
            await session.execute(
                _REGISTER, self._key.index_id, self._key.seqno, self._uploads.node_id
            )

    def _begin_again(self) -> None:
        self._uploads.remove_parts(self._key)
        self._begin()

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
        if self._is_begun:
            self._uploads.remove_parts(self._key)
        self._uploads.remove(self)


class Uploads:
    """The uploads of one node.

    Args:
        database: Where they go.
        node_id: Of this node.
    """

    def __init__(self, database: PostgresDatabase, node_id: UUID) -> None:
        self.node_id = node_id
        self._database = database
        self._lock = threading.Lock()
        self._open: set[BatchUpload] = set()
        self._abandoned: set[_Key] = set()
        self._removing: asyncio.Task[None] | None = None

    def begin(self, index_id: UUID, path: Path) -> BatchUpload | None:
        """Begin an upload from a file, whose values begin at `VALUES_OFFSET`.

        Returns:
            None when too many files are open: the values have to be logged from memory.
        """
        try:
            upload = BatchUpload(self._database, self, index_id, path)
        except OSError:
            return None
        with self._lock:
            self._open.add(upload)
        return upload

    def close(self) -> None:
        """Close all files, once the database is closed. Others remove what was shipped."""
        with self._lock:
            for upload in self._open:
                upload.close()
            self._open.clear()

    # In the database's thread.

    def remove(self, upload: BatchUpload) -> None:
        """Close an upload that is over."""
        with self._lock:
            self._open.discard(upload)
        upload.close()

    def remove_parts(self, key: _Key) -> None:
        """Remove the parts of an upload soon."""
        self._abandoned.add(key)
        if self._removing is None or self._removing.done():
            self._removing = asyncio.get_running_loop().create_task(self._remove_abandoned())

    async def remove_orphans(self) -> None:
        """Remove uploads of nodes that have ended, and own ones that could not be removed."""
        async with self._database.session(Use.READ) as session:
            rows = await session.fetch(_ABANDONED, ABANDONED_S)
        self._abandoned.update(_Key(row["index_id"], row["seqno"]) for row in rows)
        await self._remove_abandoned()

    async def _remove_abandoned(self) -> None:
        with suppress(Error):  # `remove_orphans` tries again
            while self._abandoned:
                key = next(iter(self._abandoned))
                async with self._database.transaction(Use.CHECKPOINT, is_durable=False) as session:
                    # First this: it waits for a part that is being added, and after it none is.
                    await session.execute(_UNREGISTER, key.index_id, key.seqno)
                    tag = ""
                    while tag != "DELETE 0":
                        tag = await session.execute(_REMOVE, key.index_id, key.seqno, REMOVE_COUNT)
                self._abandoned.discard(key)


class UploadWriter(BlobWriter):
    """A `BlobWriter` whose values are shipped while they arrive, once they are `LONG_BYTES`.

    Args:
        files: The blob files of the node.
        dimensions: Length of a row.
        uploads: Of the node.
        index_id: Of the index.
    """

    def __init__(self, files: BlobFiles, dimensions: int, uploads: Uploads, index_id: UUID) -> None:
        super().__init__(files, dimensions)
        self._row_bytes = dimensions * VALUES_DTYPE.itemsize
        self._uploads = uploads
        self._index_id = index_id
        self._upload: BatchUpload | None = None
        self._is_begun = False

    def detach(self, index_id: UUID) -> BatchUpload | None:
        """Return the upload of the batch, which is the caller's to end; None where there is none.

        Args:
            index_id: Of the index that the batch is for.
        """
        with self._lock:
            if self._upload is None or self._is_closed or index_id != self._index_id:
                return None
            upload, self._upload = self._upload, None
            return upload

    def close(self) -> None:
        """See `model.BatchWriter`; an upload that nobody has taken is given up."""
        super().close()
        with self._lock:
            upload, self._upload = self._upload, None
        if upload is not None:
            upload.cancel()

    def _write(self) -> None:
        super()._write()
        assert self._file is not None
        self._file.flush()
        received_bytes = self._written_count * self._row_bytes
        if not self._is_begun and received_bytes > LONG_BYTES:
            self._is_begun = True
            self._upload = self._uploads.begin(self._index_id, self.path)
        if self._upload is not None:
            self._upload.advance(received_bytes)


def upload_of(mutation: Mutation, index_id: UUID) -> BatchUpload | None:
    """Return the upload that has the values of a mutation for an index, if one does."""
    match mutation:
        case Insert(BlobBatch(writer=UploadWriter() as writer)) | Upsert(
            BlobBatch(writer=UploadWriter() as writer)
        ):
            return writer.detach(index_id)
        case _:
            return None


_REGISTER = """
WITH relaxed AS (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO vicinal.upload (index_id, seqno, node_id, at)
SELECT $1::uuid, $2::bigint, $3::uuid, now() FROM relaxed ON CONFLICT DO NOTHING
"""

_PART = """
WITH relaxed AS (SELECT set_config('synchronous_commit', 'off', true)),
registered AS (
  SELECT 1 FROM vicinal.upload WHERE index_id = $1::uuid AND seqno = $2::bigint FOR SHARE)
INSERT INTO vicinal.part (index_id, seqno, number, bytes)
SELECT $1::uuid, $2::bigint, $3::int, $4::bytea FROM relaxed, registered
ON CONFLICT (index_id, seqno, number) DO UPDATE SET number = excluded.number
"""
"""One that was added although its answer was lost counts as well."""

_ADOPT = """
WITH registered AS (
  DELETE FROM vicinal.upload WHERE index_id = $1 AND seqno = $2 RETURNING 1)
UPDATE vicinal.part SET seqno = $3, number = number + $4
WHERE index_id = $1 AND seqno = $2 AND EXISTS (SELECT FROM registered)
"""

_ABANDONED = """
SELECT index_id, seqno FROM vicinal.upload AS upload
WHERE at < now() - make_interval(secs => $1) AND NOT EXISTS (
  SELECT FROM vicinal.node AS node WHERE node.node_id = upload.node_id
    AND node.seen_at > now() - make_interval(secs => $1))
LIMIT 100
"""

_UNREGISTER = "DELETE FROM vicinal.upload WHERE index_id = $1 AND seqno = $2"

_REMOVE = """
DELETE FROM vicinal.part WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM vicinal.part WHERE index_id = $1 AND seqno = $2 LIMIT $3))
"""
