"""Which segments get a graph, and what share of the neighbours held-out queries find by it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.ann import candidates, exact_index, one_list, small_graph_kind
from tests.support.clusters import grouped, grown
from vicinal.ann import calibration, graph_kind
from vicinal.ann.base import Selection
from vicinal.ann.binary import CODES, WALKED_CODES, BinaryIndex
from vicinal.ann.entries import Entries
from vicinal.ann.exact import ExactIndex
from vicinal.ann.graph import CodeGraph, build_neighbours
from vicinal.ann.graph_kind import BREADTHS_MIN, GAPS, Gap, GraphKind
from vicinal.ann.kinds import KINDS
from vicinal.ann.probes import Neighbours
from vicinal.ann.quantizer import BinaryCodes, PerEffort
from vicinal.ann.walk import WalkPlan
from vicinal.distance import distances
from vicinal.model import Effort, Floats, Metric, Ordinals
from vicinal.native.library import library

pytestmark = pytest.mark.skipif(
    library() is None, reason="NO GRAPH IS BUILT: there is no C compiler"
)
ROWS = 36_000  # a walk of a hundred rows pays from here on
QUERIES = 100
SEED = 20_240_521
BreadthsOf = Callable[[Callable[[Effort, int], Ordinals], int], PerEffort | None]
"""Returns the breadths if walks find what a function says, given the longest walk."""


@pytest.fixture(scope="module")
def data() -> tuple[ExactIndex, Floats]:
    values, queries = grouped(ROWS, QUERIES)
    return exact_index(values, Metric.COSINE), queries


@pytest.fixture(scope="module")
def arrays(data: tuple[ExactIndex, Floats]) -> Mapping[str, NDArray[Any]]:
    built = small_graph_kind(ROWS).build(data[0], None)
    assert built is not None
    return built


@pytest.fixture(scope="module")
def near(data: tuple[ExactIndex, Floats], arrays: Mapping[str, NDArray[Any]]) -> Neighbours:
    exact, codes = data[0], BinaryCodes.of(arrays)
    calibrated = calibration.with_neighbours(codes, exact.values, exact.norms, exact.metric)
    return calibrated.parts[0].neighbours


@pytest.fixture
def breadths_of(
    data: tuple[ExactIndex, Floats],
    arrays: Mapping[str, NDArray[Any]],
    near: Neighbours,
    monkeypatch: pytest.MonkeyPatch,
) -> BreadthsOf:
    def breadths(found: Callable[[Effort, int], Ordinals], longest: int) -> PerEffort | None:
        def walked(
            _: BinaryIndex, query: Floats, k: int, effort: Effort, walk: WalkPlan
        ) -> tuple[Ordinals, int]:
            return found(effort, walk.breadth), walk.breadth

        monkeypatch.setattr(BinaryIndex, "walked", walked)
        graph = replace(CodeGraph.of(arrays, ROWS), expanded_max=longest)
        index = BinaryIndex(BinaryCodes.of(arrays), data[0], graph)
        return graph_kind.breadths(index, near, BREADTHS_MIN, GAPS)

    return breadths


def recall(index: BinaryIndex, queries: Floats, effort: Effort) -> float:
    found = 0
    for query in queries:
        nearest = candidates(index.exact, query, 10, effort=Effort.EXACT).rows[:10]
        found += int(np.isin(nearest, candidates(index, query, 10, effort=effort).rows).sum())
    return found / (10 * len(queries))


def test_held_out_queries_find_what_low_effort_promises_and_compare_few_codes(
    data: tuple[ExactIndex, Floats], arrays: Mapping[str, NDArray[Any]]
) -> None:
    exact, queries = data
    index = GraphKind().open(arrays, exact)

    assert candidates(index, queries[0], 10, effort=Effort.LOW).method == WALKED_CODES
    assert recall(index, queries, Effort.LOW) >= 0.985
    compared = 0
    for query in queries:
        (task,) = index.prepare(query, 10, Selection(ROWS), Effort.LOW).tasks
        task.run()
        compared += task.compared_count
    assert compared / len(queries) < ROWS / 8


def test_its_codes_are_longer_and_its_margins_wider_than_where_all_codes_are_compared(
    data: tuple[ExactIndex, Floats], arrays: Mapping[str, NDArray[Any]]
) -> None:
    exact, _ = data
    scanned = calibration.build(exact.values, exact.norms, exact.metric)

    assert scanned is not None
    assert scanned.parameters.bits == 512
    parameters = BinaryCodes.of(arrays).parameters
    assert parameters.bits == 1_024
    deviation = (parameters.bits / 2) ** 0.5
    (low, _), (standard, _), (high, _) = parameters.margins
    assert low >= int(deviation)
    assert min(standard, high) >= int(1.5 * deviation)


def test_parameters_of_longer_codes_are_kept_and_those_of_shorter_ones_are_not(
    data: tuple[ExactIndex, Floats], arrays: Mapping[str, NDArray[Any]]
) -> None:
    exact, _ = data
    longer = BinaryCodes.of(arrays).parameters
    shorter = calibration.build(exact.values, exact.norms, exact.metric)
    assert shorter is not None
    low, standard, (near, far) = longer.margins
    kept = replace(longer, margins=(low, standard, (near + 9, far)))
    built = [small_graph_kind(ROWS).build(exact, each) for each in (kept, shorter.parameters)]

    found = [None if each is None else BinaryCodes.of(each).parameters for each in built]
    assert found == [kept, longer]


@pytest.mark.parametrize("share", [0.7, 0.3, 0.1])
def test_a_walk_under_a_filter_finds_what_comparing_all_codes_finds(
    data: tuple[ExactIndex, Floats], arrays: Mapping[str, NDArray[Any]], share: float
) -> None:
    exact, queries = data
    breadths = ((100, 200),) * 3
    entries = Entries.of(arrays, ROWS)
    graph = CodeGraph(arrays["neighbours"], entries, breadths, expanded_max=1_000)
    codes = BinaryCodes.of(arrays)
    index, plain = BinaryIndex(codes, exact, graph), BinaryIndex(codes, exact)
    allowed = np.random.default_rng(SEED).random(ROWS) < share
    both = wanted = 0
    for query in queries:
        walked, scanned = (
            candidates(each, query, 10, allowed, Effort.LOW) for each in (index, plain)
        )
        assert walked.method == WALKED_CODES
        assert scanned.method == CODES
        assert allowed[walked.rows].all()
        nearest = scanned.rows[
            np.argsort(distances(exact.values[scanned.rows], query, exact.metric))
        ]
        both += int(np.isin(nearest[:10], walked.rows).sum())
        wanted += 10

    assert both >= 0.99 * wanted


def test_where_walks_do_not_serve_a_hundred_rows_a_dead_row_does_not_end_them(
    data: tuple[ExactIndex, Floats], arrays: Mapping[str, NDArray[Any]]
) -> None:
    exact, queries = data
    index = GraphKind().open(arrays, exact)
    assert index.graph is not None
    (near, far), *_ = index.graph.breadths
    assert near
    assert not far
    found = wanted = 0
    for share in (1.0 / ROWS, 0.1, 0.4):
        live = np.ones(ROWS, np.bool_)
        live[np.random.default_rng(SEED).permutation(ROWS)[: round(share * ROWS)]] = False
        for query in queries:
            walked = candidates(index, query, 10, live, Effort.LOW)
            assert walked.method == WALKED_CODES
            nearest = candidates(exact, query, 10, live).rows[:10]
            found += int(np.isin(nearest, walked.rows).sum())
            wanted += 10

    assert found >= 0.985 * wanted
    assert candidates(index, queries[0], 30, effort=Effort.LOW).method == CODES


def test_an_effort_that_no_short_walk_serves_compares_all_codes(
    data: tuple[ExactIndex, Floats], arrays: Mapping[str, NDArray[Any]]
) -> None:
    exact, queries = data
    index = GraphKind().open(arrays, exact)
    plain = BinaryIndex(BinaryCodes.of(arrays), exact)

    found = candidates(index, queries[1], 10, effort=Effort.STANDARD)
    wanted = candidates(plain, queries[1], 10, effort=Effort.STANDARD)
    assert found.method == CODES
    assert found.rows.tolist() == wanted.rows.tolist()


def test_breadths_keep_the_promise_to_queries_that_are_farther_from_rows_than_rows_are() -> None:
    """Rows as they are would be probes that are too easy, of a graph of six neighbours a row
    and a few rows to begin at."""
    values, queries = grown(16_000, 2_000, 2 * QUERIES, seed=1)
    exact = exact_index(values, Metric.COSINE)
    calibrated = calibration.calibrate(values, exact.norms, exact.metric)
    assert calibrated is not None
    neighbours = build_neighbours(calibrated.codes.codes)
    assert neighbours is not None
    neighbours[:, 6:] = np.arange(len(values), dtype=np.uint32)[:, None]
    entries = one_list(np.arange(0, len(values), 16))
    plain = BinaryIndex(calibrated.codes, exact)

    def kept(*gaps: Gap) -> float:
        """Return the share of what comparing all codes finds that low effort does."""
        graph = CodeGraph(neighbours, entries, ((0, 0), (0, 0), (0, 0)), expanded_max=10**6)
        index = BinaryIndex(calibrated.codes, exact, graph)
        near = calibrated.parts[0].neighbours
        found = graph_kind.breadths(index, near, dict.fromkeys(Effort, 0), gaps)
        if found is None:
            return 1.0  # all codes are compared
        index = BinaryIndex(calibrated.codes, exact, replace(graph, breadths=found))
        return recall(index, queries, Effort.LOW) / recall(plain, queries, Effort.LOW)

    assert kept(GAPS[0]) < 0.99
    assert kept(*GAPS) >= 0.99


@pytest.mark.parametrize(
    ("probe_count", "are_led_to", "is_served"),
    [(1, True, True), (50, True, False), (1, False, True), (4, False, False)],
    ids=["of hidden rows", "of hidden rows, many", "none of a thousand", "more than that"],
)
def test_few_rows_that_no_walk_comes_to_end_no_walks(
    probe_count: int, are_led_to: bool, is_served: bool
) -> None:
    values, _ = grown(16_000, 2_000, 1, seed=1)
    exact = exact_index(values, Metric.COSINE)
    calibrated = calibration.calibrate(values, exact.norms, exact.metric)
    assert calibrated is not None
    near = calibrated.parts[0].neighbours
    neighbours = build_neighbours(calibrated.codes.codes)
    assert neighbours is not None
    rows, counts = np.unique(near.rows[:, :15], return_counts=True)
    probes = np.flatnonzero(np.isin(near.rows[:, 5], rows[counts == 1]))[:probe_count]
    behind = near.rows[probes, 5]  # the nearest beyond a gap of five
    own = np.arange(len(values), dtype=np.uint32)[:, None]
    neighbours = np.where(np.isin(neighbours, behind), own, neighbours)
    if are_led_to:
        neighbours[near.rows[probes, 0], -1] = behind
    entries = one_list(np.setdiff1d(np.arange(0, len(values), 16), behind))
    graph = CodeGraph(neighbours, entries, ((0, 0), (0, 0), (0, 0)), expanded_max=10**6)
    index = BinaryIndex(calibrated.codes, exact, graph)

    per_effort = graph_kind.breadths(index, near, BREADTHS_MIN, GAPS)
    assert (per_effort is not None and per_effort[2][0] > 0) is is_served


def test_a_walk_may_be_long_where_comparing_all_codes_takes_twice_as_long(
    breadths_of: BreadthsOf,
) -> None:
    def found(_: Effort, breadth: int) -> Ordinals:
        """Find all from a breadth of 5,000 on, as segments of ten million rows may need."""
        return np.arange(ROWS if breadth >= 5_000 else 0)

    assert breadths_of(found, 2 * 12_800) == ((12_800, 12_800),) * 3
    assert breadths_of(found, 2 * 12_800 - 1) is None


def test_no_effort_has_a_shorter_walk_than_a_lower_one(breadths_of: BreadthsOf) -> None:
    needed = {Effort.LOW: 100, Effort.STANDARD: 1_600, Effort.HIGH: 100}

    def found(effort: Effort, breadth: int) -> Ordinals:
        return np.arange(ROWS if breadth >= needed[effort] else 0)

    per_effort = breadths_of(found, 10**6)
    assert per_effort is not None
    assert [at_first for at_first, _ in per_effort] == [200, 3_200, 3_200]


def test_a_neighbour_that_needs_a_walk_which_does_not_pay_twice_as_long_is_not_expected(
    near: Neighbours, breadths_of: BreadthsOf
) -> None:
    rows, counts = np.unique(near.rows[:, :15], return_counts=True)
    far = near.rows[:, :10][np.isin(near.rows[:, :10], rows[counts == 1])][0]

    def found(_: Effort, breadth: int) -> Ordinals:
        """Find all but one row, and that from a breadth of 4,600 on; 9,100 do not pay."""
        everything = np.arange(ROWS)
        return everything if breadth >= 4_600 else everything[everything != far]

    per_effort = breadths_of(found, 12_500)
    assert per_effort is not None
    assert [at_first for at_first, _ in per_effort] == list(BREADTHS_MIN.values())


@pytest.mark.slow
def test_held_out_queries_of_a_large_segment_find_what_their_efforts_promise() -> None:
    values, queries = grouped(200_000, QUERIES)
    exact = exact_index(values, Metric.COSINE)
    [kind] = [kind for kind in KINDS if kind.component == "graph"]
    built = kind.build(exact, None)

    assert built is not None
    index = kind.open(built, exact)
    assert isinstance(index, BinaryIndex)
    assert candidates(index, queries[0], 10, effort=Effort.LOW).method == WALKED_CODES
    assert recall(index, queries, Effort.LOW) >= 0.985
    assert recall(index, queries, Effort.STANDARD) >= 0.995


@pytest.mark.parametrize("rows", [100, ROWS - 1])
def test_few_rows_get_no_graph(data: tuple[ExactIndex, Floats], rows: int) -> None:
    few = exact_index(data[0].values[:rows], Metric.COSINE)

    assert small_graph_kind(ROWS).build(few, None) is None


def test_rows_that_are_copies_of_a_few_get_no_graph(data: tuple[ExactIndex, Floats]) -> None:
    """Their neighbours lie in other groups of copies, where no walk gets."""
    drawn = np.random.default_rng(SEED).integers(0, 20, ROWS)
    copies = exact_index(data[0].values[drawn], Metric.COSINE)

    assert small_graph_kind(ROWS).build(copies, None) is None


def test_without_a_library_no_graph_is_built(
    data: tuple[ExactIndex, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vicinal.ann.graph.library", lambda: None)

    assert (
        GraphKind(rows_min=1_000).build(exact_index(data[0].values[:5_000], Metric.COSINE), None)
        is None
    )
