"""Long work that is given up when nobody wants its result any more.

Who starts such work says with `interruptible` when it has no sense to go on. The work, however deep
below, calls `point` between its parts, where nothing is half done. Without the former it goes on to
its end, so the same functions serve work that has to be finished.

Each thread has its own checks: work that it hands to another one goes on there.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """Work was given up at one of its points. Who may give it up expects this."""


class _Checks(threading.local):
    """The checks of the work of a thread, the outermost first."""

    def __init__(self) -> None:
        self.now: tuple[Callable[[], None], ...] = ()


_checks = _Checks()


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Have `check` called at each point that this thread comes to in the block, after those of
    blocks around it. It raises to end the work, `Interrupted` unless somebody is to be told."""
    before = _checks.now
    _checks.now = (*before, check)
    try:
        yield
    finally:
        _checks.now = before


def point() -> None:
    """End the work of this thread here if there is no sense in going on.

    Raises:
        Exception: one of the checks raised it.
    """
    for check in _checks.now:
        check()


def parts(items: Iterable[T]) -> Iterator[T]:
    """Yield items, with a point before each. It looks where it is iterated, so iterate it in the
    thread whose work it is."""
    for item in items:
        point()
        yield item
