"""What an index does in the background, or for somebody who waits, is given up when it is closed:
nothing that was acknowledged is lost, and nothing half done is left.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.support.engines import DOCS, Record, apply, create, upsert
from tests.support.holding import Held
from tests.support.waiting import wait_until
from vicinal.engine.compactor import Compactor
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.errors import Error
from vicinal.keywords.analyzer import Analyzer
from vicinal.model import CreateMetadataIndex, IndexType, MetadataIndex
from vicinal.segment import build, row_index
from vicinal.segment.ids import IdTable

ROWS = 4  # of a memtable
TEXT = MetadataIndex("text", IndexType.TEXT, "english")


def open_engine(folder: Path, rows: int = ROWS) -> EmbeddedEngine:
    return EmbeddedEngine.open(folder, EngineOptions(memtable_rows_max=rows, idle_s=1e6))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    with closing(open_engine(tmp_path)) as opened:
        create(opened)
        yield opened


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def is_interrupted(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once an index is told to end its work in the background."""
    event, real = threading.Event(), Compactor.interrupt

    def interrupt(compactor: Compactor) -> None:
        real(compactor)
        event.set()

    monkeypatch.setattr(Compactor, "interrupt", interrupt)
    return event


def points(first: int, count: int) -> list[Record]:
    return [Record(f"v{n}", [n, 0], "", {"text": f"word {n}"}) for n in range(first, first + count)]


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("indexes/*/segments/*"))


def has_segments(folder: Path, count: int) -> bool:
    return len(segments(folder)) == count


def ids(engine: EmbeddedEngine) -> set[str]:
    return set(engine.list(DOCS, 1_000, None).ids)


def close(engine: EmbeddedEngine) -> None:
    engine.close()


def delete(engine: EmbeddedEngine) -> None:
    engine.delete_index(DOCS)


End = Callable[[EmbeddedEngine], None]


@pytest.mark.parametrize("end", [close, delete])
def test_a_merge_is_given_up(
    tmp_path: Path,
    engine: EmbeddedEngine,
    threads: ThreadPoolExecutor,
    is_interrupted: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    end: End,
) -> None:
    held = Held(monkeypatch, IdTable, "merged")
    built = Held(monkeypatch, row_index, "build")
    built.go_on()
    for number in range(4):
        upsert(engine, *points(number * ROWS, ROWS))
        wait_until(partial(has_segments, tmp_path, number + 1))
    held.wait()
    before = segments(tmp_path)
    assert len(before) == 4
    sealed_count = built.call_count

    ending = threads.submit(end, engine)
    assert is_interrupted.wait(60)
    held.go_on()
    ending.result(60)

    assert built.call_count == sealed_count
    engine.close()
    if end is close:
        assert segments(tmp_path) == before
        with closing(open_engine(tmp_path)) as again:
            assert ids(again) == {f"v{n}" for n in range(4 * ROWS)}
    else:
        assert segments(tmp_path) == []


def housekeepers() -> int:
    return sum(thread.name == "vicinal-housekeeper" for thread in threading.enumerate())


def test_an_index_that_is_being_opened_is_given_up(
    tmp_path: Path,
    engine: EmbeddedEngine,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its log has a metadata index whose columns are made as it is replayed."""
    engine.close()
    with closing(open_engine(tmp_path, rows=1_000)) as made:
        upsert(made, *points(0, 40))
        made.compact(DOCS)
        apply(made, CreateMetadataIndex(TEXT, backfill=True))
    monkeypatch.setattr(build, "CHUNK_ROWS", 1)
    held = Held(monkeypatch, Analyzer, "terms")
    before = housekeepers()
    again = open_engine(tmp_path, rows=1_000)
    opening: Future[object] = threads.submit(again.status, DOCS)
    held.wait()

    ending = threads.submit(again.close)
    wait_until(lambda: housekeepers() == before)  # from then on it is closed to others
    held.go_on()
    ending.result(60)

    with pytest.raises(Error, match="closed"):
        opening.result(60)
    assert held.call_count == 1
    monkeypatch.undo()
    with closing(open_engine(tmp_path)) as third:
        assert list(third.list_metadata_indexes(DOCS)) == [TEXT]
        assert third.status(DOCS).vector_count == 40
