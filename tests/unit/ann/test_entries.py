"""Entries: near to all rows, few, and in lists around the nearest of their pivots."""

from math import isqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.clusters import clustered
from vicinal.ann import entries, projection
from vicinal.ann.entries import Entries, entries_of
from vicinal.ann.graph import DEGREE, build_neighbours
from vicinal.ann.hamming import Bits, distances
from vicinal.model import Metric
from vicinal.native.library import Library, library
from vicinal.native.structures import LISTS_MAX, Graph

pytestmark = pytest.mark.skipif(
    library() is None, reason="NO GRAPH IS BUILT: there is no C compiler"
)
ROWS = 6_000


def built() -> Library:
    found = library()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def codes() -> Bits:
    return projection.encode(clustered(ROWS, 64), Metric.COSINE, 1.0, 512)[0]


@pytest.fixture(scope="module")
def neighbours(codes: Bits) -> NDArray[np.uint32]:
    found = build_neighbours(codes)
    assert found is not None
    return found


def alone(rows: int) -> NDArray[np.uint32]:
    """Return neighbours of rows that have none."""
    return np.repeat(np.arange(rows, dtype=np.uint32)[:, None], DEGREE, axis=1)


@pytest.mark.parametrize("further", [0, 3, DEGREE])
def test_every_row_is_an_entry_or_a_neighbour_of_one_or_of_its_nearest(
    neighbours: NDArray[np.uint32], further: int
) -> None:
    near_of = neighbours.astype(np.int64)
    structure = Graph(
        neighbours=neighbours.ctypes.data, row_count=len(neighbours), neighbour_count=DEGREE
    )
    covered = np.zeros(len(neighbours), np.bool_)
    expected = []
    for row, near in enumerate(near_of):
        if not covered[row]:
            expected.append(row)
            covered[[row, *near, *near_of[near[:further]].reshape(-1)]] = True

    assert built().cover(structure, further).tolist() == expected


@pytest.mark.parametrize("per_root", [90, 3])
def test_entries_are_at_most_as_many_as_a_multiple_of_the_root_of_the_rows(
    codes: Bits,
    neighbours: NDArray[np.uint32],
    monkeypatch: pytest.MonkeyPatch,
    per_root: int,
) -> None:
    monkeypatch.setattr(entries, "_ENTRIES_PER_ROOT", per_root)

    rows = entries_of(codes, neighbours).rows

    assert 0 < len(rows) <= per_root * 78
    assert len(set(rows.tolist())) == len(rows)
    assert rows.max() < ROWS


def test_each_entry_is_in_the_list_of_the_nearest_pivot_whose_first_row_that_is(
    codes: Bits,
) -> None:
    found = entries_of(codes, alone(ROWS))

    assert len(found.rows) == ROWS
    assert 180 <= len(found.starts) <= 3 * isqrt(ROWS) == 231
    assert found.lengths().sum() == ROWS
    pivot_codes = found.pivot_codes(codes)
    away = np.array([distances(pivot_codes, code) for code in codes[found.rows]])
    of_list = np.repeat(np.arange(len(found.starts)), found.lengths())
    assert (away[np.arange(ROWS), of_list] == away.min(axis=1)).all()
    assert (away[found.starts, np.arange(len(found.starts))] == 0).all()


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_few_rows_and_rows_that_are_all_alike_have_lists_too(codes: Bits, rows: int) -> None:
    apart, alike = codes[:rows], np.repeat(codes[:1], rows, axis=0)

    for each in (apart, alike):
        found = entries_of(each, alone(rows))
        assert sorted(found.rows.tolist()) == list(range(rows))
        assert found.starts[0] == 0
        assert found.lengths().min() > 0
    assert len(found.starts) == 1


def test_there_are_no_more_lists_than_a_search_has_space_for(
    codes: Bits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "LISTS_MAX", 5)

    assert len(entries_of(codes, alone(ROWS)).starts) <= 5


def test_a_graph_of_an_earlier_version_has_one_list_or_begins_at_rows_spread_evenly() -> None:
    assert Entries.of({}, 100).rows.tolist() == [0, 32, 64, 96]
    assert Entries.of({}, 100).starts.tolist() == [0]

    rows = np.array([3, 9, 4], np.uint32)
    assert Entries.of({"entries": rows}, 100).rows.tolist() == [3, 9, 4]
    assert Entries.of({"entries": rows}, 100).starts.tolist() == [0]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("entries", []),
        ("entries", [3, 9, 10]),
        ("entry_starts", []),
        ("entry_starts", [1, 2]),
        ("entry_starts", [0, 3]),
        ("entry_starts", [0, 1, 1]),
        ("entry_starts", [0, 2, 1]),
    ],
)
def test_arrays_that_are_no_entries_of_these_rows_are_refused(name: str, array: list[int]) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "entries": np.array([3, 9, 4], np.uint32),
        "entry_starts": np.array([0, 2], np.uint32),
    }
    assert Entries.of(arrays, 10).lengths().tolist() == [2, 1]

    with pytest.raises(ValueError, match="the graph"):
        Entries.of({**arrays, name: np.array(array, np.uint32)}, 10)


def test_more_lists_than_a_search_has_space_for_are_refused() -> None:
    rows = np.arange(LISTS_MAX + 1, dtype=np.uint32)

    Entries.of({"entries": rows, "entry_starts": rows[:-1]}, len(rows))
    with pytest.raises(ValueError, match=f"{LISTS_MAX + 1} lists"):
        Entries.of({"entries": rows, "entry_starts": rows}, len(rows))
