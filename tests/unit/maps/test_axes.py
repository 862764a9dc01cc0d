"""Principal axes: where vectors differ most, the same at each call, and finite for any values."""

import numpy as np
import pytest

from vicinal.maps import axes
from vicinal.model import Floats, Metric


def stretched(count: int, dimensions: int) -> Floats:
    """Return rows that differ by 9 along the fourth dimension, by 4 along the second, else by 1."""
    rows = np.random.default_rng(3).normal(size=(count, dimensions)).astype(np.float32)
    rows[:, 3] *= 9
    rows[:, 1] *= 4
    return rows + np.float32(5)


def test_the_axes_are_those_of_the_greatest_variance() -> None:
    rows = stretched(2_000, 16)

    view = axes.fit(rows)

    assert abs(view.directions[3, 0]) > 0.99
    assert abs(view.directions[1, 1]) > 0.99
    assert view.explained[0] == pytest.approx(81 / (81 + 16 + 14), abs=0.03)
    positions = view.project(rows)
    assert positions.shape == (2_000, 2)
    assert np.abs(positions.mean(axis=0)).max() < 1e-3


def test_the_axes_agree_with_a_whole_decomposition() -> None:
    rows = stretched(500, 12)
    centered = rows - rows.mean(axis=0)
    _, _, exact = np.linalg.svd(centered, full_matrices=False)

    view = axes.fit(rows)

    cosines = np.abs(np.sum(view.directions.T * exact[:2], axis=1))
    assert cosines.min() > 0.999


def test_the_same_rows_give_the_same_map() -> None:
    rows = stretched(300, 8)

    assert np.array_equal(axes.fit(rows).directions, axes.fit(rows.copy()).directions)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 4)),
        np.zeros((1, 4)),
        np.ones((5, 4)),
        np.arange(6).reshape(6, 1),
        np.full((3, 4), 3e38) * np.array([[1], [-1], [1]]),
        np.full((3, 4), 1e-40) * np.array([[1], [-1], [1]]),
        np.eye(2),
    ],
)
@pytest.mark.parametrize("metric", list(Metric))
def test_few_equal_huge_and_tiny_values_have_places(rows: Floats, metric: Metric) -> None:
    values = axes.comparable(rows.astype(np.float32), metric)

    view = axes.fit(values)
    positions = view.project(values)

    assert positions.shape == (len(rows), 2)
    assert np.isfinite(positions).all()
    assert all(0.0 <= share <= 1.0 for share in view.explained)


def test_for_cosine_the_length_of_a_vector_plays_no_part() -> None:
    rows = stretched(10, 4)
    scaled = rows * np.float32(1e20)

    assert np.allclose(
        axes.comparable(rows, Metric.COSINE), axes.comparable(scaled, Metric.COSINE), atol=1e-6
    )
    assert axes.comparable(rows, Metric.EUCLIDEAN) is rows


def test_a_vector_far_beyond_those_fitted_stays_finite() -> None:
    view = axes.fit(np.full((3, 2), 1e-30, np.float32) * np.array([[1], [2], [3]], np.float32))

    assert np.isfinite(view.project(np.full((1, 2), 3e38, np.float32))).all()
