"""Queries with words, and those that need a model, through the server."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.asgi import INDEXES, application, call
from tests.support.embedder import TINY
from tests.support.inline import InlineEngine, open_inline
from vicinal.model import Floats
from vicinal.server.app import App

LINES = b"""\
{"id":"a","values":[0,1,0,0],"metadata":{"text":"Foxes run","url":"u"}}
{"id":"b","values":[0,0,1,0],"metadata":{"text":"a fox","url":"u"}}
{"id":"c","values":[0,0,0,1],"metadata":{"text":["dogs","fox"],"url":"v"}}
{"id":"d","values":[1,0,0,0]}"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[InlineEngine]:
    opened = open_inline(tmp_path / "engine")
    yield opened
    opened.close()


class LengthReranker:
    """Scores a text by its length, in tenths."""

    def names(self) -> Sequence[str]:
        return ["@cf/test/lengths"]

    def rerank(self, model: str, query: str, texts: Sequence[str]) -> Floats:
        assert model in self.names()
        assert query
        return np.array([len(text) / 10 for text in texts], np.float32)

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture
def app(engine: InlineEngine, tmp_path: Path) -> App:
    app = application(tmp_path, engine=engine, reranker=LengthReranker())
    create(app, "docs", model=TINY)
    return app


def create(app: App, name: str, **config: str) -> None:
    config = {"dimensions": 4, "metric": "cosine", **config}  # type: ignore[dict-item]  # JSON
    call(app, "POST", INDEXES, {"name": name, "config": config}).result  # noqa: B018
    for document in (
        {"propertyName": "text", "indexType": "text", "language": "english"},
        {"propertyName": "url", "indexType": "string"},
    ):
        call(app, "POST", f"{INDEXES}/{name}/metadata_index/create", document).result  # noqa: B018
    headers = {"content-type": "application/x-ndjson"}
    call(app, "POST", f"{INDEXES}/{name}/upsert", LINES, headers=headers).result  # noqa: B018


def query(app: App, name: str = "docs", **body: Any) -> Any:
    return call(app, "POST", f"{INDEXES}/{name}/query", body).result["matches"]


def refused(app: App, name: str = "docs", **body: Any) -> tuple[int | None, int, str]:
    return call(app, "POST", f"{INDEXES}/{name}/query", body).error


def ids(matches: Any) -> list[str]:
    return [match["id"] for match in matches]


def test_a_text_index_is_listed_with_its_language(app: App) -> None:
    listed = call(app, "GET", f"{INDEXES}/docs/metadata_index/list").result

    assert listed["metadataIndexes"] == [
        {"propertyName": "text", "indexType": "text", "language": "english"},
        {"propertyName": "url", "indexType": "string"},
    ]


def test_words_alone_find_what_has_them(app: App) -> None:
    matches = query(app, text="foxes", returnHighlights=True, filter={"url": "v"})

    assert ids(matches) == ["c"]
    assert matches[0]["highlights"] == [{"property": "text", "element": 1, "start": 0, "end": 3}]
    assert set(matches[0]) == {"id", "score", "highlights"}


def test_words_and_a_vector_tell_both_scores(app: App) -> None:
    both: dict[str, Any] = {"text": "dog", "vector": [0, 1, 0, 0], "returnScores": True}
    matches = query(app, **both, hybrid={"fusion": "ranks"})

    assert ids(matches) == ["c", "a", "b", "d"]
    assert ids(query(app, **both)) == ["a", "c", "b", "d"]  # by scores
    assert matches[0]["scores"]["vector"] == {"score": 0, "rank": 3}
    assert matches[0]["scores"]["text"]["rank"] == 1
    assert matches[1]["scores"]["text"] == {"score": 0}


def test_a_binding_may_give_an_empty_vector_beside_a_text(app: App) -> None:
    headers = {"x-vectorize-account": "acme", "x-vectorize-index": "docs"}
    answer = call(app, "POST", "/query", {"vector": [], "text": "run"}, headers=headers)

    assert ids(answer.json["matches"]) == ["a"]


def test_a_text_is_embedded_by_the_model_of_the_index(app: App) -> None:
    text = "dog"  # of three characters: the tiny model puts it on the last axis
    by_vector = query(app, text=text, vector=[0, 0, 0, 1], returnScores=True)

    assert query(app, text=text, hybrid=True, returnScores=True) == by_vector
    assert query(app, text=text, hybrid={"textShare": 0}, topK=1)[0]["id"] == "c"


