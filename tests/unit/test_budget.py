"""A budget lets pass what fits, and tells those who wait when it may."""

import threading
from concurrent.futures import ThreadPoolExecutor

from vicinal.budget import Budget

SOON_S = 60.0


def test_what_fits_is_acquired_and_nothing_beyond_it_until_some_is_released() -> None:
    budget = Budget(10)
    assert budget.acquire(6)
    assert budget.acquire(4)

    assert not budget.acquire(1)
    assert budget.used == 10

    budget.release(4)
    assert budget.acquire(4)


def test_an_amount_beyond_the_bound_is_acquired_alone() -> None:
    budget = Budget(10)
    assert budget.acquire(11)

    assert not budget.acquire(1)

    budget.release(11)
    assert budget.used == 0
    assert budget.acquire(1)
    assert not budget.acquire(11)


def test_a_change_since_it_was_looked_at_is_not_waited_for() -> None:
    budget = Budget(10)
    seen = budget.changes
    budget.notify()

    assert budget.wait_for_change(seen, 0.0)
    assert not budget.wait_for_change(budget.changes, 0.0)


def test_all_who_wait_without_a_deadline_are_told_of_a_release() -> None:
    budget = Budget(10)
    assert budget.acquire(10)
    seen, begun = budget.changes, threading.Semaphore(0)

    def wait() -> bool:
        begun.release()
        return budget.wait_for_change(seen, float("inf"))

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(wait) for _ in range(2)]
        for _ in waiting:
            assert begun.acquire(timeout=SOON_S)
        budget.release(3)

        assert [future.result(SOON_S) for future in waiting] == [True, True]
