"""Durations are counted in the class whose upper bound they do not pass."""

import threading

from vicinal.durations import Durations


def test_a_duration_on_a_bound_is_within_it() -> None:
    durations = Durations((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.2, 1.0, 1.5, 99.0):
        durations.add(seconds)
    durations.add_failure()

    current = durations.current()

    assert list(current.counts) == [2, 2, 2]
    assert current.sum_s == 0.05 + 0.1 + 0.2 + 1.0 + 1.5 + 99.0
    assert current.failure_count == 1
    assert current.bounds_s == (0.1, 1.0)


def test_what_was_read_does_not_change() -> None:
    durations = Durations((1.0,))
    before = durations.current()

    durations.add(0.5)

    assert list(before.counts) == [0, 0]
    assert list(durations.current().counts) == [1, 0]


def test_no_duration_is_lost_when_threads_add_at_one_time() -> None:
    durations = Durations((1.0,))

    def add_many() -> None:
        for _ in range(2_000):
            durations.add(0.5)

    threads = [threading.Thread(target=add_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    current = durations.current()
    assert list(current.counts) == [16_000, 0]
    assert current.sum_s == 8_000
