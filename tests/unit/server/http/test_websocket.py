"""An attempt to open a WebSocket is refused, quietly, and the server goes on."""

import logging
from pathlib import Path

import pytest

from tests.support.asgi import application
from tests.support.server import in_thread

UPGRADE = (
    b"GET /miniflare/acme?index.VECTORIZE=docs&MF-Binding=VECTORIZE HTTP/1.1\r\n"
    b"Host: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_a_websocket_is_refused_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    with in_thread(application(tmp_path)) as running:
        for _ in range(2):
            with running.connect() as client:
                client.sendall(UPGRADE)
                answer = b""
                while chunk := client.recv(4096):
                    answer += chunk

                assert answer.startswith(b"HTTP/1.1 426 ")
                assert answer.endswith(b"\r\n\r\n")

    assert caplog.records == []


def test_a_client_that_hangs_up_at_once_is_not_worth_a_word_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    with in_thread(application(tmp_path)) as running:
        for _ in range(10):
            with running.connect() as client:
                client.sendall(UPGRADE)

    assert caplog.records == []
