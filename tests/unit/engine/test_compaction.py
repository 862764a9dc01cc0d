"""Seals and merges keep what was written meanwhile, in memory and after opening again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import clustered
from tests.support.engines import DOCS, Record, apply, create, found, upsert, vector
from tests.support.inline import open_inline
from vicinal.ann import calibration, quantizer
from vicinal.ann.quantizer import BinaryCodes
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.filters.nodes import Operator, Predicate
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    Floats,
    IndexType,
    MetadataIndex,
    Metric,
    Query,
    Upsert,
    VectorBatch,
)
from vicinal.segment import build

COLOR = MetadataIndex("color", IndexType.STRING)
NUMBER = MetadataIndex("color", IndexType.NUMBER)

Open = Callable[..., EmbeddedEngine]


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Open]:
    """Open the engine of a test, or the same folder again after closing it."""
    opened: list[EmbeddedEngine] = []

    def open_(*, memtable_rows_max: int = 4) -> EmbeddedEngine:
        for each in opened:
            each.close()
        opened.append(open_inline(tmp_path, EngineOptions(memtable_rows_max=memtable_rows_max)))
        return opened[-1]

    yield open_
    opened[-1].close()


def during(
    monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None], *, times: int = 1
) -> list[str]:
    """Run `act` each time a build has written its files and before they are committed."""
    real: Callable[..., Any] = getattr(build, name)
    done: list[str] = []

    def slow(*args: object) -> object:
        result = real(*args)
        if len(done) < times:
            done.append(name)
            act()
        return result

    monkeypatch.setattr(build, name, slow)
    return done


def points(first: int, last: int, color: object = "red") -> list[Record]:
    return [Record(f"v{n}", [n, 0], "n", {"color": color}) for n in range(first, last)]


def colored(engine: EmbeddedEngine, value: str | float) -> set[str]:
    predicate = Predicate("color", Operator.EQ, (value,))
    return set(found(engine, Query(top_k=100, vector=vector(0, 0), filter=(predicate,))))


def ids(first: int, last: int) -> set[str]:
    return {f"v{n}" for n in range(first, last)}


def all_ids(engine: EmbeddedEngine) -> set[str]:
    return set(engine.list(DOCS, 1000, None).ids)


def test_a_column_backfilled_while_a_merge_runs_is_there_after_opening_again(
    monkeypatch: pytest.MonkeyPatch, open_engine: Open
) -> None:
    """A merge writes columns for the metadata indexes there were as it began. One that was
    backfilled during the merge, and whose mutation a seal then removed from the log, was in
    memory alone: after a restart the rows of the merged segment lacked their values."""
    engine = open_engine()
    create(engine)

    def meanwhile() -> None:
        apply(engine, CreateMetadataIndex(COLOR, backfill=True))
        upsert(engine, *points(100, 104))  # fills the memtable, which is sealed

    done = during(monkeypatch, "merge", meanwhile)
    for first in range(0, 16, 4):
        upsert(engine, *points(first, first + 4))

    assert done == ["merge"]
    everyone = ids(0, 16) | ids(100, 104)
    assert colored(engine, "red") == everyone
    assert colored(open_engine(), "red") == everyone


def test_a_metadata_index_made_again_while_a_merge_runs_has_the_new_values_only(
    monkeypatch: pytest.MonkeyPatch, open_engine: Open
) -> None:
    engine = open_engine()
    create(engine)
    apply(engine, CreateMetadataIndex(COLOR))

    def meanwhile() -> None:
        apply(engine, DeleteMetadataIndex("color"))
        apply(engine, CreateMetadataIndex(NUMBER, backfill=True))
        upsert(engine, *points(100, 104, color=7))

    during(monkeypatch, "merge", meanwhile)
    for first in range(0, 16, 4):
        upsert(engine, *points(first, first + 4, color=7 if first < 8 else "red"))

    for _ in range(2):
        assert colored(engine, 7.0) == ids(0, 8) | ids(100, 104)
        assert colored(engine, "red") == set()
        engine = open_engine()


@pytest.mark.parametrize("build_name", ["seal_memtable", "merge"])
def test_rows_deleted_and_replaced_while_files_are_written_stay_so(
    monkeypatch: pytest.MonkeyPatch, open_engine: Open, build_name: str
) -> None:
    engine = open_engine()
    create(engine)

    def meanwhile() -> None:
        apply(engine, Delete(["v1", "v5"]))
        upsert(engine, Record("v2", [50, 0]), Record("v6", [60, 0]))

    done = during(monkeypatch, build_name, meanwhile)
    for first in range(0, 16, 4):
        upsert(engine, *points(first, first + 4))

    assert done == [build_name]
    gone = {"v1"} if build_name == "seal_memtable" else {"v1", "v5"}
    for _ in range(2):
        assert all_ids(engine) == (ids(0, 16) | {"v6"}) - gone
        nearest = found(engine, Query(top_k=100, vector=vector(1000, 0)))
        if build_name == "merge":
            assert nearest[:2] == ["v6", "v2"]
        engine = open_engine()


def test_a_column_begun_while_a_memtable_is_sealed_has_what_came_after_only(
    monkeypatch: pytest.MonkeyPatch, open_engine: Open
) -> None:
    engine = open_engine()
    create(engine)

    def meanwhile() -> None:
        apply(engine, CreateMetadataIndex(COLOR))
        upsert(engine, *points(2, 3))

    during(monkeypatch, "seal_memtable", meanwhile)
    upsert(engine, *points(0, 4))
    upsert(engine, *points(4, 6))

    for _ in range(3):
        assert colored(engine, "red") == {"v2", "v4", "v5"}
        assert all_ids(engine) == ids(0, 6)
        engine.compact(DOCS)
        engine = open_engine()


def test_a_memtable_whose_rows_are_all_dead_makes_no_segment(
    open_engine: Open, tmp_path: Path
) -> None:
    engine = open_engine()
    create(engine)
    upsert(engine, *points(0, 3))
    apply(engine, Delete(["v0", "v1", "v2"]))

    engine.compact(DOCS)

    assert list(tmp_path.glob("indexes/*/segments/*")) == []
    assert engine.status(DOCS).applied_seqno == 2
    assert open_engine().status(DOCS).applied_seqno == 2


def test_segments_whose_rows_are_all_dead_are_merged_away(
    open_engine: Open, tmp_path: Path
) -> None:
    engine = open_engine()
    create(engine)
    upsert(engine, *points(0, 8))
    assert list(tmp_path.glob("indexes/*/segments/*"))

    apply(engine, Delete([f"v{n}" for n in range(8)]))
    engine.compact(DOCS)

    assert list(tmp_path.glob("indexes/*/segments/*")) == []
    assert all_ids(open_engine()) == set()


def test_merged_folders_are_gone_and_what_could_not_be_removed_is_swept(
    open_engine: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    create(engine)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_args, **_options: None)
        for first in range(0, 16, 4):
            upsert(engine, *points(first, first + 4))
    assert len(list(tmp_path.glob("indexes/*/segments/*"))) == 5

    engine = open_engine()
    assert engine.status(DOCS).vector_count == 16

    assert len(list(tmp_path.glob("indexes/*/segments/*"))) == 1


def test_a_merge_that_fails_for_lack_of_space_leaves_everything_as_it_was(
    open_engine: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = open_engine()
    create(engine)

    def full() -> None:
        raise OSError(28, "No space left on device")

    during(monkeypatch, "merge", full)
    for first in range(0, 16, 4):
        upsert(engine, *points(first, first + 4))

    assert "segments of index 'docs' were not merged" in caplog.text
    assert all_ids(engine) == ids(0, 16)
    assert len(list(tmp_path.glob("indexes/*/segments/*"))) == 4
    upsert(engine, *points(16, 20))
    assert len(list(tmp_path.glob("indexes/*/segments/*"))) == 2
    assert all_ids(open_engine()) == ids(0, 20)


def test_codes_are_calibrated_once_though_the_next_memtable_began_before_they_were(
    monkeypatch: pytest.MonkeyPatch, open_engine: Open, tmp_path: Path
) -> None:
    engine = open_engine(memtable_rows_max=quantizer.ROWS_MIN)
    create(engine, dimensions=32)
    values = clustered(2 * quantizer.ROWS_MIN, 32)
    calibrated: list[int] = []
    real = calibration.build

    def counted(rows: Floats, norms: Floats, metric: Metric) -> BinaryCodes | None:
        calibrated.append(len(rows))
        return real(rows, norms, metric)

    def write(first: int) -> None:
        rows = values[first : first + quantizer.ROWS_MIN]
        names = [f"v{row}" for row in range(first, first + len(rows))]
        apply(engine, Upsert(VectorBatch(names, rows, [""] * len(rows), [b""] * len(rows))))

    monkeypatch.setattr(calibration, "build", counted)
    during(monkeypatch, "seal_memtable", lambda: write(quantizer.ROWS_MIN))
    write(0)

    assert engine.status(DOCS).vector_count == len(values)
    assert len(list(tmp_path.rglob("codes"))) == 2
    assert calibrated == [quantizer.ROWS_MIN]
