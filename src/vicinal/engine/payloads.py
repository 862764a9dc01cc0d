"""Payloads of long mutations, in files of their own beside the log.

SQLite writes a value twice, first into its write-ahead log and then into the database, page by
page; of mutations that are megabytes of vectors that is most of what logging costs. So what is
long goes into a component file named by its seqno, and the row in the log keeps the file's seal,
which vouches for every byte (`storage.files`).

    1  the file is written and fsynced (of what was received over time: `spooling`), then the names
       in the folder
    2  the row that has the seal is committed: the mutation is acknowledged
    3  a segment holds it, the row is removed, and then the file

A crash after 1 or between the two removals of 3 leaves a file that no row names, which the next
opening removes. A row whose file is missing is damage.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from vicinal.engine.records import VALUES_DTYPE, Payload
from vicinal.engine.spooling import ALIGNMENT, BLOCK_BYTES, KIND, Spool
from vicinal.errors import Corruption
from vicinal.model import Seqno
from vicinal.storage import private
from vicinal.storage.files import (
    ComponentFile,
    ComponentWriter,
    Extent,
    Seal,
    check_size,
    sync_directory,
)

FOLDER = "payloads"


class Payloads:
    """The payload files of one index. One thread at a time.

    Raises:
        Corruption: their folder is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._sizes: dict[Seqno, int] = {}  # of files that the tail may show
        if not self._folder.is_dir():
            raise Corruption(f"{self._folder} is missing")

    @classmethod
    def create(cls, folder: Path) -> None:
        """Make the folder for them in that of an index."""
        private.make_folder(folder / FOLDER)

    def write(self, seqno: Seqno, payload: Payload) -> Seal:
        """Write a payload and fsync it; its name is durable after `sync`.

        Raises:
            OSError: it could not be written.
        """
        path = self._path(seqno)
        path.unlink(missing_ok=True)  # of a mutation that was not logged
        with ComponentWriter(path, KIND, BLOCK_BYTES, ALIGNMENT) as writer:
            writer.add("values", payload.values)
            writer.add("header", np.frombuffer(payload.header, np.uint8))
        self._sizes[seqno] = writer.seal.size
        return writer.seal

    def spool(self, dimensions: int, closed: Callable[[Spool], None]) -> Spool:
        """Return a spool whose file will be among these."""
        return Spool(self._folder, dimensions, closed)

    def adopt(self, seqno: Seqno, spool: Spool) -> Seal:
        """Make the file of a finished spool that of a mutation; as durable as after `write`.

        Raises:
            OSError: it could not be renamed.
        """
        spool.path.rename(self._path(seqno))
        self._sizes[seqno] = spool.seal.size
        return spool.seal

    def sync(self) -> None:
        """Make the names of written files durable.

        Raises:
            OSError: that could not be done.
        """
        sync_directory(self._folder)

    def read(self, seqno: Seqno, seal: Seal) -> Payload:
        """Return a payload that was written, memory-mapped.

        Raises:
            Corruption: the file is missing or damaged.
        """
        file = ComponentFile(self._path(seqno), KIND, seal)
        values, header = file.array("values"), file.array("header")
        if values.dtype != VALUES_DTYPE or values.ndim != 1 or header.dtype != np.uint8:
            raise Corruption(f"{file.path} holds no mutation")
        self._sizes[seqno] = seal.size
        return Payload(header.tobytes(), values)

    def values_of(self, seqno: Seqno) -> Extent:
        """Return where the values of a payload are that was written."""
        return Extent(self._path(seqno), ALIGNMENT)

    def drop(self, seqnos: Iterable[Seqno]) -> None:
        """Remove the files of mutations that were not logged, as far as there are any.

        Raises:
            OSError: one could not be removed.
        """
        for each in seqnos:
            self._sizes.pop(each, None)
            self._path(each).unlink(missing_ok=True)

    def forget(self, last: Seqno) -> None:
        """Remove the files of mutations up to `last`; newer ones may be there, or on their way.

        Raises:
            OSError: one could not be removed.
        """
        for path in self._folder.iterdir():
            if path.name.isdigit() and int(path.name) <= last:
                self._sizes.pop(Seqno(int(path.name)), None)
                path.unlink()

    def check_sizes(self) -> None:
        """Look whether the files are as long as they were written; any thread may.

        Raises:
            Corruption: one is not, or is gone.
        """
        for seqno, size in list(self._sizes.items()):
            try:
                check_size(self._path(seqno), size)
            except Corruption:
                if seqno in self._sizes:  # else it was removed
                    raise

    def sweep(self, after: Seqno, last: Seqno) -> None:
        """Remove all but the files of mutations after `after` up to `last`: what a crash left.

        Raises:
            OSError: one could not be removed.
        """
        named = {self._path(Seqno(each)).name for each in range(after + 1, last + 1)}
        for path in self._folder.iterdir():
            if path.name not in named:
                path.unlink()

    def _path(self, seqno: Seqno) -> Path:
        return self._folder / f"{seqno:08}"
