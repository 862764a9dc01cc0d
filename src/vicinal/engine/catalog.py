"""The catalog: the indexes, their accounts and their settings.

One SQLite file for the whole data folder. An index exists from the commit of its row to
the commit that removes it; its folder, named by the index's id, is made before and removed
after, so a crash leaves at most an orphan, a folder that no row names, which the next start
removes.

So damage must never look like a missing row: a catalog is created only on demand, every commit is
followed by a checkpoint, because SQLite notices damage in the main file but not all damage in a
write-ahead log (`storage.wal`), and a row that cannot be read costs its index, and keeps every
folder from being removed.

A small file is kept in reserve and removed when the disk is full, so that an index can be deleted
then, which frees space.
"""

import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeGuard

import msgspec

from vicinal.errors import (
    Corruption,
    Error,
    IndexExists,
    IndexNotFound,
    LimitExceeded,
    ResourceExhausted,
    Unavailable,
    untraced,
)
from vicinal.model import Index, IndexAddress, IndexConfig
from vicinal.storage import private
from vicinal.storage.files import sync
from vicinal.storage.sqlite import (
    Field,
    checkpoint,
    checksum,
    close_database,
    open_database,
    transaction,
    translating,
)

logger = logging.getLogger(__name__)

FILE_NAME = "catalog.db"
RESERVE_NAME = "reserve"
UNFINISHED_RESTORE = "restoring"
"""A folder that a snapshot is being restored in; the catalog is the last thing that leaves it."""
RESERVE_BYTES = 256 << 10  # ours: a few times the size of a commit and its checkpoint

_SCHEMA = """
CREATE TABLE "index" (
  place INTEGER PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, folder TEXT NOT NULL,
  document BLOB NOT NULL, checksum INTEGER NOT NULL, UNIQUE (account, name))
"""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An index and its account."""

    account: str
    index: Index

    @property
    def address(self) -> IndexAddress:
        """The address of this index alone."""
        return IndexAddress(self.account, self.index.name, self.index.id)

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return self.index.id


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that cannot be read: its index, the folder of the index, and the damage.

    `folder` is None where it may be the folder of another index, or none: the row fails its
    checksum, or two rows name the folder.
    """

    address: IndexAddress
    folder: str | None
    damage: str


class _Document(msgspec.Struct, frozen=True):
    """The document of a row: all of an index but its id."""

    name: str
    description: str | None
    config: IndexConfig
    created_at: datetime


_Key = tuple[str, str]


