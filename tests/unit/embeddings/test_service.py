"""Whatever a service sends, asking it ends within its time and its bounds, by one clear error."""

import gzip
import json
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.ports import closed_port
from tests.support.rude_service import Connection, RudeService, rude_service
from tests.support.waiting import wait_until
from vicinal import interruption
from vicinal.daemon_threads import DaemonThreads
from vicinal.embeddings.remote import RemoteEmbedder
from vicinal.embeddings.remote_reranking import RemoteReranker
from vicinal.embeddings.service import (
    ATTEMPTS_MAX,
    BlockingService,
    ServiceAnswer,
    ServiceConfig,
    ServiceRequest,
)
from vicinal.errors import Overloaded, Unavailable
from vicinal.interruption import Interrupted

ENDS_WITHIN_S = 45.0
SHORT_S = 0.3
KEY = "the-key"
DEEP = b"[" * 20_000 + b"]" * 20_000
SOCKET_BYTES_MAX = 32 * 1024 * 1024
"""More than the buffers of a connection hold."""

Script = Callable[[Connection], None]
Ask = Callable[[str, float], object]


def embedded(url: str, timeout_s: float) -> object:
    embedder = RemoteEmbedder(url, key=KEY, models={"m": "m"}, timeout_s=timeout_s, pause_s=0.0)
    try:
        return embedder.embed("m", ["a text"])
    finally:
        embedder.close()


def ranked(url: str, timeout_s: float) -> object:
    reranker = RemoteReranker(
        url, key=KEY, models_there={"m": "m"}, timeout_s=timeout_s, pause_s=0.0
    )
    try:
        return reranker.rerank("m", "a query", ["a text"])
    finally:
        reranker.close()


