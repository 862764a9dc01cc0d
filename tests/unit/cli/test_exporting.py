"""``vicinal export`` writes every vector whole, so that importing the file gives the same."""

import json
import random
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import application
from tests.support.commands import Commands, Recorder, write_records
from tests.support.embedder import TINY
from tests.support.server import in_thread
from vicinal.cli import export_pages, exporting
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.errors import BadCursor, Corruption, Unavailable
from vicinal.model import Delete, IndexAddress
from vicinal.server import routes
from vicinal.server.api import scopes

DIMENSIONS = 3


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PATIENCE_S", 0.0)
    monkeypatch.setattr(export_pages, "_PAGE_IDS", 50)
    monkeypatch.setattr(scopes, "PART_BYTES", 25 * 560)  # 25 vectors of 3 dimensions


@pytest.fixture
def _only_routes_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server know none of our routes for vectors; to be used before `docs`."""
    kept = tuple(route for route in routes.API_ROUTES if "/vectors/" not in route.operation.path)
    monkeypatch.setattr(routes, "API_ROUTES", kept)


of_the_platform = pytest.mark.usefixtures("_only_routes_of_the_platform")


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


@of_the_platform
def test_ids_are_asked_for_in_calls_as_large_as_the_server_allows(
    docs: Commands, engine: Recorder
) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(60, seed=2)), "docs", "--wait")

    docs.ok("export", "docs", "out.ndjson")

    assert [len(ids) for ids in engine.asked] == [20, 20, 10, 10]


def interrupted(docs: Commands, engine: Recorder) -> None:
    """Leave an export of 120 vectors after its first 51: one, and two parts of 25."""
    docs.ok("import", write_records(Path("in.ndjson"), records(120, seed=3)), "docs", "--wait")
    engine.fail_at(3, Unavailable("stop"))
    assert "stop" in docs.fails("export", "docs", "out.ndjson")
    assert not Path("out.ndjson").exists()
    assert len(read_lines(Path("out.ndjson.part"))) == 51
    engine.listed.clear()


def test_an_interrupted_export_continues_after_the_last_vector(
    docs: Commands, engine: Recorder
) -> None:
    interrupted(docs, engine)
    with Path("out.ndjson.part").open("ab") as part:
        part.write(b'{"half a line')

    result = docs.run("export", "docs", "out.ndjson")

    assert "continuing after 51 vectors" in result.stderr
    # Ids alone are read of those that are passed over.
    assert [(call.count, call.scan.return_values) for call in engine.listed] == [
        (50, False), (25, True), (25, True), (25, True),
    ]  # fmt: skip
    assert len(by_id(Path("out.ndjson"))) == len(read_lines(Path("out.ndjson"))) == 120
    names = {path.name for path in Path().glob("out*")}
    assert names == {"out.ndjson", "out.ndjson.index.json"}
    docs.ok("export", "docs", "whole.ndjson")
    assert Path("whole.ndjson").read_bytes() == Path("out.ndjson").read_bytes()


def test_vectors_written_meanwhile_are_not_in_an_export_that_continues(
    docs: Commands, engine: Recorder
) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(120, seed=3)), "docs", "--wait")
    docs.ok("export", "docs", "before.ndjson")
    engine.fail_at(3, Unavailable("stop"))
    docs.fails("export", "docs", "out.ndjson")
    docs.ok("vector", "delete", "docs", "--all", "-y")

    docs.ok("export", "docs", "out.ndjson")

    assert Path("out.ndjson").read_bytes() == Path("before.ndjson").read_bytes()


def test_an_export_whose_listing_has_expired_begins_again(docs: Commands, engine: Recorder) -> None:
    interrupted(docs, engine)
    engine.fail_at(0, BadCursor("the cursor has expired"))

    result = docs.run("export", "docs", "out.ndjson")

    assert "beginning again" in result.stderr
    assert len(by_id(Path("out.ndjson"))) == len(read_lines(Path("out.ndjson"))) == 120


def test_an_export_whose_server_was_started_again_begins_again_once(
    docs: Commands, engine: Recorder
) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(120, seed=3)), "docs", "--wait")
    engine.fail_at(3, BadCursor("never heard of it"))

    result = docs.run("export", "docs", "out.ndjson")

    assert result.exit_code == 0, result.output
    assert "beginning again" in result.stderr
    assert len(by_id(Path("out.ndjson"))) == len(read_lines(Path("out.ndjson"))) == 120


@pytest.mark.parametrize("file", ["out.ndjson", "-"])
def test_a_listing_that_another_server_keeps_is_done_without(
    docs: Commands, engine: Recorder, file: str
) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(60, seed=3)), "docs", "--wait")
    engine.fail_at(1, BadCursor("never heard of it"))

    written = docs.ok("export", "docs", file)

    text = written.encode() if file == "-" else Path(file).read_bytes()
    assert len({json.loads(line)["id"] for line in text.split(b"\n") if line}) == 60
    assert text.count(b"\n") == 60


@pytest.mark.parametrize("call", [1, 2, 4])
def test_what_ends_a_stream_on_the_server_is_told_and_is_no_line_of_the_file(
    docs: Commands, engine: Recorder, call: int
) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(120, seed=3)), "docs", "--wait")
    engine.fail_at(call, Corruption("block 7 is damaged"))

    assert "block 7 is damaged" in docs.fails("export", "docs", "out.ndjson")

    part = Path("out.ndjson.part")
    assert all("id" in record for record in read_lines(part))
    assert not Path("out.ndjson").exists()


@of_the_platform
def test_an_export_of_pages_continues_with_the_next_page(docs: Commands, engine: Recorder) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(120, seed=3)), "docs", "--wait")
    engine.fail_at(1, Unavailable("stop"))
    assert "stop" in docs.fails("export", "docs", "out.ndjson")
    assert len(read_lines(Path("out.ndjson.part"))) == 50
    engine.asked.clear()

    result = docs.run("export", "docs", "out.ndjson")

    assert "continuing after 50 vectors" in result.stderr
    assert sum(len(ids) for ids in engine.asked) == 70
    assert len(by_id(Path("out.ndjson"))) == 120


@of_the_platform
def test_a_server_that_cannot_choose_vectors_exports_all_or_nothing(docs: Commands) -> None:
    refused = docs.fails("export", "docs", "out.ndjson", "--prefix", "a")

    assert "exports all vectors of an index alone" in refused
    assert not Path("out.ndjson").exists()


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


@of_the_platform
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
    engine.fail_at(2, Unavailable("stop"))

    docs.fails("export", "docs", "out.ndjson")
    assert Path("out.ndjson").read_text() == "older"

    docs.ok("export", "docs", "out.ndjson")
    assert len(read_lines(Path("out.ndjson"))) == 60


def test_what_cannot_be_written_or_found_is_one_sentence(docs: Commands) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(2, seed=5)), "docs", "--wait")
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


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """The command line beside a server with the engine of files, whose memtables are small."""
    monkeypatch.chdir(tmp_path)
    options = EngineOptions(memtable_rows_max=40)
    with closing(EmbeddedEngine.open(tmp_path / "data", options)) as engine:
        app = application(tmp_path, engine=engine, tokens=["secret"])
        with in_thread(app, token="secret") as server:
            yield Commands(server)


CREATED = (
    *("index", "create", "docs", "--dimensions", str(DIMENSIONS), "--metric", "dot-product"),
    *("--metadata-index", "a.b:string", "--metadata-index", "z:number", "--effort", "high"),
    *("--metadata-index", "t:text:english", "--metadata-index", "u:text"),
    *("--description", "it's \u65e5\u672c", "--model", TINY),
)


def test_an_import_of_an_export_makes_the_same_index_again_byte_for_byte(real: Commands) -> None:
    """Values bit for bit, namespaces, metadata; and all that the index was made with."""
    real.ok(*CREATED)
    real.ok("import", write_records(Path("in.ndjson"), records(30, seed=11)), "docs", "--wait")
    real.ok("export", "docs", "out.ndjson")
    info = json.loads(real.ok("index", "info", "docs", "--json"))
    real.ok("index", "delete", "docs", "-y")

    made = real.run("import", "out.ndjson", "docs", "--wait")
    real.ok("export", "docs", "again.ndjson")

    assert made.exit_code == 0, made.output
    assert "made the index docs as out.ndjson.index.json says" in made.stderr
    assert Path("again.ndjson").read_bytes() == Path("out.ndjson").read_bytes()
    definition = Path("out.ndjson.index.json").read_bytes()
    assert Path("again.ndjson.index.json").read_bytes() == definition
    again = json.loads(real.ok("index", "info", "docs", "--json"))
    for name in ("config", "description", "metadataIndexes", "vectorCount"):
        assert again[name] == info[name], name


def test_an_export_of_many_segments_has_each_vector_once_as_it_was_written(real: Commands) -> None:
    real.ok(*CREATED)
    given = records(200, seed=12)
    real.ok("import", write_records(Path("in.ndjson"), given), "docs", "--wait")
    real.ok("import", write_records(Path("in2.ndjson"), given[50:90]), "docs", "--wait")

    real.ok("export", "docs", "out.ndjson")
    real.ok("import", "out.ndjson", "copy", "--wait")
    real.ok("export", "copy", "again.ndjson")

    first, second = (
        Path(name).read_bytes().split(b"\n") for name in ("out.ndjson", "again.ndjson")
    )
    assert len(first) == 201
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize(
    ("options", "is_in"),
    [
        (("--namespace", "n"), lambda record: record.get("namespace") == "n"),
        (
            ("--filter", '{"a.b": "x"}'),
            lambda r: r.get("metadata", {}).get("a", {}).get("b") == "x",
        ),
        (("--prefix", "\u00e9"), lambda record: record["id"].startswith("\u00e9")),
        (("--prefix", "none such"), lambda record: False),
    ],
)
def test_an_export_has_what_options_choose(
    docs: Commands, options: tuple[str, ...], is_in: Any
) -> None:
    given = records(90, seed=13)
    docs.ok("import", write_records(Path("in.ndjson"), given), "docs", "--wait")

    docs.ok("export", "docs", "out.ndjson", *options)

    assert set(by_id(Path("out.ndjson"))) == {r["id"] for r in given if is_in(r)}


def test_an_export_of_another_choice_does_not_go_on_with_this_one(
    docs: Commands, engine: Recorder
) -> None:
    interrupted(docs, engine)

    result = docs.run("export", "docs", "out.ndjson", "--namespace", "n")

    assert "continuing" not in result.stderr
    assert all(record["namespace"] == "n" for record in read_lines(Path("out.ndjson")))


def test_an_index_that_is_there_is_taken_as_it_is(docs: Commands) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(3, seed=1)), "docs", "--wait")
    docs.ok("export", "docs", "out.ndjson")
    docs.ok("index", "create", "other", "--dimensions", "3", "--metric", "cosine")

    result = docs.run("import", "out.ndjson", "other", "--wait")

    assert "made the index" not in result.stderr
    assert "cosine" in docs.ok("index", "info", "other")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "does not define an index"),
        ('{"config": {"dimensions": 3}}', "does not define an index"),
        ('{"config": {"dimensions": 0, "metric": "cosine"}}', "[code: "),
    ],
)
def test_a_definition_that_is_none_is_named_and_no_index_is_made(
    docs: Commands, text: str, complaint: str
) -> None:
    write_records(Path("in.ndjson"), records(3, seed=1))
    Path("in.ndjson.index.json").write_text(text)

    refused = docs.fails("import", "in.ndjson", "new")

    assert complaint in refused
    assert [index["name"] for index in json.loads(docs.ok("index", "list", "--json"))] == ["docs"]


def test_a_file_without_a_definition_needs_an_index(docs: Commands) -> None:
    write_records(Path("in.ndjson"), records(3, seed=1))

    assert "[code: 3000]" in docs.fails("import", "in.ndjson", "new")


def test_a_terminal_sees_percent_and_rate_and_the_end_tells_them(docs: Commands) -> None:
    docs.ok("import", write_records(Path("in.ndjson"), records(120, seed=3)), "docs", "--wait")
    terminal = Commands(docs.server, {"FORCE_COLOR": "1", "COLUMNS": "200"})

    result = terminal.run("export", "docs", "out.ndjson")

    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", result.stderr)
    assert re.search(r"from docs .*100% 120 vectors \([\d,]+/s\) of 120", shown)
    assert re.search(r"120 vectors of docs in \d+\.\d s \([\d,]+/s\)", shown)
