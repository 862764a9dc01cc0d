"""How far copies are behind: in mutations, and since when the log has had the first of them."""

from uuid import uuid4

import pytest

from vicinal.engine.shared import lags as module
from vicinal.engine.shared.lags import Lags
from vicinal.model import Seqno
from vicinal.usage import Lag

INDEX = uuid4()


def note(lags: Lags, position: int, logged: int, now: float) -> Lag:
    lags.note(INDEX, Seqno(position), Seqno(logged), now)
    return lags.current(now)[INDEX]


def test_a_copy_that_has_all_is_not_behind() -> None:
    lags = Lags()

    assert note(lags, 0, 0, 1.0) == Lag(0, 0.0)
    assert note(lags, 7, 7, 2.0) == Lag(0, 0.0)
    assert note(lags, 9, 8, 3.0) == Lag(0, 0.0)  # it pulled after the question was asked


def test_the_time_is_that_of_the_oldest_mutation_that_is_lacking() -> None:
    lags = Lags()

    assert note(lags, 0, 2, 10.0) == Lag(2, 0.0)
    assert note(lags, 0, 2, 11.0) == Lag(2, 1.0)
    assert note(lags, 1, 5, 12.0) == Lag(4, 2.0)  # 2 was there at 10
    assert note(lags, 2, 5, 13.0) == Lag(3, 1.0)  # 3 to 5 were first seen at 12
    assert lags.current(20.0)[INDEX] == Lag(3, 8.0)  # also when nothing is asked any more
    assert note(lags, 5, 5, 21.0) == Lag(0, 0.0)


def test_a_copy_that_keeps_up_under_writes_is_behind_by_one_poll() -> None:
    lags = Lags()

    for poll in range(1, 50):
        assert note(lags, poll - 1, poll, float(poll)) == Lag(1, 0.0)


def test_a_log_that_went_back_begins_anew() -> None:
    lags = Lags()
    note(lags, 0, 9, 1.0)

    assert note(lags, 0, 4, 5.0) == Lag(4, 0.0)


def test_what_is_remembered_is_bounded_and_the_oldest_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "POLLS_MAX", 3)
    lags = Lags()

    for poll in range(1, 9):
        lag = note(lags, 0, poll, float(poll))

    assert lag == Lag(8, 7.0)
    assert len(lags._seen[INDEX]) == 3  # noqa: SLF001 - the bound
    assert note(lags, 8, 8, 9.0) == Lag(0, 0.0)


def test_indexes_that_are_closed_are_not_kept() -> None:
    lags = Lags()
    note(lags, 0, 1, 1.0)

    lags.keep([])

    assert lags.current(2.0) == {}
