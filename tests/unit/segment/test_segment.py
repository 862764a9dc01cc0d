"""A sealed or merged segment says of its rows exactly what the rows said before."""

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ann import binary_index, candidates
from tests.support.clusters import clustered
from tests.support.engines import Record, batch
from vicinal.ann import quantizer
from vicinal.ann.base import Selection
from vicinal.ann.binary import BinaryIndex
from vicinal.ann.entries import Entries
from vicinal.ann.exact import ExactIndex
from vicinal.ann.graph import DEGREE, CodeGraph
from vicinal.ann.graph_kind import GraphKind
from vicinal.errors import Corruption
from vicinal.filters.evaluate import matches
from vicinal.filters.nodes import (
    LISTS,
    AnyOf,
    Clause,
    Filter,
    Not,
    Operator,
    Predicate,
    Scalar,
    Value,
)
from vicinal.interruption import Interrupted, interruptible
from vicinal.model import Effort, IndexType, MetadataIndex, Metric, VectorBatch
from vicinal.segment import build, row_index
from vicinal.segment import selection as selection_module
from vicinal.segment.base import View
from vicinal.segment.columns import Column, SealedColumn, indexed_values
from vicinal.segment.format import NumberedIndex, SegmentRecord, elements_key
from vicinal.segment.ids import hashes
from vicinal.segment.memtable import Memtable, MemtableView
from vicinal.segment.segment import Segment, SegmentView, open_index
from vicinal.segment.selection import predicate_term, select
from vicinal.storage import files

COLOR = NumberedIndex(1, MetadataIndex("color", IndexType.STRING))
SIZE = NumberedIndex(4, MetadataIndex("size", IndexType.NUMBER))
INDEXES = (COLOR, SIZE)
METADATA_INDEXES = [each.metadata_index for each in INDEXES]
PROPERTIES = [each.property_name for each in METADATA_INDEXES]

RECORDS = [
    Record("a", [1, 0], "n", {"color": "red", "size": 1}),
    Record("é\U0001f600", [2, 0], "", {"color": "blue", "size": 2.5, "other": ["x"]}),
    Record("c", [3, 0], "m", {"color": 7}),
    Record("d", [4, 0], "n"),
    Record("e", [5, 0], "n", {"size": 1}),
]


def memtable_of(records: Sequence[Record], dead: Sequence[str] = ()) -> MemtableView:
    memtable = Memtable(2, Metric.EUCLIDEAN, string_bytes_max=64)
    for each in METADATA_INDEXES:
        memtable.add_column(each)
    memtable.append(batch(*records))
    memtable.kill(dead)
    return memtable.view()


def opened(folder: Path, record: SegmentRecord, indexes: Sequence[NumberedIndex]) -> SegmentView:
    """Open a segment that has a column for each of the indexes."""
    segment = Segment(folder, record, Metric.EUCLIDEAN)
    columns: dict[str, SealedColumn | None] = {
        each.metadata_index.property_name: segment.column(
            f"column-{each.number}", each.metadata_index.index_type
        )
        for each in indexes
    }
    columns = segment.metadata_columns(indexes) | columns
    return SegmentView(segment, np.ones(record.row_count, np.bool_), record.row_count, columns)


def sealed(folder: Path, number: int, view: MemtableView) -> SegmentView:
    record, _ = build.seal_memtable(folder, number, view, INDEXES, Metric.EUCLIDEAN)
    return opened(folder, record, INDEXES)


def with_dead(view: SegmentView, *rows: int) -> SegmentView:
    live = view.live.copy()
    live[list(rows)] = False
    return replace(view, live=live, live_count=int(live.sum()))


def contents(view: View) -> dict[str, tuple[object, ...]]:
    """Return all that a view says of each live row, by id."""
    rows = np.flatnonzero(view.live)
    ids = view.ids(rows)
    assert view.find(ids, hashes(ids)).tolist() == rows.tolist()
    return {
        each: (
            view.values(np.array([row]))[0].tolist(),
            view.namespaces(np.array([row]))[0],
            view.metadata(np.array([row]))[0],
            sorted(indexed_values(view.columns, row, PROPERTIES), key=str),
        )
        for each, row in zip(ids, rows.tolist(), strict=True)
    }


def test_a_sealed_memtable_says_what_the_memtable_said(tmp_path: Path) -> None:
    memtable = memtable_of(RECORDS, dead=["c"])

    record, rows = build.seal_memtable(tmp_path, 3, memtable, INDEXES, Metric.EUCLIDEAN)

    view = opened(tmp_path, record, INDEXES)
    assert record.row_count == 4
    assert memtable.ids(rows) == view.ids(np.arange(4))
    assert contents(view) == contents(memtable)
    assert view.live_namespaces() == memtable.live_namespaces() == {"n"}
    assert not list(tmp_path.glob("*.tmp"))


