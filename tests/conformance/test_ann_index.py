"""Every AnnIndex passes this file. To add an index, add one line to `support.ann.BUILDERS`, and its
kind to `ann.kinds.KINDS` and to `SMALL_KINDS`."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from tests.support.ann import (
    BUILDERS,
    Builder,
    candidates,
    candidates_among,
    exact_index,
    row_of_points,
    small_graph_kind,
    true_distances,
)
from tests.support.clusters import grouped
from vicinal.ann.base import AnnIndex, RowTest, Selection
from vicinal.ann.binary import BinaryKind
from vicinal.ann.exact import ExactIndex
from vicinal.ann.kinds import KINDS, AnnKind, Arrays
from vicinal.errors import Corruption
from vicinal.model import Effort, Floats, Mask, Metric, Ordinals
from vicinal.native.library import library
from vicinal.segment.segment import open_index
from vicinal.storage import files
from vicinal.storage.files import ComponentFile

METRICS = list(Metric)
STORED_ROWS = 9_000
QUERIES = 20
GRAPH_ROWS = 36_000  # fewer codes are compared in less time than a walk takes
RECALL_MIN = 0.95  # of an approximate index on the data of this file


@pytest.fixture(params=BUILDERS, ids=lambda each: each.name)
def builder(request: pytest.FixtureRequest) -> Builder:
    assert isinstance(request.param, Builder)
    return request.param


def proposed_by(index: AnnIndex, query: Floats, k: int, allowed: Mask | None = None) -> Ordinals:
    proposal = candidates(index, query, k, allowed)
    assert proposal.scored_count >= len(proposal.rows)
    return proposal.rows


def at(*values: float) -> Floats:
    return np.array(values, np.float32)


def cloud(rows: int, dimensions: int, seed: int) -> Floats:
    """Return vectors around a few centres, on a surface of few dimensions, as embeddings lie."""
    random = np.random.default_rng(seed)
    surface = np.random.default_rng(dimensions).normal(size=(12, dimensions))
    centres = random.normal(size=(8, 12))
    noise = random.normal(scale=0.5, size=(rows, 12))
    return ((centres[random.integers(0, 8, rows)] + noise) @ surface).astype(np.float32)


def test_the_nearest_of_a_row_of_points_are_proposed(builder: Builder) -> None:
    index = builder.build(row_of_points(100), Metric.EUCLIDEAN)

    assert set(range(38, 45)) <= set(proposed_by(index, at(41, 0), 7).tolist())
    assert 0 in proposed_by(index, at(-5, 3), 1)
    assert 99 in proposed_by(index, at(1e6, 0), 1)


def test_proposed_rows_are_distinct_ordinals(builder: Builder) -> None:
    index = builder.build(row_of_points(50), Metric.EUCLIDEAN)

    proposed = proposed_by(index, at(7, 7), 10)

    assert proposed.dtype == np.int64
    assert len(set(proposed.tolist())) == len(proposed)
    assert proposed.min() >= 0
    assert proposed.max() < 50


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3, 30, 31, 1000])
def test_never_fewer_are_proposed_than_asked_for_while_there_are_more(
    builder: Builder, metric: Metric, k: int
) -> None:
    index = builder.build(row_of_points(30), metric)
    allowed = np.arange(30) % 3 == 1

    assert len(proposed_by(index, at(5, 1), k)) >= min(k, 30)
    assert len(proposed_by(index, at(5, 1), k, allowed)) >= min(k, 10)


@pytest.mark.parametrize("metric", METRICS)
def test_a_row_that_is_not_allowed_is_never_proposed(builder: Builder, metric: Metric) -> None:
    values = cloud(400, 16, seed=1)
    index = builder.build(values, metric)
    random = np.random.default_rng(2)
    for share in (0.0, 0.002, 0.1, 0.9, 1.0):
        allowed = random.random(400) < share

        for k in (1, 10, 500):
            proposed = proposed_by(index, values[3], k, allowed)

            assert allowed[proposed].all()
            assert len(proposed) >= min(k, int(allowed.sum()))


def test_the_nearest_allowed_row_is_proposed_however_far_it_is(builder: Builder) -> None:
    values = row_of_points(2_000)
    index = builder.build(values, Metric.EUCLIDEAN)
    allowed = np.zeros(2_000, np.bool_)
    allowed[[1_990, 1_999]] = True

    assert 1_990 in proposed_by(index, at(0, 0), 1, allowed)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimensions", [1, 2, 31, 128, 769])
def test_the_true_nearest_are_among_those_proposed(
    builder: Builder, metric: Metric, dimensions: int
) -> None:
    if dimensions < builder.dimensions_min:
        pytest.skip("is not kept for data of so few dimensions")
    values = cloud(1_000, dimensions, seed=dimensions)
    queries = cloud(20, dimensions, seed=dimensions + 1)
    index = builder.build(values, metric)
    found = 0.0
    for query in queries:
        nearest = np.argsort(true_distances(values, query, metric), kind="stable")[:10]
        found += np.isin(nearest, proposed_by(index, query, 10)).mean()

    assert found / len(queries) >= (1.0 if builder.is_exact else RECALL_MIN)


@pytest.mark.parametrize("metric", METRICS)
def test_the_length_of_a_query_does_not_matter_to_cosine_and_breaks_no_metric(
    builder: Builder, metric: Metric
) -> None:
    values = cloud(300, 8, seed=5)
    index = builder.build(values, metric)

    for scale in (1e-6, 1.0, 1e6):
        query = values[17] * np.float32(scale)
        nearest = int(np.argmin(true_distances(values, query, metric)))

        assert nearest in proposed_by(index, query, 5)


def test_the_row_that_equals_the_query_is_proposed(builder: Builder) -> None:
    values = cloud(500, 64, seed=6)
    for metric in (Metric.COSINE, Metric.EUCLIDEAN):
        index = builder.build(values, metric)

        assert all(row in proposed_by(index, values[row], 3) for row in range(0, 500, 25))


def test_an_index_of_one_row_proposes_it(builder: Builder) -> None:
    for metric in METRICS:
        index = builder.build(row_of_points(1), metric)

        assert proposed_by(index, at(3, 4), 10).tolist() == [0]


def test_rows_that_tie_are_all_proposed_by_an_exact_index(builder: Builder) -> None:
    if not builder.is_exact:
        pytest.skip("may leave out some of equally near rows")
    # Each point once at either side of the query, then many copies of one.
    around = row_of_points(21)
    crowd = np.concatenate([around, np.repeat(at(10, 5)[None, :], 40, axis=0)])
    index = builder.build(crowd, Metric.EUCLIDEAN)

    assert {9, 10, 11} <= set(proposed_by(index, at(10, 0), 2).tolist())
    assert set(range(21, 61)) <= set(proposed_by(index, at(10, 6), 1).tolist())


def test_a_list_of_rows_is_searched_as_a_mask_of_them_is(builder: Builder) -> None:
    values = cloud(1_000, 64, seed=7)
    index = builder.build(values, Metric.COSINE)
    rows = np.random.default_rng(8).permutation(1_000)[:600]
    allowed = np.zeros(1_000, np.bool_)
    allowed[rows] = True

    assert index.row_count == 1_000
    for query in values[:20]:
        listed, masked = (
            candidates_among(index, query, 10, rows),
            candidates(index, query, 10, allowed),
        )

        assert allowed[listed.rows].all()
        assert listed.method
        nearest = rows[np.argsort(true_distances(values[rows], query, Metric.COSINE))[:5]]
        assert set(nearest.tolist()) <= set(listed.rows.tolist())
        assert set(nearest.tolist()) <= set(masked.rows.tolist())


@pytest.mark.parametrize("share", [1.0, 0.7])
@pytest.mark.parametrize("intervals", [[(3, 90)], [(50, 70), (-1, 0), (0, 20)], [(99, 99)]])
def test_rows_that_pass_a_test_are_searched_as_a_mask_of_them_is(
    builder: Builder, intervals: list[tuple[int, int]], share: float
) -> None:
    values = cloud(1_000, 64, seed=9)
    index = builder.build(values, Metric.COSINE)
    random = np.random.default_rng(10)
    numbers = random.integers(-1, 100, 1_000).astype(np.int32)
    allowed = random.random(1_000) < share
    passing = np.zeros(1_000, np.bool_)
    for start, stop in intervals:
        passing |= (start <= numbers) & (numbers < stop)
    mask = allowed & passing
    test = RowTest(numbers, np.array(intervals, np.int32))
    tested = Selection(int(mask.sum()), mask=None if share == 1 else allowed, test=test)

    for query in values[:10] if mask.any() else []:
        of_test = index.prepare(query, 10, tested, Effort.STANDARD).run()
        of_mask = candidates(index, query, 10, mask)

        assert np.array_equal(np.sort(of_test.rows), np.sort(of_mask.rows))
        assert of_test.scored_count == of_mask.scored_count

    assert not tested.is_all
    for same in (tested.masked().mask, tested.listed().rows):
        assert same is not None
        assert np.array_equal(same, mask if same.dtype == np.bool_ else np.flatnonzero(mask))


def test_searches_may_be_prepared_together_and_run_by_other_threads(builder: Builder) -> None:
    values = cloud(1_000, 64, seed=9)
    index = builder.build(values, Metric.COSINE)
    everything = Selection(1_000)
    alone = [candidates(index, query, 10).rows.tolist() for query in values[:20]]

    prepared = [index.prepare(query, 10, everything, Effort.STANDARD) for query in values[:20]]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda task: task.run(), [task for each in prepared for task in each.tasks]))

    assert [each.finish().rows.tolist() for each in prepared] == alone


# Kinds that are built and stored


SMALL_KINDS: dict[str, AnnKind] = {"graph": small_graph_kind(GRAPH_ROWS), "codes": BinaryKind()}
"""By component: every one of `KINDS`, for as few rows as it may serve."""


def test_every_kind_is_under_the_suite() -> None:
    assert [kind.component for kind in KINDS] == list(SMALL_KINDS)
    assert [type(kind) for kind in KINDS] == [type(kind) for kind in SMALL_KINDS.values()]


@pytest.fixture(params=list(SMALL_KINDS.values()), ids=list(SMALL_KINDS), scope="module")
def kind(request: pytest.FixtureRequest) -> AnnKind:
    if request.param.component == "graph" and library() is None:
        pytest.skip("NO GRAPH IS BUILT: there is no C compiler")
    return cast(AnnKind, request.param)


@pytest.fixture(scope="module")
def many(kind: AnnKind) -> ExactIndex:
    """Enough rows for an approximate index to be worth building."""
    if kind.component == "graph":
        return exact_index(grouped(GRAPH_ROWS, QUERIES)[0], Metric.COSINE)
    return exact_index(cloud(STORED_ROWS, 64, seed=10), Metric.COSINE)


@pytest.fixture(scope="module")
def queries(kind: AnnKind) -> Floats:
    """Queries like the rows of `many`."""
    if kind.component == "graph":
        return grouped(GRAPH_ROWS, QUERIES)[1]
    return cloud(QUERIES, 64, seed=11)


@pytest.fixture(scope="module")
def arrays(kind: AnnKind, many: ExactIndex) -> Arrays:
    """The arrays of an index without parameters of an older one."""
    built = kind.build(many, None)
    assert built is not None
    return built


def recall(index: AnnIndex, oracle: AnnIndex, queries: Floats) -> float:
    """Return the share of the ten nearest that the index finds, over a few queries."""
    shares = []
    for query in queries:
        nearest = candidates(oracle, query, 10, effort=Effort.EXACT).rows
        shares.append(np.isin(nearest, candidates(index, query, 10).rows).mean())
    return float(np.mean(shares))


def stored(kind: AnnKind, exact: ExactIndex, arrays: Arrays | None, path: Path) -> AnnIndex:
    """Return an index whose arrays were written to a file of a segment and opened from there."""
    assert arrays is not None
    file = ComponentFile(path, kind.component, files.write(path, kind.component, arrays))
    return open_index(kind, file, exact)


def test_an_index_that_was_stored_finds_the_nearest_rows(
    kind: AnnKind, many: ExactIndex, arrays: Arrays, queries: Floats, tmp_path: Path
) -> None:
    index = stored(kind, many, arrays, tmp_path / "first")

    assert index.row_count == many.row_count
    assert recall(index, many, queries) >= RECALL_MIN


def test_a_file_of_an_earlier_version_lacks_arrays_and_finds_the_nearest_rows(
    kind: AnnKind, many: ExactIndex, arrays: Arrays, queries: Floats, tmp_path: Path
) -> None:
    assert set(kind.added) < set(arrays)
    earlier = {name: array for name, array in arrays.items() if name not in kind.added}

    index = stored(kind, many, earlier, tmp_path / "earlier")

    assert recall(index, many, queries) >= RECALL_MIN


def test_a_file_that_lacks_any_other_array_is_damaged(
    kind: AnnKind, many: ExactIndex, arrays: Arrays, tmp_path: Path
) -> None:
    for name in set(arrays) - set(kind.added):
        rest = {each: array for each, array in arrays.items() if each != name}
        with pytest.raises(Corruption, match=name):
            stored(kind, many, rest, tmp_path / name)


def test_arrays_that_contradict_each_other_are_refused(
    kind: AnnKind, many: ExactIndex, arrays: Arrays
) -> None:
    for name in arrays:
        assert name in kind.layout(many.row_count)
    broken = {name: np.zeros_like(array[:1]) for name, array in arrays.items()}
    with pytest.raises(ValueError, match=kind.component):
        kind.open(broken, many)


def test_parameters_of_one_index_build_another_of_rows_like_its_own(
    kind: AnnKind, many: ExactIndex, arrays: Arrays, queries: Floats, tmp_path: Path
) -> None:
    parameters = kind.open(arrays, many).parameters
    later = exact_index(many.values[::-1], Metric.COSINE)

    index = stored(kind, later, kind.build(later, parameters), tmp_path / "second")

    assert index.parameters == parameters
    assert recall(index, later, queries) >= RECALL_MIN
    others = kind.build(later, "those of another kind")
    assert stored(kind, later, others, tmp_path / "third").parameters is not None


def test_a_growing_index_finds_later_rows_and_leaves_earlier_indexes_as_they_were(
    kind: AnnKind, many: ExactIndex, arrays: Arrays, queries: Floats
) -> None:
    parameters = kind.open(arrays, many).parameters
    values, half = many.values, many.row_count // 2 + 1

    assert kind.grow(values[:10], many.metric, parameters) is None
    assert kind.grow(values[:half], many.metric, None) is None
    growing = kind.grow(values[:half], many.metric, parameters)
    assert growing is not None
    early = exact_index(values[:half], many.metric)
    index = growing.index(early)
    before = [candidates(index, query, 10).rows.tolist() for query in values[:20]]
    for start in range(half, len(values), 1_000):
        growing.extend(values[start : start + 1_000])

    assert recall(growing.index(many), many, queries) >= RECALL_MIN
    assert recall(index, early, queries) >= RECALL_MIN
    assert [candidates(index, query, 10).rows.tolist() for query in values[:20]] == before


def test_few_rows_are_not_worth_an_index(kind: AnnKind) -> None:
    assert kind.build(exact_index(cloud(100, 64, seed=12), Metric.COSINE), None) is None