@pytest.fixture(params=[embedded, ranked])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask a service for vectors, or for scores."""
    asked: Ask = request.param
    return asked


def error_of(call: Callable[[], object], kind: type[Exception] = Unavailable) -> str:
    """Return what a call says that fails so; it must end."""
    threads = DaemonThreads(1, "asks")
    outcome = threads.submit(call)
    with pytest.raises(kind) as raised:
        outcome.result(ENDS_WITHIN_S)
    threads.close()
    return str(raised.value)


def drips_its_head(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nServer: ")
    connection.drip(b"a")


def drips_its_body(connection: Connection) -> None:
    connection.head(Transfer_Encoding="chunked")
    connection.drip(b"1\r\n \r\n")


def drips_an_error(connection: Connection) -> None:
    connection.head("500 Broken")
    connection.drip(b"x")


SLOW: dict[str, Script] = {
    "says nothing": Connection.hang,
    "drips its head": drips_its_head,
    "drips interim answers": lambda it: it.drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
    "floods with interim answers": lambda it: it.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "drips its body": drips_its_body,
    "drips an error": drips_an_error,
    "is busy for long": lambda it: it.answer(b"", "503 Busy", Retry_After="1"),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_service_has_its_time_as_a_whole(ask: Ask, name: str) -> None:
    with rude_service(SLOW[name]) as service:
        said = error_of(lambda: ask(service.url, SHORT_S))
        wait_until(lambda: service.open_count == 0)

    assert service.url in said
    assert f"takes more than {SHORT_S:g} seconds" in said


def never_ends_its_head(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    connection.flood(b"X-More: " + b"a" * 1_000 + b"\r\n")


def closes_midway(connection: Connection) -> None:
    connection.head(Content_Length="1000")
    connection.send(b'{"data"')


def nests(before: bytes, after: bytes) -> Script:
    return lambda it: it.answer(before + DEEP + after)


def says(members: str) -> Script:
    """An answer with the members of the only vector and the only score."""
    body = f'{{"data":[{{"embedding":[1.0],{members}}}],"results":[{{{members}}}]}}'
    return lambda it: it.answer(body.encode())


WRONG: dict[str, tuple[Script, str]] = {
    "never ends its head": (never_ends_its_head, "breaks off: Receive buffer too long"),
    "closes at once": (lambda _: None, "breaks off"),
    "closes midway": (closes_midway, "breaks off: peer closed connection"),
    "speaks no HTTP": (lambda it: it.send(b"SSH-2.0\r\n\r\n"), "breaks off: illegal status line"),
    "nests arrays": (nests(b'{"data":[],"results":[],"more":', b"}"), "nested too deeply"),
    "nests objects": (
        lambda it: it.answer(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        "nested too deeply",
    ),
    "says no UTF-8": (lambda it: it.answer(b'{"\xff":1}'), "something else"),
    "says no JSON": (lambda it: it.answer(b"<html>"), "something else"),
    "says nothing": (lambda it: it.answer(b""), "something else"),
    "numbers from below": (says('"index":-1,"score":1'), "numbers them wrongly"),
    "numbers beyond the end": (says('"index":1,"score":1'), "numbers them wrongly"),
    "numbers without bound": (
        says(f'"index":{"9" * 4_000},"score":1'),
        "numbers them wrongly",
    ),
    "numbers with more digits than any": (
        says(f'"index":{"9" * 5_000},"score":1'),
        "something else",
    ),
    "numbers with parts": (says('"index":0.5,"score":1'), "something else"),
    "redirects": (
        lambda it: it.answer(b"", "307 Elsewhere", Location="http://127.0.0.1:9/"),
        "answers 307 for m: a redirect, which is not followed",
    ),
    "compresses": (
        lambda it: it.answer(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"),
        "compresses its answer",
    ),
    "refuses with depth": (
        lambda it: it.answer(b'{"error":{"message":' + DEEP + b"}}", "500 Broken"),
        "answers 500 for m",
    ),
    "complains at length": (
        lambda it: it.answer({"error": {"message": "no " * 20_000}}, "500 Broken"),
        "answers 500 for m: no no no",
    ),
    "tells the key": (
        lambda it: it.answer({"error": f"no such key: {KEY}"}, "401 Unauthorized"),
        "no such key: (hidden)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_service_that_answers_wrongly_is_named_with_what_is_wrong(ask: Ask, name: str) -> None:
    script, problem = WRONG[name]
    with rude_service(script) as service:
        said = error_of(lambda: ask(service.url, ENDS_WITHIN_S))
        wait_until(lambda: service.open_count == 0)

    assert service.url in said
    assert problem in said
    assert len(said) < 1_000
    assert KEY not in said


def test_an_answer_without_end_is_left_at_its_bound(ask: Ask) -> None:
    sent = 0

    def never_ends(connection: Connection) -> None:
        nonlocal sent
        connection.head()
        while True:
            connection.send(b" " * 65_536)
            sent += 65_536

    with rude_service(never_ends) as service:
        said = error_of(lambda: ask(service.url, ENDS_WITHIN_S))
        wait_until(lambda: service.open_count == 0)

    assert f"{service.url}" in said
    assert "answers with more than" in said
    assert sent < SOCKET_BYTES_MAX


def redirecting(status: int, location: str) -> Script:
    return lambda it: it.answer(b"", f"{status} Elsewhere", Location=location)


def test_a_redirect_leads_nowhere(ask: Ask) -> None:
    with rude_service(lambda it: it.answer(b"{}")) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            script = redirecting(status, f"{elsewhere.url}/embeddings")
            with rude_service(script) as service:
                assert f"answers {status}" in error_of(lambda: ask(service.url, ENDS_WITHIN_S))

    assert elsewhere.asked == []


def test_a_name_that_is_looked_up_for_ever_is_given_up(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()

    def look_up(*_: object) -> Any:
        is_over.wait(2 * ENDS_WITHIN_S)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    said = error_of(lambda: ask("http://nowhere.example/v1", SHORT_S))
    is_over.set()

    assert "http://nowhere.example/v1" in said
    assert f"takes more than {SHORT_S:g} seconds" in said


def test_a_key_that_is_no_header_is_not_shown(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "KEY", "line\nbreak")
    with rude_service(lambda it: it.answer({})) as service:
        said = error_of(lambda: ask(service.url, ENDS_WITHIN_S))

    assert "cannot be asked: its key is no value of a header" in said
    assert service.asked == []


def test_a_key_may_have_any_letters() -> None:
    with rude_service(lambda it: it.answer({"data": [{"embedding": [2.0]}]})) as service:
        embedder = RemoteEmbedder(service.url, key="ключ", models={"m": "m"})
        assert embedder.embed("m", ["a text"]).values.tolist() == [[1.0]]
        embedder.close()


def test_what_stands_before_the_host_is_not_shown(ask: Ask) -> None:
    with closed_port() as port:
        said = error_of(lambda: ask(f"http://me:secret@127.0.0.1:{port}/v1", ENDS_WITHIN_S))

    assert f"http://127.0.0.1:{port}/v1" in said
    assert "secret" not in said


def asked(service: RudeService, timeout_s: float = ENDS_WITHIN_S) -> BlockingService:
    return BlockingService(ServiceConfig(service.url, whole_s=timeout_s), "asked-service")


def test_work_that_is_given_up_waits_for_no_service() -> None:
    is_given_up = threading.Event()

    def check() -> None:
        if is_given_up.is_set():
            raise Interrupted

    with rude_service(Connection.hang) as service:
        blocking = asked(service, timeout_s=600.0)  # the end of the time is not what ends it

        def wait() -> object:
            with interruption.interruptible(check):
                return blocking.post(ServiceRequest(service.url, b"{}", 100))

        threads = DaemonThreads(1, "waits")
        outcome = threads.submit(wait)
        wait_until(lambda: service.open_count == 1)
        is_given_up.set()
        with pytest.raises(Interrupted):
            outcome.result(ENDS_WITHIN_S)
        wait_until(lambda: service.open_count == 0)
        blocking.close()
        threads.close()


def test_closing_ends_what_is_under_way_and_the_thread_that_talks() -> None:
    with rude_service(Connection.hang) as service:
        blocking = asked(service)
        threads = DaemonThreads(2, "waits")
        outcomes = [
            threads.submit(lambda: blocking.post(ServiceRequest(service.url, b"{}", 100)))
            for _ in "ab"
        ]
        wait_until(lambda: service.open_count == 2)
        assert "asked-service" in [thread.name for thread in threading.enumerate()]

        blocking.close()

        for outcome in outcomes:
            with pytest.raises(Unavailable, match="is asked no more"):
                outcome.result(ENDS_WITHIN_S)
        wait_until(lambda: "asked-service" not in [each.name for each in threading.enumerate()])
        with pytest.raises(Unavailable, match="is asked no more"):
            blocking.post(ServiceRequest(service.url, b"{}", 100))
        threads.close()


def test_many_threads_are_served_by_one() -> None:
    def echo(connection: Connection) -> None:
        connection.answer(connection.body)

    with rude_service(echo) as service:
        blocking = asked(service)

        def post(number: int) -> ServiceAnswer:
            return blocking.post(ServiceRequest(service.url, json.dumps(number).encode(), 100))

        with DaemonThreads(8, "asks") as threads:
            answers = [threads.submit(partial(post, number)) for number in range(50)]
        blocking.close()

    assert [json.loads(answer.result().content) for answer in answers] == list(range(50))


def keeps_until_the_next(connection: Connection) -> None:
    connection.answer(connection.body)
    connection.receive()


def test_a_request_is_repeated_whose_kept_connection_is_closed_as_it_comes() -> None:
    with rude_service(keeps_until_the_next) as service:
        blocking = asked(service)
        for number in range(4):
            answer = blocking.post(ServiceRequest(service.url, json.dumps(number).encode(), 100))
            assert json.loads(answer.content) == number
        blocking.close()

    assert [json.loads(connection.body) for connection in service.asked] == list(range(4))


def test_a_request_that_breaks_a_new_connection_is_not_repeated() -> None:
    with rude_service(lambda _: None) as service:
        blocking = asked(service)
        with pytest.raises(Unavailable, match=r"breaks off: \w+"):
            blocking.post(ServiceRequest(service.url, b"{}", 100))
        blocking.close()

    assert len(service.asked) == 1


def test_an_answer_that_breaks_off_on_a_kept_connection_is_not_asked_for_again() -> None:
    def breaks_the_second(connection: Connection) -> None:
        connection.answer(b"{}")
        connection.receive()
        closes_midway(connection)

    with rude_service(breaks_the_second) as service:
        blocking = asked(service)
        blocking.post(ServiceRequest(service.url, b"{}", 100))
        with pytest.raises(Unavailable, match="breaks off: peer closed connection"):
            blocking.post(ServiceRequest(service.url, b"{}", 2_000))
        blocking.close()

    assert len(service.asked) == 1


def test_a_service_that_closes_every_kept_connection_is_given_up_in_the_end() -> None:
    are_kept = threading.Barrier(ATTEMPTS_MAX)

    def keeps_all(connection: Connection) -> None:
        are_kept.wait(ENDS_WITHIN_S)
        keeps_until_the_next(connection)

    with rude_service(keeps_all) as service:
        blocking = asked(service)
        request = ServiceRequest(service.url, b"{}", 100)
        with DaemonThreads(ATTEMPTS_MAX, "asks") as threads:
            for answer in [threads.submit(lambda: blocking.post(request)) for _ in "abc"]:
                answer.result(ENDS_WITHIN_S)
        with pytest.raises(Unavailable, match=r"breaks off: \w+"):
            blocking.post(request)
        blocking.close()

    assert len(service.asked) == ATTEMPTS_MAX


def test_a_pause_that_the_service_asks_for_is_kept_within_bounds(ask: Ask) -> None:
    busy = lambda it: it.answer(b"", "429 Busy", Retry_After="9" * 400)  # noqa: E731
    with rude_service(busy) as service:
        said = error_of(lambda: ask(service.url, ENDS_WITHIN_S), Overloaded)

    assert len(service.asked) == 1
    assert "answers 429" in said
