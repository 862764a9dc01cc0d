"""A copy of a database that another process writes to all the time is as of one moment."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from vicinal.verify import moments
from vicinal.verify.moments import at_one_moment

# Each transaction gives all rows, of 4 MB, the next number: more than is copied at once. An index's
# log is written under the same lock, and emptied when a memtable has been sealed.
WRITER = """
import sqlite3, sys
path, pages, truncates = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "yes"
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA locking_mode=EXCLUSIVE")
connection.execute("PRAGMA journal_mode=WAL")
connection.execute(f"PRAGMA wal_autocheckpoint={pages}")
connection.execute("CREATE TABLE t (number, filling)")
connection.execute(
    "INSERT INTO t WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 1000)"
    " SELECT 0, zeroblob(3000) FROM r"
)
print("begun", flush=True)
number = 0
while True:
    number += 1
    connection.execute("UPDATE t SET number = ?", [number])
    if truncates and number % 7 == 0:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
"""


@contextmanager
def writing(path: Path, pages: int, truncates: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(pages), truncates], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield
    finally:
        process.kill()
        process.communicate()


def numbers(copied: Path) -> set[int]:
    with closing(sqlite3.connect(copied)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {number for (number,) in connection.execute("SELECT DISTINCT number FROM t")}


@pytest.mark.parametrize(
    ("pages", "truncates"), [(1, "no"), (60, "no"), (10_000, "yes"), (1, "yes")]
)
def test_every_copy_has_the_whole_of_one_transaction_and_none_is_older_than_the_last(
    tmp_path: Path, pages: int, truncates: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine is, and slow a copy beside a writer that never rests.
    monkeypatch.setattr(moments, "ATTEMPTS_MAX", 1_000)
    path = tmp_path / "log.db"
    last = -1
    with writing(path, pages, truncates):
        for _ in range(25):
            (number,) = at_one_moment(path, numbers)

            assert number >= last
            last = number
    assert last > 0
