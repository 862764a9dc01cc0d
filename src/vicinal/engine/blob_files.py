"""Blob files: records of long mutations, in files of their own beside the log.

SQLite writes a value twice, first into its write-ahead log and then into the database, page by
page; of mutations that are megabytes of vectors that is most of what logging costs. So a long
record is in a component file, and its row in the log keeps the file's seal, which vouches for
every byte (`storage.files`).

    blobs/<uuid>.part    a batch that is being received, by a `BlobWriter`
    blobs/<seqno>        the record of a mutation

    1  a batch of up to CHUNK_BYTES stays in memory; a longer one is written chunk by chunk, so that
       it takes the memory of one chunk, and while a chunk is in the processor's caches
    2  the record's header is added and the file is fsynced: `BlobWriter.finish`. A long record
       whose values are in memory is written and fsynced at once: `BlobFiles.write`
    3  the file gets its seqno for a name (`BlobFiles.adopt`), and the names are fsynced
    4  the row that has the seal is committed: the mutation is acknowledged
    5  a segment holds the mutation, the row is removed, and then the file

A writer that is closed before 3 removes its file. A crash before 4 or between the two removals of
5 leaves a file that no row names, which the next opening removes. A row whose file is missing is
damage.
"""

import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vicinal.engine.records import VALUES_DTYPE, LogRecord
from vicinal.errors import Corruption, Unavailable
from vicinal.model import Floats, Seqno, VectorBatch
from vicinal.segment.arena import FILE_OFFSET
from vicinal.storage import private
from vicinal.storage.files import ComponentFile, ComponentWriter, Seal, check_size, sync_directory
from vicinal.storage.sqlite import translating

FOLDER = "blobs"
VALUES_OFFSET = FILE_OFFSET
"""The byte of a file at which values begin, so that memtables can map them."""
KIND = "blob"
BLOCK_BYTES = 1 << 20  # as a record is read whole
FILE_BYTES_MIN = 256 << 10
"""Records of this length and more have files of their own: below, two more syncs would cost more
than writing twice."""
CHUNK_BYTES = 1000 << 10
"""How much is written at a time: what a processor has in its caches, and less than what glibc takes
from the system each time. A quarter of it takes a few percent more of ingest's CPU."""


@dataclass(frozen=True, slots=True)
class BlobBatch(VectorBatch):
    """A batch whose values are in the file of its writer: all, in order."""

    writer: "BlobWriter"


class BlobFiles:
    """The blob files of one open index. One thread at a time, except for `check_sizes`.

    Raises:
        Corruption: on opening, when their folder is missing.
        OSError: from methods that write, rename or remove, when that cannot be done.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._sizes: dict[Seqno, int] = {}  # of files that memory may be mapped to
        if not self.folder.is_dir():
            raise Corruption(f"{self.folder} is missing")

    @classmethod
    def create(cls, folder: Path) -> None:
        """Make the folder for them in that of an index."""
        private.make_folder(folder / FOLDER)

    def path(self, seqno: Seqno) -> Path:
        """Return the name of a mutation's file."""
        return self.folder / self.name(seqno)

    @staticmethod
    def name(seqno: Seqno) -> str:
        """Return the name of a mutation's file without its folder."""
        return f"{seqno:08}"

    def write(self, seqno: Seqno, record: LogRecord) -> Seal:
        """Write a record and fsync it; its name is durable after `sync`."""
        path = self.path(seqno)
        path.unlink(missing_ok=True)  # of a mutation that was not logged
        with ComponentWriter(path, KIND, BLOCK_BYTES, FILE_OFFSET) as writer:
            writer.add("values", record.values)
            writer.add("header", np.frombuffer(record.header, np.uint8))
        self._sizes[seqno] = writer.seal.size
        return writer.seal

    def adopt(self, seqno: Seqno, blob: "BlobWriter") -> Seal:
        """Make a finished file that of a mutation; as durable as after `write`."""
        blob.path = blob.path.rename(self.path(seqno))
        self._sizes[seqno] = blob.seal.size
        return blob.seal

    def sync(self) -> None:
        """Make the names of written files durable."""
        sync_directory(self.folder)

    def read(self, seqno: Seqno, seal: Seal) -> LogRecord:
        """Return a record that was written, memory-mapped.

        Raises:
            Corruption: the file is missing or damaged.
        """
        file = ComponentFile(self.path(seqno), KIND, seal)
        values, header = file["values"], file["header"]
        if values.dtype != VALUES_DTYPE or values.ndim != 1 or header.dtype != np.uint8:
            raise Corruption(f"{file.path} holds no mutation")
        self._sizes[seqno] = seal.size
        return LogRecord(header.tobytes(), values)

    def remove(self, seqnos: Iterable[Seqno]) -> None:
        """Remove the files of mutations that were not logged, where there are any."""
        for seqno in seqnos:
            self._sizes.pop(seqno, None)
            self.path(seqno).unlink(missing_ok=True)

    def truncate(self, last: Seqno) -> None:
        """Remove the files of mutations up to `last`; newer ones may be there, or on their way."""
        names = [path.name for path in self.folder.iterdir()]
        self.remove(Seqno(int(name)) for name in names if name.isdigit() and int(name) <= last)

    def remove_orphans(self, after: Seqno, last: Seqno) -> None:
        """Remove all but the files of mutations after `after` up to `last`: what a crash left."""
        kept = {self.path(Seqno(seqno)) for seqno in range(after + 1, last + 1)}
        for path in self.folder.iterdir():
            if path not in kept:
                path.unlink()

    def check_sizes(self) -> None:
        """Look whether the files are as long as they were written.

        Raises:
            Corruption: one is not, or is gone.
        """
        for seqno, size in list(self._sizes.items()):
            try:
                check_size(self.path(seqno), size)
            except Corruption:
                if seqno in self._sizes:  # else it was removed
                    raise


