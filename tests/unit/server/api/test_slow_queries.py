"""A slow query is kept and logged with how it was answered, and never with what was asked for."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import INDEXES, application, call
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.errors import Corruption
from vicinal.model import IndexAddress, Query, QueryResult
from vicinal.prepared import Prepared
from vicinal.server.api.services import ServerConfig
from vicinal.server.api.slow_queries import KEPT_MAX, PARTS_MAX
from vicinal.server.app import App
from vicinal.server.http.logs import JsonFormatter
from vicinal.tokens import Permission

SLOW = "/client/v4/vicinal/slow-queries"
QUERY = f"{INDEXES}/docs/query"
ANY = 1e-9
"""A threshold in seconds that every query is over."""
SECRETS = ("s3cret", "0.1234567", "47114711")
"""So long that no time of a clock and no number of a request has their digits by chance."""

Build = Callable[[float], App]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Builds a server with a threshold, on an index with two vectors and an indexed property."""
    with ExitStack() as opened:

        def built(threshold_s: float) -> App:
            engine = opened.enter_context(closing(EmbeddedEngine.open(tmp_path / "data")))
            config = ServerConfig(slow_query_s=threshold_s, allowed_hosts=("x",))
            app = application(tmp_path, engine=engine, config=config)
            settings = {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}}
            call(app, "POST", INDEXES, settings)
            wanted = {"propertyName": "year", "indexType": "number"}
            call(app, "POST", f"{INDEXES}/docs/metadata_index/create", wanted)
            vectors = [
                {"id": "s3cret-id", "values": [1, 0], "metadata": {"year": 4711471147}},
                {"id": "b", "values": [0, 1], "namespace": "s3cret-space"},
            ]
            call(
                app,
                "POST",
                f"{INDEXES}/docs/upsert",
                {"vectors": vectors},
                headers={"prefer": "wait=30"},
            )
            return app

        yield built


def shown(app: App) -> list[dict[str, Any]]:
    answer = call(app, "GET", SLOW)
    queries: list[dict[str, Any]] = answer.result["queries"]
    return queries


def test_a_slow_query_is_told_by_its_form_and_its_steps(build: Build) -> None:
    app = build(ANY)
    body = {
        "vector": [0.1234567890123, 1],
        "topK": 3,
        "filter": {"year": {"$gte": 4711471147, "$lt": 4711471148}},
        "returnMetadata": "all",
        "namespace": "s3cret-space",
    }

    asked = call(app, "POST", QUERY, body, headers={"vicinal-effort": "high"})

    (slow,) = shown(app)
    assert asked.status == 200
    assert slow["requestId"] == asked.headers["cf-ray"]
    assert (slow["account"], slow["index"], slow["tokenId"]) == ("acme", "docs", "")
    assert (slow["by"], slow["topK"], slow["effort"]) == ("vector", 3, "high")
    assert slow["hasText"] is False
    assert (slow["returnValues"], slow["returnMetadata"]) == (False, "all")
    assert (slow["hasNamespace"], slow["isAnswered"]) == (True, True)
    assert slow["filter"] == "year $gte and year $lt"
    assert slow["matchCount"] == asked.result["count"] == 0
    assert slow["milliseconds"] > 0
    assert slow["partCount"] == len(slow["explain"]) == 1
    (step,) = slow["explain"]
    assert (step["part"], step["vectorCount"], step["selectedCount"]) == ("memtable", 2, 0)
    assert {"selectMs", "proposeMs", "measureMs", "method"} <= set(step)
    assert set(asked.result) == {"count", "matches"}


