"""Every answer tells an id of its request that was made here, whoever gives the answer."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, application, call
from tests.support.server import Running, in_thread
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App
from vicinal.server.http import connection, request_ids

ID = re.compile(r"[0-9a-f]{16}")
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def app(tmp_path: Path) -> App:
    return application(tmp_path)


@pytest.fixture
def server(app: App) -> Iterator[Running]:
    with in_thread(app) as running:
        yield running


def test_ids_have_sixteen_digits_and_none_is_given_twice() -> None:
    ids = [request_ids.text(request_ids.new()) for _ in range(2_000)]

    assert len(set(ids)) == 2_000
    assert all(ID.fullmatch(each) for each in ids)


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/healthz", b"", 200),
        ("GET", "/metrics", b"", 200),
        ("GET", INDEXES, b"", 200),
        ("HEAD", INDEXES, b"", 200),
        ("OPTIONS", INDEXES, b"", 204),
        ("POST", INDEXES, b"{", 400),
        ("GET", f"{INDEXES}/none", b"", 404),
        ("GET", "/no/such/route", b"", 404),
        ("PATCH", INDEXES, b"", 405),
        ("POST", "/client/v4/accounts/acme/ai/v1/embeddings", b"{", 400),
    ],
)
def test_an_answer_and_an_error_have_an_id(
    app: App, method: str, target: str, body: bytes, status: int
) -> None:
    first, second = (call(app, method, target, body) for _ in range(2))

    assert first.status == status
    assert ID.fullmatch(first.headers["cf-ray"])
    assert first.headers["cf-ray"] != second.headers["cf-ray"]


@pytest.mark.parametrize("name", ["cf-ray", "CF-Ray", "x-request-id", "traceparent"])
def test_an_id_of_the_caller_is_not_taken_for_one_of_ours(
    app: App, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vicinal.access")

    answer = call(app, "GET", "/healthz", headers={name: "0123456789abcdef"})

    assert answer.headers["cf-ray"] != "0123456789abcdef"
    assert "0123456789abcdef" not in caplog.text
    assert answer.headers["cf-ray"] in caplog.text


def test_a_stream_has_an_id(tmp_path: Path) -> None:
    app = application(tmp_path)
    call(app, "POST", INDEXES, {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}})

    answer = call(app, "POST", f"{INDEXES}/docs/vectors/export", b"{}")

    assert answer.status == 200
    assert ID.fullmatch(answer.headers["cf-ray"])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"501"),
        (HEAD + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", b"426"),
    ],
)
def test_a_refusal_of_a_connection_has_an_id(server: Running, sent: bytes, status: bytes) -> None:
    with server.connect() as connected:
        connected.sendall(sent)
        answer = connected.recv(10_000)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert len(re.findall(rb"\r\ncf-ray: [0-9a-f]{16}\r\n", answer)) == 1


def test_one_connection_too_many_is_told_an_id(app: App) -> None:
    with (
        in_thread(app, connections_max=1) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        first.sendall(HEAD + b"\r\n")
        assert first.recv(10_000).startswith(b"HTTP/1.1 200 ")
        answer = second.recv(10_000)

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert re.search(rb"\r\ncf-ray: [0-9a-f]{16}\r\n", answer)


def test_a_refusal_that_waits_for_its_turn_has_an_id(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PIPELINED_MAX", 1)
    body = b"Content-Length: 5\r\n\r\nxx"
    with server.connect() as connected:
        connected.sendall((HEAD + b"\r\n") * 2 + HEAD.replace(b"GET", b"POST") + body)
        answers = b""
        while part := connected.recv(10_000):
            answers += part

    assert len(re.findall(rb"\r\ncf-ray: [0-9a-f]{16}\r\n", answers)) == answers.count(b"HTTP/1.1 ")


def test_ids_can_be_switched_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vicinal.access")
    config = ServerConfig(allowed_hosts=("x",), has_request_ids=False)

    answer = call(application(tmp_path, config=config), "GET", "/healthz")

    assert answer.status == 200
    assert "cf-ray" not in answer.headers
    assert "request" not in vars(caplog.records[0])["fields"]


def test_a_page_of_an_allowed_origin_may_read_the_id(tmp_path: Path) -> None:
    config = ServerConfig(allowed_origins=("https://app.example",))
    headers = {"host": "localhost", "origin": "https://app.example"}

    answer = call(application(tmp_path, config=config), "GET", "/healthz", headers=headers)

    assert "CF-Ray" in answer.headers["access-control-expose-headers"].split(", ")
