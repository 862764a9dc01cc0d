"""Searches that run beside the event loop give the answers that they give in it, whatever
becomes of their callers, of the index and of the server meanwhile."""

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.support.asgi import INDEXES, Conversation, Received, call, received
from tests.support.clusters import clustered
from tests.support.embedder import TinyEmbedder
from tests.support.engines import DOCS, Record, apply, create, upsert
from vicinal.d1 import Databases
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.model import Floats, Upsert, VectorBatch
from vicinal.native.library import library
from vicinal.native.pool import SearchPool, SearchTask
from vicinal.native.structures import PoolTask
from vicinal.prepared import Prepared
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App, build
from vicinal.server.offload import ALONE_S, ClientTracker, SearchOffload
from vicinal.tokens import Tokens

needs_library = pytest.mark.skipif(
    library() is None, reason="THE COMPILED SEARCH WAS NOT BUILT: there is no C compiler"
)

QUERY = f"{INDEXES}/docs/query"
ROWS = 9_000
VALUES = clustered(ROWS + 64, 64)
QUERIES = VALUES[ROWS:]


class Held(SearchTask):
    """A task that a test's pool holds."""

    def __init__(self) -> None:
        self.structure = PoolTask()
        self.was_run = False

    def run(self) -> None:
        self.was_run = True


@dataclass
class HoldingPool(SearchPool):
    """A pool that a test tells when its tasks are done."""

    room: int
    descriptor: int = -1
    held: list[tuple[SearchTask, Callable[[], None]]] = field(default_factory=list)

    def put(self, task: SearchTask, on_done: Callable[[], None]) -> bool:
        if len(self.held) == self.room:
            return False
        self.held.append((task, on_done))
        return True

    def collect(self) -> None:
        held, self.held = self.held, []
        for task, on_done in held:
            task.run()
            task.structure.cpu_seconds = 0.5
            on_done()

    def close(self) -> None:
        pass


def work(tasks: list[Held]) -> Prepared[str]:
    def finish() -> str:
        assert all(task.was_run for task in tasks)
        return "done"

    return Prepared(finish, tasks)


def watching(pool: HoldingPool) -> SearchOffload:
    """Return an offload that need not be told by a file descriptor."""
    offload = SearchOffload(pool)
    offload._loop = asyncio.get_running_loop()  # noqa: SLF001
    return offload


def test_the_loop_goes_on_while_tasks_are_done_and_does_what_the_pool_will_not_take() -> None:
    async def main() -> None:
        pool, tasks = HoldingPool(room=2), [Held(), Held(), Held()]
        running = asyncio.ensure_future(watching(pool).run(lambda: work(tasks), str.upper))
        await asyncio.sleep(0)

        assert not running.done()
        assert [each.was_run for each in tasks] == [False, False, True]
        pool.collect()
        result, seconds = await running
        assert result == "DONE"
        assert 1.0 <= seconds < 1.5, "the CPU of tasks counts"

    asyncio.run(asyncio.wait_for(main(), 30))


def test_work_that_is_cancelled_is_given_up_and_its_tasks_are_still_done() -> None:
    async def main() -> None:
        pool, tasks = HoldingPool(room=2), [Held(), Held()]
        finished: list[str] = []
        offload = watching(pool)
        running = asyncio.ensure_future(offload.run(lambda: work(tasks), finished.append))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        pool.collect()
        assert all(each.was_run for each in tasks)
        await asyncio.sleep(0)
        assert not finished

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_client_is_alone_until_another_asks_within_a_short_time() -> None:
    clients, one, other = ClientTracker(), ("host", 1), ("host", 2)

    assert not clients.has_concurrent_clients(one, 10.0)
    assert not clients.has_concurrent_clients(one, 10.001)
    assert clients.has_concurrent_clients(other, 10.002)
    assert clients.has_concurrent_clients(one, 10.003)
    assert clients.has_concurrent_clients(one, 10.004)
    assert not clients.has_concurrent_clients(one, 10.004 + ALONE_S)
    assert not clients.has_concurrent_clients(other, 11.0)


def test_clients_that_cannot_be_told_apart_are_not_alone_when_they_ask_often() -> None:
    clients = ClientTracker()

    assert [clients.has_concurrent_clients(None, at) for at in (1.0, 1.001, 2.0)] == [
        False,
        True,
        False,
    ]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine.open(tmp_path / "data", EngineOptions(memtable_rows_max=4_500))
    create(engine, dimensions=64)
    for start in range(0, ROWS, 4_500):
        apply(engine, Upsert(rows(VALUES[start : start + 4_500], start)))
    engine.compact(DOCS)
    yield engine
    engine.close()


@pytest.fixture
def pool() -> Iterator[SearchPool]:
    built = library()
    assert built is not None
    opened = SearchPool(built, 2)
    yield opened
    opened.close()


def rows(values: Floats, start: int) -> VectorBatch:
    ids = [f"v{start + place:05}" for place in range(len(values))]
    return VectorBatch(ids, np.ascontiguousarray(values), [""] * len(ids), [b""] * len(ids))


def app_on(engine: EmbeddedEngine, folder: Path, pool: SearchPool | None) -> App:
    return build(
        engine, TinyEmbedder(), Tokens(folder / "tokens.db"), Databases(folder / "d1"),
        ServerConfig(), pool,
    )  # fmt: skip


