"""Lanes: serial queues on a shared thread pool.

Each index commits in one lane and applies in another, so its mutations keep their order
while thousands of indexes share a few threads. What has gathered while a lane was busy is
handed over together: that is what makes group commit.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class SerialExecutor(Generic[Item]):
    """Hands items to `handle` in order, in batches, one batch at a time.

    `handle` must not raise: there is nobody to tell.
    """

    def __init__(self, pool: Executor, handle: Callable[[Sequence[Item]], None]) -> None:
        self._pool = pool
        self._handle = handle
        self._idle = threading.Condition()
        self._waiting: list[Item] = []
        self._put_count = 0
        self._handled_count = 0
        self._is_running = False

    def put(self, items: Sequence[Item]) -> None:
        """Queue items behind those already there."""
        if not items:
            return
        with self._idle:
            self._waiting.extend(items)
            self._put_count += len(items)
            if self._is_running:
                return
            self._is_running = True
        self._pool.submit(self._run)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is being handled."""
        with self._idle:
            return not self._is_running

    def join(self) -> None:
        """Wait until everything that was put before has been handled."""
        with self._idle:
            put_count = self._put_count
            self._idle.wait_for(lambda: self._handled_count >= put_count)

    def _run(self) -> None:
        items: list[Item] = []
        while True:
            with self._idle:
                self._handled_count += len(items)
                self._idle.notify_all()
                items, self._waiting = self._waiting, []
                if not items:
                    self._is_running = False
                    return
            self._handle(items)
