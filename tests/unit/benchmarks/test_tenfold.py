"""What `tenfold` reports is of warm rounds, at the least effort that finds enough."""

import numpy as np
import pytest

from benchmarks import tenfold
from benchmarks.measure import Timing
from benchmarks.peers.vicinal import Vicinal
from benchmarks.ten_million import K, Truth


def timing(cpu_ms: float) -> Timing:
    return Timing(1, cpu_ms, cpu_ms, cpu_ms, 1.0)


@pytest.mark.parametrize(
    ("rounds", "reported"),
    [
        ([9.0, 5.0, 2.0, 1.0, 0.97, 1.1, 0.9, 1.0], 1.0),  # three after the fifth, which is warm
        ([*np.geomspace(100.0, 1.0, tenfold.WARM_UPS_MAX).tolist(), 3.0, 2.0, 4.0], 3.0),
    ],
)
def test_the_median_of_the_rounds_that_come_after_the_first_warm_one_is_reported(
    rounds: list[float], reported: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = Truth(np.zeros((1, 4), np.float32))
    truth.nearest = np.zeros((1, K))
    left = iter(rounds)
    monkeypatch.setattr(tenfold, "measured", lambda _: (timing(next(left)), [[1.0] * K]))

    class Untimed(Vicinal):
        def __init__(self) -> None:
            """Open nothing."""

    recall, found = tenfold.asked(Untimed(), truth, "low")

    assert (recall, found.cpu_ms) == (1.0, reported)
    assert list(left) == []


def test_the_mark_is_of_the_least_effort_that_finds_enough_at_each_size() -> None:
    found = {
        1_000: {"low": (0.99, timing(1.0)), "standard": (1.0, timing(2.0))},
        10_000: {"low": (0.9, timing(1.0)), "standard": (0.99, timing(2.6))},
    }

    growth, recall = tenfold.marks_of(found)

    assert (growth.measured, growth.is_met) == (2.6, False)
    assert (recall.measured, recall.is_met) == (0.99, True)


def test_where_no_effort_finds_enough_no_mark_is_met() -> None:
    found = {1_000: {"low": (0.99, timing(1.0))}, 10_000: {"low": (0.9, timing(1.0))}}

    assert [mark.is_met for mark in tenfold.marks_of(found)] == [False, False]
