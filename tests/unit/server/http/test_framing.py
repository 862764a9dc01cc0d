"""Where one request ends and the next begins: byte by byte, over real sockets."""

import re
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
from vicinal.server.http.connection import PIPELINED_MAX, UPLOAD_BYTES_MIN
from vicinal.server.http.framing import split_target

LIMITS = Limits(batch_vectors_max=100_000)
UPSERT = f"{INDEXES}/docs/upsert"
VECTOR = b'{"id":"a","values":[1,0]}'
END = head("GET", f"{INDEXES}/docs/info", Connection="close")
H2C = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2_Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
}
DELETES = f"DELETE {INDEXES}/docs HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.fixture
def engine() -> ModelEngine:
    engine = ModelEngine(LIMITS)
    create(engine)
    return engine


@pytest.fixture
def server(engine: ModelEngine, tmp_path: Path) -> Iterator[Running]:
    app = application(tmp_path, engine=engine, config=ServerConfig(limits=LIMITS))
    with in_thread(app) as running:
        yield running


def statuses(connection: socket.socket) -> list[int]:
    """Read to the end of a connection and return the statuses of the answers, in order."""
    received = b"".join(iter(lambda: connection.recv(100_000), b""))
    return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3})", received)]


def vector_count(engine: ModelEngine) -> int:
    return engine.status(DOCS).vector_count


