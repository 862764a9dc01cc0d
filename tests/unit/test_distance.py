"""Scores depend on the two vectors alone, are right to float32, and are always finite numbers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicinal.distance import distances, score
from vicinal.model import Floats, Metric

LARGEST = float(np.finfo(np.float32).max)
METRICS = list(Metric)
COMPONENTS = st.floats(width=32, allow_nan=False, allow_infinity=False)


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
    terms = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(one, other, strict=True)]
    exact, size = sum(terms, Fraction()), sum((abs(each) for each in terms), Fraction())

    found = Fraction(between(one, other, Metric.DOT_PRODUCT))

    if abs(exact) < LARGEST:
        # One rounding to float32 of a float64 sum, which errs by its largest terms.
        rounding = max(abs(exact) / 2**24, Fraction(2) ** -150)
        assert abs(found + exact) <= rounding + size / 2**50
    else:
        assert abs(found) == LARGEST


@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**32 - 1), st.sampled_from(METRICS))
def test_a_distance_does_not_depend_on_the_rows_beside_it(
    count: int, dimensions: int, seed: int, metric: Metric
) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, dimensions)).astype(np.float32)
    query = random.normal(size=dimensions).astype(np.float32)

    together = distances(rows, query, metric)

    assert together.tolist() == [between(row, query, metric) for row in rows]


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


def test_a_score_is_the_cosine_and_else_the_distance() -> None:
    assert score(-0.75, Metric.COSINE) == 0.75
    assert score(2.5, Metric.EUCLIDEAN) == 2.5
    assert score(-2.5, Metric.DOT_PRODUCT) == -2.5


def test_no_rows_give_no_distances() -> None:
    assert distances(np.empty((0, 3), np.float32), at(1, 2, 3), Metric.COSINE).shape == (0,)
