"""The genuine ``env.VECTORIZE`` and ``env.AI`` work on the server, in every runtime there is.

The modules behind them are the runtime's own; nothing stands in between but what
`tests.support.workers` tells of each runtime. What they throw is what a Worker's author reads.
"""

import json
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.clients.conftest import CHAT_MODEL, SAID, Served
from tests.support.embedded_texts import ROUNDING
from tests.support.ports import free_port
from tests.support.workers import PARAMETERS, CallError, Project, Runtime, Worker, running

pytestmark = pytest.mark.node

VISIBLE_WITHIN_S = 120.0


@pytest.fixture(scope="module", params=PARAMETERS)
def worker(
    request: pytest.FixtureRequest, served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    runtime: Runtime = request.param
    indexes = {name: f"{name.lower()}-{uuid.uuid4().hex[:8]}" for name in ("VECTORIZE", "FAQ")}
    server = served.running
    with httpx.Client(
        base_url=f"{server.base_url}/accounts/{server.account}/vectorize/v2/indexes",
        headers={"Authorization": f"Bearer {server.token}"},
        timeout=60,
    ) as rest:
        for dimensions, index in zip((3, 2), indexes.values(), strict=True):
            config = {"dimensions": dimensions, "metric": "cosine"}
            rest.post("", json={"name": index, "config": config}).raise_for_status()
            number = {"propertyName": "n", "indexType": "number"}
            rest.post(f"/{index}/metadata_index/create", json=number).raise_for_status()
    folder = tmp_path_factory.mktemp("worker")
    bound = {**indexes, "MISSING": "no-such-index"}
    with running(runtime, Project(folder, server, bound, free_port())) as worker:
        yield worker


def settled(worker: Worker, written: dict[str, str], binding: str = "VECTORIZE") -> None:
    """Wait as the documentation tells users to: until `describe` shows the mutation."""
    end = time.monotonic() + VISIBLE_WITHIN_S
    while True:
        described = worker.call(binding, "describe")
        if described["processedUpToMutation"] == written["mutationId"]:
            return
        assert time.monotonic() < end, described


def test_what_is_inserted_is_found(worker: Worker) -> None:
    vectors = [
        {"id": "a", "values": {"$float32": [1, 0, 0]}, "namespace": "n", "metadata": {"n": 1}},
        {"id": "b", "values": [0, 0.5, 0], "namespace": "n", "metadata": {"n": 2, "s": "x"}},
        {"id": "c", "values": [0, 0, 1]},
    ]
    settled(worker, worker.call("VECTORIZE", "insert", vectors))

    nearest = worker.call("VECTORIZE", "query", {"$float32": [1, 0.25, 0]}, {"topK": 2})
    full = worker.call(
        "VECTORIZE",
        "query",
        [0, 1, 0],
        {"topK": 1, "returnMetadata": True, "returnValues": True, "namespace": "n"},
    )
    filtered = worker.call("VECTORIZE", "query", [1, 0, 0], {"filter": {"n": {"$gt": 1}}})
    plain = worker.call("VECTORIZE", "query", [1, 0, 0], {"topK": 1, "returnMetadata": False})

    assert nearest["count"] == 2
    assert [match["id"] for match in nearest["matches"]] == ["a", "b"]
    assert nearest["matches"][0]["score"] == pytest.approx(0.9701425, abs=1e-6)
    assert full["matches"] == [
        {
            "id": "b",
            "score": pytest.approx(1.0),
            "values": [0, 0.5, 0],
            "metadata": {"n": 2, "s": "x"},
            "namespace": "n",
        }
    ]
    assert [match["id"] for match in filtered["matches"]] == ["b"]
    assert "metadata" not in plain["matches"][0]


def test_an_insert_keeps_and_an_upsert_replaces(worker: Worker) -> None:
    settled(worker, worker.call("VECTORIZE", "insert", [{"id": "k", "values": [1, 2, 3]}]))
    settled(worker, worker.call("VECTORIZE", "insert", [{"id": "k", "values": [9, 9, 9]}]))
    kept = worker.call("VECTORIZE", "getByIds", ["k"])

    settled(worker, worker.call("VECTORIZE", "upsert", [{"id": "k", "values": [4, 5, 6]}]))
    replaced = worker.call("VECTORIZE", "getByIds", ["k", "none"])

    assert kept == [{"id": "k", "values": [1, 2, 3]}]
    assert replaced == [{"id": "k", "values": [4, 5, 6]}]


def test_a_stored_vector_can_be_asked_about_and_deleted(worker: Worker) -> None:
    settled(worker, worker.call("VECTORIZE", "upsert", [{"id": "d", "values": [-1, -1, -1]}]))

    by_id = worker.call("VECTORIZE", "queryById", "d", {"topK": 1})
    settled(worker, worker.call("VECTORIZE", "deleteByIds", ["d"]))

    assert [match["id"] for match in by_id["matches"]] == ["d"]
    assert worker.call("VECTORIZE", "getByIds", ["d"]) == []
    assert worker.call("VECTORIZE", "queryById", "d") == {"count": 0, "matches": []}


def test_each_binding_leads_to_its_own_index(worker: Worker) -> None:
    settled(worker, worker.call("FAQ", "upsert", [{"id": "f", "values": [1, 1]}]), "FAQ")

    assert worker.call("FAQ", "describe")["dimensions"] == 2
    assert worker.call("FAQ", "describe")["vectorCount"] == 1
    assert worker.call("VECTORIZE", "describe")["dimensions"] == 3
    assert worker.call("VECTORIZE", "getByIds", ["f"]) == []


MISTAKES = [
    (
        "VECTORIZE",
        "query",
        [[1, 2]],
        (
            "VECTOR_QUERY_ERROR (code = 40006): "
            "invalid query vector, expected 3 dimensions, and got 2 dimensions"
        ),
    ),
    # `resp.data`, and all of `resp`, where `resp.data[0]` was meant.
    (
        "VECTORIZE",
        "query",
        [[[1, 2, 3]]],
        (
            "VECTOR_QUERY_ERROR (code = 40006): "
            "invalid query vector, expected 3 dimensions, and got 0 dimensions"
        ),
    ),
    (
        "VECTORIZE",
        "query",
        [{"shape": [1, 3], "data": [[1, 2, 3]]}],
        (
            "VECTOR_QUERY_ERROR (code = 40006): "
            "invalid query vector, expected 3 dimensions, and got 0 dimensions"
        ),
    ),
    (
        "VECTORIZE",
        "query",
        [[1, 2, 3], {"topK": 101}],
        "VECTOR_QUERY_ERROR (code = 40025): max top K is 100, but got 101",
    ),
    (
        "VECTORIZE",
        "insert",
        [[{"id": "z", "values": [1]}]],
        (
            'VECTOR_INSERT_ERROR (code = 40012): invalid vector for id="z", expected 3 dimensions, '
            "and got 1 dimensions"
        ),
    ),
    (
        "VECTORIZE",
        "upsert",
        [[{"id": "z", "values": [[1, 2, 3]]}]],
        "VECTOR_UPSERT_ERROR (code = 40023): failed to parse upsert vectors request",
    ),
    (
        "VECTORIZE",
        "getByIds",
        [[str(number) for number in range(21)]],
        "VECTOR_GET_ERROR (code = 40007): too many ids in payload; max id count is 20, got 21",
    ),
    (
        "MISSING",
        "query",
        [[1, 2, 3]],
        (
            "VECTOR_QUERY_ERROR (code = 3000): vectorize.index.not_found - "
            'Index name "no-such-index"'
        ),
    ),
]


@pytest.mark.parametrize(("binding", "method", "args", "message"), MISTAKES)
def test_a_mistake_is_thrown_with_its_code_and_what_was_expected(
    worker: Worker, binding: str, method: str, args: list[object], message: str
) -> None:
    with pytest.raises(CallError) as thrown:
        worker.call(binding, method, *args)

    assert str(thrown.value).startswith(message)


def test_texts_are_embedded_to_an_object(worker: Worker, served: Served) -> None:
    """A stream would come back if the answer's content type were anything else."""
    texts = ["a", "bb", "ccc"]

    many = worker.call("AI", "run", served.model, {"text": texts})
    one = worker.call("AI", "run", served.model, {"text": "a"})
    gateway = worker.call("AI", "run", served.model, {"text": "a"}, {"gateway": {"id": "g"}})
    raw = worker.call("AI", "run", served.model, {"text": "a"}, {"returnRawResponse": True})

    assert many["shape"] == [3, served.model_dimensions]
    assert [len(row) for row in many["data"]] == [served.model_dimensions] * 3
    assert one == gateway == raw["json"]
    assert one["data"][0] == pytest.approx(many["data"][0], abs=ROUNDING)
    assert raw["status"] == 200


def test_an_embedding_is_searched_for(worker: Worker, served: Served) -> None:
    """From text to match, all of it in the Worker's hands."""
    vector = worker.call("AI", "run", served.model, {"text": "x"})["data"][0][:2]
    settled(worker, worker.call("FAQ", "upsert", [{"id": "x", "values": vector}]), "FAQ")

    found = worker.call("FAQ", "query", vector, {"topK": 1})

    assert found["matches"][0]["id"] == "x"


def test_a_worker_retrieves_and_chats_with_what_it_has_found(
    worker: Worker, served: Served
) -> None:
    texts = ["an orange cloud", "a llama"]
    made = worker.call("AI", "run", served.model, {"text": texts})["data"]
    vectors = [
        {"id": text, "values": row[:3], "metadata": {"text": text}}
        for text, row in zip(texts, made, strict=True)
    ]
    settled(worker, worker.call("VECTORIZE", "upsert", vectors))
    asked = {"topK": 1, "returnMetadata": "all"}
    (match,) = worker.call("VECTORIZE", "query", made[0][:3], asked)["matches"]
    messages = [
        {"role": "system", "content": f"Answer with: {match['metadata']['text']}"},
        {"role": "user", "content": "what is it?"},
    ]

    said = worker.call("AI", "run", CHAT_MODEL, {"messages": messages})
    gateway = worker.call("AI", "run", CHAT_MODEL, {"messages": messages}, {"gateway": {"id": "g"}})
    streamed = worker.call("AI", "run", CHAT_MODEL, {"messages": messages, "stream": True})

    assert match["id"] == texts[0]
    assert said["response"] == gateway["response"] == "".join(SAID)
    assert said["usage"]["total_tokens"] == 5
    *events, end, rest = streamed["stream"].split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    read = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [each["response"] for each in read if "p" in each] == list(SAID)
    assert read[-1]["usage"] == said["usage"]


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("@cf/none/such", {"messages": [{"role": "user", "content": "a"}]}, "5007: "),
        (CHAT_MODEL, {"text": "a"}, "5006: AiError: Bad input: "),
        ("@cf/none/such", {"text": "a"}, "5007: "),
        (None, {"prompt": "a"}, "5006: AiError: Bad input: "),
        (None, {"text": [["a"]]}, "5006: AiError: Bad input: "),
    ],
)
def test_a_wrong_run_is_thrown_with_its_code(
    worker: Worker, served: Served, model: str | None, inputs: object, message: str
) -> None:
    with pytest.raises(CallError) as thrown:
        worker.call("AI", "run", model or served.model, inputs)

    assert str(thrown.value).removeprefix("InferenceUpstreamError: ").startswith(message)


def test_the_models_are_listed(worker: Worker, served: Served) -> None:
    models = worker.call("AI", "models", {"per_page": 10})

    assert served.model in [model["name"] for model in models]
