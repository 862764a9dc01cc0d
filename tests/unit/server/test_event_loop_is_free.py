"""No call of an engine that waits for another machine holds up the event loop.

The engine here is a dict each of whose calls lasts until `/healthz` has been answered, as a call
to a database that hangs does: a server that made one in the event loop would never answer.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import INDEXES, application
from tests.support.engines import Record, apply, create, insert
from tests.support.model_engine import ModelEngine
from tests.support.server import Running, in_thread
from vicinal.model import (
    Accepted,
    BatchWriter,
    CreateMetadataIndex,
    Facet,
    Index,
    IndexAddress,
    IndexConfig,
    IndexType,
    ListedVector,
    MetadataIndex,
    Mutation,
    Page,
    Query,
    QueryResult,
    Scan,
    Scope,
    Seqno,
    Status,
    StoredVector,
    UnresolvedMutation,
    VectorBatch,
    VectorPage,
)
from vicinal.prepared import Prepared

STUCK_S = 60.0  # after which a call of the engine ends unreleased: the event loop is in it
DOCS_PATH = f"{INDEXES}/docs"
LINE = b'{"id":"a","values":[1,2]}\n'


class DistantEngine(ModelEngine):
    """Waits in every call once it is told to, but where it says that it does not.

    Attributes:
        held: The calls that wait, each until its event is set.
        stuck: The calls that nobody released.
    """

    is_shared = True

    def __init__(self) -> None:
        super().__init__()
        self.is_distant = False
        self.calls: set[str] = set()
        self.held: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self.stuck: list[str] = []

    def answers_at_once(self, address: IndexAddress) -> bool:
        return not self.is_distant

    def _wait(self, name: str) -> None:
        if self.is_distant:
            self.calls.add(name)
            is_released = threading.Event()
            self.held.put(is_released)
            if not is_released.wait(STUCK_S):
                self.stuck.append(name)

    def create_index(
        self, address: IndexAddress, config: IndexConfig, description: str | None
    ) -> Index:
        self._wait("create_index")
        return super().create_index(address, config, description)

    def delete_index(self, address: IndexAddress) -> None:
        self._wait("delete_index")
        super().delete_index(address)

    def get_index(self, address: IndexAddress) -> Index:
        self._wait("get_index")
        return super().get_index(address)

    def list_indexes(self, account: str) -> Sequence[Index]:
        self._wait("list_indexes")
        return super().list_indexes(account)

    def list_metadata_indexes(self, address: IndexAddress) -> Sequence[MetadataIndex]:
        self._wait("list_metadata_indexes")
        return super().list_metadata_indexes(address)

    def open_batch(self, address: IndexAddress) -> BatchWriter:
        self._wait("open_batch")
        return super().open_batch(address)

    def append(
        self, address: IndexAddress, mutation: Mutation | UnresolvedMutation, *, wait_s: float = 0.0
    ) -> Future[Accepted]:
        self._wait("append")
        return super().append(address, mutation, wait_s=wait_s)

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        self._wait("wait_applied")
        return super().wait_applied(address, seqno, timeout_s)

    def status(self, address: IndexAddress) -> Status:
        self._wait("status")
        return super().status(address)

    def prepare(self, address: IndexAddress, query: Query) -> Prepared[QueryResult]:
        self._wait("prepare")
        return super().prepare(address, query)

    def get(self, address: IndexAddress, ids: Sequence[str]) -> Sequence[StoredVector]:
        self._wait("get")
        return super().get(address, ids)

    def list(self, address: IndexAddress, count: int, cursor: str | None) -> Page:
        self._wait("list")
        return super().list(address, count, cursor)

    def list_vectors(
        self, address: IndexAddress, scan: Scan, count: int, cursor: str | None
    ) -> VectorPage:
        self._wait("list_vectors")
        return super().list_vectors(address, scan, count, cursor)

    def stream_vectors(
        self, address: IndexAddress, scan: Scan, count: int
    ) -> Iterator[Sequence[ListedVector]]:
        self._wait("stream_vectors")
        for part in super().stream_vectors(address, scan, count):
            self._wait("stream_vectors")
            yield part

    def sample_vectors(
        self, address: IndexAddress, scope: Scope, count_max: int, part_max: int
    ) -> Iterator[VectorBatch]:
        self._wait("sample_vectors")
        for part in super().sample_vectors(address, scope, count_max, part_max):
            self._wait("sample_vectors")
            yield part

    def count(self, address: IndexAddress, scope: Scope) -> int:
        self._wait("count")
        return super().count(address, scope)

    def facet(
        self, address: IndexAddress, property_name: str, scope: Scope, values_max: int
    ) -> Facet:
        self._wait("facet")
        return super().facet(address, property_name, scope, values_max)


Server = tuple[Running, DistantEngine]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    engine = DistantEngine()
    create(engine)
    apply(engine, CreateMetadataIndex(MetadataIndex("indexed", IndexType.STRING)))
    insert(engine, Record("a", [1, 2]))
    with in_thread(application(tmp_path, engine=engine)) as running:
        yield running, engine


def answer(
    running: Running, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
    try:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


def vectors(count: int) -> bytes:
    return b"".join(b'{"id":"v%d","values":[1,%d]}\n' % (n, n) for n in range(count))


def columns_body(count: int) -> bytes:
    head = {"dimensions": 2, "ids": [f"v{n}" for n in range(count)], "metadata": True}
    lines = b'{"k":"%b"}\n' % (b"x" * 500) * count
    return json.dumps(head).encode() + b"\n" + lines + bytes(8 * count)


COLUMNS, LONG_COLUMNS = columns_body(1), columns_body(4_500)
QUERY = json.dumps({"vector": [1, 2], "topK": 1}).encode()
REQUESTS: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
    "query": ("POST", f"{DOCS_PATH}/query", QUERY, {}),
    "insert": ("POST", f"{DOCS_PATH}/insert", LINE, {}),
    "upsert": ("POST", f"{DOCS_PATH}/upsert", LINE, {}),
    "long upsert": ("POST", f"{DOCS_PATH}/upsert", vectors(4_000), {}),
    "upsert in parts": (
        "POST", f"{DOCS_PATH}/upsert", LINE + b" " * 3_000_000 + b"\n" + LINE, {}
    ),
    "columns": ("POST", f"{DOCS_PATH}/columns/upsert", COLUMNS, {}),
    "columns in parts": ("POST", f"{DOCS_PATH}/columns/insert", LONG_COLUMNS, {}),
    "upsert and wait": ("POST", f"{DOCS_PATH}/upsert", LINE, {"prefer": "wait=20"}),
    "get": ("POST", f"{DOCS_PATH}/get_by_ids", b'{"ids":["a"]}', {}),
    "delete": ("POST", f"{DOCS_PATH}/delete_by_ids", b'{"ids":["a"]}', {}),
    "list": ("GET", f"{DOCS_PATH}/list", b"", {}),
    "list vectors": ("POST", f"{DOCS_PATH}/vectors/list", b"{}", {}),
    "export": ("POST", f"{DOCS_PATH}/vectors/export", b"{}", {}),
    "count": ("POST", f"{DOCS_PATH}/vectors/count", b"{}", {}),
    "facets": ("POST", f"{DOCS_PATH}/vectors/facets", b'{"propertyName":"indexed"}', {}),
    "map": ("POST", f"{DOCS_PATH}/vectors/map", b'{"vector":[1,2],"propertyName":"k"}', {}),
    "delete scope": ("POST", f"{DOCS_PATH}/vectors/delete", b'{"idPrefix":"a"}', {}),
    "dry run": ("POST", f"{DOCS_PATH}/vectors/delete", b'{"all":true,"dryRun":true}', {}),
    "patch": ("POST", f"{DOCS_PATH}/vectors/patch", b'{"ids":["a"],"metadata":{"k":1}}', {}),
    "info": ("GET", f"{DOCS_PATH}/info", b"", {}),
    "get index": ("GET", DOCS_PATH, b"", {}),
    "list indexes": ("GET", INDEXES, b"", {}),
    "create": (
        "POST", INDEXES, b'{"name":"more","config":{"dimensions":2,"metric":"cosine"}}', {}
    ),
    "delete index": ("DELETE", DOCS_PATH, b"", {}),
    "metadata index": (
        "POST", f"{DOCS_PATH}/metadata_index/create",
        b'{"propertyName":"k","indexType":"string"}', {},
    ),
    "metadata indexes": ("GET", f"{DOCS_PATH}/metadata_index/list", b"", {}),
    "no such index": ("GET", f"{INDEXES}/absent/info", b"", {}),
    "ready": ("GET", "/readyz", b"", {}),
    "metrics": ("GET", "/metrics", b"", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_the_server_answers_others_while_an_engine_waits(server: Server, name: str) -> None:
    running, engine = server
    method, path, body, headers = REQUESTS[name]
    if name in ("metrics", "map"):
        ask: Callable[[], int] = lambda: _plain(running, method, path, body)  # noqa: E731
    else:
        ask = lambda: answer(running, method, path, body, **headers)[0]  # noqa: E731
    for _ in range(3):  # so that what is cheap and quick is known to be
        answer(running, "POST", f"{DOCS_PATH}/query", QUERY)
        answer(running, "POST", f"{DOCS_PATH}/upsert", LINE)
    engine.is_distant = True
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        while not asked.done() or not engine.held.empty():
            with suppress(queue.Empty):
                is_released = engine.held.get(timeout=0.05)
                assert answer(running, "GET", "/healthz")[0] == 200
                is_released.set()

    assert asked.result() == (404 if name == "no such index" else 200)
    assert engine.calls or name in ("metrics", "ready")
    assert engine.stuck == []


def _plain(running: Running, method: str, path: str, body: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def test_a_write_that_waits_to_be_visible_waits_for_other_nodes_too(
    tmp_path: Path,
) -> None:
    waits: list[float] = []

    class TwoNodes(DistantEngine):
        def answers_at_once(self, address: IndexAddress) -> bool:
            return True

        def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
            waits.append(timeout_s)
            return timeout_s == 0 or len(waits) > 3

    engine = TwoNodes()
    create(engine)
    with in_thread(application(tmp_path, engine=engine)) as running:
        answered = answer(running, "POST", f"{DOCS_PATH}/upsert", LINE, prefer="wait=20")

    assert answered[0] == 200
    assert waits[0] == 0
    assert len(waits) == 4
    assert all(0 < each <= 20 for each in waits[1:])
