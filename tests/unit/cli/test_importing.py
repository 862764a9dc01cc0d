"""``vicinal import`` stores every good line once and in order, and names every bad one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Commands, Recorder, write_records
from vicinal.cli import importing
from vicinal.errors import Overloaded, Unavailable
from vicinal.model import Insert, Upsert

CHECKPOINT = ".docs.ndjson.docs.import"


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PATIENCE_S", 0.0)


@pytest.fixture
def docs(vicinal: Commands) -> Commands:
    vicinal.ok("index", "create", "docs", "--dimensions", "2", "--metric", "cosine")
    return vicinal


def records(count: int) -> list[dict[str, Any]]:
    return [{"id": f"v{number}", "values": [number, 1]} for number in range(count)]


def ids(engine: Recorder) -> list[list[str]]:
    """The ids of each batch that was logged."""
    return [list(each.batch.ids) for each in engine.appended if isinstance(each, Insert | Upsert)]


def test_every_line_is_stored_in_batches_in_the_order_of_the_file(
    docs: Commands, engine: Recorder
) -> None:
    file = write_records(Path("docs.ndjson"), records(7))

    summary = docs.ok("import", file, "docs", "--batch-size", "3", "--wait")

    assert ids(engine) == [["v0", "v1", "v2"], ["v3", "v4", "v5"], ["v6"]]
    assert all(isinstance(each, Upsert) for each in engine.appended)
    assert summary.startswith("7 vectors into docs in ")
    assert not Path(CHECKPOINT).exists()


def test_of_a_repeated_id_the_last_one_wins_even_across_batches(docs: Commands) -> None:
    file = write_records(
        Path("docs.ndjson"), [{"id": "a", "values": [number, 1]} for number in range(5)]
    )

    docs.ok("import", file, "docs", "--batch-size", "2", "--wait")

    (vector,) = json.loads(docs.ok("query", "docs", "--id", "a", "--values", "--json"))["matches"]
    assert vector["values"] == [4, 1]


def test_insert_keeps_what_is_there(docs: Commands, engine: Recorder) -> None:
    docs.ok("import", "-", "docs", stdin='{"id":"a","values":[1,2]}')
    docs.ok("import", "-", "docs", "--insert", stdin='{"id":"a","values":[3,4]}')

    (vector,) = json.loads(docs.ok("query", "docs", "--id", "a", "--values", "--json"))["matches"]
    assert vector["values"] == [1, 2]


@pytest.mark.parametrize("text", ["", "\n", " \n\r\n\n"])
def test_a_file_without_vectors_is_not_an_error(docs: Commands, text: str) -> None:
    Path("docs.ndjson").write_text(text)

    assert docs.ok("import", "docs.ndjson", "docs", "--wait").startswith("0 vectors into docs")


def test_blank_lines_crlf_a_byte_order_mark_and_a_missing_last_newline_are_fine(
    docs: Commands, engine: Recorder
) -> None:
    Path("docs.ndjson").write_bytes(
        b'\xef\xbb\xbf{"id":"a","values":[1,2]}\r\n\r\n\n{"id":"b","values":[1,2]}'
    )

    docs.ok("import", "docs.ndjson", "docs")

    assert ids(engine) == [["a", "b"]]


def test_an_interrupted_import_continues_after_the_last_acknowledged_batch(
    docs: Commands, engine: Recorder
) -> None:
    file = write_records(Path("docs.ndjson"), records(10))
    engine.fail_at(2, Unavailable("the disk is full"))

    assert "the disk is full" in docs.fails("import", file, "docs", "--batch-size", "3")
    assert ids(engine) == [["v0", "v1", "v2"], ["v3", "v4", "v5"]]
    assert Path(CHECKPOINT).exists()

    result = docs.run("import", file, "docs", "--batch-size", "3")

    assert "continuing after line 6" in result.stderr
    assert result.stdout.startswith("10 vectors into docs")
    assert ids(engine)[2:] == [["v6", "v7", "v8"], ["v9"]]
    assert not Path(CHECKPOINT).exists()


def interrupted(docs: Commands, engine: Recorder) -> Path:
    """Return a file of four records, of which the first two have been imported."""
    file = write_records(Path("docs.ndjson"), records(4))
    engine.appended.clear()
    engine.fail_at(1, Unavailable("stop"))
    docs.fails("import", file, "docs", "--batch-size", "2")
    assert ids(engine) == [["v0", "v1"]]
    engine.appended.clear()
    return file


def test_a_changed_file_is_imported_from_its_first_line(docs: Commands, engine: Recorder) -> None:
    file = interrupted(docs, engine)
    write_records(file, records(5))

    result = docs.run("import", file, "docs")

    assert "has changed" in result.stderr
    assert ids(engine) == [["v0", "v1", "v2", "v3", "v4"]]


def test_a_new_index_of_the_same_name_gets_the_whole_file(docs: Commands, engine: Recorder) -> None:
    file = interrupted(docs, engine)
    docs.ok("index", "delete", "docs", "-y")
    docs.ok("index", "create", "docs", "--dimensions", "2", "--metric", "cosine")

    docs.ok("import", file, "docs")

    assert ids(engine) == [["v0", "v1", "v2", "v3"]]


def test_a_resume_point_that_cannot_be_read_and_restart_begin_at_the_first_line(
    docs: Commands, engine: Recorder
) -> None:
    file = interrupted(docs, engine)
    docs.ok("import", file, "docs", "--restart")
    assert ids(engine) == [["v0", "v1", "v2", "v3"]]

    file = interrupted(docs, engine)
    Path(CHECKPOINT).write_text("{")
    docs.ok("import", file, "docs")

    assert ids(engine) == [["v0", "v1", "v2", "v3"]]


def test_overload_is_waited_out(
    docs: Commands, engine: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "PATIENCE_S", 60.0)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    file = write_records(Path("docs.ndjson"), records(4))
    engine.fail_at(1, Overloaded("full", retry_after=2.0))

    docs.ok("import", file, "docs", "--batch-size", "2")

    assert ids(engine) == [["v0", "v1"], ["v2", "v3"]]
    assert pauses == [2.0]


BAD_LINES = [
    ("not json", "not JSON"),
    ('{"id":"a","values":[1]}', "expected 2 dimensions, and got 1"),
    ('{"id":"a","values":[1,null]}', r"values[1]"),
    ('{"id":"a","values":[1,2],"metadata":{"$k":1}}', "must not start with"),
    ('{"id":"' + "a" * 65 + '","values":[1,2]}', "max is 64 bytes, got 65"),
    ("\udcff", "not UTF-8"),
]


@pytest.mark.parametrize(("line", "rule"), BAD_LINES)
def test_a_bad_line_is_named_with_its_number_in_the_file(
    docs: Commands, engine: Recorder, line: str, rule: str
) -> None:
    lines = [json.dumps(each) for each in records(6)]
    lines[4] = line
    lines.insert(1, "")
    Path("docs.ndjson").write_bytes("\n".join(lines).encode(errors="surrogateescape"))

    complaint = docs.fails("import", "docs.ndjson", "docs", "--batch-size", "3")

    assert "docs.ndjson, line 6: " in complaint
    assert "(line 6" in complaint
    assert rule in complaint
    assert ids(engine) == [["v0", "v1", "v2"]]


def test_bad_lines_are_left_out_on_request_and_each_is_named(
    docs: Commands, engine: Recorder
) -> None:
    lines = [json.dumps(each) for each in records(7)]
    lines[1], lines[2], lines[3] = "x", '{"id":1}', "y"
    Path("docs.ndjson").write_text("\n".join(lines))

    result = docs.run("import", "docs.ndjson", "docs", "--skip-bad", "--batch-size", "2")

    assert result.exit_code == 0
    assert ids(engine) == [["v0"], ["v4", "v5"], ["v6"]]
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        f"docs.ndjson, line {number}" for number in (2, 3, 4)
    ]
    assert result.stdout.startswith("4 vectors into docs")


def test_a_batch_that_the_server_refuses_for_another_reason_is_named_by_its_lines(
    docs: Commands,
) -> None:
    file = write_records(Path("docs.ndjson"), records(5_002))

    complaint = docs.fails("import", file, "docs", "--batch-size", "5001")

    assert "docs.ndjson, lines 1 to 5001: too many vectors" in complaint


def test_a_line_longer_than_a_batch_may_be_is_refused(
    docs: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_BYTES_MAX", 100)
    lines = ['{"id":"a","values":[1,2]}', '{"id":"' + "b" * 100 + '","values":[1,2]}']
    Path("docs.ndjson").write_text("\n".join(lines))

    assert "line 2 is longer than 100 bytes" in docs.fails("import", "docs.ndjson", "docs")


def test_batches_stay_below_their_bytes(
    docs: Commands, engine: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_records(Path("docs.ndjson"), records(5))
    monkeypatch.setattr(importing, "BATCH_BYTES_MAX", 2 * len('{"id": "v0", "values": [0, 1]}\n'))

    docs.ok("import", file, "docs")

    assert ids(engine) == [["v0", "v1"], ["v2", "v3"], ["v4"]]


def test_standard_input_leaves_no_resume_point(docs: Commands, engine: Recorder) -> None:
    engine.fail_at(1, Unavailable("stop"))
    lines = "\n".join(json.dumps(each) for each in records(4))
    before = set(Path().iterdir())

    assert "stop" in docs.fails("import", "-", "docs", "--batch-size", "2", stdin=lines)
    assert set(Path().iterdir()) == before


def test_a_missing_file_and_a_missing_index_are_one_sentence(docs: Commands) -> None:
    assert "absent.ndjson" in docs.fails("import", "absent.ndjson", "docs")
    Path("docs.ndjson").touch()
    assert "[code: 3000]" in docs.fails("import", "docs.ndjson", "absent")


def test_a_terminal_is_shown_how_far_it_is(docs: Commands) -> None:
    file = write_records(Path("docs.ndjson"), records(3))
    docs.extra.update(TTY_COMPATIBLE="1", TTY_INTERACTIVE="1", COLUMNS="100")

    result = docs.run("import", file, "docs")

    assert "into docs" in result.stderr
    assert "3 vectors" in result.stderr
    assert result.stdout.count("\n") == 1


def test_nothing_but_the_summary_is_printed_when_it_is_no_terminal(docs: Commands) -> None:
    file = write_records(Path("docs.ndjson"), records(3))

    result = docs.run("import", file, "docs")

    assert result.stderr == ""
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", ["array", "object", "string"])
def test_a_document_of_json_is_refused_rather_than_counted_by_its_lines(
    docs: Commands, form: str, indent: int | None
) -> None:
    vectors = [{"id": name, "values": [1, 0]} for name in "abc"]
    document: object = {"array": vectors, "object": {"vectors": vectors}}.get(form, "[]")
    Path("in.json").write_text("\n\n" + json.dumps(document, indent=indent))

    error = docs.fails("import", "in.json", "docs")

    assert "line 3 begins a document of JSON, and import reads NDJSON" in error
    assert json.loads(docs.ok("index", "info", "docs", "--json"))["vectorCount"] == 0


def test_a_vector_whose_metadata_speaks_of_vectors_is_a_line(docs: Commands) -> None:
    line = json.dumps({"id": "a", "values": [1, 0], "metadata": {"vectors": [1]}})

    assert docs.ok("import", "-", "docs", stdin=line).startswith("1 vectors")
