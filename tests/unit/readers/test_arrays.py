"""Arrays of NumPy: heads that cannot be, types of every kind, archives that are damaged."""

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.readers.test_forms import documents, ids, read
from vicinal.errors import BadFile
from vicinal.readers.base import ColumnNames

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_head(head: str | bytes, version: tuple[int, int] = (1, 0), content: bytes = b"") -> bytes:
    """An array whose head is this text."""
    text = head.encode() if isinstance(head, str) else head
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + content


def head(shape: str, descr: str = "'<f4'", *, by_column: bool = False) -> str:
    return f"{{'descr': {descr}, 'fortran_order': {by_column}, 'shape': {shape}, }}\n"


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("compress", [lambda content: content, gzip.compress])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (saved(np.float32(3)), "the array has 0 dimensions; vectors are a matrix"),
        (saved(np.ones(3)), "the array has 1 dimensions; vectors are a matrix"),
        (saved(np.ones((2, 2, 3))), "the array has 3 dimensions"),
        (saved(np.ones((2, 3), bool)), "is of bool, and values are numbers"),
        (saved(np.ones((2, 3), complex)), "is of complex128, and values are numbers"),
        (saved(np.full((2, 3), "1")), "is of <U1, and values are numbers"),
        (with_head(head("(-1, 3)")), "the shape (-1, 3)"),
        (with_head(head("(4, -3)")), "the shape (4, -3)"),
        (with_head(head(f"({10**30}, 3)")), "cut off in row 1"),
        (with_head(head(f"(3, {10**30})")), "expected 3 dimensions, and got 1000"),
        (with_head(head(f"({10**30}, 3)", by_column=True)), "cut off in row 1"),
        (with_head(head("(2, 3)"), (9, 0)), "version 9.0"),
        (with_head(head("(1,)", f"[('id', '<U8'), ('s', '<U{1 << 28}'), ('values', '<f4', (3,))]")),
         "a row of 1,073,741,8"),
    ],
)  # fmt: skip
def test_an_array_that_cannot_be_is_refused(
    tmp_path: Path, content: bytes, reason: str, compress: Any
) -> None:
    with pytest.raises(BadFile) as refused:
        read(compress(content), tmp_path)

    assert reason in str(refused.value)


def test_a_head_of_many_megabytes_is_not_read_whole(tmp_path: Path) -> None:
    head_bytes = 1 << 26
    packed = gzip.compress(with_head(b" " * head_bytes, (2, 0)), 1)

    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="a head of 67,108,864 bytes"):
            read(packed, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < head_bytes // 4


@pytest.mark.parametrize("dtype", ["<f2", ">f4", ">f8", "<i1", ">i8", "<u2", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_of_every_type_of_numbers_are_read(tmp_path: Path, dtype: str, order: Any) -> None:
    batches = read(saved(np.asarray(VALUES, dtype, order=order)), tmp_path)

    assert np.array_equal(np.concatenate([batch.vectors.values for batch in batches]), VALUES)


def test_names_of_fields_are_those_that_were_saved(tmp_path: Path) -> None:
    table = np.array(
        [("a", [1, 2, 3], 5)], [("id", "<U3"), ("values", "<f4", (3,)), ("日本", "<i4")]
    )
    with pytest.warns(UserWarning, match="format"):
        content = saved(table)

    batches = read(content, tmp_path)

    assert documents(batches) == [{"日本": 5}]


@pytest.mark.parametrize(
    ("times", "texts"),
    [
        (["2020-01-02T03:04:05", "NaT"], ["2020-01-02T03:04:05", None]),
        (["2020-01-02T03:04:05.000000007", "NaT"], ["2020-01-02T03:04:05.000000007", None]),
    ],
)
def test_times_in_nanoseconds_are_times_and_no_numbers(
    tmp_path: Path, times: list[str], texts: list[str | None]
) -> None:
    content = archive(id=["a", "b"], values=VALUES[:2], at=np.array(times, "<M8[ns]"))

    assert documents(read(content, tmp_path)) == [
        None if text is None else {"at": text} for text in texts
    ]


def test_a_duration_is_no_number(tmp_path: Path) -> None:
    content = archive(id=["a", "b"], values=VALUES[:2], at=np.array([1, "NaT"], "m8[ns]"))

    (batch,) = read(content, tmp_path)

    assert [row.complaint for row in batch.rejected] == ["row 1: at: timedelta has no form in JSON"]


def test_an_array_of_objects_that_is_ignored_does_not_matter(tmp_path: Path) -> None:
    content = archive(id=["a", "b"], values=VALUES[:2], notes=np.array([{}, []], object))

    with pytest.raises(BadFile, match="notes holds Python objects"):
        read(content, tmp_path)
    assert ids(read(content, tmp_path, ColumnNames(ignored=("notes",)))) == ["a", "b"]


def test_an_archive_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    content = archive(id=["a", "b", "c", "d"], values=VALUES, year=np.arange(4))

    for at in range(0, len(content), 3):
        changed = bytearray(content)
        changed[at] ^= 0xFF
        try:
            read(bytes(changed), tmp_path)
        except BadFile:
            continue


def test_an_archive_with_a_password_is_refused(tmp_path: Path) -> None:
    content = bytearray(archive(id=["a"], values=VALUES[:1]))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + place] |= 1
            at = content.find(signature, at + 4)

    with pytest.raises(BadFile, match="encrypted"):
        read(bytes(content), tmp_path)


def test_the_members_of_an_archive_may_be_packed_in_any_usual_way(tmp_path: Path) -> None:
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", packing) as packed:
            packed.writestr("values.npy", saved(VALUES))

        batches = read(file.getvalue(), tmp_path)

        assert ids(batches) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("kind", ["U3", "?", "c8", "M8[s]"])
def test_a_field_of_other_things_than_numbers_is_no_vector(tmp_path: Path, kind: str) -> None:
    table = np.zeros(2, [("id", "U3"), ("values", kind, (3,))])
    table["id"] = ["a", "b"]

    (batch,) = read(saved(table), tmp_path)

    assert [row.rule for row in batch.rejected] == [
        "values: expected an array of numbers, got an array"
    ] * 2


def test_a_field_of_matrices_is_no_vector(tmp_path: Path) -> None:
    table = np.zeros(2, [("id", "U3"), ("values", "f4", (3, 2))])
    table["id"] = ["a", "b"]

    (batch,) = read(saved(table), tmp_path)

    assert len(batch.rejected) == 2


def test_a_record_that_is_rejected_is_whole_though_a_number_has_no_form_in_json(
    tmp_path: Path,
) -> None:
    line = b'{"id":"","values":[1,2,3],"metadata":{"n":12345678901234567890123,"f":1.10}}'

    (batch,) = read(line + b"\n", tmp_path)

    (row,) = batch.rejected
    assert json.loads(row.record) == json.loads(line)
    assert b"1.10" in row.record