class Catalog:
    """The open catalog; all of it is in memory, and every change is durable first.

    After a failed change the content of the file is unknown. If the disk was full, the file is
    opened again and read; after any other failure changes are refused until the process opens the
    catalog again. Reading goes on.

    Args:
        folder: The folder of the file.
        create: Whether to create a missing file.

    Raises:
        Corruption: on opening, when the file is damaged or missing.
        Unavailable: on opening, when another process has the file.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / FILE_NAME
        self._reserve = folder / RESERVE_NAME
        self._lock = threading.Lock()
        self._failure: Error | None = None
        self._connection = self._open(create=create)
        self.make_reserve()

    def check_new(self, address: IndexAddress, count_max: int | None) -> None:
        """Raise the error that `add` would raise.

        Raises:
            IndexExists: the account has an index of this name.
            LimitExceeded: the account has `count_max` indexes.
        """
        if self._is_known(_key(address)):
            raise IndexExists(address.name)
        count = len(self.of_account(address.account))
        if count_max is not None and count >= count_max:
            raise LimitExceeded(
                f"account {address.account!r} has {count} indexes, the maximum is {count_max}"
            )

    def add(self, entry: CatalogEntry, count_max: int | None) -> None:
        """Add an index.

        Raises:
            IndexExists: the account has an index of this name.
            LimitExceeded: the account has `count_max` indexes.
            ResourceExhausted: the disk is full; the index does not exist.
            Unavailable: it is unknown whether it exists, until the catalog is opened again.
        """
        with self._lock:
            self.check_new(entry.address, count_max)
            index = entry.index
            document = msgspec.json.encode(
                _Document(index.name, index.description, index.config, index.created_at)
            )
            expected = checksum(entry.account, index.name, index.id, document)
            try:
                self._commit(
                    'INSERT INTO "index" (account, name, folder, document, checksum)'
                    " VALUES (?, ?, ?, ?, ?)",
                    (entry.account, index.name, index.id, document, expected),
                )
            except ResourceExhausted:
                if _key(entry.address) not in self._entries:
                    raise
            self._entries[_key(entry.address)] = entry

    def remove(self, address: IndexAddress) -> str | None:
        """Remove an index; return the name of its folder, None if that is unknown.

        Raises:
            IndexNotFound: there is no such index.
            ResourceExhausted: the disk is full; the index still exists.
            Unavailable: it is unknown whether it exists, until the catalog is opened again.
        """
        with self._lock:
            key = _key(address)
            unreadable = self._unreadable.get(key)
            folder = self.get(address).index.id if unreadable is None else unreadable.folder
            try:
                self._delete(key)
            except ResourceExhausted:
                with suppress(OSError):
                    self._reserve.unlink(missing_ok=True)
                if self._is_known(key):
                    self._delete(key)
            self._entries.pop(key, None)
            self._unreadable.pop(key, None)
            return folder

    def make_reserve(self) -> None:
        """Make the reserve, if there is none and space is free."""
        with self._lock, suppress(OSError):
            if self._reserve.exists():
                return
            try:
                with open(self._reserve, "xb", opener=private.opener) as file:
                    file.write(os.urandom(RESERVE_BYTES))  # which no file system compresses
                    file.flush()
                    sync(file.fileno())
            except OSError:
                self._reserve.unlink(missing_ok=True)

    def get(self, address: IndexAddress) -> CatalogEntry:
        """Return the entry of an index.

        Raises:
            IndexNotFound: there is no such index, or the index of this name has another id.
            Corruption: its row cannot be read.
        """
        entry = self._entries.get(_key(address))
        if entry is None:
            unreadable = self._unreadable.get(_key(address))
            if unreadable is not None:
                raise Corruption(unreadable.damage)
            raise IndexNotFound(address.name)
        if address.id is not None and address.id != entry.index.id:
            raise IndexNotFound(address.name)
        return entry

    def of_account(self, account: str) -> Sequence[CatalogEntry]:
        """Return an account's indexes, oldest first."""
        return [entry for entry in self.all() if entry.account == account]

    def all(self) -> Sequence[CatalogEntry]:
        """Return every index that can be read, oldest first."""
        return list(self._entries.values())

    def unreadable(self) -> Sequence[Unreadable]:
        """Return the rows that cannot be read."""
        return list(self._unreadable.values())

    def close(self) -> None:
        """Close the file; changes are refused from now on."""
        with self._lock:
            self._failure = self._failure or Unavailable("the engine is closed")
            with suppress(sqlite3.Error):  # each commit had its checkpoint
                close_database(self._connection)

    def _open(self, *, create: bool) -> sqlite3.Connection:
        connection = open_database(self.path, _SCHEMA, create=create)
        try:
            with translating(self.path):
                with suppress(ResourceExhausted), translating(self.path):
                    checkpoint(connection)
                # Readers take no lock: both are replaced when all rows are read.
                self._entries, self._unreadable = _rows(connection, self.path)
            for row in self._unreadable.values():
                logger.error("%s", row.damage)
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_known(self, key: _Key) -> bool:
        return key in self._entries or key in self._unreadable

    def _delete(self, key: _Key) -> None:
        self._commit('DELETE FROM "index" WHERE account = ? AND name = ?', key)

    def _commit(self, statement: str, fields: Sequence[Field]) -> None:
        """Make a change durable; refuse it after a failed one.

        Raises:
            ResourceExhausted: the disk is full; the file has been read again.
            Unavailable: the change may be in the file.
        """
        if self._failure is not None:
            raise untraced(self._failure)
        try:
            with translating(self.path), transaction(self._connection):
                self._connection.execute(statement, fields)
        except ResourceExhausted as error:
            self._open_again(error)
            raise
        except Error as error:
            self._failure = untraced(error)
            raise
        with suppress(sqlite3.Error):  # the next commit or opening does it
            checkpoint(self._connection)

    def _open_again(self, error: ResourceExhausted) -> None:
        """Read the file again after a full disk has left its content unknown."""
        try:
            self._connection.close()
            self._connection = self._open(create=False)
        except (Error, sqlite3.Error) as cause:
            self._failure = untraced(cause if isinstance(cause, Error) else error)
            raise untraced(self._failure) from cause


