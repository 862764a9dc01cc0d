"""Texts are scored against a query: by a cross-encoder, or by a service."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.model_files import tiny_folder
from tests.support.rerankers import pair_folder
from vicinal.embeddings import cross_encoder, models
from vicinal.embeddings.build import build_embedder, build_reranker
from vicinal.embeddings.remote_reranking import (
    BATCH_TEXTS_MAX,
    RemoteReranker,
    answer_bytes_max,
)
from vicinal.embeddings.reranking import LocalReranker
from vicinal.errors import (
    BadEmbeddingInput,
    Corruption,
    ModelNotFound,
    Overloaded,
    Unavailable,
)

NAME = "@cf/baai/bge-reranker-base"
TEXTS = ["the orange cloud", "", "a", "one two three four five six " * 30, "the orange cloud"]


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_a_score_is_the_logistic_function_of_the_head(tmp_path: Path, model_type: str) -> None:
    plain, head = pair_folder(tmp_path / "pairs", model_type)
    loaded = cross_encoder.load(tmp_path / "pairs", max_tokens=64, threads=1)

    scores = loaded.scores("which cloud?", TEXTS)

    for text, score in zip(TEXTS, scores.tolist(), strict=True):
        ids = np.array([plain.tokenizer.encode("which cloud?", text).ids], np.int64)
        states = plain._hidden_states(ids, np.ones_like(ids))  # noqa: SLF001  # tested elsewhere
        assert score == pytest.approx(float(1 / (1 + np.exp(-head(states)[0, 0]))), abs=1e-5)
    assert scores[0] == pytest.approx(scores[4], abs=1e-6)
    assert len(set(scores.round(4).tolist())) == 4


def test_the_folder_of_a_reranker_is_no_model_that_embeds(tmp_path: Path) -> None:
    pair_folder(tmp_path / "pairs", "bert")
    folders = {NAME: tmp_path / "pairs"}
    embedder = build_embedder(models_folder=tmp_path / "none", model_folders=folders)
    reranker = build_reranker(models_folder=tmp_path / "none", model_folders=folders, threads=1)

    assert NAME not in embedder.names()
    assert reranker.names() == [NAME]
    scores = reranker.rerank(NAME, "cloud", TEXTS[:2])
    assert scores.shape == (2,)
    with pytest.raises(ModelNotFound, match="'other'"):
        reranker.rerank("other", "cloud", TEXTS)
    with pytest.raises(BadEmbeddingInput, match="not valid Unicode"):
        reranker.rerank(NAME, "cloud", ["\ud800"])
    embedder.close()
    reranker.close()


def test_a_known_reranker_without_files_is_not_named(tmp_path: Path) -> None:
    paths = models.SearchPaths(tmp_path, tmp_path)
    reranker = LocalReranker(paths, threads=1, queue_max=10)

    assert reranker.names() == []
    with pytest.raises(ModelNotFound, match="model_folders"):
        reranker.rerank(NAME, "a", ["b"])


def test_a_model_without_such_a_head_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    with pytest.raises(Corruption, match="has no tensor"):
        cross_encoder.load(folder, max_tokens=64, threads=1)


Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


class Service(ThreadingHTTPServer):
    """Answers by a function; remembers what it was asked."""

    answer: Answer
    asked: list[tuple[str, dict[str, Any]]]


class Handler(BaseHTTPRequestHandler):
    """See `Service`."""

    server: Service

    def do_POST(self) -> None:  # the library's name
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body))
        status, content = self.server.answer(body)
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(service: Service) -> str:
    return f"http://127.0.0.1:{service.server_port}"


@pytest.mark.parametrize(
    "answer",
    [
        {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]},
        [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}],
    ],
)
def test_services_of_both_families_are_understood(service: Service, answer: Any) -> None:
    service.answer = lambda _: (200, json.dumps(answer).encode())
    reranker = RemoteReranker(f"{url(service)}/v1/rerank", models_there={"m": "there"})

    scores = reranker.rerank("m", "q", ["a" * 100_000, "b"])
    reranker.close()

    assert scores.tolist() == pytest.approx([0.1, 0.9])
    ((path, asked),) = service.asked
    assert path == "/v1/rerank"
    assert (asked["model"], asked["query"]) == ("there", "q")
    assert asked["documents"] == asked["texts"]
    assert len(asked["texts"][0]) < 100_000
    assert reranker.names() == ["m"]


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (200, b"{}", Unavailable),
        (200, b"[]", Unavailable),
        (200, b'[{"index":0,"score":1},{"index":0,"score":1}]', Unavailable),
        (200, b'[{"index":0,"score":1},{"index":7,"score":1}]', Unavailable),
        (200, b'[{"index":0,"score":1},{"index":1}]', Unavailable),
        (200, b'[{"index":0,"score":1},{"index":1,"score":1e300}]', Unavailable),
        (200, b'[{"index":0,"score":1},{"index":1,"score":NaN}]', Unavailable),
        (200, b'[{"index":0,"score":1},{"index":-1,"score":1}]', Unavailable),
        (200, b" " * (answer_bytes_max(["a", "b"]) + 1), Unavailable),
        (400, b"", BadEmbeddingInput),
        (404, b"", ModelNotFound),
        (500, b"", Unavailable),
        (429, b"", Overloaded),
    ],
)
def test_an_answer_is_checked_before_it_is_believed(
    service: Service, status: int, content: bytes, error: type[Exception]
) -> None:
    service.answer = lambda _: (status, content)
    reranker = build_reranker(remote_url=url(service))

    with pytest.raises(error, match=url(service)):
        reranker.rerank(NAME, "q", ["a", "b"])
    reranker.close()


def test_many_texts_are_sent_in_parts(service: Service) -> None:
    def answer(asked: Any) -> tuple[int, bytes]:
        scores = [{"index": n, "score": float(text)} for n, text in enumerate(asked["texts"])]
        return 200, json.dumps(scores).encode()

    service.answer = answer
    reranker = RemoteReranker(url(service))
    texts = [str(number) for number in range(2 * BATCH_TEXTS_MAX + 1)]

    scores = reranker.rerank(NAME, "q", texts)
    reranker.close()

    assert [len(asked["texts"]) for _, asked in service.asked] == [32, 32, 1]
    assert scores.tolist() == list(range(65))


def test_all_parts_of_a_call_share_its_time(service: Service) -> None:
    def answer(asked: Any) -> tuple[int, bytes]:
        threading.Event().wait(0.3)  # how slow the service is
        scores = [{"index": n, "score": 1.0} for n in range(len(asked["texts"]))]
        return 200, json.dumps(scores).encode()

    service.answer = answer
    reranker = RemoteReranker(url(service), timeout_s=1.0)

    with pytest.raises(Unavailable, match="takes more than 1 seconds"):
        reranker.rerank(NAME, "q", ["a"] * 4 * BATCH_TEXTS_MAX)
    reranker.close()


def test_a_service_that_is_not_there_is_unavailable() -> None:
    reranker = RemoteReranker("http://127.0.0.1:1", pause_s=0.0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        reranker.rerank(NAME, "q", ["a"])
    with pytest.raises(ModelNotFound, match="no model that ranks is named 'other'"):
        reranker.rerank("other", "q", ["a"])
    reranker.close()


def test_no_text_waits_after_a_call_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair_folder(tmp_path / "pairs", "bert")
    paths = models.SearchPaths(tmp_path, tmp_path, {NAME: tmp_path / "pairs"})
    reranker = LocalReranker(paths, threads=1, queue_max=1)
    budget = reranker._texts  # noqa: SLF001  # nothing else tells that no text is left
    seen: list[int] = []

    def fail(*_: object) -> None:
        seen.append(budget.used)
        raise MemoryError

    monkeypatch.setattr(cross_encoder.CrossEncoder, "scores", fail)
    with pytest.raises(MemoryError):
        reranker.rerank(NAME, "cloud", TEXTS)
    assert seen == [len(TEXTS)]
    assert budget.used == 0
    with pytest.raises(ModelNotFound):
        reranker.rerank("other", "cloud", TEXTS)
    assert budget.used == 0
    assert budget.acquire(1)
    with pytest.raises(Overloaded):
        reranker.rerank(NAME, "cloud", TEXTS)
    assert budget.used == 1
