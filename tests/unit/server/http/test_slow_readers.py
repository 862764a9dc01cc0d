"""A client that does not read its response is cut off, and what waits for all is bounded."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.server import in_thread
from vicinal.server.app import App
from vicinal.server.http import respond, slow_readers
from vicinal.server.http.asgi import Receive, Scope, Send
from vicinal.server.http.response import Response

SOON_S = 60.0


def large(size: int) -> App:
    """An application whose answers are long."""

    async def answer_at_length(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for what in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{what}.complete"})
            return
        response = Response(b"x" * size, headers=((b"connection", scope["path"][1:].encode()),))
        await respond.send(send, response)

    return answer_at_length  # type: ignore[return-value]  # an application all the same


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("size", [20_000_000, 60_000_000])
@pytest.mark.parametrize("ending", ["close", "keep-alive"])
def test_a_client_that_does_not_read_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, ending: str, loop: str
) -> None:
    monkeypatch.setattr(slow_readers, "WRITE_S_MAX", 0.3)
    with in_thread(large(size), loop=loop) as server, ExitStack() as opened:  # type: ignore[arg-type]
        idle = [opened.enter_context(server.connect()) for _ in range(4)]
        for each in idle:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            each.sendall(f"GET /{ending} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        end = time.monotonic() + SOON_S
        while not all(is_cut_off(each) for each in idle):
            assert time.monotonic() < end


def is_cut_off(connection: socket.socket) -> bool:
    """Tell whether the other side has aborted, without reading anything."""
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0 or not is_established(
        connection
    )


def is_established(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1


def test_a_client_that_reads_slowly_all_the_time_gets_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_readers, "WRITE_S_MAX", 1.5)
    size = 20_000_000
    with in_thread(large(size)) as server, server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        connection.sendall(b"GET /close HTTP/1.1\r\nHost: x\r\n\r\n")
        received, start = 0, time.monotonic()
        while part := connection.recv(200_000):
            received += len(part)
            # How slow it is: seconds longer than what the bytes may wait for, in all.
            time.sleep(max(0.0, start + 4.0 * received / size - time.monotonic()))
        assert received > size


def test_a_client_that_reads_a_byte_now_and_then_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_readers, "WRITE_S_MAX", 0.3)
    monkeypatch.setattr(slow_readers, "WRITE_BYTES_PER_S_MIN", 10_000_000)
    with in_thread(large(60_000_000)) as server, server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(b"GET /keep-alive HTTP/1.1\r\nHost: x\r\n\r\n")
        end = time.monotonic() + SOON_S
        is_reset = False
        while not is_reset:
            assert time.monotonic() < end
            try:
                assert connection.recv(1_000)
            except ConnectionResetError:
                is_reset = True


def test_what_waits_to_be_sent_is_bounded_over_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_readers, "UNSENT_BYTES_MAX", 50_000_000)
    with in_thread(large(30_000_000)) as server, ExitStack() as opened:
        idle = [opened.enter_context(server.connect()) for _ in range(4)]
        end = time.monotonic() + SOON_S
        for position, each in enumerate(idle):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            each.sendall(b"GET /keep-alive HTTP/1.1\r\nHost: x\r\n\r\n")
            assert each.recv(1) == b"H"  # its answer is on its way
            while position and not is_cut_off(idle[position - 1]):
                assert time.monotonic() < end

        assert not is_cut_off(idle[-1])  # the newest one may have all that it asked for
