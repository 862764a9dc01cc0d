"""SQLite as log, manifest and catalog: one place for pragmas, transactions and checksums.

Write-ahead logging with ``synchronous=FULL``: a transaction is on disk when it has
committed. The locking mode is exclusive, so a second process cannot open the same file
and no shared-memory file is needed.

SQLite guards its structure against crashes but not its pages against bit rot, so every
row that matters carries a `checksum` of its fields, and opening runs SQLite's integrity
check, which notices damage to the pages that hold the rows. Its write-ahead log has
checksums of its own, but SQLite takes any damage there for a torn last write and drops
what follows. `wal.py` looks first: damage with commits behind it is refused instead.

This module knows rows, not what they mean.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from zlib_ng.zlib_ng import crc32

from vicinal.errors import Corruption, ResourceExhausted, Unavailable
from vicinal.storage import private, wal

Field = int | str | bytes | None

_RETRY_S = 1.0  # ours: how soon a caller may ask again when resources have run out
_EXHAUSTED = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))


def checksum(*fields: Field) -> int:
    """Return a CRC-32 over fields, each framed by its type and length."""
    value = 0
    for field in fields:
        raw = field if isinstance(field, bytes) else repr(field).encode()
        value = crc32(f"{type(field).__name__} {len(raw)} ".encode(), value)
        value = crc32(raw, value)
    return value


def open_database(path: Path, schema: str, *, create: bool = True) -> sqlite3.Connection:
    """Open a database for this process alone.

    The connection may be used from any thread, one at a time, and is in autocommit mode:
    write through `transaction`.

    Args:
        path: The database file; its folder must exist.
        schema: ``CREATE`` statements, each separated by a semicolon.
        create: Whether to make it when there is none; a database that is empty is none.

    Raises:
        Corruption: the file is damaged or missing, or its tables are not those of `schema`.
        Unavailable: another process has it open, or the disk does not answer.
    """
    with translating(path):
        if not create and not (path.exists() and path.stat().st_size):
            raise Corruption(f"{path} is missing or empty")
        wal.check(path.with_name(path.name + "-wal"))
        private.make_file(path)
        # A statement that is kept keeps the last values it was given, megabytes of vectors.
        connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=0
        )
        try:
            # Damaged text is read as it is, so that the checksum of its row refuses it.
            connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            # Zeroing freed pages would write the log a second time when it is trimmed.
            connection.execute("PRAGMA secure_delete=OFF")
            _check_integrity(connection, path)
            _check_schema(connection, path, schema, create=create)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Raise what SQLite and the system have against a database as errors of this package.

    Raises:
        Corruption: SQLite finds it malformed.
        ResourceExhausted: the disk is full, or too many files are open.
        Unavailable: it cannot be read or written for another reason: locked, not permitted.
    """
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        if is_exhausted(error) or _is_unopened(error, path):
            raise ResourceExhausted(f"cannot use {path}: {error}", retry_after=_RETRY_S) from error
        raise Unavailable(f"cannot use {path}: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # The latter is raised in place of an error that quotes damaged text.
        raise Corruption(f"{path} is damaged: {error}") from error


def is_exhausted(error: Exception) -> bool:
    """Tell whether disk space or file handles have run out, which passes."""
    if isinstance(error, sqlite3.Error):
        return _code(error) == sqlite3.SQLITE_FULL
    return isinstance(error, ResourceExhausted) or (
        isinstance(error, OSError) and error.errno in _EXHAUSTED
    )


def _is_unopened(error: Exception, path: Path) -> bool:
    """Tell whether SQLite could not open a file for want of a handle, of which it says nothing."""
    if not isinstance(error, sqlite3.Error) or _code(error) != sqlite3.SQLITE_CANTOPEN:
        return False
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as refused:
        return is_exhausted(refused)
    return True  # there is one by now


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one transaction: on disk once the block has ended, else undone."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def checkpoint(connection: sqlite3.Connection) -> None:
    """Fold the write-ahead log into the database, where damage to any commit is noticed."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def close_database(connection: sqlite3.Connection) -> None:
    """Fold the write-ahead log into the database and close it."""
    try:
        checkpoint(connection)
    finally:
        connection.close()


def integrity_problem(path: Path) -> str:
    """Return what SQLite's integrity check has against a database; an empty text for nothing.

    Raises:
        Corruption: it cannot be opened.
    """
    with translating(path), closing(sqlite3.connect(path)) as connection:
        problem = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    return "" if problem == "ok" else f"{path} is damaged: {problem}"


def _check_integrity(connection: sqlite3.Connection, path: Path) -> None:
    problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        raise Corruption(f"{path} is damaged: {problem}")


def _check_schema(connection: sqlite3.Connection, path: Path, schema: str, *, create: bool) -> None:
    expected = sorted(statement.strip() for statement in schema.split(";") if statement.strip())
    statements = _statements(connection)
    if not statements and create:
        with transaction(connection):
            for statement in expected:
                connection.execute(statement)
        statements = _statements(connection)
    if statements != expected:
        raise Corruption(f"{path} does not have the tables it was created with")


def _statements(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    return sorted(row[0] for row in rows)
