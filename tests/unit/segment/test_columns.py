"""Columns answer every predicate as `filters.evaluate` does, for sealed and growing rows alike."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicinal.filters.evaluate import holds
from vicinal.filters.nodes import LISTS, Operator, Predicate, Scalar
from vicinal.model import IndexType
from vicinal.segment.columns import (
    LACKING,
    CodeSet,
    Column,
    GrowingColumn,
    Strings,
    keys_of,
    merged,
)

# Few values, so that rows share them and operands hit, miss and fall between.
STRINGS = st.sampled_from(["", "a", "ab", "b", "Z", "é", "\uffff", "\U0001f600", "a\0b"])
NUMBERS = st.sampled_from([-1e308, -1.5, -0.0, 0.0, 5e-324, 1.0, 2.0, 2.0**53 + 2, 1e308])
BOOLEANS = st.booleans()
VALUES: dict[IndexType, st.SearchStrategy[Scalar]] = {
    IndexType.STRING: STRINGS,
    IndexType.NUMBER: NUMBERS,
    IndexType.BOOLEAN: BOOLEANS,
}
OPERANDS = st.none() | STRINGS | NUMBERS | BOOLEANS
EVERY: dict[IndexType, list[Scalar]] = {
    IndexType.STRING: [
        "", "a", "ab", "abc", "b", "Z", "é", "\uffff", "\U0001f600", "a\0b", "\U0010ffff",
        "\U0010ffffa",
    ],
    IndexType.NUMBER: [-1e308, -1.5, -0.0, 5e-324, 1.0, 2.0, 1e308],
    IndexType.BOOLEAN: [False, True],
}  # fmt: skip
"""Values that tell any two operators apart, each also an operand."""


@st.composite
def predicates(draw: st.DrawFn) -> Predicate:
    operator = draw(st.sampled_from(Operator))
    operands = draw(st.lists(OPERANDS, max_size=5)) if operator in LISTS else [draw(OPERANDS)]
    return Predicate("p", operator, tuple(operands))


@st.composite
def rows_of_a_type(draw: st.DrawFn) -> tuple[IndexType, list[Scalar | None]]:
    index_type = draw(st.sampled_from(list(VALUES)))
    return index_type, draw(st.lists(st.none() | VALUES[index_type], max_size=12))


def growing(index_type: IndexType, values: Sequence[Scalar | None]) -> GrowingColumn:
    column = GrowingColumn(index_type)
    column.extend(values)
    return column


def sealed(index_type: IndexType, values: Sequence[Scalar | None]) -> Column:
    """Return a column that has been to disk, as far as arrays go."""
    column = growing(index_type, values).sealed(np.arange(len(values)))
    return Column(index_type, column.arrays())


def same(one: Scalar | None, other: Scalar | None) -> bool:
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("operator", Operator)
@pytest.mark.parametrize("index_type", VALUES)
def test_an_operator_means_the_same_for_every_operand(
    index_type: IndexType, operator: Operator
) -> None:
    values = [*EVERY[index_type], None]
    column, memtable = sealed(index_type, values), growing(index_type, values)

    for operand in [None, *(operand for operands in EVERY.values() for operand in operands)]:
        predicate = Predicate("p", operator, (operand,))
        expected = [holds(predicate, value) for value in values]
        codes = column.code_set(predicate)
        assert codes.mask(column.codes).tolist() == expected, predicate
        assert memtable.mask(predicate, len(values)).tolist() == expected, predicate


@given(rows_of_a_type(), st.lists(predicates(), min_size=1, max_size=4))
def test_every_predicate_means_the_same_in_every_kind_of_column(
    rows: tuple[IndexType, list[Scalar | None]], questions: list[Predicate]
) -> None:
    index_type, values = rows
    column, memtable = sealed(index_type, values), growing(index_type, values)

    for predicate in questions:
        expected = [holds(predicate, value) for value in values]
        codes = column.code_set(predicate)
        assert codes.mask(column.codes).tolist() == expected
        assert column.count(codes) == sum(expected)
        assert sorted(column.rows(codes).tolist()) == np.flatnonzero(expected).tolist()
        assert memtable.mask(predicate, len(values)).tolist() == expected


@given(rows_of_a_type())
def test_values_come_back_with_their_type(rows: tuple[IndexType, list[Scalar | None]]) -> None:
    index_type, values = rows
    column, memtable = sealed(index_type, values), growing(index_type, values)

    for row, value in enumerate(values):
        assert same(column.value(row), value)
        assert same(memtable.value(row), value)


@given(rows_of_a_type(), st.data())
def test_keys_are_sorted_distinct_and_all_in_use(
    rows: tuple[IndexType, list[Scalar | None]], data: st.DataObject
) -> None:
    index_type, values = rows
    kept = data.draw(st.lists(st.sampled_from(range(len(values))), unique=True) if values
                     else st.just([]))  # fmt: skip

    column = growing(index_type, values).sealed(np.array(kept, np.int64))

    keys = [column.keys[place] for place in range(len(column.keys))]
    assert keys == sorted({values[row] for row in kept} - {None})  # type: ignore[type-var]  # no None among them
    assert [column.value(row) for row in range(len(kept))] == [values[row] for row in kept]


@given(st.data())
def test_merged_rows_keep_their_values_whatever_columns_they_come_from(data: st.DataObject) -> None:
    index_type = data.draw(st.sampled_from(list(VALUES)))
    parts: list[tuple[Column | None, np.ndarray[tuple[int], np.dtype[np.int64]]]] = []
    expected: list[Scalar | None] = []
    for _ in range(data.draw(st.integers(1, 4))):
        values = data.draw(st.lists(st.none() | VALUES[index_type], max_size=6))
        rows = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=len(values),
                                                 max_size=len(values))))  # fmt: skip
        if data.draw(st.booleans()):
            parts.append((sealed(index_type, values), rows))
            expected += [values[row] for row in rows]
        else:
            parts.append((None, rows))
            expected += [None] * len(rows)

    column = merged(index_type, parts)

    found = [column.value(row) for row in range(len(expected))]
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))
    assert len(column.keys) == len({value for value in expected if value is not None})


@given(
    st.lists(st.integers(0, 12), max_size=6, unique=True).map(sorted), st.booleans()
)  # fmt: skip
def test_a_complement_holds_exactly_the_other_codes(places: list[int], lacking: bool) -> None:
    key_count = 13
    codes = np.arange(LACKING, key_count, dtype=np.int32)
    some = CodeSet(tuple((place, place + 1) for place in places), lacking)

    rest = some.complement(key_count)

    assert (some.mask(codes) ^ rest.mask(codes)).all()
    assert rest.complement(key_count).mask(codes).tolist() == some.mask(codes).tolist()
    assert all(start < stop for start, stop in rest.intervals)


def test_a_reader_of_a_growing_column_sees_the_rows_of_its_snapshot_only() -> None:
    column = growing(IndexType.STRING, ["a", None, "b"])
    is_a = Predicate("p", Operator.EQ, ("a",))
    codes = column.codes(3)

    column.extend(["a", "c"] * 1000)  # far beyond what was reserved

    assert column.mask(is_a, 3).tolist() == [True, False, False]
    assert column.mask(Predicate("p", Operator.NE, ("c",)), 3).tolist() == [True, True, True]
    assert codes.tolist() == [0, LACKING, 1]
    assert int(column.mask(is_a, 2003).sum()) == 1001


def test_a_column_may_begin_with_rows_that_lack_a_value() -> None:
    column = GrowingColumn(IndexType.NUMBER, 100)

    column.extend([1.0])

    lacks = column.mask(Predicate("p", Operator.EQ, (None,)), 101)
    assert int(lacks.sum()) == 100
    assert column.value(100) == 1.0


@pytest.mark.parametrize("strings", [[], [""], ["", "a", "", "äöü\U0001f600", "z" * 1000]])
def test_strings_are_a_sequence(strings: list[str]) -> None:
    packed = Strings.of(strings)

    assert len(packed) == len(strings)
    assert list(packed) == strings
    assert packed[0:2] == strings[0:2]
    with pytest.raises(IndexError):
        packed[len(strings)]
    with pytest.raises(IndexError):
        packed[-1]


def test_the_keys_of_some_rows_are_named_without_the_rows_that_lack_one() -> None:
    column = sealed(IndexType.STRING, ["x", None, "y", "x", "z"])

    assert keys_of(column.keys, column.codes[[0, 1, 3]]) == {"x"}
    assert keys_of(column.keys, column.codes[[1]]) == set()
