"""A mark says what was last written, or nothing; never anything else."""

from pathlib import Path

from vicinal.storage.watermark import Watermark


def read(path: Path) -> int:
    mark = Watermark(path)
    number = mark.read()
    mark.close()
    return number


def test_a_mark_outlives_its_writer(tmp_path: Path) -> None:
    mark = Watermark(tmp_path / "m")
    assert mark.read() == 0

    for number in (1, 2**40, 7, 2**64 - 1):
        mark.write(number)
        assert mark.read() == read(tmp_path / "m") == number
    mark.close()
    mark.close()


def test_a_mark_that_is_cut_or_flipped_anywhere_says_nothing(tmp_path: Path) -> None:
    mark = Watermark(tmp_path / "m")
    mark.write(12345)
    mark.close()
    raw = (tmp_path / "m").read_bytes()

    for size in range(len(raw)):
        (tmp_path / "m").write_bytes(raw[:size])
        assert read(tmp_path / "m") == 0
    for offset in range(len(raw)):
        for bits in (1, 0xFF):
            flipped = bytearray(raw)
            flipped[offset] ^= bits
            (tmp_path / "m").write_bytes(flipped)
            assert read(tmp_path / "m") == 0


def test_a_mark_of_zeros_says_nothing(tmp_path: Path) -> None:
    # As a file is that a power cut has left with its length alone.
    (tmp_path / "m").write_bytes(bytes(12))

    assert read(tmp_path / "m") == 0
