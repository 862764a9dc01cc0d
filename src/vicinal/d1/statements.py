"""Runs the statements of a call on a database, in the worker: one transaction, bounded results.

A call has a connection of its own, so nothing but the file outlives it. Statements come from the
network: `permissions` says which may run; here they are stopped when they take too long or return
too much. A single step of SQLite cannot be stopped here: the server kills the process.

This module knows SQL values, not JSON, and imports no more of the package than it needs.
"""

import re
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from vicinal.d1 import bounds
from vicinal.d1.messages import Call, Result, Results, SentResults, Statement, Value
from vicinal.d1.permissions import Permissions, bare, restrict
from vicinal.errors import BadStatement, Corruption, Unavailable
from vicinal.storage import private, wal_mode

_OPCODES = 1_000  # between two looks at the clock: about a hundredth of a millisecond
_ROWS_HEAD = struct.Struct(">BI")
_ARRAY32 = 0xDD  # MessagePack's array with a length of 32 bits
_ROW_BYTES = 5  # bytes of a row and of a value in addition to their contents, at most
_VALUE_BYTES = 9
_encode = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode


def execute(folder: Path, call: Call, before_commit: Callable[[SentResults], None]) -> None:
    """Run a call; all of it takes effect, or nothing.

    Args:
        folder: Folder with a folder of databases for each account.
        call: The statements.
        before_commit: Called with the results when all statements have run.

    Raises:
        BadStatement: SQLite refuses a statement, or a bound is exceeded.
        Unavailable: the disk is full or does not answer, or another program writes.
        Corruption: the file is damaged.
    """
    end_s = time.monotonic() + call.seconds_max
    path = folder / call.account / f"{call.database}.sqlite"
    try:
        single = list(_split(call.statements))
        private.make_folders(path.parent)
        with closing(_open(path)) as connection:
            before_commit(_results(connection, path, call, single, end_s))
            connection.execute("COMMIT")
    except MemoryError:
        raise BadStatement(
            f"the statements need more than {bounds.HEAP_BYTES_MAX >> 20} MiB of memory"
        ) from None
    except sqlite3.Error as error:
        raise _translated(error, path, call.seconds_max) from error
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error


