"""A lane handles what is put into it in order, one batch at a time, whoever else waits."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from vicinal.engine.executors import SerialExecutor


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


def test_items_of_many_threads_are_each_handled_once_and_in_their_order(
    pool: ThreadPoolExecutor,
) -> None:
    handled: list[tuple[int, int]] = []
    at_work = threading.Lock()

    def handle(items: Sequence[tuple[int, int]]) -> None:
        assert at_work.acquire(blocking=False), "two batches at a time"
        handled.extend(items)
        at_work.release()

    lane = SerialExecutor(pool, handle)

    def put(writer: int) -> None:
        for number in range(300):
            lane.submit([(writer, number)])

    writers = [threading.Thread(target=put, args=(writer,)) for writer in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    lane.join()

    assert len(handled) == 1200
    for writer in range(4):
        assert [number for who, number in handled if who == writer] == list(range(300))


def test_joining_a_lane_that_is_never_idle_ends(pool: ThreadPoolExecutor) -> None:
    handled: list[int] = []
    enough = threading.Event()

    def handle(items: Sequence[int]) -> None:
        handled.extend(items)
        if not enough.is_set():
            lane.submit([handled[-1] + 1])

    lane = SerialExecutor(pool, handle)
    lane.submit([0])
    lane.join()
    assert handled[0] == 0
    enough.set()
    lane.join()

    assert handled == list(range(len(handled)))


def test_what_gathers_while_a_lane_is_busy_is_handed_over_together(
    pool: ThreadPoolExecutor,
) -> None:
    batches: list[list[int]] = []
    busy, go_on = threading.Event(), threading.Event()

    def handle(items: Sequence[int]) -> None:
        batches.append(list(items))
        busy.set()
        assert go_on.wait(60)

    lane = SerialExecutor(pool, handle)
    lane.submit([1])
    assert busy.wait(60)
    lane.submit([2, 3])
    lane.submit([4])
    go_on.set()
    lane.join()

    assert batches == [[1], [2, 3, 4]]


def test_a_batch_takes_what_has_come_since_and_is_joined_with_it(pool: ThreadPoolExecutor) -> None:
    batches: list[list[int]] = []
    entered, go_on, taken, end = (threading.Event() for _ in range(4))

    def handle(items: Sequence[int]) -> None:
        entered.set()
        assert go_on.wait(60)
        batches.append([*items, *lane.more(), *lane.more()])
        taken.set()
        assert end.wait(60)

    lane: SerialExecutor[int] = SerialExecutor(pool, handle)
    lane.submit([1])
    assert entered.wait(60)
    lane.submit([2, 3])
    go_on.set()
    assert taken.wait(60)
    joining = pool.submit(lane.join)
    assert not joining.done()
    end.set()
    joining.result(60)

    assert batches == [[1, 2, 3]]
    assert lane.is_idle


def test_joining_an_idle_lane_returns_at_once_and_a_busy_one_when_it_is_done(
    pool: ThreadPoolExecutor,
) -> None:
    handled: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def handle(items: Sequence[int]) -> None:
        entered.set()
        assert go_on.wait(60)
        handled.extend(items)

    lane = SerialExecutor(pool, handle)
    lane.join()
    lane.submit([1])
    assert entered.wait(60)
    seen: list[list[int]] = []

    def wait() -> None:
        lane.join()
        seen.append(list(handled))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert seen == []
    go_on.set()
    waiting.join(60)

    assert seen == [[1]]


def test_a_lane_may_be_put_into_while_it_is_handled(pool: ThreadPoolExecutor) -> None:
    handled: list[int] = []
    fifth = threading.Event()

    def handle(items: Sequence[int]) -> None:
        handled.extend(items)
        if handled[-1] < 5:
            lane.submit([handled[-1] + 1])
        else:
            fifth.set()

    lane: SerialExecutor[int] = SerialExecutor(pool, handle)
    lane.submit([1])
    assert fifth.wait(60)  # `join` waits for the first alone, if it is called before the second

    assert handled == [1, 2, 3, 4, 5]


def test_lanes_do_not_wait_for_each_other_while_there_are_threads(
    pool: ThreadPoolExecutor,
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def handle(_: Sequence[int]) -> None:
        entered.set()
        assert go_on.wait(60)

    stuck = SerialExecutor(pool, handle)
    stuck.submit([1])
    assert entered.wait(60)
    done: list[int] = []
    free = SerialExecutor(pool, done.extend)

    free.submit([1, 2])
    free.join()

    assert done == [1, 2]
    go_on.set()
    stuck.join()
