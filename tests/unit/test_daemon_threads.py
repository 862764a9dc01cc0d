"""Threads make the calls of a program that goes on, and let one that is interrupted end."""

import threading
from contextlib import suppress
from functools import partial

from vicinal.daemon_threads import DaemonThreads

WITHIN_S = 60.0


def test_all_calls_are_made_in_order_before_threads_end() -> None:
    made: list[int] = []
    with DaemonThreads(1, "test") as threads:
        outcomes = [threads.submit(partial(made.append, number)) for number in range(9)]
        failed = threads.submit(lambda: made[9])

    assert made == list(range(9))
    assert all(outcome.done() for outcome in outcomes)
    assert isinstance(failed.exception(), IndexError)


def test_as_many_calls_are_made_at_a_time_as_there_are_threads() -> None:
    together = threading.Barrier(2)
    with DaemonThreads(2, "test") as threads:
        outcomes = [threads.submit(lambda: together.wait(WITHIN_S)) for _ in range(2)]

    assert sorted(outcome.result() for outcome in outcomes) == [0, 1]


def test_no_call_is_waited_for_when_threads_are_interrupted() -> None:
    released = threading.Event()
    with suppress(KeyboardInterrupt), DaemonThreads(1, "test") as threads:
        outcome = threads.submit(lambda: released.wait(WITHIN_S))
        raise KeyboardInterrupt

    assert not outcome.done()
    released.set()
    assert outcome.result(WITHIN_S)


def test_closed_threads_make_no_further_call_and_are_not_waited_for() -> None:
    released, begun, made = threading.Event(), threading.Event(), list[str]()
    threads = DaemonThreads(1, "test")

    def hold() -> None:
        begun.set()
        released.wait(WITHIN_S)

    held = threads.submit(hold)
    assert begun.wait(WITHIN_S)
    threads.submit(lambda: made.append("never"))
    threads.close()

    assert not held.done()
    released.set()
    held.result(WITHIN_S)
    for thread in threading.enumerate():
        if thread.name == "test-0":
            thread.join(WITHIN_S)
    assert made == []