class BlobWriter:
    """Takes the rows of one batch; implements `model.BatchWriter`.

    One thread at a time, but that any thread may close it, and then it takes nothing more.

    Args:
        files: The blob files of the index; no other log can have this one.
        dimensions: Length of a row.

    Attributes:
        path: Of the file.
        seal: Set by `finish`.

    All methods that write may raise:

    Raises:
        Unavailable: the file cannot be written.
    """

    seal: Seal

    def __init__(self, files: BlobFiles, dimensions: int) -> None:
        self.files = files
        self.path = files.folder / f"{uuid.uuid4()}.part"
        row_bytes = dimensions * VALUES_DTYPE.itemsize
        self._chunk = np.empty((max(CHUNK_BYTES // row_bytes, 1), dimensions), VALUES_DTYPE)
        self._used_count = 0  # rows of the chunk
        self._written_count = 0
        self._file: ComponentWriter | None = None
        self._header: bytes | None = None  # once it is finished
        self._lock = threading.Lock()  # of the file
        self._is_kept = False
        self._is_closed = False

    def free(self) -> Floats:
        """See `model.BatchWriter`."""
        if self._used_count == len(self._chunk):
            with self._writing():
                self._write()
        return self._chunk[self._used_count :]

    def advance(self, count: int) -> None:
        """See `model.BatchWriter`."""
        self._used_count += count

    def batch(
        self, ids: Sequence[str], namespaces: Sequence[str], metadata: Sequence[bytes]
    ) -> VectorBatch:
        """See `model.BatchWriter`."""
        if self._file is None:
            return VectorBatch(ids, self._chunk[: self._used_count], namespaces, metadata)
        with self._writing():
            self._write()
            mapped = self._file.mapped()
        self._chunk = self._chunk[:0].copy()  # mutations may queue
        values = np.frombuffer(mapped, VALUES_DTYPE, offset=FILE_OFFSET)
        return BlobBatch(ids, values.reshape(self._written_count, -1), namespaces, metadata, self)

    def finish(self, record: LogRecord) -> bool:
        """Add the header of a record and fsync; the record's values are those of `batch`.

        Returns:
            Whether the file holds the record; False where it is another's, or is removed.
        """
        if self._header is not None or self._is_closed:
            return self._header == record.header and not (self._is_kept or self._is_closed)
        assert self._file is not None
        with self._writing():
            self._file.end(record.values.shape)
            self._file.add("header", np.frombuffer(record.header, np.uint8))
            self._file.finish()
        self.seal, self._header = self._file.seal, record.header
        return True

    def keep(self) -> bool:
        """Leave the file to the log; return False where `close` has removed it."""
        with self._lock:
            self._is_kept = not self._is_closed
            return self._is_kept

    def close(self) -> None:
        """See `model.BatchWriter`."""
        with self._lock:
            if not self._is_closed and self._file is not None and not self._is_kept:
                self._file.cancel()
                self.remove()
            self._is_closed = True

    def remove(self) -> None:
        """Remove the file; if that fails the next opening does."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, translating(self.path):
            if self._is_closed:
                raise Unavailable(f"{self.path} was given up")
            yield

    def _write(self) -> None:
        if self._file is None:
            file = ComponentWriter(self.path, KIND, BLOCK_BYTES, FILE_OFFSET)
            file.open()
            self._file = file
            file.begin("values", VALUES_DTYPE)
        self._file.extend(self._chunk[: self._used_count])
        self._written_count += self._used_count
        self._used_count = 0
