"""Sign codes measure themselves: they are kept only where they find what exact search finds."""

import numpy as np
import pytest

from vicinal.ann import exact, signs
from vicinal.ann.signs import GrowingSigns, Recipe, SignCodes, SignIndex
from vicinal.model import Floats, Metric

METRICS = list(Metric)
SEED = 7


def clustered(rows: int, dimensions: int, seed: int = SEED) -> Floats:
    """Return rows in clusters within clusters, of unequal length."""
    random = np.random.default_rng(seed)
    values = np.zeros((rows, dimensions))
    for count, scale in ((8, 1.0), (200, 0.7), (rows, 0.5)):
        centres = random.normal(scale=scale, size=(count, dimensions))
        values += centres[random.integers(0, count, rows)] if count < rows else centres
    values *= random.lognormal(sigma=0.1, size=(rows, 1))
    return values.astype(np.float32)


def recall(values: Floats, codes: SignCodes, queries: Floats, metric: Metric, k: int) -> float:
    """Return the share of the k nearest, ties included, that are among the candidates."""
    norms = exact.norms(values)
    index, oracle = SignIndex(codes, metric), exact.ExactIndex(values, norms, metric)
    found = 0
    for query in queries:
        nearest = oracle.candidates(query, k, None)
        found += min(k, len(np.intersect1d(nearest, index.candidates(query, k, None))))
    return found / (k * len(queries))


@pytest.mark.parametrize("metric", METRICS)
def test_codes_that_are_kept_find_the_nearest_for_queries_they_have_not_seen(
    metric: Metric,
) -> None:
    values = clustered(6_100, 96)
    values, queries = np.ascontiguousarray(values[:6_000]), values[6_000:]

    codes = signs.build(values, exact.norms(values), metric)

    assert codes is not None
    assert recall(values, codes, queries, metric, k=10) >= 0.99
    assert recall(values, codes, queries, metric, k=100) >= 0.98


def test_data_that_directions_cannot_order_gets_no_codes() -> None:
    on_a_line = np.random.default_rng(SEED).normal(size=(5_000, 1)).astype(np.float32)

    assert signs.build(on_a_line, exact.norms(on_a_line), Metric.EUCLIDEAN) is None


@pytest.mark.parametrize("metric", METRICS)
def test_few_rows_get_no_codes(metric: Metric) -> None:
    values = clustered(signs.ROWS_MIN - 1, 32)

    assert signs.build(values, exact.norms(values), metric) is None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_rows_that_are_all_the_same_are_searched_one_way_or_the_other(
    metric: Metric, value: float
) -> None:
    values = np.full((signs.ROWS_MIN, 16), value, np.float32)

    codes = signs.build(values, exact.norms(values), metric)

    if codes is not None:
        assert len(SignIndex(codes, metric).candidates(values[0], 10, None)) >= 10


def test_a_row_with_many_duplicates_does_not_pass_for_easy_data() -> None:
    distinct = clustered(300, 64)
    values = distinct[np.random.default_rng(SEED).integers(0, 250, 10_000)]
    queries = distinct[250:]

    codes = signs.build(values, exact.norms(values), Metric.COSINE)

    assert codes is not None
    assert recall(values, codes, queries, Metric.COSINE, k=10) >= 0.95


@pytest.mark.filterwarnings("error")
def test_rows_whose_norms_overflow_are_not_lost() -> None:
    values = clustered(signs.ROWS_MIN, 16)
    values[5] = 3e38
    values[6] = 1e-38

    for metric in METRICS:
        codes = signs.build(values, exact.norms(values), metric)

        if codes is not None:
            proposed = SignIndex(codes, metric).candidates(values[5], 10, None)
            assert len(proposed) >= 10


def test_more_candidates_are_proposed_for_a_larger_k_and_never_fewer_than_k() -> None:
    recipe = Recipe(512, 1.0, (200, 800))
    codes = SignCodes(np.zeros((1, 64), np.uint8), np.zeros(512, np.float32), recipe)
    index = SignIndex(codes, Metric.COSINE)

    counts = [index.candidate_count(k) for k in (1, 10, 30, 100, 1_000, 10_000)]

    assert counts[:2] == [200, 200]
    assert counts == sorted(counts)
    assert counts[3] == pytest.approx(800, abs=1)
    assert counts[-1] >= 10_000


def test_stored_codes_are_the_codes_that_were_built() -> None:
    values = clustered(5_000, 48)
    codes = signs.build(values, exact.norms(values), Metric.DOT_PRODUCT)
    assert codes is not None

    again = SignCodes.of(codes.arrays())

    assert again.recipe == codes.recipe
    for query in values[:5]:
        assert (
            SignIndex(again, Metric.DOT_PRODUCT).candidates(query, 10, None).tolist()
            == SignIndex(codes, Metric.DOT_PRODUCT).candidates(query, 10, None).tolist()
        )


def test_directions_do_not_change_from_one_process_to_the_next() -> None:
    # Codes on disk are compared with codes of queries to come, maybe on another machine.
    rows = np.eye(4, dtype=np.float32)

    codes, _ = signs.encode(rows, Metric.EUCLIDEAN, 1.0, 512)

    assert codes[:, :4].tobytes().hex() == "838a5daf4fb4e0633e4df7cef1d38b79"


@pytest.mark.parametrize("metric", METRICS)
def test_codes_that_grew_find_what_codes_built_at_once_find(metric: Metric) -> None:
    values = clustered(6_100, 64)
    values, queries = np.ascontiguousarray(values[:6_000]), values[6_000:]
    built = signs.build(values, exact.norms(values), metric)
    assert built is not None
    growing = GrowingSigns(built.recipe, metric, values[:2_500])
    for start in range(2_500, 6_000, 700):
        growing.extend(values[start : start + 700])
    oracle = exact.ExactIndex(values, exact.norms(values), metric)

    index = growing.index(6_000)

    found = sum(
        len(np.intersect1d(oracle.candidates(each, 10, None), index.candidates(each, 10, None)))
        for each in queries
    )
    assert found >= 0.98 * 10 * len(queries)


def test_an_index_of_growing_codes_never_sees_rows_that_came_later() -> None:
    values = clustered(6_000, 32)
    growing = GrowingSigns(Recipe(512, 1.0, (400, 800)), Metric.COSINE, values[:2_000])
    early = growing.index(2_000)
    before = early.candidates(values[0], 10, None).tolist()

    growing.extend(values[2_000:])

    assert early.candidates(values[0], 10, None).tolist() == before
    assert max(before) < 2_000
