"""``vicinal import`` of what is not a plain file, and what it never writes over."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Commands, Recorder
from tests.support.files import FORMS
from tests.unit.cli.test_importing import ids, records
from tests.unit.cli.test_importing_texts import NOTES, stored
from vicinal.readers.base import Position, RowBatch
from vicinal.readers.ndjson import NdjsonReader

LINES = "".join(json.dumps(each) + "\n" for each in records(4))


@pytest.fixture
def docs(vicinal: Commands) -> Commands:
    vicinal.ok("index", "create", "docs", "--dimensions", "2", "--metric", "cosine")
    return vicinal


@contextmanager
def pipe(content: bytes) -> Iterator[Path]:
    """A pipe without a name, as a shell's ``<(...)`` gives one."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield Path(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        thread.join()


def test_what_another_program_writes_is_imported_once_and_whole(
    docs: Commands, engine: Recorder, tmp_path: Path
) -> None:
    with pipe(LINES.encode()) as path:
        summary = docs.ok("import", path, "docs", "--batch-size", "3")

    assert summary.startswith("4 vectors into docs")
    assert ids(engine) == [["v0", "v1", "v2"], ["v3"]]
    assert not list(tmp_path.glob(".*"))


def test_an_interruption_of_a_pipe_says_that_the_command_is_repeated(
    docs: Commands, engine: Recorder
) -> None:
    with pipe(LINES.encode() + b"x\n") as path:
        error = docs.fails("import", path, "docs", "--batch-size", "2")

    assert "line 5: " in error
    assert "4 vectors are written; repeat the command" in error
    assert ids(engine) == [["v0", "v1"], ["v2", "v3"]]


@pytest.mark.parametrize("form", ["csv", "npz", "parquet", "stream"])
def test_a_pipe_of_any_form_is_imported(docs: Commands, form: str) -> None:
    rows = [{"id": f"v{number}", "values": [number, 1.0]} for number in range(3)]
    with pipe(FORMS[form](rows)) as path:
        assert docs.ok("import", path, "docs").startswith("3 vectors")


@pytest.mark.parametrize("link", [False, True])
def test_rejected_rows_are_never_written_over_what_is_imported(
    docs: Commands, engine: Recorder, link: bool
) -> None:
    Path("in.ndjson").write_text(LINES + "x\n")
    rejects = Path("rejects.ndjson" if link else "./in.ndjson")
    if link:
        rejects.symlink_to("in.ndjson")

    error = docs.fails("import", "in.ndjson", "docs", "--skip-bad", "--rejects", rejects)

    assert "that file is imported; name another" in error
    assert Path("in.ndjson").read_text() == LINES + "x\n"
    assert ids(engine) == []


def test_the_rows_that_an_earlier_import_rejected_do_not_stay_in_the_file(docs: Commands) -> None:
    Path("in.ndjson").write_text(LINES + "x\n")
    options = ("docs", "--skip-bad", "--rejects", "bad.ndjson")
    docs.run("import", "in.ndjson", *options)
    assert len(Path("bad.ndjson").read_text().splitlines()) == 1
    Path("in.ndjson").write_text(LINES)

    docs.ok("import", "in.ndjson", *options)

    assert Path("bad.ndjson").read_text() == ""


def test_a_rejected_row_is_kept_as_it_was_written(docs: Commands) -> None:
    lines = [
        '{"id": "a", "values": [1.0], "metadata": {"n": 1.10, "big": 12345678901234567890123}}',
        '{"id": "b", "values": [1, 2, 3], "metadata": {"é": "\\u00e9\\ud83d\\ude00"}}',
        '{"id": "", "values": [1e400, 1]}',
    ]
    Path("in.ndjson").write_text("\n".join(lines))

    docs.run("import", "in.ndjson", "docs", "--skip-bad", "--rejects", "bad.ndjson")

    rejects = Path("bad.ndjson").read_text().splitlines()
    assert [line[line.index('"record":') + 9 : -1].replace(" ", "") for line in rejects] == [
        line.replace(" ", "") for line in lines
    ]


