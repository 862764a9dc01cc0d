"""A connection cannot hold memory or a place for ever by never finishing its headers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asgi import application
from tests.support.server import Running, in_thread
from vicinal.server.http import connection
from vicinal.server.http.connection import HEAD_BYTES_MAX

PIECE = b"x-filler: " + b"x" * 1_000 + b"\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with in_thread(application(tmp_path)) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S_MAX", 0.05)


def test_headers_that_are_many_but_bounded_are_read(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(HEAD_BYTES_MAX // len(PIECE) - 1):
            connection.sendall(PIECE)
        connection.sendall(b"\r\n")

        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("filler", [PIECE, b"x" * 1_000], ids=["many headers", "one header"])
def test_headers_without_end_are_refused(server: Running, filler: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx-long: ")
        answer = b""
        try:
            for _ in range(100 * HEAD_BYTES_MAX // len(filler)):
                connection.sendall(filler)
            answer = connection.recv(1_000)
        except ConnectionError:  # refused while this side was still sending
            return

        assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.usefixtures("impatient")
def test_headers_that_stop_arriving_are_refused(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost:")

        assert connection.recv(1_000).startswith(b"HTTP/1.1 408 ")
        assert connection.recv(1) == b""


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_says_nothing_is_closed_without_a_word(server: Running) -> None:
    with server.connect() as connection:
        assert connection.recv(1_000) == b""


@pytest.mark.usefixtures("impatient")
def test_the_second_request_of_a_connection_has_its_own_time(server: Running) -> None:
    with server.connect() as connection:
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")

        connection.sendall(request[:20])
        assert connection.recv(1_000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("impatient")
def test_a_body_that_does_not_begin_to_arrive_is_refused(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /healthz HTTP/1.1\r\nHost: localhost\r\ncontent-length: 9\r\n\r\n"
        )
        assert connection.recv(1_000).startswith(b"HTTP/1.1 405 ")  # answered without its body
        assert connection.recv(1) == b""

    with server.connect() as connection:
        connection.sendall(
            b"POST /client/v4/accounts/acme/vectorize/v2/indexes HTTP/1.1\r\nHost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: 9\r\n\r\n"
        )
        assert connection.recv(1_000).startswith(b"HTTP/1.1 408 ")
        assert connection.recv(1) == b""


@pytest.mark.usefixtures("impatient")
def test_a_body_that_begins_in_time_is_waited_for(server: Running) -> None:
    body = b'{"name":"slow","config":{"dimensions":2,"metric":"cosine"}}'
    with server.connect() as connection:
        connection.sendall(
            b"POST /client/v4/accounts/acme/vectorize/v2/indexes HTTP/1.1\r\nHost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        connection.sendall(body[:1])
        # As long as it takes another connection to be given up.
        with server.connect() as other:
            assert other.recv(1) == b""
        connection.sendall(body[1:])

        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")