def lines(size: int) -> bytes:
    """NDJSON of so many bytes, padded with empty lines."""
    text = b"".join(b'{"id":"%d","values":[%d,0.5]}\n' % (n, n) for n in range(size // 25))
    return text[: text.rindex(b"\n", 0, size) + 1].ljust(size, b"\n")


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in parts) + b"0\r\n\r\n"


# Protocols that are not spoken.


@pytest.mark.parametrize("form", ["length", "chunked"])
def test_a_request_with_an_upgrade_is_served_however_it_is_cut(
    server: Running, engine: ModelEngine, form: str
) -> None:
    if form == "length":
        request = head("POST", UPSERT, **H2C, Content_Length=len(VECTOR)) + VECTOR
    else:
        request = head("POST", UPSERT, **H2C, Transfer_Encoding="chunked") + chunked(VECTOR, 7)
    for cut in range(1, len(request)):
        with server.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(request[:cut])
            if cut % 4 == 0:  # an answer between the two makes certain that they come apart
                with server.connect() as other:
                    other.sendall(head("GET", "/healthz"))
                    assert answer(other)[0] == 200
            connection.sendall(request[cut:] + END)

            assert statuses(connection) == [200, 200], f"cut at {cut}"
    assert engine.status(DOCS).applied_seqno == len(request) - 1
    assert vector_count(engine) == 1


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c"])
@pytest.mark.parametrize("size", [30, 70_000, UPLOAD_BYTES_MIN - 1, UPLOAD_BYTES_MIN, 900_000])
@pytest.mark.parametrize("form", ["at once", "head first", "pieces", "chunked"])
def test_a_body_of_any_length_arrives_whole_behind_an_upgrade(
    server: Running, engine: ModelEngine, upgrade: str, size: int, form: str
) -> None:
    body = lines(size)
    framing = {"Transfer_Encoding": "chunked"} if form == "chunked" else {"Content_Length": size}
    request = head("POST", UPSERT, **{**H2C, "Upgrade": upgrade}, **framing)
    with server.connect() as connection:
        if form == "at once":
            connection.sendall(request + body + END)
        elif form == "chunked":
            connection.sendall(request + chunked(body, 50_000) + END)
        else:
            connection.sendall(request)
            piece = size if form == "head first" else 33_333
            for start in range(0, size, piece):
                connection.sendall(body[start : start + piece])
            connection.sendall(END)

        assert statuses(connection) == [200, 200]
    assert vector_count(engine) == body.count(b"{")


def test_a_body_is_never_taken_for_a_request(server: Running, engine: ModelEngine) -> None:
    for headers in (H2C, {**H2C, "Upgrade": "other"}, {"Connection": "Upgrade", "Upgrade": ""}, {}):
        for wait in (False, True):
            with server.connect() as connection:
                connection.sendall(
                    head("POST", f"{INDEXES}/docs/query", **headers, Content_Length=len(DELETES))
                )
                if wait:
                    with server.connect() as other:
                        other.sendall(head("GET", "/healthz"))
                        assert answer(other)[0] == 200
                connection.sendall(DELETES)
                connection.sendall(END)

                assert statuses(connection) == [400, 200]
    assert engine.get_index(DOCS)


def test_requests_with_an_upgrade_are_answered_in_their_order(
    server: Running, engine: ModelEngine
) -> None:
    upsert = head("POST", UPSERT, **H2C, Content_Length=len(VECTOR)) + VECTOR
    missing = head("GET", "/nope", **H2C)
    listed = head("GET", f"{INDEXES}/docs/list", **H2C)
    with server.connect() as connection:
        connection.sendall(3 * (upsert + missing + listed) + END)

        assert statuses(connection) == [200, 404, 200, 200, 404, 200, 200, 404, 200, 200]
    assert engine.status(DOCS).applied_seqno == 3


def test_a_client_that_asks_before_it_sends_behind_an_upgrade_is_told_to_go_on(
    server: Running, engine: ModelEngine
) -> None:
    for size in (len(VECTOR), UPLOAD_BYTES_MIN):
        with server.connect() as connection:
            connection.sendall(
                head("POST", UPSERT, **H2C, Content_Length=size, Expect="100-continue")
            )
            assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(VECTOR.ljust(size))
            assert answer(connection)[0] == 200
    assert vector_count(engine) == 1


WEBSOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Key": "x"}


@pytest.mark.parametrize("framing", [{}, {"Content_Length": len(DELETES)}])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_behind_an_attempt_to_open_a_websocket_is_a_request(
    server: Running, engine: ModelEngine, method: str, framing: dict[str, object]
) -> None:
    with server.connect() as connection:
        connection.sendall(head(method, INDEXES, **WEBSOCKET, **framing) + DELETES)

        assert statuses(connection) == [426]
    assert engine.get_index(DOCS)


def test_an_attempt_to_open_a_websocket_waits_for_the_requests_before_it(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(
            head("GET", f"{INDEXES}/docs/list") + head("GET", INDEXES, **WEBSOCKET) + DELETES
        )

        assert statuses(connection)[0] == 200


def test_a_websocket_that_the_connection_does_not_name_is_no_upgrade(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(
            head("POST", UPSERT, Upgrade="websocket", Content_Length=len(VECTOR)) + VECTOR + END
        )

        assert statuses(connection) == [200, 200]


# Heads that may be read in more than one way.

POST = b"POST %b HTTP/1.1\r\n" % UPSERT.encode()
BODY = b"19\r\n%b\r\n0\r\n\r\n" % VECTOR
TE = b"Transfer-Encoding: "


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (POST + b"Content-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nHost: x\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nHost: y\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x y\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x/y\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: u@x\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\n" + TE + b"gzip, chunked\r\n\r\n" + BODY, 501),
        (POST + b"Host: x\r\n" + TE + b"gzip\r\n" + TE + b"chunked\r\n\r\n" + BODY, 501),
        (POST + b"Host: x\r\n" + TE + b"chunked;a=b\r\n\r\n" + BODY, 501),
        (POST + b"Host: x\r\n" + TE + b"chunked, gzip\r\n\r\n" + BODY, 400),
        (POST + b"Host: x\r\n" + TE + b"chunked, chunked\r\n\r\n" + BODY, 400),
        (POST + b"Host: x\r\n" + TE + b"xchunked\r\n\r\n" + BODY, 501),
        (POST + b"Host: x\r\n" + TE + b"identity\r\n\r\n" + BODY, 501),
        (POST + b"Host: x\r\n" + TE + b"\r\n\r\n" + BODY, 400),
        (POST + b"Host: x\r\nTransfer-Encoding : chunked\r\n\r\n" + BODY, 400),
        (POST + b"Host: x\r\nTransfer_Encoding: chunked\r\n\r\n" + BODY, None),
        (POST + b"Host: x\r\nContent-Length: 5\r\n" + TE + b"chunked\r\n\r\n" + BODY, 400),
        (POST + b"Host: x\r\n" + TE + b"chunked\r\nContent-Length: 5\r\n\r\n" + BODY, 400),
        (POST.replace(b"1.1", b"1.0") + TE + b"chunked\r\n\r\n" + BODY, 400),
        (POST + b"Host: x\r\nContent-Length: 25\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nContent-Length: 25\r\nContent-Length: 0\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nContent-Length: 25, 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nContent-Length: +25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nContent-Length: -1\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nContent-Length: 0x19\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nContent-Length: 25a\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nContent-Length: 18446744073709551641\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nContent-Length: " + b"0" * 5_000 + b"25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nA: b\r\n c\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b" A: b\r\nHost: x\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nA: b\rContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nA: b\0c\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\r\nA\0: b\r\nContent-Length: 25\r\n\r\n" + VECTOR, 400),
        (POST + b"Host: x\nContent-Length: 25\n\n" + VECTOR, 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\nContent-Length: 5\r\n\r\nhello", 501),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x y/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (POST + b"Host: x\r\n" + TE + b"chunked\r\n\r\n+19\r\n", 400),
        (POST + b"Host: x\r\n" + TE + b"chunked\r\n\r\n0x19\r\n", 400),
        (POST + b"Host: x\r\n" + TE + b"chunked\r\n\r\n19 \r\n", 400),
        (POST + b"Host: x\r\n" + TE + b"chunked\r\n\r\n10000000000000019\r\n", 400),
        (POST + b"Host: x\r\n" + TE + b"chunked\r\n\r\n19\n", 400),
        (POST + b"Host: x\r\n" + TE + b"chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    server: Running, engine: ModelEngine, request_: bytes, status: int | None
) -> None:
    with server.connect() as connection:
        connection.sendall(request_ + DELETES)
        found = statuses(connection)

    if status is None:  # the one thing that it can mean
        assert found
        assert 500 not in found
    else:
        assert found == [status]
        assert engine.get_index(DOCS)
        assert vector_count(engine) == 0


def test_a_request_that_is_refused_waits_for_those_before_it(
    server: Running, engine: ModelEngine
) -> None:
    good = head("POST", UPSERT, Content_Length=len(VECTOR)) + VECTOR
    for bad in (
        POST + b"Content-Length: 25\r\n\r\n" + VECTOR,
        POST + b"Host: x\r\n" + TE + b"chunked\r\n\r\nzz\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
    ):
        with server.connect() as connection:
            connection.sendall(good + good + bad + DELETES)

            assert statuses(connection)[:2] == [200, 200]
    assert engine.get_index(DOCS)


def test_the_target_of_a_request_may_name_the_server(server: Running) -> None:
    for target, status in [
        (b"http://localhost:80/healthz", 200),
        (b"http://localhost", 404),
        (b"http://localhost?a=b", 404),
        (b"http://other.example/healthz", 403),
        (b"HTTP://[::1]/healthz?a", 200),
    ]:
        with server.connect() as connection:
            connection.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
            assert statuses(connection) == [status]


@pytest.mark.parametrize(
    ("target", "split"),
    [
        (b"/a?b", (None, b"/a?b")),
        (b"//h/a", (None, b"//h/a")),
        (b"*", (None, b"*")),
        (b"http://h", (b"h", b"/")),
        (b"http://h?q", (b"h", b"/?q")),
        (b"http://u:p@h:1/a?b=http://c", (b"h:1", b"/a?b=http://c")),
    ],
)
def test_a_target_is_split_into_authority_and_the_rest(
    target: bytes, split: tuple[bytes | None, bytes]
) -> None:
    assert split_target(target) == split


def test_trailers_are_no_headers(tmp_path: Path) -> None:
    app = application(tmp_path, tokens=["secret"])
    with in_thread(app) as server, server.connect() as connection:
        connection.sendall(
            head("POST", INDEXES, Transfer_Encoding="chunked")
            + b"2\r\n{}\r\n0\r\nAuthorization: Bearer secret\r\nHost: y\r\n\r\n"
        )

        assert answer(connection)[0] == 401


@pytest.mark.parametrize("filler", [b"x-filler: x\r\n", b"x"])
def test_trailers_without_end_are_refused(server: Running, filler: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(head("POST", UPSERT, Transfer_Encoding="chunked") + b"0\r\na: b\r\n")
        try:
            for _ in range(100):
                connection.sendall(filler * 10_000)
            answered = connection.recv(1_000)
        except ConnectionError:  # refused while this side was still sending
            return

        assert answered.startswith(b"HTTP/1.1 431 ")


def test_requests_that_wait_behind_each_other_are_bounded(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall((PIPELINED_MAX + 10) * head("GET", "/nope"))

        found = statuses(connection)
    assert set(found) == {404}
    assert PIPELINED_MAX <= len(found) < PIPELINED_MAX + 10


def test_many_requests_that_come_at_once_are_all_answered(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(200 * head("GET", "/nope", X="x" * 1_000) + END)

        assert statuses(connection) == [404] * 200 + [200]


def test_the_asterisk_is_nothing_here(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(head("OPTIONS", "*", Connection="close"))

        assert statuses(connection) == [404]


def test_a_line_that_is_empty_may_come_before_a_request(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"\r\n" + head("GET", "/healthz") + b"\r\n\r\n" + END)

        assert statuses(connection) == [200, 200]
        assert is_closed(connection)
