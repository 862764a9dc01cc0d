"""Damage to a write-ahead log is refused whenever acknowledged commits stand behind it."""

import sqlite3
from pathlib import Path

import pytest

from vicinal.errors import Corruption
from vicinal.storage import wal


def log_of(tmp_path: Path, commits: int, *, pages: int = 1) -> bytes:
    """Return the write-ahead log of a database with this many commits of so many pages each."""
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for n in range(commits):
        blob = bytes([n]) * (100 + 4092 * (pages - 1))
        connection.execute("INSERT INTO t VALUES (?, ?)", (n, blob))
    raw = (tmp_path / "x.db-wal").read_bytes()
    connection.close()
    return raw


def ends_of_commits(raw: bytes) -> list[int]:
    frame = 24 + 4096
    return [end for end in range(32 + frame, len(raw) + 1, frame) if any(raw[end - frame :][4:8])]


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


def test_a_flipped_bit_anywhere_before_the_last_commit_is_corruption(
    crashed: tuple[Path, bytes],
) -> None:
    path, raw = crashed
    frame = 24 + 4096
    header = range(32)
    frame_headers = [32 + commit * frame + n for commit in range(3) for n in range(24)]
    pages = range(56, 32 + 3 * frame, 397)
    for offset in [*header, *frame_headers, *pages]:
        damaged = bytearray(raw)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)

        with pytest.raises(Corruption, match=r"x\.db-wal is damaged"):
            wal.check(path)


def test_a_damaged_header_is_corruption_even_before_a_single_commit(tmp_path: Path) -> None:
    # A header is on disk before the first frame is written, so no crash explains this.
    raw = bytearray(log_of(tmp_path, 1))
    raw[17] ^= 0x10
    (tmp_path / "x.db-wal").write_bytes(raw)

    with pytest.raises(Corruption):
        wal.check(tmp_path / "x.db-wal")


@pytest.mark.parametrize("lost", [512, 4096])
def test_a_last_commit_of_several_pages_passes_whichever_sectors_of_it_are_missing(
    tmp_path: Path, lost: int
) -> None:
    raw = log_of(tmp_path, 3, pages=4)
    path = tmp_path / "x.db-wal"
    last = ends_of_commits(raw)[-2]
    assert len(raw) - last >= 4 * 4096
    for start in range(last // lost * lost, len(raw), lost):
        # What was on disk before the last commit began stays.
        begin, end = max(start, last), min(start + lost, len(raw))
        path.write_bytes(raw[:begin] + bytes(end - begin) + raw[end:])

        wal.check(path)


def test_a_log_of_many_frames_is_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bytearray(log_of(tmp_path, 12))
    path = tmp_path / "x.db-wal"
    monkeypatch.setattr(wal, "_READ_BYTES", 3 * (24 + 4096))
    path.write_bytes(raw)

    wal.check(path)
    raw[32 + 7 * (24 + 4096) + 100] ^= 1
    path.write_bytes(raw)

    with pytest.raises(Corruption, match=f"byte {32 + 7 * (24 + 4096)} or after"):
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
