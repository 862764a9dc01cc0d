"""The graph of codes: its steps do what a few lines of Python do, and a walk gets anywhere."""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.ann import one_list
from tests.support.clusters import clustered
from tests.support.holding import StopAt
from vicinal.ann import graph, hamming, projection
from vicinal.ann.entries import entries_of
from vicinal.ann.graph import DEGREE, CodeGraph, build_neighbours
from vicinal.ann.hamming import Bits
from vicinal.ann.walk import Walk, WalkPlan
from vicinal.interruption import Interrupted, interruptible
from vicinal.model import Effort, Metric
from vicinal.native.library import Library, library
from vicinal.native.structures import Graph

pytestmark = pytest.mark.skipif(
    library() is None, reason="NO GRAPH IS BUILT: there is no C compiler"
)
FARTHEST = 512
NO_ENTRIES = one_list([])


def built() -> Library:
    found = library()
    assert found is not None
    return found


def codes_of(rows: int, dimensions: int = 64) -> Bits:
    values = clustered(max(rows, 300), dimensions)[:rows]
    return projection.encode(values, Metric.COSINE, 1.0, FARTHEST)[0]


class Links:
    """The arrays of a `Graph` and the structure that points to them."""

    def __init__(self, codes: Bits, kept_max: int = DEGREE) -> None:
        self.codes = codes
        self.neighbours = np.zeros((len(codes), DEGREE), np.uint32)
        self.hammings = np.zeros((len(codes), DEGREE), np.uint16)
        self.counts = np.zeros(len(codes), np.uint8)
        self.structure = Graph(
            row_codes=codes.ctypes.data,
            neighbours=self.neighbours.ctypes.data,
            hammings=self.hammings.ctypes.data,
            counts=self.counts.ctypes.data,
            row_count=len(codes),
            code_bytes=codes.shape[1],
            neighbour_count=DEGREE,
            kept_max=kept_max,
        )

    def of(self, row: int) -> list[int]:
        neighbours: list[int] = self.neighbours[row, : self.counts[row]].tolist()
        return neighbours


def linked(codes: Bits, kept_max: int = DEGREE) -> Links:
    """Return the links of rows that are one part."""
    links = Links(codes, kept_max)
    built().link_part(links.structure, np.arange(len(codes), dtype=np.uint32))
    return links


def test_rows_of_a_part_get_their_nearest_as_neighbours() -> None:
    codes = codes_of(200)
    links = linked(codes)

    for row in range(200):
        distances = hamming.distances(codes, codes[row])
        neighbours = links.of(row)
        assert row not in neighbours
        assert len(set(neighbours)) == DEGREE
        assert distances[neighbours].tolist() == links.hammings[row].tolist()
        nearest = np.sort(np.delete(distances, row))[:DEGREE]
        assert distances[neighbours].tolist() == nearest.tolist()


def test_a_row_keeps_the_nearest_of_all_its_parts() -> None:
    codes = codes_of(90)
    links = Links(codes)
    for part in (range(60), range(30, 90), range(60)):
        built().link_part(links.structure, np.array(part, np.uint32))

    for row in range(90):
        others = set(range(60 if row < 60 else 0)) | set(range(30, 90) if row >= 30 else ())
        distances = hamming.distances(codes, codes[row])
        nearest = np.sort(distances[sorted(others - {row})])[:DEGREE]
        assert distances[links.of(row)].tolist() == nearest.tolist()


@pytest.mark.parametrize("ratio", [1.0, 1.4, 3.0])
@pytest.mark.parametrize("kept_max", [5, DEGREE])
def test_pruning_keeps_no_neighbour_that_is_much_nearer_to_a_kept_one(
    ratio: float, kept_max: int
) -> None:
    codes = codes_of(150)
    links = linked(codes, kept_max)
    before = [links.of(row) for row in range(150)]
    built().prune(links.structure, 10, 150, ratio)

    assert [links.of(row) for row in range(10)] == before[:10]
    for row in range(10, 150):
        kept: list[int] = []
        for other in before[row]:
            far = int(hamming.distances(codes[[other]], codes[row])[0])
            between = hamming.distances(codes[kept], codes[other]) if kept else np.empty(0)
            if len(kept) < kept_max and (ratio * between >= far).all():
                kept.append(other)
        assert links.of(row) == kept


