"""Holding work in the middle, to see what is done meanwhile and what becomes of it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from vicinal.interruption import Interrupted

HELD_S_MAX = 120.0  # a test that holds so long has failed


class Held:
    """Holds the first call of a function until it is let go, and counts all of its calls.

    Args:
        patched: Puts the function back.
        owner: The module or class that has it.
        name: Of the function.
    """

    def __init__(self, patched: pytest.MonkeyPatch, owner: object, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)
        self.is_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.call_count = 0

        def held(*args: Any, **named: Any) -> Any:
            self.call_count += 1
            if not self.is_begun.is_set():
                self.is_begun.set()
                assert self.may_go_on.wait(HELD_S_MAX)
            return real(*args, **named)

        patched.setattr(owner, name, held)

    def wait(self) -> None:
        """Return once the function is held."""
        assert self.is_begun.wait(HELD_S_MAX)

    def go_on(self) -> None:
        """Let it go."""
        self.may_go_on.set()


class StopAt:
    """Gives work up at its n-th point, counted from 1; `count` tells how many it came to."""

    def __init__(self, stop: int) -> None:
        self.count = 0
        self._stop = stop

    def __call__(self) -> None:
        self.count += 1
        if self.count == self._stop:
            raise Interrupted
