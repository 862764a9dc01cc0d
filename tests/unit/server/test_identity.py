"""A request is for the index that had the name when it came, whatever takes the name meanwhile."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.support.asgi import INDEXES, application
from tests.support.engines import DOCS, Record, create, found, insert
from tests.support.server import Running, in_thread
from tests.support.sockets import answer, head
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.model import Index, IndexAddress, Query, Seqno
from vicinal.server.http.connection import UPLOAD_BYTES_MIN
from vicinal.server.http.uploads import PART_BYTES

DIMENSIONS = 3


class Watched(EmbeddedEngine):
    """Says when an index has been looked up."""

    looked_up: threading.Event
    waited: threading.Event

    def get_index(self, address: IndexAddress) -> Index:
        """See `engine.base.Engine`."""
        index = super().get_index(address)
        self.looked_up.set()
        return index

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        """See `engine.base.Engine`."""
        self.waited.set()
        return super().wait_applied(address, seqno, timeout_s)


def opened(tmp_path: Path, options: EngineOptions) -> Watched:
    engine = Watched.open(tmp_path / "data", options)
    engine.looked_up, engine.waited = threading.Event(), threading.Event()
    create(engine, dimensions=DIMENSIONS)
    return engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Watched]:
    engine = opened(tmp_path, EngineOptions())
    yield engine
    engine.close()


@pytest.fixture
def server(engine: Watched, tmp_path: Path) -> Iterator[Running]:
    with in_thread(application(tmp_path, engine=engine)) as running:
        yield running


def lines(size: int) -> bytes:
    """Return about so many bytes of vectors, each of a hundred or more."""
    line = b'{"id":"%06d","values":[1.5,2.5,3.5],"metadata":{"t":"' + b"x" * 1_000 + b'"}}\n'
    return b"".join(line % n for n in range(max(size // len(line % 0), 1)))


def replaced(engine: Watched, dimensions: int) -> None:
    """Delete the index and make one of its name, with a vector in it."""
    engine.delete_index(DOCS)
    create(engine, dimensions=dimensions)
    insert(engine, Record("new", [1.0] * dimensions))


def check_untouched(engine: Watched, dimensions: int) -> None:
    for _ in range(2):
        query = Query(top_k=10, vector=np.ones(dimensions, np.float32))
        assert found(engine, query) == ["new"]
    status = engine.status(DOCS)
    assert (status.vector_count, status.applied_seqno) == (1, 1)


SIZES = [300, UPLOAD_BYTES_MIN + 1_000, PART_BYTES + 200_000, 2 * PART_BYTES + 300_000]


@pytest.mark.parametrize("dimensions", [3, 4, 2, 768])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", ["upsert", "insert"])
def test_an_upload_to_an_index_that_is_replaced_meanwhile_is_refused_and_changes_nothing(
    server: Running, engine: Watched, operation: str, size: int, dimensions: int
) -> None:
    body = lines(size)
    left = min(100_000, len(body) // 2)
    with server.connect() as connection:
        engine.looked_up.clear()
        connection.sendall(
            head("POST", f"{INDEXES}/docs/{operation}", Content_Length=len(body)) + body[:-left]
        )
        assert engine.looked_up.wait(60)
        replaced(engine, dimensions)
        connection.sendall(body[-left:])
        status, problem = refusal(connection)

    assert (status, problem) == (404, 3000)
    check_untouched(engine, dimensions)


BODIES: dict[str, Callable[[], bytes]] = {
    "query": lambda: b'{"vector":[1,1,1],"topK":10}',
    "get_by_ids": lambda: b'{"ids":["new"]}',
    "delete_by_ids": lambda: b'{"ids":["new"]}',
    "metadata_index/create": lambda: b'{"propertyName":"t","indexType":"string"}',
    "metadata_index/delete": lambda: b'{"propertyName":"t"}',
}


@pytest.mark.parametrize("operation", BODIES)
def test_a_request_whose_index_is_replaced_while_its_body_comes_is_refused(
    server: Running, engine: Watched, operation: str
) -> None:
    body = BODIES[operation]()
    with server.connect() as connection:
        engine.looked_up.clear()
        connection.sendall(
            head("POST", f"{INDEXES}/docs/{operation}", Content_Length=len(body)) + body[:5]
        )
        assert engine.looked_up.wait(60)
        replaced(engine, DIMENSIONS)
        connection.sendall(body[5:])
        status, problem = refusal(connection)

    assert (status, problem) == (404, 3000)
    check_untouched(engine, DIMENSIONS)


def test_a_writer_that_waits_is_told_when_its_index_is_replaced(tmp_path: Path) -> None:
    body = b'{"id":"a","values":[1,2,3]}'
    waits = head("POST", f"{INDEXES}/docs/upsert", Content_Length=len(body), Prefer="wait=50")
    with (
        closing(opened(tmp_path, EngineOptions(visibility_delay_s=1_000.0))) as engine,
        in_thread(application(tmp_path, engine=engine)) as server,
        server.connect() as connection,
    ):
        connection.sendall(waits + body)
        assert engine.waited.wait(60)
        engine.delete_index(DOCS)
        create(engine, dimensions=DIMENSIONS)
        status, problem = refusal(connection)

    assert (status, problem) == (404, 3000)


def refusal(connection: socket.socket) -> tuple[int, int]:
    """Return status and code of an answer that refuses."""
    status, _, body = answer(connection)
    (problem,) = body["errors"]
    return status, problem["code"]
