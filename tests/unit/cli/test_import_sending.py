"""Batches of an import are received side by side, and written one after the other."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import click
import httpx
import msgspec
import numpy as np
import pytest

from vicinal.cli import import_sending
from vicinal.cli.client import Client, IndexConfigResponse, IndexResponse
from vicinal.cli.import_sending import BatchBeforeFailed, SentBatch, VectorSender
from vicinal.model import VectorBatch
from vicinal.readers.base import NumberedPlaces, Position, RowBatch

DIMENSIONS = 64
ROWS = 2_000  # of a batch: its body has several parts
WITHIN_S = 60.0
INDEX = IndexResponse("docs", IndexConfigResponse(DIMENSIONS, "cosine"), "2026-01-01")


class Server(httpx.BaseTransport):
    """Reads bodies part by part, and answers as it is told.

    Attributes:
        written: First ids of the bodies that came to their end, in the order of their ends.
        begun: First id of a body -> set when a part of its values has come.
        answers: First id of a body -> called for the answer to it.
    """

    def __init__(self) -> None:
        self.written: list[str] = []
        self.begun: dict[str, threading.Event] = {name: threading.Event() for name in "abc"}
        self.answers: dict[str, Callable[[], httpx.Response]] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        parts = iter(request.stream)
        name = msgspec.json.decode(next(parts).partition(b"\n")[0])["ids"][0][0]
        for _ in parts:
            self.begun[name].set()
        self.written.append(name)
        answer = self.answers.get(name)
        return accepted() if answer is None else answer()


def accepted() -> httpx.Response:
    return httpx.Response(200, json={"success": True, "result": {"mutationId": "m"}})


def refused() -> httpx.Response:
    problem = {"code": 40041, "message": "no more"}
    return httpx.Response(500, json={"success": False, "errors": [problem]})


def batch(name: str) -> RowBatch:
    names = [f"{name}{row}" for row in range(ROWS)]
    values = np.ones((ROWS, DIMENSIONS), np.float32)
    vectors = VectorBatch(names, values, [""] * ROWS, [b""] * ROWS)
    places = NumberedPlaces("row", range(1, ROWS + 1))
    return RowBatch(vectors, (), places, (), Position(0, ROWS), 1.0)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def sender(server: Server) -> Iterator[VectorSender]:
    with httpx.Client(transport=server, base_url="http://test") as http:
        yield VectorSender(Client(http, "acme"), INDEX, "upsert", skips_bad=True)


def test_a_batch_is_received_while_the_one_before_is_written_but_not_to_its_end(
    server: Server, sender: VectorSender
) -> None:
    sender.send("file", batch("a"), 0.0)
    seen: list[list[str]] = []

    def after_the_next_has_begun() -> httpx.Response:
        assert server.begun["c"].wait(WITHIN_S)
        seen.append(list(server.written))
        return accepted()

    server.answers["b"] = after_the_next_has_begun
    with ThreadPoolExecutor(2) as threads:
        before = threads.submit(sender.send, "file", batch("b"), 0.0)
        after = threads.submit(sender.send, "file", batch("c"), 0.0, before)
        assert (before.result(WITHIN_S).count, after.result(WITHIN_S).count) == (ROWS, ROWS)

    assert seen == [["a", "b"]]
    assert server.written == ["a", "b", "c"]


def test_a_batch_is_not_written_when_the_one_before_was_not(
    server: Server, sender: VectorSender
) -> None:
    sender.send("file", batch("a"), 0.0)

    def refused_later() -> httpx.Response:
        assert server.begun["c"].wait(WITHIN_S)
        return refused()

    server.answers["b"] = refused_later
    with ThreadPoolExecutor(2) as threads:
        before = threads.submit(sender.send, "file", batch("b"), 0.0)
        after = threads.submit(sender.send, "file", batch("c"), 0.0, before)
        with pytest.raises(click.ClickException, match="file, rows 1 to 2000: no more"):
            before.result(WITHIN_S)
        with pytest.raises(BatchBeforeFailed):
            after.result(WITHIN_S)

    assert server.written == ["a", "b"]


class Before(Future[SentBatch]):
    """A batch on its way, for which the next one waits: `waited` has how long it would."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []
        self.is_waited_for = threading.Event()

    def result(self, timeout: float | None = None) -> SentBatch:
        self.waited.append(timeout)
        if timeout is None:
            self.is_waited_for.set()
        return super().result(timeout)


def test_a_batch_whose_end_was_held_back_for_too_long_is_sent_again(
    server: Server, sender: VectorSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.send("file", batch("a"), 0.0)
    monkeypatch.setattr(import_sending, "HELD_S", 0.0)
    before = Before()

    with ThreadPoolExecutor(1) as threads:
        after = threads.submit(sender.send, "file", batch("c"), 0.0, before)
        assert before.is_waited_for.wait(WITHIN_S)
        assert server.written == ["a"]
        before.set_result(SentBatch(ROWS, (), is_visible=False))
        assert after.result(WITHIN_S).count == ROWS

    assert server.written == ["a", "c"]
    assert before.waited == [0.0, None]


def test_before_a_server_is_known_to_take_columns_it_gets_one_batch_at_a_time(
    server: Server, sender: VectorSender
) -> None:
    before = Before()

    with ThreadPoolExecutor(1) as threads:
        after = threads.submit(sender.send, "file", batch("b"), 0.0, before)
        assert before.is_waited_for.wait(WITHIN_S)
        assert not server.begun["b"].is_set()
        before.set_result(SentBatch(0, (), is_visible=False))
        assert after.result(WITHIN_S).count == ROWS

    assert before.waited == [None]
