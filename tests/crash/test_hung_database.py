"""The database hangs (SIGSTOP): every call ends within its bound, and reads go on.

What was under way when it hung is done or not done when it goes on, and says so truly.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import DOCS, Record, batch, create, found, insert, open_shared, vector
from tests.support.postgres import PATIENCE_S, server
from tests.support.waiting import ticking, wait_until
from vicinal.engine.shared import database, filling, session
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.engine import SharedEngine
from vicinal.engine.shared.filling import RowsSnapshot
from vicinal.errors import IndexExists, Unavailable
from vicinal.limits import Limits
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    IndexAddress,
    IndexType,
    MetadataIndex,
    Query,
    Seqno,
    Upsert,
)

DEADLINE_S = 1.0
BOUND_S = 0.5  # of one step at the database while it hangs
SLACK_S = 3.0  # in ticks, of which fewer pass where the machine is busy
SIZE = MetadataIndex("size", IndexType.NUMBER)
OTHER = IndexAddress("acme", "other")
ALL = Query(top_k=100, vector=vector(0, 0))


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Have the database hang while a block runs, in which each step is given up soon."""

    @contextmanager
    def hang() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(database, "CONNECT_TIMEOUT_S", BOUND_S)
            patch.setattr(session, "BEGIN_TIMEOUT_S", BOUND_S)
            patch.setattr(database, "READ_TIMEOUT_S", BOUND_S)
            with server().hanging():
                yield

    return hang


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SharedEngine]:
    """A node with an index of two vectors, which may take its time to write."""
    engine = open_shared(tmp_path, Limits(), tmp_path / "writer", write_deadline_s=PATIENCE_S)
    create(engine)
    insert(engine, Record("a", [1, 1]), Record("b", [2, 2]))
    yield engine
    engine.close()


@pytest.fixture
def engine(tmp_path: Path, writer: SharedEngine) -> Iterator[SharedEngine]:
    """Another node, which may not, with a copy of the index."""
    engine = open_shared(tmp_path, Limits(), write_deadline_s=DEADLINE_S)
    wait_until(lambda: found(engine, ALL) == ["a", "b"])
    yield engine
    engine.close()


