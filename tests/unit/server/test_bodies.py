"""A body is read whole and bounded, or the request leaves no trace."""

import asyncio

import pytest

from tests.support.asgi import Conversation
from vicinal.errors import BadBody, BadContentType, BodyTooLarge, Overloaded
from vicinal.server.asgi import Headers
from vicinal.server.bodies import Body, Meter, must_close
from vicinal.server.work import CallerGone


def read_all(
    talk: Conversation,
    *,
    headers: Headers | None = None,
    bytes_max: int = 10,
    meter: Meter | None = None,
    idle_s: float = 30.0,
) -> bytes | bytearray:
    body = Body(talk.receive, headers or {}, bytes_max, meter or Meter(1000), idle_s)
    try:
        return asyncio.run(body.take())
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
        body = Body(talk.receive, {}, 10, Meter(1000), 30.0)
        found = []
        while not body.is_complete:
            found.append(bytes(await body.take(3)))
        assert await body.take(3) == b""
        assert body.count == 10
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
    meter = Meter(20)

    with pytest.raises(CallerGone):
        read_all(Conversation([b"01234", b"56789"], breaks_off=True), meter=meter)

    meter.take(20, 0)


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
        body = Body(talk.receive, {}, 10, Meter(1000), 0.01)
        assert await body.take(4) == b"0123"
        await body.take(4)

    with pytest.raises(BadBody, match=r"stopped after 4 bytes for 0\.01 seconds"):
        asyncio.run(asyncio.wait_for(parts(), 30))


def test_a_compressed_body_is_refused() -> None:
    with pytest.raises(BadContentType, match="'gzip'"):
        read_all(Conversation([b"0"]), headers={b"content-encoding": b"gzip"})

    assert read_all(Conversation([b"0"]), headers={b"content-encoding": b"Identity"}) == b"0"


def test_bodies_together_are_bounded_and_what_is_given_back_counts_no_more() -> None:
    meter = Meter(15)
    read_all(Conversation([b"0123456789"]), meter=meter)

    with pytest.raises(Overloaded, match=r"10 bytes of other requests.*15"):
        read_all(Conversation([b"012345"]), meter=meter)
    assert read_all(Conversation([b"01234"]), meter=meter) == b"01234"

    meter.give_back(15)
    assert read_all(Conversation([b"0123456789"]), meter=meter)


def test_one_body_alone_may_be_longer_than_all_together() -> None:
    meter = Meter(5)

    assert read_all(Conversation([b"01234", b"56789"]), meter=meter) == b"0123456789"


def test_a_refused_body_holds_nothing() -> None:
    meter = Meter(15)

    for _ in range(3):
        with pytest.raises(BodyTooLarge):
            read_all(Conversation([b"0123456789", b"0"]), meter=meter)

    assert read_all(Conversation([b"0"]), meter=meter)
    meter.take(14, 1)


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
