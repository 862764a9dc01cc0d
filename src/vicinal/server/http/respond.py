"""Responses on the wire: whole or as a stream, with the headers that go with an error.

The ``Content-Type`` of JSON is exactly ``application/json``: the AI binding of a Worker hands
out a stream instead of an object when a charset follows.
"""

import asyncio
import math
from contextlib import aclosing
from dataclasses import replace

from vicinal.errors import Error, Unavailable
from vicinal.server.concurrency import unless_disconnected
from vicinal.server.http.asgi import Receive, Send
from vicinal.server.http.framing import Headers
from vicinal.server.http.response import JSON, Response, Stream
from vicinal.wire import codes
from vicinal.wire.codes import ErrorResponse
from vicinal.wire.envelope import Envelope


def wrapped(response: Response, form: Envelope) -> Response:
    """Put the form that a route's clients read around a handler's response, unless it streams or is
    no JSON."""
    if response.stream is not None or response.content_type != JSON:
        return response
    return replace(response, body=form.success(response.body, response.messages))


def refusal(body: bytes, answer: ErrorResponse, *, allowed: str = "") -> Response:
    """Return the response to a request that fails, with `answer` written in `body`.

    `allowed` is the value of ``Allow``, when the method was wrong.
    """
    headers: list[tuple[bytes, bytes]] = []
    if answer.retry_after is not None:
        # At least 1: clients take 0 for "at once", which led to this refusal.
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(answer.retry_after))))
    if answer.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if allowed:
        headers.append((b"allow", allowed.encode()))
    return Response(body, answer.status, tuple(headers))


async def send(
    send: Send, response: Response, further: Headers = (), *, with_body: bool = True
) -> None:
    """Send a response with `further` headers; `with_body` is false for HEAD, whose headers are
    those of GET."""
    headers = [*response.headers, *further]
    if response.status not in (204, 304):
        length = b"%d" % len(response.body)
        headers[:0] = [(b"content-type", response.content_type), (b"content-length", length)]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})


async def send_stream(
    send: Send, receive: Receive, response: Response, stream: Stream, further: Headers = ()
) -> int:
    """Send a response while it is made, no faster than its client reads; return its bytes.

    When making it fails the client is told and the response is left without its end, so that
    nobody takes a part for the whole.

    Raises:
        ClientDisconnected: the client went; nothing is made any more.
        Error: the failure of `stream.parts`.
    """
    sent = 0

    async def deliver(part: bytes) -> None:
        nonlocal sent
        sent += len(part)
        await _send_part(send, part)

    async def pump() -> None:
        try:
            async for part in stream.parts:
                if part:
                    await deliver(part)
        except Error as error:
            await deliver(stream.failure(codes.response_for(error)))
            raise
        await send({"type": "http.response.body", "body": b""})

    async with aclosing(stream.parts):
        headers = [(b"content-type", response.content_type), *response.headers, *further]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        try:
            async with asyncio.timeout(stream.whole_s):
                await unless_disconnected(receive, pump())
        except TimeoutError:
            raise Unavailable(f"an answer took more than {stream.whole_s:g} seconds") from None
    return sent


async def break_off(send: Send, stream: Stream, error: Error) -> None:
    """Tell the client of a stream that has begun why it ends here, and leave it without its end."""
    await _send_part(send, stream.failure(codes.response_for(error)))


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})
