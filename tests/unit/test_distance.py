"""Scores depend on the two vectors alone, are right to float32, and are always finite numbers."""

import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vicinal.distance import distances, score
from vicinal.model import Floats, Metric

LARGEST = float(np.finfo(np.float32).max)
METRICS = list(Metric)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
# Numbers of every size, and often those at the ends of what float32 can hold.
COMPONENTS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, SMALLEST, -SMALLEST, 2.0**-126, 2.0**-149 * 3, LARGEST, -LARGEST]
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Two vectors of one length; often one is a multiple of the other."""
    dimensions = draw(st.integers(1, 5))
    one = draw(st.lists(COMPONENTS, min_size=dimensions, max_size=dimensions))
    other = draw(
        st.sampled_from([one, [-each for each in one]])
        | st.lists(COMPONENTS, min_size=dimensions, max_size=dimensions)
    )
    return np.array(one, np.float32), np.array(other, np.float32)


def between(one: Floats, other: Floats, metric: Metric) -> float:
    return float(distances(one[None, :], other, metric)[0])


def at(*values: float) -> Floats:
    return np.array(values, np.float32)


def exactly(vector: Floats) -> list[Fraction]:
    return [Fraction(float(each)) for each in vector]


def exact_dot(one: Floats, other: Floats) -> Fraction:
    return sum((x * y for x, y in zip(exactly(one), exactly(other), strict=True)), Fraction())


def root(square: Fraction) -> Fraction:
    """Return a square root, right to 200 bits and more."""
    if square == 0:
        return Fraction()
    # Scaled so that the integer whose root is taken has more than 400 bits.
    shift = max(0, 400 + square.denominator.bit_length() - square.numerator.bit_length())
    shift += shift % 2
    scaled = (square.numerator << shift) // square.denominator
    return Fraction(math.isqrt(scaled), 1 << shift // 2)


def rounding(exact: Fraction) -> Fraction:
    """Return by how much one rounding to float32 may change a number."""
    return max(abs(exact) / 2**24, Fraction(2) ** -150)


@pytest.mark.parametrize(
    ("metric", "rows", "query", "expected"),
    [
        (Metric.EUCLIDEAN, [[3, 4], [0, 0], [-3, 0]], [0, 0], [5, 0, 3]),
        (Metric.DOT_PRODUCT, [[3, 4], [0, 0], [-3, 0]], [1, 2], [-11, 0, 3]),
        (Metric.COSINE, [[3, 4], [0, 0], [-3, 0], [6, 8]], [3, 4], [-1, 0, 0.6, -1]),
    ],
)
def test_distances_are_those_of_the_textbook(
    metric: Metric, rows: list[list[float]], query: list[float], expected: list[float]
) -> None:
    found = distances(np.array(rows, np.float32), at(*query), metric)

    assert found.dtype == np.float32
    assert found.tolist() == [np.float32(each) for each in expected]


@given(pairs(), st.sampled_from(METRICS))
def test_a_distance_is_finite_symmetric_and_never_minus_zero(
    pair: tuple[Floats, Floats], metric: Metric
) -> None:
    one, other = pair

    found = between(one, other, metric)

    assert abs(found) <= LARGEST
    assert found == between(other, one, metric)
    assert str(found) != "-0.0"
    assert str(score(found, metric)) != "-0.0"
    if metric is Metric.COSINE:
        assert -1.0 <= found <= 1.0


@given(pairs())
def test_a_dot_product_is_exact_up_to_one_rounding(pair: tuple[Floats, Floats]) -> None:
    one, other = pair
    exact, size = exact_dot(one, other), exact_dot(abs(one), abs(other))

    found = Fraction(between(one, other, Metric.DOT_PRODUCT))

    if abs(exact) < LARGEST:
        # One rounding to float32 of a float64 sum, which errs by its largest terms.
        assert abs(found + exact) <= rounding(exact) + size / 2**50
    else:
        assert abs(found) == LARGEST


@given(pairs())
def test_a_euclidean_distance_is_the_root_of_the_squares_up_to_one_rounding(
    pair: tuple[Floats, Floats],
) -> None:
    one, other = pair
    differences = [x - y for x, y in zip(exactly(one), exactly(other), strict=True)]
    exact = root(sum((each * each for each in differences), Fraction()))

    found = Fraction(between(one, other, Metric.EUCLIDEAN))

    if exact < LARGEST:
        assert abs(found - exact) <= rounding(exact) + exact / 2**48
    else:
        assert found == LARGEST


@given(pairs())
def test_a_cosine_is_the_dot_product_over_both_lengths_up_to_one_rounding(
    pair: tuple[Floats, Floats],
) -> None:
    one, other = pair
    lengths = root(exact_dot(one, one)) * root(exact_dot(other, other))
    exact = exact_dot(one, other) / lengths if lengths else Fraction()

    found = Fraction(score(between(one, other, Metric.COSINE), Metric.COSINE))

    # Terms that cancel leave the error of the largest, which is at most the lengths.
    assert abs(found - exact) <= rounding(exact) + Fraction(1, 2**48)


@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**32 - 1), st.sampled_from(METRICS))
def test_a_distance_does_not_depend_on_the_rows_beside_it(
    count: int, dimensions: int, seed: int, metric: Metric
) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, dimensions)).astype(np.float32)
    query = random.normal(size=dimensions).astype(np.float32)

    together = distances(rows, query, metric)

    assert together.tolist() == [between(row, query, metric) for row in rows]


@given(
    arrays(np.float32, st.tuples(st.integers(1, 6), st.just(9)), elements=COMPONENTS),
    arrays(np.float32, 9, elements=COMPONENTS),
    st.randoms(use_true_random=False),
    st.sampled_from(METRICS),
)
def test_distances_have_the_same_bits_in_any_order_and_at_any_stride(
    rows: Floats, query: Floats, random: Random, metric: Metric
) -> None:
    order = random.sample(range(len(rows)), len(rows))
    apart = np.repeat(rows, 2, axis=0)[::2]
    alone = np.concatenate([distances(row[None, :], query, metric) for row in rows])

    assert distances(rows, query, metric).tobytes() == alone.tobytes()
    assert distances(rows[order], query, metric).tobytes() == alone[order].tobytes()
    assert distances(apart, query, metric).tobytes() == alone.tobytes()


def test_a_distance_is_the_same_when_rows_are_stored_column_by_column() -> None:
    rows = np.ones((2, 9), np.float32)
    query = at(LARGEST, 1, -LARGEST, 1, 1, 1, 1, 1, 1)

    by_columns = distances(np.asfortranarray(rows), query, Metric.DOT_PRODUCT)

    assert by_columns.tolist() == distances(rows, query, Metric.DOT_PRODUCT).tolist()


def test_a_zero_vector_scores_0_under_cosine_whichever_of_the_two_it_is() -> None:
    zero = at(0, 0)

    assert between(zero, at(3, 4), Metric.COSINE) == 0
    assert between(at(3, 4), zero, Metric.COSINE) == 0
    assert between(zero, zero, Metric.COSINE) == 0


def test_a_cosine_of_a_vector_with_itself_is_1_at_any_length() -> None:
    for size in (1e-45, 1e-38, 1e-20, 1.0, 1e20, LARGEST):
        vector = at(size, size, 0)

        assert between(vector, vector, Metric.COSINE) == -1.0


def test_what_is_beyond_float32_stops_at_its_largest_number() -> None:
    huge = at(LARGEST, LARGEST)

    assert between(huge, huge, Metric.DOT_PRODUCT) == -LARGEST
    assert between(huge, -huge, Metric.DOT_PRODUCT) == LARGEST
    assert between(huge, -huge, Metric.EUCLIDEAN) == LARGEST


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(METRICS))
def test_a_score_is_a_finite_number_and_never_minus_zero(distance: float, metric: Metric) -> None:
    shown = score(distance + 0.0, metric)

    assert abs(shown) <= LARGEST
    assert str(shown) != "-0.0"
    assert shown == (-distance if metric is Metric.COSINE else distance)


def test_a_score_is_the_cosine_and_else_the_distance() -> None:
    assert score(-0.75, Metric.COSINE) == 0.75
    assert score(2.5, Metric.EUCLIDEAN) == 2.5
    assert score(-2.5, Metric.DOT_PRODUCT) == -2.5


def test_no_rows_give_no_distances() -> None:
    assert distances(np.empty((0, 3), np.float32), at(1, 2, 3), Metric.COSINE).shape == (0,)
