"""The same vectors come out of every form, compressed or not, from any place on."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.files import COMPRESSED, FORMS, NUMBERED, TABLES, Rows
from vicinal.readers import build
from vicinal.readers.base import START, ColumnNames, Position, RowBatch
from vicinal.readers.opening import FileForm, FileSource

DIMENSIONS = 3
ROWS: Rows = [
    {"id": f"v{number}", "values": [number, number / 7, -1.0], "k": number, "s": f"t{number}, é"}
    for number in range(8)
]


def read(
    content: bytes,
    folder: Path,
    names: ColumnNames | None = None,
    start: Position = START,
    rows_max: int = 3,
    dimensions: int = DIMENSIONS,
) -> list[RowBatch]:
    """Read a file as the import does."""
    path = folder / "file"
    path.write_bytes(content)
    source = FileSource.open(path)
    names = names or ColumnNames()
    try:
        form = build.recognised(source, names)
        reader = build.reader_of(source, form, names, dimensions, bytes_max=1 << 25)
        return list(reader.batches(start, rows_max))
    finally:
        source.close()


def ids(batches: list[RowBatch]) -> list[str]:
    return [vector_id for batch in batches for vector_id in batch.vectors.ids]


def documents(batches: list[RowBatch]) -> list[Any]:
    return [
        json.loads(document or b"null") for batch in batches for document in batch.vectors.metadata
    ]


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("form", FORMS)
def test_vectors_are_read_whatever_the_form(tmp_path: Path, form: str, compression: str) -> None:
    content = COMPRESSED[compression](FORMS[form](ROWS))

    batches = read(content, tmp_path)

    expected = [str(row) for row in range(8)] if form in NUMBERED else [r["id"] for r in ROWS]
    assert ids(batches) == expected
    values = np.concatenate([batch.vectors.values for batch in batches])
    assert values.dtype == np.float32
    assert np.array_equal(values, np.array([row["values"] for row in ROWS], np.float32))
    if form not in NUMBERED:
        assert documents(batches) == [{"k": row["k"], "s": row["s"]} for row in ROWS]
    assert [len(batch.vectors) for batch in batches] == [3, 3, 2]
    assert not any(batch.rejected for batch in batches)
    assert all(0 <= batch.fraction <= 1 for batch in batches)


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("form", FORMS)
def test_reading_goes_on_where_any_batch_ended(tmp_path: Path, form: str, compression: str) -> None:
    content = COMPRESSED[compression](FORMS[form](ROWS))
    whole = read(content, tmp_path)

    for done in range(1, len(whole) + 1):
        rest = read(content, tmp_path, start=whole[done - 1].end)
        assert ids(rest) == ids(whole[done:])
        assert [batch.places[0] for batch in rest] == [batch.places[0] for batch in whole[done:]]


@pytest.mark.parametrize("form", FORMS)
def test_no_rows_are_no_fault(tmp_path: Path, form: str) -> None:
    if form in ("ndjson", "array", "object"):
        assert ids(read(FORMS[form]([]), tmp_path)) == []
    elif form == "csv":
        assert ids(read(b"id,values\n", tmp_path)) == []
    elif form in ("npy", "npz"):
        file = io.BytesIO()
        np.save(file, np.empty((0, DIMENSIONS), np.float32))
        assert ids(read(file.getvalue(), tmp_path)) == []


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_rows(tmp_path: Path, content: bytes) -> None:
    assert read(content, tmp_path) == []


@pytest.mark.parametrize(
    ("start", "form"),
    [
        (b'{"id":"a"}\n', FileForm.NDJSON),
        (b'{"id":"a","vectors":[1]}\n', FileForm.NDJSON),
        (b'{"vectors":[{"id":"a"}]}', FileForm.JSON),
        (b'{"count":1,"vectors":[{"id":"a"}]}', FileForm.JSON),
        (b'{\n "id": "a",\n', FileForm.JSON),
        (b'\n\n [ {"id"', FileForm.JSON),
        (b"[]", FileForm.JSON),
        (b"id,values\n", FileForm.CSV),
        (b"id;e0;e1\r\n", FileForm.CSV),
        (b'"id"\t"embedding"\n', FileForm.CSV),
        (b"# Heading\n\ntext, with commas\n", FileForm.TEXT),
        (b"[a link](x)\n", FileForm.TEXT),
        (b"PAR1", FileForm.PARQUET),
        (b"ARROW1\0\0", FileForm.ARROW),
        (b"\x93NUMPY\x01\x00", FileForm.NPY),
    ],
)
def test_a_form_is_recognised_by_its_first_bytes(start: bytes, form: FileForm) -> None:
    assert build.recognised(FileSource(None, io.BytesIO(start)), ColumnNames()) is form


@pytest.mark.parametrize("form", TABLES)
def test_columns_are_named_chosen_and_ignored(tmp_path: Path, form: str) -> None:
    rows = [
        {"isbn": row["id"], "e": row["values"], "shelf": "n", "k": row["k"], "s": row["s"]}
        for row in ROWS
    ]
    if form in ("csv", "npz"):
        renamed = {"isbn": "id", "e": "values"}
        content = FORMS[form](
            [{renamed.get(name, name): value for name, value in row.items()} for row in rows]
        )
        names = ColumnNames(namespace="shelf", metadata=("k",))
    else:
        content = FORMS[form](rows)
        names = ColumnNames(id="isbn", vector="e", namespace="shelf", metadata=("k",))

    batches = read(content, tmp_path, names)

    assert ids(batches) == [row["id"] for row in ROWS]
    assert documents(batches) == [{"k": row["k"]} for row in ROWS]
    assert {name for batch in batches for name in batch.vectors.namespaces} == {"n"}


def test_many_columns_of_one_number_are_a_vector(tmp_path: Path) -> None:
    content = b"id;e0;e1;e2;note\na;1;2.5;-3;x\nb;4;5;6;\n"

    (batch,) = read(content, tmp_path, ColumnNames(vector="e*"))

    assert batch.vectors.values.tolist() == [[1, 2.5, -3], [4, 5, 6]]
    assert documents([batch]) == [{"note": "x"}, None]


@pytest.mark.parametrize(
    "cell", ['"[1, 2, 3]"', "1 2 3", "[1. 2. 3.]", '"1,2,3"', "1;2;3", "1|2|3", '"(1, 2,\n3)"']
)
def test_a_cell_holds_a_vector_in_any_usual_spelling(tmp_path: Path, cell: str) -> None:
    (batch,) = read(f"id,vector\na,{cell}\n".encode(), tmp_path)

    assert batch.vectors.values.tolist() == [[1, 2, 3]]


def test_cells_of_metadata_keep_every_text_that_a_number_would_change(tmp_path: Path) -> None:
    cells = {"7": 7, "-1": -1, "1.5": 1.5, "true": True, "False": False, "x": "x"}
    texts = ["007", "1.10", "1e5", "+1", "1_0", "nan", "-0", "12345678901234567890", "1."]
    lines = "".join(f"{number},1 2 3,{cell}\n" for number, cell in enumerate([*cells, *texts]))

    batches = read(b"id,values,c\n" + lines.encode(), tmp_path, rows_max=100)

    assert documents(batches) == [{"c": value} for value in [*cells.values(), *texts]]


@pytest.mark.parametrize("form", TABLES)
def test_a_column_of_documents_is_the_metadata_itself(tmp_path: Path, form: str) -> None:
    rows = [{"id": "a", "values": [1, 2, 3], "metadata": '{"k": {"n": [1]}}', "more": 1}]

    batches = read(FORMS[form](rows), tmp_path)

    assert documents(batches) == [{"k": {"n": [1]}, "more": 1}]


def test_an_array_of_records_is_a_table(tmp_path: Path) -> None:
    table = np.array(
        [("a", [1, 2, 3], 7), ("b", [4, 5, 6], 8)],
        dtype=[("id", "U4"), ("values", "<f4", (3,)), ("k", "<i8")],
    )
    file = io.BytesIO()
    np.save(file, table)

    batches = read(file.getvalue(), tmp_path)

    assert ids(batches) == ["a", "b"]
    assert documents(batches) == [{"k": 7}, {"k": 8}]


def test_an_archive_of_one_matrix_needs_no_names(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, np.eye(3))

    assert ids(read(file.getvalue(), tmp_path)) == ["0", "1", "2"]


@pytest.mark.parametrize("form", ["ndjson", "array", "csv", "parquet"])
def test_integers_become_ids_and_nulls_are_left_out(tmp_path: Path, form: str) -> None:
    rows = [{"id": 7, "values": [1, 2, 3], "k": None, "n": 1}]

    batches = read(FORMS[form](rows), tmp_path)

    assert ids(batches) == ["7"]
    (document,) = documents(batches)
    assert {name: value for name, value in document.items() if value is not None} == {"n": 1}


def test_types_of_tables_that_json_lacks_have_a_form(tmp_path: Path) -> None:
    import datetime
    import decimal

    rows = [
        {
            "id": "a", "values": [1.0, 2.0, 3.0], "day": datetime.date(2026, 1, 2),
            "price": decimal.Decimal("1.50"), "gone": float("nan"), "tags": ["x", "y"],
        }
    ]  # fmt: skip

    batches = read(FORMS["parquet"](rows), tmp_path)

    assert documents(batches) == [{"day": "2026-01-02", "price": 1.5, "tags": ["x", "y"]}]
