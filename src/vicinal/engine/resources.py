"""What the open indexes of an engine share: threads, and a bound on queued bytes."""

import os
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import faiss

from vicinal.engine import memory
from vicinal.errors import Overloaded

WRITER_THREADS = 4  # commits wait for the disk, so more than there are cores
BACKGROUND_NICENESS = 10  # ours: a tenth of the time of a thread that answers, while there is one


class QueueBudget:
    """Bytes of mutations accepted but not yet applied, over all indexes. Thread-safe.

    Whoever is refused for want of room, here or in an index, waits here until there may be some.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._changed = threading.Condition()
        self.changes = 0  # how often there has come to be room, as far as anybody knows

    def take(self, size: int) -> None:
        """Reserve bytes; one mutation larger than the bound may pass alone.

        Raises:
            Overloaded: too much is reserved already.
        """
        with self._changed:
            if self._bytes and self._bytes + size > self._bytes_max:
                raise Overloaded(
                    f"{self._bytes} bytes of mutations are queued, {self._bytes_max} are allowed",
                    retry_after=1.0,
                )
            self._bytes += size

    def give(self, size: int) -> None:
        """Return reserved bytes; 0 when an index has room now, or will never have."""
        with self._changed:
            self._bytes -= size
            self.changes += 1
            self._changed.notify_all()

    def wait_for_change(self, seen: int, timeout_s: float) -> bool:
        """Wait until `changes` is no longer what was seen; return whether it is by then."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.changes != seen, min(timeout_s, threading.TIMEOUT_MAX)
            )


@dataclass(frozen=True, slots=True)
class Resources:
    """Shared by all open indexes; background work gets one thread for each kind, which gives way
    to those that answer."""

    queue: QueueBudget
    writers: Executor
    sealer: Executor
    merger: Executor

    @classmethod
    def start(cls, queue_bytes_max: int) -> "Resources":
        """Start the thread pools; threads themselves start on first use."""
        memory.economise()
        return cls(
            QueueBudget(queue_bytes_max),
            _pool("write", WRITER_THREADS, niceness=0),
            _pool("seal", 1, BACKGROUND_NICENESS),
            _pool("merge", 1, BACKGROUND_NICENESS),
        )

    def stop(self) -> None:
        """Wait for what runs and stop the threads."""
        for pool in (self.writers, self.sealer, self.merger):
            pool.shutdown()


def _pool(name: str, threads: int, niceness: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, f"vicinal-{name}", _begin, (niceness,))


def _begin(niceness: int) -> None:
    # The setting is one a thread; without it one search would take every core.
    faiss.omp_set_num_threads(1)
    if niceness and sys.platform == "linux":  # elsewhere it is the process's, not the thread's
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)  # less than that may not be asked for
        os.setpriority(os.PRIO_PROCESS, thread, max(own, niceness))