def test_rows_become_neighbours_of_their_neighbours_and_the_rest_is_the_row_itself() -> None:
    codes = codes_of(300)
    links = linked(codes, kept_max=12)
    built().prune(links.structure, 0, 300, 1.4)
    kept = [set(links.of(row)) for row in range(300)]
    built().link_back(links.structure, links.counts.copy())

    lacking = 0
    for row in range(300):
        count = int(links.counts[row])
        assert kept[row] <= set(links.of(row))
        assert (links.neighbours[row, count:] == row).all()
        assert set(links.of(row)) <= kept[row] | {
            other for other in range(300) if row in kept[other]
        }
        for other in kept[row]:
            is_back = row in links.of(other)
            lacking += not is_back
            assert is_back or links.counts[other] == DEGREE
    assert lacking < 300


def test_rows_go_to_their_nearest_pivots() -> None:
    codes = codes_of(500)
    links = Links(codes)
    rows = np.arange(3, 500, 7, dtype=np.uint32)
    pivots = codes[::50]
    nearest = built().nearest_pivots(links.structure, rows, np.ascontiguousarray(pivots), 3)

    for row, found in zip(rows, nearest, strict=True):
        distances = hamming.distances(np.ascontiguousarray(pivots), codes[row])
        assert found.tolist() == np.argsort(distances, kind="stable")[:3].tolist()
    alike = np.repeat(codes[:1], 5, axis=0)
    for found in built().nearest_pivots(links.structure, rows, alike, 3):
        assert found.tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def codes() -> Bits:
    return codes_of(6_000)


@pytest.fixture(scope="module")
def code_graph(codes: Bits) -> CodeGraph:
    neighbours = build_neighbours(codes)
    assert neighbours is not None
    entries = entries_of(codes, neighbours)
    return CodeGraph(neighbours, entries, ((1, 1), (1, 1), (1, 1)), expanded_max=10**6)


def test_the_same_codes_make_the_same_graph(codes: Bits, code_graph: CodeGraph) -> None:
    again = build_neighbours(codes)

    assert again is not None
    assert np.array_equal(again, code_graph.neighbours)
    assert code_graph.neighbours.max() < len(codes)


