"""`/metrics` counts what was asked and answered, and what indexes hold, for Prometheus."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asgi import INDEXES, Conversation, application, call
from tests.support.embedder import TINY
from tests.support.engines import DOCS, Record, create, insert, spoil_embedded
from tests.support.model_engine import ModelEngine
from tests.support.server import in_thread
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.model import Index, IndexAddress
from vicinal.server.api import metrics
from vicinal.server.api.metrics import Metrics
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App
from vicinal.tokens import Permission

Labels = frozenset[tuple[str, str]]


def samples(text: str) -> dict[tuple[str, Labels], float]:
    """Return the value of each sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def shown(app: App) -> dict[tuple[str, Labels], float]:
    answer = call(app, "GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples(answer.body.decode())


def labels(**values: str) -> Labels:
    return frozenset(values.items())


def test_requests_are_counted_by_operation_and_status(tmp_path: Path) -> None:
    app = application(tmp_path)
    for _ in range(3):
        call(app, "GET", INDEXES)
    call(app, "GET", f"{INDEXES}/none")
    call(app, "GET", "/no/such/route")
    gone = Conversation([b"{", b"}"], breaks_off=True)
    call(app, "POST", INDEXES, conversation=gone)

    found = shown(app)

    name = "vicinal_request_duration_seconds_count"
    assert found[name, labels(operation="list_indexes", status="200")] == 3
    assert found[name, labels(operation="get_index", status="404")] == 1
    assert found[name, labels(operation="none", status="404")] == 1
    assert found[name, labels(operation="create_index", status="499")] == 1
    assert found["vicinal_requests_in_progress", labels()] == 1  # the one that asks


def test_texts_and_tokens_are_counted_by_model_when_they_were_embedded(tmp_path: Path) -> None:
    app = application(tmp_path)
    run = "/client/v4/accounts/acme/ai/run"

    call(app, "POST", f"{run}/{TINY}", {"text": ["one two", "three"]})
    call(app, "POST", f"{run}/@cf/no/model", {"text": ["one two"]})

    found = shown(app)
    assert found["vicinal_embedded_texts_total", labels(model=TINY)] == 2
    assert found["vicinal_embedded_tokens_total", labels(model=TINY)] == 3 + 2 * 2
    assert not any(("model", "@cf/no/model") in each for _, each in found)


def test_indexes_of_all_accounts_are_shown_with_what_they_hold(tmp_path: Path) -> None:
    engine = ModelEngine()
    create(engine)
    create(engine, IndexAddress("other", "docs"))
    insert(engine, Record("a", [1, 1]), Record("b", [1, 2]))

    found = shown(application(tmp_path, engine=engine))

    docs = labels(account=DOCS.account, index=DOCS.name)
    assert found["vicinal_indexes", labels()] == 2
    assert found["vicinal_index_vectors", docs] == 2
    assert found["vicinal_index_pending_vectors", docs] == 0
    assert found["vicinal_index_vectors", labels(account="other", index="docs")] == 0
    assert found["process_resident_memory_bytes", labels()] > 0


def test_looking_opens_no_index(tmp_path: Path) -> None:
    engine = EmbeddedEngine.open(tmp_path, EngineOptions())
    create(engine)
    insert(engine, Record("a", [1, 1]))
    engine.close()
    again = EmbeddedEngine.open(tmp_path, EngineOptions())
    try:
        before = samples(Metrics(again).text().decode())
        assert again.status(DOCS).vector_count == 1
        after = samples(Metrics(again).text().decode())
    finally:
        again.close()

    docs = labels(account=DOCS.account, index=DOCS.name)
    assert before["vicinal_indexes", labels()] == 1
    assert ("vicinal_index_vectors", docs) not in before
    assert after["vicinal_index_vectors", docs] == 1


@pytest.mark.parametrize(
    ("secret", "status"), [("all", 200), ("one", 403), ("unknown", 401), (None, 401)]
)
def test_where_there_are_tokens_one_for_all_accounts_is_needed(
    tmp_path: Path, secret: str | None, status: int
) -> None:
    app = application(tmp_path)
    tokens = app.services.tokens
    secrets = {
        "all": tokens.create("all", Permission.READ)[1],
        "one": tokens.create("one", Permission.READ, "acme")[1],
        "unknown": "vic_unknown",
    }
    headers = {} if secret is None else {"authorization": f"Bearer {secrets[secret]}"}

    answer = call(app, "GET", "/metrics", headers=headers)

    assert answer.status == status


def opened(folder: Path, **options: Any) -> EmbeddedEngine:
    return EmbeddedEngine.open(folder / "data", EngineOptions(**options))


def query(app: App, index: str = "docs", account: str = "acme") -> int | None:
    target = f"/client/v4/accounts/{account}/vectorize/v2/indexes/{index}/query"
    return call(app, "POST", target, {"vector": [1, 1]}).status


def test_queries_that_are_answered_are_counted_by_index(tmp_path: Path) -> None:
    engine = ModelEngine()
    create(engine)
    create(engine, IndexAddress("other", "docs"))
    app = application(tmp_path, engine=engine)
    for _ in range(3):
        assert query(app) == 200
    assert query(app, account="other") == 200
    assert query(app, "none") == 404
    assert call(app, "POST", f"{INDEXES}/docs/query", b"{").status == 400

    found = shown(app)

    name = "vicinal_query_duration_seconds"
    assert found[f"{name}_count", labels(account="acme", index="docs")] == 3
    assert found[f"{name}_count", labels(account="other", index="docs")] == 1
    assert found[f"{name}_bucket", labels(account="acme", index="docs", le="+Inf")] == 3
    assert found[f"{name}_sum", labels(account="acme", index="docs")] > 0
    assert not any(("index", "none") in each for _, each in found)


def test_an_index_of_the_name_of_a_deleted_one_begins_at_zero(tmp_path: Path) -> None:
    engine = ModelEngine()
    create(engine)
    app = application(tmp_path, engine=engine)
    assert query(app) == 200

    assert call(app, "DELETE", f"{INDEXES}/docs").status == 200

    name = "vicinal_query_duration_seconds_count"
    assert (name, labels(account="acme", index="docs")) not in shown(app)
    create(engine)
    assert query(app) == 200
    assert shown(app)[name, labels(account="acme", index="docs")] == 1


def test_more_indexes_than_the_bound_are_counted_under_empty_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "INDEXES_MAX", 2)
    engine = ModelEngine()
    for number in range(5):
        create(engine, IndexAddress("acme", f"docs{number}"))
    app = application(tmp_path, engine=engine)
    for number in range(5):
        assert query(app, f"docs{number}") == 200
        assert query(app, f"docs{number}") == 200

    found = shown(app)

    name = "vicinal_query_duration_seconds_count"
    counts = {each: value for (n, each), value in found.items() if n == name}
    assert counts == {
        labels(account="acme", index="docs0"): 2,
        labels(account="acme", index="docs1"): 2,
        labels(account="", index=""): 6,
    }


