"""A model is looked for before its body is looked at, on every way to run one."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import Received, application, call
from tests.support.embedder import TINY
from vicinal.server.app import App

AI = "/client/v4/accounts/acme/ai"
LLAMA = "@cf/meta/llama-3.1-8b-instruct"
FORWARDED = {"X-Forwarded": "http://workers-binding.ai/run?version=3"}

BODIES: dict[str, Any] = {
    "messages": {"messages": [{"role": "user", "content": "hi"}]},
    "a prompt": {"prompt": "a llama"},
    "a prompt for a picture": {"prompt": "a llama", "num_steps": 4},
    "what to rank": {"query": "a", "contexts": [{"text": "b"}]},
    "a picture": {"image": [1, 2, 3], "prompt": "what is it?"},
    "text": {"text": "a"},
    "text to translate": {"text": "a", "source_lang": "en", "target_lang": "fr"},
    "nothing": {},
    "a list": [1],
}
RAW = {"no JSON": b"{", "an empty body": b"", "sound": b"RIFF\xff\xfe\x00WAVE"}


@pytest.fixture
def app(tmp_path: Path) -> App:
    return application(tmp_path)


def run_every_way(app: App, model: str, body: Any) -> list[Received]:
    """Run a model over REST, by the binding, through a gateway and by an older wrangler."""
    wrapped = body if isinstance(body, bytes) else {"inputs": body, "options": {}}
    headers = {"cf-consn-model-id": model, "X-Vectorize-Account": "acme"}
    return [
        call(app, "POST", f"{AI}/run/{model}", body),
        call(app, "POST", f"{AI}/run/{model.replace('/', '%2F')}", body),
        call(app, "POST", "/run?version=3", wrapped, headers=headers),
        call(app, "POST", "/ai-gateway/run?version=3", wrapped, headers=headers),
        call(app, "POST", f"{AI}/run/proxy", wrapped, headers=headers | FORWARDED),
    ]


@pytest.mark.parametrize("model", [LLAMA, "@cf/baai/bge-reranker-base", "no-such", "x" * 5_000])
@pytest.mark.parametrize("body", [*BODIES.values(), *RAW.values()], ids=[*BODIES, *RAW])
def test_a_model_that_is_not_here_is_refused_whatever_the_body(
    app: App, model: str, body: Any
) -> None:
    for answer in run_every_way(app, model, body):
        assert answer.status == 400
        (error,) = answer.json["errors"]
        assert error["code"] == 5007
        assert error["message"].startswith(f"no model is named '{model[:100]}")
        assert f"Vicinal runs text embeddings, with {TINY}" in error["message"]


def test_with_a_model_that_is_here_the_body_is_looked_at(app: App) -> None:
    for answer in run_every_way(app, TINY, BODIES["messages"]):
        assert answer.status == 400
        assert answer.json["errors"][0]["code"] == 5006


@pytest.mark.parametrize("path", ["/run", "/run?version=3", "/ai-gateway/run?version=3"])
def test_an_older_wrangler_gets_the_bare_answer(app: App, path: str) -> None:
    headers = {"X-Forwarded": f"http://workers-binding.ai{path}", "cf-consn-model-id": TINY}
    body = {"inputs": {"text": ["a", "bc"], "pooling": "cls"}, "options": {}}

    answer = call(app, "POST", f"{AI}/run/proxy", body, headers=headers)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "shape": [2, 4],
        "data": [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0]],
        "pooling": "cls",
    }


def test_an_older_wrangler_lists_models(app: App) -> None:
    url = "http://workers-binding.ai/ai-api/models/search?search=tiny"

    found = call(app, "GET", f"{AI}/run/proxy", headers={"X-Forwarded": url})
    nothing = call(app, "GET", f"{AI}/run/proxy", headers={"X-Forwarded": f"{url}x"})

    assert [each["name"] for each in found.result] == [TINY]
    assert nothing.result == []


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 400),
        ("GET", {}, 400),
        ("POST", {"X-Forwarded": "http://workers-binding.ai/elsewhere"}, 404),
        ("POST", {"X-Forwarded": "http://workers-binding.ai/ai-api/models/search"}, 404),
        ("GET", {"X-Forwarded": "http://workers-binding.ai/run?version=3"}, 404),
        ("POST", {"X-Forwarded": "http://[/run"}, 400),
        ("POST", {"X-Forwarded": ""}, 404),
        ("POST", FORWARDED, 400),  # and no model
    ],
)
def test_a_wrapped_request_that_cannot_be_is_refused_as_the_binding_reads(
    app: App, method: str, headers: dict[str, str], status: int
) -> None:
    answer = call(app, method, f"{AI}/run/proxy", {"inputs": {}}, headers=headers)

    assert answer.status == status
    assert answer.json["errors"][0]["message"] == answer.json["error"]


def test_a_wrapped_request_is_for_the_account_of_the_path(tmp_path: Path) -> None:
    app = application(tmp_path, tokens=["secret"])
    headers = FORWARDED | {"cf-consn-model-id": TINY, "X-Vectorize-Account": "../other"}
    body = {"inputs": {"text": "a"}}

    assert call(app, "POST", f"{AI}/run/proxy", body, headers=headers).status == 401
    headers["Authorization"] = "Bearer secret"
    assert call(app, "POST", f"{AI}/run/proxy", body, headers=headers).status == 200


def test_openai_clients_list_the_models_and_ask_for_one(app: App) -> None:
    listed = call(app, "GET", f"{AI}/v1/models").json

    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == [TINY]
    for name in (TINY, TINY.replace("/", "%2F")):
        assert call(app, "GET", f"{AI}/v1/models/{name}").json == listed["data"][0]
    assert call(app, "GET", f"{AI}/v1/models/gpt-4").json["error"]["code"] == "5007"
