"""A walk, compiled and in Python: the same rows, and all codes where a walk does not pay."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.ann import binary_index, candidates, candidates_among, exact_index, one_list
from tests.support.clusters import clustered
from vicinal.ann import binary, hamming, projection, quantizer
from vicinal.ann.base import Selection
from vicinal.ann.binary import CODES, LISTED_CODES, WALKED_CODES, BinaryIndex
from vicinal.ann.entries import entries_of
from vicinal.ann.graph import DEGREE, CodeGraph, build_neighbours
from vicinal.ann.hamming import Bits
from vicinal.ann.quantizer import QuantizerParameters
from vicinal.ann.walk import Walk, WalkPlan
from vicinal.distance import distances
from vicinal.model import Effort, Floats, Mask, Metric
from vicinal.native.library import library

pytestmark = pytest.mark.skipif(
    library() is None, reason="NO GRAPH IS BUILT: there is no C compiler"
)
ROWS = 6_000
FARTHEST = 512
METRICS = list(Metric)
BREADTHS = ((60, 300), (100, 400), (200, 600))


def both(
    values: Floats, metric: Metric, expanded_max: int = 10**6
) -> tuple[BinaryIndex, BinaryIndex, BinaryIndex]:
    """Return an index that walks, compiled, one that walks in Python, and one without a graph."""
    plain = binary_index(values, metric)
    neighbours = build_neighbours(plain.codes.codes)
    assert neighbours is not None
    entries = entries_of(plain.codes.codes, neighbours)
    graph = CodeGraph(neighbours, entries, BREADTHS, expanded_max)
    codes, exact = plain.codes, plain.exact
    return (
        BinaryIndex(codes, exact, graph),
        BinaryIndex(codes, exact, graph, is_compiled=False),
        plain,
    )


def alone(rows: int) -> NDArray[np.uint32]:
    """Return neighbours of rows that have none."""
    return np.repeat(np.arange(rows, dtype=np.uint32)[:, None], DEGREE, axis=1)


def graph_of(index: BinaryIndex) -> CodeGraph:
    assert index.graph is not None
    return index.graph


def check_same(metric: Metric, dimensions: int, *, queries: int) -> None:
    """Compare the compiled walk with Python's, behind masks."""
    values = clustered(ROWS + queries, dimensions, seed=dimensions)
    one, other, _ = both(np.ascontiguousarray(values[:ROWS]), metric)
    random = np.random.default_rng(5)
    masks: list[Mask | None] = [None, random.random(ROWS) < 0.7, random.random(ROWS) < 0.2]
    for query in values[ROWS:]:
        for allowed in masks:
            for k in (1, 10, 100):
                for effort in quantizer.EFFORTS:
                    found = candidates(one, query, k, allowed, effort)
                    wanted = candidates(other, query, k, allowed, effort)

                    assert found.method == wanted.method == WALKED_CODES
                    assert found.scored_count == wanted.scored_count
                    assert allowed is None or allowed[found.rows].all()
                    near, nearest = (
                        np.sort(distances(values[rows], query, metric))[:k].tolist()
                        for rows in (found.rows, wanted.rows)
                    )
                    assert near == nearest


@pytest.mark.parametrize(("metric", "dimensions"), [*((m, 64) for m in METRICS), (METRICS[0], 31)])
def test_the_compiled_walk_finds_what_python_finds(metric: Metric, dimensions: int) -> None:
    check_same(metric, dimensions, queries=3)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Walk]:
    """Return the walks in Python, the last one last."""
    begun: list[Walk] = []

    class Kept(Walk):
        def __init__(
            self, codes: Bits, graph: CodeGraph, code: Bits, allowed: Mask | None, plan: WalkPlan
        ) -> None:
            super().__init__(codes, graph, code, allowed, plan)
            begun.append(self)

    monkeypatch.setattr(binary, "Walk", Kept)
    return begun


@pytest.fixture(scope="module")
def values() -> Floats:
    return clustered(ROWS + 60, 64)


@pytest.fixture(scope="module")
def indexes(values: Floats) -> tuple[BinaryIndex, BinaryIndex, BinaryIndex]:
    return both(np.ascontiguousarray(values[:ROWS]), Metric.COSINE)


