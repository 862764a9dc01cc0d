"""``vicinal query`` asks what was meant and shows what came back."""

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import application
from tests.support.commands import Commands
from tests.support.embedder import TINY
from tests.support.server import in_thread
from vicinal.engine.embedded import EmbeddedEngine


@pytest.fixture
def docs(vicinal: Commands) -> Commands:
    """An index of vectors as the tiny model makes them: texts of 1 and 2 characters."""
    vicinal.ok(
        *("index", "create", "docs", "--dimensions", "4", "--metric", "cosine"),
        *("--metadata-index", "k:number"),
    )
    vectors = (
        {"id": "one", "values": [0, 1, 0, 0], "namespace": "n", "metadata": {"k": 1, "x": "[b]"}},
        {"id": "two", "values": [0, 0, 1, 0]},
    )
    lines = "\n".join(json.dumps(each) for each in vectors)
    vicinal.ok("import", "-", "docs", "--wait", stdin=lines)
    return vicinal


def found(docs: Commands, *options: str) -> list[dict[str, Any]]:
    answer = json.loads(docs.ok("query", "docs", *options, "--json"))
    matches: list[dict[str, Any]] = answer["matches"]
    return matches


def test_a_text_is_embedded_by_the_named_model(docs: Commands) -> None:
    assert found(docs, "--text", "ab", "--model", TINY)[0]["id"] == "two"
    assert found(docs, "--text", "a", "--model", TINY)[0]["id"] == "one"


def test_a_vector_may_be_written_as_json_or_with_commas(docs: Commands) -> None:
    for text in ("[0, 1, 0, 0]", "0,1,0,0", " 0, 1.0, 0e0, 0 "):
        assert found(docs, "--vector", text)[0]["id"] == "one"
    assert found(docs, "--vector", "-1,0,-1,0")[-1]["id"] == "two"


def test_a_stored_vector_finds_itself_first(docs: Commands) -> None:
    assert found(docs, "--id", "two")[0]["id"] == "two"


def test_options_narrow_and_widen_the_answer(docs: Commands) -> None:
    assert [each["id"] for each in found(docs, "--id", "two", "--namespace", "n")] == ["one"]
    assert [each["id"] for each in found(docs, "--id", "two", "--filter", '{"k": 1}')] == ["one"]
    assert len(found(docs, "--id", "two", "--top-k", "1")) == 1
    assert "values" not in found(docs, "--id", "one")[0]
    assert found(docs, "--id", "one", "--values")[0]["values"] == [0, 1, 0, 0]
    assert found(docs, "--id", "one", "--effort", "exact")[0]["id"] == "one"
    assert found(docs, "--id", "one")[0]["metadata"] == {"k": 1, "x": "[b]"}
    assert found(docs, "--id", "one", "--metadata", "indexed")[0]["metadata"] == {"k": 1}
    assert "metadata" not in found(docs, "--id", "one", "--metadata", "none")[0]


def test_a_filter_may_have_the_operators_that_are_ours(docs: Commands) -> None:
    either = '{"$or": [{"k": 1}, {"k": 7}]}'

    assert [each["id"] for each in found(docs, "--id", "two", "--filter", either)] == ["one"]
    assert [
        each["id"] for each in found(docs, "--id", "one", "--filter", '{"k": {"$exists": false}}')
    ] == ["two"]


def test_the_table_shows_the_matches_as_they_are(docs: Commands) -> None:
    lines = docs.ok("query", "docs", "--id", "one").splitlines()

    assert [line.split() for line in lines] == [
        ["score", "id", "namespace", "metadata"],
        ["1.000000", "one", "n", '{"k":1,"x":"[b]"}'],
        ["0.000000", "two"],
    ]
    assert lines == [line.rstrip() for line in lines]


def test_what_the_server_remarks_is_passed_on(docs: Commands) -> None:
    result = docs.run("query", "docs", "--id", "one", "--filter", '{"absent": 1}')

    assert result.stdout == ""
    assert "absent" in result.stderr
    assert "nothing matches" in result.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "one of --text, --vector and --id"),
        (("--text", "a", "--id", "b"), "one of --text, --vector and --id"),
        (("--vector", "[1"), "--vector is not JSON"),
        (("--vector", "1;2"), "--vector is not JSON"),
        (("--vector", "1,2"), "expected 4 dimensions, and got 2 dimensions"),
        (("--id", "one", "--filter", "{k:1}"), "--filter is not JSON"),
        (("--id", "one", "--filter", '{"k":{}}'), "must not be empty"),
        (("--id", "one", "--top-k", "101"), "max top K is 100"),
        (("--text", "a", "--model", "@cf/no/such"), "@cf/no/such"),
        (("--text", "a"), "no known model makes 4 dimensions"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    docs: Commands, options: tuple[str, ...], complaint: str
) -> None:
    assert complaint in docs.fails("query", "docs", *options)


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (("--preset", "@cf/baai/bge-small-en-v1.5"), "@cf/baai/bge-small-en-v1.5"),
        (
            ("--dimensions", "384", "--metric", "cosine"),
            "@hf/sentence-transformers/all-minilm-l6-v2",
        ),
        (("--preset", "cohere/embed-multilingual-v2.0"), "@cf/baai/bge-base-en-v1.5"),
    ],
)
def test_without_a_model_the_one_that_fits_the_index_is_asked(
    vicinal: Commands, config: tuple[str, ...], model: str
) -> None:
    vicinal.ok("index", "create", "docs", *config)

    # The tiny embedder has none of them and says which one was asked for.
    assert model in vicinal.fails("query", "docs", "--text", "a")


