"""Applying the mutations of one index: to its state, in the order of the log.

Each batch of them becomes visible with one new snapshot. With a delay, which is for finding code
that does not wait for its writes, mutations are held back until they are due.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vicinal.engine.admission import vector_count
from vicinal.engine.backfill import Backfill
from vicinal.engine.executors import SerialExecutor
from vicinal.engine.health import Health
from vicinal.engine.log import Entry
from vicinal.engine.reader import Reader
from vicinal.engine.resources import Resources
from vicinal.engine.state import State
from vicinal.model import Mutation, Seqno


@dataclass(frozen=True, slots=True)
class Logged:
    """A durable mutation on its way to the state, with what was made for it (`State.apply`)."""

    entry: Entry
    mutation: Mutation
    backfill: Backfill | None = None


class Applier:
    """Applies logged mutations. Thread-safe, but for `submit`: one thread at a time.

    Args:
        state: The state they are applied to, under its lock.
        resources: Has the threads, and the queue whose bytes are released.
        delay_s: Seconds from `submit` until a mutation is applied.
        on_applied: Called after each batch, unless it failed.

    Attributes:
        vector_count: Number of vectors of all mutations applied.
    """

    def __init__(
        self,
        state: State,
        reader: Reader,
        resources: Resources,
        health: Health,
        delay_s: float,
        on_applied: Callable[[], None],
    ) -> None:
        self.vector_count = 0  # changes under the state's lock
        self._state = state
        self._reader = reader
        self._queue = resources.queue
        self._health = health
        self._on_applied = on_applied
        self._executor: SerialExecutor[Logged] = SerialExecutor(resources.writers, self._apply)
        self._delayed = _Delayed(delay_s, self._executor.submit)

    def submit(self, mutations: Sequence[Logged]) -> None:
        """Have mutations applied behind those submitted before."""
        self._delayed.submit(mutations)

    def join(self) -> None:
        """Apply now all that was submitted before, and wait until it is."""
        self._delayed.flush()
        self._executor.join()

    def wait(self, seqno: Seqno, timeout_s: float) -> bool:
        """See `engine.base.Engine.wait_applied`."""
        self._health.wait_for(lambda: self._reader.snapshot.applied_seqno >= seqno, timeout_s)
        self._health.check()
        return self._reader.snapshot.applied_seqno >= seqno

    @property
    def is_idle(self) -> bool:
        """Whether no mutation waits or is being applied."""
        return self._delayed.is_empty and self._executor.is_idle

    def close(self) -> None:
        """Wait for those being applied; those held back are in the log."""
        self._queue.release(_bytes(self._delayed.close()))
        self._executor.join()

    def _apply(self, mutations: Sequence[Logged]) -> None:
        try:
            if self._health.failure is None:
                with self._state.lock:
                    for logged in mutations:
                        now = datetime.now(UTC)
                        self._state.apply(logged.entry, logged.mutation, now, logged.backfill)
                        self.vector_count += vector_count(logged.mutation)
                    self._reader.snapshot = self._state.snapshot()
        except Exception as error:
            self._health.fail(error)
        self._queue.release(_bytes(mutations))
        self._health.notify()
        if self._health.failure is None:
            self._on_applied()


class _Delayed:
    """Mutations that are held back for a while."""

    def __init__(self, delay_s: float, submit: Callable[[Sequence[Logged]], None]) -> None:
        self._delay_s = delay_s
        self._submit = submit
        self._lock = threading.Lock()
        self._waiting: deque[tuple[float, Logged]] = deque()  # each with when it is due

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def submit(self, mutations: Sequence[Logged]) -> None:
        if not self._delay_s:
            self._submit(mutations)
            return
        due = time.monotonic() + self._delay_s
        self._waiting.extend((due, mutation) for mutation in mutations)
        timer = threading.Timer(self._delay_s, lambda: self.flush(time.monotonic()))
        timer.daemon = True
        timer.start()

    def flush(self, due: float = math.inf) -> None:
        with self._lock:
            self._submit(self._due(due))

    def close(self) -> Sequence[Logged]:
        with self._lock:
            return self._due(math.inf)

    def _due(self, due: float) -> Sequence[Logged]:
        mutations = []
        while self._waiting and self._waiting[0][0] <= due:
            mutations.append(self._waiting.popleft()[1])
        return mutations


def _bytes(mutations: Sequence[Logged]) -> int:
    return sum(logged.entry.record.size for logged in mutations)