def test_without_a_known_model_the_vector_has_to_be_given(app: App) -> None:
    create(app, "bare")

    status, code, message = refused(app, "bare", text="dog", hybrid=True)

    assert (status, code) == (400, 40085)
    assert "it is not known which model made the vectors" in message
    assert ids(query(app, "bare", text="dog", hybrid=True, vectorId="b"))[0] in "bc"


def test_escaped_names_of_members_count_as_well(app: App) -> None:
    body = b'{"\\u0074ext": "dog", "hybrid": true, "topK": 1}'
    answer = call(app, "POST", f"{INDEXES}/docs/query", body)

    assert ids(answer.result["matches"]) == ["c"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"text": ""}, "text: must have words in it"),
        ({"text": "a" * 10_000}, "text: max is 8192 bytes, got 10000 bytes"),
        ({"text": "a", "textWeights": {"url": 1}}, "the property 'url' has no text index"),
        ({"vector": [1, 0, 0, 0], "groupBy": {"property": "x"}}, "'x' has no metadata index"),
        ({"mmr": {}}, "expected one of vector and vectorId"),
    ],
)
def test_what_cannot_be_answered_is_refused(app: App, body: Any, complaint: str) -> None:
    status, _, message = refused(app, **body)

    assert status == 400
    assert complaint in message


def test_a_filter_on_a_text_index_is_told_to_match_nothing(app: App) -> None:
    body = {"vector": [1, 0, 0, 0], "filter": {"text": "x"}}
    answer = call(app, "POST", f"{INDEXES}/docs/query", body)

    assert answer.result["matches"] == []
    assert "the filter on 'text' matches nothing" in answer.json["messages"][0]["message"]


def test_the_best_matches_are_ranked_again_by_a_model(app: App) -> None:
    rerank = {"property": "text"}
    matches = query(app, text="fox", topK=2, rerank=rerank, returnScores=True)

    assert [(match["id"], match["score"]) for match in matches] == [("a", 0.9), ("c", 0.8)]
    assert matches[0]["scores"]["rerank"] == 0.9
    assert set(matches[0]) == {"id", "score", "scores"}
    by_vector = query(app, text="x", vector=[1, 0, 0, 0], topK=4, rerank=rerank)
    assert ids(by_vector) == ["a", "c", "b", "d"]
    assert query(app, text="absent", rerank=rerank) == []
    few = query(app, text="fox", topK=1, rerank={**rerank, "fetchK": 1})
    assert few == [{"id": "a", "score": 0.9}]


def test_a_model_that_does_not_rank_here_is_refused(
    app: App, engine: InlineEngine, tmp_path: Path
) -> None:
    rerank = {"property": "text", "model": "m"}
    assert "known are @cf/test/lengths" in refused(app, text="fox", rerank=rerank)[2]
    (tmp_path / "none").mkdir()
    without = application(tmp_path / "none", engine=engine)
    assert "known are none" in refused(without, text="fox", rerank={"property": "text"})[2]


def test_texts_are_ranked_as_on_the_platform(app: App) -> None:
    path = "/client/v4/accounts/acme/ai/run/@cf/test/lengths"
    body = {"query": "q", "contexts": [{"text": "aa"}, {"text": "aaaa"}, {"text": "a"}]}

    best = [{"id": 1, "score": 0.4}, {"id": 0, "score": 0.2}, {"id": 2, "score": 0.1}]
    assert call(app, "POST", path, body).result == {"response": best}
    assert call(app, "POST", path, {**body, "top_k": 2}).result == {"response": best[:2]}
    headers = {"x-vectorize-account": "acme", "cf-consn-model-id": "@cf/test/lengths"}
    bound = call(app, "POST", "/run", {"inputs": body, "options": {}}, headers=headers)
    assert bound.json == {"response": best}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"contexts": [{"text": "a"}]}, "Object missing required field `query`"),
        ({"query": "", "contexts": [{"text": "a"}]}, "query: must not be empty"),
        ({"query": "a", "contexts": []}, "contexts: expected 1 to 100 texts, got 0"),
        ({"query": "a", "contexts": [{"text": "a"}] * 101}, "expected 1 to 100 texts, got 101"),
        ({"query": "a", "contexts": ["a"]}, "contexts[0]: Expected `object`, got `str`"),
        ({"query": "a", "contexts": [{"text": "a"}], "top_k": 0}, "top_k: must be at least 1"),
    ],
)
def test_texts_that_cannot_be_ranked_are_refused(app: App, body: Any, complaint: str) -> None:
    path = "/client/v4/accounts/acme/ai/run/@cf/test/lengths"
    status, code, message = call(app, "POST", path, body).error

    assert (status, code) == (400, 5006)
    assert complaint in message
