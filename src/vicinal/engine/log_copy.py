"""A copy of an index's log as of one moment, written row by row as a database of its own.

`PinnedIndex` reads the rows; this writes them, in the same process or another one.
"""

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from vicinal.engine import log
from vicinal.errors import Corruption
from vicinal.storage import private
from vicinal.storage.files import sync
from vicinal.storage.sqlite import Field, checksum, translating

Row = tuple[Field, ...]


class LogCopy:
    """A log that is being written; `finish` or `cancel` ends it.

    Args:
        path: Path of the new file.
        source: Name of the log that is copied, for messages.

    Raises:
        ResourceExhausted: from all methods but `cancel`: the disk is full.
        Unavailable: likewise, the disk does not answer.
    """

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source
        with translating(path):
            path.unlink(missing_ok=True)  # of an attempt before
            private.make_file(path)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            # An unfinished copy is removed, so there is nothing to roll back to.
            self._connection.execute("PRAGMA journal_mode=OFF")
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute("BEGIN")
            for statement in log.SCHEMA.split(";"):
                self._connection.execute(statement)

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows of mutations.

        Raises:
            Corruption: a row fails its checksum.
        """
        rows = list(rows)
        for *fields, expected in rows:
            if checksum(*fields) != expected:
                raise Corruption(f"mutation {fields[0]!r} in {self._source} fails its checksum")
        with translating(self._path):
            self._connection.executemany(
                "INSERT INTO mutation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def finish(self, document: bytes, tombstones: Iterable[Row]) -> None:
        """Add the manifest and the tombstones, and fsync the file."""
        with translating(self._path):
            for tombstone in tombstones:
                self._connection.execute("INSERT INTO tombstone VALUES (?, ?, ?)", tombstone)
            row = (document, checksum(document))
            self._connection.execute("INSERT INTO manifest VALUES (0, ?, ?)", row)
            self._connection.execute("COMMIT")
            self._connection.close()
        self.sync()

    def sync(self) -> None:
        """fsync the bytes that have been written to the file."""
        with translating(self._path):
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                sync(descriptor)
            finally:
                os.close(descriptor)

    def cancel(self) -> None:
        """Close the file, which the caller removes."""
        self._connection.close()