@pytest.mark.parametrize("expanded_max", [10**6, 203, 1])
@pytest.mark.parametrize("breadth", [10, 60, 200])
def test_the_compiled_walk_goes_on_from_as_many_rows_as_python_and_compares_as_many(
    values: Floats,
    indexes: tuple[BinaryIndex, ...],
    walks: list[Walk],
    expanded_max: int,
    breadth: int,
) -> None:
    """Which rows it goes on from at one time shows where it finds few: a beam goes beyond them."""
    breadths = ((breadth, breadth),) * 3
    graph = replace(graph_of(indexes[0]), breadths=breadths, expanded_max=expanded_max)
    one, other = (
        BinaryIndex(indexes[2].codes, indexes[2].exact, graph, is_compiled=is_compiled)
        for is_compiled in (True, False)
    )
    half = Selection.of_mask(np.random.default_rng(5).random(ROWS) < 0.5)
    selections = [Selection(ROWS), half] if expanded_max == 10**6 else [Selection(ROWS)]
    for query in values[ROWS : ROWS + 20]:
        for selection in selections:  # where walks are short, filters have none
            (task,) = one.prepare(query, 10, selection, Effort.LOW).tasks
            task.run()
            other.prepare(query, 10, selection, Effort.LOW).run()

            walk = walks[-1]
            assert task.expanded_count == walk.expanded_count <= expanded_max
            if walk.is_open:  # else all codes were compared in addition
                assert task.compared_count == walk.compared_count
    assert len(walks) == 20 * len(selections)


def test_a_margin_beyond_the_longest_distance_ends_where_there_is_no_row_left() -> None:
    values = clustered(301, 64)
    codes = quantizer.encode(
        values[:300],
        Metric.COSINE,
        QuantizerParameters(2_048, 1.0, ((3_000, 3_000),) * 3, (10, 10)),
    )
    neighbours = build_neighbours(codes.codes)
    assert neighbours is not None
    graph = CodeGraph(neighbours, entries_of(codes.codes, neighbours), ((60, 60),) * 3, 10**6)
    index = BinaryIndex(codes, exact_index(values[:300], Metric.COSINE), graph)

    found, expanded_count = index.walked(values[300], 10, Effort.LOW, WalkPlan(60, 10**6))

    assert expanded_count == 300
    nearest = np.argsort(distances(values[:300], values[300], Metric.COSINE))[:10]
    assert set(nearest.tolist()) <= set(found.tolist())


def test_a_walk_finds_the_nearest_and_compares_few_codes(
    values: Floats, indexes: tuple[BinaryIndex, ...]
) -> None:
    index = indexes[0]
    found = compared = 0
    for query in values[ROWS:]:
        nearest = np.argsort(distances(values[:ROWS], query, Metric.COSINE))[:10]
        found += int(np.isin(nearest, candidates(index, query, 10).rows).sum())
        (task,) = index.prepare(query, 10, Selection(ROWS), Effort.LOW).tasks
        task.run()
        compared += task.compared_count
        assert task.expanded_count >= BREADTHS[0][0]

    assert found >= 595
    assert compared / 60 < ROWS / 3


def test_lists_and_narrow_masks_are_not_walked(
    values: Floats, indexes: tuple[BinaryIndex, ...]
) -> None:
    index, plain = indexes[0], indexes[2]
    rows = np.arange(0, ROWS, 13)
    allowed = np.zeros(ROWS, np.bool_)
    allowed[rows] = True

    for query in values[ROWS : ROWS + 10]:
        listed = candidates_among(index, query, 10, rows)
        assert listed.method == candidates(index, query, 10, allowed).method == LISTED_CODES
        assert listed.rows.tolist() == candidates_among(plain, query, 10, rows).rows.tolist()


@pytest.mark.parametrize("is_compiled", [True, False])
def test_all_codes_are_compared_where_a_walk_becomes_too_long(
    values: Floats, indexes: tuple[BinaryIndex, ...], is_compiled: bool
) -> None:
    plain = indexes[2]
    graph = replace(graph_of(indexes[0]), expanded_max=200)
    index = BinaryIndex(plain.codes, plain.exact, graph, is_compiled=is_compiled)
    unlike = -values[ROWS:].mean(axis=0)  # far from all rows: they are about equally near
    for query in (*values[ROWS : ROWS + 10], unlike):
        found = candidates(index, query, 100, None, Effort.LOW)
        wanted = candidates(plain, query, 100, None, Effort.LOW)

        near = distances(values[found.rows], query, Metric.COSINE)
        nearest = distances(values[wanted.rows], query, Metric.COSINE)
        assert np.sort(near)[:100].tolist() == np.sort(nearest)[:100].tolist()


