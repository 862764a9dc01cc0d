"""Blocking work leaves the event loop free, is bounded, and is given up with its client."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from vicinal.errors import BadBody, Overloaded, Unavailable
from vicinal.interruption import point
from vicinal.model import IndexAddress
from vicinal.server.concurrency import (
    INLINE_S_MAX,
    ClientDisconnected,
    CostEstimator,
    Workers,
    resolved,
    run_by_cost,
    unless_disconnected,
)

DOCS = IndexAddress("acme", "docs")


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers("test", threads=1, pending_max=2)
    yield workers
    workers.close()


def test_work_runs_in_another_thread_and_returns_or_raises(workers: Workers) -> None:
    def refuse() -> None:
        raise BadBody("no")

    async def main() -> None:
        assert await workers.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(BadBody, match="no"):
            await workers.run(refuse)

    asyncio.run(main())


def test_work_over_the_bound_is_refused_and_room_comes_back(workers: Workers) -> None:
    async def main() -> None:
        release = threading.Event()
        held = [asyncio.ensure_future(workers.run(release.wait)) for _ in range(2)]
        await asyncio.sleep(0)

        with pytest.raises(Overloaded, match="2 requests wait for test") as caught:
            await workers.run(release.wait)
        assert caught.value.retry_after

        release.set()
        assert await asyncio.gather(*held) == [True, True]
        assert await workers.run(lambda: "room") == "room"

    asyncio.run(main())


def test_work_given_up_before_it_began_never_begins(workers: Workers) -> None:
    began: list[str] = []

    async def main() -> None:
        release = threading.Event()
        first = asyncio.ensure_future(workers.run(release.wait))
        second = asyncio.ensure_future(workers.run(lambda: began.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        release.set()
        await first
        await workers.run(lambda: began.append("third"))

    asyncio.run(main())

    assert began == ["third"]


class Working:
    """Work that goes from point to point until it is given up."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        try:
            while True:
                point()
        finally:
            self.ended.set()


def test_work_that_has_begun_is_given_up_with_its_request(workers: Workers) -> None:
    working = Working()

    async def main() -> None:
        running = asyncio.ensure_future(workers.run(working))
        await asyncio.to_thread(working.begun.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await workers.run(lambda: "room") == "room"

    asyncio.run(main())

    assert working.ended.is_set()


def test_work_that_has_begun_is_given_up_when_the_server_stops() -> None:
    workers, working = Workers("test", threads=1, pending_max=2), Working()

    async def main() -> None:
        running = asyncio.ensure_future(workers.run(working))
        await asyncio.to_thread(working.begun.wait)
        workers.close()
        with pytest.raises(Unavailable):
            await running

    asyncio.run(main())

    assert working.ended.is_set()


def test_an_index_is_cheap_only_once_its_operations_were_seen_to_be() -> None:
    estimator = CostEstimator()
    assert not estimator.is_cheap(DOCS)

    estimator.note(DOCS, INLINE_S_MAX / 10)
    assert estimator.is_cheap(DOCS)
    assert not estimator.is_cheap(IndexAddress("acme", "other"))


def test_one_slow_operation_is_forgiven_and_many_are_not() -> None:
    estimator = CostEstimator()
    estimator.note(DOCS, 0.0)

    estimator.note(DOCS, 3 * INLINE_S_MAX)
    assert estimator.is_cheap(DOCS)

    for _ in range(10):
        estimator.note(DOCS, 3 * INLINE_S_MAX)
    assert not estimator.is_cheap(DOCS)


def test_cheap_work_runs_in_the_event_loop_and_other_work_does_not(workers: Workers) -> None:
    estimator = CostEstimator()

    async def thread() -> int:
        return await run_by_cost(estimator, workers, DOCS, threading.get_ident)

    assert asyncio.run(thread()) != threading.get_ident()
    assert asyncio.run(thread()) == threading.get_ident()

    for _ in range(50):
        estimator.note(DOCS, 1.0)
    assert asyncio.run(thread()) != threading.get_ident()


def test_giving_up_on_a_future_does_not_cancel_it() -> None:
    async def main() -> None:
        future: Future[int] = Future()
        waiting = asyncio.ensure_future(resolved(future))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        future.set_result(1)
        assert await resolved(future) == 1

    asyncio.run(main())


def test_work_is_finished_for_a_client_that_stays() -> None:
    async def stays() -> None:
        await asyncio.Event().wait()

    async def work() -> int:
        return 7

    assert asyncio.run(unless_disconnected(stays, work())) == 7


def test_work_is_cancelled_when_its_client_goes() -> None:
    cancelled: list[bool] = []

    async def main() -> None:
        leave = asyncio.Event()

        async def work() -> None:
            leave.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        with pytest.raises(ClientDisconnected):
            await unless_disconnected(leave.wait, work())

    asyncio.run(main())

    assert cancelled == [True]


def test_an_error_of_the_work_reaches_its_caller() -> None:
    async def stays() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        raise BadBody("no")

    with pytest.raises(BadBody, match="no"):
        asyncio.run(unless_disconnected(stays, work()))
