"""SQL databases of one SQLite file each, as much of D1 as libraries that keep texts need.

    d1/ACCOUNT/DATABASE.sqlite      made when the database is first asked for

A call runs its statements in one transaction on a connection of its own, so nothing but the
file outlives it. SQLite itself orders the writers of a database. Statements come from the
network: they cannot name another file, load code, end the transaction or set more than
harmless pragmas, and are stopped when they take too long or return too much.

This module knows SQL values, not JSON.
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from vicinal.errors import BadStatement, Corruption, NotFound, Unavailable
from vicinal.model import SqlResult, SqlStatement, SqlValue

STATEMENT_BYTES_MAX = 100_000  # of all statements of a call; D1's own, of one
PARAMETERS_MAX = 100  # of one statement; D1's own
VALUE_BYTES_MAX = 2_000_000  # of one text, blob or row; D1's own
STATEMENTS_MAX = 1_000  # ours
ROWS_MAX = 100_000  # ours: of a statement's result
RESULT_BYTES_MAX = 32 * 1024 * 1024  # ours: of all results of a call, about
SECONDS_MAX = 10.0  # ours; D1 has 30
LOCK_TIMEOUT_S = 5.0

_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OPCODES = 10_000  # between two looks at the clock: about a tenth of a millisecond
_ROWS = 1_000

_PRAGMAS = frozenset(
    (
        *("table_list", "table_info", "table_xinfo", "index_list", "index_info", "index_xinfo"),
        *("foreign_key_list", "foreign_key_check", "defer_foreign_keys", "quick_check"),
        *("case_sensitive_like", "legacy_alter_table", "recursive_triggers", "optimize"),
    )
)
"""What D1 allows, without those that last longer than a call."""

_DENIED = frozenset(
    (
        *(sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH),  # VACUUM INTO attaches, too
        *(sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT),
    )
)


class Databases:
    """The databases of a server.

    Args:
        folder: Where their files are; made when there is one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(
        self, account: str, database: str, statements: Sequence[SqlStatement]
    ) -> list[SqlResult]:
        """Run statements in order; all of them take effect, or none does.

        Args:
            account: Well-formed.
            database: Its id; one that is new makes an empty database.
            statements: Each may hold several, separated by semicolons.

        Raises:
            NotFound: no database can have this id.
            BadStatement: SQLite refuses a statement, or a bound is exceeded.
            Unavailable: the disk is full or does not answer, or another call takes long.
            Corruption: the file is damaged.
        """
        if not _DATABASE.fullmatch(database):
            raise NotFound(f"no database has the id {database[:80]!r}")
        single = list(_split(statements))
        path = self._folder / account / f"{database}.sqlite"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, LOCK_TIMEOUT_S, isolation_level=None)) as opened:
                return _run(opened, path, single)
        except sqlite3.Error as error:
            raise _translated(error, path) from error
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error


def _split(statements: Sequence[SqlStatement]) -> Iterator[SqlStatement]:
    """Yield single statements."""
    try:
        size = sum(len(each.sql.encode()) for each in statements)
    except UnicodeEncodeError as error:
        raise BadStatement(f"not valid Unicode at character {error.start}") from None
    if size > STATEMENT_BYTES_MAX:
        raise BadStatement(f"the statements have {size} bytes, the limit is {STATEMENT_BYTES_MAX}")
    count = 0
    for each in statements:
        parts = list(_parts(each.sql))
        count += len(parts)
        if not parts:
            raise BadStatement("No SQL statements detected.")
        if len(parts) > 1 and each.parameters:
            raise BadStatement(
                f"{len(parts)} statements cannot share parameters; send them one by one"
            )
        if count > STATEMENTS_MAX:
            raise BadStatement(f"there are more than {STATEMENTS_MAX} statements")
        for part in parts:
            yield SqlStatement(part, each.parameters)


def _parts(sql: str) -> Iterator[str]:
    start = 0
    end = sql.find(";") + 1
    while end:
        part = sql[start:end]
        # A semicolon within a string, a comment or a trigger ends nothing.
        if sqlite3.complete_statement(part):
            if part.strip(" \t\r\n;"):
                yield part
            start = end
        end = sql.find(";", end) + 1
    if sql[start:].strip():
        yield sql[start:]


def _run(
    connection: sqlite3.Connection, path: Path, statements: list[SqlStatement]
) -> list[SqlResult]:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, PARAMETERS_MAX)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
    connection.execute("BEGIN IMMEDIATE")
    end_s = time.monotonic() + SECONDS_MAX
    connection.set_progress_handler(lambda: time.monotonic() > end_s, _OPCODES)
    connection.set_authorizer(_authorize)
    budget = RESULT_BYTES_MAX
    results = []
    for statement in statements:
        result, size = _result(connection, path, statement, budget)
        budget -= size
        results.append(result)
    connection.set_authorizer(None)
    connection.set_progress_handler(None, 0)
    connection.execute("COMMIT")
    return results


def _result(
    connection: sqlite3.Connection, path: Path, statement: SqlStatement, budget: int
) -> tuple[SqlResult, int]:
    """Run one statement; return its result and about how many bytes that has."""
    start_s, changed = time.perf_counter(), connection.total_changes
    try:
        cursor = connection.execute(statement.sql, tuple(statement.parameters))
    except OverflowError:
        raise BadStatement("an integer parameter has more than 64 bits") from None
    except UnicodeEncodeError as error:
        raise BadStatement(f"a parameter is not valid Unicode at character {error.start}") from None
    rows: list[Sequence[SqlValue]] = []
    size = 0
    while some := cursor.fetchmany(_ROWS):
        rows += some
        size += sum(_size(value) for row in some for value in row)
        if len(rows) > ROWS_MAX:
            raise BadStatement(f"the result has more than {ROWS_MAX} rows")
        if size > budget:
            raise BadStatement(f"the results have more than {RESULT_BYTES_MAX} bytes")
    return SqlResult(
        columns=[column[0] for column in cursor.description or ()],
        rows=rows,
        changes=connection.total_changes - changed,
        last_row_id=cursor.lastrowid or 0,
        seconds=time.perf_counter() - start_s,
        file_bytes=path.stat().st_size,
    ), size


def _size(value: SqlValue) -> int:
    return len(value) + 8 if isinstance(value, str | bytes) else 8


def _authorize(
    action: int, first: str | None, _second: str | None, _database: str | None, _trigger: str | None
) -> int:
    if action in _DENIED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in _PRAGMAS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


_OF_THE_MACHINE = frozenset(
    (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
     sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM)
)  # fmt: skip


def _translated(error: sqlite3.Error, path: Path) -> BadStatement | Unavailable | Corruption:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corruption(f"{path} is damaged: {error}")
    if code in _OF_THE_MACHINE:
        return Unavailable(f"cannot use {path}: {error}", retry_after=1.0)
    if code == sqlite3.SQLITE_INTERRUPT:
        return BadStatement(f"the statements took more than {SECONDS_MAX:g} seconds")
    # Extended names say more, but the platform shows the plain one: SQLITE_CONSTRAINT.
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    return BadStatement(f"{error}: {'_'.join(name.split('_')[:2])}")
