"""Values of a long batch on their way into the log, while it is being received.

    up to CHUNK_BYTES   in memory, and stay there
    from there on       in what becomes the mutation's payload file (`payloads`), chunk by chunk

So a body of any length takes the memory of one chunk, its values are written while they are in
the processor's caches, and what is left to do in the end is to fsync the file and to name it.

    1  rows are taken; a reader sees them all in the end, where the file has them
    2  `finish` adds the rest of the payload and fsyncs
    3  the log gives the file its seqno for a name, and commits the row that has its seal

A spool that is closed before 3 removes its file. A crash leaves one that no row names, which
the next opening removes.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from vicinal.engine.records import VALUES_DTYPE, Payload
from vicinal.errors import Unavailable
from vicinal.model import Floats
from vicinal.storage.files import ComponentWriter, Seal
from vicinal.storage.sqlite import translating

KIND = "payload"
BLOCK_BYTES = 1 << 20  # as a payload is read whole
# Of the values, so that memory can be mapped to them; most systems have pages of this or less.
ALIGNMENT = 1 << 14
FILE_BYTES_MIN = 256 << 10
"""Payloads of so many bytes and more have files of their own: below, two more syncs would cost
more than writing twice."""
CHUNK_BYTES = 1000 << 10
"""How much is written at a time: what a processor has in its caches, and less than what glibc takes
from the system each time. A quarter of it takes a few percent more of ingest's CPU."""


class Spool:
    """Takes the rows of one batch; implements `engine.base.Spool`.

    One thread at a time, but that any thread may close it, and then it takes nothing more.

    Args:
        folder: Where the file will be.
        dimensions: Length of a row.
        closed: Called with this once it is closed.

    Attributes:
        path: Of the file.
        seal: Set by `finish`.

    All methods that write may raise:

    Raises:
        Unavailable: the file cannot be written.
    """

    seal: Seal

    def __init__(self, folder: Path, dimensions: int, closed: Callable[["Spool"], None]) -> None:
        self.path = folder / f"{uuid.uuid4()}.part"
        self._closed = closed
        row_bytes = dimensions * VALUES_DTYPE.itemsize
        self._chunk = np.empty((max(CHUNK_BYTES // row_bytes, 1), dimensions), VALUES_DTYPE)
        self._used_count = 0  # rows of the chunk
        self._written_count = 0
        self._writer: ComponentWriter | None = None
        self._values: Floats | None = None
        self._lock = threading.Lock()  # of the file
        self._is_kept = False
        self._is_closed = False

    def free(self) -> Floats:
        """See `model.Rows`."""
        if self._used_count == len(self._chunk):
            with self._writing():
                self._write()
        return self._chunk[self._used_count :]

    def take(self, count: int) -> None:
        """See `model.Rows`."""
        self._used_count += count

    def values(self) -> Floats:
        """See `model.Rows`."""
        if self._values is None:
            if self._writer is None:
                self._values = self._chunk[: self._used_count]
            else:
                with self._writing():
                    self._values = self._written(self._writer)
        return self._values

    def finish(self, payload: Payload) -> bool:
        """Write the rest of a payload and fsync it, if the file has its values: all, in order.

        Returns:
            Whether it has.
        """
        values = payload.values
        is_whole = self._values is not None and (
            values.shape == (self._values.size,) and np.may_share_memory(values, self._values)
        )
        if self._writer is None or not is_whole or payload.size < FILE_BYTES_MIN:
            return False
        with self._writing():
            self._writer.end(values.shape)
            self._writer.add("header", np.frombuffer(payload.header, np.uint8))
            self._writer.finish()
        self.seal = self._writer.seal
        return True

    def keep(self) -> bool:
        """Leave the file to the log, so that `close` will not remove it, unless it has."""
        with self._lock:
            self._is_kept = not self._is_closed
            return self._is_kept

    def close(self) -> None:
        """See `engine.base.Spool`."""
        with self._lock:
            if not self._is_closed and self._writer is not None and not self._is_kept:
                self._writer.abandon()
                with suppress(OSError):  # the next opening removes it
                    self.path.unlink(missing_ok=True)
            self._is_closed = True
        self._closed(self)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, translating(self.path):
            if self._is_closed:
                raise Unavailable(f"{self.path} was given up")
            yield

    def _write(self) -> None:
        if self._writer is None:
            writer = ComponentWriter(self.path, KIND, BLOCK_BYTES, ALIGNMENT)
            writer.open()
            self._writer = writer
            writer.begin("values", VALUES_DTYPE)
        self._writer.extend(self._chunk[: self._used_count])
        self._written_count += self._used_count
        self._used_count = 0

    def _written(self, writer: ComponentWriter) -> Floats:
        self._write()
        self._chunk = np.empty((0, self._chunk.shape[1]), VALUES_DTYPE)  # mutations may queue
        values = np.frombuffer(writer.mapped(), VALUES_DTYPE, offset=ALIGNMENT)
        return values.reshape(self._written_count, -1)
