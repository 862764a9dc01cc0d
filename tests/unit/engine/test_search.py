"""A query merges what the parts of a snapshot propose, ties and all, and loads little."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.support.engines import Record, batch, vector
from vicinal.engine import search
from vicinal.engine.snapshot import Snapshot
from vicinal.model import IndexConfig, Metric, Ordinals, Query, QueryResult, Seqno
from vicinal.segment.base import View
from vicinal.segment.ids import hashes
from vicinal.segment.memtable import Memtable


def part(*records: Record, metric: Metric = Metric.EUCLIDEAN) -> View:
    memtable = Memtable(len(records[0].values), metric, string_bytes_max=64)
    memtable.append(batch(*records))
    return memtable.view()


def snapshot(*views: View) -> Snapshot:
    return Snapshot(views, (), Seqno(1), "a mutation", None)


def ask(parts: Snapshot, metric: Metric, query: Query, dimensions: int = 1) -> QueryResult:
    return search.prepare(parts, IndexConfig(dimensions, metric), query).run()


def ids(result: QueryResult) -> list[str]:
    return [each.id for each in result.matches]


def test_the_nearest_of_all_parts_are_merged_and_cut() -> None:
    odd = part(*(Record(f"v{n}", [n]) for n in range(1, 20, 2)))
    even = part(*(Record(f"v{n}", [n]) for n in range(0, 20, 2)))

    result = ask(snapshot(odd, even), Metric.EUCLIDEAN, Query(4, vector(-1)))

    assert ids(result) == ["v0", "v1", "v2", "v3"]


def test_ties_across_parts_are_broken_by_id_even_beyond_the_cut() -> None:
    parts = [part(Record(name, [1.0]), Record(name.upper(), [2.0])) for name in "dbca"]

    result = ask(snapshot(*parts), Metric.EUCLIDEAN, Query(6, vector(0)))

    assert ids(result) == ["a", "b", "c", "d", "A", "B"]


def test_a_snapshot_without_parts_has_no_matches() -> None:
    assert ask(snapshot(), Metric.COSINE, Query(5, vector(1))).matches == ()


def test_rows_that_all_tie_are_measured_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row ties for a query of zeros under cosine. All their values were copied at
    once, twice as float64: some gigabytes for a million vectors."""
    count = 2_000
    rows = part(*(Record(f"v{n:04}", [n, 1]) for n in range(count)), metric=Metric.COSINE)
    monkeypatch.setattr(search, "CHUNK_BYTES", 800)
    read: list[int] = []
    real = type(rows).values

    def values(view: View, some: Ordinals) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        read.append(len(some))
        return real(view, some)

    monkeypatch.setattr(type(rows), "values", values)
    result = ask(snapshot(rows), Metric.COSINE, Query(3, vector(0, 0)), dimensions=2)

    assert ids(result) == ["v0000", "v0001", "v0002"]
    assert max(read) == 100
    assert sum(read) == count


def test_gotten_vectors_are_in_the_order_asked_whatever_part_they_are_in() -> None:
    whole = snapshot(part(Record("a", [1]), Record("b", [2])), part(Record("c", [3])))

    assert [each.id for each in whole.get(["c", "x", "b", "c", "a"])] == ["c", "b", "a"]
    assert whole.count(["c", "x", "a"]) == 2
    assert whole.vector_count == 3


def test_an_id_is_hashed_once_for_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def counting(wanted: Sequence[str]) -> object:
        asked.append(wanted)
        return hashes(wanted)

    monkeypatch.setattr("vicinal.engine.snapshot.hashes", counting)
    snapshot(part(Record("a", [1])), part(Record("b", [2]))).get(["a", "b"])

    assert asked == [["a", "b"]]
