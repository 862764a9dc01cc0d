"""``vicinal query`` asks what was meant and shows what came back."""

import json
from typing import Any

import pytest

from tests.support.commands import Commands
from tests.support.embedder import TINY


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
