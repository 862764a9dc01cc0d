"""A slow query, a disk that fails and a full queue are each seen in the metrics and in the log."""

import errno
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asgi import INDEXES, Received, application, call
from tests.support.waiting import wait_until
from vicinal.engine import log
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.engine.search import ViewSearch
from vicinal.segment import build
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App

SLOW_S = 0.05


@contextmanager
def served(folder: Path, **options: Any) -> Iterator[App]:
    """A server with an index, for which 50 ms are slow."""
    with closing(EmbeddedEngine.open(folder / "data", EngineOptions(**options))) as engine:
        config = ServerConfig(slow_query_s=SLOW_S, allowed_hosts=("x",))
        app = application(folder, engine=engine, config=config)
        index = {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}}
        assert call(app, "POST", INDEXES, index).status == 200
        yield app


def upsert(app: App, vector_id: str, *, waits: bool = False) -> Received:
    body = {"vectors": [{"id": vector_id, "values": [1, 1]}]}
    headers = {"prefer": "wait=30"} if waits else {}
    return call(app, "POST", f"{INDEXES}/docs/upsert", body, headers=headers)


def metric(app: App, name: str, **labels: str) -> float:
    """Return a sample, 0 where there is none."""
    text = app.services.metrics.text().decode()
    values = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return values[0] if values else 0.0


def test_a_slow_query_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rescore = ViewSearch.rescore

    def slow(self: ViewSearch, *arguments: Any) -> Any:
        end = perf_counter() + 2 * SLOW_S
        while perf_counter() < end:
            pass
        return rescore(self, *arguments)

    with served(tmp_path) as app:
        assert upsert(app, "a", waits=True).status == 200
        with monkeypatch.context() as patched:
            patched.setattr(ViewSearch, "rescore", slow)
            asked = call(app, "POST", f"{INDEXES}/docs/query", {"vector": [1, 1]})
        listed = call(app, "GET", "/client/v4/vicinal/slow-queries").result["queries"]

        docs = {"account": "acme", "index": "docs"}
        name = "vicinal_query_duration_seconds"
        assert metric(app, "vicinal_slow_queries_total") == 1
        assert metric(app, f"{name}_count", **docs) == 1
        assert metric(app, f"{name}_bucket", **docs, le="0.05") == 0
        assert metric(app, f"{name}_sum", **docs) >= 2 * SLOW_S
    (line,) = (each for each in caplog.records if each.name == "vicinal.slow_query")
    assert asked.headers["cf-ray"] in line.getMessage()
    assert [each["requestId"] for each in listed] == [asked.headers["cf-ray"]]
    assert listed[0]["milliseconds"] >= 2e3 * SLOW_S


@contextmanager
def failing(code: int) -> Iterator[None]:
    """A transaction that the disk does not take."""
    error = sqlite3.OperationalError("disk")
    error.sqlite_errorcode = code
    raise error
    yield


def test_a_full_disk_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path) as app:
        with monkeypatch.context() as patched:
            patched.setattr(log, "transaction", lambda _: failing(sqlite3.SQLITE_FULL))
            refused = upsert(app, "a")
        assert refused.status == 503
        assert upsert(app, "b", waits=True).status == 200

        assert metric(app, "vicinal_commit_failures_total") == 1
        assert metric(app, "vicinal_refusals_total", cause="resource_exhausted") == 1
        assert metric(app, "vicinal_indexes_failed") == 0
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert any("a write to index 'docs' was refused" in line for line in lines)
    told = [vars(each).get("fields", {}).get("request") for each in caplog.records]
    assert refused.headers["cf-ray"] in told


def test_a_disk_that_fails_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path) as app:
        assert upsert(app, "first", waits=True).status == 200
        with monkeypatch.context() as patched:
            patched.setattr(log, "transaction", lambda _: failing(sqlite3.SQLITE_IOERR))
            assert upsert(app, "a").status == 503
        assert upsert(app, "b").status == 503  # until it is opened again

        assert metric(app, "vicinal_commit_failures_total") == 1
        assert metric(app, "vicinal_refusals_total", cause="unavailable") == 2
        assert metric(app, "vicinal_indexes_failed") == 1
        assert metric(app, "vicinal_index_failed", account="acme", index="docs") == 1
    assert any("docs" in each.getMessage() for each in caplog.records)


def test_a_memtable_that_cannot_be_sealed_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with served(tmp_path, memtable_rows_max=1) as app:
        with monkeypatch.context() as patched:
            patched.setattr(build, "seal_memtable", full)
            assert upsert(app, "a", waits=True).status == 200
            wait_until(lambda: metric(app, "vicinal_seal_failures_total") > 0)
        wait_until(lambda: metric(app, "vicinal_index_segments", account="acme", index="docs") == 1)

        # Counted a moment after queries see the segment.
        wait_until(lambda: metric(app, "vicinal_seal_duration_seconds_count") >= 1)
    assert "index 'docs' is sealed later" in caplog.text


def test_a_full_queue_of_writes_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(tmp_path, queue_bytes_max=1, visibility_delay_s=3_600.0) as app:
        assert upsert(app, "a").status == 200
        assert metric(app, "vicinal_write_queue_bytes") > metric(
            app, "vicinal_write_queue_bytes_max"
        )

        refused = upsert(app, "b")

        assert refused.status == 429
        assert metric(app, "vicinal_refusals_total", cause="overloaded_writes") == 1
        docs = {"account": "acme", "index": "docs"}
        assert metric(app, "vicinal_index_pending_vectors", **docs) == 1
    (line,) = (each for each in caplog.records if "bytes of mutations are queued" in each.message)
    assert line.levelno == logging.WARNING
    assert vars(line)["fields"]["request"] == refused.headers["cf-ray"]
    assert (vars(line)["fields"]["account"], vars(line)["fields"]["index"]) == ("acme", "docs")
