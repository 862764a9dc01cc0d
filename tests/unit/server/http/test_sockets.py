"""Over real sockets: cut-off bodies, refused bodies, chunks, kept and closed connections."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, application
from tests.support.engines import DOCS, create
from tests.support.model_engine import ModelEngine
from tests.support.server import Running, in_thread
from tests.support.sockets import answer, head, is_closed
from vicinal.limits import Limits
from vicinal.server.api.services import ServerConfig

VECTOR = b'{"id":"a","values":[1,0]}'
UPSERT = f"{INDEXES}/docs/upsert"
BODY_MAX = 1_000


@pytest.fixture(scope="module")
def engine() -> ModelEngine:
    return ModelEngine()


@pytest.fixture(scope="module")
def server(engine: ModelEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = ServerConfig(limits=Limits(body_bytes_max=BODY_MAX))
    app = application(tmp_path_factory.mktemp("server"), engine=engine, config=config)
    with in_thread(app) as running:
        yield running


@pytest.fixture(autouse=True)
def docs(engine: ModelEngine) -> Iterator[None]:
    """An empty index for each test."""
    create(engine)
    yield
    engine.delete_index(DOCS)


def test_a_body_cut_off_half_way_leaves_nothing_behind(
    server: Running, engine: ModelEngine
) -> None:
    for sent in (b"", VECTOR[:10], VECTOR + b"\n" + VECTOR[:10]):
        with server.connect() as connection:
            connection.sendall(head("POST", UPSERT, Content_Length=3 * len(VECTOR)) + sent)
            connection.shutdown(socket.SHUT_WR)
            assert is_closed(connection)

    assert engine.status(DOCS).applied_seqno == 0


def test_a_chunked_body_cut_off_half_way_leaves_nothing_behind(
    server: Running, engine: ModelEngine
) -> None:
    with server.connect() as connection:
        chunk = b"%x\r\n%b\r\n" % (len(VECTOR), VECTOR)
        connection.sendall(head("POST", UPSERT, Transfer_Encoding="chunked") + chunk)
        connection.shutdown(socket.SHUT_WR)
        assert is_closed(connection)

    assert engine.status(DOCS).applied_seqno == 0


def test_a_body_that_stops_arriving_is_refused(engine: ModelEngine, tmp_path: Path) -> None:
    app = application(tmp_path, engine=engine, config=ServerConfig(body_idle_s=1.0))
    with in_thread(app) as impatient, impatient.connect() as connection:
        connection.sendall(head("POST", UPSERT, Content_Length=100) + VECTOR)
        status, _, envelope = answer(connection)

    assert status == 400
    assert "stopped after 25 bytes" in envelope["errors"][0]["message"]
    assert engine.status(DOCS).applied_seqno == 0


def test_a_chunked_body_is_put_together(server: Running, engine: ModelEngine) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    client.request(
        "POST",
        UPSERT,
        body=iter([VECTOR[:7], VECTOR[7:]]),
        encode_chunked=True,
        headers={"transfer-encoding": "chunked"},
    )
    response = client.getresponse()

    assert response.status == 200, response.read()
    assert engine.status(DOCS).vector_count == 1
    client.close()


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(
    server: Running, engine: ModelEngine
) -> None:
    with server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Content_Length=len(VECTOR), Expect="100-continue"))
        assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(VECTOR)
        status, headers, _ = answer(connection)

    assert status == 200
    assert "connection" not in headers
    assert engine.status(DOCS).vector_count == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", UPSERT, 413),
        ("POST", f"{INDEXES}/nope/nope", 404),
        ("PATCH", UPSERT, 405),
        ("DELETE", f"{INDEXES}/nope", 404),
    ],
)
def test_a_client_that_asks_and_is_refused_finds_the_connection_closed(
    server: Running, method: str, path: str, status: int
) -> None:
    with server.connect() as connection:
        connection.sendall(head(method, path, Content_Length=BODY_MAX + 1, Expect="100-continue"))
        got, headers, _ = answer(connection)

        assert got == status
        assert headers["connection"] == "close"
        assert is_closed(connection)


def test_a_connection_is_used_again_after_a_body_somewhat_too_large(server: Running) -> None:
    with server.connect() as connection:
        size = 2 * BODY_MAX
        connection.sendall(head("POST", UPSERT, Content_Length=size) + b"x" * size)
        assert answer(connection)[0] == 413

        connection.sendall(head("GET", INDEXES))
        assert answer(connection)[0] == 200


@pytest.mark.parametrize("size", [2 * BODY_MAX + 1, 10**12])
def test_a_connection_is_closed_after_a_body_far_too_large(server: Running, size: int) -> None:
    with server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Content_Length=size))
        status, headers, _ = answer(connection)

        assert (status, headers["connection"]) == (413, "close")
        assert is_closed(connection)


def test_a_chunked_body_without_end_is_cut_short(server: Running, engine: ModelEngine) -> None:
    with server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Transfer_Encoding="chunked"))
        chunk = b"%x\r\n%b\r\n" % (BODY_MAX // 2, b" " * (BODY_MAX // 2))
        connection.sendall(3 * chunk)
        status, headers, _ = answer(connection)

    assert (status, headers["connection"]) == (413, "close")
    assert engine.status(DOCS).applied_seqno == 0


def test_requests_sent_without_waiting_are_answered_in_order(server: Running) -> None:
    with server.connect() as connection:
        first = head("POST", UPSERT, Content_Length=len(VECTOR)) + VECTOR
        connection.sendall(first + head("GET", f"{INDEXES}/docs/list") + head("GET", "/nope"))

        reader = connection.makefile("rb")
        seen = []
        for _ in range(3):
            status = int(reader.readline().split()[1])
            length = 0
            while (line := reader.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            seen.append((status, json.loads(reader.read(length))["result"]))

    assert [status for status, _ in seen] == [200, 200, 404]
    assert seen[1][1]["vectors"] == [{"id": "a"}]


def test_bytes_that_are_no_http_are_refused(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")

        assert connection.recv(1_000).startswith(b"HTTP/1.1 400")
        assert is_closed(connection)


def test_a_head_request_gets_the_headers_alone(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(head("HEAD", INDEXES) + head("GET", INDEXES))

        reader = connection.makefile("rb")
        assert b"200" in reader.readline()
        while (line := reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length"):
                assert int(line.split(b":")[1]) > 0
        # No body: what follows the headers is the next response.
        assert reader.readline().startswith(b"HTTP/1.1 200")


def test_the_content_type_is_exactly_json(server: Running) -> None:
    for method, path in (("GET", INDEXES), ("GET", "/nope"), ("PATCH", INDEXES)):
        with server.connect() as connection:
            connection.sendall(head(method, path))

            assert answer(connection)[1]["content-type"] == "application/json"


def test_a_name_is_percent_encoded_by_its_bytes(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(head("GET", f"{INDEXES}/d%6fcs") + head("GET", f"{INDEXES}/a%2Fb"))
        assert answer(connection)[2]["result"]["name"] == "docs"


def test_an_attempt_to_open_a_websocket_is_refused_quietly(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(
            head("GET", INDEXES, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Key="x")
        )

        assert answer(connection)[0] == 426
        assert is_closed(connection)
