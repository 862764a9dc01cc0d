"""``vicinal query`` finds words, alone and beside vectors, diverse and in groups."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Commands
from tests.support.embedder import TINY
from tests.support.inline import InlineEngine, open_inline


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[InlineEngine]:
    """What the server of these commands keeps its indexes in."""
    opened = open_inline(tmp_path / "engine")
    yield opened
    opened.close()


@pytest.fixture
def texts(vicinal: Commands) -> Commands:
    """An index with a text index, of vectors as the tiny model makes them."""
    vicinal.ok(
        *("index", "create", "texts", "--dimensions", "4", "--metric", "cosine"),
        *("--model", TINY, "--metadata-index", "k:text:english", "--metadata-index", "u:string"),
    )
    vectors = (
        {"id": "one", "values": [0, 1, 0, 0], "metadata": {"k": "Foxes run", "u": "x"}},
        {"id": "two", "values": [0, 0, 1, 0], "metadata": {"k": "dog", "u": "x"}},
    )
    lines = "\n".join(json.dumps(each) for each in vectors)
    vicinal.ok("import", "-", "texts", "--wait", stdin=lines)
    return vicinal


def names(texts: Commands, *options: str) -> list[str]:
    answer = json.loads(texts.ok("query", "texts", *options, "--json"))
    return [match["id"] for match in answer["matches"]]


def test_keywords_are_found_alone_or_beside_a_vector(texts: Commands) -> None:
    assert names(texts, "--keywords", "running") == ["one"]
    assert names(texts, "--keywords", "dogs", "--id", "one") == ["two", "one"]
    assert names(texts, "--text", "dog", "--hybrid")[0] == "two"
    assert names(texts, "--id", "one", "--group-by", "u") == ["one"]
    assert names(texts, "--id", "one", "--mmr", "0.5") == ["one", "two"]


def test_an_explanation_has_columns_for_words_where_words_were_searched_for(
    texts: Commands,
) -> None:
    alone = texts.ok("query", "texts", "--keywords", "running", "--explain")
    both = texts.ok("query", "texts", "--text", "dog", "--hybrid", "--explain")
    neither = texts.ok("query", "texts", "--id", "one", "--explain")

    for shown in (alone, both):
        headings, part = shown.split("\n\n")[1].splitlines()
        assert headings.endswith("words ms")
        assert part.split()[:3] == ["memtable", "2", "2"]
        assert part.split()[-3:-1] == ["1", "1"]
    assert "postings read" not in neither


@pytest.mark.parametrize(
    "options",
    [
        ("--hybrid", "--id", "one"),
        ("--hybrid", "--text", "a", "--keywords", "b"),
        ("--mmr", "2", "--id", "one"),
        ("--group-by", "u"),
    ],
)
def test_options_that_do_not_fit_are_refused(texts: Commands, options: tuple[str, ...]) -> None:
    assert texts.run("query", "texts", *options).exit_code == 2


NOT_UTF8 = b"\xff".decode(errors="surrogateescape")  # as a shell's bytes come in
DEEP = 970  # is read, and written within a request is too deep


@pytest.mark.parametrize(
    "arguments",
    [
        ("texts", "--keywords", NOT_UTF8),
        ("texts", "--text", NOT_UTF8, "--model", TINY),
        ("texts", "--text", "dog", "--model", NOT_UTF8),
        ("texts", "--keywords", "dog", "--group-by", NOT_UTF8),
        ("texts", "--keywords", "dog", "--namespace", NOT_UTF8),
        ("texts", "--id", NOT_UTF8),
        (NOT_UTF8, "--keywords", "dog"),
    ],
)
def test_what_is_no_utf8_is_named(texts: Commands, arguments: tuple[str, ...]) -> None:
    assert "'\\udcff' is not UTF-8" in texts.fails("query", *arguments)


@pytest.mark.parametrize("depth", [100, *range(DEEP, 1_000, 3), 100_000])
def test_a_filter_of_any_depth_is_refused_in_a_sentence(texts: Commands, depth: int) -> None:
    filter_ = '{"$not":' * depth + '{"u":"x"}' + "}" * depth

    said = texts.fails("query", "texts", "--keywords", "dog", "--filter", filter_)

    assert "nested" in said or "filter" in said
    assert len(said) < 500


@pytest.mark.parametrize("share", ["nan", "NaN", "-inf", "1e400", "-0.1", "1.0001"])
def test_a_share_that_is_in_no_range_is_refused(texts: Commands, share: str) -> None:
    assert "is not in the range" in texts.fails("query", "texts", "--id", "one", "--mmr", share)
