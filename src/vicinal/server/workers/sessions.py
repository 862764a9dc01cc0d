"""Remote sessions: the indexes behind the bindings of an uploaded Worker, by a token.

Sessions are kept in memory: wrangler begins a new one when it is told that its token is not
known, which is also what it is told after a restart.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vicinal.errors import UnknownSession

SESSIONS_MAX = 1_000
SESSION_S = 2 * 3600.0  # wrangler renews its session before an hour is over


@dataclass(frozen=True, slots=True)
class Bindings:
    """The account and the indexes behind the bindings of a Worker.

    Attributes:
        account: The account of the indexes.
        authorization: The header that authenticates their requests, None for the request's own.
        indexes: Names of indexes by the names of the bindings.
    """

    account: str
    authorization: bytes | None
    indexes: Mapping[str, str]


class Sessions:
    """The newest sessions, by their tokens. Used from the event loop's thread alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, tuple[Bindings, float]] = OrderedDict()  # and their end

    def add(self, bindings: Bindings) -> str:
        """Begin a session and return its token; the oldest ends when there are too many."""
        token = secrets.token_urlsafe(32)
        self._sessions[token] = bindings, self._clock() + SESSION_S
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return token

    def bindings(self, token: str) -> Bindings:
        """Return the bindings of a session.

        Raises:
            UnknownSession: it has ended, or never was.
        """
        bindings, end_s = self._sessions.get(token, (None, 0.0))
        if bindings is None or end_s <= self._clock():
            self._sessions.pop(token, None)
            raise UnknownSession("the session is over, or of a server that has been restarted")
        return bindings
