"""Columns of Arrow of every type: vectors, ids and metadata, or the place that has none."""

import datetime
import decimal
import io
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.unit.readers.test_bad_files import rejected
from tests.unit.readers.test_forms import documents, ids, read
from vicinal.readers.base import ColumnNames, RowBatch

VALUES = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def stream(**columns: Any) -> bytes:
    file = io.BytesIO()
    table = pa.table(columns)
    with pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


FORMS = (parquet, stream)


def values(batches: list[RowBatch]) -> list[list[float]]:
    return [row for batch in batches for row in batch.vectors.values.tolist()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float16()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 3),
        pa.list_(pa.int8()),
        pa.list_(pa.uint64()),
        pa.list_(pa.decimal128(10, 2)),
        pa.list_(pa.decimal256(40, 2), 3),
    ],
    ids=str,
)
def test_vectors_of_every_type_of_numbers_are_read(tmp_path: Path, form: Any, kind: Any) -> None:
    column: Any = VALUES
    if "decimal" in str(kind):
        column = [[decimal.Decimal(n) for n in row] for row in VALUES]
    elif "half" in str(kind):
        column = [np.array(row, np.float16) for row in VALUES]
    elif "int" in str(kind):
        column = [[int(n) for n in row] for row in VALUES]

    batches = read(form(id=["a", "b"], values=pa.array(column, kind)), tmp_path)

    assert rejected(batches) == []
    assert values(batches) == VALUES


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64(), pa.int8(), pa.decimal128(9, 1)])
def test_many_columns_of_every_type_of_numbers_are_a_vector(tmp_path: Path, kind: Any) -> None:
    make = decimal.Decimal if "decimal" in str(kind) else (
        np.float16 if "half" in str(kind) else int if "int" in str(kind) else float
    )  # fmt: skip
    columns = {f"e{n}": pa.array([make(row[n]) for row in VALUES], kind) for n in range(3)}

    batches = read(parquet(id=["a", "b"], **columns), tmp_path, ColumnNames(vector="e*"))

    assert rejected(batches) == []
    assert values(batches) == VALUES


@pytest.mark.parametrize("form", FORMS)
def test_a_tensor_of_one_dimension_is_a_vector(tmp_path: Path, form: Any) -> None:
    tensor = pa.fixed_shape_tensor(pa.float32(), [3])
    column = pa.ExtensionArray.from_storage(tensor, pa.array(VALUES, pa.list_(pa.float32(), 3)))

    assert values(read(form(id=["a", "b"], values=column), tmp_path)) == VALUES


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array([1, 2], pa.int8()), ["1", "2"]),
        (pa.array([2**64 - 1, 2], pa.uint64()), [str(2**64 - 1), "2"]),
        (pa.array([decimal.Decimal(10**20 + 1), decimal.Decimal(2)], pa.decimal128(38, 0)),
         [str(10**20 + 1), "2"]),
        (pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes], pa.binary(16))),
         [str(uuid.UUID(int=1)), str(uuid.UUID(int=2))]),
    ],
)  # fmt: skip
def test_ids_of_every_type_of_texts_and_integers_are_read(
    tmp_path: Path, column: Any, expected: list[str]
) -> None:
    batches = read(parquet(id=column, values=VALUES), tmp_path)

    assert rejected(batches) == []
    assert ids(batches) == expected


@pytest.mark.parametrize("column", [[b"a", b"b"], [1.5, 2.5], [True, False], [None, None]])
def test_ids_of_other_types_are_named(tmp_path: Path, column: Any) -> None:
    complaints = rejected(read(parquet(id=column, values=VALUES), tmp_path))

    assert [complaint.partition(": ")[0] for complaint in complaints] == ["row 1", "row 2"]
    assert all("id: " in complaint for complaint in complaints)


NOON = datetime.datetime(2020, 1, 2, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([NOON, None], pa.timestamp("ns", "UTC")), "2020-01-02T12:00:00+00:00"),
        (pa.array([1_577_966_400_000_000_007, None], pa.timestamp("ns")),
         "2020-01-02T12:00:00.000000007"),
        (pa.array([1_577_966_400_000_000_007, None], pa.timestamp("ns", "UTC")),
         "2020-01-02T12:00:00.000000007+00:00"),
        (pa.array([NOON.date(), None]), "2020-01-02"),
        (pa.array([3_600_000_000_007, None], pa.time64("ns")), "01:00:00.000000007"),
        (pa.array([10**15, None], pa.timestamp("ms")), "33658-09-27T01:46:40.000"),
        (pa.array([10**15, None], pa.timestamp("ms", "UTC")), "33658-09-27T01:46:40.000+00:00"),
        (pa.array([decimal.Decimal("1.50"), None]), 1.5),
        (pa.array([{"a": [1, 2]}, None]), {"a": [1, 2]}),
        (pa.array(["x", None]).dictionary_encode(), "x"),
        (pa.array([uuid.UUID(int=7).bytes, None], pa.binary(16)).cast(pa.binary(16)), None),
        (pa.array([1.0, float("nan")]), 1.0),
    ],
)  # fmt: skip
def test_metadata_of_every_type_is_kept_or_named(
    tmp_path: Path, form: Any, column: Any, expected: Any
) -> None:
    batches = read(form(id=["a", "b"], values=VALUES, m=column), tmp_path)

    if expected is None:
        (complaint,) = rejected(batches)
        assert complaint == "row 1: m: bytes has no form in JSON"
    else:
        assert rejected(batches) == []
        assert documents(batches) == [{"m": expected}, None]


def test_a_duration_has_no_form_and_is_named(tmp_path: Path) -> None:
    column = pa.array([1, None], pa.duration("ns"))

    batches = read(parquet(id=["a", "b"], values=VALUES, m=column), tmp_path)

    assert ids(batches) == ["b"]
    assert rejected(batches)[0].startswith("row 1: m: ")


def test_a_null_in_a_vector_and_a_vector_that_is_null_are_named(tmp_path: Path) -> None:
    column = [[1.0, None, 3.0], None]

    first, second = rejected(read(parquet(id=["a", "b"], values=column), tmp_path))

    assert first == "row 1: id 'a', values[1]: expected a number, got null"
    assert second == "row 2: id 'b', values: expected an array of numbers, got null"