def test_refusals_are_counted_by_cause(tmp_path: Path) -> None:
    app = application(tmp_path)
    call(app, "GET", f"{INDEXES}/none")
    call(app, "GET", f"{INDEXES}/none")
    call(app, "POST", INDEXES, b"{")
    call(app, "GET", "/no/such/route")
    call(app, "PATCH", INDEXES)
    call(app, "GET", INDEXES, headers={"authorization": "nonsense"})

    found = shown(app)

    name = "vicinal_refusals_total"
    counts = {dict(each)["cause"]: value for (n, each), value in found.items() if n == name}
    assert counts == {
        "index_not_found": 2,
        "bad_body": 1,
        "route_not_found": 1,
        "method_not_allowed": 1,
        "unauthenticated": 1,
    }


def test_a_defect_is_a_cause_of_its_own(tmp_path: Path) -> None:
    class Broken(ModelEngine):
        def list_indexes(self, account: str) -> list[Index]:
            raise AssertionError("the inside of the engine")

    app = application(tmp_path, engine=Broken())
    assert call(app, "GET", INDEXES).status == 500

    assert shown(app)["vicinal_refusals_total", labels(cause="defect")] == 1


def test_a_refusal_for_want_of_capacity_says_which(tmp_path: Path) -> None:
    config = ServerConfig(requests_max=0, allowed_hosts=("x",))
    app = application(tmp_path, config=config)
    assert call(app, "GET", INDEXES).status == 429

    text = app.services.metrics.text().decode()

    assert samples(text)["vicinal_refusals_total", labels(cause="overloaded_requests")] == 1


def test_a_refused_connection_is_counted(tmp_path: Path) -> None:
    app = application(tmp_path)
    with in_thread(app, connections_max=1) as server, server.connect() as first:
        first.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert first.recv(1_000).startswith(b"HTTP/1.1 400 ")
        assert first.recv(1_000) == b""

    found = samples(app.services.metrics.text().decode())

    assert found["vicinal_refusals_total", labels(cause="http_400")] == 1


