"""``vicinal import --text`` embeds texts and chunks, and makes the index that is missing."""

import json
from pathlib import Path

import pytest

from tests.support.commands import Commands, Recorder, write_records
from tests.support.embedder import TINY
from vicinal.cli import importing
from vicinal.errors import Unavailable
from vicinal.model import Upsert


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PATIENCE_S", 0.0)


def ids(engine: Recorder) -> list[str]:
    return [name for each in engine.appended if isinstance(each, Upsert) for name in each.batch.ids]


def test_two_commands_go_from_a_page_to_an_answer(vicinal: Commands) -> None:
    Path("a.md").write_text("# Head\n\nabc\n")

    result = vicinal.run(
        "import", "a.md", "notes", "--model", TINY, "--keep-text", "--wait", "--text"
    )

    assert result.exit_code == 0, result.output
    assert f"made the index notes: 4 dimensions, cosine, texts by {TINY}" in result.stderr
    assert result.stdout.startswith("1 vectors into notes")
    answer = json.loads(vicinal.ok("query", "notes", "--text", "Head\n\nabc", "--json"))
    (match,) = answer["matches"]
    assert match["id"] == "a.md#0"
    assert match["metadata"] == {
        "path": "a.md", "position": 0, "heading": "Head", "text": "Head\n\nabc"
    }  # fmt: skip


NOTES = ("notes", "--model", TINY, "--wait", "--batch-size", "2", "--text")


def write_paragraphs(path: str, count: int) -> None:
    """Write a text with a section, which is a chunk, for every number."""
    Path(path).write_text("\n".join(f"# h{number}\n\nx{number}" for number in range(count)))


def stored(vicinal: Commands) -> list[str]:
    vicinal.ok("export", "notes", "out.ndjson", "--restart")
    return sorted(json.loads(line)["id"] for line in Path("out.ndjson").read_text().splitlines())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 24])
def test_a_text_that_has_become_shorter_leaves_no_chunk(vicinal: Commands, count: int) -> None:
    write_paragraphs("a.md", 25)
    write_paragraphs("b.md", 2)
    vicinal.ok("import", "a.md", "b.md", *NOTES)
    write_paragraphs("a.md", count)

    result = vicinal.run("import", "a.md", "b.md", *NOTES)

    assert result.exit_code == 0, result.output
    assert f"a.md has become shorter: {25 - count} chunks beyond its end deleted" in result.stderr
    assert "b.md has become" not in result.stderr
    assert stored(vicinal) == sorted([*(f"a.md#{n}" for n in range(count)), "b.md#0", "b.md#1"])


@pytest.mark.parametrize("option", ["--keep-stale", "--insert"])
def test_chunks_beyond_the_end_stay_on_request(vicinal: Commands, option: str) -> None:
    write_paragraphs("a.md", 3)
    vicinal.ok("import", "a.md", *NOTES)
    write_paragraphs("a.md", 1)

    result = vicinal.run("import", option, "a.md", *NOTES)

    assert "shorter" not in result.stderr
    assert stored(vicinal) == ["a.md#0", "a.md#1", "a.md#2"]


def test_an_interrupted_import_deletes_what_is_stale_when_it_goes_on(
    vicinal: Commands, engine: Recorder
) -> None:
    write_paragraphs("a.md", 5)
    write_paragraphs("b.md", 5)
    vicinal.ok("import", "a.md", "b.md", *NOTES)
    write_paragraphs("a.md", 1)
    write_paragraphs("b.md", 1)
    engine.fail_at(1, Unavailable("stop"))  # the deletion behind the first batch

    assert "stop" in vicinal.fails("import", "a.md", "b.md", *NOTES)
    assert len(stored(vicinal)) > 2
    vicinal.ok("import", "a.md", "b.md", *NOTES)

    assert stored(vicinal) == ["a.md#0", "b.md#0"]


def test_a_path_too_long_for_an_id_has_no_stale_chunks_either(vicinal: Commands) -> None:
    path = "d" * 57 + ".md"  # ids of one digit fit, longer ones are cut
    write_paragraphs(path, 14)
    vicinal.ok("import", path, *NOTES)
    write_paragraphs(path, 8)

    vicinal.ok("import", path, *NOTES)

    assert len(stored(vicinal)) == 8


def test_a_column_of_texts_is_embedded_and_continued(vicinal: Commands, engine: Recorder) -> None:
    rows = [{"id": str(n), "body": "x" * (n + 1), "k": n} for n in range(5)]
    file = write_records(Path("t.ndjson"), rows)
    options = ("--text", "body", "--model", TINY, "--batch-size", "2")
    engine.fail_at(2, Unavailable("stop"))

    refused = vicinal.fails("import", file, "notes", *options)
    assert "4 vectors are written; the same command goes on" in refused
    vicinal.ok("import", file, "notes", *options)

    assert ids(engine) == [str(n) for n in range(5)]
    (vector,) = json.loads(vicinal.ok("query", "notes", "--id", "1", "--json", "--top-k", "1"))[
        "matches"
    ]
    assert vector["metadata"]["k"] in (1, 5)
    assert "body" not in vector["metadata"]


def test_vectors_of_two_models_are_not_mixed(vicinal: Commands) -> None:
    vicinal.ok(
        "index", "create", "other", "--dimensions", "4", "--metric", "cosine", "--model", "@x/other"
    )
    Path("a.md").write_text("x")

    complaint = vicinal.fails("import", "a.md", "other", "--model", TINY, "--text")

    assert f"index other holds vectors of @x/other; those of {TINY} do not mix" in complaint


def test_a_model_of_other_dimensions_and_an_empty_text_are_named(vicinal: Commands) -> None:
    vicinal.ok("index", "create", "wide", "--dimensions", "5", "--metric", "cosine")
    file = write_records(Path("t.ndjson"), [{"id": "a", "text": " "}])

    complaint = vicinal.fails("import", file, "wide", "--model", TINY, "--text")
    assert f"{TINY} makes 4 dimensions, and index wide has 5" in complaint
    complaint = vicinal.fails("import", file, "notes", "--model", TINY, "--text")
    assert "t.ndjson, line 1: id 'a', text: the text is empty" in complaint
