"""CSV as programs and people write it: heads that are recognised, rows that break a rule."""

import json
from pathlib import Path

import pytest

from tests.unit.readers.test_bad_files import rejected
from tests.unit.readers.test_forms import documents, ids, read
from vicinal.errors import BadFile
from vicinal.readers.base import ColumnNames
from vicinal.readers.columnar import ROW_NUMBER

MANY = [f"e{number}" for number in range(3)]


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("e0,e1,e2", ColumnNames(ROW_NUMBER, "e*")),
        ("e0;e1;e2;title", ColumnNames(ROW_NUMBER, "e*", ignored=("title",))),
        ("vector", ColumnNames(ROW_NUMBER)),
        ("title,embedding", ColumnNames(ROW_NUMBER)),
        ("\r\n\r\nid,vector", ColumnNames()),
        ("\ufeffid,vector", ColumnNames()),
        ("id,vector,", ColumnNames()),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_head_is_recognised(tmp_path: Path, head: str, names: ColumnNames, end: str) -> None:
    cells = {"id": "a", "vector": "1 2 3", "embedding": "1 2 3", "title": "t", "": ""}
    separator = ";" if ";" in head else ","
    columns = head.strip("\ufeff\r\n").split(separator)
    row = separator.join(cells.get(name, "1") for name in columns)

    batches = read(f"{head}{end}{row}{end}{row}{end}".encode(), tmp_path, names)

    assert rejected(batches) == []
    assert ids(batches) in (["0", "1"], ["a", "a"])


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("place", [0, 4_000])
def test_a_head_longer_than_what_is_looked_at_is_recognised(
    tmp_path: Path, quote: str, place: int
) -> None:
    names = [f"dimension_number_{number}" for number in range(4_000)]
    names.insert(place, "id")
    head = ",".join(f"{quote}{name}{quote}" for name in names)
    cells = ["1"] * 4_000
    cells.insert(place, "a")

    batches = read(
        f"{head}\n{','.join(cells)}\n".encode(), tmp_path, ColumnNames(vector="dimension_*"),
        dimensions=4_000,
    )  # fmt: skip

    assert ids(batches) == ["a"]


@pytest.mark.parametrize(
    "text", ["vectors, embeddings and more\n\nProse.", "id\n", "a, b\n", "# id, vector\n"]
)
def test_prose_is_no_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadFile):
        read(text.encode(), tmp_path)
    with pytest.raises(BadFile, match="this is text"):
        read(text.encode(), tmp_path, ColumnNames(text="text"))


def test_a_table_without_ids_is_asked_for_them(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as refused:
        read(b"title,embedding\nt,1 2 3\n", tmp_path)

    assert "it has no column 'id'; --id names another of: 'title', 'embedding', or @row" in str(
        refused.value
    )


QUOTED = (
    'id,values,note\n'
    'a,"[1,2,3]","one\nand ""two"""\n'
    'b,"[1,2,3]"x,bad\n'
    'c,"[1,2,3]",fine\n'
    'd,"[1,2,3]","never\nclosed "here\n'
    'e,"[1,2,3]",\n'
)  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_too_many_is_one_bad_row_and_its_lines_are_kept(tmp_path: Path, end: str) -> None:
    batches = read(QUOTED.replace("\n", end).encode(), tmp_path)

    assert ids(batches) == ["a", "c", "e"]
    assert documents(batches)[0] == {"note": f'one{end}and "two"'}
    rows = [row for batch in batches for row in batch.rejected]
    assert [row.location for row in rows] == ["line 4", "line 6"]
    assert all("a quote too many, or one that is not doubled: " in row.rule for row in rows)
    assert [json.loads(row.record) for row in rows] == [
        'b,"[1,2,3]"x,bad', f'd,"[1,2,3]","never{end}closed "here',
    ]  # fmt: skip


def test_reading_goes_on_behind_a_bad_row(tmp_path: Path) -> None:
    whole = read(QUOTED.encode(), tmp_path, rows_max=1)

    for done in range(1, len(whole) + 1):
        rest = read(QUOTED.encode(), tmp_path, start=whole[done - 1].end, rows_max=1)
        assert [batch.rejected for batch in rest] == [batch.rejected for batch in whole[done:]]
        assert ids(rest) == ids(whole[done:])


@pytest.mark.parametrize("number", ["1_0", "0x10", "1,5", "", "--1"])
def test_what_is_no_number_is_named(tmp_path: Path, number: str) -> None:
    text = f"id;e0;e1;e2\na;1;{number};3\n"

    (complaint,) = rejected(read(text.encode(), tmp_path, ColumnNames(vector="e*")))

    assert complaint == f"line 2: e1: {number!r} is no number"


def test_the_index_that_pandas_writes_is_metadata_that_can_be_ignored(tmp_path: Path) -> None:
    text = b",id,values\n0,a,1 2 3\n1,b,4 5 6\n"

    batches = read(text, tmp_path)
    assert ids(batches) == ["a", "b"] or "must not be empty" in rejected(batches)[0]
    assert ids(read(text, tmp_path, ColumnNames(ignored=("",)))) == ["a", "b"]
