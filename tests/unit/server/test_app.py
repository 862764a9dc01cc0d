"""Whatever comes in, the answer is an envelope, and what is refused leaves nothing behind."""

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, Conversation, Received, application, call, received
from tests.support.embedder import TINY, TinyEmbedder
from tests.support.engines import DOCS, create
from tests.support.model_engine import ModelEngine
from vicinal.embeddings.base import Embedding, Pooling
from vicinal.errors import Corruption, Error, Overloaded, Unavailable
from vicinal.limits import Limits
from vicinal.model import Accepted, Index, IndexAddress, Mutation, Seqno, UnresolvedMutation
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App
from vicinal.server.routes import API_ROUTES

VECTOR = b'{"id":"a","values":[1,0]}'
LIMITS = Limits()
RUN = f"/client/v4/accounts/acme/ai/run/{TINY}"


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


# What is refused leaves nothing behind.


def records(count: int) -> bytes:
    return b"\n".join(b'{"id":"v%d","values":[1,0]}' % number for number in range(count))


BAD_BATCHES = {
    "not JSON": VECTOR + b"\nnot json",
    "cut off": VECTOR + b'\n{"id":"b","values":[1,',
    "malformed UTF-8 in an id": VECTOR + b'\n{"id":"\xff\xfe","values":[1,0]}',
    "malformed UTF-8 in metadata": VECTOR + b'\n{"id":"b","values":[1,0],"metadata":{"k":"\xc3"}}',
    "a lone surrogate": VECTOR + b'\n{"id":"\\ud800","values":[1,0]}',
    "a null byte": VECTOR + b"\n\x00",
    "deep metadata": VECTOR
    + b'\n{"id":"b","values":[1,0],"metadata":{"k":'
    + nested(9_000)
    + b"}}",
    "a deep line": VECTOR + b"\n" + nested(100_001),
    "wrong dimensions": VECTOR + b'\n{"id":"b","values":[1]}',
    "one vector too many": records(LIMITS.batch_vectors_max + 1),
    "one byte too many in an id": VECTOR + b'\n{"id":"%b","values":[1,0]}' % (b"x" * 65),
    "a key with a dot": VECTOR + b'\n{"id":"b","values":[1,0],"metadata":{"a.b":1}}',
    "the vectors in an object": b'{"vectors":[' + VECTOR + b',{"id":"b"}]}',
    "an object cut off": b'{"vectors":[' + VECTOR + b",",
    "multipart cut off in its head": b"--x\r\nContent-Disposition: form-data; name=",
    "multipart cut off in its part": (
        b'--x\r\nContent-Disposition: form-data; name="vectors"\r\n\r\n' + VECTOR
    ),
    "multipart without the part": (
        b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n' + VECTOR + b"\r\n--x--\r\n"
    ),
    "binary": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("operation", ["insert", "upsert"])
@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_refused_batch_leaves_nothing_behind(
    app: App, engine: ModelEngine, operation: str, name: str
) -> None:
    body = BAD_BATCHES[name]
    kind = "multipart/form-data; boundary=x" if "multipart" in name else "application/x-ndjson"

    answer = call(app, "POST", f"{INDEXES}/docs/{operation}", body, headers={"content-type": kind})

    status, code, message = answer.error
    assert status == 400
    assert code >= 1000
    assert message
    assert engine.status(DOCS).applied_seqno == 0


def test_as_many_vectors_as_the_limit_are_taken(app: App, engine: ModelEngine) -> None:
    body = records(LIMITS.batch_vectors_max)

    assert call(app, "POST", f"{INDEXES}/docs/upsert", body).status == 200
    assert engine.status(DOCS).vector_count == LIMITS.batch_vectors_max


def test_a_body_that_breaks_off_changes_nothing_and_gets_no_answer(
    app: App, engine: ModelEngine
) -> None:
    talk = Conversation([VECTOR + b"\n", VECTOR], breaks_off=True)

    answer = call(app, "POST", f"{INDEXES}/docs/upsert", conversation=talk)

    assert answer.status is None
    assert engine.status(DOCS).applied_seqno == 0


def test_a_body_in_many_pieces_is_the_same_as_in_one(app: App, engine: ModelEngine) -> None:
    pieces = [VECTOR[place : place + 1] for place in range(len(VECTOR))]

    call(app, "POST", f"{INDEXES}/docs/upsert", conversation=Conversation(pieces))

    assert [vector.id for vector in engine.get(DOCS, ["a"])] == ["a"]


def test_an_index_that_cannot_be_made_is_not_made(app: App) -> None:
    for body in (
        {"name": "new"},
        {"name": "new", "config": {"dimensions": 2, "metric": "near"}},
        {"name": "new", "config": {"dimensions": 1537, "metric": "cosine"}},
    ):
        assert call(app, "POST", INDEXES, body).status == 400

    assert [each["name"] for each in call(app, "GET", INDEXES).result] == ["docs"]


# JSON bodies that are no JSON.

JSON_ROUTES = {
    "create_index": INDEXES,
    "query": f"{INDEXES}/docs/query",
    "get_by_ids": f"{INDEXES}/docs/get_by_ids",
    "delete_by_ids": f"{INDEXES}/docs/delete_by_ids",
    "create_metadata_index": f"{INDEXES}/docs/metadata_index/create",
    "delete_metadata_index": f"{INDEXES}/docs/metadata_index/delete",
    "run_model": RUN,
}

NO_JSON = {
    "nothing": b"",
    "white space": b" \n",
    "null": b"null",
    "an array": b"[]",
    "a string": b'"x"',
    "a number": b"1",
    "cut off": b'{"ids":["a"',
    "two documents": b"{}{}",
    "malformed UTF-8": b'{"ids":["\xff"],"name":"\xff","vector":[1],"text":"\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"ids":["a"]}'.encode("utf-16"),
    "100,001 deep": nested(100_001),
    "100,001 deep inside": b'{"ids":' + nested(100_001) + b',"vector":' + nested(9) + b"}",
    "100,001 objects deep": b'{"a":' * 100_001 + b"1" + b"}" * 100_001,
    "deep in a member nobody reads": b'{"x":' + nested(100_001) + b"}",
    "a huge integer": b'{"topK":1' + b"0" * 5_000 + b',"vector":[1,0]}',
    "a huge exponent": b'{"topK":1e999999,"vector":[1,0],"ids":1e999999}',
}


@pytest.mark.parametrize("route", JSON_ROUTES)
@pytest.mark.parametrize("name", NO_JSON)
def test_a_body_that_is_not_what_a_route_takes_is_a_400(app: App, route: str, name: str) -> None:
    answer = call(app, "POST", JSON_ROUTES[route], NO_JSON[name])

    status, code, message = answer.error
    assert status == 400, message
    assert code >= 1000
    assert 0 < len(message) < 1_000


def test_a_filter_that_is_deep_is_refused(app: App) -> None:
    for depth in (100, 1_000, 100_001):
        body = b'{"vector":[1,0],"filter":{"k":' + nested(depth) + b"}}"

        status, code, _ = call(app, "POST", f"{INDEXES}/docs/query", body).error
        assert (status, code) in ((400, 40094), (400, 40026))


# Sizes.


def test_a_vectors_body_over_its_limit_is_a_413(tmp_path: Path, engine: ModelEngine) -> None:
    limits = Limits(body_bytes_max=len(VECTOR))
    app = application(tmp_path, engine=engine, config=ServerConfig(limits=limits))
    path = f"{INDEXES}/docs/upsert"

    assert call(app, "POST", path, VECTOR).status == 200
    status, code, message = call(app, "POST", path, VECTOR + b" ").error
    assert (status, code) == (413, 40093)
    assert str(len(VECTOR) + 1) in message
    assert str(len(VECTOR)) in message


def test_a_json_body_over_its_limit_is_a_413(app: App) -> None:
    padded = b'{"ids":["a"]}' + b" " * (LIMITS.json_body_bytes_max - len(b'{"ids":["a"]}'))
    path = f"{INDEXES}/docs/get_by_ids"

    assert call(app, "POST", path, padded).status == 200
    assert call(app, "POST", path, padded + b" ").error[0] == 413


def test_the_size_of_100_mb_is_refused_by_its_announcement_alone(app: App) -> None:
    announced = {"content-length": str(LIMITS.body_bytes_max + 1)}

    answer = call(app, "POST", f"{INDEXES}/docs/upsert", VECTOR, headers=announced)

    assert answer.error[0] == 413
    assert "connection" not in answer.headers


def test_a_body_counts_only_while_its_request_is_under_way(
    tmp_path: Path, engine: ModelEngine
) -> None:
    config = ServerConfig(body_bytes_in_flight_max=len(VECTOR))
    app = application(tmp_path, engine=engine, config=config)

    for body, status in [(VECTOR, 200), (VECTOR[:-1], 400), (VECTOR, 200)]:
        assert call(app, "POST", f"{INDEXES}/docs/upsert", body).status == status


def test_a_query_string_of_too_many_parameters_is_a_400(app: App) -> None:
    target = f"{INDEXES}?" + "&".join(f"p{number}=1" for number in range(100))

    assert call(app, "GET", target).error[0] == 400


# Work that cannot be done now.


class Failing(ModelEngine):
    """Answers with an error instead."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def append(
        self, address: IndexAddress, mutation: Mutation | UnresolvedMutation, *, wait_s: float = 0.0
    ) -> Future[Accepted]:
        raise self.error


class FailingLater(Failing):
    """Takes a mutation, and then cannot make it durable."""

    def append(
        self, address: IndexAddress, mutation: Mutation | UnresolvedMutation, *, wait_s: float = 0.0
    ) -> Future[Accepted]:
        future: Future[Accepted] = Future()
        future.set_exception(self.error)
        return future


@pytest.mark.parametrize("kind", [Failing, FailingLater])
@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (Overloaded("9 mutations wait", retry_after=1.5), 429, 40041, "2"),
        (Overloaded("9 mutations wait", retry_after=0.0), 429, 40041, "1"),
        (Unavailable("the index is still opening", retry_after=3), 503, 40097, "3"),
        (Unavailable("the disk is full"), 503, 40097, None),
        (Corruption("segments/7/values is damaged"), 500, 40098, None),
    ],
)
def test_what_the_engine_cannot_do_now_says_when_to_come_back(
    tmp_path: Path,
    kind: type[Failing],
    error: Error,
    status: int,
    code: int,
    retry_after: str | None,
) -> None:
    engine = kind(error)
    create(engine)
    app = application(tmp_path, engine=engine)

    answer = call(app, "POST", f"{INDEXES}/docs/upsert", VECTOR)

    assert answer.error[:2] == (status, code)
    assert str(error) in answer.error[2]
    assert answer.headers.get("retry-after") == retry_after


def test_a_defect_is_a_500_in_an_envelope_without_its_inside(tmp_path: Path) -> None:
    engine = Failing(ZeroDivisionError("secret inside"))
    create(engine)

    answer = call(application(tmp_path, engine=engine), "POST", f"{INDEXES}/docs/upsert", VECTOR)

    assert answer.error == (500, 40099, "internal error")


def together(
    app: App, requests: Sequence[tuple[str, str, bytes]], release: threading.Event
) -> list[Received]:
    """Send requests at once; let the engine go on when the last one is on its way."""

    async def one(method: str, path: str, body: bytes) -> Received:
        talk = Conversation((body,))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
        }
        await app(scope, talk.receive, talk.send)
        return received(talk)

    async def main() -> list[Received]:
        tasks = [asyncio.ensure_future(one(*request)) for request in requests]
        refused = max(0, len(tasks) - app.services.config.requests_max)
        done: set[asyncio.Task[Received]] = set()
        while len(done) < refused:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        release.set()
        return await asyncio.gather(*tasks)

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_one_request_too_many_is_a_429_and_health_is_still_told(tmp_path: Path) -> None:
    release = threading.Event()

    class Held(ModelEngine):
        def list_indexes(self, account: str) -> Sequence[Index]:
            release.wait()
            return super().list_indexes(account)

    app = application(tmp_path, engine=Held(), config=ServerConfig(requests_max=2))

    answers = together(app, [("GET", INDEXES, b"")] * 3 + [("GET", "/healthz", b"")], release)

    assert sorted(answer.status or 0 for answer in answers[:3]) == [200, 200, 429]
    assert answers[3].status == 200
    (refused,) = (answer for answer in answers if answer.status == 429)
    assert refused.error[1:] == (
        40041,
        "Too Many Requests: 2 requests are under way, the most there may be",
    )
    assert refused.headers["retry-after"] == "1"
    assert call(app, "GET", INDEXES).status == 200


def test_a_server_that_is_full_still_tells_who_watches_it(tmp_path: Path) -> None:
    release = threading.Event()

    class Held(ModelEngine):
        def list_indexes(self, account: str) -> Sequence[Index]:
            release.wait()
            return super().list_indexes(account)

    config = ServerConfig(requests_max=2, threads=2)
    app = application(tmp_path, engine=Held(), config=config)
    watching = ("/metrics", "/client/v4/user/permission", "/client/v4/vicinal/slow-queries")

    answers = together(
        app,
        [("GET", INDEXES, b"")] * 2 + [("GET", path, b"") for path in watching],
        release,
    )

    assert [answer.status for answer in answers] == [200] * 5
    shown = answers[2].body.decode()
    assert 'vicinal_queue_requests{queue="query"} 2.0' in shown
    assert 'vicinal_queue_requests{queue="watch"} 1.0' in shown


def test_one_embedding_too_many_is_a_429(tmp_path: Path) -> None:
    release = threading.Event()

    class Held(TinyEmbedder):
        def embed(
            self, model: str, texts: Sequence[str], pooling: Pooling | None = None
        ) -> Embedding:
            release.wait()
            return super().embed(model, texts, pooling)

    config = ServerConfig(requests_max=3, embedding_queue_max=2, embedding_threads=1)
    app = application(tmp_path, embedder=Held(), config=config)

    answers = together(
        app, [("POST", RUN, b'{"text":"hello"}')] * 3 + [("GET", "/healthz", b"")], release
    )

    assert sorted(answer.status or 0 for answer in answers) == [200, 200, 200, 429]


# Waiting.


class Invisible(ModelEngine):
    """Applies a mutation but does not admit it."""

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        return False


class VisibleLater(ModelEngine):
    """Admits a mutation when asked for the third time."""

    asked = 0

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        self.asked += 1
        return self.asked >= 3


WRITES: dict[str, tuple[str, bytes | object]] = {
    "insert": ("insert", VECTOR),
    "upsert": ("upsert", VECTOR),
    "delete_by_ids": ("delete_by_ids", {"ids": ["a"]}),
    "create": ("metadata_index/create", {"propertyName": "k", "indexType": "string"}),
}


@pytest.mark.parametrize("name", WRITES)
def test_any_write_can_wait_until_it_is_visible(tmp_path: Path, name: str) -> None:
    operation, body = WRITES[name]
    engine = VisibleLater()
    create(engine)

    answer = call(
        application(tmp_path, engine=engine),
        "POST",
        f"{INDEXES}/docs/{operation}",
        body,
        headers={"prefer": "wait=20"},
    )

    assert answer.result["mutationId"]
    assert answer.headers["preference-applied"] == "wait=20"
    assert engine.asked == 3


def test_a_write_that_stays_invisible_is_answered_all_the_same(tmp_path: Path) -> None:
    engine = Invisible()
    create(engine)

    answer = call(
        application(tmp_path, engine=engine),
        "POST",
        f"{INDEXES}/docs/upsert",
        VECTOR,
        headers={"prefer": "wait=0"},
    )

    assert answer.result["mutationId"]
    assert "preference-applied" not in answer.headers


def test_a_write_does_not_wait_unless_asked_to(tmp_path: Path) -> None:
    engine = VisibleLater()
    create(engine)

    assert call(
        application(tmp_path, engine=engine), "POST", f"{INDEXES}/docs/upsert", VECTOR
    ).result
    assert engine.asked == 0


def test_a_client_that_goes_while_it_waits_gets_nothing_and_its_write_stands(
    tmp_path: Path,
) -> None:
    engine = Invisible()
    create(engine)
    talk = Conversation((VECTOR,), leaves=True)

    answer = call(
        application(tmp_path, engine=engine),
        "POST",
        f"{INDEXES}/docs/upsert",
        headers={"prefer": "wait=60"},
        conversation=talk,
    )

    assert answer.status is None
    assert engine.status(DOCS).vector_count == 1


# The rest of ASGI.


def test_the_server_says_that_it_has_started_and_stopped(app: App) -> None:
    sent: list[str] = []
    events = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, object]:
        return {"type": next(events)}

    async def send(event: object) -> None:
        assert isinstance(event, dict)
        sent.append(event["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_websocket_is_refused(app: App) -> None:
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(event: object) -> None:
        sent.append(event)

    asyncio.run(app({"type": "websocket", "path": "/"}, receive, send))

    assert sent == [{"type": "websocket.close", "code": 1000}]


def test_the_openapi_document_describes_every_operation_of_the_api_and_only_those(app: App) -> None:
    answer = call(app, "GET", "/openapi.json")

    document = json.loads(answer.body)
    described = {
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    }
    assert answer.status == 200
    assert described == {route.operation.operation_id for route in API_ROUTES}


@pytest.mark.parametrize("size", [0, 1, 8])
def test_large_and_small_writes_read_alike(tmp_path: Path, size: int) -> None:
    """The first goes through a thread, then small ones do not and large ones do."""
    engine = ModelEngine()
    create(engine)
    app = application(tmp_path, engine=engine)

    def write(count: int) -> Received:
        return call(app, "POST", f"{INDEXES}/docs/upsert", records(count))

    assert write(1).status == 200
    assert write(size).status == 200
    assert write(4_000).status == 200
    assert engine.status(DOCS).vector_count == 4_000