def _open(path: Path) -> sqlite3.Connection:
    private.make_file(path)
    is_new = path.stat().st_size == 0
    connection = sqlite3.connect(
        path, bounds.LOCK_TIMEOUT_S, isolation_level=None, cached_statements=0
    )
    try:
        restrict(connection)
        if is_new:
            # Kept in the header, where the list of databases reads it; SQL cannot change it.
            connection.execute(f"PRAGMA user_version={int(time.time()) & 0x7FFFFFFF}")
        wal_mode.enter(connection, bounds.LOCK_TIMEOUT_S)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # Sorting in files would fill the disk before the clock stops it.
        connection.execute("PRAGMA temp_store=MEMORY")
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count={bounds.FILE_BYTES_MAX // page_bytes}")
        connection.execute("BEGIN IMMEDIATE")
    except BaseException:
        connection.close()
        raise
    return connection


def _results(
    connection: sqlite3.Connection,
    path: Path,
    call: Call,
    statements: Sequence[Statement],
    end_s: float,
) -> SentResults:
    connection.set_progress_handler(lambda: time.monotonic() > end_s, _OPCODES)
    permissions = Permissions(connection)
    budget = bounds.RESULT_BYTES_MAX
    results = []
    for statement in statements:
        result, size = _result(permissions, path, statement, budget, call.names_each_row)
        budget -= size
        results.append(result)
    permissions.lift()
    connection.set_progress_handler(None, 0)
    return Results(results)


def _result(
    permissions: Permissions, path: Path, statement: Statement, budget: int, names_each_row: bool
) -> tuple[Result[msgspec.Raw], int]:
    """Run one statement; return its result and the number of its bytes."""
    connection = permissions.connection
    start_s, changed = time.perf_counter(), connection.total_changes
    parameters = tuple(statement.parameters)
    try:
        permissions.check(statement.sql, parameters)
        cursor = connection.execute(statement.sql, parameters)
    except OverflowError:
        raise BadStatement("an integer parameter has more than 64 bits") from None
    columns = [column[0] for column in cursor.description or ()]
    names = sum(map(_size, columns))
    rows, count, size = bytearray(), 0, names
    for row in cursor:
        count += 1
        # The size of a row is known before its values are copied.
        size += _ROW_BYTES + sum(map(_size, row)) + (names if names_each_row else 0)
        if size > budget:
            raise BadStatement(f"the results have more than {bounds.RESULT_BYTES_MAX} bytes")
        if count > bounds.ROWS_MAX:
            raise BadStatement(f"the result has more than {bounds.ROWS_MAX} rows")
        rows += _encode(row)
        if len(rows) > bounds.RESULT_BYTES_MAX:
            raise BadStatement(f"the results have more than {bounds.RESULT_BYTES_MAX} bytes")
    result = Result(
        columns=columns,
        rows=msgspec.Raw(_ROWS_HEAD.pack(_ARRAY32, count) + rows),
        changes=connection.total_changes - changed,
        last_row_id=cursor.lastrowid or 0,
        seconds=time.perf_counter() - start_s,
        file_bytes=path.stat().st_size,
    )
    return result, max(size, len(rows))


def _size(value: Value) -> int:
    """Return the bytes of a value in the answer; a blob's own length, though it becomes numbers."""
    if isinstance(value, str):
        # Control characters take six bytes each there.
        return len(_json(value)) + _VALUE_BYTES
    return len(value) + _VALUE_BYTES if isinstance(value, bytes) else _VALUE_BYTES


def _split(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Yield single statements."""
    size = sum(len(statement.sql.encode()) for statement in statements)
    if size > bounds.STATEMENT_BYTES_MAX:
        raise BadStatement(
            f"the statements have {size} bytes, the limit is {bounds.STATEMENT_BYTES_MAX}"
        )
    count = 0
    for statement in statements:
        parts = list(_parts(statement.sql))
        count += len(parts)
        if not parts:
            raise BadStatement("No SQL statements detected.")
        if len(parts) > 1 and statement.parameters:
            raise BadStatement(
                f"{len(parts)} statements cannot share parameters; send them one by one"
            )
        if count > bounds.STATEMENTS_MAX:
            raise BadStatement(f"there are more than {bounds.STATEMENTS_MAX} statements")
        for part in parts:
            yield Statement(part, statement.parameters)


def _parts(sql: str) -> Iterator[str]:
    start = 0
    for semicolon in re.finditer(";", sql):
        part = sql[start : semicolon.end()]
        # A semicolon within a string, a comment or a trigger ends nothing.
        if sqlite3.complete_statement(part):
            if bare(part) != ";":
                yield part
            start = semicolon.end()
    if bare(sql[start:]):
        yield sql[start:]


_OF_THE_MACHINE = frozenset(
    (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
     sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
)  # fmt: skip


def _translated(
    error: sqlite3.Error, path: Path, seconds_max: float
) -> BadStatement | Unavailable | Corruption:
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & 0xFF
    if extended == sqlite3.SQLITE_CORRUPT_VTAB:
        return BadStatement(f"a virtual table does not match what it indexes: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corruption(f"{path} is damaged: {error}")
    if code in _OF_THE_MACHINE:
        return Unavailable(f"cannot use {path}: {error}", retry_after=1.0)
    if code == sqlite3.SQLITE_INTERRUPT:
        return BadStatement(too_slow(seconds_max))
    # Extended names say more, but the platform shows the plain one: SQLITE_CONSTRAINT.
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    return BadStatement(f"{error}: {'_'.join(name.split('_')[:2])}")


def too_slow(seconds_max: float) -> str:
    """Say that the statements of a call took longer than they may."""
    return f"the statements took more than {seconds_max:g} seconds"
