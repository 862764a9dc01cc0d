"""``vicinal export`` writes every vector whole, so that importing the file gives the same."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Commands, Recorder, write_records
from vicinal.cli import exporting
from vicinal.errors import BadCursor, Unavailable
from vicinal.model import Delete, IndexAddress

DIMENSIONS = 3


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PATIENCE_S", 0.0)
    monkeypatch.setattr(exporting, "_PAGE_IDS", 50)


@pytest.fixture
def docs(vicinal: Commands) -> Commands:
    vicinal.ok(
        *("index", "create", "docs", "--dimensions", str(DIMENSIONS), "--metric", "euclidean"),
        *("--metadata-index", "a.b:string", "--description", "it's text"),
    )
    return vicinal


def records(count: int, seed: int) -> list[dict[str, Any]]:
    """Return vectors with everything that a vector can have."""
    chance = random.Random(seed)
    extremes = [0.0, -0.0, 1e-45, 3.4028234e38, -1.5, 0.1, 16_777_217.0]
    found: list[dict[str, Any]] = []
    for number in range(count):
        record: dict[str, Any] = {
            "id": chance.choice(["", "é", '"\\', "\n", "\x00"]) + f"{number}",
            "values": [chance.choice([*extremes, chance.gauss(0, 1)]) for _ in range(DIMENSIONS)],
        }
        if chance.random() < 0.5:
            record["namespace"] = chance.choice(["n", "日本"])
        if chance.random() < 0.5:
            record["metadata"] = {
                "a": {"b": chance.choice(["x", "\n\u2028", ""])},
                "list": [1, None, True, 1.5, 2**60],
            }
        found.append(record)
    return found


def by_id(path: Path) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in read_lines(path)}


def read_lines(path: Path) -> list[dict[str, Any]]:
    # Not splitlines(): metadata may hold U+2028, which would count as an end of line.
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_importing_an_export_gives_the_same_vectors(docs: Commands) -> None:
    file = write_records(Path("in.ndjson"), records(120, seed=7))
    docs.ok("import", file, "docs", "--wait")
    docs.ok("index", "create", "copy", "--dimensions", str(DIMENSIONS), "--metric", "euclidean")

    docs.ok("export", "docs", "out.ndjson")
    docs.ok("import", "out.ndjson", "copy", "--wait")
    docs.ok("export", "copy", "again.ndjson")

    assert len(by_id(Path("out.ndjson"))) == 120
    assert by_id(Path("out.ndjson")) == by_id(Path("again.ndjson"))


def test_an_export_holds_what_was_imported(docs: Commands) -> None:
    given = {
        "id": "a",
        "values": [0.5, -2.0, 3.0],
        "namespace": "n",
        "metadata": {"a": {"b": "x"}, "c": [None, True]},
    }
    docs.ok("import", write_records(Path("in.ndjson"), [given]), "docs", "--wait")

    docs.ok("export", "docs", "out.ndjson")

    assert read_lines(Path("out.ndjson")) == [given]


def test_an_empty_index_is_an_empty_file(docs: Commands) -> None:
    docs.ok("export", "docs", "out.ndjson")

    assert Path("out.ndjson").read_bytes() == b""


def test_an_export_says_how_to_make_the_index_again(docs: Commands) -> None:
    result = docs.run("export", "docs", "out.ndjson")

    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == (
        "vicinal index create docs --dimensions 3 --metric euclidean "
        "--description 'it'\"'\"'s text' --metadata-index a.b:string"
    )


def test_standard_output_gets_the_vectors_and_nothing_else(docs: Commands) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(60, seed=1)), "docs", "--wait")

    lines = docs.ok("export", "docs", "-").encode().split(b"\n")

    assert len([json.loads(line) for line in lines if line]) == 60


def test_ids_are_asked_for_in_calls_as_large_as_the_server_allows(
    docs: Commands, engine: Recorder
) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(60, seed=2)), "docs", "--wait")

    docs.ok("export", "docs", "out.ndjson")

    assert [len(ids) for ids in engine.asked] == [20, 20, 10, 10]


def interrupted(docs: Commands, engine: Recorder) -> None:
    """Leave an export of 120 vectors after its first page of 50."""
    docs.ok("import", write_records(Path("in.ndjson"), records(120, seed=3)), "docs", "--wait")
    engine.fail_at(1, Unavailable("stop"))
    assert "stop" in docs.fails("export", "docs", "out.ndjson")
    assert not Path("out.ndjson").exists()
    assert len(read_lines(Path("out.ndjson.part"))) == 50
    engine.asked.clear()


def test_an_interrupted_export_continues_with_the_next_page(
    docs: Commands, engine: Recorder
) -> None:
    interrupted(docs, engine)
    with Path("out.ndjson.part").open("ab") as part:
        part.write(b'{"half a line')

    result = docs.run("export", "docs", "out.ndjson")

    assert "continuing after 50 vectors" in result.stderr
    assert sum(len(ids) for ids in engine.asked) == 70
    assert len(by_id(Path("out.ndjson"))) == 120
    assert list(Path().glob("out*")) == [Path("out.ndjson")]


def test_an_export_whose_listing_has_expired_begins_again(docs: Commands, engine: Recorder) -> None:
    interrupted(docs, engine)
    engine.fail_at(0, BadCursor("the cursor has expired"))

    result = docs.run("export", "docs", "out.ndjson")

    assert "beginning again" in result.stderr
    assert len(by_id(Path("out.ndjson"))) == len(read_lines(Path("out.ndjson"))) == 120


@pytest.mark.parametrize("what", ["restart", "part is gone", "part is shorter", "damaged", "index"])
def test_an_export_that_cannot_be_continued_begins_again(
    docs: Commands, engine: Recorder, what: str
) -> None:
    interrupted(docs, engine)
    part = Path("out.ndjson.part")
    arguments = ["--restart"] if what == "restart" else []
    if what == "part is gone":
        part.unlink()
    elif what == "part is shorter":
        part.write_bytes(part.read_bytes()[:-10])
    elif what == "damaged":
        Path("out.ndjson.part.json").write_text("{")
    elif what == "index":
        docs.ok("index", "delete", "docs", "-y")
        docs.ok("index", "create", "docs", "--dimensions", "3", "--metric", "euclidean")
        docs.ok("import", "in.ndjson", "docs", "--wait", "--restart")

    result = docs.run("export", "docs", "out.ndjson", *arguments)

    assert "continuing" not in result.stderr
    assert len(by_id(Path("out.ndjson"))) == len(read_lines(Path("out.ndjson"))) == 120


def test_vectors_that_are_deleted_meanwhile_are_left_out_and_counted(
    docs: Commands, engine: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(30, seed=4)), "docs", "--wait")
    listing = Recorder.list

    def list_then_delete(
        self: Recorder, address: IndexAddress, count: int, cursor: str | None
    ) -> Any:
        page = listing(self, address, count, cursor)
        self.append(address, Delete(page.ids[:3])).result()
        return page

    monkeypatch.setattr(Recorder, "list", list_then_delete)

    result = docs.run("export", "docs", "out.ndjson")

    assert result.exit_code == 0
    assert len(read_lines(Path("out.ndjson"))) == 27
    assert "27 vectors of docs; 3 were deleted meanwhile" in result.stderr


def test_an_older_export_stays_until_the_new_one_is_whole(docs: Commands, engine: Recorder) -> None:
    Path("out.ndjson").write_text("older")
    docs.ok("import", write_records(Path("in.ndjson"), records(60, seed=5)), "docs", "--wait")
    engine.fail_at(1, Unavailable("stop"))

    docs.fails("export", "docs", "out.ndjson")
    assert Path("out.ndjson").read_text() == "older"

    docs.ok("export", "docs", "out.ndjson")
    assert len(read_lines(Path("out.ndjson"))) == 60


def test_what_cannot_be_written_or_found_is_one_sentence(docs: Commands) -> None:
    Path("full.ndjson.part.json.new").mkdir()
    assert "full.ndjson.part.json.new cannot be written" in docs.fails(
        "export", "docs", "full.ndjson"
    )
    assert "cannot be written" in docs.fails("export", "docs", "no/such/folder/out.ndjson")
    assert "[code: 3000]" in docs.fails("export", "absent", "out.ndjson")


def test_the_command_that_makes_the_index_again_has_its_effort(docs: Commands) -> None:
    docs.ok("index", "create", "hi", "--dimensions", "3", "--metric", "cosine", "--effort", "high")

    recipe = docs.run("export", "hi", "-").stderr.splitlines()[-1]

    docs.ok("index", "delete", "hi", "-y")
    docs.ok(*recipe.split()[1:])
    assert "high" in docs.ok("index", "info", "hi")
    assert "--effort" not in docs.run("export", "docs", "-").stderr
