"""One process at a time has a data folder; asking whether one has it takes nothing."""

import os
from pathlib import Path

import pytest

from vicinal.errors import Unavailable
from vicinal.storage import folder_lock


def test_a_folder_is_locked_once_until_it_is_unlocked(tmp_path: Path) -> None:
    descriptor = folder_lock.acquire(tmp_path)
    try:
        with pytest.raises(Unavailable, match="is in use by another process"):
            folder_lock.acquire(tmp_path)
    finally:
        os.close(descriptor)

    os.close(folder_lock.acquire(tmp_path))


def test_asking_takes_no_lock(tmp_path: Path) -> None:
    assert not folder_lock.is_held(tmp_path)  # never opened

    descriptor = folder_lock.acquire(tmp_path)
    assert folder_lock.is_held(tmp_path)
    os.close(descriptor)

    assert not folder_lock.is_held(tmp_path)
    os.close(folder_lock.acquire(tmp_path))
