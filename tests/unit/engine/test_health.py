"""Why an index refuses work, and what that keeps in memory."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from vicinal.budget import Budget
from vicinal.engine.health import Health
from vicinal.errors import Corruption, IndexNotFound, Unavailable


class Segment:
    """What a frame may hold."""


@pytest.fixture
def health() -> Health:
    return Health("docs", Budget(1))


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """What only a collection frees stays."""
    gc.disable()
    yield
    gc.enable()


def held_by(work: Callable[[], None]) -> weakref.ref[Segment]:
    segment = Segment()
    with suppress(Corruption, IndexNotFound, Unavailable):
        work()
    return weakref.ref(segment)


def test_an_error_that_is_kept_holds_nothing_of_where_it_was_found(health: Health) -> None:
    def find() -> None:
        segment = Segment()
        found.append(weakref.ref(segment))
        try:
            try:
                raise FileNotFoundError("values")
            except FileNotFoundError as error:
                raise Corruption("values is missing") from error
        except Corruption as error:
            health.fail(error)
            raise

    found: list[weakref.ref[Segment]] = []
    assert held_by(find)() is None
    assert found[0]() is None
    with pytest.raises(Corruption, match="values is missing"):
        health.check_readable()


@pytest.mark.parametrize("reason", [IndexNotFound("docs"), Unavailable("closed", retry_after=2.0)])
def test_a_refusal_holds_nothing_of_whom_it_refused(
    health: Health, reason: IndexNotFound | Unavailable
) -> None:
    health.closed = reason

    assert held_by(health.check_readable)() is None
    assert held_by(health.check)() is None
    with pytest.raises(type(reason)) as caught:
        health.check()
    assert str(caught.value) == str(reason)
    assert vars(caught.value) == vars(reason)