def test_a_merged_segment_says_what_its_parts_said(tmp_path: Path) -> None:
    first = with_dead(sealed(tmp_path, 1, memtable_of(RECORDS[:3])), 0)
    second = sealed(tmp_path, 2, memtable_of(RECORDS[3:]))

    parts = [second, first]
    record, kept = build.merge(tmp_path, 9, parts, INDEXES, Metric.EUCLIDEAN)

    view = opened(tmp_path, record, INDEXES)
    assert contents(view) == contents(second) | contents(first)
    assert [each.tolist() for each in kept] == [[0, 1], [1, 2]]
    assert view.ids(np.arange(4)) == ["d", "e", "é\U0001f600", "c"]
    assert view.live_namespaces() == {"n", "m"}


def test_the_index_of_rows_is_built_when_nothing_that_was_written_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 20_000
    records = [Record(f"{n:06}", [n, 1], "n", {"color": f"c{n}", "size": n}) for n in range(count)]
    parts = [sealed(tmp_path, 1, memtable_of(records[: count // 2]))]
    parts.append(sealed(tmp_path, 2, memtable_of(records[count // 2 :])))
    held: list[int] = []

    def measured(exact: ExactIndex, parameters: object | None) -> None:
        held.append(tracemalloc.get_traced_memory()[0])

    monkeypatch.setattr(row_index, "build", measured)
    build.merge(tmp_path, 3, parts, INDEXES, Metric.EUCLIDEAN)  # what is read once is kept
    tracemalloc.start()
    try:
        record, _ = build.merge(tmp_path, 4, parts, INDEXES, Metric.EUCLIDEAN)
    finally:
        tracemalloc.stop()

    # The numbers of the rows take 8 bytes each; other threads and caches of the process count, too.
    assert held[1] < 20 * count, "what was written is held"
    assert contents(opened(tmp_path, record, INDEXES)) == contents(parts[0]) | contents(parts[1])


def test_what_an_unfinished_segment_left_does_not_stop_the_next_of_its_number(
    tmp_path: Path,
) -> None:
    left = tmp_path / "00000003.tmp" / "left"
    left.parent.mkdir()
    left.write_bytes(b"half of a component")

    view = sealed(tmp_path, 3, memtable_of(RECORDS))

    assert contents(view) == contents(memtable_of(RECORDS))
    assert not list(tmp_path.rglob("left"))


def test_a_segment_that_is_given_up_while_its_index_is_built_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_built: list[bool] = []

    def built(exact: ExactIndex, parameters: object | None) -> None:
        is_built.append(True)

    def check() -> None:
        if is_built:
            raise Interrupted

    monkeypatch.setattr(row_index, "build", built)
    with pytest.raises(Interrupted), interruptible(check):
        sealed(tmp_path, 3, memtable_of(RECORDS))

    assert [path.name for path in tmp_path.iterdir()] == ["00000003.tmp"]


def test_rows_from_before_a_metadata_index_lack_its_values_after_a_merge_too(
    tmp_path: Path,
) -> None:
    before = sealed(tmp_path, 1, memtable_of(RECORDS[:2]))
    before = replace(before, columns={**before.columns, "size": None})
    after = sealed(tmp_path, 2, memtable_of(RECORDS[4:]))

    record, _ = build.merge(tmp_path, 3, [before, after], INDEXES, Metric.EUCLIDEAN)

    view = opened(tmp_path, record, INDEXES)
    assert indexed_values(view.columns, 0, PROPERTIES) == [("color", "red")]
    assert indexed_values(view.columns, 2, PROPERTIES) == [("size", 1.0)]


def test_a_backfilled_column_is_the_one_the_rows_would_have_had(tmp_path: Path) -> None:
    with_columns = sealed(tmp_path, 1, memtable_of(RECORDS))

    for each in METADATA_INDEXES:
        column = build.backfill(with_columns, each, string_bytes_max=64)
        expected = with_columns.columns[each.property_name]
        assert isinstance(expected, Column)
        assert isinstance(column, Column)
        assert [column.value(row) for row in range(5)] == [expected.value(row) for row in range(5)]


def test_strings_of_arrays_are_stored_merged_and_backfilled_where_there_are_any(
    tmp_path: Path,
) -> None:
    arrays = [Record("a", [0, 0], metadata={"color": ["red", "x", 1, None]}),
              Record("b", [0, 1], metadata={"color": "red"}),
              Record("c", [1, 1], metadata={"color": ['","', "red"]})]  # fmt: skip
    without = sealed(tmp_path, 1, memtable_of(RECORDS))
    with_arrays = sealed(tmp_path, 2, memtable_of(arrays))

    record, _ = build.merge(tmp_path, 3, [without, with_arrays], INDEXES, Metric.EUCLIDEAN)

    assert "elements-1" not in without.segment.record.components
    merged = opened(tmp_path, record, INDEXES)
    for element, count in (("red", 2), ("x", 1), ('","', 1), (",", 0), ("re", 0)):
        contains = (Predicate("color", Operator.CONTAINS, (element,)),)
        assert merged.select("", contains).count == count, element
    expected = with_arrays.columns[elements_key("color")]
    backfilled = build.backfill(
        with_arrays, COLOR.metadata_index, string_bytes_max=64, has_elements=True
    )
    assert isinstance(expected, Column)
    assert isinstance(backfilled, Column)
    assert [backfilled.value(row) for row in range(3)] == [expected.value(row) for row in range(3)]
    assert expected.value(1) is None


def test_a_column_added_later_is_stored_with_the_segment(tmp_path: Path) -> None:
    view = sealed(tmp_path, 1, memtable_of(RECORDS))
    late = NumberedIndex(7, SIZE.metadata_index)
    column = build.backfill(view, late.metadata_index, string_bytes_max=64)

    seal = build.write_column(tmp_path, 1, "column-7", column)

    record = view.segment.record
    record = replace(record, components={**record.components, "column-7": seal})
    assert indexed_values(opened(tmp_path, record, [COLOR, late]).columns, 1, PROPERTIES) == [
        ("color", "blue"),
        ("size", 2.5),
    ]


def test_dead_rows_are_found_nowhere(tmp_path: Path) -> None:
    view = with_dead(sealed(tmp_path, 1, memtable_of(RECORDS)), 0, 2)
    wanted = ["a", "c", "d", "never"]

    assert view.find(wanted, hashes(wanted)).tolist() == [-1, -1, 3, -1]
    assert view.live_namespaces() == {"n"}
    query = np.array([0, 0], np.float32)
    everything = view.select("", ())
    assert everything.count == 3
    assert 1 in view.index.prepare(query, 1, everything, Effort.EXACT).run().rows
    assert 0 not in view.index.prepare(query, 1, everything, Effort.EXACT).run().rows


@pytest.mark.parametrize("component", ["values", "ids", "metadata", "namespaces", "column-1"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_component_is_named(tmp_path: Path, component: str, damage: str) -> None:
    view = sealed(tmp_path, 1, memtable_of(RECORDS))
    path = tmp_path / "00000001" / component
    raw = bytearray(path.read_bytes())
    path.unlink()
    if damage == "cut":
        path.write_bytes(raw[:-1])
    if damage == "flipped":
        raw[len(raw) // 3] ^= 1
        path.write_bytes(raw)

    with pytest.raises(Corruption, match=str(path)):
        opened(tmp_path, view.segment.record, INDEXES)


def test_damage_where_nobody_looks_keeps_nothing_else_from_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "VERIFIED_AT_OPEN_BYTES_MAX", 0)
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    view = sealed(tmp_path, 1, memtable_of(RECORDS))
    path = tmp_path / "00000001" / "ids"
    raw = bytearray(path.read_bytes())
    raw[64] ^= 1  # the first of the offsets, which are not asked for to find an id's rows
    path.write_bytes(raw)

    view = opened(tmp_path, view.segment.record, INDEXES)

    assert view.select("n", ()).count == 3
    assert view.values(np.array([2])).tolist() == [[3, 0]]
    assert view.namespaces(np.array([2])) == ["m"]
    with pytest.raises(Corruption, match=str(path)):
        view.ids(np.array([2]))


def test_a_segment_is_unmapped_as_soon_as_nobody_has_it(tmp_path: Path) -> None:
    rows = clustered(quantizer.ROWS_MIN, 64)
    memtable = Memtable(64, Metric.COSINE, string_bytes_max=64)
    count = len(rows)
    memtable.append(
        VectorBatch([str(row) for row in range(count)], rows, [""] * count, [b""] * count)
    )
    record, _ = build.seal_memtable(tmp_path, 1, memtable.view(), (), Metric.COSINE)
    segment = Segment(tmp_path, record, Metric.COSINE)
    assert segment.index.parameters is not None
    everything = Selection(count)
    for effort in Effort:
        assert len(segment.index.prepare(rows[7], 10, everything, effort).run().rows)
    segment.metadata(np.arange(3))
    files = [weakref.ref(each) for each in segment.files]

    gc.disable()  # as if cycles were not looked for yet
    try:
        del segment

        assert [each() for each in files] == [None] * len(files)
    finally:
        gc.enable()


def test_a_segment_stays_readable_when_its_folder_is_removed(tmp_path: Path) -> None:
    view = sealed(tmp_path, 1, memtable_of(RECORDS))
    before = contents(view)

    build.remove(tmp_path, 1)

    assert not list(tmp_path.iterdir())
    assert contents(view) == before


# Selections


OPERANDS: st.SearchStrategy[Scalar | None] = st.sampled_from(
    ["red", "re", "blue", "", 1.0, 2.0, 2.5, True, False, None, ",", '","']
)
OPERATORS = st.sampled_from(Operator)


@st.composite
def filters(draw: st.DrawFn, depth: int = 0) -> Filter:
    clauses: list[Clause] = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.integers(0, 6)) if depth < 3 else 6
        if kind == 0:
            clauses.append(Not(draw(filters(depth + 1))))
        elif kind == 1:
            clauses.append(AnyOf(tuple(draw(st.lists(filters(depth + 1), max_size=3)))))
        else:
            operator = draw(OPERATORS)
            is_many = operator in LISTS
            operands = draw(st.lists(OPERANDS, max_size=3)) if is_many else [draw(OPERANDS)]
            name = draw(st.sampled_from(["color", "size"]))
            clauses.append(Predicate(name, operator, tuple(operands)))
    return tuple(clauses)


RANDOM_RECORDS = st.lists(
    st.builds(
        lambda namespace, color, size: (namespace, {"color": color, "size": size}),
        st.sampled_from(["", "n", "m"]),
        st.sampled_from(
            ["red", "blue", "", None, 5, ["red"], ["re", "", "blue"], [], [1], ['","', "x"]]
        ),
        st.sampled_from([1, 2, 2.5, None, "x"]),
    ),
    min_size=1,
    max_size=12,
)


@given(RANDOM_RECORDS, filters(), st.sampled_from(["", "n", "x"]), st.data())
@pytest.mark.parametrize("listed_max", [0, 2, 1000])
def test_a_selection_holds_exactly_the_live_rows_that_match(
    tmp_path_factory: pytest.TempPathFactory,
    listed_max: int,
    rows: list[tuple[str, dict[str, object]]],
    filter_: Filter,
    namespace: str,
    data: st.DataObject,
) -> None:
    records = [Record(f"v{n}", [n, 0], space, each) for n, (space, each) in enumerate(rows)]
    memtable = memtable_of(records)
    dead = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True))
    view = with_dead(sealed(tmp_path_factory.mktemp("s"), 1, memtable), *dead)
    lacks_size = data.draw(st.booleans())
    if lacks_size:
        view = replace(view, columns={**view.columns, "size": None})

    def expected(row: int) -> bool:
        space, document = rows[row]
        color, size = document["color"], document["size"]
        strings = color if isinstance(color, list) else []
        array = tuple(each for each in strings if isinstance(each, str))
        values: dict[str, Value | None] = {
            "color": color if isinstance(color, str) else array or None,
            "size": None if lacks_size or not isinstance(size, int | float) else float(size),
        }
        return row not in dead and namespace in ("", space) and matches(filter_, values)

    in_memory = memtable.select(namespace, filter_) if not (dead or lacks_size) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection_module, "LISTED_ROWS_MIN", listed_max)
        patch.setattr(selection_module, "LISTED_ROWS_MAX", listed_max)
        selection = view.select(namespace, filter_)

    assert rows_of(selection, len(rows)) == [row for row in range(len(rows)) if expected(row)]
    assert selection.count == len(rows_of(selection, len(rows)))
    if in_memory is not None:
        assert rows_of(in_memory, len(rows)) == rows_of(selection, len(rows))


def rows_of(selection: Selection, row_count: int) -> list[int]:
    if selection.rows is not None:
        assert len(set(selection.rows.tolist())) == len(selection.rows)
        return sorted(selection.rows.tolist())
    mask = selection.masked().mask
    if mask is not None:
        return [int(row) for row in np.flatnonzero(mask)]
    return list(range(row_count))


def column_of(values: Sequence[str | None]) -> Column:
    keys = sorted({each for each in values if each is not None})
    codes = [-1 if each is None else keys.index(each) for each in values]
    return Column.of(IndexType.STRING, keys, np.array(codes, np.int32))


@pytest.mark.parametrize(("count", "is_listed"), [(3_999, True), (4_000, True), (4_001, False)])
def test_few_rows_are_listed_and_many_are_tested(count: int, is_listed: bool) -> None:
    column = column_of(["x"] * count + ["y"] * 6_000)
    live = np.ones(count + 6_000, np.bool_)

    selection = select(
        [predicate_term(column, Predicate("p", Operator.EQ, ("x",)), len(live))], live, len(live)
    )

    assert selection.count == count
    assert (selection.rows is not None) == is_listed
    assert (selection.test is None) == is_listed
    assert selection.mask is None


def test_rows_that_pass_several_terms_or_very_many_intervals_are_masked() -> None:
    column = column_of([f"{number % 100:02}" for number in range(10_000)])
    live = np.ones(10_000, np.bool_)
    at_least, every_second = (
        predicate_term(column, predicate, 10_000)
        for predicate in (
            Predicate("p", Operator.GTE, ("20",)),
            Predicate("p", Operator.IN, tuple(f"{number:02}" for number in range(0, 100, 2))),
        )
    )

    selections = [select(terms, live, 10_000) for terms in ([at_least] * 2, [every_second])]

    assert [selection.count for selection in selections] == [8_000, 5_000]
    assert all(selection.test is None for selection in selections)
    assert all(selection.mask is not None for selection in selections)


def test_the_narrowest_predicate_decides_what_is_listed() -> None:
    wide = column_of(["x"] * 10_000)
    narrow = column_of(["y"] * 9_990 + ["x"] * 10)
    is_x = Predicate("p", Operator.EQ, ("x",))
    live = np.ones(10_000, np.bool_)

    for columns in ((wide, narrow), (narrow, wide)):
        terms = [predicate_term(column, is_x, 10_000) for column in columns]
        selection = select(terms, live, 10_000)
        assert selection.rows is not None
        assert sorted(selection.rows.tolist()) == list(range(9_990, 10_000))


MAKERS: list[Callable[[Path], View]] = [
    lambda _: memtable_of(RECORDS),
    lambda folder: sealed(folder, 1, memtable_of(RECORDS)),
]


@pytest.mark.parametrize("make", MAKERS, ids=["memtable", "segment"])
def test_what_a_view_returns_does_not_write_through(
    tmp_path: Path, make: Callable[[Path], View]
) -> None:
    view = make(tmp_path)
    before = contents(view)

    view.values(np.array([0, 1]))[:] = 77

    assert contents(view) == before


def graph_without(folder: Path, names: set[str]) -> tuple[BinaryIndex, files.ComponentFile]:
    """Return codes of 300 rows without a graph, and a file of them and a graph of two lists."""
    plain = binary_index(clustered(300, 16), Metric.COSINE)
    rows = np.arange(300, dtype=np.uint32)
    entries = Entries(rows, np.array([0, 100], np.uint32))
    neighbours = np.repeat(rows[:, None], DEGREE, axis=1)
    graph = CodeGraph(neighbours, entries, ((300, 300),) * 3, 300)
    arrays = {**plain.codes.arrays(), **graph.arrays()}
    kept = {name: array for name, array in arrays.items() if name not in names}
    seal = files.write(folder / "graph", "graph", kept)
    return plain, files.ComponentFile(folder / "graph", "graph", seal)


@pytest.mark.parametrize(
    ("missing", "entry_count", "list_count"),
    [(set(), 300, 2), ({"entry_starts"}, 300, 1), ({"entries", "entry_starts"}, 10, 1)],
)
def test_a_graph_of_an_earlier_version_is_opened(
    tmp_path: Path, missing: set[str], entry_count: int, list_count: int
) -> None:
    plain, file = graph_without(tmp_path, missing)

    index = open_index(GraphKind(), file, plain.exact)

    assert isinstance(index, BinaryIndex)
    assert index.graph is not None
    assert len(index.graph.entries.rows) == entry_count
    assert len(index.graph.entries.starts) == list_count
    assert len(candidates(index, plain.exact.values[7], 10).rows) >= 10


def test_a_graph_that_lacks_what_all_versions_wrote_is_damaged(tmp_path: Path) -> None:
    plain, file = graph_without(tmp_path, {"breadths"})

    with pytest.raises(Corruption, match="no array 'breadths'"):
        open_index(GraphKind(), file, plain.exact)
