"""Waiting for a store that is away or asks to come again."""

import time
from collections.abc import Callable
from typing import TypeVar

from vicinal.errors import Unavailable

PATIENCE_S = 120.0  # pauses without progress in between; ours
_PAUSE_S = 0.25
_PAUSE_MAX_S = 8.0

T = TypeVar("T")


def pause(seconds: float) -> None:
    """Wait; tests replace this."""
    time.sleep(seconds)


class Patience:
    """Pauses between attempts: as long as was asked for, else doubling, `PATIENCE_S` in all."""

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._next_s = _PAUSE_S

    def wait(self, error: Unavailable) -> None:
        """Wait before another attempt.

        Raises:
            Unavailable: `error`, when only a person can help; without a time to come again when
                patience has ended.
        """
        if error.retry_after is None:
            raise error
        if self._waited_s >= PATIENCE_S:
            raise Unavailable(f"{error} (still after {self._waited_s:.0f} s)") from error
        wanted_s = min(max(error.retry_after, self._next_s), PATIENCE_S)
        pause(wanted_s)
        self._waited_s += wanted_s
        self._next_s = min(2 * self._next_s, _PAUSE_MAX_S)


def patiently(call: Callable[[], T]) -> T:
    """Make a call again while it fails for a reason that may pass by itself."""
    patience = Patience()
    while True:
        try:
            return call()
        except Unavailable as error:
            patience.wait(error)
