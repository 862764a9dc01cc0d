"""Binary codes are calibrated: they are kept only where they find what exact search finds."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.ann import candidates
from tests.support.clusters import clustered
from tests.support.holding import StopAt
from vicinal.ann import binary, calibration, exact, quantizer
from vicinal.ann.binary import BinaryIndex
from vicinal.ann.exact import ExactIndex
from vicinal.ann.quantizer import EFFORTS, BinaryCodes
from vicinal.interruption import Interrupted, interruptible
from vicinal.model import Effort, Floats, Mask, Metric

METRICS = list(Metric)
SEED = 7


def build(values: Floats, metric: Metric) -> BinaryCodes | None:
    return calibration.build(values, exact.norms(values), metric)


def index_of(values: Floats, codes: BinaryCodes, metric: Metric) -> BinaryIndex:
    return BinaryIndex(codes, ExactIndex(values, exact.norms(values), metric))


def recall(
    values: Floats,
    codes: BinaryCodes,
    queries: Floats,
    metric: Metric,
    k: int,
    effort: Effort = Effort.STANDARD,
    allowed: Mask | None = None,
) -> float:
    """Return the share of the k nearest, ties included, that are among the candidates."""
    index = index_of(values, codes, metric)
    oracle = ExactIndex(values, exact.norms(values), metric)
    found = 0
    for query in queries:
        nearest = candidates(oracle, query, k, allowed).rows
        proposed = candidates(index, query, k, allowed, effort).rows
        found += min(k, len(np.intersect1d(nearest, proposed)))
    return found / (k * len(queries))


@pytest.mark.parametrize("metric", METRICS)
def test_each_effort_finds_what_it_promises_for_queries_it_has_not_seen(metric: Metric) -> None:
    values = clustered(12_200, 96)
    values, queries = np.ascontiguousarray(values[:12_000]), values[12_000:]

    codes = build(values, metric)

    assert codes is not None
    # Of 2,000 neighbours, four more may be missed than were of the probes' 1,600.
    assert recall(values, codes, queries, metric, 10, Effort.LOW) >= 0.988
    assert recall(values, codes, queries, metric, 10, Effort.STANDARD) >= 0.997
    assert recall(values, codes, queries, metric, 10, Effort.HIGH) >= 0.998
    assert recall(values, codes, queries[:50], metric, 100) >= 0.997


def test_queries_unlike_rows_that_are_full_of_near_copies_find_what_they_should() -> None:
    """Rows find their own copies without any margin; a query that has none needs some."""
    random = np.random.default_rng(SEED)
    points = random.standard_normal((1_600, 24)) @ random.standard_normal((24, 96))
    points += 0.25 * np.sqrt(24) * random.standard_normal(points.shape)
    queries, originals = points[:100].astype(np.float32), points[100:]
    copies = np.repeat(originals, 20, axis=0)
    copies += 0.3 * np.sqrt(24) * random.standard_normal(copies.shape)
    values = random.permutation(copies).astype(np.float32)
    allowed = random.random(len(values)) < 0.02

    codes = build(values, Metric.COSINE)

    assert codes is not None
    assert recall(values, codes, queries, Metric.COSINE, 10) >= 0.995
    assert recall(values, codes, queries, Metric.COSINE, 10, allowed=allowed) >= 0.995


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_what_was_measured_without_a_filter_is_enough_with_one(share: float) -> None:
    values = clustered(12_100, 96)
    values, queries = np.ascontiguousarray(values[:12_000]), values[12_000:]
    codes = build(values, Metric.COSINE)
    assert codes is not None
    allowed = np.random.default_rng(SEED).random(len(values)) < share

    assert recall(values, codes, queries, Metric.COSINE, 10, allowed=allowed) >= 0.99


def test_rows_that_pass_a_filter_are_found_however_far_they_are() -> None:
    values = clustered(12_000, 64)
    codes = build(values, Metric.EUCLIDEAN)
    assert codes is not None
    index = index_of(values, codes, Metric.EUCLIDEAN)
    query = values[0]
    distances = np.linalg.norm(values - query, axis=1)
    # Half of all rows, and none that is among the nearer half.
    allowed = distances > np.median(distances)

    proposed = candidates(index, query, 10, allowed).rows

    nearest = np.flatnonzero(allowed)[np.argsort(distances[allowed])[:10]]
    assert allowed[proposed].all()
    assert len(np.intersect1d(nearest, proposed)) >= 9


def test_candidates_say_how_they_were_found_when_codes_do_not_tell_which_rows_are_near() -> None:
    values = clustered(12_000, 64)
    codes = build(values, Metric.EUCLIDEAN)
    assert codes is not None
    index = index_of(values, codes, Metric.EUCLIDEAN)
    distances = np.linalg.norm(values - values[0], axis=1)
    allowed = distances > np.percentile(distances, 40)  # the edge of every search is near

    far, near = candidates(index, values[0], 10, allowed), candidates(index, values[0], 10)

    assert (far.method, far.scored_count) == (exact.SCAN, allowed.sum().item())
    assert near.method == binary.CODES
    assert near.scored_count < len(values)


def test_a_higher_effort_reads_more_rows_and_finds_no_less() -> None:
    values = clustered(12_100, 96)
    values, queries = np.ascontiguousarray(values[:12_000]), values[12_000:]
    codes = build(values, Metric.COSINE)
    assert codes is not None
    index = index_of(values, codes, Metric.COSINE)

    scored = [
        sum(candidates(index, query, 10, None, effort).scored_count for query in queries)
        for effort in EFFORTS
    ]
    recalls = [recall(values, codes, queries, Metric.COSINE, 10, effort) for effort in EFFORTS]

    assert scored == sorted(set(scored))
    assert recalls == sorted(recalls)


def test_an_easy_query_reads_fewer_rows_than_a_hard_one() -> None:
    values = clustered(12_000, 96)
    codes = build(values, Metric.COSINE)
    assert codes is not None
    index = index_of(values, codes, Metric.COSINE)
    nowhere = np.random.default_rng(SEED).normal(size=(20, 96)).astype(np.float32)

    easy = [candidates(index, row, 10, None).scored_count for row in values[:20]]
    hard = [candidates(index, row, 10, None).scored_count for row in nowhere]

    assert np.mean(hard) > 1.5 * np.mean(easy)


def test_codes_are_longer_where_rows_are_long_as_longer_codes_spare_reading_rows() -> None:
    values = np.random.default_rng(SEED).standard_normal((31_000, 16)).astype(np.float32)
    longer = np.zeros((31_000, 1_024), np.float32)  # of the same directions and distances
    longer[:, :16] = values

    short, long = (build(each, Metric.COSINE) for each in (values, longer))

    assert short is not None
    assert long is not None
    assert (short.parameters.bits, long.parameters.bits) == (512, 1_024)


def test_codes_of_few_rows_are_no_longer_than_reading_rows_from_the_cache_is_worth() -> None:
    few = np.zeros((10_000, 256), np.float32)
    few[:, :16] = np.random.default_rng(SEED).standard_normal((10_000, 16))

    codes = build(few, Metric.COSINE)

    assert codes is not None
    assert codes.parameters.bits == 512


def test_data_that_directions_cannot_order_gets_no_codes() -> None:
    on_a_line = np.random.default_rng(SEED).normal(size=(5_000, 1)).astype(np.float32)

    assert build(on_a_line, Metric.EUCLIDEAN) is None


@pytest.mark.parametrize("metric", METRICS)
def test_few_rows_get_no_codes(metric: Metric) -> None:
    assert build(clustered(quantizer.ROWS_MIN - 1, 32), metric) is None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_rows_that_are_all_the_same_are_searched_one_way_or_the_other(
    metric: Metric, value: float
) -> None:
    values = np.full((quantizer.ROWS_MIN, 16), value, np.float32)

    codes = build(values, metric)

    if codes is not None:
        assert len(candidates(index_of(values, codes, metric), values[0], 10, None).rows) >= 10


def test_a_row_with_many_duplicates_does_not_pass_for_easy_data() -> None:
    distinct = clustered(300, 64)
    values = distinct[np.random.default_rng(SEED).integers(0, 250, 10_000)]
    queries = distinct[250:]

    codes = build(values, Metric.COSINE)

    assert codes is not None
    assert recall(values, codes, queries, Metric.COSINE, k=10) >= 0.95


@pytest.mark.parametrize("noise", [0.0, 2e-3, 1e-2])
@pytest.mark.parametrize("metric", METRICS)
def test_copies_of_few_rows_are_searched_as_well_as_distinct_rows(
    metric: Metric, noise: float
) -> None:
    """Eight sets of rows, as one that is easy or hard by chance says little.

    Of each query the ten nearest are copies of one row, and are found or missed together: of
    1,600 queries at low effort, 16 may miss them, give or take 4. Most miss fewer, as few
    samples get more margin than they need half the time.
    """
    found = []
    for seed in range(8):
        rows = clustered(300, 64, seed)
        originals, queries = rows[:100], rows[100:]
        random = np.random.default_rng(seed)
        values = originals[random.integers(0, len(originals), 8_000)]
        values += np.float32(noise) * random.standard_normal(values.shape, np.float32)

        codes = build(values, metric)

        assert codes is not None
        found.append(
            [
                recall(values, codes, queries, metric, 10, effort)
                for effort in (Effort.LOW, Effort.STANDARD)
            ]
        )
    low, standard = np.mean(found, axis=0)
    assert low >= 0.99
    assert standard >= 0.998


def test_few_rows_that_are_copies_of_very_few_get_no_codes() -> None:
    """Where most searches would open as many rows as they may, reading all is no slower."""
    originals = clustered(300, 64)[:4]
    values = originals[np.random.default_rng(SEED).integers(0, len(originals), 20_000)]

    assert build(values, Metric.COSINE) is None


def test_rows_that_lie_far_from_the_origin_are_not_taken_for_copies() -> None:
    values = clustered(12_000, 96)

    near = build(values, Metric.EUCLIDEAN)
    far = build(values + np.float32(50.0), Metric.EUCLIDEAN)

    assert near is not None
    assert far is not None
    # Were they copies, there would be few samples, and several times the margin.
    assert np.all(np.array(far.parameters.margins) <= np.array(near.parameters.margins) + 4)


@pytest.mark.filterwarnings("error")
def test_rows_that_lie_far_from_the_origin_need_the_slack_that_they_need_near_it() -> None:
    values = clustered(12_000, 96)

    near, far = (build(values + np.float32(each), Metric.EUCLIDEAN) for each in (0, 100))

    assert near is not None
    assert far is not None
    assert far.parameters.bits == near.parameters.bits
    apart = np.abs(np.array(far.parameters.margins) - np.array(near.parameters.margins))
    assert apart.max() <= near.parameters.bits // 100


def test_rows_whose_norms_overflow_are_not_lost() -> None:
    values = clustered(quantizer.ROWS_MIN, 16)
    values[5] = 3e38
    values[6] = 1e-38

    for metric in METRICS:
        codes = build(values, metric)

        if codes is not None:
            index = index_of(values, codes, metric)
            assert len(candidates(index, values[5], 10, None).rows) >= 10


@pytest.mark.parametrize("stop", [1, 8, 9, 100])
def test_it_is_given_up_at_any_of_its_points(stop: int) -> None:
    at = StopAt(stop)

    with pytest.raises(Interrupted), interruptible(at):
        build(clustered(quantizer.ROWS_MIN, 32), Metric.COSINE)

    assert at.count == stop


@pytest.mark.parametrize(("gap", "margins"), [(1, None), (5, None), (5, ((0, 0),) * 3)])
@pytest.mark.parametrize("metric", METRICS)
def test_what_is_found_of_probes_in_a_gap_is_what_searches_find(
    metric: Metric, gap: int, margins: tuple[tuple[int, int], ...] | None
) -> None:
    """But for one in a hundred or fewer, which searches find as they go on for other rows."""
    values = clustered(12_000, 96)
    values[:40] = values[40:80]  # copies, which are hidden with their probes
    norms = exact.norms(values)
    calibrated = calibration.calibrate(values, norms, metric)
    assert calibrated is not None
    near, codes = calibrated.parts[0].neighbours, calibrated.codes
    if margins is not None:  # then it is the rows that are rescored in any case
        low, standard, high = margins
        parameters = replace(codes.parameters, margins=(low, standard, high))
        codes = replace(codes, parameters=parameters)
    rows = ExactIndex(values, norms, metric)
    index = BinaryIndex(codes, rows)

    found = calibration.rows_in_gap(codes, rows, near, gap)

    assert set(found) == {(effort, depth) for effort in EFFORTS for depth in quantizer.DEPTHS}
    for (effort, depth), of_probes in found.items():
        more = wanted = 0
        for number, probe in enumerate(near.probes):
            allowed = np.ones(len(values), np.bool_)
            allowed[near.copies[number]] = allowed[near.rows[number, :gap]] = False
            nearest = near.rows[number, gap : gap + depth]
            searched = candidates(index, probe, depth, allowed, effort).rows
            assert np.isin(of_probes[number], nearest).all()
            assert np.isin(of_probes[number], searched).all()
            more += int(np.isin(nearest, searched).sum()) - len(of_probes[number])
            wanted += depth
        assert more <= 0.015 * wanted
