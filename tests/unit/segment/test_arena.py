"""A arena shows rows of a file in place of its own, or says that they must be copied."""

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from vicinal.model import Floats
from vicinal.segment import arena as room_module
from vicinal.segment.arena import FILE_OFFSET, MappedArena

DIMENSIONS = mmap.PAGESIZE // 16  # four rows fill a page


def stored(path: Path, count: int, *, dimensions: int = DIMENSIONS) -> tuple[Floats, Path]:
    values = np.random.default_rng(count).standard_normal((count, dimensions), dtype=np.float32)
    path.write_bytes(bytes(FILE_OFFSET) + values.tobytes())
    return values, path


def test_rows_of_a_file_are_shown_from_the_next_page_on(tmp_path: Path) -> None:
    arena = MappedArena(200, DIMENSIONS)
    arena.values[:6] = 7
    values, path = stored(tmp_path / "a", 64)

    assert arena.map_file(6, 64, path) == 8

    assert np.array_equal(arena.values[8:72], values)
    assert (arena.values[:6] == 7).all()
    assert (arena.values[6:8] == 0).all()
    assert (arena.values[72:] == 0).all()


def test_rows_stay_when_their_file_is_removed(tmp_path: Path) -> None:
    arena = MappedArena(100, DIMENSIONS)
    values, path = stored(tmp_path / "a", 64)
    arena.map_file(0, 64, path)

    path.unlink()

    assert np.array_equal(arena.values[:64], values)


def test_rows_take_no_memory_of_their_own(tmp_path: Path) -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("this system does not say what memory a process has of its own")
    count = (32 << 20) // (DIMENSIONS * 4)
    arena = MappedArena(count, DIMENSIONS)
    values, path = stored(tmp_path / "a", count)
    before = own_bytes()

    assert arena.map_file(0, count, path) == 0
    assert arena.values.sum() == values.sum()

    assert own_bytes() - before < 4 << 20


def own_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


def test_rows_that_begin_at_no_page_are_to_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where pages are longer."""
    arena = MappedArena(200, DIMENSIONS)
    _, path = stored(tmp_path / "a", 64)
    monkeypatch.setattr(room_module, "FILE_OFFSET", FILE_OFFSET + DIMENSIONS * 4)

    assert arena.map_file(0, 63, path) is None
    assert (arena.values == 0).all()


def test_rows_are_copied_where_too_many_before_them_would_stay_unused(tmp_path: Path) -> None:
    arena = MappedArena(200, 3)
    _, path = stored(tmp_path / "a", 100, dimensions=3)

    assert arena.map_file(1, 100, path) is None
    assert (arena.values == 0).all()


def test_rows_are_copied_where_they_would_not_fit(tmp_path: Path) -> None:
    arena = MappedArena(66, DIMENSIONS)
    _, path = stored(tmp_path / "a", 64)

    assert arena.map_file(1, 64, path) is None
    assert arena.map_file(0, 64, path) == 0


def test_rows_are_copied_when_their_file_cannot_be_opened(tmp_path: Path) -> None:
    assert MappedArena(200, DIMENSIONS).map_file(0, 64, tmp_path / "none") is None


def test_rows_are_copied_where_the_system_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = stored(tmp_path / "a", 64)
    monkeypatch.setattr(sys, "platform", "another")

    assert MappedArena(200, DIMENSIONS).map_file(0, 64, path) is None