def test_a_walk_past_many_rows_that_are_not_allowed_ends_where_comparing_all_is_cheaper(
    values: Floats, indexes: tuple[BinaryIndex, ...]
) -> None:
    plain = indexes[2]
    graph = replace(graph_of(indexes[0]), expanded_max=300)
    query = values[ROWS]
    far = distances(values[:ROWS], query, Metric.COSINE)
    allowed = far > np.median(far)
    wanted = candidates(plain, query, 10, allowed, Effort.LOW)
    for is_compiled in (True, False):
        index = BinaryIndex(plain.codes, plain.exact, graph, is_compiled=is_compiled)
        search = index.prepare(query, 10, Selection.of_mask(allowed), Effort.LOW)
        for task in search.tasks:
            task.run()
            assert task.expanded_count == 300
        found = search.finish()

        assert found.method == WALKED_CODES
        nearest, expected = (np.sort(far[each.rows])[:10].tolist() for each in (found, wanted))
        assert nearest == expected


def test_hidden_rows_are_never_found(values: Floats, indexes: tuple[BinaryIndex, ...]) -> None:
    index = indexes[0]
    for row in range(0, 600, 20):
        hidden = np.arange(row, row + 3)
        walk = WalkPlan(60, 10**6, hidden)
        rows, expanded_count = index.walked(values[row], 10, Effort.LOW, walk)

        assert not np.isin(hidden, rows).any()
        assert len(rows) >= 10
        assert 60 <= expanded_count < ROWS


@pytest.mark.parametrize("is_compiled", [True, False])
def test_neighbours_that_there_are_not_are_left_out(
    values: Floats, indexes: tuple[BinaryIndex, ...], is_compiled: bool
) -> None:
    """A file of another segment might name them; nothing beyond the rows is read."""
    plain = indexes[2]
    whole = graph_of(indexes[0])
    neighbours = whole.neighbours.copy()
    neighbours[:, ::2] = np.iinfo(np.uint32).max
    neighbours[:, 1::4] = ROWS
    graph = replace(whole, neighbours=neighbours)
    index = BinaryIndex(plain.codes, plain.exact, graph, is_compiled=is_compiled)

    found = candidates(index, values[5], 10).rows
    assert len(found) >= 10
    assert found.max() < ROWS


