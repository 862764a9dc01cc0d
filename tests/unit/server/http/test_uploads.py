"""A long body that passes by the parser arrives as others do: all of it, and nothing else."""

import asyncio
import logging
import random
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.support.asgi import INDEXES, application
from tests.support.engines import DOCS, create
from tests.support.model_engine import ModelEngine
from tests.support.server import Running, in_thread
from tests.support.sockets import answer, head, is_closed
from vicinal.engine.blob_files import BlobWriter
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.limits import Limits
from vicinal.model import Seqno
from vicinal.server.api.services import ServerConfig
from vicinal.server.http import uploads
from vicinal.server.http.asgi import Receive, Scope, Send
from vicinal.server.http.connection import UPLOAD_BYTES_MIN, BoundedProtocol
from vicinal.server.http.uploads import (
    FIRST_BYTES,
    PART_BYTES,
    ZERO_COPY_BODY,
    BufferPool,
    Upload,
)
from vicinal.server.http.websocket import WebSocketRefusal
from vicinal.wire import lines as reading

LOGGER = logging.getLogger(__name__)
UPSERT = f"{INDEXES}/docs/upsert"
SEED = 11
BODY_MAX = 6_000_000


@pytest.fixture
def engine() -> ModelEngine:
    return ModelEngine(Limits(batch_vectors_max=200_000))


@pytest.fixture(params=["uvloop", "asyncio"])
def server(
    request: pytest.FixtureRequest, engine: ModelEngine, tmp_path: Path
) -> Iterator[Running]:
    limits = Limits(batch_vectors_max=200_000, body_bytes_max=BODY_MAX)
    app = application(tmp_path, engine=engine, config=ServerConfig(limits=limits))
    create(engine)
    with in_thread(app, loop=request.param) as running:
        yield running


def lines(count: int) -> bytes:
    return b"".join(b'{"id":"%d","values":[%d,0.5]}\n' % (n, n) for n in range(count))


def long_lines(size: int) -> bytes:
    """Return lines of 30 to 730 bytes, `size` bytes of them or a little more."""
    made: list[bytes] = []
    length = 0
    while length < size:
        n = len(made)
        pad = b"x" * (n * 131 % 700)
        made.append(b'{"id":"%d","values":[%d,0.5],"metadata":{"t":"%s"}}\n' % (n, n, pad))
        length += len(made[-1])
    return b"".join(made)


