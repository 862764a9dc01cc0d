"""A writer holds few rows in memory and many in a file, which becomes their mutation's or goes."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engines import put
from vicinal.engine import records
from vicinal.engine.blob_files import CHUNK_BYTES, FOLDER, BlobBatch, BlobFiles, BlobWriter
from vicinal.engine.records import LogRecord
from vicinal.errors import Unavailable
from vicinal.model import Floats, Insert, Seqno, Upsert, VectorBatch
from vicinal.segment.arena import FILE_OFFSET

DIMENSIONS = 64
CHUNK = CHUNK_BYTES // (4 * DIMENSIONS)  # rows
SEQNO = Seqno(7)

New = Callable[[], BlobWriter]


@pytest.fixture
def files(tmp_path: Path) -> BlobFiles:
    BlobFiles.create(tmp_path)
    return BlobFiles(tmp_path)


@pytest.fixture
def new(files: BlobFiles) -> Iterator[New]:
    opened: list[BlobWriter] = []

    def make() -> BlobWriter:
        opened.append(BlobWriter(files, DIMENSIONS))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def rows(count: int, dimensions: int = DIMENSIONS) -> Floats:
    return np.random.default_rng(count).standard_normal((count, dimensions), dtype=np.float32)


def batch_of(writer: BlobWriter, count: int) -> VectorBatch:
    return writer.batch([f"v{n}" for n in range(count)], [""] * count, [b""] * count)


def upserted(writer: BlobWriter, count: int) -> LogRecord:
    """Put rows and return the record of their upsert."""
    put(writer, rows(count))
    return records.encode(Upsert(batch_of(writer, count)))


def names(folder: Path) -> list[str]:
    return [each.name for each in (folder / FOLDER).iterdir()]


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
def test_rows_come_back_as_they_were_put(new: New, tmp_path: Path, count: int) -> None:
    writer = new()
    put(writer, rows(count))
    batch = batch_of(writer, count)

    assert np.array_equal(batch.values, rows(count))
    assert len(batch) == count
    assert isinstance(batch, BlobBatch) == (count > CHUNK)
    assert len(names(tmp_path)) == (count > CHUNK)


@given(counts=st.lists(st.integers(0, 70), max_size=12), dimensions=st.integers(1, 3))
def test_rows_taken_in_any_portions_come_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], dimensions: int
) -> None:
    folder = tmp_path_factory.mktemp("index")
    BlobFiles.create(folder)
    writer = BlobWriter(BlobFiles(folder), dimensions * 16_384)
    expected = [np.empty((0, dimensions * 16_384), np.float32)]
    for count in counts:
        free = writer.free()
        taken = min(count, len(free))
        free[:] = -1  # what is not taken is not kept
        free[:taken] = rows(taken, dimensions * 16_384)
        expected.append(free[:taken].copy())
        writer.advance(taken)

    assert np.array_equal(
        batch_of(writer, sum(map(len, expected))).values, np.concatenate(expected)
    )
    writer.close()
    assert names(folder) == []


def test_the_file_becomes_that_of_the_mutation(new: New, files: BlobFiles, tmp_path: Path) -> None:
    writer = new()
    record = upserted(writer, 5 * CHUNK)

    assert writer.finish(record)
    assert writer.keep()
    seal = files.adopt(SEQNO, writer)
    writer.close()

    assert names(tmp_path) == ["00000007"]
    assert files.read(SEQNO, seal) == record
    raw = np.fromfile(files.path(SEQNO), "<f4", 5 * CHUNK * DIMENSIONS, offset=FILE_OFFSET)
    assert np.array_equal(raw, rows(5 * CHUNK).reshape(-1))


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_writer_that_is_closed_removes_its_file(
    new: New, tmp_path: Path, is_finished: bool
) -> None:
    writer = new()
    record = upserted(writer, 2 * CHUNK)
    if is_finished:
        assert writer.finish(record)
    assert len(names(tmp_path)) == 1

    writer.close()

    assert names(tmp_path) == []
    assert not writer.finish(record)
    assert not writer.keep()


def test_a_writer_that_is_closed_takes_nothing_more(new: New, tmp_path: Path) -> None:
    writer = new()
    put(writer, rows(2 * CHUNK))
    writer.close()

    with pytest.raises(Unavailable, match="given up"):
        put(writer, rows(2 * CHUNK))
    with pytest.raises(Unavailable, match="given up"):
        batch_of(writer, 2 * CHUNK)
    assert names(tmp_path) == []


def test_values_outlive_the_file(new: New) -> None:
    writer = new()
    put(writer, rows(3 * CHUNK))
    batch = batch_of(writer, 3 * CHUNK)

    writer.close()

    assert np.array_equal(batch.values, rows(3 * CHUNK))


def test_a_file_is_that_of_one_record_alone(new: New) -> None:
    writer = new()
    put(writer, rows(2 * CHUNK))
    batch = batch_of(writer, 2 * CHUNK)
    record = records.encode(Upsert(batch))

    assert writer.finish(record)
    assert writer.finish(record)  # it was refused, and is tried again
    assert not writer.finish(records.encode(Insert(batch)))
    assert writer.keep()
    assert not writer.finish(record)


def test_a_disk_that_cannot_be_written_is_said(new: New, tmp_path: Path) -> None:
    writer = new()
    shutil.rmtree(tmp_path / FOLDER)

    with pytest.raises(Unavailable, match=r"cannot use .*\.part"):
        put(writer, rows(2 * CHUNK))
