"""A component file is read back as it was written, or refused by name; never half of either."""

import mmap
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vicinal.errors import Corruption
from vicinal.storage import files
from vicinal.storage.files import BLOCK_BYTES, ComponentFile, ComponentWriter, Seal

KIND = "things"
ARRAYS: dict[str, NDArray[Any]] = {
    "floats": np.arange(12, dtype=np.float32).reshape(4, 3),
    "numbers": np.array([-1, 2**40], np.int64),
    "none": np.empty((0, 7), np.uint64),
    "flags": np.array([True, False, True]),
}


def read_all(path: Path, seal: Seal, names: Sequence[str] = tuple(ARRAYS)) -> None:
    opened = ComponentFile(path, KIND, seal)
    for name in names:
        opened[name]


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    seal = files.write(tmp_path / "f", KIND, ARRAYS)

    opened = ComponentFile(tmp_path / "f", KIND, seal)

    for name, array in ARRAYS.items():
        found = opened[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()
        assert found.ctypes.data % 64 == 0 or not found.size
        assert not found.flags.writeable
    assert "floats" in opened
    assert "others" not in opened


def test_chunks_make_up_the_array_that_one_write_makes(tmp_path: Path) -> None:
    whole = np.arange(3000, dtype=np.float32).reshape(300, 10)

    one = files.write(tmp_path / "one", KIND, {"a": whole})
    with ComponentWriter(tmp_path / "many", KIND) as writer:
        chunks = (whole[start : start + 7] for start in range(0, 300, 7))
        writer.add_chunks("a", np.float32, whole.shape, chunks)

    assert (tmp_path / "many").read_bytes() == (tmp_path / "one").read_bytes()
    assert writer.seal == one


def test_chunks_of_another_layout_in_memory_are_written_row_by_row(tmp_path: Path) -> None:
    across = np.asfortranarray(np.arange(12, dtype=">f4").reshape(3, 4))

    seal = files.write(tmp_path / "f", KIND, {"a": across})

    found = ComponentFile(tmp_path / "f", KIND, seal)["a"]
    assert found.tolist() == across.tolist()
    assert found.dtype == np.dtype("<f4")


def test_chunks_that_do_not_make_up_the_shape_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a do not make up"), ComponentWriter(
        tmp_path / "f", KIND
    ) as writer:  # fmt: skip
        writer.add_chunks("a", np.float32, (3, 2), [np.zeros((2, 2), np.float32)])


def test_a_file_without_arrays_is_a_file(tmp_path: Path) -> None:
    seal = files.write(tmp_path / "f", KIND, {})

    assert "a" not in ComponentFile(tmp_path / "f", KIND, seal)


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    files.write(tmp_path / "f", KIND, ARRAYS)

    with pytest.raises(FileExistsError):
        files.write(tmp_path / "f", KIND, ARRAYS)


def test_the_bytes_are_on_disk_before_there_is_a_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, bool]] = []
    writer = ComponentWriter(tmp_path / "f", KIND)

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, hasattr(writer, "seal")))

    monkeypatch.setattr(files, "sync", sync)
    with writer:
        writer.add("a", np.arange(10))

    assert synced == [(writer.seal.size, False)]


def test_a_cut_at_every_length_is_noticed_and_named(tmp_path: Path) -> None:
    seal = files.write(tmp_path / "whole", KIND, ARRAYS)
    raw = (tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"

    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(Corruption, match=f"{path} has {length} bytes, but {len(raw)} were"):
            ComponentFile(path, KIND, seal)


def test_bytes_behind_the_end_are_noticed(tmp_path: Path) -> None:
    seal = files.write(tmp_path / "f", KIND, ARRAYS)
    with (tmp_path / "f").open("ab") as file:
        file.write(b"\0")

    with pytest.raises(Corruption, match="f has"):
        ComponentFile(tmp_path / "f", KIND, seal)


@pytest.mark.parametrize("bits", [0x01, 0xFF])
def test_a_flip_of_every_byte_is_noticed_and_named(tmp_path: Path, bits: int) -> None:
    seal = files.write(tmp_path / "whole", KIND, ARRAYS)
    raw = (tmp_path / "whole").read_bytes()
    path = tmp_path / "flipped"

    for offset in range(len(raw)):
        flipped = bytearray(raw)
        flipped[offset] ^= bits
        path.write_bytes(flipped)
        with pytest.raises(Corruption, match=str(path)):
            read_all(path, seal)


def test_two_bytes_that_change_places_are_noticed(tmp_path: Path) -> None:
    seal = files.write(tmp_path / "f", KIND, ARRAYS)
    raw = bytearray((tmp_path / "f").read_bytes())
    at = raw.index(np.float32(1.0).tobytes())
    raw[at : at + 8] = raw[at + 4 : at + 8] + raw[at : at + 4]
    (tmp_path / "f").write_bytes(raw)

    with pytest.raises(Corruption, match="f is damaged between bytes 0 and"):
        read_all(tmp_path / "f", seal)


def test_another_whole_file_under_the_same_name_is_refused(tmp_path: Path) -> None:
    seal = files.write(tmp_path / "mine", KIND, {"a": np.arange(5)})
    files.write(tmp_path / "other", KIND, {"a": np.arange(5) * 2})

    with pytest.raises(Corruption, match="footer"):
        ComponentFile(tmp_path / "other", KIND, seal)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    seal = files.write(tmp_path / "f", KIND, ARRAYS)

    with pytest.raises(Corruption, match="'things' in format 1, not 'stuff'"):
        ComponentFile(tmp_path / "f", "stuff", seal)


def test_a_file_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files, "FORMAT_VERSION", 2)
        seal = files.write(tmp_path / "f", KIND, ARRAYS)

    with pytest.raises(Corruption, match="in format 2, not 'things' in format 1"):
        ComponentFile(tmp_path / "f", KIND, seal)


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(Corruption, match=f"{tmp_path / 'f'} is missing"):
        ComponentFile(tmp_path / "f", KIND, Seal(100, 0))


