"""The journal of a copy: how far each index has come, in one SQLite file.

An entry is written when the index has been created in the destination, and after each batch that
the destination has made durable. So a kill repeats one batch at most, and a batch may come twice.
One copy at a time has the file open.
"""

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from vicinal.model import IndexAddress
from vicinal.storage.sqlite import close_database, open_database, translating

_SCHEMA = """CREATE TABLE progress(
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    destination_id TEXT NOT NULL,
    is_into INTEGER NOT NULL,
    moment TEXT,
    cursor TEXT,
    vector_count INTEGER NOT NULL,
    vector_count_max INTEGER NOT NULL,
    is_done INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT"""


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far the copy of one index has come.

    Attributes:
        destination_id: Of the index in the destination that is written.
        is_into: Whether that held vectors before.
        moment: The state of the source that is copied, None before the first batch.
        cursor: Where to go on, None for the beginning.
        vector_count: Vectors written, up to the cursor.
        vector_count_max: The most that this has ever been.
        is_done: Whether all of it is there.
    """

    destination_id: str
    is_into: bool = False
    moment: str | None = None
    cursor: str | None = None
    vector_count: int = 0
    vector_count_max: int = 0
    is_done: bool = False

    def advanced(self, cursor: str | None, count: int) -> Self:
        """Return the progress after this many more vectors."""
        vector_count = self.vector_count + count
        return replace(
            self,
            cursor=cursor,
            vector_count=vector_count,
            vector_count_max=max(vector_count, self.vector_count_max),
        )


class Journal:
    """The journal of the copies from one store to another.

    Raises:
        Unavailable: another copy has it open, or the disk does not answer.
        Corruption: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_closed = False
        self._connection: sqlite3.Connection = open_database(path, _SCHEMA)

    def progress(self, address: IndexAddress) -> IndexProgress | None:
        """Return how far an index has come; None if its copy was not begun."""
        with translating(self._path):
            row = self._connection.execute(
                "SELECT destination_id, is_into, moment, cursor, vector_count, vector_count_max,"
                " is_done"
                " FROM progress WHERE account = ? AND name = ?",
                (address.account, address.name),
            ).fetchone()
        if row is None:
            return None
        destination_id, is_into, moment, cursor, count, count_max, is_done = row
        return IndexProgress(
            destination_id, bool(is_into), moment, cursor, count, count_max, bool(is_done)
        )

    def save(self, address: IndexAddress, progress: IndexProgress) -> None:
        """Keep how far an index has come, durably."""
        with translating(self._path):
            self._connection.execute(
                "INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    address.account,
                    address.name,
                    progress.destination_id,
                    progress.is_into,
                    progress.moment,
                    progress.cursor,
                    progress.vector_count,
                    progress.vector_count_max,
                    progress.is_done,
                ),
            )

    def close(self, *, is_done: bool) -> None:
        """Close the file, and remove it when nothing is left to do. Again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        with translating(self._path):
            close_database(self._connection)
            if is_done:
                self._path.unlink(missing_ok=True)
