"""Queries are answered while backfills and models take as long as they like."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.asgi import INDEXES, application
from tests.support.engines import Record, create, upsert
from tests.support.rude_service import Connection, rude_service
from tests.support.server import in_thread
from tests.support.waiting import wait_until
from vicinal.embeddings.remote import RemoteEmbedder
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.keywords.analyzer import Analyzer
from vicinal.model import IndexAddress
from vicinal.server.api.services import ServerConfig

THREADS = 2
ANSWERED_WITHIN_S = 30.0
AI_RUN = "/client/v4/accounts/acme/ai/run"
EMBEDDING, RERANKING = "@cf/baai/bge-small-en-v1.5", "@cf/baai/bge-reranker-base"


@pytest.mark.parametrize("count", [THREADS, 5])
def test_backfills_of_texts_take_no_thread_of_queries(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    may_go_on, held = threading.Event(), threading.Semaphore(0)
    real = Analyzer.terms

    def terms(analyzer: Analyzer, texts: Any) -> list[str]:
        held.release()
        assert may_go_on.wait(4 * ANSWERED_WITHIN_S)
        return real(analyzer, texts)

    config = ServerConfig(threads=THREADS)
    with closing(EmbeddedEngine.open(memory_path)) as engine:
        addresses = [IndexAddress("acme", name) for name in ["docs", *map(str, range(count))]]
        for address in addresses:
            create(engine, address)
            upsert(engine, Record("a", [1, 0], "", {"text": "word"}), address=address)
        monkeypatch.setattr(Analyzer, "terms", terms)
        app = application(memory_path, engine=engine, config=config)
        with (
            in_thread(app) as server,
            ThreadPoolExecutor(count) as clients,
            httpx.Client(base_url=f"{server.origin}{INDEXES}") as client,
        ):

            def backfill(number: int) -> httpx.Response:
                wanted = {"propertyName": "text", "indexType": "text", "backfill": True}
                path = f"/{number}/metadata_index/create"
                seen = {"prefer": f"wait={ANSWERED_WITHIN_S:.0f}"}  # by queries
                return client.post(path, json=wanted, headers=seen, timeout=6 * ANSWERED_WITHIN_S)

            try:
                answers = [clients.submit(backfill, number) for number in range(count)]
                for _ in range(min(count, THREADS)):
                    assert held.acquire(timeout=ANSWERED_WITHIN_S)
                found = client.post(
                    "/docs/query", json={"vector": [1, 0]}, timeout=ANSWERED_WITHIN_S
                )
            finally:
                may_go_on.set()
            assert [answer.result().status_code for answer in answers] == [200] * count
            after = client.post("/0/query", json={"text": "word"}, timeout=ANSWERED_WITHIN_S)

        assert [match["id"] for match in found.json()["result"]["matches"]] == ["a"]
        assert after.status_code == 200, after.text
        assert [match["id"] for match in after.json()["result"]["matches"]] == ["a"]
        assert all(engine.list_metadata_indexes(address) for address in addresses[1:])


class _Reranker:
    """Ranks at once."""

    def names(self) -> list[str]:
        return [RERANKING]

    def rerank(self, _model: str, _query: str, texts: Any) -> Any:
        return np.arange(len(texts), dtype=np.float32)

    def close(self) -> None:
        """Do nothing."""


def test_texts_that_a_hanging_service_embeds_hold_up_neither_queries_nor_reranking(
    memory_path: Path,
) -> None:
    config = ServerConfig(threads=THREADS, embedding_threads=THREADS)
    with (
        rude_service(Connection.hang) as service,
        closing(EmbeddedEngine.open(memory_path)) as engine,
        closing(RemoteEmbedder(service.url, models={EMBEDDING: "there"})) as embedder,
    ):
        create(engine)
        upsert(engine, Record("a", [1, 0], "", {}))
        app = application(
            memory_path, engine=engine, config=config, embedder=embedder, reranker=_Reranker()
        )
        with (
            in_thread(app) as server,
            ThreadPoolExecutor(2 * THREADS) as clients,
            httpx.Client(base_url=server.origin, timeout=ANSWERED_WITHIN_S) as client,
        ):
            hanging = [
                clients.submit(
                    client.post,
                    f"{AI_RUN}/{EMBEDDING}",
                    json={"text": ["a cat"]},
                    timeout=6 * ANSWERED_WITHIN_S,
                )
                for _ in range(2 * THREADS)
            ]
            wait_until(lambda: service.open_count == THREADS)

            found = client.post(f"{INDEXES}/docs/query", json={"vector": [1, 0]})
            contexts = [{"text": "a"}, {"text": "b"}]
            ranked = client.post(
                f"{AI_RUN}/{RERANKING}", json={"query": "cats", "contexts": contexts}
            )
            embedder.close()
            assert [answer.result().status_code for answer in hanging] == [503] * len(hanging)

        assert found.json()["result"]["count"] == 1
        assert [each["id"] for each in ranked.json()["result"]["response"]] == [1, 0]
