"""Serial executors on a shared thread pool.

Each index commits in one and applies in another, so its mutations keep their order while
thousands of indexes share a few threads. The messages that gathered while one was busy are
handled together: that is what makes group commit.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Message = TypeVar("Message")


class SerialExecutor(Generic[Message]):
    """Hands messages to `handle` in order, in batches, one batch at a time.

    `handle` must not raise: there is nobody to tell.
    """

    def __init__(self, pool: Executor, handle: Callable[[Sequence[Message]], None]) -> None:
        self._pool = pool
        self._handle = handle
        self._idle = threading.Condition()
        self._waiting: list[Message] = []
        self._batch: list[Message] = []  # that is being handled
        self._submitted_count = 0
        self._handled_count = 0
        self._is_running = False
        self.is_closed = False

    def submit(self, messages: Sequence[Message]) -> None:
        """Queue messages behind those already there; once it is closed, do nothing."""
        with self._idle:
            if not messages or self.is_closed:
                return
            self._waiting.extend(messages)
            self._submitted_count += len(messages)
            if self._is_running:
                return
            self._is_running = True
        self._pool.submit(self._run)

    @property
    def is_idle(self) -> bool:
        """Whether no message waits or is being handled."""
        with self._idle:
            return not self._is_running

    def more(self) -> Sequence[Message]:
        """Return the messages that wait, which are of the batch from now on; for `handle` alone."""
        with self._idle:
            more, self._waiting = self._waiting, []
            self._batch.extend(more)
            return more

    def join(self) -> None:
        """Wait until every message submitted before has been handled."""
        with self._idle:
            submitted_count = self._submitted_count
            self._idle.wait_for(lambda: self._handled_count >= submitted_count)

    def _run(self) -> None:
        while True:
            with self._idle:
                self._handled_count += len(self._batch)
                self._idle.notify_all()
                self._batch, self._waiting = self._waiting, []
                if not self._batch:
                    self._is_running = False
                    return
            self._handle(tuple(self._batch))
