"""An embedded engine that does everything in the thread that asks for it.

Nothing of it runs by itself, so after each call all that the call has caused is done: a
test can look at files, copy them or count calls, and a failure comes back with the same
seed.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest.mock import patch

from vicinal.budget import Budget
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.resources import Resources
from vicinal.model import Accepted, IndexAddress, Mutation, UnresolvedMutation

P = ParamSpec("P")
T = TypeVar("T")


class InlineExecutor(Executor):
    """Runs what is submitted before `submit` returns, or when a `deferred` block ends.

    What running work submits is run after it, as by a pool, not in the middle of it.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_busy = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        self._waiting.append(lambda: future.set_result(fn(*args, **kwargs)))
        if not self._is_busy:
            with self.deferred():
                pass
        return future

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Put off what is submitted in the block to its end."""
        was_busy, self._is_busy = self._is_busy, True
        try:
            yield
            while self._waiting:
                self._waiting.popleft()()
        finally:
            self._is_busy = was_busy


class InlineEngine(EmbeddedEngine):
    """Applies, seals and merges before `append` returns."""

    executor: InlineExecutor

    def append(
        self, address: IndexAddress, mutation: Mutation | UnresolvedMutation, *, wait_s: float = 0.0
    ) -> Future[Accepted]:
        """See `engine.base.Engine`."""
        # An index holds a lock as it queues; what runs inline may want that lock again.
        with self.executor.deferred():
            return super().append(address, mutation, wait_s=wait_s)


def open_inline(folder: Path, options: EngineOptions | None = None) -> InlineEngine:
    """Open an engine that works inline, and that tidies nothing by the clock."""
    executor = InlineExecutor()

    def start(queue_bytes_max: int) -> Resources:
        return Resources(Budget(queue_bytes_max), executor, executor, executor)

    with patch.object(Resources, "start", start):
        engine = InlineEngine.open(folder, replace(options or EngineOptions(), idle_s=1e6))
    engine.executor = executor
    return engine
