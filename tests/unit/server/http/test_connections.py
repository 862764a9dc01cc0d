"""Connections are bounded: in number, and each in time, whatever its client sends or does not."""

import http.client
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from uvicorn.config import LoopFactoryType

from tests.support.asgi import INDEXES, application
from tests.support.engines import create
from tests.support.model_engine import ModelEngine
from tests.support.server import Running, in_process, in_thread
from tests.support.sockets import answer, head, is_closed
from vicinal.model import IndexAddress, ListedVector, Scan
from vicinal.server.http import connection as connections
from vicinal.server.http.asgi import Receive, Scope, Send
from vicinal.server.http.connection import UPLOAD_BYTES_MIN

SOON_S = 60.0


def closes(connection: socket.socket) -> bool:
    """Tell whether the server closes a connection soon; it may be about to answer something."""
    connection.settimeout(SOON_S)
    try:
        while connection.recv(100_000):
            pass
    except ConnectionError:
        pass  # closed with bytes unread
    except TimeoutError:
        return False
    return True


# How many.


def test_one_connection_too_many_is_answered_503_and_leaves_room_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(tmp_path)
    with in_thread(app, connections_max=3, keep_alive_s=60) as server, ExitStack() as opened:
        kept = [opened.enter_context(server.connect()) for _ in range(3)]
        for connection in kept:  # answered, so it is there
            connection.sendall(head("GET", "/healthz"))
            assert answer(connection)[0] == 200
        for _ in range(5):
            with server.connect() as one_more:
                status, headers, envelope = answer(one_more)
                assert (status, headers["connection"], headers["retry-after"]) == (
                    503,
                    "close",
                    "1",
                )
                assert envelope["success"] is False
                assert "3 connections are open" in envelope["errors"][0]["message"]
                assert is_closed(one_more)
        for connection in kept:
            connection.sendall(head("GET", "/healthz"))
            assert answer(connection)[0] == 200

        kept[0].close()
        end = time.monotonic() + SOON_S
        while True:
            with server.connect() as newcomer:
                newcomer.sendall(head("GET", "/healthz"))
                if answer(newcomer)[0] == 200:
                    break
            assert time.monotonic() < end
    said = [each for each in caplog.records if "the most there may be" in each.getMessage()]
    assert len(said) == 1  # not once for each


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc and prlimit")
def test_a_server_without_files_left_goes_on_once_there_are_some(tmp_path: Path) -> None:
    import resource

    with in_process(tmp_path) as server, ExitStack() as opened:
        assert server.process is not None
        pid = server.process.pid
        headers = {"Authorization": f"Bearer {server.token}"}
        indexes = f"{server.base_url}/accounts/acme/vectorize/v2/indexes"
        client = opened.enter_context(httpx.Client(headers=headers, trust_env=False, timeout=60))
        body = {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}}
        assert client.post(indexes, json=body).status_code == 200
        assert client.get(f"{indexes}/docs/info").status_code == 200  # opens it
        open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files + 5, hard))
        idle = [opened.enter_context(server.connect()) for _ in range(50)]

        def cpu_s() -> float:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        # A connection that was there is served meanwhile, and nothing spins.
        before_s, start = cpu_s(), time.monotonic()
        for _ in range(20):
            assert client.get(f"{indexes}/docs/info").status_code == 200
        spent_s, passed_s = cpu_s() - before_s, time.monotonic() - start
        assert spent_s < 0.5 + passed_s / 2
        for each in idle:
            each.close()
        end = time.monotonic() + SOON_S
        while True:
            try:
                if httpx.get(
                    f"{indexes}/docs", headers=headers, trust_env=False, timeout=60
                ).is_success:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < end


# How long: what is awaited from a client.


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """One that soon loses its patience, and that needs a token."""
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.2)
    with in_thread(application(tmp_path, tokens=["secret"]), keep_alive_s=1) as running:
        yield running


@contextmanager
def answered(server: Running, request: bytes, *statuses: int) -> Iterator[socket.socket]:
    """A connection on which a request was answered with one of these.

    A busy machine may bring no head within the patience of `server`; then it is sent again.
    """
    for _ in range(100):
        with server.connect() as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
            if response.status != HTTPStatus.REQUEST_TIMEOUT:
                assert response.status in statuses
                yield connection
                return
    pytest.fail("the server takes no request")


@pytest.mark.parametrize(
    "more", [b"", b"\r\n", b"\r", b"\r\n" * 1_000, b"G", b"GET / HTTP/1.1\r\n"]
)
@pytest.mark.parametrize("before", [head("GET", "/healthz"), head("GET", INDEXES)])
def test_a_connection_is_closed_after_its_answer_whatever_little_comes(
    server: Running, before: bytes, more: bytes
) -> None:
    with answered(server, before, 200, 401) as connection:
        connection.sendall(more)

        assert closes(connection)


