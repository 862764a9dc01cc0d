"""Probes are no copies, and their neighbours are those that comparing all rows finds."""

import numpy as np
import pytest
from numpy.random import RandomState
from numpy.typing import NDArray

from vicinal.ann import exact, probes
from vicinal.ann.quantizer import DEPTHS
from vicinal.model import Floats, Metric

METRICS = list(Metric)
SEED = 3


def rows_of(count: int) -> Floats:
    return np.random.default_rng(SEED).normal(size=(count, 24)).astype(np.float32)


def distances_of(values: Floats, probe: Floats, metric: Metric) -> NDArray[np.float64]:
    rows, query = values.astype(np.float64), probe.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        squared: NDArray[np.float64] = np.square(rows - query).sum(axis=1)
        return squared
    dots: NDArray[np.float64] = -(rows @ query)
    return dots / np.linalg.norm(rows, axis=1) if metric is Metric.COSINE else dots


@pytest.mark.parametrize("count", [20, 131, 133, 512, 1_545, 6_000])
@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_are_the_nearest_rows_but_for_copies(metric: Metric, count: int) -> None:
    values = rows_of(count)
    values[5:9] = values[4]
    norms = exact.norms(values)
    drawn = probes.probes_of(values, norms, metric, RandomState(SEED))

    found = probes.neighbours_of(values, norms, metric, drawn)

    assert (
        len(np.unique(drawn.values, axis=0)) == len(drawn.values) == min(count - 4, probes.PROBES)
    )
    for number, probe in enumerate(drawn.values):
        is_copy = (values == probe).all(axis=1)
        assert found.copies[number].tolist() == np.flatnonzero(is_copy).tolist()
        wanted = np.sort(np.where(is_copy, np.inf, distances_of(values, probe, metric)))
        rows = found.rows[number][np.isfinite(found.distances[number])]
        assert len(rows) == min(found.rows.shape[1], count - is_copy.sum())
        assert len(np.unique(rows)) == len(rows)
        np.testing.assert_allclose(
            distances_of(values[rows], probe, metric), wanted[: len(rows)], atol=1e-4
        )
        assert (np.diff(found.distances[number][: len(rows)]) >= 0).all()
    assert found.rows.shape[1] > max(DEPTHS)


def test_of_rows_that_tie_the_first_are_neighbours() -> None:
    """So the same segment is measured alike on every machine."""
    values = np.tile(rows_of(2_000), (2, 1))
    values[2_000:] += np.float32(1e-3)
    values[3_000:] = values[1_000:2_000]  # twice each, far from each other in the order
    norms = exact.norms(values)
    drawn = probes.probes_of(values, norms, Metric.EUCLIDEAN, RandomState(SEED))

    found = probes.neighbours_of(values, norms, Metric.EUCLIDEAN, drawn)

    for distances, rows in zip(found.distances, found.rows, strict=True):
        ties = np.diff(distances) == 0
        assert (np.diff(rows)[ties] > 0).all()
