"""Files of every kind that a system has: plain, pipes, packed again and again, or with a mark."""

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from tests.support.files import COMPRESSED, FORMS
from tests.unit.readers.test_forms import ROWS, ids, read
from vicinal.errors import BadFile
from vicinal.readers import build
from vicinal.readers.base import START, ColumnNames
from vicinal.readers.opening import FileSource


@contextmanager
def piped(path: Path, *parts: bytes) -> Iterator[Path]:
    """A named pipe that gives these parts, each once the one before is read."""
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for part in parts:
                pipe.write(part)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield path
    finally:
        thread.join()


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("form", FORMS)
def test_a_pipe_with_a_name_is_read_once_from_its_beginning(
    tmp_path: Path, form: str, compression: str
) -> None:
    content = COMPRESSED[compression](FORMS[form](ROWS))
    with piped(tmp_path / "pipe", content) as path:
        source = FileSource.open(path)
        try:
            reader = build.reader_of(
                source, build.recognised(source, ColumnNames()), ColumnNames(), 3,
                bytes_max=1 << 20,
            )  # fmt: skip
            batches = list(reader.batches(START, 3))
            source.check_unchanged()
        finally:
            source.close()

    assert len(ids(batches)) == len(ROWS)
    assert source.size is None


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_pipe_whose_writer_begins_with_one_byte_is_recognised(
    tmp_path: Path, compression: str
) -> None:
    content = COMPRESSED[compression](FORMS["ndjson"](ROWS))
    reading, writing = os.pipe()
    os.write(writing, content[:1])
    raw = os.fdopen(reading, "rb")

    def write() -> None:
        os.write(writing, content[1:])
        os.close(writing)

    raw.peek(1)  # what is there is read before the rest comes
    thread = threading.Thread(target=write)
    thread.start()
    try:
        source = FileSource(None, raw)
        reader = build.reader_of(
            source, build.recognised(source, ColumnNames()), ColumnNames(), 3, bytes_max=1 << 20
        )
        assert len([each for batch in reader.batches(START, 3) for each in batch.vectors.ids]) == 8
    finally:
        thread.join()
        raw.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("id,values\n".encode("utf-16"), "text in UTF-16; save it as UTF-8"),
        (b"\x80\x05\x95\x10\0\0\0\0\0\0\0", "a pickle"),
        (b"[[1,2,3],[4,5,6]]", "an array of JSON has objects"),
        (b"[1,2,3]", "an array of JSON has objects"),
        (b'["a"]', "an array of JSON has objects"),
        (b"hello\n", "--id and --vector name others"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(BadFile) as refused:
        read(content, tmp_path)

    assert reason in str(refused.value)


def test_members_of_gzip_are_read_one_after_the_other(tmp_path: Path) -> None:
    parts = [FORMS["ndjson"](ROWS[:3]), FORMS["ndjson"](ROWS[3:])]

    assert len(ids(read(b"".join(map(gzip.compress, parts)), tmp_path))) == len(ROWS)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_other_bytes_after_compressed_data_are_named(tmp_path: Path, compression: str) -> None:
    content = COMPRESSED[compression](FORMS["ndjson"](ROWS))

    with pytest.raises(BadFile, match=f"its {compression} data is (damaged|cut off)"):
        read(content + b"garbage", tmp_path)


def test_zstd_may_begin_with_a_frame_that_is_skipped(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    content = skipped + zstandard.compress(FORMS["ndjson"](ROWS))

    assert len(ids(read(content, tmp_path))) == len(ROWS)
