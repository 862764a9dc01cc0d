"""`/metrics` counts what was asked and answered, and what indexes hold, for Prometheus."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asgi import INDEXES, Conversation, application, call
from tests.support.embedder import TINY
from tests.support.engines import DOCS, Record, create, insert
from tests.support.model_engine import ModelEngine
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.model import IndexAddress
from vicinal.server.api.metrics import Metrics
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
