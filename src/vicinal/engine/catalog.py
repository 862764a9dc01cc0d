"""The catalog: which indexes there are, whose they are and what is fixed about them.

One SQLite file for the whole data folder. An index exists from the commit of its row to
the commit that removes it; its folder, named by a UUID, is made before and removed after,
so a crash leaves at most a folder that no row names, which the next start sweeps.

Because of that sweep nothing may pass for "no row" but its absence: a catalog is made only
when asked to, and every commit is folded into the database at once, where damage is noticed
(`storage.wal` says what is not noticed in a write-ahead log).
"""

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vicinal.errors import (
    Corruption,
    Error,
    IndexExists,
    IndexNotFound,
    LimitExceeded,
    Unavailable,
)
from vicinal.model import Index, IndexAddress
from vicinal.storage.sqlite import (
    Field,
    checksum,
    close_database,
    fold,
    open_database,
    transaction,
    translating,
)

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

    A change that fails leaves unknown what is on disk, so all changes after it are refused
    until the catalog is opened again. Reading goes on.

    Args:
        folder: Where the file is.
        create: Whether to make it when there is none.

    Raises:
        Corruption: on opening, when the file or a row is damaged or missing.
        Unavailable: on opening, when another process has the file.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._failure: Error | None = None
        self._connection = open_database(self.path, _SCHEMA, create=create)
        try:
            with translating(self.path):
                fold(self._connection)
                self._entries = {each.address: each for each in self._read()}
        except BaseException:
            self._connection.close()
            raise

    def check_new(self, address: IndexAddress, count_max: int | None) -> None:
        """Refuse what `add` would refuse.

        Raises:
            IndexExists: the account has an index of this name.
            LimitExceeded: the account has `count_max` indexes.
        """
        if address in self._entries:
            raise IndexExists(address.name)
        count = len(self.of_account(address.account))
        if count_max is not None and count >= count_max:
            raise LimitExceeded(
                f"account {address.account!r} has {count} indexes, the maximum is {count_max}"
            )

    def add(self, entry: CatalogEntry, count_max: int | None) -> None:
        """Make an index exist.

        Raises:
            IndexExists: the account has one of this name.
            LimitExceeded: the account has `count_max` indexes.
            Unavailable: whether it exists is known when the catalog is opened again.
        """
        with self._lock:
            self.check_new(entry.address, count_max)
            account, name = entry.address.account, entry.address.name
            document = msgspec.json.encode(entry.index)
            expected = checksum(account, name, entry.folder, document)
            self._commit(
                'INSERT INTO "index" (account, name, folder, document, checksum)'
                " VALUES (?, ?, ?, ?, ?)",
                (account, name, entry.folder, document, expected),
            )
            self._entries[entry.address] = entry

    def remove(self, address: IndexAddress) -> CatalogEntry:
        """Make an index not exist; return what it was.

        Raises:
            IndexNotFound: there is none.
            Unavailable: whether it exists is known when the catalog is opened again.
        """
        with self._lock:
            entry = self.get(address)
            self._commit(
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
        """Close the file; changes are refused from now on."""
        with self._lock:
            self._failure = Unavailable("the engine is closed")
            with suppress(sqlite3.Error):  # every commit was folded in as it was made
                close_database(self._connection)

    def _commit(self, statement: str, fields: Sequence[Field]) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            with translating(self.path), transaction(self._connection):
                self._connection.execute(statement, fields)
        except Error as error:
            self._failure = error
            raise
        with suppress(sqlite3.Error):  # the next commit or opening folds this one in
            fold(self._connection)

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
