"""A new database that several open at the same moment writes ahead for all of them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until
from vicinal.daemon_threads import DaemonThreads
from vicinal.storage import wal_mode

WAITS_S = 45.0


@pytest.fixture
def held(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that has a new database for itself."""
    connection = sqlite3.connect(
        tmp_path / "new.sqlite", isolation_level=None, check_same_thread=False
    )
    with closing(connection):
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


class Tried(sqlite3.Connection):
    """A connection that tells how often something was tried on it."""

    count = 0

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self.count += 1
        return super().execute(*arguments)


def another(tmp_path: Path) -> Tried:
    path = tmp_path / "new.sqlite"
    return sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, factory=Tried
    )


def test_one_that_is_locked_is_waited_for(held: sqlite3.Connection, tmp_path: Path) -> None:
    with closing(another(tmp_path)) as connection, DaemonThreads(1, "enters") as threads:
        entered = threads.submit(lambda: wal_mode.enter(connection, WAITS_S))
        wait_until(lambda: connection.count > 1)
        held.execute("COMMIT")
        entered.result(WAITS_S)

        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_one_that_stays_locked_is_given_up(held: sqlite3.Connection, tmp_path: Path) -> None:
    assert held.in_transaction
    with (
        closing(another(tmp_path)) as connection,
        pytest.raises(sqlite3.OperationalError, match="database is locked"),
    ):
        wal_mode.enter(connection, 0.02)


def test_one_that_is_damaged_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "new.sqlite").write_bytes(b"no database" * 1_000)
    with closing(another(tmp_path)) as connection, pytest.raises(sqlite3.DatabaseError):
        wal_mode.enter(connection, WAITS_S)
