"""Who may wait for room gets it in time, and nothing is logged for whoever gives up."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.engines import APPLIED_WITHIN_S, DOCS, Record, batch, create, upsert
from vicinal.budget import Budget
from vicinal.engine.compaction import Compaction
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.errors import Error, IndexNotFound, Overloaded, Unavailable
from vicinal.model import Accepted, Delete, IndexAddress, Upsert

OTHER = IndexAddress("acme", "other")
FOREVER = float("inf")


def one(vector_id: str) -> Upsert:
    return Upsert(batch(Record(vector_id, [1, 1])))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@contextmanager
def opened(folder: Path, options: EngineOptions) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine.open(folder, options)
    create(engine)
    yield engine
    engine.close()


class HeldSeal:
    """Seals only when they are let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self._let = threading.Event(), threading.Event()
        real = Compaction.seal

        def seal(compaction: Compaction) -> None:
            self.begun.set()
            assert self._let.wait(APPLIED_WITHIN_S)
            real(compaction)

        monkeypatch.setattr(Compaction, "seal", seal)

    def go_on(self) -> None:
        self._let.set()


class Waiters:
    """Counts those who wait for room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun = threading.Semaphore(0)
        real = Budget.wait_for_change

        def wait_for_change(budget: Budget, seen: int, timeout_s: float) -> bool:
            if timeout_s > 0:
                self._begun.release()
            return real(budget, seen, timeout_s)

        monkeypatch.setattr(Budget, "wait_for_change", wait_for_change)

    def await_one(self) -> None:
        assert self._begun.acquire(timeout=APPLIED_WITHIN_S)


def fill_memtable(engine: EmbeddedEngine, held: HeldSeal) -> None:
    """Leave no room in a memtable of two rows, twice over."""
    for name in "abcd":
        upsert(engine, Record(name, [1, 1]))
    assert held.begun.wait(APPLIED_WITHIN_S)


SMALL_MEMTABLE = EngineOptions(memtable_rows_max=2, memtables_max=2)


def test_a_write_waits_while_the_memtable_is_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, waiters = HeldSeal(monkeypatch), Waiters(monkeypatch)
    with opened(folder, SMALL_MEMTABLE) as engine, ThreadPoolExecutor(1) as pool:
        fill_memtable(engine, held)
        with pytest.raises(Overloaded):
            engine.append(DOCS, one("refused"))

        waiting = pool.submit(engine.append, DOCS, one("e"), wait_s=FOREVER)
        waiters.await_one()
        assert not waiting.done()
        held.go_on()

        accepted = waiting.result(APPLIED_WITHIN_S).result(APPLIED_WITHIN_S)
        assert engine.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)
        assert sorted(each.id for each in engine.get(DOCS, ["e", "refused"])) == ["e"]


def test_a_write_waits_while_the_queue_is_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another index: the queue is one for all. What is delayed needs the order to be free."""
    waiters = Waiters(monkeypatch)
    options = EngineOptions(
        queue_bytes_max=400, visibility_delay_s=2.0
    )  # or nobody would wait on a busy machine
    with opened(folder, options) as engine, ThreadPoolExecutor(1) as pool:
        create(engine, OTHER)
        engine.append(DOCS, Delete(["x" * 300])).result(APPLIED_WITHIN_S)

        waiting = pool.submit(engine.append, OTHER, Delete(["y" * 300]), wait_s=FOREVER)
        waiters.await_one()

        assert waiting.result(APPLIED_WITHIN_S).result(APPLIED_WITHIN_S).seqno == 1


def test_who_has_waited_long_enough_is_refused_and_nothing_is_logged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldSeal(monkeypatch)
    with opened(folder, SMALL_MEMTABLE) as engine:
        fill_memtable(engine, held)

        with pytest.raises(Overloaded, match="faster than it can seal"):
            engine.append(DOCS, one("e"), wait_s=0.05)

        held.go_on()
        engine.compact(DOCS)
        assert engine.status(DOCS).applied_seqno == 4
        assert engine.append(DOCS, one("f")).result(APPLIED_WITHIN_S).seqno == 5


def give_up(engine: EmbeddedEngine) -> None:
    engine.close()


def drop(engine: EmbeddedEngine) -> None:
    engine.delete_index(DOCS)


@pytest.mark.parametrize(
    ("end", "error"), [(give_up, Unavailable), (drop, IndexNotFound)], ids=["close", "drop"]
)
def test_who_waits_for_the_queue_is_told_when_the_index_goes(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[EmbeddedEngine], None],
    error: type[Error],
) -> None:
    waiters = Waiters(monkeypatch)
    options = EngineOptions(queue_bytes_max=400, visibility_delay_s=1000.0)
    engine = EmbeddedEngine.open(folder, options)
    create(engine)
    with ThreadPoolExecutor(1) as pool:
        engine.append(DOCS, Delete(["x" * 300])).result(APPLIED_WITHIN_S)
        waiting = pool.submit(engine.append, DOCS, Delete(["y" * 300]), wait_s=FOREVER)
        waiters.await_one()

        end(engine)

        with pytest.raises(error):
            waiting.result(APPLIED_WITHIN_S)
    engine.close()


def test_an_index_that_fails_lets_nobody_wait(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiters = Waiters(monkeypatch)
    begun, go_on = threading.Event(), threading.Event()

    def fail(_compaction: Compaction) -> None:
        begun.set()
        assert go_on.wait(APPLIED_WITHIN_S)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Compaction, "seal", fail)
    with opened(folder, SMALL_MEMTABLE) as engine, ThreadPoolExecutor(1) as pool:
        for name in "abcd":
            upsert(engine, Record(name, [1, 1]))
        assert begun.wait(APPLIED_WITHIN_S)
        waiting = pool.submit(engine.append, DOCS, one("e"), wait_s=FOREVER)
        waiters.await_one()
        go_on.set()

        with pytest.raises(Unavailable, match="No space left"):
            waiting.result(APPLIED_WITHIN_S)


def test_many_threads_that_load_at_once_all_finish_and_each_in_its_order(folder: Path) -> None:
    options = EngineOptions(memtable_rows_max=20, memtables_max=1, queue_bytes_max=2_000)
    threads, rounds = 12, 30

    def load(engine: EmbeddedEngine, name: int) -> list[Future[Accepted]]:
        return [
            engine.append(
                DOCS,
                Upsert(batch(Record(f"{name}", [turn, 0]), Record(f"{name}-{turn}", [turn, 1]))),
                wait_s=FOREVER,
            )
            for turn in range(rounds)
        ]

    with opened(folder, options) as engine, ThreadPoolExecutor(threads) as pool:
        loaded = [pool.submit(load, engine, name) for name in range(threads)]
        for each in loaded:
            seqnos = [future.result(APPLIED_WITHIN_S).seqno for future in each.result(60)]
            assert seqnos == sorted(seqnos)
        engine.compact(DOCS)

        assert engine.status(DOCS).vector_count == threads * (rounds + 1)
        last = engine.get(DOCS, [f"{name}" for name in range(threads)])
        assert [each.values.tolist() for each in last] == [[rounds - 1, 0]] * threads
