"""The header Vicinal-Explain adds to the answer how it was found, and nothing else does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import call
from tests.support.embedder import TinyEmbedder
from vicinal.d1 import Databases
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App, build
from vicinal.tokens import Tokens

INDEXES = "/client/v4/accounts/acme/vectorize/v2/indexes"
QUERY = b'{"vector":[1,0]}'


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An app on the embedded engine, with two vectors in the index `docs`."""
    engine, tokens = EmbeddedEngine.open(tmp_path), Tokens(tmp_path / "tokens.db")
    app = build(engine, TinyEmbedder(), tokens, Databases(tmp_path / "d1"), ServerConfig())
    call(app, "POST", INDEXES, {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}})
    vectors = {"vectors": [{"id": "a", "values": [1, 0]}, {"id": "b", "values": [0, 1]}]}
    call(app, "POST", f"{INDEXES}/docs/upsert", vectors, headers={"prefer": "wait=30"})
    yield app
    app.services.workers.close()
    app.services.embedding_workers.close()
    tokens.close()
    engine.close()


def test_an_answer_says_how_it_was_found_when_asked(app: App) -> None:
    answer = call(app, "POST", f"{INDEXES}/docs/query", QUERY, headers={"vicinal-explain": "true"})

    (step,) = answer.json["result"]["explain"]
    assert step["part"] == "memtable"
    assert (step["vectorCount"], step["selectedCount"], step["measuredCount"]) == (2, 2, 2)
    assert step["scoredCount"] == 2
    assert step["method"] == "exact scan"
    assert step["selectMs"] >= 0


def test_an_answer_by_words_says_how_they_were_found(app: App) -> None:
    call(app, "POST", f"{INDEXES}/docs/metadata_index/create",
         {"propertyName": "text", "indexType": "text"})  # fmt: skip
    vectors = {"vectors": [{"id": "c", "values": [1, 0], "metadata": {"text": "a red fox"}}]}
    call(app, "POST", f"{INDEXES}/docs/upsert", vectors, headers={"prefer": "wait=30"})

    def step(body: bytes) -> dict[str, Any]:
        asked = {"vicinal-explain": "true"}
        answer = call(app, "POST", f"{INDEXES}/docs/query", body, headers=asked)
        (only,) = answer.json["result"]["explain"]
        return dict(only)

    alone, both = step(b'{"text":"red fox"}'), step(b'{"text":"red fox","vector":[1,0]}')

    assert (alone["method"], both["method"]) == ("words", "exact scan")
    assert (alone["scoredCount"], both["scoredCount"]) == (0, 3)
    for words in (alone["words"], both["words"]):
        assert (words["scoredCount"], words["postingCount"]) == (1, 2)
        assert words["searchMs"] >= 0
    assert "words" not in step(QUERY)
    described = call(app, "GET", "/openapi.json").json["components"]["schemas"]
    assert "words" in described["SearchStep"]["properties"]
    assert "words" not in described["SearchStep"]["required"]
    assert "postingCount" in described["WordsStep"]["properties"]


@pytest.mark.parametrize("headers", [{}, {"vicinal-explain": "false"}])
def test_an_answer_says_nothing_of_it_unless_asked(app: App, headers: dict[str, str]) -> None:
    answer = call(app, "POST", f"{INDEXES}/docs/query", QUERY, headers=headers)

    assert set(answer.json["result"]) == {"count", "matches"}


def test_a_header_that_is_neither_true_nor_false_is_refused(app: App) -> None:
    answer = call(app, "POST", f"{INDEXES}/docs/query", QUERY, headers={"vicinal-explain": "1"})

    assert answer.status == 400
    assert "'true' or 'false'" in answer.json["errors"][0]["message"]