def test_an_unknown_id_is_an_error_and_one_that_finds_nothing_is_not(docs: Commands) -> None:
    unknown = docs.run("query", "docs", "--id", "nope")
    nothing = docs.run("query", "docs", "--id", "one", "--namespace", "empty")

    assert unknown.exit_code == 1
    assert "no vector of docs has the id 'nope'" in unknown.stderr
    assert docs.run("query", "docs", "--id", "nope", "--json").exit_code == 1
    assert nothing.exit_code == 0
    assert "nothing matches" in nothing.stderr


def test_the_model_that_the_index_remembers_embeds_the_text(vicinal: Commands) -> None:
    vicinal.ok(
        "index", "create", "remembers", "--dimensions", "4", "--metric", "cosine", "--model", TINY
    )  # fmt: skip

    result = vicinal.run("query", "remembers", "--text", "x", "--json")

    assert result.exit_code == 0, result.output
    assert "embedding with" not in result.stderr
    assert TINY in vicinal.ok("index", "info", "remembers")
    export = vicinal.run("export", "remembers", "-")
    assert f"--model {TINY}" in export.stderr


LONG = "a long text with\na line end, " * 20


@pytest.fixture
def described(vicinal: Commands) -> Commands:
    """An index with a vector of much metadata."""
    vicinal.ok("index", "create", "docs", "--dimensions", "8", "--metric", "euclidean")
    vector = {
        "id": "i" * 60,
        "values": [0.5] * 8,
        "namespace": "n",
        "metadata": {
            "text": LONG,
            "title": "Short",
            "tags": list(range(9)),
            "place": {"continent": "Asia"},
            "score": 7,
        },
    }
    vicinal.ok("import", "-", "docs", "--wait", stdin=json.dumps(vector))
    return vicinal


def test_values_of_metadata_are_previewed_on_one_line_and_whole_when_asked_for(
    described: Commands,
) -> None:
    _, previewed = described.ok("query", "docs", "--vector", "0,0,0,0,0,0,0,0").splitlines()
    _, full = described.ok("query", "docs", "--vector", "0,0,0,0,0,0,0,0", "--full").splitlines()

    assert "…" in previewed
    assert '"title":"Short","tags":[0,1,2,3,…],"place":{"continent":"Asia"}' in previewed
    assert len(previewed) < 300
    assert json.dumps(LONG)[1:-1] in full
    assert "[0,1,2,3,4,5,6,7,8]" in full
    assert "…" not in full


def test_a_terminal_previews_metadata_on_its_line_and_folds_the_id(
    described: Commands,
) -> None:
    terminal = Commands(described.server, {"FORCE_COLOR": "1", "COLUMNS": "120"})
    narrow = Commands(described.server, {"FORCE_COLOR": "1", "COLUMNS": "60"})

    wide_lines = plain(terminal.ok("query", "docs", "--vector", "0,0,0,0,0,0,0,0"))
    folded = plain(narrow.ok("query", "docs", "--vector", "0,0,0,0,0,0,0,0"))

    assert len(wide_lines) == 2
    assert wide_lines[1].rstrip().endswith("…")
    assert len(wide_lines[1]) <= 120
    assert "i" * 60 in wide_lines[1]
    assert "".join(folded).count("i") >= 60
    assert all(len(line) <= 60 for line in folded)


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_columns_are_parts_of_the_vector_or_properties_of_its_metadata(described: Commands) -> None:
    shown = described.ok(
        *("query", "docs", "--vector", "0,0,0,0,0,0,0,0"),
        *("--columns", "title, place.continent,place,metadata.score,absent,tags,namespace"),
    )

    assert [line.split() for line in shown.splitlines()] == [
        ["title", "place.continent", "place", "metadata.score", "absent", "tags", "namespace"],
        ["Short", "Asia", '{"continent":"Asia"}', "7", "[0,1,2,3,…]", "n"],
    ]


def test_values_are_returned_for_their_column(described: Commands) -> None:
    shown = described.ok("query", "docs", "--id", "i" * 60, "--columns", "values")

    assert shown.splitlines() == ["values", "[0.5,0.5,0.5,0.5,…]"]


def test_how_the_answer_was_found_is_shown_and_is_in_the_json(docs: Commands) -> None:
    shown = docs.run("query", "docs", "--id", "one", "--explain")

    assert shown.exit_code == 0
    # The engine of this test explains nothing; its headings are there all the same.
    assert shown.stdout.splitlines()[-1].split()[:3] == ["part", "vectors", "selected"]


def test_an_explanation_names_each_part_and_what_was_done_in_it(tmp_path: Path) -> None:
    with closing(EmbeddedEngine.open(tmp_path / "data")) as engine:
        app = application(tmp_path, engine=engine, tokens=["secret"])
        with in_thread(app, token="secret") as server:
            docs = Commands(server)
            docs.ok("index", "create", "docs", "--dimensions", "2", "--metric", "cosine")
            lines = "\n".join(f'{{"id":"{n}","values":[1,{n}]}}' for n in range(7))
            docs.ok("import", "-", "docs", "--wait", stdin=lines)

            shown = docs.ok("query", "docs", "--vector", "1,0", "--top-k", "2", "--explain")
            raw = json.loads(docs.ok("query", "docs", "--id", "3", "--explain", "--json"))
            without = docs.ok("query", "docs", "--vector", "1,0")

    matches, explanation = shown.split("\n\n")
    assert len(matches.splitlines()) == 3
    _, part = explanation.splitlines()
    assert part.split()[:3] == ["memtable", "7", "7"]
    assert raw["explain"][0]["vectorCount"] == 7
    assert "memtable" not in without


@pytest.mark.parametrize("option", [("--columns", "id"), ("--full",)])
def test_json_has_no_columns(docs: Commands, option: tuple[str, ...]) -> None:
    refused = docs.fails("query", "docs", "--id", "one", "--json", *option)

    assert "--json prints all there is" in refused
