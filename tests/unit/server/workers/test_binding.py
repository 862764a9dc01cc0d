"""What a Worker's bindings send is answered as the runtime's own modules read it.

Requests are those recorded from workerd: fixed paths, the index in a header, bare results
with status 200 and exactly ``application/json``, errors with a text and a code.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.asgi import Received, application, call
from tests.support.embedder import TINY
from tests.support.engines import DOCS, create
from tests.support.model_engine import ModelEngine
from vicinal.model import IndexAddress
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App
from vicinal.tokens import Permission, Tokens

TO_DOCS = {"X-Vectorize-Account": "acme", "X-Vectorize-Index": "docs"}
AI = {"X-Vectorize-Account": "acme", "cf-consn-model-id": TINY, "cf-consn-sdk-version": "2.0.0"}
NDJSON = {
    "content-type": "application/x-ndjson",
    "cf-vector-search-dim-width": "2",
    "cf-vector-search-dim-height": "2",
}
TWO = b'{"id":"a","values":[1,0],"metadata":{"k":1}}\n{"id":"b","values":[0,1]}'


def bare(answer: Received) -> object:
    """Return a result, which the modules accept with this status and this type alone."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.body)


def refused(answer: Received) -> tuple[int | None, int, str]:
    """Return status, code and text of an error, which each module finds in its own place."""
    assert answer.headers["content-type"] == "application/json"
    error = json.loads(answer.body)
    assert error["errors"] == [{"code": error["code"], "message": error["error"]}]
    return answer.status, error["code"], error["error"]


def store(app: App, headers: Mapping[str, str] = TO_DOCS) -> None:
    bare(call(app, "POST", "/upsert", TWO, headers={**headers, **NDJSON}))


def test_what_describe_asks_for_is_a_bare_object(app: App) -> None:
    store(app)

    info = bare(call(app, "GET", "/info", headers=TO_DOCS))

    assert isinstance(info, dict)
    assert set(info) == {
        "dimensions", "vectorCount", "processedUpToDatetime", "processedUpToMutation",
    }  # fmt: skip
    assert (info["dimensions"], info["vectorCount"]) == (2, 2)


def test_inserting_and_upserting_answer_with_a_mutation(app: App) -> None:
    for path in ("/insert", "/upsert"):
        answer = bare(call(app, "POST", path, TWO, headers={**TO_DOCS, **NDJSON}))

        assert isinstance(answer, dict)
        assert list(answer) == ["mutationId"]
        info = bare(call(app, "GET", "/info", headers=TO_DOCS))
        assert isinstance(info, dict)
        assert info["processedUpToMutation"] == answer["mutationId"]


def test_vectors_may_come_as_one_json_object_too(app: App) -> None:
    body = {"vectors": [{"id": "a", "values": [1, 0]}]}

    bare(call(app, "POST", "/insert", body, headers=TO_DOCS))

    assert bare(call(app, "POST", "/getByIds", {"ids": ["a"]}, headers=TO_DOCS)) == [
        {"id": "a", "values": [1.0, 0.0]}
    ]


@pytest.mark.parametrize(
    ("level", "has_metadata"),
    [({}, False), ({"returnMetadata": False}, False), ({"returnMetadata": "none"}, False),
     ({"returnMetadata": True}, True), ({"returnMetadata": "all"}, True)],
)  # fmt: skip
def test_a_query_returns_what_its_options_say(
    app: App, level: dict[str, object], has_metadata: bool
) -> None:
    store(app)

    found = bare(
        call(app, "POST", "/query", {"topK": 1, **level, "vector": [1, 0]}, headers=TO_DOCS)
    )

    match = {"id": "a", "score": 0.0} | ({"metadata": {"k": 1}} if has_metadata else {})
    assert found == {"count": 1, "matches": [match]}


def test_a_query_may_name_a_stored_vector(app: App) -> None:
    store(app)

    found = bare(call(app, "POST", "/query", {"topK": 1, "vectorId": "b"}, headers=TO_DOCS))

    assert found == {"count": 1, "matches": [{"id": "b", "score": 0.0}]}


def test_vectors_are_fetched_and_deleted_by_ids(app: App) -> None:
    store(app)

    fetched = bare(call(app, "POST", "/getByIds", {"ids": ["b", "none"]}, headers=TO_DOCS))
    bare(call(app, "POST", "/deleteByIds", {"ids": ["b"]}, headers=TO_DOCS))

    assert fetched == [{"id": "b", "values": [0.0, 1.0]}]
    assert bare(call(app, "POST", "/getByIds", {"ids": ["b"]}, headers=TO_DOCS)) == []


def test_the_account_is_that_of_the_settings_unless_a_header_says(tmp_path: Path) -> None:
    engine = ModelEngine()
    create(engine, IndexAddress("home", "docs"))
    app = application(tmp_path, engine=engine, config=ServerConfig(account="home"))

    home = call(app, "GET", "/info", headers={"X-Vectorize-Index": "docs"})
    elsewhere = call(app, "GET", "/info", headers=TO_DOCS)

    assert home.status == 200
    assert elsewhere.status == 404


# Errors.


WRONG_QUERIES = [
    # The whole answer of an embedding model, its list of vectors, a vector of another length.
    ({"vector": {"shape": [1, 2], "data": [[1, 0]]}}, 40006, "expected 2 dimensions, and got 0"),
    ({"vector": [[1, 0]]}, 40006, "Give one flat array, such as data[0] of an embedding"),
    ({"vector": []}, 40006, "invalid query vector, expected 2 dimensions, and got 0 dimensions"),
    ({"vector": [1, 2, 3]}, 40006, "expected 2 dimensions, and got 3 dimensions"),
    ({"vector": [1, 0], "topK": 101}, 40025, "max top K is 100, but got 101"),
    ({"topK": 1}, 40026, "expected one of vector and vectorId, got neither"),
    ([1, 0], 40026, "Failed to parse the request body as JSON"),
]


