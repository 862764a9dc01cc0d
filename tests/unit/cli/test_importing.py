"""``vicinal import`` stores every good line once and in order, and names every bad one."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.commands import Commands, Recorder, write_records
from tests.support.files import FORMS, NUMBERED
from tests.support.waiting import wait_until
from vicinal.cli import importing, resume
from vicinal.cli.client import ApiResponse, Client
from vicinal.errors import Overloaded, Unavailable
from vicinal.model import Delete, Insert, Upsert
from vicinal.readers.ndjson import NdjsonReader

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


@pytest.mark.parametrize(
    "arguments", [["docs", "docs.ndjson"], ["docs.ndjson", "./docs.ndjson"], ["docs", "."]]
)
def test_a_file_in_place_of_the_index_is_said_to_be_one(
    docs: Commands, engine: Recorder, arguments: list[str]
) -> None:
    write_records(Path("docs.ndjson"), records(1))

    message = docs.fails("import", *arguments)

    assert (
        f"{arguments[-1]} is a file or folder, not an index: every FILE comes before INDEX"
        in message
    )
    assert ids(engine) == []


def test_an_index_whose_name_no_file_can_have_is_not_there(docs: Commands) -> None:
    file = write_records(Path("docs.ndjson"), records(1))

    assert "vectorize.index.not_found" in docs.fails("import", file, "a." * 200)


def test_an_index_may_be_named_as_a_file_is(docs: Commands, engine: Recorder) -> None:
    file = write_records(Path("docs"), records(1))

    docs.ok("import", file, "docs")

    assert ids(engine) == [["v0"]]


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
    assert rule in complaint
    assert ids(engine) == [["v0", "v1", "v2"]]


def test_bad_lines_are_left_out_on_request_and_each_is_named(
    docs: Commands, engine: Recorder
) -> None:
    lines = [json.dumps(each) for each in records(7)]
    lines[1], lines[2], lines[3] = "x", '{"id":1}', "y"
    Path("docs.ndjson").write_text("\n".join(lines))

    result = docs.run("import", "docs.ndjson", "docs", "--skip-bad", "--batch-size", "2")

    assert result.exit_code == 1
    assert ids(engine) == [["v0"], ["v4", "v5"], ["v6"]]
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        f"docs.ndjson, line {number}" for number in (2, 3, 4)
    ]
    assert result.stdout.startswith("4 vectors into docs")
    assert result.stdout.endswith("; 3 rows left out\n")


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
@pytest.mark.parametrize("form", ["array", "object", "records"])
def test_a_document_of_json_is_counted_by_its_vectors(
    docs: Commands, engine: Recorder, form: str, indent: int | None
) -> None:
    vectors = [{"id": name, "values": [1, 0]} for name in "abc"]
    documents: dict[str, list[object]] = {
        "array": [vectors],
        "object": [{"vectors": vectors}],
        "records": list(vectors),
    }
    text = "\n".join(json.dumps(document, indent=indent) for document in documents[form])
    Path("in.json").write_text("\n\n" + text)

    assert docs.ok("import", "in.json", "docs").startswith("3 vectors into docs")
    assert ids(engine) == [["a", "b", "c"]]


def test_a_string_of_json_is_refused(docs: Commands, engine: Recorder) -> None:
    Path("in.json").write_text(json.dumps('{"id":"a","values":[1,0]}'))

    assert "this is one string of JSON" in docs.fails("import", "in.json", "docs")
    assert ids(engine) == []


def test_a_vector_whose_metadata_speaks_of_vectors_is_a_line(docs: Commands) -> None:
    line = json.dumps({"id": "a", "values": [1, 0], "metadata": {"vectors": [1]}})

    assert docs.ok("import", "-", "docs", stdin=line).startswith("1 vectors")


REJECTED = ("x", '{"id":1}', '{"id":"b","values":[1,1],"payload":{"x":1}}')


def with_rejected(file: str = "docs.ndjson") -> str:
    lines = [json.dumps(each) for each in records(3)]
    Path(file).write_text("\n".join([lines[0], *REJECTED, *lines[1:]]))
    return file


def test_rows_that_are_left_out_are_in_the_file_of_rejects(
    docs: Commands, engine: Recorder
) -> None:
    result = docs.run("import", with_rejected(), "docs", "--skip-bad", "--rejects", "bad.ndjson")

    assert result.exit_code == 1
    assert result.stdout.endswith("; 3 rows left out\n")
    rejects = [json.loads(line) for line in Path("bad.ndjson").read_text().splitlines()]
    assert [each["place"] for each in rejects] == ["line 2", "line 3", "line 4"]
    assert {each["file"] for each in rejects} == {"docs.ndjson"}
    assert rejects[0]["record"] == "x"
    assert rejects[2]["record"] == {"id": "b", "values": [1, 1], "payload": {"x": 1}} or (
        rejects[2]["id"] == "b"
    )
    assert "unknown member 'payload'" in rejects[2]["rule"]
    assert ids(engine) == [["v0", "v1", "v2"]]


def test_rows_that_may_be_left_out_end_in_success(docs: Commands) -> None:
    docs.ok("import", with_rejected(), "docs", "--skip-bad", "--allow-rejects")


def test_no_more_than_twenty_bad_rows_are_named(docs: Commands) -> None:
    Path("docs.ndjson").write_text("{}\n" * 1_000)

    result = docs.run("import", "docs.ndjson", "docs", "--skip-bad")

    assert len(result.stderr.splitlines()) == 21
    assert result.stdout.endswith("; 1,000 rows left out\n")


def test_an_unknown_member_is_refused_named_or_ignored(docs: Commands, engine: Recorder) -> None:
    line = '{"id":"a","values":[1,0],"payload":{"x":1},"title":"t"}'

    refused = docs.fails("import", "-", "docs", stdin=line)
    assert "stdin, line 1: id 'a', unknown member 'payload'" in refused
    docs.ok("import", "-", "docs", "--metadata", "payload", "--ignore", "title", stdin=line)
    docs.ok("import", "-", "docs", "--metadata", "*", stdin=line)

    stored = [
        list(each.batch.metadata) for each in engine.appended if isinstance(each, Insert | Upsert)
    ]
    assert stored == [[b'{"payload":{"x":1}}'], [b'{"payload":{"x":1},"title":"t"}']]


def test_members_that_metadata_does_not_name_are_named_once(docs: Commands) -> None:
    lines = [json.dumps(each | {"k": 1, "title": "t", "year": 2}) for each in records(5)]
    Path("docs.ndjson").write_text("\n".join(lines))
    table = "id,values,k,title\n" + "".join(f'v{n},"[1,0]",1,t\n' for n in range(5))
    Path("docs.csv").write_text(table)
    batches = ("docs", "--metadata", "k", "--batch-size", "2")

    of_lines = docs.run("import", "docs.ndjson", *batches).stderr
    of_table = docs.run("import", "docs.csv", *batches).stderr

    assert of_lines.count("--metadata does not name it: title, year; `--ignore title,year`") == 1
    assert of_table.count("docs.csv: not kept, as --metadata does not name it: title; `") == 1
    assert docs.run("import", "docs.csv", *batches, "--ignore", "title").stderr == ""


def test_wait_waits_for_what_is_written_before_rows_that_are_left_out(
    docs: Commands, engine: Recorder
) -> None:
    lines = [json.dumps(each) for each in records(2)] + ["x", "y"]
    Path("docs.ndjson").write_text("\n".join(lines))

    docs.run("import", "docs.ndjson", "docs", "--skip-bad", "--wait", "--batch-size", "2")

    assert [type(each) for each in engine.appended] == [Upsert, Delete]


def test_several_files_are_imported_in_their_order_and_continued_in_the_right_one(
    docs: Commands, engine: Recorder
) -> None:
    first = write_records(Path("a.ndjson"), records(3))
    second = write_records(
        Path("b.ndjson"), [{"id": f"w{number}", "values": [1, 0]} for number in range(3)]
    )
    engine.fail_at(3, Unavailable("stop"))
    docs.fails("import", first, second, "docs", "--batch-size", "2")

    result = docs.run("import", first, second, "docs", "--batch-size", "2")

    assert "continuing after line 2" in result.stderr
    assert result.stdout.startswith("6 vectors into docs")
    assert ids(engine) == [["v0", "v1"], ["v2"], ["w0", "w1"], ["w2"]]


def test_other_columns_are_another_job(docs: Commands, engine: Recorder) -> None:
    file = interrupted(docs, engine)

    result = docs.run("import", file, "docs", "--ignore", "x")

    assert "beginning again" in result.stderr
    assert ids(engine) == [["v0", "v1", "v2", "v3"]]


def test_ids_that_come_again_are_said(docs: Commands) -> None:
    file = write_records(Path("docs.ndjson"), [{"id": name, "values": [1, 0]} for name in "abcab"])

    result = docs.run("import", file, "docs", "--batch-size", "2")

    assert "docs.ndjson, line 4: id 'a' has come before" in result.stderr
    assert result.stdout.endswith("; 2 of the ids had come before\n")


@pytest.mark.parametrize("growth", [b'{"id":"z","values":[1,0]}\n', b""])
def test_a_file_that_is_written_to_meanwhile_is_noticed(
    docs: Commands, engine: Recorder, growth: bytes
) -> None:
    file = write_records(Path("docs.ndjson"), records(4))

    before, append = file.read_bytes(), engine.append

    def grown(*arguments: Any, **others: Any) -> Any:
        file.write_bytes(before + growth if growth else before[:-9])
        return append(*arguments, **others)

    engine.append = grown  # type: ignore[method-assign]

    complaint = docs.fails("import", file, "docs", "--batch-size", "2")

    verb = "grown" if growth else "shrunk"
    assert f"docs.ndjson: it has {verb} from {len(before)}" in complaint


def test_of_a_repeated_id_the_last_one_wins_and_is_said_whatever_the_form(docs: Commands) -> None:
    for form in FORMS:
        if form in NUMBERED:
            continue
        names = [f"{form}-{letter}" for letter in "abcab"]
        rows = [{"id": name, "values": [row + 1.0, 1.0]} for row, name in enumerate(names)]
        Path(form).write_bytes(FORMS[form](rows))

        result = docs.run("import", form, "docs", "--batch-size", "2", "--wait")

        assert f"id '{form}-a' has come before" in result.stderr
        assert result.stdout.endswith("; 2 of the ids had come before\n"), form
        answer = docs.ok("query", "docs", "--id", f"{form}-a", "--values", "--json")
        found = {each["id"]: each["values"] for each in json.loads(answer)["matches"]}
        assert found[f"{form}-a"] == [4, 1]
        docs.ok("vector", "delete", "docs", "--all", "-y")


@pytest.mark.parametrize("change", [1, -9])
def test_a_file_of_any_form_that_is_written_to_meanwhile_is_noticed(
    docs: Commands, engine: Recorder, change: int
) -> None:
    append = engine.append
    for form in FORMS:
        path = Path(form)
        path.write_bytes(FORMS[form](records(4)))
        size = path.stat().st_size
        engine.append = _changing(path, size + change, append)  # type: ignore[method-assign]

        complaint = docs.fails("import", form, "docs", "--batch-size", "2")

        verb = "grown" if change > 0 else "shrunk"
        assert f"{form}: it has {verb} from {size:,} to {size + change:,} bytes" in complaint, form


def _changing(path: Path, size: int, append: Any) -> Any:
    """Return an `append` that first gives a file another length, without a moment in between."""

    def changed(*arguments: Any, **others: Any) -> Any:
        os.truncate(path, size)
        return append(*arguments, **others)

    return changed


def test_an_import_that_is_interrupted_says_how_to_go_on(
    docs: Commands, engine: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_records(Path("docs.ndjson"), records(6))
    batches = NdjsonReader.batches

    def interrupted_batches(*arguments: Any) -> Any:
        for number, batch in enumerate(batches(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(NdjsonReader, "batches", interrupted_batches)
        complaint = docs.fails("import", file, "docs", "--batch-size", "2")

    assert "interrupted. 4 vectors are written; the same command goes on from there" in complaint
    assert "continuing after line 4" in docs.run("import", file, "docs").stderr
    assert ids(engine) == [["v0", "v1"], ["v2", "v3"], ["v4", "v5"]]


def test_an_import_that_is_killed_goes_on_after_what_was_acknowledged(
    docs: Commands, engine: Recorder
) -> None:
    file = write_records(Path("docs.ndjson"), records(6)).absolute()
    reached, released = threading.Event(), threading.Event()
    append = engine.append

    def held(address: Any, mutation: Any, **others: Any) -> Any:
        if len(engine.appended) == 2:
            reached.set()
            assert released.wait(60)
        return append(address, mutation, **others)

    engine.append = held  # type: ignore[method-assign]
    process = subprocess.Popen(
        [sys.executable, "-m", "vicinal", "import", str(file), "docs", "--batch-size", "2"],
        env=os.environ
        | {
            "VICINAL_URL": docs.server.origin,
            "VICINAL_TOKEN": docs.server.token,
            "VICINAL_ACCOUNT": docs.server.account,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert reached.wait(60)
    points = Path(f".{file.name}.docs.import")
    # The batch that is held back is written behind the second, which has been acknowledged.
    wait_until(lambda: (point := resume.load(points)) is not None and point.items == 4)
    process.kill()
    process.wait()
    released.set()
    engine.append = append  # type: ignore[method-assign]

    result = docs.run("import", file, "docs")

    assert "continuing after line 4" in result.stderr
    assert result.stdout.startswith("6 vectors into docs")
    assert {name for batch in ids(engine) for name in batch} == {f"v{n}" for n in range(6)}


def test_a_server_without_columns_gets_lines(
    docs: Commands, engine: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Client, path: str, batch: object, *, wait_s: float = 0.0) -> ApiResponse:
        return self.post(path.replace("/columns/", "/nothing/here/"), {})

    monkeypatch.setattr(Client, "write_columns", refuse)
    rows = [
        {"id": f"v{n}", "values": [n / 7, 1], "namespace": "n", "metadata": {"k": n}}
        for n in range(3)
    ]

    docs.ok("import", write_records(Path("docs.ndjson"), rows), "docs", "--batch-size", "2")

    assert ids(engine) == [["v0", "v1"], ["v2"]]
    (batch, _) = (each.batch for each in engine.appended if isinstance(each, Upsert))
    assert batch.values[1][0] == np.float32(1 / 7)
    assert (batch.namespaces[1], batch.metadata[1]) == ("n", b'{"k":1}')