def test_a_link_to_nothing_is_named(docs: Commands, tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").symlink_to(tmp_path / "gone")

    assert "in.ndjson cannot be read: No such file" in docs.fails("import", "in.ndjson", "docs")


def test_a_folder_is_named(docs: Commands, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()

    assert "in is a folder" in docs.fails("import", "in", "docs")


def test_standard_output_that_nobody_reads_any_more_is_no_trace(docs: Commands) -> None:
    Path("in.ndjson").write_text(LINES)
    docs.ok("import", "in.ndjson", "docs", "--wait")
    script = "import sys; from vicinal.cli import main; main()"
    environment = os.environ | {
        "VICINAL_URL": docs.server.origin, "VICINAL_TOKEN": docs.server.token,
        "VICINAL_ACCOUNT": docs.server.account,
    }  # fmt: skip
    ended = subprocess.run(
        ["sh", "-c", f"{sys.executable} -c '{script}' export docs - | true"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "Traceback" not in ended.stderr


def test_a_text_by_standard_input_is_cut_and_its_path_is_said(vicinal: Commands) -> None:
    result = vicinal.run("import", "-", *NOTES, stdin="# One\n\nabc\n\n# Two\n\ndef\n")

    assert result.exit_code == 0, result.output
    assert "the chunks of stdin have it as their path" in result.stderr
    assert stored(vicinal) == ["stdin#0", "stdin#1"]


def test_records_by_standard_input_have_no_path(vicinal: Commands) -> None:
    lines = '{"id":"a","text":"abc"}\n{"id":"b","text":"def"}\n'

    assert vicinal.ok("import", "-", *NOTES, stdin=lines).startswith("2 vectors")
    assert stored(vicinal) == ["a", "b"]


def test_a_text_by_a_pipe_is_read_once(vicinal: Commands) -> None:
    with pipe(b"# One\n\nabc\n") as path:
        assert vicinal.ok("import", path, *NOTES).startswith("1 vectors")

    assert stored(vicinal) == [f"{path}#0"]


def test_a_folder_has_its_texts_read_and_what_cannot_be_is_named(vicinal: Commands) -> None:
    folder = Path("manual")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.md").write_text("abc\n")
    (folder / "deep" / "loop").symlink_to("..")
    (folder / "gone").symlink_to("nowhere")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "b.md").write_text("abc\n")
    os.mkfifo(folder / "pipe")

    result = vicinal.run("import", "manual", *NOTES)

    assert result.exit_code == 0, result.output
    assert "left out: 2 files in manual that are no text" in result.stderr
    assert stored(vicinal) == ["manual/deep/a.md#0"]


def test_a_folder_that_cannot_be_read_is_named(
    vicinal: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("manual/secret").mkdir(parents=True)
    Path("manual/a.md").write_text("abc\n")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)

    error = vicinal.fails("import", "manual", *NOTES)

    assert "manual/secret cannot be read: Permission denied" in error


def test_a_folder_without_texts_is_said(vicinal: Commands) -> None:
    Path("manual").mkdir()
    Path("manual/a.bin").write_bytes(b"\0\1")

    assert "manual has no text in it" in vicinal.fails("import", "manual", *NOTES)


def test_a_line_that_is_cut_off_as_its_file_has_shrunk_is_explained(
    docs: Commands, engine: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("in.ndjson")
    text = "".join(json.dumps(each) + "\n" for each in records(20_000))
    path.write_text(text)
    batches = NdjsonReader.batches

    def shrinking(self: NdjsonReader, start: Position, rows_max: int) -> Iterator[RowBatch]:
        for batch in batches(self, start, rows_max):
            yield batch
            with path.open("r+b") as file:
                file.truncate(len(text) - 10)

    monkeypatch.setattr(NdjsonReader, "batches", shrinking)

    error = docs.fails("import", path, "docs", "--batch-size", "2000")

    assert "it has shrunk from " in error