# Large files: blocks are verified before first use, not on opening.

ROW_BYTES = 100_000  # rows lie across the borders of blocks
ROWS = 40


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Seal]:
    """A file that opening does not verify, of 40 rows in `a` and a few bytes in `b`."""
    monkeypatch.setattr(files, "VERIFIED_AT_OPEN_BYTES_MAX", BLOCK_BYTES)
    rows = np.random.default_rng(1).integers(0, 255, (ROWS, ROW_BYTES), np.uint8)
    path = tmp_path / "large"
    return path, files.write(path, KIND, {"a": rows, "b": np.arange(3)})


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def start_of_rows(path: Path, seal: Seal) -> int:
    first = ComponentFile(path, KIND, seal).unverified_array("a")[0].tobytes()
    return path.read_bytes().index(first)


def test_a_file_that_does_not_say_how_large_its_blocks_are_has_those_of_old(
    large: tuple[Path, Seal],
) -> None:
    path, seal = large
    path.unlink()
    rows = np.arange(ROWS * ROW_BYTES, dtype=np.uint8).reshape(ROWS, ROW_BYTES)
    with ComponentWriter(path, KIND, 1 << 18) as writer:
        writer.add("a", rows)
    seal = writer.seal
    length = int.from_bytes(path.read_bytes()[-16:-12], "little")
    trailer = path.read_bytes()[-16 - length : -16]
    old = trailer.replace(b',"block_bytes":262144', b"")
    assert len(old) < length
    seal = Seal(seal.size - length + len(old), zlib.crc32(old))
    footer = len(old).to_bytes(4, "little") + seal.checksum.to_bytes(4, "little")
    path.write_bytes(path.read_bytes()[: -16 - length] + old + footer + path.read_bytes()[-8:])

    opened = ComponentFile(path, KIND, seal)

    assert np.array_equal(opened["a"], rows)
    opened.verify_all()
    flip(path, seal.size - 16 - len(old) - 1)
    with pytest.raises(Corruption, match=str(path)):
        ComponentFile(path, KIND, seal).verify_all()


def test_where_the_system_takes_no_advice_all_is_read_and_checked_the_same(
    large: tuple[Path, Seal], monkeypatch: pytest.MonkeyPatch
) -> None:
    for advice in ("MADV_RANDOM", "MADV_WILLNEED"):
        monkeypatch.delattr(mmap, advice, raising=False)
    path, seal = large
    opened = ComponentFile(path, KIND, seal)
    rows = opened.unverified_array("a")

    opened.read_ahead("a", 0, ROWS)
    opened.verify_rows("a", np.array([3, 17]))

    assert np.array_equal(rows, opened["a"])


def test_rows_may_be_read_ahead_to_the_very_end_of_a_file(large: tuple[Path, Seal]) -> None:
    path, seal = large
    opened = ComponentFile(path, KIND, seal)

    opened.read_ahead("a", ROWS - 1, ROWS)
    opened.read_ahead("b", 0, 3)
    opened.read_ahead("b", 3, 3)

    assert opened["b"].tolist() == [0, 1, 2]


def test_a_file_tells_how_much_of_it_has_not_been_verified(large: tuple[Path, Seal]) -> None:
    path, seal = large
    opened = ComponentFile(path, KIND, seal)
    before = opened.unverified_bytes

    opened.verify_rows("a", np.array([3]))

    assert before >= ROWS * ROW_BYTES
    assert before - 2 * BLOCK_BYTES - ROW_BYTES <= opened.unverified_bytes < before
    opened.verify_all()
    assert opened.unverified_bytes == 0


def test_opening_a_large_file_reads_none_of_its_blocks(large: tuple[Path, Seal]) -> None:
    path, seal = large
    flip(path, 5 * BLOCK_BYTES)

    opened = ComponentFile(path, KIND, seal)

    assert not opened.is_verified
    with pytest.raises(Corruption, match=str(path)):
        opened["a"]


