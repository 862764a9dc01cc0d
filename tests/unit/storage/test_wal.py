"""Damage to a write-ahead log is refused whenever acknowledged commits stand behind it."""

import sqlite3
from pathlib import Path

import pytest

from vicinal.errors import Corruption
from vicinal.storage import wal


def log_of(tmp_path: Path, commits: int) -> bytes:
    """Return the write-ahead log of a database with this many one-row commits."""
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for n in range(commits):
        connection.execute("INSERT INTO t VALUES (?, ?)", (n, bytes([n]) * 100))
    raw = (tmp_path / "x.db-wal").read_bytes()
    connection.close()
    return raw


@pytest.fixture
def crashed(tmp_path: Path) -> tuple[Path, bytes]:
    raw = log_of(tmp_path, 4)
    return tmp_path / "x.db-wal", raw


def test_an_absent_and_an_empty_log_pass(tmp_path: Path) -> None:
    wal.check(tmp_path / "x.db-wal")
    (tmp_path / "x.db-wal").touch()
    wal.check(tmp_path / "x.db-wal")


def test_a_whole_log_passes(crashed: tuple[Path, bytes]) -> None:
    path, raw = crashed
    path.write_bytes(raw)

    wal.check(path)


def test_a_log_cut_anywhere_in_its_last_commit_passes_as_a_torn_write(
    crashed: tuple[Path, bytes],
) -> None:
    path, raw = crashed
    frame = 24 + 4096

    for cut in range(len(raw) - frame, len(raw), 97):
        path.write_bytes(raw[:cut])
        wal.check(path)


@pytest.mark.parametrize("where", ["header", "frame header", "page"])
def test_a_flipped_bit_before_the_last_commit_is_corruption(
    crashed: tuple[Path, bytes], where: str
) -> None:
    path, raw = crashed
    frame = 24 + 4096
    for commit in range(3):
        offset = {
            "header": 4 * commit,
            "frame header": 32 + commit * frame + 16,
            "page": 32 + commit * frame + 24 + 1000,
        }[where]
        damaged = bytearray(raw)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)

        with pytest.raises(Corruption, match=r"x\.db-wal is damaged"):
            wal.check(path)


def test_frames_of_an_older_generation_behind_the_log_are_not_damage(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    for n in range(20):
        connection.execute("INSERT INTO t VALUES (?, ?)", (n, bytes(3000)))
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.execute("INSERT INTO t VALUES (100, x'00')")
    (tmp_path / "copy.db-wal").write_bytes((tmp_path / "x.db-wal").read_bytes())
    connection.close()

    wal.check(tmp_path / "copy.db-wal")
