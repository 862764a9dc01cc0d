"""``vicinal index`` makes, shows and removes indexes on a running server."""

import json

import pytest

from tests.support.commands import Commands


def test_an_index_is_created_listed_shown_and_deleted(vicinal: Commands) -> None:
    created = vicinal.ok(
        *("index", "create", "docs", "--dimensions", "3", "--metric", "cosine"),
        *("--description", "[bold] text", "--metadata-index", "a.b:number"),
    )
    listed = vicinal.ok("index", "list")
    shown = vicinal.ok("index", "info", "docs")

    assert created == "created docs: 3 dimensions, cosine\n"
    assert [line.split()[:3] for line in listed.splitlines()] == [
        ["name", "dimensions", "metric"],
        ["docs", "3", "cosine"],
    ]
    assert "[bold] text" in listed
    assert "metadata indexes         a.b (number)" in shown
    assert "vectors                  0" in shown

    assert vicinal.ok("index", "delete", "docs", "--yes") == "deleted docs\n"
    assert vicinal.ok("index", "list") == ""


def test_a_preset_stands_for_dimensions_and_metric(vicinal: Commands) -> None:
    vicinal.ok("index", "create", "docs", "--preset", "@cf/baai/bge-small-en-v1.5")

    (index,) = json.loads(vicinal.ok("index", "list", "--json"))

    assert index["config"] == {
        "dimensions": 384,
        "metric": "cosine",
        "preset": "@cf/baai/bge-small-en-v1.5",
    }


def test_an_index_may_have_an_effort_of_its_own(vicinal: Commands) -> None:
    vicinal.ok(
        *("index", "create", "docs", "--preset", "@cf/baai/bge-small-en-v1.5"),
        *("--effort", "high"),
    )

    (index,) = json.loads(vicinal.ok("index", "list", "--json"))

    assert index["config"]["effort"] == "high"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--dimensions", "3"),
        ("--metric", "cosine"),
        ("--dimensions", "3", "--metric", "cosine", "--preset", "@cf/baai/bge-small-en-v1.5"),
        ("--dimensions", "3", "--metric", "near"),
        ("--dimensions", "3", "--metric", "cosine", "--metadata-index", "a"),
        ("--dimensions", "3", "--metric", "cosine", "--metadata-index", "a:text"),
    ],
)
def test_options_that_do_not_fit_together_create_nothing(
    vicinal: Commands, options: tuple[str, ...]
) -> None:
    assert "Usage:" in vicinal.fails("index", "create", "docs", *options)
    assert vicinal.ok("index", "list") == ""


def test_a_refusal_is_one_sentence_with_its_code(vicinal: Commands) -> None:
    complaint = vicinal.fails("index", "create", "a b", "--dimensions", "3", "--metric", "cosine")

    assert complaint.startswith("Error: vectorize.index.invalid_config")
    assert complaint.count("\n") == 1
    assert "[code: " in complaint
    assert "[code: 3000]" in vicinal.fails("index", "info", "absent")


def test_deleting_asks_first_and_no_means_no(vicinal: Commands) -> None:
    vicinal.ok("index", "create", "docs", "--dimensions", "3", "--metric", "cosine")

    assert "Aborted!" in vicinal.fails("index", "delete", "docs", stdin="n\n")
    assert "docs" in vicinal.ok("index", "list")

    vicinal.ok("index", "delete", "docs", stdin="y\n")
    assert vicinal.ok("index", "list") == ""


def test_metadata_indexes_are_added_backfilled_listed_and_removed(vicinal: Commands) -> None:
    vicinal.ok("index", "create", "docs", "--dimensions", "1", "--metric", "cosine")
    vicinal.ok(
        *("import", "-", "docs", "--wait"), stdin='{"id":"a","values":[1],"metadata":{"k":"v"}}'
    )

    vicinal.ok("index", "add-metadata-index", "docs", "k", "string", "--backfill")

    assert "k         string" in vicinal.ok("index", "list-metadata-indexes", "docs")
    found = vicinal.ok("query", "docs", "--vector", "1", "--filter", '{"k":"v"}', "--json")
    assert json.loads(found)["count"] == 1

    vicinal.ok("index", "delete-metadata-index", "docs", "k")
    assert json.loads(vicinal.ok("index", "list-metadata-indexes", "docs", "--json")) == {
        "metadataIndexes": []
    }


def test_a_metadata_index_that_is_there_already_is_said_to_be_as_it_was(vicinal: Commands) -> None:
    vicinal.ok("index", "create", "docs", "--dimensions", "3", "--metric", "cosine")
    new = vicinal.run("index", "add-metadata-index", "docs", "k", "string")
    again = vicinal.run("index", "add-metadata-index", "docs", "k", "string")
    backfill = vicinal.run("index", "add-metadata-index", "docs", "k", "string", "--backfill")

    assert "already" not in new.stderr
    assert "was there already and has not changed" in again.stderr
    assert "without --backfill" in " ".join(again.stderr.split())
    assert "now it covers the vectors written before it" in " ".join(backfill.stderr.split())


def test_info_says_what_a_metadata_index_covers_where_that_is_not_all(vicinal: Commands) -> None:
    vicinal.ok("index", "create", "docs", "--dimensions", "1", "--metric", "cosine")
    vicinal.ok(
        *("import", "-", "docs", "--wait"), stdin='{"id":"a","values":[1],"metadata":{"k":"v"}}'
    )
    vicinal.ok("index", "add-metadata-index", "docs", "k", "string")
    before = vicinal.ok("index", "info", "docs")

    vicinal.ok("index", "add-metadata-index", "docs", "k", "string", "--backfill")

    assert "k (string, covers 0 of 1 vectors)" in before
    assert "k (string)" in vicinal.ok("index", "info", "docs")
    found = vicinal.ok("query", "docs", "--vector", "1", "--filter", '{"k":"v"}', "--json")
    assert json.loads(found)["count"] == 1
