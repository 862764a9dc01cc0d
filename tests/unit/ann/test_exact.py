"""Exact search leaves out no row that may be among the nearest, in any corner of float32."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.ann import candidates, candidates_among, exact_index, true_distances
from vicinal import distance
from vicinal.ann import exact
from vicinal.model import Floats, Metric

METRICS = list(Metric)

# Values of one size, of all sizes, and a few that meet again and again.
COMPONENTS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3.0]),
    st.floats(-1, 1, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([3.4028234e38, -3.4028234e38, 1e20, -1e20, 1.8446743e19, 1.2e19]),
    st.sampled_from([1e-45, -1e-45, 1.1754944e-38, 1e-39, 1e-20, 1e-23]),
)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Floats, Floats, Metric, int]:
    """Rows, a query, a metric and k. Rows repeat, scaled or as they are, query included."""
    dimensions = draw(st.sampled_from([1, 2, 3, 8, 9]))
    vectors = st.lists(COMPONENTS, min_size=dimensions, max_size=dimensions)
    some = draw(st.lists(vectors, min_size=1, max_size=6))
    scales = st.sampled_from([1.0, 1.0, 2.0, -1.0, 0.0, 1 / 3, 1e-30, 1e30])
    picks = draw(st.lists(st.tuples(st.sampled_from(some), scales), min_size=1, max_size=14))
    with np.errstate(over="ignore"):
        rows = np.array([np.multiply(each, scale) for each, scale in picks]).astype(np.float32)
    rows = np.nan_to_num(rows, posinf=3.4028234e38, neginf=-3.4028234e38)
    query = np.array(draw(st.sampled_from(some) | vectors), np.float32)
    return rows, query, draw(st.sampled_from(METRICS)), draw(st.integers(1, 6))


def nearest_as_shown(
    rows: Floats, query: Floats, metric: Metric, k: int, allowed: NDArray[np.bool_]
) -> set[int]:
    """Return the rows whose shown distance is not above the k-th: the nearest and their ties."""
    measured = distance.distances(rows, query, metric)
    bound = np.sort(measured[allowed])[:k][-1] if allowed.any() else np.float32(-np.inf)
    return set(np.flatnonzero(allowed & (measured <= bound)).tolist())


@given(problems(), st.data())
def test_every_row_among_the_nearest_or_tied_with_one_is_proposed(
    problem: tuple[Floats, Floats, Metric, int], data: st.DataObject
) -> None:
    rows, query, metric, k = problem
    index = exact_index(rows, metric)
    allowed = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), np.bool_
    )
    everyone = np.ones(len(rows), np.bool_)

    unmasked = set(candidates(index, query, k, None).rows.tolist())
    masked = set(candidates(index, query, k, allowed).rows.tolist())
    listed = set(candidates_among(index, query, k, np.flatnonzero(allowed)).rows.tolist())

    assert unmasked >= nearest_as_shown(rows, query, metric, k, everyone)
    assert masked >= nearest_as_shown(rows, query, metric, k, allowed)
    assert listed >= nearest_as_shown(rows, query, metric, k, allowed)
    assert allowed[list(masked | listed)].all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimensions", [1, 7, 384, 1536, 4096])
def test_hardly_more_rows_are_proposed_than_asked_for(metric: Metric, dimensions: int) -> None:
    random = np.random.default_rng(dimensions)
    rows = random.normal(size=(2_000, dimensions)).astype(np.float32)
    query = random.normal(size=dimensions).astype(np.float32)
    index = exact_index(rows, metric)
    order = np.argsort(true_distances(rows, query, metric))

    proposed = candidates(index, query, 10, None).rows

    assert set(order[:10].tolist()) <= set(proposed.tolist())
    # One dimension has two cosines, so there half of all rows tie.
    assert len(proposed) < (1_100 if (dimensions, metric) == (1, Metric.COSINE) else 30)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_nearly_as_near_as_the_nearest_are_told_apart_by_measuring(metric: Metric) -> None:
    # Far from the origin, float32 sees thousands of neighbours at one distance.
    random = np.random.default_rng(7)
    base = random.normal(size=256)
    rows = (base * 1000 + random.normal(scale=1e-4, size=(500, 256))).astype(np.float32)
    query = (base * 1000).astype(np.float32)
    index = exact_index(rows, metric)
    everyone = np.ones(500, np.bool_)

    proposed = set(candidates(index, query, 5, None).rows.tolist())

    assert proposed >= nearest_as_shown(rows, query, metric, 5, everyone)


def test_products_that_vanish_in_float32_do_not_decide() -> None:
    # Each product of the first row is 0.6 of the smallest number there is and rounds up to
    # it, so that their sum, 3, is taken for 5; the second row's is 4 and stays 4.
    smallest = np.float32(2.0**-149)
    query = np.full(8, 2.0**-74, np.float32)
    rows = np.zeros((2, 8), np.float32)
    rows[0, :5] = 0.6 * 2.0**-75
    rows[1, 5] = 4 * 2.0**-75
    assert distance.distances(rows, query, Metric.DOT_PRODUCT).tolist() == [
        -3 * smallest,
        -4 * smallest,
    ]

    assert 1 in candidates(exact_index(rows, Metric.DOT_PRODUCT), query, 1, None).rows


@pytest.mark.parametrize("count", [2, 50])
def test_rows_whose_norm_float32_cannot_tell_do_not_push_others_out(count: int) -> None:
    """A norm of 2 ** -148.5 is rounded to 2 ** -149, so that its row seems 1.4 times as near."""
    rows = np.full((count, 2), 2**-149, np.float32)
    rows[1] = [2.0, 1.0]
    query = np.array([1e20, 5e19], np.float32)
    index = exact_index(rows, Metric.COSINE)

    assert 1 in candidates(index, query, 1, None).rows
    assert 1 in candidates_among(index, query, 1, np.array([1, 0])).rows


def test_a_row_whose_norm_is_beyond_float32_is_measured() -> None:
    rows = np.array([[0, 25e18, 25e18], [0, 3.4e38, 3.4e38]], np.float32)
    assert np.isinf(exact.norms(rows)[1])
    query = np.array([0, 0, 1], np.float32)

    assert candidates(exact_index(rows, Metric.COSINE), query, 1, None).rows.tolist() == [0, 1]


def test_a_row_whose_product_is_beyond_float32_does_not_count_as_the_nearest() -> None:
    rows = np.array([[2e38, 2e38], [1, 0.01], [1, 0.02], [-1, 0]], np.float32)
    query = np.array([3, 0], np.float32)

    proposed = candidates(exact_index(rows, Metric.COSINE), query, 2, None).rows

    assert {1, 2} <= set(proposed.tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_zero_vectors_tie_and_are_all_proposed(metric: Metric) -> None:
    rows = np.zeros((20, 3), np.float32)
    rows[::2] = [-1, -2, -3]
    query = np.array([1, 2, 3], np.float32)

    proposed = candidates(exact_index(rows, metric), query, 4, None).rows

    assert set(range(1, 20, 2)) <= set(proposed.tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_every_row_ties_for_a_query_of_zeros_but_under_euclidean(metric: Metric) -> None:
    rows = np.arange(1, 31, dtype=np.float32).reshape(10, 3)

    proposed = candidates(exact_index(rows, metric), np.zeros(3, np.float32), 2, None).rows

    nearest = [0, 1] if metric is Metric.EUCLIDEAN else list(range(10))
    assert sorted(proposed.tolist()) == nearest


def test_listing_rows_keeps_their_ordinals_and_takes_any_order() -> None:
    rows = np.zeros((100, 2), np.float32)
    rows[:, 0] = np.arange(100)
    index = exact_index(rows, Metric.EUCLIDEAN)
    query = np.array([50, 0], np.float32)

    found = candidates_among(index, query, 2, np.array([99, 3, 60, 41])).rows

    assert sorted(found.tolist()) == [41, 60]
    assert candidates_among(index, query, 2, np.empty(0, np.int64)).rows.tolist() == []


def test_norms_are_right_at_both_ends_of_float32() -> None:
    rows = np.array([[3e38, 3e38], [1e38, 1e38], [0, 0], [3e-45, 4e-45], [3, 4]], np.float32)

    found = exact.norms(rows)

    expected = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    assert found[0] == np.inf
    assert found[1:].tolist() == pytest.approx(expected[1:], rel=1e-6, abs=1e-45)
    assert found[2] == 0.0
    assert found[3] > 0.0


def test_read_only_rows_can_be_searched() -> None:
    rows = np.eye(4, dtype=np.float32)
    rows.flags.writeable = False

    assert 2 in candidates(exact_index(rows, Metric.DOT_PRODUCT), rows[2], 1, None).rows
