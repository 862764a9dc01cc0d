"""A search by codes rescores few rows, goes as far as it must, and stores what it needs."""

import numpy as np
import pytest

from tests.support.ann import binary_index, candidates, candidates_among, exact_index
from tests.support.clusters import clustered
from vicinal.ann import calibration, exact, quantizer
from vicinal.ann.binary import BinaryIndex, GrowingBinaryIndex
from vicinal.ann.quantizer import BinaryCodes, QuantizerParameters
from vicinal.model import Effort, Metric

METRICS = list(Metric)
SEED = 7
PARAMETERS = QuantizerParameters(512, 1.0, ((10, 20), (20, 40), (40, 60)), (100, 1_000))


def test_slack_and_rows_grow_with_k_between_the_depths_that_were_measured() -> None:
    depths = (1, 10, 30, 100, 1_000)

    margins = [PARAMETERS.margin_for(k, Effort.STANDARD) for k in depths]
    near = [PARAMETERS.rescored_for(k) for k in depths]

    assert margins == [20, 20, 30, 40, 40]
    assert near[:2] == [100, 100]
    assert near[2] == pytest.approx(300, abs=1)
    assert near[3] == 1_000
    assert near[4] >= 2 * 1_000


def test_stored_codes_are_the_codes_that_were_built() -> None:
    values = clustered(5_000, 48)
    codes = calibration.build(values, exact.norms(values), Metric.DOT_PRODUCT)
    assert codes is not None

    again = BinaryCodes.of(codes.arrays())

    assert again.parameters == codes.parameters
    oracle = exact_index(values, Metric.DOT_PRODUCT)
    for query in values[:5]:
        assert (
            candidates(BinaryIndex(again, oracle), query, 10, None).rows.tolist()
            == candidates(BinaryIndex(codes, oracle), query, 10, None).rows.tolist()
        )


@pytest.mark.parametrize("share", [0.9, 0.4, 0.2, 0.001])
def test_a_mask_and_a_list_of_the_same_rows_are_searched_alike(share: float) -> None:
    values = clustered(6_000, 64)
    index = binary_index(values, Metric.COSINE)
    allowed = np.random.default_rng(SEED).random(6_000) < share
    for query in values[:10]:
        masked = candidates(index, query, 5, allowed)
        listed = candidates_among(index, query, 5, np.flatnonzero(allowed))

        assert set(masked.rows.tolist()) == set(listed.rows.tolist())
        assert allowed[masked.rows].all()


def test_rows_with_the_same_code_do_not_make_a_search_read_everything() -> None:
    values = np.repeat(clustered(200, 32)[:2], 10_000, axis=0)
    index = binary_index(values, Metric.COSINE)

    proposal = candidates(index, values[0], 10, None)

    assert 10 <= len(proposal.rows) <= proposal.scored_count <= quantizer.RESCORED_MAX


@pytest.mark.parametrize("metric", METRICS)
def test_codes_that_grew_find_what_codes_built_at_once_find(metric: Metric) -> None:
    values = clustered(6_100, 64)
    values, queries = np.ascontiguousarray(values[:6_000]), values[6_000:]
    built = calibration.build(values, exact.norms(values), metric)
    assert built is not None
    growing = GrowingBinaryIndex(values[:2_500], metric, built.parameters)
    for start in range(2_500, 6_000, 700):
        growing.extend(values[start : start + 700])
    oracle = exact_index(values, metric)

    index = growing.index(oracle)

    found = sum(
        len(
            np.intersect1d(
                candidates(oracle, each, 10, None).rows, candidates(index, each, 10, None).rows
            )
        )
        for each in queries
    )
    assert found >= 0.98 * 10 * len(queries)


def test_an_index_of_growing_codes_never_sees_rows_that_came_later() -> None:
    values = clustered(6_000, 32)
    growing = GrowingBinaryIndex(values[:2_000], Metric.COSINE, PARAMETERS)
    early = growing.index(exact_index(values[:2_000], Metric.COSINE))
    before = candidates(early, values[0], 10, None).rows.tolist()

    growing.extend(values[2_000:])

    assert candidates(early, values[0], 10, None).rows.tolist() == before
    assert max(before) < 2_000
