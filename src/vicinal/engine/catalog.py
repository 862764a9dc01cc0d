"""The catalog: which indexes there are, whose they are and what is fixed about them.

One SQLite file for the whole data folder. An index exists from the commit of its row to
the commit that removes it; its folder, named by a UUID, is made before and removed after,
so a crash leaves at most a folder that no row names, which the next start sweeps.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vicinal.errors import Corruption, IndexExists, IndexNotFound
from vicinal.model import Index, IndexAddress
from vicinal.storage.sqlite import checksum, close_database, open_database, transaction

FILE_NAME = "catalog.db"
_SCHEMA = """
CREATE TABLE "index" (
  place INTEGER PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, folder TEXT NOT NULL,
  document BLOB NOT NULL, checksum INTEGER NOT NULL, UNIQUE (account, name))
"""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An index and the name of its folder."""

    address: IndexAddress
    folder: str
    index: Index


class Catalog:
    """The open catalog; all of it is in memory, every change is durable first.

    Raises:
        Corruption: on opening, when a row is damaged.
        Unavailable: on opening, when another process has the file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._connection = open_database(self.path, _SCHEMA)
        try:
            self._entries = {each.address: each for each in self._read()}
        except BaseException:
            self._connection.close()
            raise

    def add(self, entry: CatalogEntry) -> None:
        """Make an index exist.

        Raises:
            IndexExists: the account has one of this name.
        """
        with self._lock:
            if entry.address in self._entries:
                raise IndexExists(entry.address.name)
            account, name = entry.address.account, entry.address.name
            document = msgspec.json.encode(entry.index)
            expected = checksum(account, name, entry.folder, document)
            with transaction(self._connection):
                self._connection.execute(
                    'INSERT INTO "index" (account, name, folder, document, checksum)'
                    " VALUES (?, ?, ?, ?, ?)",
                    (account, name, entry.folder, document, expected),
                )
            self._entries[entry.address] = entry

    def remove(self, address: IndexAddress) -> CatalogEntry:
        """Make an index not exist; return what it was.

        Raises:
            IndexNotFound: there is none.
        """
        with self._lock:
            entry = self.get(address)
            with transaction(self._connection):
                self._connection.execute(
                    'DELETE FROM "index" WHERE account = ? AND name = ?',
                    (address.account, address.name),
                )
            del self._entries[address]
            return entry

    def get(self, address: IndexAddress) -> CatalogEntry:
        """Return the entry of an index.

        Raises:
            IndexNotFound: there is none.
        """
        entry = self._entries.get(address)
        if entry is None:
            raise IndexNotFound(address.name)
        return entry

    def of_account(self, account: str) -> Sequence[CatalogEntry]:
        """Return an account's indexes, oldest first."""
        return [each for each in self.all() if each.address.account == account]

    def all(self) -> Sequence[CatalogEntry]:
        """Return every index, oldest first."""
        return list(self._entries.values())

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            close_database(self._connection)

    def _read(self) -> Sequence[CatalogEntry]:
        entries = []
        rows: Sequence[tuple[str, str, str, bytes, int]] = self._connection.execute(
            'SELECT account, name, folder, document, checksum FROM "index" ORDER BY place'
        ).fetchall()
        for account, name, folder, document, expected in rows:
            if checksum(account, name, folder, document) != expected:
                raise Corruption(f"the entry of index {name!r} in {self.path} fails its checksum")
            index = msgspec.json.decode(document, type=Index)
            entries.append(CatalogEntry(IndexAddress(account, name), folder, index))
        return entries
