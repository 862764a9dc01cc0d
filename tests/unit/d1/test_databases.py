"""A database runs the statements it is sent, all or none, and nothing that leads out of it."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import time

import pytest

from vicinal.d1 import Bounds, Databases, bounds
from vicinal.d1.messages import Statement, StatementResult, Value
from vicinal.errors import BadStatement, Corruption, DatabaseNotFound, Error, NotFound, Unavailable


@contextmanager
def stopped(databases: Databases) -> Iterator[Databases]:
    try:
        yield databases
    finally:
        databases.stop()
        assert databases.processes() == []


def run(databases: Databases, sql: str, *parameters: Value) -> list[StatementResult]:
    return databases.execute("acme", "texts", [Statement(sql, parameters)])


def rows(databases: Databases, sql: str, *parameters: Value) -> Sequence[Sequence[Value]]:
    (result,) = run(databases, sql, *parameters)
    return result.rows


def test_what_is_written_is_read_by_the_next_call(databases: Databases) -> None:
    run(databases, "CREATE TABLE t (id TEXT PRIMARY KEY, text TEXT)")
    (written,) = run(databases, "INSERT INTO t VALUES (?, ?), ('b', NULL)", "a", "hellö")
    (read,) = run(databases, "SELECT id, text FROM t ORDER BY id")

    assert (written.changes, written.last_row_id, written.columns) == (2, 2, [])
    assert (read.columns, read.rows) == (["id", "text"], [("a", "hellö"), ("b", None)])
    assert read.changes == 0
    assert read.file_bytes > 0


def test_a_result_without_rows_names_its_columns(databases: Databases) -> None:
    (result,) = run(databases, "SELECT 1 AS one, 2 AS two WHERE 0")

    assert (result.columns, result.rows) == (["one", "two"], [])


def test_every_kind_of_value_comes_back_as_it_went_in(databases: Databases) -> None:
    values = (1, -(2**63), 2**63 - 1, 0.5, "", "a;b", b"\x00\xff", None)

    assert rows(databases, f"SELECT {','.join('?' * len(values))}", *values) == [values]


def test_databases_and_accounts_are_worlds_of_their_own(databases: Databases) -> None:
    run(databases, "CREATE TABLE t (a)")

    for account, database in (("acme", "others"), ("other", "texts")):
        with pytest.raises(BadStatement, match="no such table: t: SQLITE_ERROR"):
            databases.execute(account, database, [Statement("SELECT * FROM t")])


def test_several_statements_are_told_apart(databases: Databases) -> None:
    results = run(
        databases,
        """CREATE TABLE t (a TEXT); -- a comment; with a semicolon
        INSERT INTO t VALUES ('x;y');;
        CREATE TRIGGER r AFTER INSERT ON t BEGIN
            UPDATE t SET a = a || '!'; UPDATE t SET a = a || '?';
        END;
        INSERT INTO t VALUES ('z');
        SELECT a FROM t /* the ; end */""",
    )

    assert len(results) == 5
    assert results[-1].rows == [("x;y!?",), ("z!?",)]


def test_a_call_takes_effect_whole_or_not_at_all(databases: Databases) -> None:
    run(databases, "CREATE TABLE t (a INTEGER UNIQUE)")

    with pytest.raises(BadStatement, match=r"UNIQUE constraint failed: t\.a: SQLITE_CONSTRAINT$"):
        run(databases, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)")
    with pytest.raises(BadStatement):
        databases.execute(
            "acme", "texts", [Statement("INSERT INTO t VALUES (?)", [2]), Statement("SELEC")]
        )

    assert rows(databases, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '{folder}/other.db' AS other",
        "VACUUM INTO '{folder}/copy.db'",
        "DETACH main",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = 1",
        "PRAGMA synchronous = OFF",
        "SELECT load_extension('x')",
        "SELECT writefile('{folder}/evil', 'x')",
    ],
)
def test_a_statement_cannot_leave_its_database_or_its_call(
    databases: Databases, tmp_path: Path, sql: str
) -> None:
    with pytest.raises(BadStatement):
        run(databases, sql.format(folder=tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["d1"]


@pytest.mark.parametrize("sql", ["PRAGMA table_info(t)", "PRAGMA table_list", "PRAGMA optimize"])
def test_harmless_pragmas_are_answered(databases: Databases, sql: str) -> None:
    run(databases, "CREATE TABLE t (a)")

    run(databases, sql)


@pytest.mark.parametrize("database", ["", "a/b", "..", "a" * 65, "é", "a.b", "a\x00b"])
def test_an_id_that_could_be_a_path_is_not_found(
    databases: Databases, tmp_path: Path, database: str
) -> None:
    with pytest.raises(NotFound):
        databases.execute("acme", database, [Statement("SELECT 1")])

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sql", "parameters", "text"),
    [
        ("", [], "No SQL statements"),
        ("  ;; ", [], "No SQL statements"),
        ("SELEC 1", [], 'near "SELEC": syntax error: SQLITE_ERROR'),
        ("SELECT 1; SELECT ?", [1], "2 statements cannot share parameters"),
        ("SELECT ?", [], "bindings"),
        ("SELECT ?", [1, 2], "bindings"),
        ("SELECT ?", [2**64], "64 bits"),
        ("SELECT ?", ["\ud800"], "Unicode"),
        ("SELECT '\ud800'", [], "Unicode"),
        ("SELECT 1\x00", [], "null character"),
        (f"SELECT {','.join('?' * 101)}", [1] * 101, "too many SQL variables"),
        ("SELECT '" + "x" * bounds.STATEMENT_BYTES_MAX + "'", [], "the limit is 100000"),
        ("SELECT 1;" * (bounds.STATEMENTS_MAX + 1), [], "more than 1000 statements"),
        ("SELECT zeroblob(2000001)", [], "too big"),
        (
            (
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100001) "
                "SELECT i FROM n"
            ),
            [],
            "more than 100000 rows",
        ),
        (
            (
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 40) "
                "SELECT zeroblob(1000000) FROM n"
            ),
            [],
            "more than 33554432 bytes",
        ),
    ],
)
def test_what_cannot_be_run_says_why(
    databases: Databases, sql: str, parameters: list[Value], text: str
) -> None:
    with pytest.raises(BadStatement, match=text):
        run(databases, sql, *parameters)


def test_as_many_parameters_and_rows_as_may_be(databases: Databases) -> None:
    assert len(rows(databases, f"SELECT {','.join('?' * 100)}", *[1] * 100)[0]) == 100
    counted = rows(
        databases,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) "
        "SELECT i FROM n",
    )
    assert counted[-1] == (100_000,)


def test_a_statement_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    databases = Databases(tmp_path / "d1", Bounds(seconds_max=0.25))

    with stopped(databases):
        run(databases, "SELECT 1")
        before = databases.processes()
        with pytest.raises(BadStatement, match=r"more than 0\.25 seconds"):
            run(
                databases,
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                "SELECT max(i) FROM n",
            )
        assert databases.processes() == before  # between two steps SQLite stops by itself


def test_a_file_that_is_no_database_is_named(databases: Databases, tmp_path: Path) -> None:
    run(databases, "CREATE TABLE t (a)")
    path = tmp_path / "d1" / "acme" / "texts.sqlite"
    path.write_bytes(b"not a database at all " * 1_000)

    with pytest.raises(Corruption, match=str(path)):
        run(databases, "SELECT 1")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "d1").write_text("in the way")

    with pytest.raises(Unavailable, match="d1"):
        run(Databases(tmp_path / "d1"), "SELECT 1")


def test_writers_of_one_database_wait_for_each_other(databases: Databases) -> None:
    run(databases, "CREATE TABLE t (a INTEGER)")
    run(databases, "INSERT INTO t VALUES (0)")
    failed: list[Error] = []

    def count() -> None:
        for _ in range(10):
            try:
                run(databases, "UPDATE t SET a = a + 1")
            except Error as error:
                failed.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert not failed
    assert rows(databases, "SELECT a FROM t") == [(40,)]


def test_a_file_from_elsewhere_is_told_of_by_its_own_time(
    databases: Databases, tmp_path: Path
) -> None:
    run(databases, "CREATE TABLE t (a)")
    folder = tmp_path / "d1" / "acme"
    with closing(sqlite3.connect(folder / "copied.sqlite")) as copied:
        copied.execute("PRAGMA user_version=5")
    (folder / "empty.sqlite").touch()
    (folder / "not a database.sqlite").touch()
    for name in ("copied", "empty"):
        os.utime(folder / f"{name}.sqlite", (1_700_000_000, 1_700_000_000))

    assert databases.ids("acme") == ["copied", "empty", "texts"]
    assert databases.ids("nobody") == []
    for name in ("copied", "empty"):
        assert databases.info("acme", name).created_at.timestamp() == 1_700_000_000
    assert databases.info("acme", "texts").created_at.timestamp() == pytest.approx(time(), abs=60)
    with pytest.raises(DatabaseNotFound, match="'other'"):
        databases.info("acme", "other")
