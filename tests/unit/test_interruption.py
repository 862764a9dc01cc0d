"""Long work ends at its points when it is told to, and nowhere else."""

import threading
from collections.abc import Callable

import pytest

from vicinal.interruption import Interrupted, interruptible, parts, point


def refuse() -> None:
    raise Interrupted


def test_work_that_nobody_made_interruptible_goes_on() -> None:
    point()

    assert list(parts([1, 2])) == [1, 2]


def test_work_ends_at_its_next_point() -> None:
    done: list[int] = []

    def check() -> None:
        if len(done) == 2:
            raise Interrupted

    with pytest.raises(Interrupted), interruptible(check):
        done.extend(parts(range(9)))

    assert done == [0, 1]
    point()


def test_whoever_is_around_is_asked_first_and_again_once_the_inner_block_is_over() -> None:
    asked: list[str] = []

    def by(name: str) -> Callable[[], None]:
        return lambda: asked.append(name)

    with interruptible(by("outer")):
        with interruptible(by("inner")):
            point()
        point()
    point()

    assert asked == ["outer", "inner", "outer"]


def test_an_error_that_somebody_is_to_be_told_is_passed_on() -> None:
    def check() -> None:
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"), interruptible(check):
        point()


def test_other_threads_go_on() -> None:
    went_on: list[bool] = []

    def work() -> None:
        point()
        went_on.append(True)

    with interruptible(refuse):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert went_on == [True]
