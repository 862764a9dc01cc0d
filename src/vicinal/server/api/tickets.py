"""Tickets: leave to ask once, soon, for what a browser is to fetch by itself.

A browser streams a file to its disk only where it asks alone, without the header that a token
travels in, and a token does not belong into an address, which histories and proxies keep. So who
has a token is given a ticket for the address. It is good once and for a short time; and it is worth
what the token is when the ticket is used, so nothing if that was revoked meanwhile.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from vicinal.errors import Overloaded, Unauthenticated
from vicinal.server.http.asgi import Headers

TICKET: Final = "ticket"
"""The parameter of an address that has one."""

VALID_S: Final = 30.0
"""Ours: seconds that a ticket is good for; a page uses it at once."""

TICKETS_MAX: Final = 16
"""Ours: tickets that may be out at one time."""

_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Leave:
    until_s: float
    headers: Headers


class Tickets:
    """The tickets that are out. Used from the event loop's thread alone; `clock` tells seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._given: dict[str, _Leave] = {}

    def give(self, headers: Headers) -> str:
        """Return a ticket for a caller who has been let in by `headers`, which hold the token.

        Raises:
            Overloaded: `TICKETS_MAX` are out.
        """
        self._evict()
        if len(self._given) >= TICKETS_MAX:
            raise Overloaded(
                f"{TICKETS_MAX} tickets are out, the most there may be",
                retry_after=VALID_S,
                queue="tickets",
            )
        ticket = secrets.token_urlsafe(_BYTES)
        self._given[ticket] = _Leave(self._clock() + VALID_S, headers)
        return ticket

    def redeem(self, ticket: str) -> Headers:
        """Return the headers of who was given a ticket, which is good no more.

        Raises:
            Unauthenticated: it is none of ours, was used, or is too old.
        """
        self._evict()
        given = self._given.pop(ticket, None)
        if given is None:
            raise Unauthenticated(
                f"the ticket is not known: one is good once, for {VALID_S:.0f} seconds"
            )
        return given.headers

    def _evict(self) -> None:
        now = self._clock()
        old = [ticket for ticket, leave in self._given.items() if leave.until_s <= now]
        for ticket in old:
            del self._given[ticket]
