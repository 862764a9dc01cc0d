"""The binding in Python does what the binding in a Worker does, and is held to its rules."""

import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vicinal
from tests.support.model_engine import ModelEngine
from vicinal import binding
from vicinal.binding import Columns, Database, Vector, Vectorize
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.errors import (
    BadBody,
    BadFilter,
    BadIndexConfig,
    BadMetadataKey,
    BadParameter,
    BadQueryVector,
    BadRecord,
    BadTopK,
    EmptyFilterValue,
    IdTooLong,
    IndexExists,
    IndexNotFound,
    InvalidInput,
    MetadataIndexNotFound,
    MetadataTooLarge,
    Overloaded,
    TooManyIds,
    TooManyVectors,
    Unavailable,
    WrongDimensions,
)
from vicinal.limits import PROFILES
from vicinal.model import Metric

X, Y, Z = [1, 0, 0], [0, 1, 0], [0, 0, 1]
ONE = np.int8(1)
RECORDS = importlib.import_module("vicinal.binding.records")  # the package has a function so named


@pytest.fixture(params=["model", "embedded"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database on a dict, and one on files: the binding must not know."""
    if request.param == "model":
        limits = PROFILES["cloudflare"]
        opened = Database(ModelEngine(limits), "local", limits)
    else:
        opened = vicinal.open(tmp_path / "data", limits="cloudflare")
    with opened:
        yield opened


@pytest.fixture
def docs(database: Database) -> Vectorize:
    return database.create_index("docs", dimensions=3, metric="cosine")


def record(id_: str, values: object = X, **members: object) -> dict[str, Any]:
    return {"id": id_, "values": values, **members}


def test_what_was_upserted_is_found_with_values_namespace_and_metadata(docs: Vectorize) -> None:
    docs.upsert([record("a", namespace="n", metadata={"k": [1, {"x": None}]})], wait=True)

    (match,) = docs.query(X, return_values=True, return_metadata="all").matches

    assert (match.id, match.score, match.namespace) == ("a", 1.0, "n")
    assert match.values is not None
    assert match.values.tolist() == [1.0, 0.0, 0.0]
    assert match.metadata == {"k": [1, {"x": None}]}


def test_effort_is_the_index_s_or_the_query_s_and_must_be_a_known_one(database: Database) -> None:
    docs = database.create_index("docs", dimensions=3, metric="cosine", effort="low")
    docs.upsert([record("a")], wait=True)

    (index,) = database.list_indexes()

    assert index.config.effort == "low"
    assert [match.id for match in docs.query(X, effort="exact").matches] == ["a"]
    assert [match.id for match in docs.query_by_id("a", effort="high").matches] == ["a"]
    with pytest.raises(InvalidInput, match="effort 'most' is none of low, standard, high, exact"):
        docs.query(X, effort="most")
    with pytest.raises(InvalidInput, match="effort 'most'"):
        database.create_index("other", dimensions=3, metric="cosine", effort="most")


def test_matches_have_neither_values_nor_metadata_unless_asked_for(docs: Vectorize) -> None:
    docs.upsert([record("a", metadata={"k": 1})], wait=True)

    (match,) = docs.query(X).matches

    assert match.values is None
    assert match.metadata is None


@pytest.mark.parametrize(
    "vectors",
    [
        [record("a", X), record("b", Y, namespace="n", metadata={"k": 1})],
        [Vector("a", np.array(X, np.float32)), Vector("b", np.array(Y, np.float32), "n", {"k": 1})],
        [record("a", np.array(X)), record("b", (0, 1, 0), namespace="n", metadata={"k": ONE})],
        Columns(["a", "b"], np.array([X, Y], np.float16), [None, "n"], [None, {"k": 1}]),
        Columns(np.array(["a", "b"]).tolist(), [X, Y], ["", "n"], [{}, {"k": 1}]),
    ],
    ids=["records", "vectors", "arrays", "columns", "lists"],
)  # fmt: skip
def test_vectors_may_come_as_records_vectors_or_columns(docs: Vectorize, vectors: Any) -> None:
    docs.upsert(vectors, wait=True)

    a, b = docs.get_by_ids(["a", "b"])

    assert (a.values.tolist(), a.namespace, a.metadata or {}) == (X, "", {})
    assert (b.values.tolist(), b.namespace, b.metadata) == (Y, "n", {"k": 1})


def test_vectors_may_come_from_a_generator(docs: Vectorize) -> None:
    docs.upsert((record(id_) for id_ in "abc"), wait=True)

    assert docs.describe().vector_count == 3


def test_insert_keeps_what_is_there_and_upsert_replaces_it_whole(docs: Vectorize) -> None:
    docs.insert([record("a", X, metadata={"k": 1})])
    docs.insert([record("a", Y)], wait=True)
    assert docs.get_by_ids(["a"])[0].values.tolist() == X

    docs.upsert([record("a", Z)], wait=True)

    (vector,) = docs.get_by_ids(["a"])
    assert vector.values.tolist() == Z
    assert vector.metadata is None


def test_what_get_by_ids_returns_can_be_stored_again(database: Database, docs: Vectorize) -> None:
    docs.upsert([record("a", [0.1, 0.2, 0.3], namespace="n", metadata={"é": "ü"})], wait=True)
    copy = database.create_index("copy", dimensions=3, metric="cosine")

    copy.upsert(docs.get_by_ids(["a"]), wait=True)

    (before,), (after,) = docs.get_by_ids(["a"]), copy.get_by_ids(["a"])
    assert before.values.tolist() == after.values.tolist()
    assert (before.namespace, before.metadata) == (after.namespace, after.metadata)


def test_a_deleted_vector_is_gone_and_unknown_ids_are_ignored(docs: Vectorize) -> None:
    docs.upsert([record("a"), record("b")])

    docs.delete_by_ids(["a", "absent"], wait=True)

    assert [match.id for match in docs.query(X).matches] == ["b"]
    assert docs.get_by_ids(["a"]) == []


def test_query_by_id_finds_the_vector_itself_and_its_neighbours_and_nothing_for_an_unknown_id(
    docs: Vectorize,
) -> None:
    docs.upsert([record("a", X), record("b", [1, 1, 0]), record("c", Y)], wait=True)

    found = docs.query_by_id("a", top_k=2)

    assert [match.id for match in found.matches] == ["a", "b"]
    assert found.count == 2
    assert docs.query_by_id("absent").matches == ()


def test_filters_and_namespaces_narrow_a_query(docs: Vectorize) -> None:
    docs.create_metadata_index("year", "number")
    docs.upsert(
        [
            record("old", metadata={"year": 1957}, namespace="n"),
            record("new", metadata={"year": 2001}, namespace="n"),
            record("other", metadata={"year": 2001}),
        ],
        wait=True,
    )

    recent = docs.query(X, filter={"year": {"$gte": np.int64(2000)}})
    both = docs.query(X, filter={"year": {"$gte": 2000}}, namespace="n")

    assert {match.id for match in recent.matches} == {"new", "other"}
    assert [match.id for match in both.matches] == ["new"]


def test_a_filter_on_a_property_without_a_metadata_index_says_so(docs: Vectorize) -> None:
    docs.upsert([record("a", metadata={"k": 1})], wait=True)

    found = docs.query(X, filter={"k": 1})

    assert (found.matches, found.unindexed) == ((), ("k",))


def test_metadata_indexes_are_listed_backfilled_and_deleted(docs: Vectorize) -> None:
    docs.upsert([record("a", metadata={"k": "v"})])
    docs.create_metadata_index("k", "string", backfill=True, wait=True)

    assert [(each.property_name, each.index_type) for each in docs.list_metadata_indexes()] == [
        ("k", "string")
    ]
    assert docs.query(X, filter={"k": "v"}, return_metadata="indexed").matches[0].metadata == {
        "k": "v"
    }

    docs.delete_metadata_index("k", wait=True)

    assert not docs.list_metadata_indexes()
    with pytest.raises(MetadataIndexNotFound):
        docs.delete_metadata_index("k")


def test_describe_tells_what_queries_see(docs: Vectorize) -> None:
    accepted = docs.upsert([record("a"), record("b")], wait=True)

    status = docs.describe()

    assert (status.dimensions, status.vector_count) == (3, 2)
    assert status.applied_mutation == accepted.mutation_id


def test_ids_are_listed_page_by_page(docs: Vectorize) -> None:
    docs.upsert([record(str(number)) for number in range(5)], wait=True)

    first = docs.list_vectors(3)
    second = docs.list_vectors(3, first.next_cursor)

    assert sorted([*first.ids, *second.ids]) == list("01234")
    assert second.next_cursor is None


def test_indexes_are_created_listed_and_deleted(database: Database) -> None:
    database.create_index("a", dimensions=3, metric=Metric.EUCLIDEAN, description="d")
    database.create_index("b", preset="@cf/baai/bge-small-en-v1.5")

    a, b = database.list_indexes()
    assert (a.name, a.config.dimensions, a.config.metric, a.description) == (
        "a",
        3,
        "euclidean",
        "d",
    )
    assert (b.config.dimensions, b.config.preset) == (384, "@cf/baai/bge-small-en-v1.5")
    with pytest.raises(IndexExists):
        database.create_index("a", dimensions=3, metric="cosine")

    database.delete_index("a")

    with pytest.raises(IndexNotFound):
        database.index("a")
    with pytest.raises(IndexNotFound):
        database.delete_index("a")


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        ([record("a", [1, 2])], WrongDimensions, r"expected 3 dimensions, and got 2"),
        ([record("a"), record("é" * 33)], IdTooLong, r"got 66 bytes \(vectors\[1\]\)"),
        ([record("a"), record("b", [1, np.nan, 0])], BadRecord, r"values\[1\].*vectors\[1\]"),
        ([record("a", ["1", 0, 0])], BadRecord, r"values\[0\]: expected a number, got a string"),
        ([record("a", np.array([X]))], BadRecord, r"values\[0\]: expected a number, got an array"),
        ([record("a", np.array([True, False, True]))], BadRecord, "got a boolean"),
        ([record("a", "123")], BadRecord, "expected an array of numbers, got a string"),
        ([record("a", metadata={"k": object()})], BadRecord, r"metadata.k: object has no form"),
        ([record("a", metadata={1: 2})], BadRecord, r"key 1 is int, not a string"),
        ([record("a", metadata={"k": float("nan")})], BadRecord, "beyond float64"),
        ([record("a", metadata={"k": [10**400]})], BadRecord, "a number is beyond float64"),
        ([record("a", metadata={"k": -(10**5_000)})], BadRecord, r"vectors\[0\].metadata.k"),
        ([record("a", metadata={"k": 2**1024})], BadRecord, "key 'k': a number is beyond float64"),
        ([record("a", [10**5_000, 0, 0])], BadRecord, r"values\[0\]"),
        ([record("a"), record("b", metadata={"a.b": 1})], BadMetadataKey, r"'a.b'.*vectors\[1\]"),
        ([record("a", metadata={"k": "\ud800"})], BadRecord, "surrogate"),
        ([record("\ud800")], BadRecord, "surrogate"),
        ([record("a", metadata={"k": "x" * 10_240})], MetadataTooLarge, "10240 bytes"),
        (["a"], BadRecord, r"vectors\[0\]: expected a record or Vector, got str"),
        ([{"id": "a"}], BadRecord, "has no member 'values'"),
        (Columns(["a"], [X, Y]), BadRecord, "1 ids, 2 rows of values"),
        (Columns(["a"], [X], ["n", "m"]), BadRecord, "2 namespaces"),
        (Columns(["a", "b"], [X, [1]]), BadRecord, "not one array"),
        (Columns(["a"], 3.0), BadRecord, "0 rows of values"),
        (Columns(list(map(str, range(5_001))), np.ones((5_001, 3))), TooManyVectors, "5000"),
    ],
)  # fmt: skip
def test_a_batch_that_breaks_a_rule_is_refused_whole_with_the_place(
    docs: Vectorize, vectors: Any, error: type[InvalidInput], message: str
) -> None:
    with pytest.raises(error, match=message):
        docs.upsert(vectors, wait=True)

    assert docs.describe().vector_count == 0


def test_metadata_that_holds_itself_is_refused(docs: Vectorize) -> None:
    document: dict[str, Any] = {}
    document["k"] = document

    with pytest.raises(BadRecord, match="nested too deeply"):
        docs.upsert([record("a", metadata=document)])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vector": [1, 2]}, BadQueryVector, "expected 3 dimensions, and got 2"),
        ({"vector": np.array([X])}, BadQueryVector, "Give one flat array"),
        ({"vector": [1, np.inf, 0]}, BadBody, r"vector\[1\]"),
        ({"vector": "123"}, BadBody, "got a string"),
        ({"vector": X, "top_k": 101}, BadTopK, "max top K is 100"),
        ({"vector": X, "top_k": 0}, BadTopK, "from 1 to 100"),
        (
            {"vector": X, "filter": {"k": 10**5_000}},
            BadFilter,
            "filter.k: an integer of 16610 bits",
        ),
        ({"vector": X, "filter": {"k": {"$lt": 10**400}}}, BadFilter, "beyond float64"),
        ({"vector": X, "filter": {"k": {}}}, EmptyFilterValue, "filter on 'k'"),
        ({"vector": [10**5_000, 0, 0]}, BadBody, r"vector\[0\]"),
        ({"vector": X, "top_k": 51, "return_values": True}, BadTopK, "max top K is 50"),
        ({"vector": X, "filter": {"k": {"$near": 1}}}, BadFilter, r"\$near"),
        ({"vector": X, "filter": {"k": object()}}, BadFilter, "filter.k: object has no form"),
        ({"vector": X, "return_metadata": "some"}, InvalidInput, "none of none, indexed, all"),
    ],
)
def test_a_query_that_breaks_a_rule_is_refused(
    docs: Vectorize, arguments: dict[str, Any], error: type[InvalidInput], message: str
) -> None:
    with pytest.raises(error, match=message):
        docs.query(**arguments)


def test_ids_that_are_none_are_refused(docs: Vectorize) -> None:
    with pytest.raises(BadBody, match="got the string 'abc'"):
        docs.get_by_ids("abc")
    with pytest.raises(BadBody, match=r"ids\[1\]: expected a string, got a number"):
        docs.delete_by_ids(["a", 1])  # type: ignore[list-item]  # what is refused here
    with pytest.raises(TooManyIds, match="max id count is 20, got 21"):
        docs.get_by_ids([str(number) for number in range(21)])
    with pytest.raises(TooManyIds, match="max id count is 100, got 101"):
        docs.delete_by_ids([str(number) for number in range(101)])
    with pytest.raises(BadParameter):
        docs.list_vectors(1_001)
    for too_long in (docs.get_by_ids, docs.delete_by_ids):
        with pytest.raises(IdTooLong, match=r"max is 64 bytes, got 65 bytes \(ids\[1\]\)"):
            too_long(["é" * 32, "é" * 32 + "x"])
    with pytest.raises(IdTooLong, match=r"max is 64 bytes, got 65 bytes \(vectorId\)"):
        docs.query_by_id("x" * 65)


def test_in_the_open_profile_paths_are_ids(tmp_path: Path) -> None:
    paths = [f"{'folder/' * depth}é {depth}.md" for depth in range(60)]
    longest = "é" * 256
    with vicinal.open(tmp_path / "data") as opened:
        docs = opened.create_index("docs", dimensions=3, metric="cosine")
        docs.upsert([record(each, Y) for each in paths] + [record(longest)], wait=True)
        with pytest.raises(IdTooLong, match="max is 512 bytes, got 513 bytes"):
            docs.upsert([record(longest + "x")])
    with vicinal.open(tmp_path / "data") as opened:  # from its log
        docs = opened.index("docs")
        listed: list[str] = []
        page = docs.list_vectors(7)
        while page.next_cursor:
            listed += page.ids
            page = docs.list_vectors(7, page.next_cursor)

        assert [*listed, *page.ids] == [*paths, longest]
        assert [each.id for each in docs.get_by_ids([longest, paths[59]])] == [longest, paths[59]]
        assert docs.query_by_id(longest, top_k=1).matches[0].id == longest
        docs.delete_by_ids([longest], wait=True)
        assert docs.get_by_ids([longest]) == []


def test_an_index_that_cannot_be_is_refused(database: Database, docs: Vectorize) -> None:
    with pytest.raises(BadIndexConfig, match="name"):
        database.create_index("a b", dimensions=3, metric="cosine")
    with pytest.raises(BadIndexConfig, match="1536"):
        database.create_index("a", dimensions=1_537, metric="cosine")
    with pytest.raises(InvalidInput, match="metric 'near' is none of cosine, euclidean"):
        database.create_index("a", dimensions=3, metric="near")
    with pytest.raises(InvalidInput, match="'date' is none of string, number, boolean, text"):
        docs.create_metadata_index("k", "date")
    with pytest.raises(BadBody, match="language: 'klingon' is none of arabic"):
        docs.create_metadata_index("k", "text", language="klingon")
    with pytest.raises(BadBody, match="language: an index of type number has none"):
        docs.create_metadata_index("k", "number", language="english")
    with pytest.raises(BadBody, match="propertyName"):
        docs.create_metadata_index("$k", "string")


def test_wait_gives_up_with_an_error_when_a_write_stays_invisible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NeverVisible(ModelEngine):
        def wait_applied(self, *_arguments: object) -> bool:
            return False

    limits = PROFILES["open"]
    docs = Database(NeverVisible(limits), "local", limits).create_index(
        "docs", dimensions=3, metric="cosine"
    )

    with pytest.raises(Unavailable, match="durable but not visible after 60 seconds"):
        docs.upsert([record("a")], wait=True)


def test_what_was_written_is_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    with vicinal.open(tmp_path) as database:
        database.create_index("docs", dimensions=3, metric="cosine").upsert([record("a")])

    with vicinal.open(str(tmp_path)) as database:
        docs = database.index("docs")
        docs.delete_by_ids([], wait=True)  # behind everything that came before

        assert [vector.id for vector in docs.get_by_ids(["a"])] == ["a"]


def test_a_folder_that_is_open_is_refused(tmp_path: Path) -> None:
    with vicinal.open(tmp_path), pytest.raises(Unavailable, match="in use by another process"):
        vicinal.open(tmp_path)


def test_accounts_are_worlds_of_their_own(tmp_path: Path) -> None:
    with vicinal.open(tmp_path, account="one") as database:
        database.create_index("docs", dimensions=3, metric="cosine")
    with vicinal.open(tmp_path, account="two") as database:
        assert database.list_indexes() == []


def test_an_unknown_profile_of_limits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'big' is none of cloudflare, cloudflare-2025, open"):
        vicinal.open(tmp_path, limits="big")


@pytest.mark.parametrize("module", [vicinal, binding])
def test_the_examples_in_docstrings_run(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = doctest.testmod(module)

    assert result.attempted >= 3
    assert result.failed == 0


def test_the_examples_in_docstrings_are_well_typed(tmp_path: Path) -> None:
    examples = [
        example.source
        for module in (vicinal, binding, RECORDS)
        for test in doctest.DocTestFinder().find(module)
        for example in test.examples
    ]
    script = tmp_path / "example.py"
    script.write_text("".join(examples))

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout


def test_query_by_id_gives_the_vector_no_place_that_its_score_does_not(database: Database) -> None:
    same = database.create_index("same", dimensions=3, metric="cosine")
    same.upsert([record(id_) for id_ in "cab"], wait=True)
    longer = database.create_index("longer", dimensions=3, metric="dot-product")
    longer.upsert([record("a", X), record("b", [2, 0, 0])], wait=True)

    assert [match.id for match in same.query_by_id("b").matches] == ["a", "b", "c"]
    assert [match.id for match in longer.query_by_id("a").matches] == ["b", "a"]


def test_loading_faster_than_tails_are_sealed_waits_instead_of_raising(tmp_path: Path) -> None:
    limits = PROFILES["open"]
    options = EngineOptions(limits, memtable_rows_max=50, memtables_max=1, queue_bytes_max=4_000)
    with Database(EmbeddedEngine.open(tmp_path / "data", options), "local", limits) as database:
        docs = database.create_index("docs", dimensions=3, metric="cosine")

        for start in range(0, 3_000, 100):
            ids = [str(number) for number in range(start, start + 100)]
            docs.upsert(Columns(ids, np.ones((100, 3))), wait=True)

        assert docs.describe().vector_count == 3_000


def test_a_write_that_may_not_wait_is_refused_when_there_is_no_room(tmp_path: Path) -> None:
    limits = PROFILES["open"]
    options = EngineOptions(limits, queue_bytes_max=1_000, visibility_delay_s=1000.0)
    with Database(EmbeddedEngine.open(tmp_path / "data", options), "local", limits) as database:
        docs = database.create_index("docs", dimensions=3, metric="cosine")
        docs.delete_by_ids(["x" * 64] * 14)

        with pytest.raises(Overloaded, match="1000 are allowed"):
            docs.delete_by_ids(["y" * 64] * 14, timeout_s=0.01)
        with pytest.raises(Overloaded):
            docs.upsert([record("y" * 64)] * 20, timeout_s=0)


def test_the_examples_of_columns_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    result = doctest.testmod(RECORDS)

    assert result.attempted >= 5
    assert result.failed == 0
