"""What `tenfold` reports is of warm rounds, at the least effort that finds enough."""

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks import tenfold
from benchmarks.measure import Timing
from benchmarks.peers.vicinal import Vicinal
from benchmarks.ten_million import K, Truth


def timing(cpu_ms: float) -> Timing:
    return Timing(1, cpu_ms, cpu_ms, cpu_ms, 1.0)


class Untimed(Vicinal):
    def __init__(self) -> None:
        """Open nothing."""


@pytest.fixture
def truth() -> Truth:
    truth = Truth(np.zeros((1, 4), np.float32))
    truth.nearest = np.zeros((1, K))
    return truth


def measure(monkeypatch: pytest.MonkeyPatch, rounds: list[float]) -> Iterator[float]:
    """Let rounds take these times, whatever is asked."""
    left = iter(rounds)
    monkeypatch.setattr(tenfold, "measured", lambda _: (timing(next(left)), [[1.0] * K]))
    return left


@pytest.mark.parametrize(
    ("warming_up", "rounds"),
    [
        ([9.0, 5.0, 2.0, 1.0, 0.97], [1.1, 0.9, 1.0, 7.0, 0.8]),
        (np.geomspace(100.0, 1.0, tenfold.WARM_UPS_MAX).tolist(), [3.0, 2.0, 4.0, 5.0, 1.0]),
    ],
)
def test_the_median_of_the_rounds_that_come_after_the_first_warm_one_is_reported(
    warming_up: list[float], rounds: list[float], truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = measure(monkeypatch, 2 * [*warming_up, *rounds])  # of each effort

    found = tenfold.asked({1_000: (Untimed(), truth)})

    for recall, each in found[1_000].values():
        assert (recall, each.cpu_ms) == (1.0, sorted(rounds)[2])
    assert list(left) == []


def test_both_sizes_are_measured_in_turn(truth: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    in_turn = [3.0, 30.0, 1.0, 10.0, 5.0, 50.0, 4.0, 40.0, 2.0, 20.0]
    left = measure(monkeypatch, 2 * [1.0, 1.0, 10.0, 10.0, *in_turn])

    found = tenfold.asked({size: (Untimed(), truth) for size in (1_000, 10_000)})

    for effort in ("low", "standard"):
        assert found[1_000][effort][1].cpu_ms == 3.0
        assert found[10_000][effort][1].cpu_ms == 30.0
    assert list(left) == []


def test_what_is_true_of_rows_so_far_stays_when_others_come() -> None:
    vectors = np.eye(K + 1, dtype=np.float32)
    truth = Truth(vectors[:1])
    truth.add(vectors[1:])
    before = truth.so_far()

    truth.add(vectors[:1])

    assert before.nearest.tolist() == [[1.0] * K]
    assert truth.nearest[0, 0] == 0.0


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
