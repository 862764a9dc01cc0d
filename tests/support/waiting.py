"""Waiting for a condition, with an end."""

import time
from collections.abc import Callable

_POLL_S = 0.01


def wait_until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Return once the condition holds; fail when it does not in time."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, f"did not happen within {within_s:g} seconds"
        time.sleep(_POLL_S)