@pytest.mark.parametrize(("body", "code", "text"), WRONG_QUERIES)
def test_a_wrong_query_is_refused_with_its_code(
    app: App, body: object, code: int, text: str
) -> None:
    answer = call(app, "POST", "/query", body, headers=TO_DOCS)

    status, found, message = refused(answer)
    assert (status, found) == (400, code)
    assert text in message


WRONG_VECTORS = [
    # `values: resp.data` where `resp.data[0]` was meant.
    (b'{"id":"z","values":[[1,0]]}', 40023, "values[0]"),
    (b'{"id":"z","values":[1]}', 40012, 'invalid vector for id="z", expected 2 dimensions'),
    (b'{"id":"z","values":{"0":1,"1":0}}', 40023, "values"),
    (b'{"id":"z","values":[null,0]}', 40023, "values[0]"),
    (b"<html>", 40023, "line 1"),
]


@pytest.mark.parametrize(("body", "code", "text"), WRONG_VECTORS)
def test_wrong_vectors_are_refused_with_their_code(
    app: App, engine: ModelEngine, body: bytes, code: int, text: str
) -> None:
    answer = call(app, "POST", "/insert", body, headers={**TO_DOCS, **NDJSON})

    status, found, message = refused(answer)
    assert (status, found) == (400, code)
    assert text in message
    assert engine.status(DOCS).vector_count == 0


def test_a_binding_without_an_index_is_told_which_header_is_missing(app: App) -> None:
    answer = call(app, "POST", "/query", {"vector": [1, 0]})

    status, _, message = refused(answer)
    assert status == 400
    assert "X-Vectorize-Index" in message


def test_an_unknown_index_is_named(app: App) -> None:
    answer = call(app, "GET", "/info", headers={**TO_DOCS, "X-Vectorize-Index": "nope"})

    assert refused(answer) == (404, 3000, 'vectorize.index.not_found - Index name "nope"')


@pytest.mark.parametrize("account", ["a/b", "a" * 33, "\xe9"])
def test_a_malformed_account_leads_nowhere(app: App, account: str) -> None:
    answer = call(app, "GET", "/info", headers={**TO_DOCS, "X-Vectorize-Account": account})

    assert refused(answer)[:2] == (404, 7003)


def test_the_token_is_asked_for_and_held_to_its_permission_and_account(
    engine: ModelEngine, tmp_path: Path
) -> None:
    app = application(tmp_path, engine=engine, tokens=["secret"])
    tokens = app.services.tokens
    assert isinstance(tokens, Tokens)
    _, reader = tokens.create("reader", Permission.READ, "acme")
    _, stranger = tokens.create("stranger", Permission.WRITE, "other")

    def status(token: str | None, path: str = "/info", body: bytes = b"") -> int | None:
        headers = {**TO_DOCS, **({"Authorization": f"Bearer {token}"} if token else {})}
        answer = call(app, "POST" if body else "GET", path, body, headers=headers)
        if answer.status != 200:
            refused(answer)
        return answer.status

    assert status("secret") == status(reader) == 200
    assert status(None) == status("wrong") == 401
    assert status(stranger) == 403
    assert status(reader, "/insert", TWO) == 403
    assert status("secret", "/insert", TWO) == 200


# AI.


def test_texts_are_embedded_with_the_model_of_the_header(app: App) -> None:
    body = {"inputs": {"text": ["", "abc"]}, "options": {}}

    for path in ("/run?version=3", "/ai-gateway/run?version=3"):
        answer = bare(call(app, "POST", path, body, headers=AI))

        assert answer == {
            "shape": [2, 4],
            "data": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
            "pooling": "mean",
        }


def test_a_prefix_before_the_model_is_skipped(app: App) -> None:
    headers = {**AI, "cf-consn-model-id": f"beta:{TINY}"}

    answer = bare(call(app, "POST", "/run", {"inputs": {"text": "abc"}}, headers=headers))

    assert isinstance(answer, dict)
    assert answer["shape"] == [1, 4]


def test_the_models_are_listed_in_an_envelope(app: App) -> None:
    answer = bare(call(app, "GET", "/ai-api/models/search?per_page=5"))

    assert isinstance(answer, dict)
    assert [model["name"] for model in answer["result"]] == [TINY]


@pytest.mark.parametrize(
    ("headers", "body", "status", "code", "text"),
    [
        ({"cf-consn-model-id": "@cf/none/such"}, {"inputs": {"text": "x"}}, 400, 5007, "such"),
        ({"cf-consn-model-id": ""}, {"inputs": {"text": "x"}}, 400, 40092, "cf-consn-model-id"),
        ({}, {"inputs": {"prompt": "x"}}, 400, 5006, "text"),
        ({}, {"text": "x"}, 400, 5006, "inputs"),
        ({}, {"inputs": {"text": [1]}}, 400, 5006, "text"),
        ({}, b"not json", 400, 5004, "Invalid data"),
        ({}, {"inputs": {"text": ["x"] * 101}}, 400, 5006, "100"),
    ],
)
def test_a_wrong_run_is_refused_with_its_code(
    app: App, headers: dict[str, str], body: object, status: int, code: int, text: str
) -> None:
    answer = call(app, "POST", "/run?version=3", body, headers={**AI, **headers})

    found_status, found, message = refused(answer)
    assert (found_status, found) == (status, code)
    assert text in message