def body_of(query: Floats) -> bytes:
    return json.dumps({"vector": query.tolist(), "topK": 10}).encode()


async def ask(app: App, port: int, body: bytes) -> Received:
    talk = Conversation((body,))
    scope = {
        "type": "http", "method": "POST", "path": QUERY, "raw_path": QUERY.encode(),
        "query_string": b"", "headers": [(b"vicinal-explain", b"true")], "client": ("host", port),
    }  # fmt: skip
    await app(scope, talk.receive, talk.send)
    return received(talk)


def matches(answer: Received) -> object:
    return answer.result["matches"]


async def warm_up(app: App) -> None:
    """Let the server see that queries are cheap."""
    for _ in range(30):
        await ask(app, 1, body_of(QUERIES[0]))


@needs_library
def test_many_clients_at_once_get_the_answers_that_one_gets(
    engine: EmbeddedEngine, pool: SearchPool, tmp_path: Path
) -> None:
    app, put = app_on(engine, tmp_path, pool), count_puts(pool)

    async def main() -> None:
        await warm_up(app)
        alone = [await ask(app, 1, body_of(each)) for each in QUERIES]
        assert not put
        both = [ask(app, port, body_of(each)) for port, each in enumerate(QUERIES)]
        together = await asyncio.gather(*both)
        assert put
        assert [*map(matches, together)] == [*map(matches, alone)]
        for each in together:
            assert all(step["proposeMs"] > 0 for step in each.result["explain"])

    asyncio.run(asyncio.wait_for(main(), 60))


async def until_some(put: list[SearchTask]) -> None:
    for _ in range(10_000):
        if put:
            return
        await asyncio.sleep(0)
    pytest.fail("the pool was given nothing")


def count_puts(pool: SearchPool) -> list[SearchTask]:
    """Return what will list the tasks that the pool takes."""
    taken: list[SearchTask] = []
    put = pool.put

    def noted(task: SearchTask, on_done: Callable[[], None]) -> bool:
        is_put = put(task, on_done)
        if is_put:
            taken.append(task)
        return is_put

    pool.put = noted  # type: ignore[method-assign]
    return taken


@needs_library
def test_answers_are_right_while_rows_are_written_sealed_and_merged(
    engine: EmbeddedEngine, pool: SearchPool, tmp_path: Path
) -> None:
    """Rows far from all queries come and go, so the answers stay the same."""
    app = app_on(engine, tmp_path, pool)
    far = np.full((2_000, 64), 1e3, np.float32)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await warm_up(app)
        wanted = [matches(await ask(app, 1, body_of(each))) for each in QUERIES]
        for turn in range(4):
            batch = rows(far + np.float32(turn), 50_000)
            writing = loop.run_in_executor(None, lambda batch=batch: write(engine, batch))  # type: ignore[misc]
            while not writing.done():
                asked = [ask(app, port, body_of(each)) for port, each in enumerate(QUERIES)]
                assert [*map(matches, await asyncio.gather(*asked))] == wanted
            await writing

    asyncio.run(asyncio.wait_for(main(), 120))


def write(engine: EmbeddedEngine, batch: VectorBatch) -> None:
    apply(engine, Upsert(batch))
    engine.compact(DOCS)


async def under_way(app: App, put: list[SearchTask]) -> list[asyncio.Task[Received]]:
    """Have every query asked by a client of its own, and return when the pool has taken some."""
    await warm_up(app)
    tasks = [
        asyncio.ensure_future(ask(app, port, body_of(each))) for port, each in enumerate(QUERIES)
    ]
    await until_some(put)
    return tasks


@needs_library
def test_callers_that_are_gone_and_loops_that_end_leave_the_pool_working(
    engine: EmbeddedEngine, pool: SearchPool, tmp_path: Path
) -> None:
    app, put = app_on(engine, tmp_path, pool), count_puts(pool)

    async def main() -> None:
        tasks = await under_way(app, put)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        gc.collect()
        assert [each.result().status for each in tasks[1::2]] == [200] * len(tasks[1::2])
        for task in [asyncio.ensure_future(ask(app, 7, body_of(each))) for each in QUERIES[:8]]:
            task.add_done_callback(lambda _: None)
        await asyncio.sleep(0)  # and the loop ends with all of them under way

    for _ in range(3):
        put.clear()
        asyncio.run(asyncio.wait_for(main(), 60))


@needs_library
def test_an_index_may_be_dropped_while_it_is_searched(
    engine: EmbeddedEngine, pool: SearchPool, tmp_path: Path
) -> None:
    app, put = app_on(engine, tmp_path, pool), count_puts(pool)

    async def main() -> None:
        tasks = await under_way(app, put)
        engine.delete_index(DOCS)
        gc.collect()
        assert {each.status for each in await asyncio.gather(*tasks)} <= {200, 404}

    asyncio.run(asyncio.wait_for(main(), 60))


@needs_library
def test_without_a_pool_all_is_searched_by_python(engine: EmbeddedEngine, tmp_path: Path) -> None:
    app = app_on(engine, tmp_path, None)
    upsert(engine, Record("near", QUERIES[0].tolist()))

    answer = call(app, "POST", QUERY, body_of(QUERIES[0]))

    assert answer.result["matches"][0]["id"] == "near"
