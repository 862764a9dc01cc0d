"""Every form names what is wrong (place, field, value, bound) and loses nothing."""

import io
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from tests.support.files import COMPRESSED, FORMS, NUMBERED, TABLES, Rows
from tests.unit.readers.test_forms import ROWS, documents, ids, read
from vicinal.errors import BadFile
from vicinal.readers import build
from vicinal.readers.base import START, ColumnNames, RowBatch
from vicinal.readers.opening import FileForm, FileSource

LISTS = ("ndjson", "array", "object")
STRUCTURED = ("parquet", "feather", "stream")
"""Tables whose cells may be objects; in others they are text."""
UNIT = {"ndjson": "line", "csv": "line"} | dict.fromkeys(("array", "object"), "record")


def place(form: str, row: int) -> str:
    """The place of a row, from 0."""
    number = row + 2 if form == "csv" else row + 1
    return f"{UNIT.get(form, 'row')} {number}"


def rejected(batches: list[RowBatch]) -> list[str]:
    return [row.complaint for batch in batches for row in batch.rejected]


def changed(row: int, **members: Any) -> Rows:
    rows = [dict(each) for each in ROWS]
    rows[row] |= members
    return rows


BAD_ROWS: list[tuple[str, dict[str, Any], tuple[str, ...], str]] = [
    ("wrong length", {"values": [1.0, 2.0]}, (), "values: expected 3 dimensions, and got 2"),
    ("empty id", {"id": ""}, (), "id: must not be empty"),
    ("long id", {"id": "a" * 600}, (), "id too long; max is 512 bytes, got 600 bytes"),
    ("beyond float32", {"values": [1.0, 1e39, 2.0]}, ("npz",), "values[1]: 1e+39 is no finite"),
    ("long metadata", {"s": "x" * 11_000}, (), "must not exceed 10240 bytes, got 110"),
]


@pytest.mark.parametrize("form", [form for form in FORMS if form not in NUMBERED])
@pytest.mark.parametrize(("name", "members", "not_in", "rule"), BAD_ROWS)
def test_a_bad_row_is_named_and_the_others_are_read(
    tmp_path: Path,
    form: str,
    name: str,
    members: dict[str, Any],
    not_in: tuple[str, ...],
    rule: str,
) -> None:
    if form in not_in or (form == "npz" and name == "wrong length"):
        pytest.skip("no array can hold this")

    batches = read(FORMS[form](changed(5, **members)), tmp_path)

    (complaint,) = rejected(batches)
    assert complaint.startswith(place(form, 5) + ": ")
    assert rule in complaint
    assert ids(batches) == [row["id"] for row in ROWS if row["id"] != "v5"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, form: str, number: float) -> None:
    batches = read(FORMS[form](changed(4, values=[1.0, 2.0, number])), tmp_path)

    (complaint,) = rejected(batches)
    assert complaint.startswith(place(form, 4) + ": ")
    assert "values[2]: " in complaint
    assert len(ids(batches)) == 7


@pytest.mark.parametrize("form", FORMS)
def test_a_rejected_row_is_recorded_as_the_numbers_that_were_read(
    tmp_path: Path, form: str
) -> None:
    values = [[0.5, float("nan"), -2.0], [float("inf"), -float("inf"), 1.0]]
    rows = changed(4, values=values[0])
    rows[6]["values"] = values[1]

    batches = read(FORMS[form](rows), tmp_path)

    records = [json.loads(row.record) for batch in batches for row in batch.rejected]
    recorded = [record.get("values", record) for record in records]
    if form == "csv":
        assert recorded == [json.dumps(row) for row in values], "the cell is not as it was"
    else:
        assert recorded == [[0.5, "NaN", -2.0], ["Infinity", "-Infinity", 1.0]]