def test_a_slow_query_by_words_tells_what_they_cost(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    app = build(ANY)
    indexed = {"propertyName": "text", "indexType": "text"}
    call(app, "POST", QUERY.replace("/query", "/metadata_index/create"), indexed)
    vectors = {"vectors": [{"id": "c", "values": [1, 0], "metadata": {"text": "a s3cret fox"}}]}
    call(app, "POST", QUERY.replace("/query", "/upsert"), vectors, headers={"prefer": "wait=30"})

    asked = call(app, "POST", QUERY, {"text": "s3cret fox"})

    assert asked.result["count"] == 1
    (slow,) = shown(app)
    assert (slow["by"], slow["hasText"], slow["partCount"]) == ("text", True, 1)
    words = slow["explain"][0]["words"]
    assert (words["scoredCount"], words["postingCount"]) == (1, 2)
    assert "for words (1 scored, 2 postings read)" in caplog.text
    assert "s3cret" not in caplog.text + str(slow)


def test_a_query_by_the_vector_of_an_id_says_so_and_names_no_id(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    app = build(ANY)

    call(app, "POST", QUERY, {"vectorId": "s3cret-id"})

    assert shown(app)[0]["by"] == "id"
    assert "top 5 by id, " in caplog.text


def test_the_line_in_the_log_says_the_same(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    app = build(ANY)

    asked = call(app, "POST", QUERY, {"vector": [0.5, 1], "filter": {"year": {"$ne": 4711471147}}})

    (record,) = (each for each in caplog.records if each.name == "vicinal.slow_query")
    assert record.levelno == logging.WARNING
    line = record.getMessage()
    assert line.startswith("slow query of acme/docs: ")
    assert f"request {asked.headers['cf-ray']}, top 5 by vector, filter year $ne, effort" in line
    assert re.search("; milliseconds to [a-z, ]+: memtable [0-9.]", line)
    assert line.endswith("(exact over the selected rows, 1 of 1 scored)")
    event = json.loads(JsonFormatter().format(record))
    assert event["query"] == shown(app)[0]


@pytest.mark.parametrize(
    "body",
    [
        {"vector": [0.1234567890123, 4711471147]},
        {"vectorId": "s3cret-id"},
        {"vectorId": "s3cret-nobody"},
        {"vector": [1, 1], "namespace": "s3cret"},
        {"vector": [1, 1], "filter": {"year": 4711471147}},
        {"vector": [1, 1], "filter": {"year": {"$in": [4711471147, 0.1234567890123]}}},
        {"vector": [1, 1], "filter": {"year": {"$eq": "s3cret"}}},
        {"vector": [1, 1], "filter": {"unknown": "s3cret"}},
        {"vector": [1, 1], "text": "s3cret words"},
        {
            "vector": [1, 1],
            "filter": {"$or": [{"year": 4711471147}, {"$not": {"year": 4711471147}}]},
        },
        {"vector": [1, 1], "filter": {"year": {"$contains": "s3cret"}}},
        {"vector": [1, 1], "filter": {"year": {"$startsWith": "s3cret"}}},
    ],
)
def test_no_value_of_a_query_is_kept_or_logged(
    build: Build, body: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    app = build(ANY)
    caplog.set_level(logging.INFO)

    asked = call(app, "POST", QUERY, body, headers={"vicinal-filter": "extended"})

    assert asked.status == 200, asked.body
    answer = call(app, "GET", SLOW)
    assert len(answer.result["queries"]) == 1
    logged = "".join(map(JsonFormatter().format, caplog.records)) + caplog.text
    assert [each for each in SECRETS if each in answer.body.decode() or each in logged] == []


def test_a_query_below_the_threshold_is_neither_kept_nor_described(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    described: list[object] = []
    monkeypatch.setattr(
        "vicinal.engine.search.Rescored.explanation", lambda self: described.append(self)
    )
    app = build(3_600.0)

    assert call(app, "POST", QUERY, {"vector": [1, 1]}).status == 200

    assert shown(app) == []
    assert described == []
    assert [each for each in caplog.records if each.name == "vicinal.slow_query"] == []


def test_a_threshold_of_zero_keeps_none(build: Build) -> None:
    app = build(0.0)

    assert call(app, "POST", QUERY, {"vector": [1, 1]}).status == 200

    assert call(app, "GET", SLOW).result == {"thresholdMs": 0.0, "queries": []}


def test_the_newest_two_hundred_are_kept_newest_first(build: Build) -> None:
    app = build(ANY)

    ids = [
        call(app, "POST", QUERY, {"vector": [1, 1], "topK": 1 + number % 50}).headers["cf-ray"]
        for number in range(KEPT_MAX + 5)
    ]

    assert KEPT_MAX == 200
    assert [each["requestId"] for each in shown(app)] == ids[:4:-1]
    assert app.services.slow_queries.count == KEPT_MAX + 5


def test_of_a_search_of_many_parts_the_longest_steps_are_kept(build: Build) -> None:
    app = build(ANY)
    result = app.services.engine.query(IndexAddress("acme", "docs"), Query(1, vector_id="b"))
    (step,) = result.explain()
    many = [replace(step, select_ms=float(number)) for number in range(3 * PARTS_MAX)]

    def prepare(address: IndexAddress, query: Query) -> Prepared[QueryResult]:
        return Prepared(lambda: QueryResult(result.matches, explain=lambda: tuple(many)))

    app.services.engine.prepare = prepare  # type: ignore[method-assign]
    call(app, "POST", QUERY, {"vector": [1, 1]})

    (slow,) = shown(app)
    assert slow["partCount"] == 3 * PARTS_MAX
    longest = sorted((each.select_ms for each in many), reverse=True)[:PARTS_MAX]
    assert [each["selectMs"] for each in slow["explain"]] == longest


def test_a_query_that_is_not_answered_is_kept_without_steps(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    app = build(ANY)

    def prepare(address: IndexAddress, query: Query) -> Prepared[QueryResult]:
        raise Corruption("a file fails its checksum")

    app.services.engine.prepare = prepare  # type: ignore[method-assign]

    assert call(app, "POST", QUERY, {"vector": [1, 1]}).status == 500

    (slow,) = shown(app)
    assert (slow["isAnswered"], slow["explain"], slow["matchCount"]) == (False, [], 0)
    assert ", not answered; " in caplog.text


def test_a_body_that_is_no_query_is_no_slow_one(build: Build) -> None:
    app = build(ANY)

    assert call(app, "POST", QUERY, b"{").status == 400

    assert shown(app) == []


@pytest.mark.parametrize("headers", [{}, {"content-length": "70000"}])
def test_a_query_of_a_binding_or_with_a_long_body_is_kept_as_well(
    build: Build, headers: dict[str, str]
) -> None:
    app = build(ANY)
    body = json.dumps({"vector": [1, 1]}).encode()

    if headers:
        asked = call(app, "POST", QUERY, body.ljust(70_000), headers=headers)
    else:
        bound = {"x-vectorize-account": "acme", "x-vectorize-index": "docs"}
        asked = call(app, "POST", "/query", body, headers=bound)

    assert asked.status == 200, asked.body
    assert [each["requestId"] for each in shown(app)] == [asked.headers["cf-ray"]]


@pytest.mark.parametrize(
    ("permission", "account", "status"),
    [
        (Permission.WRITE, None, 200),
        (Permission.READ, None, 403),
        (Permission.WRITE, "acme", 403),
        (None, None, 401),
    ],
)
def test_only_a_token_that_may_do_everything_sees_them(
    tmp_path: Path, permission: Permission | None, account: str | None, status: int
) -> None:
    app = application(tmp_path)
    headers = {}
    app.services.tokens.create("first", Permission.WRITE)
    if permission is not None:
        _, secret = app.services.tokens.create("second", permission, account)
        headers = {"authorization": f"Bearer {secret}"}

    assert call(app, "GET", SLOW, headers=headers).status == status


def test_a_slow_query_and_the_access_line_name_the_token_by_its_id(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    app = build(ANY)
    caplog.set_level(logging.INFO, "vicinal.access")
    token, secret = app.services.tokens.create("mine", Permission.WRITE)
    headers = {"authorization": f"Bearer {secret}"}

    asked = call(app, "POST", QUERY, {"vector": [1, 1]}, headers=headers)

    (slow,) = call(app, "GET", SLOW, headers=headers).result["queries"]
    access = [vars(each)["fields"] for each in caplog.records if each.name == "vicinal.access"]
    line = next(each for each in access if each["path"].endswith("/query"))
    assert slow["tokenId"] == line["token"] == token.id
    assert line["request"] == asked.headers["cf-ray"]
    assert (line["account"], line["index"]) == ("acme", "docs")
    assert secret not in caplog.text
