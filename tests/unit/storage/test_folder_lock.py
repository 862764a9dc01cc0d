"""One process at a time has a data folder; asking whether one has it takes nothing."""

import os
from pathlib import Path

import pytest

from vicinal.errors import Unavailable
from vicinal.storage import folder_lock
from vicinal.storage.folder_lock import LockHolder


def test_a_folder_is_locked_once_until_it_is_unlocked(tmp_path: Path) -> None:
    lock = folder_lock.acquire(tmp_path)
    try:
        with pytest.raises(Unavailable, match="is in use by another process"):
            folder_lock.acquire(tmp_path)
    finally:
        lock.close()

    folder_lock.acquire(tmp_path).close()


def test_asking_takes_no_lock(tmp_path: Path) -> None:
    assert not folder_lock.is_held(tmp_path)  # never opened

    lock = folder_lock.acquire(tmp_path)
    assert folder_lock.is_held(tmp_path)
    lock.close()

    assert not folder_lock.is_held(tmp_path)
    folder_lock.acquire(tmp_path).close()


def test_the_lock_says_which_process_has_it_and_where_its_server_answers(tmp_path: Path) -> None:
    assert folder_lock.holder(tmp_path) is None

    lock = folder_lock.acquire(tmp_path)
    try:
        assert folder_lock.holder(tmp_path) == LockHolder(os.getpid())
        folder_lock.describe_server(tmp_path, "http://127.0.0.1:8790", "1.2")
        described = LockHolder(os.getpid(), "http://127.0.0.1:8790", "1.2")
        assert folder_lock.holder(tmp_path) == described
    finally:
        lock.close()

    assert folder_lock.holder(tmp_path) is None
    folder_lock.acquire(tmp_path).close()


def test_the_next_process_says_nothing_of_the_server_before(tmp_path: Path) -> None:
    folder_lock.acquire(tmp_path).close()
    folder_lock.describe_server(tmp_path, "http://127.0.0.1:8790", "1.2")

    lock = folder_lock.acquire(tmp_path)

    assert folder_lock.holder(tmp_path) == LockHolder(os.getpid())
    lock.close()


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b'{"process": "x"}', b'{"process": -1}', b'{"process": 0}',
             b'{"process": 99999999999999999999}', b'{"process": 4194305}', b"0" * 10_000],
)  # fmt: skip
def test_a_lock_that_does_not_say_is_held_all_the_same(tmp_path: Path, text: bytes) -> None:
    lock = folder_lock.acquire(tmp_path)
    (tmp_path / "lock").write_bytes(text)

    assert folder_lock.holder(tmp_path) is None
    assert folder_lock.is_held(tmp_path)
    lock.close()
