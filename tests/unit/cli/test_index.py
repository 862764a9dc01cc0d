"""``vicinal index`` makes, shows and removes indexes on a running server."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.asgi import application
from tests.support.commands import Commands, Recorder
from tests.support.server import in_thread
from tests.support.waiting import wait_until
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.errors import Corruption
from vicinal.model import IndexAddress, Status


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
        ("--dimensions", "3", "--metric", "cosine", "--metadata-index", "a:date"),
        ("--dimensions", "3", "--metric", "cosine", "--metadata-index", "a:number:english"),
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


def test_a_list_has_counts_and_bytes_unless_names_alone_are_wanted(vicinal: Commands) -> None:
    for name, count in (("docs", 1_234), ("none", 0)):
        vicinal.ok("index", "create", name, "--dimensions", "2", "--metric", "cosine")
        lines = "\n".join(f'{{"id":"{number}","values":[1,2]}}' for number in range(count))
        vicinal.ok("import", "-", name, "--wait", stdin=lines)

    shown = vicinal.ok("index", "list").splitlines()
    listed = json.loads(vicinal.ok("index", "list", "--json"))
    names = vicinal.ok("index", "list", "--names").splitlines()
    bare = json.loads(vicinal.ok("index", "list", "--names", "--json"))

    assert shown[0].split()[:5] == ["name", "dimensions", "metric", "vectors", "bytes"]
    assert [line.split()[:5] for line in shown[1:]] == [
        ["docs", "2", "cosine", "1,234", "9,872"],
        ["none", "2", "cosine", "0", "0"],
    ]
    assert [(index["vectorCount"], index["byteCount"]) for index in listed] == [
        (1_234, 9_872),
        (0, 0),
    ]
    assert "vectors" not in names[0]
    assert all("vectorCount" not in index for index in bare)


def test_an_index_that_cannot_be_read_is_told_and_the_others_are_listed(
    vicinal: Commands, engine: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good"):
        vicinal.ok("index", "create", name, "--dimensions", "2", "--metric", "cosine")
    status = Recorder.status

    def damaged(self: Recorder, address: IndexAddress) -> Status:
        if address.name == "bad":
            raise Corruption("block 3 is damaged")
        return status(self, address)

    monkeypatch.setattr(Recorder, "status", damaged)
    result = vicinal.run("index", "list")

    assert result.exit_code == 0
    assert "bad: block 3 is damaged [code: 40098]" in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", "bad", "good"]


def test_info_has_effort_coverage_and_segments_also_as_json(
    tmp_path: Path,
) -> None:
    options = EngineOptions(merges=False)
    with closing(EmbeddedEngine.open(tmp_path / "data", options)) as engine:
        app = application(tmp_path, engine=engine, tokens=["secret"])
        with in_thread(app, token="secret") as server:
            vicinal = Commands(server)
            vicinal.ok(
                *("index", "create", "docs", "--dimensions", "2", "--metric", "cosine"),
                *("--effort", "high", "--metadata-index", "k:number"),
            )
            lines = "\n".join(
                f'{{"id":"{n}","values":[1,2],"metadata":{{"k":{n}}}}}' for n in range(30)
            )
            vicinal.ok("import", "-", "docs", "--wait", stdin=lines)
            engine.compact(IndexAddress("acme", "docs"))
            vicinal.ok("vector", "delete", "docs", "3", "4", "-y")
            vicinal.ok("import", "-", "docs", "--wait", stdin='{"id":"new","values":[1,1]}')
            vicinal.ok("index", "add-metadata-index", "docs", "late", "string")
            wait_until(lambda: "late (" in vicinal.ok("index", "info", "docs"))

            shown = vicinal.ok("index", "info", "docs")
            info = json.loads(vicinal.ok("index", "info", "docs", "--json"))

    described, segments = shown.split("\n\n")
    rows = {line.split()[0]: line.split()[-1] for line in described.splitlines()}
    assert rows["effort"] == "high"
    assert rows["vectors"] == "29"
    assert int(rows["bytes"].replace(",", "")) == info["byteCount"] > 1_000
    assert "k (number), late (string, covers 0 of 29 vectors)" in described
    assert [line.split()[:4] for line in segments.splitlines()[:2]] == [
        ["segments:", "1"],
        ["part", "vectors", "deleted", "bytes"],
    ]
    assert "segment 1       28        2" in segments
    assert "memtable         1        0" in segments
    assert info["config"] == {"dimensions": 2, "metric": "cosine", "effort": "high"}
    assert info["metadataIndexes"] == [
        {"propertyName": "k", "indexType": "number", "coveredCount": 29},
        {"propertyName": "late", "indexType": "string", "coveredCount": 0},
    ]
    assert [(s["name"], s["vectorCount"], s["deletedCount"]) for s in info["segments"]] == [
        ("segment 1", 28, 2),
        ("memtable", 1, 0),
    ]


def test_metadata_indexes_are_changed_with_json(vicinal: Commands) -> None:
    vicinal.ok("index", "create", "docs", "--dimensions", "2", "--metric", "cosine")

    added = vicinal.ok("index", "add-metadata-index", "docs", "k", "string", "--json")
    removed = vicinal.ok("index", "delete-metadata-index", "docs", "k", "--json")

    assert list(json.loads(added)) == list(json.loads(removed)) == ["mutationId"]
