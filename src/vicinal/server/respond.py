"""Putting replies on the wire.

The ``Content-Type`` of JSON is exactly ``application/json``: the AI binding of a Worker hands
out a stream instead of an object when a charset follows.
"""

import math
from dataclasses import replace

from vicinal.server.asgi import Send
from vicinal.server.calls import Reply
from vicinal.wire.codes import Answer
from vicinal.wire.envelope import Form


def wrapped(reply: Reply, form: Form) -> Reply:
    """Put the form that a route's clients read around a handler's reply."""
    return replace(reply, body=form.success(reply.body, reply.messages))


def refusal(body: bytes, answer: Answer, *, allowed: str = "", must_close: bool = False) -> Reply:
    """Reply with an error that has been written already.

    Args:
        body: The error, as this route's clients read it.
        answer: The same error, for the status and ``Retry-After``.
        allowed: For ``Allow``, when the method was wrong.
        must_close: Whether the connection cannot be used again.
    """
    headers: list[tuple[bytes, bytes]] = []
    if answer.retry_after is not None:
        # At least 1: clients take 0 for "at once", which is what put us here.
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(answer.retry_after))))
    if answer.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if allowed:
        headers.append((b"allow", allowed.encode()))
    if must_close:
        headers.append((b"connection", b"close"))
    return Reply(body, answer.status, tuple(headers))


async def send(send: Send, reply: Reply, *, with_body: bool = True) -> None:
    """Send a reply; `with_body` is false for HEAD, whose headers are those of GET."""
    content = (
        ()
        if reply.status == 204
        else (
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
        )
    )
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [*content, *reply.headers],
        }
    )
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})