@pytest.mark.parametrize("before", [head("GET", "/healthz"), b""])
def test_a_connection_is_closed_that_sends_an_empty_line_now_and_then(
    server: Running, before: bytes
) -> None:
    with server.connect() as connection:
        connection.sendall(before)
        connection.settimeout(0.05)
        end = time.monotonic() + SOON_S
        received = b"?"
        while received:
            assert time.monotonic() < end
            try:
                connection.sendall(b"\r\n")
                received = connection.recv(1_000)
            except TimeoutError:
                pass
            except ConnectionError:
                received = b""


@pytest.mark.parametrize("form", ["length", "chunked"])
@pytest.mark.parametrize("size", [100, UPLOAD_BYTES_MIN - 1, UPLOAD_BYTES_MIN, 900_000])
@pytest.mark.parametrize("sent", [0, 1, 99])
def test_a_connection_is_closed_that_keeps_back_the_rest_of_a_refused_body(
    server: Running, size: int, sent: int, form: str
) -> None:
    framing = {"Content_Length": size} if form == "length" else {"Transfer_Encoding": "chunked"}
    first = b"%x\r\n" % size if form == "chunked" else b""
    request = head("POST", f"{INDEXES}/docs/upsert", **framing) + first
    with answered(server, request, 401) as connection:
        if form == "length" or sent:
            try:
                connection.sendall(b"x" * (sent * size // 100))
            except ConnectionError:
                return

        assert closes(connection)


def test_a_connection_is_closed_that_sends_the_rest_of_a_refused_body_byte_by_byte(
    server: Running,
) -> None:
    for size in (100_000, 900_000):
        request = head("POST", f"{INDEXES}/docs/upsert", Content_Length=size)
        with answered(server, request, 401) as connection:
            connection.settimeout(0.02)
            end = time.monotonic() + SOON_S
            received = b"?"
            while received:
                assert time.monotonic() < end
                try:
                    connection.sendall(b"x")
                    received = connection.recv(1_000)
                except TimeoutError:
                    pass
                except ConnectionError:
                    received = b""


def test_a_connection_goes_on_after_the_rest_of_a_refused_body(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S_MAX", 60.0)  # however long sending takes
    for size in (100, UPLOAD_BYTES_MIN, 900_000):
        with server.connect() as connection:
            connection.sendall(head("POST", f"{INDEXES}/docs/upsert", Content_Length=size))
            assert answer(connection)[0] == 401
            connection.sendall(b"x" * size + head("GET", "/healthz"))
            assert answer(connection)[0] == 200

            assert closes(connection)


def test_what_is_refused_is_said_once_and_shortly(
    server: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S_MAX", 60.0)  # however long sending takes
    caplog.set_level(logging.WARNING)
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 400 ")

    (record,) = caplog.records
    assert record.getMessage() == "Refused a request: one Host header is needed, there are 0"
    assert record.exc_info is None


# How it ends.


def test_a_request_that_is_cut_off_when_the_server_stops_is_answered_503(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = b'{"name":"docs"'
    with ExitStack() as opened:
        with in_thread(application(tmp_path), shutdown_timeout_s=1) as server:
            cut_off = opened.enter_context(server.connect())
            cut_off.sendall(head("POST", INDEXES, Content_Length=100) + body)
            idle, half, silent = (opened.enter_context(server.connect()) for _ in range(3))
            idle.sendall(head("GET", "/healthz"))
            assert answer(idle)[0] == 200
            half.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        # It has stopped, which `in_thread` sees to.
        status, headers, envelope = answer(cut_off)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert envelope["errors"][0]["message"] == "the server is being stopped"
        assert all(closes(each) for each in (cut_off, idle, half, silent))
    assert [each for each in caplog.records if each.exc_info] == []


def test_a_stream_that_is_cut_off_when_the_server_stops_says_so_and_has_no_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = threading.Event()

    class Endless(ModelEngine):
        def stream_vectors(
            self, address: IndexAddress, scan: Scan, count: int
        ) -> Iterator[Sequence[ListedVector]]:
            yield [ListedVector("first", "")]
            assert goes_on.wait(60)

    engine = Endless()
    create(engine)
    app = application(tmp_path, engine=engine)
    try:
        with ExitStack() as opened:
            with in_thread(app, shutdown_timeout_s=1) as server:
                connection = opened.enter_context(server.connect())
                connection.sendall(head("POST", f"{INDEXES}/docs/vectors/export", Content_Length=2))
                connection.sendall(b"{}")
                received = b""
                while b"first" not in received:
                    received += connection.recv(10_000)
                threading.Timer(2.0, goes_on.set).start()  # its thread is waited for
            while part := connection.recv(10_000):
                received += part
    finally:
        goes_on.set()
    assert b"the server is being stopped" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert [each for each in caplog.records if each.exc_info] == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("behind", [0, 1, 5])
def test_whoever_works_on_a_request_is_told_that_its_client_has_gone_whatever_is_behind_it(
    behind: int, loop: LoopFactoryType
) -> None:
    begun, told = threading.Event(), threading.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["path"] == "/waits":
            begun.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            told.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with in_thread(waits, loop=loop) as running:  # type: ignore[arg-type]  # any application will do
        with running.connect() as connection:
            connection.sendall(head("GET", "/waits") + head("GET", "/") * behind)
            assert begun.wait(SOON_S)
        assert told.wait(SOON_S)
