"""Acknowledging writes: the response to a mutation that is durable, or visible if asked for.

The response to a write means that it is durable. A client that wants it to be visible too sends
``Prefer: wait=SECONDS`` (RFC 7240); ``Preference-Applied`` in the response then says that it is.
Without that header the time was up first: the write stands all the same.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from vicinal.errors import MEMTABLES, Overloaded
from vicinal.model import Accepted, IndexAddress
from vicinal.server.api.request import ApiRequest
from vicinal.server.concurrency import Workers, resolved, unless_disconnected
from vicinal.server.http.asgi import Headers
from vicinal.server.http.response import Response
from vicinal.wire import responses

_WAIT = re.compile(rb"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:,|;|$)", re.IGNORECASE)

_PAUSE_S_MIN, _PAUSE_S_MAX = 0.001, 0.05
_SEAL_PAUSE_S = 0.05  # ours: a mutation of a megabyte takes a millisecond to be tried again
_HELD_S_MAX = 0.5  # ours: how long a thread waits for other nodes before others have their turn


async def logged_once_sealed(
    workers: Workers, log: Callable[[], Future[Accepted]], wait_s: float
) -> Future[Accepted]:
    """Log a mutation in a thread, again for `wait_s` seconds while memtables are being sealed.

    Raises:
        Error: as of `engine.base.Engine.append`.
    """
    # Asking again and again holds no thread, however many clients wait.
    loop = asyncio.get_running_loop()
    end = loop.time() + wait_s
    while True:
        try:
            return await workers.run(log)
        except Overloaded as error:
            if error.queue != MEMTABLES or loop.time() >= end:
                raise
        await asyncio.sleep(_SEAL_PAUSE_S)


async def acknowledge(
    request: ApiRequest,
    address: IndexAddress,
    logged: Future[Accepted],
    written: Callable[[Accepted], bytes] = responses.mutation,
) -> Response:
    """Answer a write once it is durable, and visible if the client asked for that."""
    accepted = await resolved(logged)
    response = Response(written(accepted))
    wait_s = preferred_wait_s(request.headers, request.services.config.wait_s_max)
    if wait_s is None:
        return response
    is_visible = await unless_disconnected(
        request.receive, _visible(request, address, accepted, wait_s)
    )
    if not is_visible:
        return response
    return replace(response, headers=((b"preference-applied", b"wait=%d" % wait_s),))


def preferred_wait_s(headers: Headers, wait_s_max: int) -> int | None:
    """Return the seconds that the client would wait, at most `wait_s_max`; None when it would not.

    A preference that cannot be read is no preference (RFC 7240, section 2).
    """
    wait = _WAIT.search(headers.get(b"prefer", b""))
    return min(int(wait[1]), wait_s_max) if wait else None


async def _visible(
    request: ApiRequest, address: IndexAddress, accepted: Accepted, wait_s: int
) -> bool:
    # Asking again and again holds no thread, however many clients wait.
    loop = asyncio.get_running_loop()
    end = loop.time() + wait_s
    pause_s = _PAUSE_S_MIN
    while not await _is_visible_here(request, address, accepted):
        if loop.time() >= end:
            return False
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)
    engine, workers = request.services.engine, request.services.workers
    if not engine.is_shared:
        return True
    # Other nodes are rarely behind this one by more than milliseconds.
    while (left_s := end - loop.time()) > 0:
        held_s = min(left_s, _HELD_S_MAX)
        if await workers.run(partial(engine.wait_applied, address, accepted.seqno, held_s)):
            return True
    return False


async def _is_visible_here(request: ApiRequest, address: IndexAddress, accepted: Accepted) -> bool:
    engine, workers = request.services.engine, request.services.workers
    ask = partial(engine.wait_applied, address, accepted.seqno, 0.0)
    return ask() if request.is_answered_at_once(address) else await workers.run(ask)