def test_the_memory_of_building_is_that_of_neighbours_and_their_distances() -> None:
    codes = codes_of(20_000)
    tracemalloc.start()
    try:
        neighbours = build_neighbours(codes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert neighbours is not None
    distances = neighbours.nbytes // 2
    assert peak < 1.15 * (neighbours.nbytes + distances)


@pytest.mark.parametrize("stop", [1, 2, 20])
def test_a_graph_is_given_up_at_any_of_its_points(codes: Bits, stop: int) -> None:
    at = StopAt(stop)

    with pytest.raises(Interrupted), interruptible(at):
        build_neighbours(codes)

    assert at.count == stop


def test_a_walk_that_does_not_end_comes_to_every_row(codes: Bits, code_graph: CodeGraph) -> None:
    walk = Walk(codes, code_graph, codes[7], None, WalkPlan(10**6, 10**6))
    near = walk.nearest()

    assert near is not None
    assert sorted(near.rows.tolist()) == list(range(len(codes)))
    assert near.hammings.tolist() == hamming.distances(codes, codes[7])[near.rows].tolist()


def test_a_walk_finds_almost_all_of_the_nearest_and_compares_few(
    codes: Bits, code_graph: CodeGraph
) -> None:
    found = compared = 0
    for row in range(0, 6_000, 100):
        walk = Walk(codes, code_graph, codes[row], None, WalkPlan(40, 10**6, np.array([row])))
        near = walk.nearest()
        assert near is not None
        assert row not in near.rows
        distances = np.delete(hamming.distances(codes, codes[row]), row)
        found += int((near.hammings <= np.sort(distances)[19]).sum() >= 20)
        compared += walk.compared_count

    assert found >= 57
    assert compared / 60 < 1_500


def test_a_walk_that_costs_more_than_all_codes_closes_itself(
    codes: Bits, code_graph: CodeGraph
) -> None:
    walk = Walk(codes, code_graph, codes[7], None, WalkPlan(10**6, 3))
    begun_with = walk.compared_count

    assert walk.nearest() is None
    assert not walk.is_open
    assert begun_with < walk.compared_count <= begun_with + 3 * DEGREE


def grouped_codes(
    group_count: int, group_rows: int, flipped: float
) -> tuple[Bits, NDArray[np.int64]]:
    """Return codes of rows in groups, in any order, and the group of each.

    Args:
        flipped: The share of bits in which a row differs from the center of its group.
    """
    random = np.random.default_rng(3)
    centers = random.integers(0, 256, (group_count, 1, 64), np.uint8)
    flips = np.packbits(random.random((group_count, group_rows, 512)) < flipped, axis=2)
    order = random.permutation(group_count * group_rows)
    groups = np.repeat(np.arange(group_count), group_rows)[order]
    return np.ascontiguousarray((centers ^ flips).reshape(-1, 64)[order]), groups


def test_rows_in_close_groups_have_neighbours_in_other_groups() -> None:
    """Else no walk would leave the group that it begins in."""
    group_count = 40
    codes, groups = grouped_codes(group_count, 100, 0.02)

    neighbours = build_neighbours(codes)

    assert neighbours is not None
    leaves = (groups[neighbours] != groups[:, None]).any(axis=1)
    assert set(groups[leaves].tolist()) == set(range(group_count))


def test_rows_that_are_all_alike_have_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_PART_ROWS", 50)
    codes = np.repeat(codes_of(4), 300, axis=0)
    neighbours = build_neighbours(codes)

    assert neighbours is not None
    assert neighbours.max() < len(codes)


@pytest.mark.parametrize(
    ("share", "breadth"),
    [(1.0, 100), (0.5, 57), (0.1, 40), (0.04, 40), (0.037, 0), (0.001, 0)],
)
def test_a_filter_that_few_rows_pass_ends_walks_before_they_begin(
    share: float, breadth: int
) -> None:
    """Ten of half the rows are among twenty of all, and a walk finds those at a breadth of 113."""
    neighbours = np.zeros((10, DEGREE), np.uint32)
    some = CodeGraph(neighbours, NO_ENTRIES, ((100, 150), (0, 0), (200, 400)), expanded_max=1_000)

    assert some.breadth_for(10, Effort.LOW, share) == breadth
    assert some.breadth_for(10, Effort.STANDARD, share) == 0
    assert some.breadth_for(100, Effort.HIGH, 1.0) == 400
    assert 200 < some.breadth_for(30, Effort.HIGH, 1.0) < 400


def test_a_walk_gets_into_a_group_whose_neighbours_are_all_among_themselves() -> None:
    group_count, group_rows = 300, 20
    codes, groups = grouped_codes(group_count, group_rows, 0.1)
    within = np.arange(DEGREE) % group_rows
    neighbours = np.empty((len(codes), DEGREE), np.uint32)
    for group in range(group_count):
        neighbours[groups == group] = np.flatnonzero(groups == group)[within]
    entries = entries_of(codes, neighbours)
    evenly = np.arange(0, len(codes), len(codes) // len(entries.rows))
    assert len(set(groups[evenly].tolist())) < group_count <= len(evenly)

    closed = CodeGraph(neighbours, entries, ((1, 1),) * 3, expanded_max=10**6)
    for group in range(group_count):
        row = np.flatnonzero(groups == group)[0]
        near = Walk(codes, closed, codes[row], None, WalkPlan(5, 10**6)).nearest()
        assert near is not None
        assert row in near.rows


def test_where_no_breadth_serves_many_rows_those_of_few_grow_to_some_more_rows() -> None:
    neighbours = np.zeros((10, DEGREE), np.uint32)
    some = CodeGraph(neighbours, NO_ENTRIES, ((100, 0), (0, 0), (200, 400)), expanded_max=1_000)

    assert some.breadth_for(10, Effort.LOW, 1.0) == 100
    assert some.breadth_for(14, Effort.LOW, 1.0) == 140
    assert some.breadth_for(20, Effort.LOW, 1.0) == 200
    assert some.breadth_for(10, Effort.LOW, 0.5) == 100, "of the ten nearest of half the rows"
    assert some.breadth_for(5, Effort.LOW, 0.5) == 50
    assert some.breadth_for(25, Effort.LOW, 1.0) == 250
    assert some.breadth_for(26, Effort.LOW, 1.0) == 0
    shorter = replace(some, expanded_max=400)
    assert [shorter.breadth_for(k, Effort.LOW, 1.0) for k in (10, 16, 17)] == [100, 160, 0]
    assert some.breadth_for(10, Effort.LOW, 0.4) == 100
    assert some.breadth_for(10, Effort.LOW, 0.39) == 0
    assert some.breadth_for(10, Effort.STANDARD, 0.9) == 0


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("neighbours", np.zeros((9, DEGREE), np.uint32)),
        ("neighbours", np.zeros((10, DEGREE - 1), np.uint32)),
        ("entries", np.zeros(0, np.uint32)),
        ("entries", np.array([3, 10], np.uint32)),
        ("breadths", np.ones((2, 2), np.int64)),
        ("breadths", np.full((3, 2), -1, np.int64)),
    ],
)
def test_arrays_that_are_no_graph_of_these_rows_are_refused(name: str, array: NDArray[Any]) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "neighbours": np.zeros((10, DEGREE), np.uint32),
        "entries": np.array([3, 9], np.uint32),
        "breadths": np.ones((3, 2), np.int64),
    }
    CodeGraph.of(arrays, 10)

    with pytest.raises(ValueError, match="graph"):
        CodeGraph.of({**arrays, name: array}, 10)
