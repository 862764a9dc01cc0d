"""Binary codes: the same everywhere and always, and near for what is near."""

import numpy as np
import pytest

from tests.support.clusters import clustered
from vicinal.ann import projection
from vicinal.model import Metric

METRICS = list(Metric)


def test_directions_do_not_change_from_one_process_to_the_next() -> None:
    # Codes on disk are compared with codes of queries to come, maybe on another machine.
    # No projection of these is so near the mean's that rounding decides.
    rows = np.sin(np.square(np.arange(40.0))).reshape(4, 10).astype(np.float32)

    codes, _ = projection.encode(rows, Metric.EUCLIDEAN, 1.0, 512)

    assert codes[:, :4].tobytes().hex() == "9acd7deb233f2e816ce89041d594413e"


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.EUCLIDEAN])
def test_a_query_that_is_a_row_has_its_code(metric: Metric) -> None:
    values = clustered(500, 48)
    codes, offset = projection.encode(values, metric, 1.0, 512)

    for row in range(0, 500, 50):
        code = projection.code_of_query(values[row], metric, offset)
        # Sums in another order may round a projection to the other side of nothing.
        assert np.unpackbits(code ^ codes[row]).sum() <= 2


@pytest.mark.parametrize("metric", METRICS)
def test_queries_asked_once_have_the_codes_of_queries_that_are_kept(metric: Metric) -> None:
    values = clustered(500, 48)
    scale = float(np.linalg.norm(values, axis=1).max())
    _, offset = projection.encode(values, metric, scale, 512)

    codes = projection.codes_of_queries(values[:20], metric, offset)

    kept = [projection.code_of_query(each, metric, offset) for each in values[:20]]
    assert codes.tolist() == np.stack(kept).tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_rows_encoded_later_have_the_codes_they_would_have_had(metric: Metric) -> None:
    values = clustered(500, 48)
    scale = float(np.linalg.norm(values, axis=1).max())
    codes, offset = projection.encode(values, metric, scale, 512)

    later = projection.codes_of(values[300:], metric, scale, offset)

    assert np.unpackbits(later ^ codes[300:]).mean() < 1e-4


def test_the_distance_of_codes_is_the_angle() -> None:
    random = np.random.default_rng(3)
    around = random.normal(size=(2_000, 64)).astype(np.float32)
    codes, offset = projection.encode(around, Metric.COSINE, 1.0, 2_048)
    code = projection.code_of_query(around[0], Metric.COSINE, offset)

    shares = np.unpackbits(codes ^ code, axis=1).mean(axis=1)

    unit = around / np.linalg.norm(around, axis=1, keepdims=True)
    angles = np.arccos(np.clip(unit @ unit[0], -1, 1)) / np.pi
    assert np.abs(shares - angles).max() < 0.06


@pytest.mark.filterwarnings("error")
def test_products_are_those_of_the_matrices() -> None:
    random = np.random.default_rng(4)
    rows, others = (random.normal(size=(n, 33)).astype(np.float32) for n in (70, 9))

    assert np.allclose(projection.products(rows, others), rows @ others.T, atol=1e-4)
