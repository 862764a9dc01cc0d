"""A view of the memtable shows for ever what was there when it was taken, whatever is done next."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engines import Record, batch
from vicinal.ann.quantizer import QuantizerParameters
from vicinal.filters.nodes import Operator, Predicate, Scalar
from vicinal.model import Effort, Floats, IndexType, MetadataIndex, Metric, VectorBatch
from vicinal.segment.arena import FILE_OFFSET
from vicinal.segment.columns import indexed_values
from vicinal.segment.format import elements_key
from vicinal.segment.growing import BackfilledColumns
from vicinal.segment.ids import hashes
from vicinal.segment.memtable import Memtable, MemtableView

COLOR = MetadataIndex("color", IndexType.STRING)
SIZE = MetadataIndex("size", IndexType.NUMBER)


def new_memtable() -> Memtable:
    return Memtable(2, Metric.EUCLIDEAN, string_bytes_max=64)


def backfilled(index: MetadataIndex) -> BackfilledColumns:
    return BackfilledColumns(index, string_bytes_max=64)


def upsert(memtable: Memtable, *records: Record) -> None:
    memtable.kill([each.id for each in records])
    memtable.append(batch(*records))


def record(name: str, value: float, color: str | None = None, namespace: str = "") -> Record:
    return Record(name, [value, 0], namespace, None if color is None else {"color": color})


def find(view: MemtableView, *ids: str) -> list[int]:
    return [int(row) for row in view.find(ids, hashes(ids))]


def contents(view: MemtableView) -> dict[str, tuple[list[float], str, bytes]]:
    """Return all that a view says of its live rows, by id."""
    rows = np.flatnonzero(view.live)
    found = zip(view.ids(rows), view.values(rows).tolist(), view.namespaces(rows),
                view.metadata(rows), strict=True)  # fmt: skip
    return {vector_id: (values, space, blob) for vector_id, values, space, blob in found}


def equals(property_name: str, operand: Scalar | None) -> tuple[Predicate, ...]:
    return (Predicate(property_name, Operator.EQ, (operand,)),)


def selected(
    view: MemtableView, namespace: str = "", filter_: Sequence[Predicate] = ()
) -> set[str]:
    selection = view.select(namespace, tuple(filter_))
    mask = view.live if selection.mask is None else selection.mask
    assert selection.count == mask.sum()
    return set(view.ids(np.flatnonzero(mask)))


def test_a_view_finds_what_was_replaced_deleted_or_added_since_as_it_was() -> None:
    memtable = new_memtable()
    upsert(memtable, record("a", 1), record("b", 2), record("c", 3))
    view = memtable.view()
    before = contents(view)

    upsert(memtable, record("a", 10), record("new", 4))
    memtable.kill(["b"])

    assert contents(view) == before
    assert find(view, "b", "new", "a", "c", "never") == [1, -1, 0, 2, -1]
    assert find(memtable.view(), "b", "new", "a", "c") == [-1, 4, 3, 2]
    assert view.live_count == 3


def test_an_id_deleted_before_a_view_and_added_after_is_not_in_it() -> None:
    memtable = new_memtable()
    upsert(memtable, record("a", 1), record("b", 2))
    memtable.kill(["a"])
    view = memtable.view()

    upsert(memtable, record("a", 3))

    assert find(view, "a", "b") == [-1, 1]
    assert set(contents(view)) == {"b"}


def test_killing_names_the_ids_that_are_not_there() -> None:
    memtable = new_memtable()
    upsert(memtable, record("a", 1))

    assert memtable.kill(["x", "a", "y"]) == ["x", "y"]
    assert memtable.kill(["a"]) == ["a"]
    assert (memtable.row_count, memtable.live_count) == (1, 0)
    assert "a" not in memtable


def test_ids_that_are_not_in_the_memtable_cost_its_readers_nothing() -> None:
    memtable = new_memtable()
    upsert(memtable, record("a", 1))
    count = memtable.kill_count

    upsert(memtable, record("b", 1), record("c", 1))

    assert memtable.kill_count == count


def test_a_view_keeps_its_rows_when_the_memtable_grows_far_beyond_them() -> None:
    memtable = new_memtable()
    upsert(memtable, *(record(f"v{n}", n, "red", "n") for n in range(60)))
    memtable.add_column(COLOR, backfilled(COLOR))
    view = memtable.view()
    before = contents(view)

    upsert(memtable, *(record(f"w{n}", n, "blue", "m") for n in range(5000)))
    upsert(memtable, *(record(f"v{n}", -n) for n in range(60)))

    assert contents(view) == before
    assert selected(view, "n", equals("color", "red")) == set(before)
    assert selected(view, "m") == set()
    assert view.live_namespaces() == {"n"}
    assert memtable.view().live_namespaces() == {"m"}


def test_rows_picked_from_a_batch_are_appended_in_the_order_given() -> None:
    memtable = new_memtable()
    several = batch(record("a", 1, "x", "n"), record("b", 2), record("c", 3, "z", "m"))

    memtable.append(several, [2, 0])

    assert contents(memtable.view()) == {
        "c": ([3, 0], "m", b'{"color":"z"}'),
        "a": ([1, 0], "n", b'{"color":"x"}'),
    }


def test_a_memtable_does_not_hold_on_to_the_arrays_it_was_given() -> None:
    memtable = new_memtable()
    values = np.ones((1, 2), np.float32)
    memtable.append(VectorBatch(["a"], values, [""], [b""]))

    values[:] = 7

    assert contents(memtable.view())["a"][0] == [1, 1]


def many(start: int, count: int) -> VectorBatch:
    """Vectors of 128 dimensions, eight of which fill a page."""
    rng = np.random.default_rng(start)
    ids = [f"v{row}" for row in range(start, start + count)]
    values = rng.standard_normal((count, 128), dtype=np.float32)
    return VectorBatch(ids, values, ["n"] * count, [b'{"color":"red"}'] * count)


def file_of(folder: Path, values: Floats) -> Path:
    path = folder / str(len(list(folder.iterdir())))
    path.write_bytes(bytes(FILE_OFFSET) + values.tobytes() + b"what follows in the file" * 500)
    return path


def test_rows_are_where_a_file_has_them(tmp_path: Path) -> None:
    memtable = Memtable(128, Metric.COSINE, string_bytes_max=64)
    several = many(0, 2_000)
    memtable.append(several, file=file_of(tmp_path, several.values + 1))  # which tells

    assert np.array_equal(memtable.view().values(np.arange(2_000)), several.values + 1)


@pytest.mark.parametrize(
    "parameters", [None, QuantizerParameters(256, 1.0, ((9, 9),) * 3, (40, 400))]
)
def test_rows_in_files_are_as_good_as_copied_ones(
    tmp_path: Path, parameters: QuantizerParameters | None
) -> None:
    memtable, copied = (
        Memtable(128, Metric.COSINE, string_bytes_max=64, parameters=parameters) for _ in range(2)
    )
    views = []
    # Some begin at a page; others do not, and leave rows unused.
    for start, count in ((0, 3), (3, 1_500), (1_503, 2_501), (4_004, 5), (4_009, 1_200)):
        several = many(start, count)
        if start == 1_503:
            for each in (memtable, copied):
                each.add_column(COLOR, backfilled(COLOR))
        memtable.append(several, file=file_of(tmp_path, several.values))
        copied.append(several)
        views.append((memtable.view(), contents(copied.view())))
    for path in tmp_path.iterdir():
        path.unlink()

    assert memtable.row_count > copied.row_count == memtable.live_count
    for view, expected in views:
        assert contents(view) == expected
    view, other = memtable.view(), copied.view()
    assert selected(view, "n", equals("color", "red")) == set(other.ids(np.arange(5_209)))
    for query in many(0, 5_209).values[::500]:
        found = [
            {each.ids(np.array([row]))[0] for row in proposal.rows}
            for each in (view, other)
            for proposal in [each.index.prepare(query, 5, each.select("", ()), Effort.EXACT).run()]
        ]
        assert found[0] == found[1]
    memtable.kill(["v1600", "v0"])
    assert find(memtable.view(), "v1600", "v0") == [-1, -1]
    assert find(view, "v1600", "v5208") != [-1, -1]


def test_rows_picked_from_a_batch_that_is_in_a_file_are_those_picked(tmp_path: Path) -> None:
    memtable = Memtable(128, Metric.COSINE, string_bytes_max=64)
    several = many(0, 8_000)

    memtable.append(several, range(1, 8_000, 2), file_of(tmp_path, several.values))

    assert np.array_equal(memtable.view().values(np.arange(4_000)), several.values[1::2])
    assert find(memtable.view(), "v0", "v1", "v3") == [-1, 0, 1]


def test_values_read_from_a_memtable_do_not_reach_the_file(tmp_path: Path) -> None:
    memtable = Memtable(128, Metric.COSINE, string_bytes_max=64)
    several, after = many(0, 2_003), many(2_003, 1)
    path = file_of(tmp_path, several.values)
    before = path.read_bytes()

    memtable.append(several, file=path)
    memtable.append(after)  # into the page that the last mapped rows are on

    assert path.read_bytes() == before
    assert np.array_equal(memtable.view().values(np.array([2_003])), after.values)


def test_a_column_begun_later_lacks_the_rows_before_it_unless_they_are_backfilled() -> None:
    memtable = new_memtable()
    upsert(memtable, record("a", 1, "red"))

    memtable.add_column(COLOR)
    memtable.add_column(SIZE, backfilled(SIZE))
    upsert(memtable, record("b", 2, "red"), Record("c", [3, 0], metadata={"size": 7}))

    view = memtable.view()
    assert selected(view, filter_=equals("color", "red")) == {"b"}
    assert selected(view, filter_=equals("color", None)) == {"a", "c"}
    assert selected(view, filter_=equals("size", 7.0)) == {"c"}
    assert indexed_values(view.columns, 1, ["color", "size"]) == [("color", "red")]
    assert indexed_values(view.columns, 2, ["color", "size"]) == [("size", 7.0)]


def test_a_view_keeps_the_columns_it_was_taken_with() -> None:
    memtable = new_memtable()
    memtable.add_column(COLOR)
    upsert(memtable, record("a", 1, "red"))
    view = memtable.view()

    memtable.add_column(SIZE)
    memtable.remove_column(COLOR)
    number = MetadataIndex("color", IndexType.NUMBER)
    memtable.add_column(number, backfilled(number))

    assert set(view.columns) == {"color", elements_key("color")}
    assert selected(view, filter_=equals("color", "red")) == {"a"}
    assert selected(memtable.view(), filter_=equals("color", "red")) == set()


def test_values_are_returned_as_copies() -> None:
    memtable = new_memtable()
    upsert(memtable, record("a", 1))
    view = memtable.view()

    view.values(np.array([0]))[:] = 9

    assert view.values(np.array([0])).tolist() == [[1, 0]]


@pytest.mark.parametrize("count", [0, 3, 90])
def test_the_nearest_selected_rows_are_proposed_whether_few_or_many(count: int) -> None:
    memtable = new_memtable()
    upsert(memtable, *(record(f"v{n:02}", n, "red" if n < count else "blue") for n in range(100)))
    memtable.add_column(COLOR, backfilled(COLOR))
    view = memtable.view()
    selection = view.select("", equals("color", "red"))

    query = np.array([500, 0], np.float32)
    proposed = view.index.prepare(query, 2, selection, Effort.STANDARD).run()

    assert selection.count == count
    assert set(proposed.rows.tolist()) == set(range(max(count - 2, 0), count))


# Any history


@dataclass(frozen=True)
class Act:
    kills: tuple[str, ...]
    appends: tuple[str, ...]
    looks: bool


IDS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=5).map(tuple)


@given(st.lists(st.builds(Act, IDS, IDS, st.booleans()), max_size=25))
def test_every_view_of_any_history_stays_as_it_was(history: list[Act]) -> None:
    memtable = new_memtable()
    model: dict[str, float] = {}
    taken: list[tuple[MemtableView, dict[str, float]]] = []
    for number, act in enumerate(history):
        # Appended ids are live nowhere in the memtable: what was there is killed first.
        doomed = [*act.kills, *(each for each in act.appends if each not in act.kills)]
        assert memtable.kill(doomed) == [each for each in doomed if each not in model]
        model = {key: value for key, value in model.items() if key not in doomed}
        if act.appends:
            memtable.append(batch(*(record(each, number) for each in act.appends)))
            model |= dict.fromkeys(act.appends, float(number))
        if act.looks:
            taken.append((memtable.view(), dict(model)))

    taken.append((memtable.view(), model))
    for view, expected in taken:
        assert {key: values[0] for key, (values, _, _) in contents(view).items()} == expected
        assert view.live_count == len(expected)
        if len(view.live):
            rows = view.find("abcdefgh", hashes("abcdefgh"))
            found = {"abcdefgh"[place]: int(row) for place, row in enumerate(rows) if row >= 0}
            assert {each: view.values(np.array([row]))[0, 0] for each, row in found.items()} == (
                expected
            )


def test_a_reader_finds_each_id_of_its_view_while_a_writer_replaces_them_all() -> None:
    memtable = new_memtable()
    ids = [f"v{n}" for n in range(50)]
    upsert(memtable, *(record(each, 0) for each in ids))
    views = [memtable.view()]
    stop = threading.Event()

    def write() -> None:
        try:
            for generation in range(1, 400):
                upsert(memtable, *(record(each, generation) for each in ids))
                views.append(memtable.view())
        finally:
            stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    looked = 0
    while not stop.is_set() or looked == 0:
        view = views[-1]
        rows = view.find(ids, hashes(ids))

        assert (rows >= 0).all()
        assert len(set(view.values(rows)[:, 0].tolist())) == 1
        looked += 1
    writer.join()