def again(call: Callable[[], object]) -> None:
    """Do something that may take longer than a deadline, until it is done in time."""

    def is_done() -> bool:
        with suppress(Unavailable):
            call()
            return True
        return False

    wait_until(is_done)


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes, in ticks."""
    with ticking() as ticks:
        call()
    return ticks.seconds


def refused_within(call: Callable[[], object], bound_s: float) -> None:
    """Check that a call says in time that it is to be tried again later."""
    with ticking() as ticks, pytest.raises(Unavailable) as caught:
        call()
    assert ticks.seconds < bound_s
    assert caught.value.retry_after is not None


def test_reads_from_the_copy_do_not_notice(engine: SharedEngine) -> None:
    with server().hanging():  # whoever asked it would wait for `PATIENCE_S`
        for _ in range(20):
            with ticking() as ticks:
                engine.get_index(DOCS)
                engine.status(DOCS)
                engine.usage()
                engine.wait_applied(DOCS, Seqno(9), 0.0)
                assert [each.id for each in engine.get(DOCS, ["b"])] == ["b"]
                assert found(engine, ALL) == ["a", "b"]
            assert ticks.seconds < SLACK_S


@pytest.mark.parametrize(
    "call",
    [
        lambda engine: create(engine, OTHER),
        lambda engine: engine.delete_index(DOCS),
        lambda engine: engine.list_indexes("acme"),
        lambda engine: engine.get_index(OTHER),
        lambda engine: engine.append(DOCS, Delete(["a"])).result(60),
        lambda engine: engine.list(DOCS, 1, None),
        lambda engine: engine.append(DOCS, CreateMetadataIndex(SIZE)).result(60),
        lambda engine: engine.wait_applied(DOCS, Seqno(1), DEADLINE_S),
        lambda engine: engine.status(OTHER),
    ],
    ids=[
        "create",
        "drop",
        "list indexes",
        "look up",
        "append",
        "list",
        "declare",
        "wait for all nodes",
        "open",
    ],
)
def test_what_needs_the_database_is_refused_in_time_and_works_again_after(
    engine: SharedEngine,
    call: Callable[[SharedEngine], object],
    hang: Callable[[], AbstractContextManager[None]],
) -> None:
    with hang():
        refused_within(lambda: call(engine), DEADLINE_S + 4 * BOUND_S + SLACK_S)

    def write() -> None:
        insert(engine, Record("c", [3, 3]), address=DOCS if call_keeps(engine) else OTHER)

    again(write)


def test_a_strong_query_is_refused_in_time_and_answered_after(
    writer: SharedEngine, tmp_path: Path, hang: Callable[[], AbstractContextManager[None]]
) -> None:
    strong = open_shared(
        tmp_path, Limits(), tmp_path / "strong", is_strong=True, write_deadline_s=DEADLINE_S
    )
    again(lambda: strong.query(DOCS, ALL))
    with hang():
        refused_within(lambda: strong.query(DOCS, ALL), DEADLINE_S + 4 * BOUND_S + SLACK_S)

    again(lambda: strong.query(DOCS, ALL))
    assert found(strong, ALL) == ["a", "b"]
    strong.close()


def call_keeps(engine: SharedEngine) -> bool:
    """Whether there is an index to write to; a drop may have been done after all."""
    if "docs" in [each.name for each in engine.list_indexes("acme")]:
        return True
    with suppress(IndexExists):  # made by the attempt before
        create(engine, OTHER)
    return False


def test_a_write_that_hangs_at_any_moment_is_not_lost_and_not_done_twice(
    engine: SharedEngine, writer: SharedEngine, hang: Callable[[], AbstractContextManager[None]]
) -> None:
    futures = {}
    for number in range(12):
        futures[f"v{number}"] = [
            engine.append(DOCS, Upsert(batch(Record(f"v{number}", [number, place]))))
            for place in range(20)
        ]
        if number % 4 == 3:
            with hang():
                time.sleep(0.02 * number)  # how long it hangs, not what is waited for
    outcomes = {id_: [each.exception(60) for each in made] for id_, made in futures.items()}
    accepted = [
        each.result(0) for made in futures.values() for each in made if not each.exception(0)
    ]
    assert len({each.mutation_id for each in accepted}) == len(accepted)
    last = writer.append(DOCS, Delete(["none"])).result(60)
    assert engine.wait_applied(DOCS, last.seqno, 60)
    for id_, errors in outcomes.items():
        assert all(error is None or isinstance(error, Unavailable) for error in errors)
        if errors[-1] is None:
            (stored,) = engine.get(DOCS, [id_])
            assert stored.values[1] == 19


def test_the_log_is_followed_again_once_the_database_goes_on(
    engine: SharedEngine, writer: SharedEngine, hang: Callable[[], AbstractContextManager[None]]
) -> None:
    with hang():
        time.sleep(0.1)  # how long it hangs
    insert(writer, Record("c", [3, 3]))
    wait_until(lambda: found(engine, ALL) == ["a", "b", "c"])


def test_closing_does_not_wait_for_a_database_that_hangs(
    engine: SharedEngine, hang: Callable[[], AbstractContextManager[None]]
) -> None:
    with hang():
        assert seconds(engine.close) < SLACK_S


@pytest.mark.parametrize("is_asking", [False, True], ids=["between statements", "in a statement"])
def test_a_transaction_that_is_cancelled_does_not_wait_for_a_database_that_hangs(
    is_asking: bool, hang: Callable[[], AbstractContextManager[None]]
) -> None:
    """As those are that follow the log, before connections are cut off."""
    goes_on = asyncio.Event()

    async def work(begun: asyncio.Event) -> None:
        async with lent.transaction(Use.CHECKPOINT) as session:
            begun.set()
            await goes_on.wait()
            await session.fetch("SELECT 1")

    async def begin() -> asyncio.Task[None]:
        begun = asyncio.Event()
        task = asyncio.create_task(work(begun))
        await begun.wait()
        return task

    async def cancel(task: asyncio.Task[None]) -> None:
        if is_asking:
            goes_on.set()
            await asyncio.sleep(0)  # the task asks
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    with closing(PostgresDatabase(server().dsn)) as lent:
        task = lent.run_coroutine(begin())
        with hang():
            assert seconds(lambda: lent.run_coroutine(cancel(task))) < SLACK_S
        with pytest.raises(asyncio.CancelledError):
            task.result()


def test_closing_does_not_wait_for_a_copy_that_is_being_filled(
    writer: SharedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "BATCH_ROWS", 1)
    insert(writer, *(Record(f"v{number}", [number, 1]) for number in range(20)))
    writer.list(DOCS, 1, None)  # which brings the rows up to the log
    other = open_shared(tmp_path, Limits(), tmp_path / "other")
    hung, is_filling = server(), threading.Event()
    upsert = RowsSnapshot._upsert  # noqa: SLF001 - nothing else is between two batches

    def hang_and_go_on(*arguments: Any) -> Upsert:
        if not is_filling.is_set():
            hung.pause()
            is_filling.set()
        return upsert(*arguments)

    monkeypatch.setattr(RowsSnapshot, "_upsert", hang_and_go_on)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(other.status, DOCS)
        try:
            assert is_filling.wait(60)
            assert seconds(other.close) < filling.FILL_TIMEOUTS.statement_s / 2
        finally:
            hung.resume()
        with pytest.raises(Unavailable):
            asking.result(60)
