"""Threads for calls that a program does not wait for when it ends.

Python waits for the threads of `concurrent.futures` before it exits: a request that no server
answers would hold up a program that was interrupted, or a server that is stopped, for as long as a
request may take.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class DaemonThreads:
    """Makes calls in the order of `submit`, as many at a time as there are threads. One thread has
    calls made.

    As a context manager it waits for all calls in the end, and for none when it ends by
    `KeyboardInterrupt`.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._is_closed = False
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []  # none before the first call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_behind_calls()
        if not isinstance(error, KeyboardInterrupt):
            for thread in self._threads:
                thread.join()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have a call made; return its outcome to come. One that is cancelled before a thread takes
        its call is never made."""
        if not self._threads:
            self._start()
        outcome: Future[T] = Future()
        self._calls.put(partial(_make, call, outcome))
        return outcome

    def close(self) -> None:
        """Make no call that has not begun, and wait for none that has."""
        self._is_closed = True
        self._end_behind_calls()

    def _start(self) -> None:
        self._threads += [
            threading.Thread(target=self._make_calls, name=f"{self._name}-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def _end_behind_calls(self) -> None:
        for _ in self._threads:
            self._calls.put(None)

    def _make_calls(self) -> None:
        while (call := self._calls.get()) is not None and not self._is_closed:
            call()


def _make(call: Callable[[], T], outcome: Future[T]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # raised where the outcome is looked at
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
