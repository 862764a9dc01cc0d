"""Waiting for a condition, with an end, and a clock that is as slow as the machine."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_POLL_S = 0.01
_TICK_S = 0.02


def wait_until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Return once the condition holds; fail when it does not in time."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, f"did not happen within {within_s:g} seconds"
        time.sleep(_POLL_S)


class Ticks:
    """The short sleeps that a thread has done, in seconds of a machine that does nothing else.

    What holds this process up holds the thread up as well: however busy the machine is, few ticks
    pass while another thread waits for its own time-outs, and none while the process is stopped.
    """

    def __init__(self) -> None:
        self.count = 0

    @property
    def seconds(self) -> float:
        return self.count * _TICK_S


@contextmanager
def ticking() -> Iterator[Ticks]:
    """Count ticks while a block runs."""
    ticks, is_over = Ticks(), threading.Event()

    def tick() -> None:
        while not is_over.wait(_TICK_S):
            ticks.count += 1

    thread = threading.Thread(target=tick, name="ticks")
    thread.start()
    try:
        yield ticks
    finally:
        is_over.set()
        thread.join()
