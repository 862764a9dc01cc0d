"""A request to a remote binding is unwrapped to the one that the binding made, or refused."""

import json
from pathlib import Path

import pytest

from tests.support.asgi import Conversation, Received, application, call
from tests.support.embedder import TINY
from tests.support.engines import create
from tests.support.model_engine import ModelEngine
from vicinal.model import IndexAddress
from vicinal.server.app import App
from vicinal.tokens import Permission, Tokens

ONE = b'{"id":"a","values":[1,0]}'


@pytest.fixture
def app(tmp_path: Path) -> App:
    engine = ModelEngine()
    create(engine)
    create(engine, IndexAddress("acme", "faq"))
    return application(tmp_path, engine=engine, tokens=["secret"])


def proxied(
    app: App,
    method: str,
    url: str,
    body: bytes | object = b"",
    *,
    binding: str = "VECTORIZE",
    connection: str = "/miniflare/acme?token=secret&index.VECTORIZE=docs&index.FAQ=faq",
    headers: dict[str, str] | None = None,
    conversation: Conversation | None = None,
) -> Received:
    """Make a request as Miniflare does: everything of the binding's own in MF headers."""
    wrapped = {"MF-URL": url, "MF-Binding": binding, "MF-Header-Host": "vector-search"}
    return call(
        app, method, connection, body, headers=wrapped | (headers or {}), conversation=conversation
    )


def refused(answer: Received) -> tuple[int | None, int, str]:
    error = json.loads(answer.body)
    return answer.status, error["code"], error["error"]


def test_each_binding_reaches_its_own_index(app: App) -> None:
    proxied(app, "POST", "http://vector-search/upsert", ONE, binding="FAQ")

    faq = proxied(app, "GET", "http://vector-search/info", binding="FAQ")
    docs = proxied(app, "GET", "http://vector-search/info")

    assert (faq.status, docs.status) == (200, 200)
    assert faq.headers["content-type"] == "application/json"
    assert (faq.json["vectorCount"], docs.json["vectorCount"]) == (1, 0)


def test_a_body_without_a_length_arrives_whole(app: App) -> None:
    answer = proxied(
        app,
        "POST",
        "http://vector-search/insert",
        headers={"Transfer-Encoding": "chunked", "MF-Header-Content-Type": "application/x-ndjson"},
        conversation=Conversation((ONE[:9], ONE[9:])),
    )

    assert answer.status == 200, answer.body
    got = proxied(app, "POST", "http://vector-search/getByIds", {"ids": ["a"]})
    assert [vector["id"] for vector in got.json] == ["a"]


def test_the_model_and_the_query_string_of_an_ai_binding_are_unwrapped(app: App) -> None:
    run = proxied(
        app,
        "POST",
        "https://workers-binding.ai/run?version=3",
        {"inputs": {"text": ["abc"]}},
        binding="AI",
        headers={"MF-Header-cf-consn-model-id": TINY},
    )
    models = proxied(
        app, "GET", "https://workers-binding.ai/ai-api/models/search?search=nothing", binding="AI"
    )

    assert run.json["shape"] == [1, 4]
    assert models.json["result"] == []


def test_a_binding_that_is_not_mapped_is_told_what_is_and_what_to_add(app: App) -> None:
    answer = proxied(app, "POST", "http://vector-search/query", {"vector": [1, 0]}, binding="DOCS")

    status, code, message = refused(answer)
    assert (status, code) == (400, 40092)
    assert "'DOCS'" in message
    assert "VECTORIZE, FAQ" in message
    assert "index.DOCS=INDEX" in message


@pytest.mark.parametrize("token", ["wrong", "", None])
def test_a_wrong_token_or_none_is_refused(app: App, token: str | None) -> None:
    said = "" if token is None else f"token={token}&"

    answer = proxied(
        app,
        "GET",
        "http://vector-search/info",
        connection=f"/miniflare/acme?{said}index.VECTORIZE=docs",
    )

    assert refused(answer)[:2] == (401, 9106)


def test_a_token_that_may_only_read_may_only_read(app: App) -> None:
    tokens = app.services.tokens
    assert isinstance(tokens, Tokens)
    _, reader = tokens.create("reader", Permission.READ)
    connection = f"/miniflare/acme?token={reader}&index.VECTORIZE=docs"

    info = proxied(app, "GET", "http://vector-search/info", connection=connection)
    insert = proxied(app, "POST", "http://vector-search/insert", ONE, connection=connection)

    assert info.status == 200
    assert refused(insert)[:2] == (403, 10000)


def test_a_token_may_come_in_the_header_of_the_outer_request(app: App) -> None:
    answer = proxied(
        app,
        "GET",
        "http://vector-search/info",
        connection="/miniflare/acme?index.VECTORIZE=docs",
        headers={"Authorization": "Bearer secret"},
    )

    assert answer.status == 200


def test_a_worker_cannot_choose_another_index_or_account_by_headers(app: App) -> None:
    answer = proxied(
        app,
        "GET",
        "http://vector-search/info",
        headers={
            "MF-Header-X-Vectorize-Index": "nope",
            "MF-Header-X-Vectorize-Account": "other",
            "MF-Header-Authorization": "Bearer wrong",
            "X-Vectorize-Index": "nope",
        },
    )

    assert answer.status == 200


def test_errors_arrive_with_their_code(app: App) -> None:
    answer = proxied(app, "POST", "http://vector-search/query", {"vector": [1, 2, 3]})

    assert refused(answer) == (
        400,
        40006,
        "invalid query vector, expected 2 dimensions, and got 3 dimensions",
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://vector-search/binding/indexes/docs/query",
        "http://vector-search/client/v4/accounts/acme/vectorize/v2/indexes",
        "https://workers-binding.ai/to-markdown/supported",
        "http://vector-search",
    ],
)
def test_what_neither_an_index_nor_ai_has_is_not_there(app: App, url: str) -> None:
    status, code, message = refused(proxied(app, "POST", url, b"{}"))

    assert (status, code) == (404, 7003)
    assert "VECTORIZE" in message


def test_an_attempt_to_open_a_websocket_is_refused(app: App) -> None:
    answer = call(
        app,
        "GET",
        "/miniflare/acme?token=secret&index.VECTORIZE=docs&MF-Binding=VECTORIZE",
        headers={"Connection": "Upgrade", "Upgrade": "websocket"},
    )

    status, _, message = refused(answer)
    assert status == 400
    assert "MF-URL" in message


@pytest.mark.parametrize("path", ["/miniflare/", "/miniflare/a/b", "/miniflare/a%2Fb"])
def test_only_an_account_is_taken_in_the_path(app: App, path: str) -> None:
    answer = proxied(app, "GET", "http://vector-search/info", connection=f"{path}?token=secret")

    assert refused(answer)[:2] == (404, 7003)


def test_a_connection_string_of_too_many_parameters_is_refused(app: App) -> None:
    many = "&".join(f"index.B{number}=docs" for number in range(300))

    answer = proxied(
        app, "GET", "http://vector-search/info", connection=f"/miniflare/acme?token=secret&{many}"
    )

    assert refused(answer)[:2] == (400, 40092)


def test_two_hundred_bindings_fit_into_a_connection_string(app: App) -> None:
    many = "&".join(f"index.B{number}=docs" for number in range(200))

    answer = proxied(
        app,
        "GET",
        "http://vector-search/info",
        binding="B199",
        connection=f"/miniflare/acme?token=secret&{many}",
    )

    assert answer.status == 200