@pytest.mark.parametrize("rows", [100, 8_192, 8_208, 30_000])
def test_a_walk_begins_at_the_nearest_of_every_128th_entry_by_the_first_words(rows: int) -> None:
    """Of rows without neighbours it comes to no others."""
    random = np.random.default_rng(rows)
    codes = random.integers(0, 256, (rows, 128), np.uint8)
    code = random.integers(0, 256, 128, np.uint8)
    entries = random.permutation(rows)[: rows // 7 + 1].astype(np.uint32)
    graph = CodeGraph(alone(rows), one_list(entries), ((10, 10),) * 3, expanded_max=rows)
    walk = Walk(codes, graph, code, None, WalkPlan(rows, rows))
    near = walk.within(1_024)

    distances = np.bitwise_count(codes[entries, :32] ^ code[:32]).sum(axis=1)
    expected = {
        int(entries[group::128][distances[group::128].argmin()])
        for group in range(min(128, len(entries)))
    }
    assert near is not None
    assert set(near.rows.tolist()) == expected


@pytest.mark.parametrize("breadth", [1, 20, 140, 500, 1_023, 1_024, 9_999])
def test_a_walk_compares_entries_of_the_nearest_lists_more_of_them_the_broader_it_is(
    breadth: int,
) -> None:
    values = clustered(ROWS + 1, 64)
    plain = binary_index(values[:ROWS], Metric.COSINE)
    codes = plain.codes.codes
    code = projection.code_of_query(values[ROWS], Metric.COSINE, plain.codes.offset)
    entries = entries_of(codes, alone(ROWS))
    graph = CodeGraph(alone(ROWS), entries, BREADTHS, 10**6)
    near = Walk(codes, graph, code, None, WalkPlan(breadth, 10**6)).within(FARTHEST)
    assert near is not None
    of_list = np.repeat(np.arange(len(entries.starts)), entries.lengths())
    compared = np.zeros(ROWS, np.bool_)
    for one in np.argsort(hamming.distances(entries.pivot_codes(codes), code), kind="stable"):
        if compared.sum() < min(ROWS * breadth / 1_024, ROWS):
            compared |= of_list == one

    assert len(entries.starts) > 50
    assert compared.all() == (breadth >= 1_023)
    words = np.bitwise_count(codes[entries.rows, :32] ^ code[:32]).sum(axis=1)
    begun = [
        entries.rows[min(group, key=lambda at: (words[at], at))]
        for number in range(128)
        if (group := np.flatnonzero(compared & (np.arange(ROWS) % 128 == number)).tolist())
    ]
    assert set(begun) <= set(near.rows.tolist())
    if breadth > 20:
        assert set(near.rows.tolist()) == set(begun)


def test_the_compiled_walk_compares_the_share_of_the_entries_that_python_does(
    values: Floats, walks: list[Walk]
) -> None:
    """Rows have no neighbours and are as many as groups: a walk compares just its entries."""
    rows = 128
    plain = binary_index(values[:rows], Metric.COSINE)
    entries = entries_of(plain.codes.codes, alone(rows))
    counts = []
    for breadth in range(512, 1_025):
        graph = CodeGraph(alone(rows), entries, ((breadth, breadth),) * 3, 10**6)
        one, other = (
            BinaryIndex(plain.codes, plain.exact, graph, is_compiled=is_compiled)
            for is_compiled in (True, False)
        )
        (task,) = one.prepare(values[ROWS], 10, Selection(rows), Effort.LOW).tasks
        task.run()
        other.prepare(values[ROWS], 10, Selection(rows), Effort.LOW).run()
        assert task.compared_count == walks[-1].compared_count >= rows * breadth / 1_024
        counts.append(task.compared_count)

    assert counts[-1] == rows
    assert len(set(counts)) > 8


@pytest.mark.parametrize("rows", [ROWS, 5 * ROWS])
def test_a_walk_to_all_rows_goes_on_from_each_once(rows: int) -> None:
    values = clustered(rows + 1, 64, seed=rows)
    plain = binary_index(np.ascontiguousarray(values[:rows]), Metric.COSINE)
    around = np.arange(rows)[:, None] + np.arange(1, DEGREE + 1)
    neighbours = (around % rows).astype(np.uint32)
    graph = CodeGraph(neighbours, entries_of(plain.codes.codes, neighbours), BREADTHS, 10**6)
    index = BinaryIndex(plain.codes, plain.exact, graph)

    found, expanded_count = index.walked(values[rows], 10, Effort.HIGH, WalkPlan(rows, 10**6))

    assert expanded_count == rows
    exact = np.argsort(distances(values[:rows], values[rows], Metric.COSINE), kind="stable")
    assert set(exact[:10].tolist()) <= set(found.tolist())
    assert len(set(found.tolist())) == len(found)


@pytest.mark.parametrize("is_compiled", [True, False])
def test_all_codes_are_compared_where_a_walk_comes_to_too_few_rows(
    values: Floats, is_compiled: bool
) -> None:
    plain = binary_index(values[:ROWS], Metric.COSINE)
    graph = CodeGraph(alone(ROWS), one_list(np.arange(0, ROWS, 16)), BREADTHS, 10**6)
    index = BinaryIndex(plain.codes, plain.exact, graph, is_compiled=is_compiled)

    k = 400  # more than there are rows where a walk begins
    for query in values[ROWS : ROWS + 10]:
        found, wanted = candidates(index, query, k), candidates(plain, query, k)
        assert set(found.rows.tolist()) == set(wanted.rows.tolist())


def test_a_method_says_how_rows_were_found(
    values: Floats, indexes: tuple[BinaryIndex, ...]
) -> None:
    assert candidates(indexes[0], values[3], 10).method == WALKED_CODES
    assert candidates(indexes[2], values[3], 10).method == CODES
    few = exact_index(values[:100], Metric.COSINE)
    assert candidates(few, values[3], 10).method == "exact scan"


@pytest.mark.parametrize("is_compiled", [True, False])
def test_of_an_entry_that_is_hidden_a_neighbour_stands_for_it(
    values: Floats, is_compiled: bool
) -> None:
    """A group of rows that nothing leads to is found also without its entry."""
    plain = binary_index(values[:ROWS], Metric.COSINE)
    code = projection.code_of_query(values[ROWS], Metric.COSINE, plain.codes.offset)
    neighbours = (np.arange(ROWS)[:, None] // DEGREE * DEGREE + np.arange(DEGREE)) % ROWS
    graph = CodeGraph(neighbours.astype(np.uint32), one_list([0, 320]), BREADTHS, 10**6)
    hidden = np.array([0, 1, 2])
    reached = np.array([*range(3, DEGREE), *range(320, 320 + DEGREE)])
    if is_compiled:
        index = BinaryIndex(plain.codes, plain.exact, graph)
        found, _ = index.walked(values[ROWS], 10, Effort.HIGH, WalkPlan(50, 10**6, hidden))
        away = distances(values[reached], values[ROWS], Metric.COSINE)
        assert set(reached[np.argsort(away)[:10]].tolist()) <= set(found.tolist())
        assert set(found.tolist()) <= set(reached.tolist())
    else:
        walk = Walk(plain.codes.codes, graph, code, None, WalkPlan(50, 10**6, hidden))
        near = walk.within(512)
        assert near is not None
        assert set(near.rows.tolist()) == set(reached.tolist())