def test_queues_and_bodies_are_shown_with_their_bounds(tmp_path: Path) -> None:
    config = ServerConfig(requests_max=7, embedding_queue_max=9, allowed_hosts=("x",))
    app = application(tmp_path, config=config)

    found = shown(app)

    assert found["vicinal_queue_requests", labels(queue="requests")] == 1
    assert found["vicinal_queue_requests_max", labels(queue="requests")] == 7
    assert found["vicinal_queue_requests", labels(queue="watch")] == 1  # this one
    assert found["vicinal_queue_requests", labels(queue="query")] == 0
    assert found["vicinal_queue_requests_max", labels(queue="embed")] == 9
    assert {"database", "snapshot"} <= {dict(each).get("queue") for _, each in found}
    assert found["vicinal_body_bytes_in_flight", labels()] == 0
    assert found["vicinal_body_bytes_in_flight_max", labels()] == 512 << 20


def test_an_open_index_has_its_segments_memtable_and_bytes(tmp_path: Path) -> None:
    with closing(opened(tmp_path, merges=False)) as engine:
        create(engine)
        for number in range(2):
            insert(engine, *(Record(f"{number}-{row}", [row, 1]) for row in range(50)))
            engine.compact(DOCS)
        insert(engine, Record("last", [1, 1]))
        docs = labels(account=DOCS.account, index=DOCS.name)

        found = shown(application(tmp_path, engine=engine))

    folder = next((tmp_path / "data" / "indexes").iterdir())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert found["vicinal_index_segments", docs] == 2
    assert found["vicinal_index_vectors", docs] == 101
    assert found["vicinal_index_memtable_vectors", docs] == 1
    assert 0.5 * size <= found["vicinal_index_disk_bytes", docs] <= 2 * size + (4 << 20)
    assert found["vicinal_indexes_open", labels()] == 1
    assert found["vicinal_seal_duration_seconds_count", labels()] >= 2
    assert found["vicinal_seal_duration_seconds_sum", labels()] > 0
    assert found["vicinal_commit_duration_seconds_count", labels()] >= 3
    assert found["vicinal_merge_duration_seconds_count", labels()] == 0
    assert found["vicinal_disk_size_bytes", labels()] >= found["vicinal_disk_free_bytes", labels()]
    assert found["vicinal_disk_free_bytes", labels()] > 0
    assert found["vicinal_write_queue_bytes", labels()] == 0
    assert found["vicinal_write_queue_bytes_max", labels()] == 512 << 20
    assert found["vicinal_indexes_failed", labels()] == 0


def test_merges_are_counted(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as engine:
        create(engine)
        for number in range(5):
            insert(engine, *(Record(f"{number}-{row}", [row, 1]) for row in range(20)))
            engine.compact(DOCS)

        found = shown(application(tmp_path, engine=engine))

    assert found["vicinal_merge_duration_seconds_count", labels()] >= 1


def test_an_index_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as engine:
        create(engine)
        create(engine, IndexAddress("acme", "whole"))
        insert(engine, Record("a", [1, 1]))
    spoil_embedded(tmp_path / "data", DOCS)
    with closing(opened(tmp_path)) as engine:
        app = application(tmp_path, engine=engine)
        before = shown(app)
        assert query(app) == 500
        assert query(app, "whole") == 200

        found = shown(app)

    docs = labels(account=DOCS.account, index=DOCS.name)
    assert before["vicinal_indexes_failed", labels()] == 0  # nobody has tried
    assert found["vicinal_indexes_failed", labels()] == 1
    assert found["vicinal_index_failed", docs] == 1
    assert found["vicinal_refusals_total", labels(cause="corruption")] == 1


def test_the_build_is_told(tmp_path: Path) -> None:
    app = application(tmp_path, config=ServerConfig(version="1.2.3", allowed_hosts=("x",)))

    (build,) = (each for name, each in shown(app) if name == "vicinal_build_info")

    told = dict(build)
    assert told["version"] == "1.2.3"
    assert told["python"].startswith("3.")
    assert told["native"] in ("true", "false")


def test_slow_queries_are_counted(tmp_path: Path) -> None:
    engine = ModelEngine()
    create(engine)
    app = application(
        tmp_path, engine=engine, config=ServerConfig(slow_query_s=1e-9, allowed_hosts=("x",))
    )
    assert query(app) == 200

    assert shown(app)["vicinal_slow_queries_total", labels()] == 1
