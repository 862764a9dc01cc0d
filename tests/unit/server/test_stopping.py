"""A server ends within its time, whoever it waits for."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.asgi import INDEXES, application
from tests.support.embedding_service import Answer, Asked, embedding_service
from tests.support.engines import DOCS, Record, create, upsert
from tests.support.holding import Held
from tests.support.server import in_process, in_thread
from tests.support.waiting import wait_until
from vicinal.engine import resolution
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.keywords.analyzer import Analyzer
from vicinal.maps import neighbors
from vicinal.maps.axes import Axes
from vicinal.segment import build
from vicinal.segment.segment import SegmentView
from vicinal.server.api import maps

ENDS_WITHIN_S = 45.0
"""Less than the minute after which a call of a model at another server is given up."""

CALLS = {
    "@cf/baai/bge-small-en-v1.5": {"text": ["a cat"]},
    "@cf/baai/bge-reranker-base": {"query": "cats", "contexts": [{"text": "a cat"}]},
}


def test_a_server_does_not_wait_for_models_that_do_not_answer(tmp_path: Path) -> None:
    released = threading.Event()

    def hold(_: Asked) -> Answer:
        assert released.wait(180)
        return Answer({}, status=500)

    with embedding_service(hold) as service, ThreadPoolExecutor() as clients:
        try:
            models = ("--embedding-url", service.url, "--reranking-url", service.url)
            with in_process(tmp_path, arguments=(*models, "--shutdown-timeout-s", "0")) as server:

                def ask(model: str) -> httpx.Response:
                    return httpx.post(
                        f"{server.base_url}/accounts/{server.account}/ai/run/{model}",
                        json=CALLS[model],
                        headers={"Authorization": f"Bearer {server.token}"},
                        timeout=180,
                    )

                answers = [clients.submit(ask, model) for model in CALLS]
                wait_until(lambda: len(service.asked) == len(CALLS))
                assert server.process is not None
                server.process.terminate()

                assert server.process.wait(ENDS_WITHIN_S) == 0
                assert [each.result().status_code for each in answers] == [503, 503]
        finally:
            released.set()


@dataclass(frozen=True, slots=True)
class Work:
    """A request whose work takes long: its route below the index, its body, and a function that the
    work calls for each of its parts."""

    path: str
    body: Mapping[str, object]
    part: tuple[object, str]


WORK = {
    "a backfill": Work(
        "metadata_index/create",
        {"propertyName": "text", "indexType": "text", "backfill": True},
        (Analyzer, "terms"),
    ),
    "a patch": Work(
        "vectors/patch", {"all": True, "metadata": {"a": 1}}, (resolution, "_patched_documents")
    ),
    "a deletion": Work("vectors/delete", {"all": True}, (SegmentView, "ids")),
    "a map by axes": Work("vectors/map", {}, (np.linalg, "qr")),
    "a map by neighbours": Work("vectors/map", {"layout": "neighbors"}, (neighbors, "_pulled")),
    "a sample": Work("vectors/map", {}, (Axes, "project")),
}
ROWS = 12


@pytest.fixture
def is_stopping(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once threads are waited for."""
    event, real = threading.Event(), ThreadPoolExecutor.shutdown

    def shutdown(pool: ThreadPoolExecutor, *args: bool, **named: bool) -> None:
        event.set()
        real(pool, *args, **named)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    return event


@pytest.mark.parametrize("name", WORK)
def test_work_that_takes_long_is_given_up_between_its_parts(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, is_stopping: threading.Event, name: str
) -> None:
    """However many parts it has: none begins once the server has been told to stop."""
    monkeypatch.setattr(build, "CHUNK_ROWS", 1)
    monkeypatch.setattr(resolution, "CHUNK_ROWS", 1)
    monkeypatch.setattr(maps, "PART_ROWS", 1)
    work, records = (
        WORK[name],
        [Record(f"v{n}", [n, 1], "", {"text": f"word {n}"}) for n in range(ROWS)],
    )
    with closing(EmbeddedEngine.open(memory_path)) as engine:
        create(engine)
        upsert(engine, *records)
        engine.compact(DOCS)
        before = engine.status(DOCS)
        held = Held(monkeypatch, *work.part)
        answers: list[httpx.Response] = []
        with in_thread(application(memory_path, engine=engine), shutdown_timeout_s=0) as server:

            def ask() -> None:
                url = f"{server.origin}{INDEXES}/docs/{work.path}"
                answers.append(httpx.post(url, json=work.body, timeout=180))

            def let_go() -> None:
                assert is_stopping.wait(180)
                held.go_on()

            threads = [threading.Thread(target=each) for each in (ask, let_go)]
            for thread in threads:
                thread.start()
            held.wait()
            parts_begun = held.call_count
        for thread in threads:
            thread.join()

        assert held.call_count == parts_begun
        assert [answer.status_code for answer in answers] == [503]
        assert engine.status(DOCS) == before
        assert not engine.list_metadata_indexes(DOCS)
    with closing(EmbeddedEngine.open(memory_path)) as engine:
        assert engine.status(DOCS) == before
        assert not engine.list_metadata_indexes(DOCS)