def test_a_rejected_row_of_many_numbers_has_all_of_them(tmp_path: Path) -> None:
    line = json.dumps({"id": "a", "values": list(range(1_536))}).encode()

    (batch,) = read(line, tmp_path)

    (row,) = batch.rejected
    assert json.loads(row.record)["values"] == list(range(1_536))


@pytest.mark.parametrize("form", ["npy", "fortran"])
def test_a_matrix_of_another_width_is_refused_whole(tmp_path: Path, form: str) -> None:
    with pytest.raises(BadFile, match="row 1, values: expected 4 dimensions, and got 3"):
        read(FORMS[form](ROWS), tmp_path, dimensions=4)


@pytest.mark.parametrize("form", [*LISTS, *TABLES])
@pytest.mark.parametrize("depth", [1, 50])
def test_nested_metadata_is_kept(tmp_path: Path, form: str, depth: int) -> None:
    nested: Any = {"n": [{"k": 1}]} if form in STRUCTURED else {"n": [1, {"k": None}]}
    for _ in range(depth):
        nested = {"d": nested}
    row = {"id": "v1", "values": [1.0, 2.0, 3.0]}
    if form in LISTS:
        rows = changed(1, metadata=nested)
    elif form in STRUCTURED:
        rows = [row | {"deep": nested}]
    else:
        rows = [row | {"metadata": json.dumps(nested)}]

    batches = read(FORMS[form](rows), tmp_path)

    assert rejected(batches) == []
    assert b'"d":' * depth in b"".join(
        part for batch in batches for part in batch.vectors.metadata
    ).replace(b"{", b"")


def test_metadata_that_is_null_is_none(tmp_path: Path) -> None:
    text = b'{"id":"a","values":[1,2,3],"metadata":null}\n'

    (batch,) = read(text, tmp_path)

    assert list(batch.vectors.metadata) == [b""]


@pytest.mark.parametrize("form", [form for form in FORMS if form not in NUMBERED])
@pytest.mark.parametrize(("lacking", "option"), [("id", "--id"), ("values", "--vector")])
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, form: str, lacking: str, option: str
) -> None:
    if (form, lacking) in (("npz", "id"), ("npz", "values")):
        pytest.skip("an archive may leave ids and the name of the only matrix unsaid")
    rows = [
        {("other" if name == lacking else name): value for name, value in row.items()}
        for row in ROWS
    ]
    if form in LISTS:
        rows = [{name: value for name, value in row.items() if name != "other"} for row in rows]
        (complaint, *_) = rejected(read(FORMS[form](rows), tmp_path))
    elif form == "csv" and lacking == "values":
        rows = [{"id": "a", "other": "x"}]
        with pytest.raises(BadFile) as refused:
            read(FORMS[form](rows), tmp_path)
        complaint = str(refused.value)
    else:
        content = FORMS[form](rows)
        if form == "csv":
            content = content.replace(b"other,", b"vector,", 0)
        with pytest.raises(BadFile) as refused:
            read(content, tmp_path, ColumnNames(id="id") if form == "csv" else None)
        complaint = str(refused.value)

    if form == "csv" and lacking == "id":
        assert "this is text" in complaint or option in complaint
        return
    assert f"'{lacking}'" in complaint
    assert option in complaint