def check_restored(folder: Path) -> None:
    """Refuse a data folder to which a snapshot was not restored to the end.

    Raises:
        Corruption: it was not.
    """
    unfinished = folder / UNFINISHED_RESTORE
    if unfinished.is_dir() and (any(unfinished.iterdir()) or not (folder / FILE_NAME).exists()):
        raise Corruption(
            f"{folder} holds a restore that was not finished: remove all in it, and restore again"
        )


def unreadable_rows(folder: Path) -> Sequence[Unreadable]:
    """Return the rows that cannot be read of the catalog in a folder, without changing the file.

    Raises:
        Corruption: the file is damaged or missing.
        Unavailable: the file cannot be read.
    """
    path = (folder / FILE_NAME).absolute()
    with translating(path):
        if not path.exists():
            raise Corruption(f"{path} is missing")
        # Without the write-ahead log of a crash: every commit has had its checkpoint.
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
            return list(_rows(connection, path)[1].values())


def _rows(
    connection: sqlite3.Connection, path: Path
) -> tuple[dict[_Key, CatalogEntry], dict[_Key, Unreadable]]:
    """Return the entries, oldest first, and the rows that cannot be read."""
    entries: dict[_Key, CatalogEntry] = {}
    unreadable: dict[_Key, Unreadable] = {}
    rows: Sequence[tuple[Field, Field, Field, Field, Field]] = connection.execute(
        'SELECT account, name, folder, document, checksum FROM "index" ORDER BY place'
    ).fetchall()
    owners = Counter(folder for _, _, folder, _, _ in rows)
    for *fields, expected in rows:
        account, name, folder, document = fields
        address = IndexAddress(str(account), str(name))
        damage = "fails its checksum"
        is_whole = checksum(*fields) == expected
        # A folder that two rows name may belong to the other row.
        owned = folder if is_whole and _is_folder(folder) and owners[folder] == 1 else None
        if is_whole:
            try:
                entries[_key(address)] = _entry(account, name, owned, document)
                continue
            except (msgspec.MsgspecError, OverflowError, RecursionError, ValueError) as error:
                damage = f"cannot be read: {error}"
        damage = f"the entry of index {name!r:.200} in {path} {damage}"
        unreadable[_key(address)] = Unreadable(address, owned, damage)
    return entries, unreadable


def _key(address: IndexAddress) -> _Key:
    return address.account, address.name


def _is_folder(value: Field) -> TypeGuard[str]:
    """Tell whether a value can name an index's folder, which may be removed by this name."""
    if not isinstance(value, str) or value in ("", "..") or "\0" in value:
        return False
    return Path(value).name == value


def _entry(account: Field, name: Field, folder: str | None, document: Field) -> CatalogEntry:
    """Return the entry in the fields of a row; `folder` is None unless this row alone names it.

    Raises:
        MsgspecError, OverflowError, RecursionError, ValueError: the fields are of no index.
    """
    if not isinstance(account, str) or not isinstance(document, bytes):
        raise ValueError("its fields are of wrong types")
    decoded = msgspec.json.decode(document, type=_Document)
    if decoded.name != name:
        raise ValueError(f"it holds index {decoded.name!r:.200}")
    if folder is None:
        raise ValueError("it names no folder, or one that another names")
    if decoded.config.dimensions < 1:
        raise ValueError(f"{decoded.config.dimensions} is no number of dimensions")
    created_at = decoded.created_at.astimezone(UTC)
    index = Index(folder, decoded.name, decoded.description, decoded.config, created_at)
    return CatalogEntry(account, index)
