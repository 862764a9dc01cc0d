"""``vicinal vector`` reads, counts, deletes and patches exactly the vectors that it was told to."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.commands import Commands, Recorder
from vicinal.cli import id_batches, vectors
from vicinal.model import Delete, DeleteScope, IndexAddress, PatchMetadata, Scope

DOCS = IndexAddress("acme", "docs")
RECORDS: Sequence[dict[str, Any]] = (
    {"id": "a/1", "values": [1, 0], "namespace": "n", "metadata": {"k": "x", "n": 1}},
    {"id": "a/2", "values": [0, 1], "metadata": {"k": "x", "n": 2}},
    {"id": "b/1", "values": [1, 1], "metadata": {"k": "y"}},
    {"id": "b/2", "values": [0, 0]},
)
IDS = ["a/1", "a/2", "b/1", "b/2"]


@pytest.fixture
def docs(vicinal: Commands) -> Commands:
    vicinal.ok(
        *("index", "create", "docs", "--dimensions", "2", "--metric", "euclidean"),
        *("--metadata-index", "k:string", "--metadata-index", "n:number"),
    )
    lines = "\n".join(json.dumps(record) for record in RECORDS)
    vicinal.ok("import", "-", "docs", "--wait", stdin=lines)
    return vicinal


def listed(docs: Commands, *options: str) -> list[str]:
    answer = json.loads(docs.ok("vector", "list", "docs", *options, "--json"))
    assert answer["count"] == len(answer["vectors"])
    return [vector["id"] for vector in answer["vectors"]]


SCOPES: Sequence[tuple[tuple[str, ...], list[str]]] = (
    ((), IDS),
    (("--namespace", "n"), ["a/1"]),
    (("--prefix", "b/"), ["b/1", "b/2"]),
    (("--filter", '{"k": "x"}'), ["a/1", "a/2"]),
    (("--filter", '{"$or": [{"k": "y"}, {"n": {"$gt": 1}}]}'), ["a/2", "b/1"]),
    (("--filter", '{"k": "x"}', "--prefix", "a", "--namespace", "n"), ["a/1"]),
    (("--namespace", "none"), []),
)


@pytest.mark.parametrize(("options", "ids"), SCOPES)
def test_what_options_choose_is_listed_and_counted(
    docs: Commands, options: tuple[str, ...], ids: list[str]
) -> None:
    assert listed(docs, *options) == ids
    assert docs.ok("vector", "count", "docs", *options) == f"{len(ids)}\n"
    counted = docs.ok("vector", "count", "docs", *options, "--json")
    assert json.loads(counted) == {"count": len(ids)}


def test_vectors_are_got_by_ids_in_their_order_each_once(docs: Commands) -> None:
    shown = docs.ok("vector", "get", "docs", "b/1", "a/1", "b/1")
    raw = json.loads(docs.ok("vector", "get", "docs", "b/1", "a/1", "b/1", "--json"))

    assert [line.split()[0] for line in shown.splitlines()] == ["id", "b/1", "a/1"]
    assert raw == [RECORDS[2], RECORDS[0]]


def test_an_id_that_is_not_there_is_named_beside_those_that_are(docs: Commands) -> None:
    result = docs.run("vector", "get", "docs", "a/1", "no", "b/1", "nope")

    assert result.exit_code == 1
    assert "a/1" in result.stdout
    assert "no vector of docs has the id 'no', 'nope'" in result.stderr


def test_many_ids_go_in_calls_as_large_as_the_server_allows(
    docs: Commands, engine: Recorder
) -> None:
    ids = [f"absent {number}" for number in range(45)]

    assert docs.ok("vector", "count", "docs", *ids, "a/1") == "1\n"

    assert [len(some) for some in engine.asked] == [20, 20, 6]


def test_a_list_is_as_long_as_its_limit_over_pages(
    docs: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_PAGE_MAX", 2)

    assert listed(docs, "--limit", "3") == IDS[:3]
    assert listed(docs, "--limit", "4") == listed(docs, "--limit", "9") == IDS
    short = docs.run("vector", "list", "docs", "--limit", "3")
    assert "3 of 4 vectors; --limit shows more" in short.stderr
    assert "more" not in docs.run("vector", "list", "docs").stderr
    answer = json.loads(docs.ok("vector", "list", "docs", "--limit", "1", "--json"))
    assert answer["totalCount"] == 4


def test_values_are_listed_when_they_are_asked_for(docs: Commands) -> None:
    assert "[1.0,0.0]" not in docs.ok("vector", "list", "docs")
    assert "[1.0,0.0]" in docs.ok("vector", "list", "docs", "--values")
    assert "[1.0,0.0]" in docs.ok("vector", "list", "docs", "--columns", "id,values")


def test_a_column_that_no_vector_has_is_named(docs: Commands) -> None:
    absent = docs.run("vector", "get", "docs", IDS[0], "--columns", "id,K,metadata.k")
    there = docs.run("vector", "list", "docs", "--columns", "id,k,values")
    nowhere = docs.run("vector", "list", "docs", "--prefix", "z", "--columns", "K")

    assert absent.exit_code == 0
    assert absent.stderr == "note: none of them has a property 'K' in its metadata\n"
    assert "property" not in there.stderr + nowhere.stderr


def test_an_empty_list_says_so(docs: Commands) -> None:
    result = docs.run("vector", "list", "docs", "--prefix", "z")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "no vectors" in result.stderr


def test_facets_count_values_in_what_options_choose(docs: Commands) -> None:
    result = docs.run("vector", "facets", "docs", "k")
    limited = docs.run("vector", "facets", "docs", "k", "--limit", "1")
    scoped = json.loads(docs.ok("vector", "facets", "docs", "k", "--prefix", "b", "--json"))

    assert [line.split() for line in result.stdout.splitlines()] == [
        ["k", "vectors"],
        ["x", "2"],
        ["y", "1"],
    ]
    assert "3 of 4 vectors have one of 2 values" in result.stderr
    assert "1 are not shown" in limited.stderr
    assert scoped["values"] == [{"value": "y", "count": 1}]


@pytest.mark.parametrize(
    "chosen", [("a/1", "b/2"), ("--filter", '{"k": "x"}'), ("--prefix", "b"), ("--all",)]
)
def test_a_dry_run_counts_and_changes_nothing(
    docs: Commands, engine: Recorder, chosen: tuple[str, ...]
) -> None:
    engine.appended.clear()
    count = 4 if chosen == ("--all",) else 2

    deleted = docs.ok("vector", "delete", "docs", *chosen, "--dry-run")
    patched = docs.ok("vector", "patch", "docs", *chosen, "--metadata", '{"z": 1}', "--dry-run")
    as_json = docs.ok("vector", "delete", "docs", *chosen, "--dry-run", "--json")

    assert deleted == f"would delete {count} vectors of docs\n"
    assert patched == f"would patch {count} vectors of docs\n"
    assert json.loads(as_json) == {"count": count}
    assert engine.appended == []
    assert listed(docs) == IDS


@pytest.mark.parametrize(("options", "ids"), SCOPES[1:])
def test_what_options_choose_is_deleted_in_one_write(
    docs: Commands, engine: Recorder, options: tuple[str, ...], ids: list[str]
) -> None:
    engine.appended.clear()

    assert docs.ok("vector", "delete", "docs", *options, "--yes") == (
        f"deleted {len(ids)} vectors of docs\n"
    )

    assert [type(mutation) for mutation in engine.appended] == [DeleteScope]
    assert listed(docs) == [vector_id for vector_id in IDS if vector_id not in ids]


def test_ids_are_deleted_in_as_many_writes_as_the_limits_need(
    docs: Commands, engine: Recorder
) -> None:
    engine.appended.clear()
    absent = [f"absent {number}" for number in range(150)]

    answer = json.loads(
        docs.ok("vector", "delete", "docs", "a/1", "a/1", "b/2", *absent, "-y", "--json")
    )

    sizes = [len(each.ids) for each in engine.appended if isinstance(each, Delete)]
    assert sizes == [100, 52]
    assert answer["count"] == 2
    assert len(set(answer["mutationIds"])) == 2
    assert listed(docs) == ["a/2", "b/1"]


def test_all_vectors_go_only_when_that_is_said(docs: Commands) -> None:
    refused = docs.fails("vector", "delete", "docs", "--yes")
    assert "give either IDs, or --filter, --namespace and --prefix, or --all" in refused
    assert listed(docs) == IDS

    assert docs.ok("vector", "delete", "docs", "--all", "-y") == "deleted 4 vectors of docs\n"

    assert listed(docs) == []


@pytest.mark.parametrize("change", [("delete",), ("patch", "--metadata", '{"z": 1}')])
def test_a_change_asks_first_and_says_how_many(
    docs: Commands, engine: Recorder, change: tuple[str, ...]
) -> None:
    engine.appended.clear()
    verb, *options = change

    refused = docs.fails("vector", verb, "docs", "--prefix", "a", *options, stdin="n\n")
    silent = docs.fails("vector", verb, "docs", "--prefix", "a", *options, stdin="")

    assert f"{verb.capitalize()} 2 vectors of 'docs'?" in refused
    assert "Aborted!" in refused
    assert "Aborted!" in silent
    assert engine.appended == []
    docs.ok("vector", verb, "docs", "--prefix", "a", *options, stdin="y\n")
    assert len(engine.appended) == 1


def test_metadata_is_patched_by_ids_and_by_what_is_known(docs: Commands, engine: Recorder) -> None:
    patch = '{"k": null, "new": {"deep": 1}}'

    by_ids = docs.ok("vector", "patch", "docs", "a/1", "no", "--metadata", patch, "-y")
    by_scope = docs.ok(
        *("vector", "patch", "docs", "--filter", '{"k": "y"}', "--metadata", '{"k": "z"}', "-y")
    )

    assert by_ids == by_scope == ("patched 1 vectors of docs\n")
    stored = {vector.id: vector for vector in engine.get(DOCS, IDS)}
    assert json.loads(stored["a/1"].metadata) == {"n": 1, "new": {"deep": 1}}
    assert json.loads(stored["b/1"].metadata) == {"k": "z"}
    assert stored["a/1"].values.tolist() == [1, 0]
    assert all(isinstance(each, PatchMetadata) for each in engine.appended[-2:])


def test_many_ids_are_patched_in_as_many_writes_as_the_limits_need(
    docs: Commands, engine: Recorder
) -> None:
    engine.appended.clear()
    absent = [f"absent {number}" for number in range(150)]

    docs.ok("vector", "patch", "docs", *absent, "a/1", "--metadata", '{"z": 1}', "-y")

    sizes = [
        len(each.target)
        for each in engine.appended
        if isinstance(each, PatchMetadata) and not isinstance(each.target, Scope)
    ]
    assert sizes == [100, 51]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("delete", "docs", "a/1", "--prefix", "a"), "give either IDs"),
        (("delete", "docs", "a/1", "--all"), "give either IDs"),
        (("delete", "docs", "--prefix", "a", "--all"), "give either IDs"),
        (("delete", "docs", "--prefix", "", "-y"), "expected one of namespace, filter and"),
        (("delete", "docs", "--namespace", "", "-y"), "expected one of namespace, filter and"),
        (("delete", "docs", "--filter", "{}", "-y"), "expected one of namespace, filter and"),
        (("delete", "docs", "--filter", "null", "-y"), "give either IDs"),
        (("delete", "docs", "--filter", "{"), "--filter is not JSON"),
        (("delete", "docs", "--filter", '{"absent": 1}', "-y"), "[code: 40094]"),
        (("delete", "docs", "x" * 65, "-y"), "[code: 40008]"),
        (("delete", "absent", "--all", "-y"), "[code: 3000]"),
        (("count", "docs", "a/1", "--prefix", "a"), "give either IDs"),
        (("count", "docs", "--prefix", "x" * 65), "[code: 40008]"),
        (("list", "docs", "--limit", "0"), "--limit"),
        (("list", "docs", "--columns", "id,,k"), "has an empty name"),
        (("list", "docs", "--columns", "id", "--json"), "--json prints all"),
        (("list", "docs", "--full", "--json"), "--json prints all"),
        (("get", "docs"), "Missing argument"),
        (("facets", "docs", "absent"), "[code: 40005]"),
        (("facets", "docs", "k", "--limit", "1001"), "[code: 40092]"),
        (("patch", "docs", "a/1"), "--metadata"),
        (("patch", "docs", "a/1", "--metadata", "{"), "--metadata is not JSON"),
        (("patch", "docs", "a/1", "--metadata", "[1]"), "--metadata is not a JSON object"),
        (("patch", "docs", "a/1", "--metadata", '{"$k": 1}', "-y"), "[code: 40018]"),
        (("patch", "docs", "--metadata", '{"z": 1}', "-y"), "give either IDs"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_and_changes_nothing(
    docs: Commands, engine: Recorder, arguments: tuple[str, ...], complaint: str
) -> None:
    engine.appended.clear()

    assert complaint in docs.fails("vector", *arguments)

    assert engine.appended == []


def test_a_bad_patch_is_refused_before_anything_is_asked(docs: Commands) -> None:
    refused = docs.fails(
        *("vector", "patch", "docs", "--all", "--metadata", '{"$k": 1}'), stdin="y\n"
    )

    assert "[code: 40018]" in refused
    assert "Patch" not in refused


def test_batches_of_ids_shrink_once() -> None:
    assert id_batches.gets().count_always == 20
    assert id_batches.changes().count_always == 100


def test_what_a_terminal_would_obey_is_shown_as_escapes_on_one_line(vicinal: Commands) -> None:
    vicinal.ok(
        *("index", "create", "docs", "--dimensions", "1", "--metric", "cosine"),
        *("--metadata-index", "k:string"),
    )
    text = "a\n\x1b[2J\x7f\u009b\u2028z"
    record = {"id": f"i{text}", "values": [1], "namespace": f"n{text}", "metadata": {"k": text}}
    vicinal.ok("import", "-", "docs", "--wait", stdin=json.dumps(record))
    escaped = r"a\n\x1b[2J\x7f\x9b\u2028z"

    listed = vicinal.ok("vector", "list", "docs").split("\n")
    column = vicinal.ok("vector", "list", "docs", "--columns", "k").split("\n")
    facets = vicinal.ok("vector", "facets", "docs", "k").split("\n")

    assert listed[1].startswith(f"i{escaped}  n{escaped}  ")
    assert (len(listed), column[1], facets[1].split()[0]) == (3, escaped, escaped)
    assert listed[1].isprintable()
