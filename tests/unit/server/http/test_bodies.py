"""A body is read whole and bounded, or the request leaves no trace."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import INDEXES, Conversation, application, call
from tests.support.engines import create
from tests.support.model_engine import ModelEngine
from vicinal.errors import BadBody, BadContentType, BodyTooLarge, Overloaded
from vicinal.server.api.services import ServerConfig
from vicinal.server.concurrency import ClientDisconnected
from vicinal.server.http import bodies
from vicinal.server.http.asgi import Event, Headers
from vicinal.server.http.bodies import Body, BodyBudget, must_close


def read_all(
    talk: Conversation,
    *,
    headers: Headers | None = None,
    bytes_max: int = 10,
    budget: BodyBudget | None = None,
    idle_s: float = 30.0,
) -> bytes | bytearray:
    body = Body(talk.receive, headers or {}, bytes_max, budget or BodyBudget(1000), idle_s)
    try:
        return asyncio.run(body.receive())
    except BaseException:
        body.release()
        raise


@pytest.mark.parametrize(
    "chunks", [[b""], [b"0123456789"], [b"01234", b"56789"], [b"", b"0", b"", b"123456789", b""]]
)
def test_a_body_up_to_the_limit_is_read_however_it_is_cut(chunks: list[bytes]) -> None:
    assert read_all(Conversation(chunks)) == b"".join(chunks)


def test_a_body_in_parts_is_all_there() -> None:
    async def parts() -> list[bytes]:
        talk = Conversation([b"0", b"123", b"", b"4", b"56", b"789"])
        body = Body(talk.receive, {}, 10, BodyBudget(1000), 30.0)
        found = []
        while not body.is_complete:
            found.append(bytes(await body.receive(3)))
        assert await body.receive(3) == b""
        assert body.received_bytes == 10
        return found

    assert asyncio.run(parts()) == [b"0123", b"456", b"789"]


def test_what_is_put_together_changes_nothing_that_was_lent() -> None:
    lent: list[bytes] = [bytearray(b"01"), bytearray(b"23"), bytearray(b"45")]  # type: ignore[list-item]  # as buffers are

    assert read_all(Conversation(lent)) == b"012345"

    assert lent == [b"01", b"23", b"45"]


@pytest.mark.parametrize("chunks", [[b"0123456789a"], [b"0123456789", b"a"], [b"x"] * 11])
def test_a_body_one_byte_over_the_limit_is_refused(chunks: list[bytes]) -> None:
    with pytest.raises(BodyTooLarge, match="more than 10 bytes"):
        read_all(Conversation(chunks))


def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_read() -> None:
    talk = Conversation([b"x" * 11])

    with pytest.raises(BodyTooLarge, match="has 11 bytes, the limit is 10"):
        read_all(talk, headers={b"content-length": b"11"})

    assert asyncio.run(talk.receive())["body"] == b"x" * 11


def test_a_body_that_breaks_off_is_no_body() -> None:
    budget = BodyBudget(20)

    with pytest.raises(ClientDisconnected):
        read_all(Conversation([b"01234", b"56789"], breaks_off=True), budget=budget)

    budget.acquire_more(20, "all of it")


class Stalled(Conversation):
    async def receive(self) -> dict[str, object]:
        if self._sent:
            await asyncio.Event().wait()
        self._sent += 1
        return {"type": "http.request", "body": b"0123", "more_body": True}


def test_a_body_that_stops_arriving_is_refused() -> None:
    with pytest.raises(BadBody, match=r"stopped after 4 bytes for 0\.01 seconds"):
        read_all(Stalled(), idle_s=0.01)


def test_a_body_that_stops_arriving_between_parts_is_refused() -> None:
    async def parts() -> None:
        talk = Stalled()
        body = Body(talk.receive, {}, 10, BodyBudget(1000), 0.01)
        assert await body.receive(4) == b"0123"
        await body.receive(4)

    with pytest.raises(BadBody, match=r"stopped after 4 bytes for 0\.01 seconds"):
        asyncio.run(asyncio.wait_for(parts(), 30))


def test_a_compressed_body_is_refused() -> None:
    with pytest.raises(BadContentType, match="'gzip'"):
        read_all(Conversation([b"0"]), headers={b"content-encoding": b"gzip"})

    assert read_all(Conversation([b"0"]), headers={b"content-encoding": b"Identity"}) == b"0"


def test_bodies_together_are_bounded_but_for_one_of_unknown_length() -> None:
    budget = BodyBudget(15)
    read_all(Conversation([b"0123456789"]), budget=budget)
    over = Body(Conversation([b"01", b"2345"]).receive, {}, 10, budget, 30.0)

    async def read() -> None:
        assert await over.receive() == b"012345"

    asyncio.run(read())
    for _ in range(3):
        with pytest.raises(Overloaded, match=r"16 bytes of other requests.*15"):
            read_all(Conversation([b"0"]), budget=budget)

    over.release()  # then another may
    assert read_all(Conversation([b"01234"]), budget=budget) == b"01234"
    assert read_all(Conversation([b"0123456789"]), budget=budget)
    with pytest.raises(Overloaded):
        read_all(Conversation([b"0"]), budget=budget)


def length(size: int) -> Headers:
    return {b"content-length": b"%d" % size}


def test_bodies_wait_for_memory_in_the_order_in_which_they_came() -> None:
    async def read_many() -> None:
        budget = BodyBudget(15)
        done: list[int] = []

        async def read(number: int, size: int) -> None:
            talk = Conversation([b"x" * size])
            body = Body(talk.receive, length(size), 20, budget, 30.0)
            await body.receive()
            done.append(number)
            for _ in range(3):
                await asyncio.sleep(0)  # others have their turn meanwhile
            body.release()

        first = Body(Conversation([b"x" * 10]).receive, length(10), 20, budget, 30.0)
        await first.receive()
        readers = [asyncio.create_task(read(number, 8 + number)) for number in range(8)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert done == []  # none has room beside the first
        first.release()
        await asyncio.wait_for(asyncio.gather(*readers), 30)
        assert done == sorted(done)
        assert budget.counted.used == 0  # nothing is left counted

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(bodies, "SMALL_BYTES", 0)
        asyncio.run(read_many())


def test_a_body_that_waited_long_is_refused_and_those_behind_it_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "WAIT_S_MAX", 0.05)
    monkeypatch.setattr(bodies, "SMALL_BYTES", 0)

    async def read() -> None:
        budget = BodyBudget(15)
        first = Body(Conversation([b"x" * 10]).receive, length(10), 20, budget, 30.0)
        await first.receive()
        talk = Conversation([b"x" * 12])
        long = Body(talk.receive, length(12), 20, budget, 30.0)
        short = Body(Conversation([b"x" * 5]).receive, length(5), 20, budget, 30.0)
        waiting = asyncio.create_task(long.receive())
        await asyncio.sleep(0)
        monkeypatch.setattr(bodies, "WAIT_S_MAX", 30.0)
        behind = asyncio.create_task(short.receive())
        with pytest.raises(Overloaded) as refused:
            await waiting
        assert refused.value.retry_after == 1.0
        assert (await talk.receive())["body"] == b"x" * 12  # nothing was read of it
        assert await behind == b"x" * 5
        gone = asyncio.create_task(BodyBudget.acquire(budget, 9))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        for body in (first, long, short):
            body.release()
        assert budget.counted.used == 0  # nothing is left counted

    asyncio.run(read())


def test_a_short_body_does_not_wait_behind_long_ones() -> None:
    async def read() -> None:
        budget = BodyBudget(100_000)
        first = Body(Conversation([b"x" * 90_000]).receive, length(90_000), 10**6, budget, 30.0)
        await first.receive()
        waiting = asyncio.create_task(budget.acquire(90_000))
        await asyncio.sleep(0)
        await asyncio.wait_for(budget.acquire(1_000), 60)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(read())


def test_what_is_held_of_a_body_may_be_less_than_all_of_it() -> None:
    async def read() -> None:
        budget = BodyBudget(15)
        body = Body(Conversation([b"x" * 5, b"x" * 5]).receive, length(10), 10, budget, 30.0)
        await body.receive(5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(budget.acquire(10), 0.01)
        body.hold(3)
        await asyncio.wait_for(budget.acquire(10), 60)
        await body.receive()
        body.hold(100)  # never more than there is
        budget.release(10)
        body.release()
        assert budget.counted.used == 0  # nothing is left counted

    asyncio.run(read())


def test_a_body_that_drips_is_refused_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BYTES_PER_S_MIN", 1_000_000)

    class Dripping(Conversation):
        async def receive(self) -> dict[str, object]:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b"x", "more_body": True}

    async def read() -> None:
        body = Body(Dripping().receive, {}, 10**9, BodyBudget(10**9), 0.1)
        await body.receive(1)
        with pytest.raises(BadBody, match="at less than 1000000 bytes a second"):
            await body.receive(10**9)

    asyncio.run(asyncio.wait_for(read(), 30))


def test_one_body_alone_may_be_longer_than_all_together() -> None:
    budget = BodyBudget(5)

    assert read_all(Conversation([b"01234", b"56789"]), budget=budget) == b"0123456789"


def test_a_refused_body_holds_nothing() -> None:
    budget = BodyBudget(15)

    for _ in range(3):
        with pytest.raises(BodyTooLarge):
            read_all(Conversation([b"0123456789", b"0"]), budget=budget)

    assert read_all(Conversation([b"0"]), budget=budget)
    budget.acquire_more(14, "the rest")


@pytest.mark.parametrize(
    ("headers", "closes"),
    [
        ({}, False),
        ({b"content-length": b"11"}, False),
        ({b"content-length": b"20"}, False),
        ({b"content-length": b"21"}, True),
        ({b"content-length": b"1", b"expect": b"100-continue"}, True),
        ({b"transfer-encoding": b"chunked"}, True),
        ({b"content-length": b"many"}, False),
    ],
)
def test_a_connection_is_kept_only_when_the_rest_of_a_body_is_short(
    headers: Headers, closes: bool
) -> None:
    assert must_close(headers, bytes_max=10) is closes


LINES = b"".join(b'{"id":"v%d","values":[1,0]}\n' % number for number in range(9))
QUERY = b'{"vector":[1,0]}'


class Waiting(Conversation):
    """A client that stays and does not send its last chunk."""

    async def receive(self) -> Event:
        event = await super().receive()
        if not event.get("more_body", True):
            await asyncio.Event().wait()
        return event


def refuse(*_: object, **__: object) -> Any:
    raise Overloaded("no room", retry_after=1.0)


def break_down(*_: object, **__: object) -> Any:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize("body", [LINES, QUERY], ids=["lines", "query"])
@pytest.mark.parametrize(
    "fault", ["none", "not JSON", "cut off", "left", "stalled", "refused", "broken"]
)
def test_nothing_of_a_body_is_counted_after_its_request_whatever_becomes_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    body: bytes,
    is_announced: bool,
) -> None:
    engine = ModelEngine()
    create(engine)
    idle_s = 0.01 if fault == "stalled" else 3_600.0
    app = application(tmp_path, engine=engine, config=ServerConfig(body_idle_s=idle_s))
    budget = app._body_budget  # noqa: SLF001  # what a server counts is told by nothing else
    seen: list[int] = []
    release = budget.counted.release

    def spied(size: int) -> None:
        seen.append(budget.counted.used)
        release(size)

    monkeypatch.setattr(budget.counted, "release", spied)
    sent = body[:-4] if fault == "cut off" else body + b"x" if fault == "not JSON" else body
    chunks = (sent[:5], sent[5:])
    talk = {
        "left": Conversation(chunks, breaks_off=True),
        "stalled": Waiting(chunks),
    }.get(fault, Conversation(chunks))
    if fault in ("refused", "broken"):
        failing = refuse if fault == "refused" else break_down
        monkeypatch.setattr(engine, "append", failing)
        monkeypatch.setattr(engine, "query", failing)
    name = "upsert" if body is LINES else "query"

    answer = call(
        app,
        "POST",
        f"{INDEXES}/docs/{name}",
        sent if is_announced else b"",
        conversation=talk,
        headers={"content-type": "application/x-ndjson" if body is LINES else "application/json"},
    )

    assert (answer.status == 200) is (fault == "none"), answer.body
    assert max(seen) > 0
    assert budget.counted.used == 0