def verify_one_row(opened: ComponentFile, row: int) -> None:
    opened.verify_rows("a", np.array([row]))


def verify_slice_of_one(opened: ComponentFile, row: int) -> None:
    opened.verify_slice("a", row, row + 1)


@pytest.mark.parametrize("verify", [verify_one_row, verify_slice_of_one])
def test_verifying_a_row_notices_damage_to_its_first_and_last_byte(
    large: tuple[Path, Seal], verify: Callable[[ComponentFile, int], None]
) -> None:
    path, seal = large
    start = start_of_rows(path, seal)
    for row in (0, 2, 17, ROWS - 1):
        for offset in (start + row * ROW_BYTES, start + (row + 1) * ROW_BYTES - 1):
            flip(path, offset)

            with pytest.raises(Corruption, match=str(path)):
                verify(ComponentFile(path, KIND, seal), row)

            flip(path, offset)
            verify(ComponentFile(path, KIND, seal), row)


def test_damage_in_the_second_block_of_a_short_row_is_noticed_where_the_first_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "VERIFIED_AT_OPEN_BYTES_MAX", BLOCK_BYTES)
    row_bytes = BLOCK_BYTES // 4 + 1  # shorter than a block, across the borders of some
    rows = np.random.default_rng(2).integers(0, 255, (40, row_bytes), np.uint8)
    path = tmp_path / "short"
    seal = files.write(path, KIND, {"a": rows})
    start = start_of_rows(path, seal)
    ends = start + row_bytes * np.arange(1, 41)
    across = int(np.flatnonzero(ends // BLOCK_BYTES > (ends - row_bytes) // BLOCK_BYTES)[1])
    opened = ComponentFile(path, KIND, seal)
    opened.verify_rows("a", np.array([across - 1]))
    verified, _, _ = opened.blocks("a")
    first = (start + across * row_bytes) // BLOCK_BYTES
    assert verified[first]
    assert not verified[first + 1]

    flip(path, start + (across + 1) * row_bytes - 1)

    with pytest.raises(Corruption, match=str(path)):
        opened.verify_rows("a", np.array([across]))


def test_verifying_a_row_leaves_far_damage_for_whoever_reads_it(large: tuple[Path, Seal]) -> None:
    path, seal = large
    flip(path, start_of_rows(path, seal) + 30 * ROW_BYTES)
    opened = ComponentFile(path, KIND, seal)

    opened.verify_rows("a", np.array([20, 3, 3]))
    opened.verify_rows("a", np.empty(0, np.int64))
    opened.verify_slice("a", 0, 20)
    opened.verify_slice("a", 30, 30)

    with pytest.raises(Corruption):
        opened.verify_rows("a", np.array([3, 30]))
    with pytest.raises(Corruption):
        opened.verify_all()
    assert not opened.is_verified


def test_rows_longer_than_a_block_are_verified_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "VERIFIED_AT_OPEN_BYTES_MAX", 0)
    row_bytes = 3 * BLOCK_BYTES + 11
    path = tmp_path / "f"
    seal = files.write(path, KIND, {"a": np.zeros((3, row_bytes), np.uint8)})
    for inside in (0, BLOCK_BYTES, 2 * BLOCK_BYTES + 5, row_bytes - 1):
        flip(path, 64 + row_bytes + inside)

        with pytest.raises(Corruption):
            ComponentFile(path, KIND, seal).verify_rows("a", np.array([1]))

        flip(path, 64 + row_bytes + inside)


def test_verifying_all_can_be_stopped_and_goes_on_where_it_stopped(
    large: tuple[Path, Seal],
) -> None:
    path, seal = large
    opened = ComponentFile(path, KIND, seal)
    asked = iter([False, False, True])

    opened.verify_all(lambda: next(asked))
    assert not opened.is_verified

    flip(path, 10)  # of a block that has been verified
    opened.verify_all()
    assert opened.is_verified


def test_the_last_block_is_as_guarded_as_the_others(large: tuple[Path, Seal]) -> None:
    path, seal = large
    flip(path, path.read_bytes().rindex(np.arange(3).tobytes()))

    with pytest.raises(Corruption):
        ComponentFile(path, KIND, seal)["b"]


# Names


def test_publishing_syncs_the_inside_before_the_rename_and_the_parent_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.tmp").mkdir()
    inside, parent = ((tmp_path / name).stat().st_ino for name in ("x.tmp", "."))
    steps: list[tuple[int, bool]] = []

    def sync(descriptor: int) -> None:
        steps.append((os.fstat(descriptor).st_ino, (tmp_path / "x").exists()))

    monkeypatch.setattr(files, "sync", sync)
    files.publish(tmp_path / "x.tmp", tmp_path / "x")

    assert steps == [(inside, False), (parent, True)]
    assert not (tmp_path / "x.tmp").exists()