SIZES = [
    UPLOAD_BYTES_MIN - 1,
    UPLOAD_BYTES_MIN,
    FIRST_BYTES + PART_BYTES,
    PART_BYTES - 1,
    PART_BYTES,
    PART_BYTES + 1,
    2 * PART_BYTES,
    2 * PART_BYTES + UPLOAD_BYTES_MIN,
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_at_once", [True, False], ids=["at once", "in pieces"])
def test_bodies_of_any_length_arrive_whole_one_after_the_other(
    server: Running, engine: ModelEngine, size: int, is_at_once: bool
) -> None:
    source = random.Random(SEED)
    text = long_lines(size)
    body = text[: text.rindex(b"\n", 0, size) + 1].ljust(size, b"\n")
    count = body.count(b'"id"')
    request = head("POST", UPSERT, Content_Length=size) + body
    left = request + request + head("GET", f"{INDEXES}/docs/info", Connection="close")
    with server.connect() as connection:
        while left:
            step = len(left) if is_at_once else source.choice((1, 100, 70_000, 300_000))
            connection.sendall(left[:step])
            left = left[step:]
        answers = b"".join(iter(lambda: connection.recv(100_000), b""))

    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert b'"vectorCount":%d,' % count in answers.rpartition(b"HTTP/1.1")[2]
    for vector in engine.get(DOCS, [str(n) for n in range(count)]):
        assert vector.values.tolist() == [int(vector.id), 0.5]
        assert len(vector.metadata) == int(vector.id) * 131 % 700 + len(b'{"t":""}')


class FakeTransport(asyncio.Transport):
    """A connection of which the test gives the bytes to the newest protocol."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.BaseProtocol | None = None
        self.reads = True
        self.written = bytearray()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0


def test_a_part_stays_as_it_is_until_the_next_call_but_one() -> None:
    size = FIRST_BYTES + 9 * PART_BYTES

    async def receive_all() -> None:
        receives: asyncio.Future[Receive] = asyncio.get_running_loop().create_future()
        is_over = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            receives.set_result(scope["extensions"][ZERO_COPY_BODY]["receive"])
            await is_over.wait()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        state = ServerState()
        shared: dict[str, Any] = {}
        transport = FakeTransport()
        http = BoundedProtocol(
            uvicorn.Config(app, ws=WebSocketRefusal, log_config=None), state, shared
        )
        http.connection_made(transport)
        http.data_received(head("POST", "/", Content_Length=size))
        upload = transport.protocol
        assert isinstance(upload, Upload)
        receive = await receives

        def arrive(size: int, letter: bytes) -> None:
            while size:
                assert transport.reads
                with upload.get_buffer(-1)[:size] as free:
                    free[:] = letter * len(free)
                    filled = len(free)
                upload.buffer_updated(filled)
                size -= filled

        arrive(FIRST_BYTES, b"-")
        assert (await receive())["body"] == b"-" * FIRST_BYTES
        arrive(PART_BYTES, b"0")
        parts: list[bytearray] = []
        for number in range(1, 9):
            parts.append((await receive())["body"])
            arrive(PART_BYTES, b"%d" % number)  # as soon as it may
            for before, part in list(enumerate(parts))[-2:]:
                assert part == b"%d" % before * PART_BYTES, f"{number} overwrote {before}"
        assert len({id(part) for part in parts}) == 3
        assert transport.protocol is http  # that was the last
        is_over.set()
        await asyncio.gather(*state.tasks)
        assert transport.written.startswith(b"HTTP/1.1 204")
        (connections,) = shared.values()
        assert {id(connections.pool.acquire()) for _ in range(3)} == {id(part) for part in parts}
        http.connection_lost(ConnectionResetError())

    asyncio.run(receive_all())


def test_buffers_that_nobody_uses_are_let_go_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "_SPARE_S", 0.0)

    async def use() -> None:
        pool = BufferPool(asyncio.get_running_loop())
        several = [pool.acquire() for _ in range(3)]
        assert len({id(buffer) for buffer in several}) == 3
        alone = [sys.getrefcount(buffer) for buffer in several]
        pool.release([*several, bytearray(7)])
        assert [sys.getrefcount(buffer) - 1 for buffer in several] == alone
        for _ in range(4):  # what the loop was asked to do later is done
            await asyncio.sleep(0)
        assert [sys.getrefcount(buffer) for buffer in several] == alone

    asyncio.run(use())


def test_what_there_is_of_a_slow_body_is_read_before_it_goes_on(
    engine: ModelEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "WAIT_S_MAX", 0.01)
    app = application(tmp_path, engine=engine, config=ServerConfig(body_idle_s=3.0))
    create(engine)
    text = lines(50_000)
    with in_thread(app) as server, server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Content_Length=len(text)) + text[:400_000])
        status, _, envelope = answer(connection)  # the rest was not sent

    assert status == 400
    assert "stopped after 400000 bytes" in envelope["errors"][0]["message"]
    assert engine.status(DOCS).applied_seqno == 0


def test_a_body_refused_at_its_start_is_read_past_and_the_connection_goes_on(
    server: Running, engine: ModelEngine
) -> None:
    text = lines(50_000)
    with server.connect() as connection:
        statuses = []
        for path in (f"{INDEXES}/nope/upsert", UPSERT):
            connection.sendall(head("POST", path, Content_Length=len(text)) + text)
            statuses.append(answer(connection)[0])

    assert statuses == [404, 200]
    assert engine.status(DOCS).vector_count == 50_000


def test_a_body_that_is_too_long_is_refused_and_the_connection_closed(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Content_Length=3 * BODY_MAX) + lines(1_000))
        status, headers, _ = answer(connection)

        assert (status, headers["connection"]) == (413, "close")


@pytest.mark.parametrize("sent", [100, PART_BYTES // 2, PART_BYTES, PART_BYTES + 1])
@pytest.mark.parametrize("is_reset", [False, True])
def test_a_client_that_goes_in_the_middle_of_a_long_body_leaves_nothing_behind(
    server: Running, engine: ModelEngine, sent: int, is_reset: bool
) -> None:
    text = long_lines(2_500_000)
    with server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Content_Length=len(text)) + text[:sent])
        if is_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1,)) + bytes(7))
        else:
            connection.shutdown(socket.SHUT_WR)
            assert is_closed(connection)
    with server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Content_Length=len(text)) + text)
        assert answer(connection)[0] == 200

    assert engine.status(DOCS).applied_seqno == 1
    assert engine.status(DOCS).vector_count == text.count(b"\n")


@pytest.mark.parametrize("ending", ["refused", "gone", "taken"])
def test_nothing_of_a_long_body_is_left_on_disk_but_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    if ending == "gone" and not reading.is_built():  # Python writes nothing before the end
        pytest.skip("THE READING OF LINES WAS NOT BUILT: there is no C compiler")
    closed, close = threading.Event(), BlobWriter.close

    def closing_said(writer: BlobWriter) -> None:
        seen.append(len(files_of(tmp_path)))
        close(writer)
        closed.set()

    seen: list[int] = []
    monkeypatch.setattr(BlobWriter, "close", closing_said)
    text = lines(300_000)
    limits = Limits(batch_vectors_max=400_000)
    with closing(EmbeddedEngine.open(tmp_path / "data", EngineOptions(limits))) as engine:
        create(engine)
        app = application(tmp_path, engine=engine, config=ServerConfig(limits=limits))
        with in_thread(app) as server, server.connect() as connection:
            connection.sendall(head("POST", UPSERT, Content_Length=len(text)) + text[:-100])
            if ending == "gone":
                while not files_of(tmp_path):  # it may be read later than it is sent
                    assert not closed.is_set()
                connection.close()
            else:
                connection.sendall(b"{".ljust(100) if ending == "refused" else text[-100:])
                assert answer(connection)[0] == {"refused": 400, "taken": 200}[ending]
            assert closed.wait(60)
            expected = ["00000001"] if ending == "taken" else []
            assert [each.name for each in files_of(tmp_path)] == expected

        assert seen == [1]
        if ending == "taken":
            assert engine.wait_applied(DOCS, Seqno(1), 30)
        assert engine.status(DOCS).vector_count == (300_000 if ending == "taken" else 0)


def files_of(folder: Path) -> list[Path]:
    return list(folder.glob("data/indexes/*/blobs/*"))


def test_a_client_that_asks_before_it_sends_much_is_told_to_go_on(
    server: Running, engine: ModelEngine
) -> None:
    text = lines(50_000)
    with server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Content_Length=len(text), Expect="100-continue"))
        assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(text)
        assert answer(connection)[0] == 200

    assert engine.status(DOCS).vector_count == 50_000


@pytest.mark.parametrize("form", ["lines", "array", "chunked lines", "chunked array"])
def test_large_uploads_at_once_are_all_stored_when_clients_come_back_as_told(
    tmp_path: Path, form: str
) -> None:
    text = lines(20_000)  # of which five have room together, and eight are sent
    if "array" in form:
        text = b"[" + text.strip().replace(b"\n", b",") + b"]"
    config = ServerConfig(
        limits=Limits(batch_vectors_max=200_000), body_bytes_in_flight_max=5 * len(text) + 1
    )
    limits = EngineOptions(config.limits)
    stored: list[int] = []

    def upload(server: Running, number: int) -> None:
        while True:
            with server.connect() as connection:
                start = head("POST", UPSERT, Content_Length=len(text))
                if "chunked" in form:
                    start = head("POST", UPSERT, Transfer_Encoding="chunked")
                try:
                    connection.sendall(start)
                    for at in range(0, len(text), 500_000):
                        part = text[at : at + 500_000]
                        if "chunked" in form:
                            part = b"%x\r\n%b\r\n" % (len(part), part)
                        connection.sendall(part)
                    if "chunked" in form:
                        connection.sendall(b"0\r\n\r\n")
                except ConnectionError:
                    continue  # refused in the middle of it
                status, headers, _ = answer(connection)
            if status == 200:
                stored.append(number)
                return
            assert (status, headers["retry-after"]) == (429, "1")

    with closing(EmbeddedEngine.open(tmp_path / "data", limits)) as engine:
        create(engine)
        with in_thread(application(tmp_path, engine=engine, config=config)) as server:
            clients = [threading.Thread(target=upload, args=(server, n)) for n in range(8)]
            for each in clients:
                each.start()
            for each in clients:
                each.join(120)
        assert sorted(stored) == list(range(8))
        assert engine.wait_applied(DOCS, Seqno(8), 60)
        assert engine.status(DOCS).vector_count == 20_000
