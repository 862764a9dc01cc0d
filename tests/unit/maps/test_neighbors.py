"""A layout by neighbours: exact neighbours, and groups that stay together and apart."""

import numpy as np
import pytest

from vicinal.maps import axes, neighbors
from vicinal.model import Floats


def groups(count: int, dimensions: int, number: int) -> tuple[Floats, Floats]:
    """Return rows of some groups far from each other, and the group of each."""
    random = np.random.default_rng(5)
    centers = random.normal(size=(number, dimensions)) * 4
    labels = np.arange(count) % number
    rows = centers[labels] + random.normal(size=(count, dimensions))
    return rows.astype(np.float32), labels.astype(np.float32)


def test_the_nearest_are_those_of_all_distances() -> None:
    rows, _ = groups(700, 6, 3)  # more than one block
    exact = np.linalg.norm(rows[:, None].astype(np.float64) - rows[None], axis=2)
    np.fill_diagonal(exact, np.inf)

    found, gaps = neighbors.nearest(rows, 4)

    expected = np.sort(exact, axis=1)[:, :4]
    taken = np.take_along_axis(exact, found, axis=1)
    assert np.allclose(taken, expected, atol=1e-4)
    assert (np.diff(gaps, axis=1) >= 0).all()
    assert not (found == np.arange(len(rows))[:, None]).any()


def test_groups_stay_together_and_apart() -> None:
    rows, labels = groups(600, 20, 6)

    placed = neighbors.layout(axes.fit(rows).project(rows), *neighbors.nearest(rows, 15))

    gaps = np.linalg.norm(placed[:, None] - placed[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert (labels[gaps.argmin(axis=1)] == labels).mean() > 0.98
    assert np.isfinite(placed).all()


def test_a_group_that_axes_lay_over_another_is_set_apart() -> None:
    """Two groups differ in a third direction alone, which a map along two axes cannot show."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(400, 3)) * np.array([9, 8, 0.2])
    rows[:, 2] += np.where(np.arange(400) % 2, 30, -30)
    rows[:, :2] *= 3
    values = rows.astype(np.float32)
    labels = np.arange(400) % 2

    placed = neighbors.layout(values[:, :2], *neighbors.nearest(values, 10))

    gaps = np.linalg.norm(placed[:, None] - placed[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert (labels[gaps.argmin(axis=1)] == labels).mean() > 0.9


def test_the_same_vectors_give_the_same_map_and_equal_ones_part() -> None:
    rows = np.ones((40, 3), np.float32)
    start = np.zeros((40, 2), np.float32)

    first = neighbors.layout(start, *neighbors.nearest(rows, 5))
    again = neighbors.layout(start, *neighbors.nearest(rows, 5))

    assert np.array_equal(first, again)
    assert np.isfinite(first).all()
    assert len(np.unique(first, axis=0)) == 40


@pytest.mark.parametrize("scale", [3e38, 1e-38])
def test_huge_and_tiny_values_have_neighbors(scale: float) -> None:
    rows = (np.array([[1, 0], [0.9, 0], [0, 1], [0, 0.8]]) * scale).astype(np.float32)

    found, gaps = neighbors.nearest(rows, 1)

    assert found[:, 0].tolist() == [1, 0, 3, 2]
    assert np.isfinite(gaps).all()


def test_a_query_is_placed_among_those_that_it_is_nearest_to() -> None:
    positions = np.array([[0, 0], [10, 0]], np.float32)

    near = neighbors.between(positions, np.array([0.1, 5], np.float32))
    at_one = neighbors.between(positions, np.array([0, 5], np.float32))

    assert near[0] < 1
    assert at_one[0] < 0.2
    assert np.isfinite(neighbors.between(positions, np.zeros(2, np.float32))).all()
