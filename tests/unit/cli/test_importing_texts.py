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
