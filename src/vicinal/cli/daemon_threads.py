"""Threads for calls that an interrupted program does not wait for.

Python waits for the threads of `concurrent.futures` before it exits: a request that no server
answers would hold up a program that was interrupted, for as long as a request may take.
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
    """Makes calls in the order of `submit`, as many at a time as there are threads.

    As a context manager it waits for all calls in the end, and for none when it ends by
    `KeyboardInterrupt`.
    """

    def __init__(self, count: int, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._make_calls, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for _ in self._threads:
            self._calls.put(None)
        if not isinstance(error, KeyboardInterrupt):
            for thread in self._threads:
                thread.join()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have a call made; return its outcome to come."""
        outcome: Future[T] = Future()
        self._calls.put(partial(_make, call, outcome))
        return outcome

    def _make_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _make(call: Callable[[], T], outcome: Future[T]) -> None:
    try:
        result = call()
    except BaseException as error:  # raised where the outcome is looked at
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
