"""A spool holds few rows in memory and many in a file, which becomes their mutation's or goes."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engines import put
from vicinal.engine import records
from vicinal.engine.payloads import FOLDER, Payloads
from vicinal.engine.spooling import CHUNK_BYTES, Spool
from vicinal.errors import Unavailable
from vicinal.model import Floats, Seqno, Upsert, VectorBatch

DIMENSIONS = 64
CHUNK = CHUNK_BYTES // (4 * DIMENSIONS)  # rows
SEQNO = Seqno(7)

New = Callable[[], Spool]


@pytest.fixture
def payloads(tmp_path: Path) -> Payloads:
    Payloads.create(tmp_path)
    return Payloads(tmp_path)


@pytest.fixture
def closed() -> list[Spool]:
    return []


@pytest.fixture
def new(payloads: Payloads, closed: list[Spool]) -> Iterator[New]:
    opened: list[Spool] = []

    def make() -> Spool:
        opened.append(payloads.spool(DIMENSIONS, closed.append))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def rows(count: int, dimensions: int = DIMENSIONS) -> Floats:
    return np.random.default_rng(count).standard_normal((count, dimensions), dtype=np.float32)


def upsert_of(values: Floats) -> Upsert:
    count = len(values)
    return Upsert(VectorBatch([f"v{n}" for n in range(count)], values, [""] * count, [b""] * count))


def names(folder: Path) -> list[str]:
    return [each.name for each in (folder / FOLDER).iterdir()]


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
def test_rows_come_back_as_they_were_put(new: New, tmp_path: Path, count: int) -> None:
    spool = new()
    put(spool, rows(count))

    assert np.array_equal(spool.values(), rows(count))
    assert len(names(tmp_path)) == (count > CHUNK)


@given(counts=st.lists(st.integers(0, 70), max_size=12), dimensions=st.integers(1, 3))
def test_rows_taken_in_any_portions_come_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], dimensions: int
) -> None:
    folder = tmp_path_factory.mktemp("payloads")
    spool = Spool(folder, dimensions * 16_384, lambda _: None)
    expected = []
    for count in counts:
        free = spool.free()
        taken = min(count, len(free))
        free[:] = -1  # what is not taken is not kept
        free[:taken] = rows(taken, dimensions * 16_384)
        expected.append(free[:taken].copy())
        spool.take(taken)

    assert np.array_equal(spool.values(), np.concatenate([*expected, free_of(spool)]))
    spool.close()
    assert list(folder.iterdir()) == []


def free_of(spool: Spool) -> Floats:
    return spool.values()[:0]


def test_the_file_becomes_that_of_the_mutation(
    new: New, payloads: Payloads, tmp_path: Path
) -> None:
    spool = new()
    put(spool, rows(5 * CHUNK))
    payload = records.encode(upsert_of(spool.values()))

    assert spool.finish(payload)
    assert spool.keep()
    seal = payloads.adopt(SEQNO, spool)
    spool.close()

    assert names(tmp_path) == ["00000007"]
    found = payloads.read(SEQNO, seal)
    assert found == records.encode(upsert_of(rows(5 * CHUNK)))
    extent = payloads.values_of(SEQNO)
    raw = np.fromfile(extent.path, "<f4", 5 * CHUNK * DIMENSIONS, offset=extent.offset)
    assert np.array_equal(raw, rows(5 * CHUNK).reshape(-1))


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_spool_that_is_closed_removes_its_file(
    new: New, tmp_path: Path, closed: list[Spool], is_finished: bool
) -> None:
    spool = new()
    put(spool, rows(2 * CHUNK))
    if is_finished:
        assert spool.finish(records.encode(upsert_of(spool.values())))
    assert len(names(tmp_path)) == 1

    spool.close()

    assert names(tmp_path) == []
    assert closed == [spool]
    assert not spool.keep()


def test_a_spool_that_is_closed_takes_nothing_more(new: New, tmp_path: Path) -> None:
    spool = new()
    put(spool, rows(2 * CHUNK))
    spool.close()

    with pytest.raises(Unavailable, match="given up"):
        put(spool, rows(2 * CHUNK))
    with pytest.raises(Unavailable, match="given up"):
        spool.values()
    assert names(tmp_path) == []


def test_values_outlive_the_file(new: New) -> None:
    spool = new()
    put(spool, rows(3 * CHUNK))
    values = spool.values()

    spool.close()

    assert np.array_equal(values, rows(3 * CHUNK))


@pytest.mark.parametrize(
    "other",
    [
        lambda values: values.copy(),
        lambda values: values[:-1],
        lambda values: values[1:],
        lambda values: values[::-1],
    ],
    ids=["a copy", "too few", "others", "another order"],
)
def test_a_file_without_all_values_of_the_payload_is_not_finished(
    new: New, other: Callable[[Floats], Floats]
) -> None:
    spool = new()
    put(spool, rows(3 * CHUNK))

    assert not spool.finish(records.encode(upsert_of(other(spool.values()))))


def test_few_rows_have_no_file_to_finish(new: New) -> None:
    spool = new()
    put(spool, rows(CHUNK))

    assert not spool.finish(records.encode(upsert_of(spool.values())))


def test_a_disk_that_cannot_be_written_is_said(new: New, tmp_path: Path) -> None:
    spool = new()
    shutil.rmtree(tmp_path / FOLDER)

    with pytest.raises(Unavailable, match=r"cannot use .*\.part"):
        put(spool, rows(2 * CHUNK))