@pytest.mark.parametrize("form", TABLES)
def test_a_column_that_an_option_names_must_be_there(tmp_path: Path, form: str) -> None:
    with pytest.raises(BadFile, match=r"it has no column 'absent'; --metadata names another of: "):
        read(FORMS[form](ROWS), tmp_path, ColumnNames(metadata=("absent",)))


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("form", [form for form in FORMS if form != "ndjson"])
def test_a_file_that_is_cut_off_anywhere_is_noticed(
    tmp_path: Path, form: str, compression: str
) -> None:
    content = FORMS[form](ROWS)
    if form == "csv":
        content = content.rstrip() + b'"'  # of CSV only an open quote shows that it goes on
        content = b'id,values,k\na,"[1,2,3]",1\nb,"[4,5,6'
    packed = COMPRESSED[compression](content)
    cuts = range(9, len(packed) - 1, max(1, len(packed) // 25))
    if form == "csv" and compression == "plain":
        cuts = range(len(packed), len(packed) + 1)

    for cut in cuts:
        try:
            batches = read(packed[:cut], tmp_path)
        except BadFile:
            continue
        assert rejected(batches), f"cut at {cut} of {len(packed)}: {ids(batches)}"


def test_the_last_line_that_is_cut_off_is_named(tmp_path: Path) -> None:
    batches = read(FORMS["ndjson"](ROWS)[:-20], tmp_path)

    assert [complaint.partition(":")[0] for complaint in rejected(batches)] == ["line 8"]
    assert len(ids(batches)) == 7


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"id":"a","values":[1,2,3]}, ', "cut off"),
        (b'[{"id":"a","values":[1,2,3]} {"id":"b"}]', "record 2: expected a comma"),
        (b'[{"id":"a","values":[1,2,3]}] x', "there is text after the end of the array"),
        (b'{"vectors":[{"id":"a","values":[1,2,3]}],"n":1}', "unknown member 'n' beside"),
        (b'{"n":1,"vectors":[{"id":"a","values":[1,2,3]}]}', "unknown member 'n' beside"),
        (b'{"vectors":[{"id":"a","values":[1,2,3]}]', "the object is not closed"),
        (b"id,values\na,\"[1,2,3]\nb,4\n", "the file is cut off, or a quote is not closed"),
        (b"id,id,values\n", "two columns have the name 'id'"),
        (b"hello world\n", "this is text, and has no vectors"),
        (b"%PDF-1.4", "a PDF document"),
        (b"SQLite format 3\0", "a SQLite database"),
        (b"\x80\x04\x95\x00", "a pickle"),
        (b"\0\1\2\3", "in no form that import reads"),
        (b"PK\x03\x04" + b"x" * 40, "no .npz"),
        (b"PAR1" + b"x" * 40, "no parquet"),
        (b"ARROW1\0\0" + b"x" * 40, "no arrow"),
        (b"\xff\xff\xff\xff" + b"x" * 40, "no arrow-stream"),
        (b"\x93NUMPY\x01\x00\x10\x00garbage", "the head of the array cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(BadFile) as refused:
        read(content, tmp_path)

    assert reason in str(refused.value)


def test_lines_of_csv_with_other_numbers_of_cells_and_bytes_are_named(tmp_path: Path) -> None:
    content = b'id,values\na,"[1,2,3]"\nb\nc,"[1,2,3]",x\n\xff,"[1,2,3]"\nd,"[1,x,3]"\n'

    batches = read(content, tmp_path, rows_max=100)

    assert ids(batches) == ["a"]
    first, second, third, fourth = rejected(batches)
    assert first == "line 3: the line has 1 cells, and the head 2 columns"
    assert second.startswith("line 4: the line has 3 cells")
    assert third.startswith("line 5: id: not UTF-8")
    assert fourth == "line 6: id 'd', values[1]: 'x' is no number"


def test_arrays_of_objects_are_not_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(BadFile, match="Python objects"):
        read(file.getvalue(), tmp_path)


def test_an_array_with_bytes_after_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="goes on for 4 bytes after its array"):
        read(FORMS["npy"](ROWS) + b"abcd", tmp_path)


@pytest.mark.parametrize("form", ["parquet", "feather", "stream"])
def test_pyarrow_is_named_when_it_is_missing(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = FORMS[form](ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(BadFile, match=r"needs pyarrow: pip install 'vicinal\[files\]'"):
        read(content, tmp_path)


def test_zstd_needs_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = COMPRESSED["zstd"](FORMS["ndjson"](ROWS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert len(ids(read(content, tmp_path))) == len(ROWS)


def zstd_frames(*parts: bytes) -> bytes:
    """Every part as a frame of its own, and a skippable one between."""
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    return skippable.join(zstandard.ZstdCompressor().compress(part) for part in parts)


def test_frames_of_zstd_are_read_one_after_the_other(tmp_path: Path) -> None:
    first, second = FORMS["ndjson"](ROWS[:5]), FORMS["ndjson"](ROWS[5:])

    batches = read(zstd_frames(first, second), tmp_path)

    assert ids(batches) == [row["id"] for row in ROWS]


@pytest.mark.parametrize("kept", [1, 5, 20, -1])
def test_zstd_that_ends_in_its_second_frame_is_cut_off(tmp_path: Path, kept: int) -> None:
    first, second = zstd_frames(FORMS["ndjson"](ROWS)), zstd_frames(FORMS["ndjson"](ROWS))

    with pytest.raises(BadFile, match="its zstd data is cut off"):
        read(first + second[:kept], tmp_path)


def test_zstd_that_is_damaged_is_named(tmp_path: Path) -> None:
    content = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(b"x\n" * 100))
    content[-1] ^= 1

    with pytest.raises(BadFile, match="its zstd data is damaged"):
        read(bytes(content), tmp_path)


def test_zstd_that_unpacks_to_far_more_is_unpacked_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "big.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(bytes(128 << 20)))  # in 4 KB
    source = FileSource.open(path)

    tracemalloc.start()
    size = 0
    while part := source.pull(1 << 20):
        size += len(part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    source.close()

    assert size == 128 << 20
    assert peak < 48 << 20


@pytest.mark.parametrize("form", [form for form in FileForm if form is not FileForm.TEXT])
def test_an_empty_file_is_refused_or_has_no_rows_in_every_form(
    tmp_path: Path, form: FileForm
) -> None:
    path = tmp_path / "empty"
    path.touch()
    source = FileSource.open(path)
    reader = build.reader_of(source, form, ColumnNames(), 3, bytes_max=1 << 20)

    if form in (FileForm.NDJSON, FileForm.JSON, FileForm.CSV):
        assert list(reader.batches(START, 10)) == []
    else:
        with pytest.raises(BadFile, match=r"cut off|cannot be read"):
            list(reader.batches(START, 10))
    source.close()


@pytest.mark.parametrize("form", [form for form in FORMS if form not in NUMBERED])
def test_a_null_of_metadata_is_left_out_and_the_rest_is_kept(tmp_path: Path, form: str) -> None:
    if form == "npz":
        pytest.skip("no array of numbers or texts holds a null")
    rows = [row | {"s": None} if row["id"] == "v2" else row for row in ROWS]

    batches = read(FORMS[form](rows), tmp_path)

    assert rejected(batches) == []
    kept = [document for document in documents(batches) if document.get("s") is None]
    assert [document["k"] for document in kept] == [2]


@pytest.mark.parametrize("form", [form for form in FORMS if form not in NUMBERED])
def test_what_is_not_kept_is_named(tmp_path: Path, form: str) -> None:
    rows = [{"id": row["id"], "values": row["values"], "k": 1, "s": "x"} for row in ROWS]
    content = FORMS[form](rows) if form not in LISTS else top_level(form, rows)

    named = read(content, tmp_path, ColumnNames(metadata=("k",)))
    ignored = read(content, tmp_path, ColumnNames(metadata=("k",), ignored=("s",)))
    kept = read(content, tmp_path, ColumnNames(metadata=("*",)))

    assert {batch.left_out for batch in named} == {("s",)}
    assert {batch.left_out for batch in ignored + kept} == {()}
    assert documents(named) == documents(ignored) == [{"k": 1}] * len(rows)


def top_level(form: str, rows: Rows) -> bytes:
    """Records with all members beside the id."""
    lines = [json.dumps(row).encode() for row in rows]
    joined = {"ndjson": b"\n".join(lines), "array": b"[" + b",".join(lines) + b"]"}
    return joined.get(form, b'{"vectors":[' + b",".join(lines) + b"]}")
