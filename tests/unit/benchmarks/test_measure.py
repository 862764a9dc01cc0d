"""Measuring: recall forgives ties and nothing else, times are of what was run."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import measure
from benchmarks.measure import Floats, Wide

LINE = np.array([[0.0], [1.0], [2.0], [3.0], [3.0]], np.float32)
"""Points on a line; the last two are at the same place."""

ORIGIN = np.array([[0.0]], np.float32)


def nearest(values: Floats, queries: Floats, k: int) -> Wide:
    far = np.abs(values[None, :, 0].astype(np.float64) - queries[:, None, 0])
    return np.sort(far, axis=1)[:, :k]


def test_the_k_nearest_have_recall_1_in_any_order() -> None:
    truth = nearest(LINE, ORIGIN, 3)

    assert measure.recall([[2, 0, 1]], LINE, ORIGIN, truth, "euclidean") == 1.0


def test_a_row_that_ties_with_the_kth_nearest_is_no_miss() -> None:
    truth = nearest(LINE, ORIGIN, 4)

    assert measure.recall([[0, 1, 2, 4]], LINE, ORIGIN, truth, "euclidean") == 1.0


def test_a_row_farther_than_the_kth_nearest_is_a_miss() -> None:
    truth = nearest(LINE, ORIGIN, 2)

    assert measure.recall([[0, 2]], LINE, ORIGIN, truth, "euclidean") == 0.5


def test_a_row_that_is_found_twice_counts_once() -> None:
    truth = nearest(LINE, ORIGIN, 2)

    assert measure.recall([[0, 0]], LINE, ORIGIN, truth, "euclidean") == 0.5


def test_nothing_found_is_all_missed() -> None:
    truth = nearest(LINE, ORIGIN, 2)

    assert measure.recall([[]], LINE, ORIGIN, truth, "euclidean") == 0.0


def test_where_there_are_fewer_than_k_rows_only_those_are_expected() -> None:
    truth = np.array([[0.0, 1.0, np.inf, np.inf]])

    assert measure.recall([[0, 1]], LINE, ORIGIN, truth, "euclidean") == 1.0
    assert measure.recall([[1]], LINE, ORIGIN, truth, "euclidean") == 0.5


def test_a_query_without_matches_counts_for_nothing() -> None:
    queries = np.repeat(ORIGIN, 2, axis=0)
    truth = np.array([[np.inf], [0.0]])

    assert measure.recall([[], [0]], LINE, queries, truth, "euclidean") == 1.0


def test_queries_that_were_not_run_are_left_out() -> None:
    queries = np.repeat(ORIGIN, 3, axis=0)
    truth = nearest(LINE, queries, 1)

    assert measure.recall([[0]], LINE, queries, truth, "euclidean") == 1.0


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("euclidean", [5.0, 0.0]), ("dot-product", [0.0, -25.0]), ("cosine", [1.0, 0.0])],
)
def test_distances_are_smaller_for_nearer_rows(metric: str, expected: list[float]) -> None:
    rows = np.array([[[0.0, 0.0], [3.0, 4.0]]], np.float32)

    far = measure.distances_to(rows, np.array([[3.0, 4.0]], np.float32), metric)

    assert far[0].tolist() == pytest.approx(expected)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(
    values: list[float], percent: float
) -> None:
    found = measure.percentile(np.array(values), percent)

    at_most = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    assert found in values
    assert at_most >= percent / 100 * len(values) - 1e-9
    assert below < percent / 100 * len(values) + 1e-9


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_search_runs_once_and_results_keep_their_order(threads: int) -> None:
    searches = [lambda value=value: value for value in range(10)]

    timing, found = measure.run(searches, threads=threads)

    assert found == list(range(10))
    assert timing.count == 10


def test_two_threads_really_search_at_once() -> None:
    both = threading.Barrier(2, timeout=60)

    _, found = measure.run([both.wait, both.wait], threads=2)

    assert sorted(found) == [0, 1]


def test_past_the_budget_nothing_more_is_begun_but_the_first() -> None:
    timing, found = measure.run([lambda: 1] * 5, budget_s=0.0)

    assert timing.count == 1
    assert found == [1]


def test_until_it_is_over_searches_go_round() -> None:
    asked: list[int] = []
    searches = [lambda value=value: asked.append(value) for value in range(3)]

    timing, _ = measure.run(searches, is_over=lambda: len(asked) >= 7)

    assert asked == [0, 1, 2, 0, 1, 2, 0]
    assert timing.count == 7


def test_an_error_of_a_search_is_not_swallowed() -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure.run([fail])


def test_private_memory_is_what_belongs_to_no_file() -> None:
    rollup = (
        "00400000-7fff Rollup\n"
        "Rss:                2000 kB\n"
        "Private_Dirty:       900 kB\n"
        "Anonymous:           800 kB\n"
        "Locked:                0 kB\n"
    )

    found = measure.parse_memory(rollup)

    assert found == measure.Memory(private=800 * 1024, resident=2000 * 1024)


def test_cpu_time_is_read_past_a_name_with_anything_in_it() -> None:
    stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 99"

    assert measure.parse_cpu_seconds(stat) == 200 / os.sysconf("SC_CLK_TCK")


def test_this_process_has_memory_and_has_used_cpu() -> None:
    pid = os.getpid()

    assert 0 < measure.memory(pid).private < measure.memory(pid).resident
    assert measure.cpu_seconds(pid) > 0
