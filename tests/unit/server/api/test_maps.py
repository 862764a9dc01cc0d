"""The map route: every vector of a scope has its place, its value and its score."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from tests.support.asgi import INDEXES, Conversation, call
from tests.support.engines import DOCS, Record, insert
from tests.support.holding import Held
from tests.support.model_engine import ModelEngine
from vicinal.maps import neighbors
from vicinal.model import Floats, IndexAddress, IndexConfig, Metric
from vicinal.server.app import App
from vicinal.server.http.asgi import Event

MAP = f"{INDEXES}/docs/vectors/map"


def ask(app: App, body: object, path: str = MAP) -> tuple[dict[str, Any], Floats]:
    answer = call(app, "POST", path, body)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/vnd.vicinal.map"
    line, _, rest = answer.body.partition(b"\n")
    return json.loads(line), np.frombuffer(rest, "<f4")


@pytest.fixture
def filled(engine: ModelEngine) -> ModelEngine:
    insert(
        engine,
        *[Record(f"a{n}", [1, n / 100], "n", {"k": "x", "deep": {"n": n}}) for n in range(10)],
        *[Record(f"b{n}", [n / 100, 1], "m", {"k": "y"}) for n in range(10)],
    )
    return engine


@pytest.mark.parametrize("layout", ["axes", "neighbors"])
def test_near_vectors_are_near_on_the_map(app: App, filled: ModelEngine, layout: str) -> None:
    head, floats = ask(app, {"layout": layout, "propertyName": "k", "vector": [1, 0]})

    count = head["count"]
    assert (count, head["totalCount"], head["layout"]) == (20, 20, layout)
    positions = floats[: 2 * count].reshape(count, 2)
    values, scores = floats[2 * count : 3 * count], floats[3 * count :]
    is_a = np.array([id_.startswith("a") for id_ in head["ids"]])
    assert head["categories"] == ["x", "y"]
    assert (values == np.where(is_a, 0, 1)).all()
    middle = [positions[is_a].mean(axis=0), positions[~is_a].mean(axis=0)]
    spread = np.linalg.norm(positions[is_a] - middle[0], axis=1).max()
    assert np.linalg.norm(middle[0] - middle[1]) > 2 * spread
    assert np.abs(positions).max() == 1
    assert scores[is_a].max() < 0.1  # Euclidean
    assert np.linalg.norm(np.array(head["query"]) - middle[0]) < 2 * spread + 0.1


def test_scores_are_those_of_a_query(app: App, filled: ModelEngine) -> None:
    head, floats = ask(app, {"vector": [0.3, 0.7]})
    query = {"vector": [0.3, 0.7], "topK": 20}
    matches = call(app, "POST", f"{INDEXES}/docs/query", query).result["matches"]

    scores = dict(zip(head["ids"], floats[2 * head["count"] :].tolist(), strict=True))

    assert {match["id"]: np.float32(match["score"]) for match in matches} == {
        id_: np.float32(score) for id_, score in scores.items()
    }


@pytest.mark.parametrize("metric", list(Metric))
def test_scores_have_the_sign_of_their_metric(
    app: App, engine: ModelEngine, metric: Metric
) -> None:
    address = IndexAddress(DOCS.account, "other")
    engine.create_index(address, IndexConfig(2, metric), None)
    insert(engine, Record("a", [3, 4]), address=address)
    path = f"{INDEXES}/other"

    _, floats = ask(app, {"vector": [1, 0]}, f"{path}/vectors/map")

    (match,) = call(app, "POST", f"{path}/query", {"vector": [1, 0]}).result["matches"]
    assert floats[-1] == np.float32(match["score"])


def test_a_scope_is_mapped_and_a_nested_property_read(app: App, filled: ModelEngine) -> None:
    head, floats = ask(app, {"namespace": "n", "idPrefix": "a", "propertyName": "deep.n"})

    assert (head["count"], head["totalCount"]) == (10, 10)
    labels = [head["categories"][int(code)] for code in floats[20:]]
    assert labels == [id_.removeprefix("a") for id_ in head["ids"]]


def test_a_sample_says_how_many_there_are(app: App, filled: ModelEngine) -> None:
    head, _ = ask(app, {"count": 5})

    assert head["totalCount"] == 20
    assert 1 <= head["count"] <= 5


@pytest.mark.parametrize("layout", ["axes", "neighbors"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_vectors_have_a_map(app: App, engine: ModelEngine, layout: str, count: int) -> None:
    if count:
        insert(engine, *[Record(f"v{n}", [n, 1]) for n in range(count)])

    head, floats = ask(app, {"layout": layout, "vector": [1, 1], "propertyName": "k"})

    assert head["count"] == count
    assert len(floats) == 4 * count
    assert np.isfinite(floats[: 2 * count]).all()
    assert np.isfinite(head["query"]).all()


def test_a_filter_that_no_metadata_index_knows_is_refused(app: App, filled: ModelEngine) -> None:
    status, code, text = call(app, "POST", MAP, {"filter": {"k": "x"}}).error

    assert (status, code, text) == (400, 40094, "k")


class Leaving(Conversation):
    """A client that goes once its map is being made."""

    def __init__(self, body: bytes, held: Held) -> None:
        super().__init__((body,))
        self._held = held

    async def receive(self) -> Event:
        if not self.is_sent:
            return await super().receive()
        await asyncio.to_thread(self._held.wait)
        return {"type": "http.disconnect"}


def test_a_map_whose_client_has_gone_is_given_up(
    app: App, filled: ModelEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, neighbors, "_pulled")
    leaving = Leaving(b'{"layout": "neighbors"}', held)

    answer = call(app, "POST", MAP, conversation=leaving)
    held.go_on()

    assert answer.status is None
    ask(app, {})  # once the only thread is free
    assert held.call_count == 1


def test_few_vectors_are_held_with_their_metadata_at_one_time(
    app: App, filled: ModelEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two dimensions a million rows have no more values than are read at one time."""
    parts: list[int] = []
    real = ModelEngine.sample_vectors

    def sample(engine: ModelEngine, *arguments: Any) -> Any:
        parts.append(arguments[-1])
        return real(engine, *arguments)

    monkeypatch.setattr(ModelEngine, "sample_vectors", sample)

    ask(app, {"propertyName": "k"})

    assert parts
    assert max(parts) <= 2_048
