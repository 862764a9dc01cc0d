"""A database is durable per transaction, checked on opening, and open to one process."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from vicinal.errors import Corruption, Unavailable
from vicinal.storage.sqlite import checkpoint, checksum, close_database, open_database, transaction

SCHEMA = "CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB); CREATE TABLE u (x TEXT)"


def test_a_database_is_created_and_opens_again_with_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = open_database(path, SCHEMA)
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (1, x'0102')")
    close_database(connection)

    connection = open_database(path, SCHEMA)

    assert connection.execute("SELECT * FROM t").fetchall() == [(1, b"\x01\x02")]
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    connection.close()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "x.db", SCHEMA)

    with pytest.raises(sqlite3.IntegrityError), transaction(connection):  # noqa: PT012 the block is the transaction
        connection.execute("INSERT INTO t VALUES (1, x'00')")
        connection.execute("INSERT INTO t VALUES (1, x'00')")

    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("size", [None, 0])
def test_a_database_that_must_be_there_is_not_made_anew(tmp_path: Path, size: int | None) -> None:
    path = tmp_path / "x.db"
    if size is not None:
        path.write_bytes(bytes(size))

    with pytest.raises(Corruption, match=r"x\.db"):
        open_database(path, SCHEMA, create=False)

    assert not path.exists() or path.stat().st_size == size


def test_a_checkpoint_leaves_every_commit_in_the_database_itself(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "x.db", SCHEMA)
    with transaction(connection):
        connection.execute("INSERT INTO u VALUES ('kept')")

    checkpoint(connection)

    assert (tmp_path / "x.db-wal").stat().st_size == 0
    assert b"kept" in (tmp_path / "x.db").read_bytes()
    connection.close()


def test_a_second_process_cannot_open_the_same_file(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "x.db", SCHEMA)
    with transaction(connection):
        connection.execute("INSERT INTO u VALUES ('mine')")

    with pytest.raises(Unavailable, match=r"x\.db"):
        open_database(tmp_path / "x.db", SCHEMA)
    connection.close()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    open_database(tmp_path / "x.db", SCHEMA).close()

    with pytest.raises(Corruption, match="does not have the tables"):
        open_database(tmp_path / "x.db", SCHEMA + "; CREATE TABLE v (y)")


def test_a_file_that_is_not_a_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 1000)

    with pytest.raises(Corruption, match=r"x\.db is damaged"):
        open_database(tmp_path / "x.db", SCHEMA)


def test_a_truncated_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = open_database(path, SCHEMA)
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (1, ?)", (bytes(50_000),))
    close_database(connection)
    raw = path.read_bytes()

    for size in range(4096, len(raw), 4096):
        path.write_bytes(raw[:size])
        with pytest.raises(Corruption):
            open_database(path, SCHEMA)


def test_a_commit_survives_the_death_of_the_process(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from vicinal.storage.sqlite import *\n"
        "c = open_database(pathlib.Path(sys.argv[1]), sys.argv[2])\n"
        "with transaction(c): c.execute(\"INSERT INTO u VALUES ('kept')\")\n"
        "c.execute('BEGIN'); c.execute(\"INSERT INTO u VALUES ('lost')\")\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "x.db"), SCHEMA], check=False)

    connection = open_database(tmp_path / "x.db", SCHEMA)

    assert connection.execute("SELECT x FROM u").fetchall() == [("kept",)]
    connection.close()


def test_a_checksum_tells_fields_apart_by_type_and_border() -> None:
    sums = [
        checksum("ab", "c"),
        checksum("a", "bc"),
        checksum(b"ab", b"c"),
        checksum(1),
        checksum("1"),
    ]

    assert len(set(sums)) == len(sums)


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"absent/x\.db"):
        open_database(tmp_path / "absent" / "x.db", SCHEMA)

    (tmp_path / "y.db-wal").mkdir()
    with pytest.raises(Unavailable, match=r"y\.db"):
        open_database(tmp_path / "y.db", SCHEMA)


def test_text_that_is_damaged_is_read_so_that_its_checksum_can_refuse_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = open_database(path, SCHEMA)
    with transaction(connection):
        connection.execute("INSERT INTO u VALUES ('once upon a time')")
    close_database(connection)
    path.write_bytes(path.read_bytes().replace(b"once upon", b"\xffnce upon"))

    connection = open_database(path, SCHEMA)

    (text,) = connection.execute("SELECT x FROM u").fetchone()
    assert checksum(text) != checksum("once upon a time")
    connection.close()


def test_a_schema_that_is_damaged_is_named_even_when_sqlite_cannot_quote_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = open_database(path, SCHEMA)
    close_database(connection)
    raw = path.read_bytes()
    assert raw.count(b"CREATE TABLE t ") == 1
    path.write_bytes(raw.replace(b"CREATE TABLE t ", b"CREATE TABL\xaa t "))

    with pytest.raises(Corruption, match=r"x\.db is damaged"):
        open_database(path, SCHEMA)


ROWS = "CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT, b BLOB, checksum INTEGER)"
PER_COMMIT = 10


def crashed_database(folder: Path, commits: int) -> dict[str, bytes]:
    """Return the files of a database of which a part is still in the write-ahead log."""
    path = folder / "x.db"
    connection = open_database(path, ROWS)
    for commit in range(commits):
        with transaction(connection):
            for n in range(commit * PER_COMMIT, (commit + 1) * PER_COMMIT):
                row = (n, f"text {n}", bytes([n % 251]) * 300)
                connection.execute("INSERT INTO t VALUES (?, ?, ?, ?)", (*row, checksum(*row)))
        if commit == commits // 2:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = {each.name: each.read_bytes() for each in (path, folder / "x.db-wal")}
    connection.close()
    return files


def rows_that_pass(path: Path) -> int:
    """Open, read and close; return how many rows there are, all of them undamaged."""
    connection = open_database(path, ROWS)
    try:
        rows = connection.execute("SELECT n, x, b, checksum FROM t ORDER BY n").fetchall()
    except sqlite3.DatabaseError as error:
        raise Corruption(str(error)) from error
    finally:
        connection.close()
    if any(checksum(*row[:3]) != row[3] for row in rows):
        raise Corruption("a row fails its checksum")
    if [row[0] for row in rows] != list(range(len(rows))):
        raise Corruption("rows are missing between others")
    return len(rows)


@pytest.mark.parametrize("bits", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("name", ["x.db", "x.db-wal"])
def test_no_flipped_byte_makes_acknowledged_rows_vanish(
    tmp_path: Path, name: str, bits: int
) -> None:
    commits = 8
    files = crashed_database(tmp_path, commits)
    whole = rows_that_pass(tmp_path / "x.db")
    assert whole == commits * PER_COMMIT
    noticed = 0
    # 509 is prime: the offsets wander through headers, cells and free space.
    for offset in range(0, len(files[name]), 509):
        for each, raw in files.items():
            (tmp_path / each).write_bytes(raw)
        damaged = bytearray(files[name])
        damaged[offset] ^= bits
        (tmp_path / name).write_bytes(damaged)

        try:
            found = rows_that_pass(tmp_path / "x.db")
        except (Corruption, Unavailable):
            noticed += 1
            continue

        # The last commit in the write-ahead log cannot be told from one cut short.
        bearable = {whole, whole - PER_COMMIT} if name == "x.db-wal" else {whole}
        assert found in bearable, f"byte {offset} of {name}"
    assert noticed > 10
