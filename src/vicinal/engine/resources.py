"""The resources that open indexes share: threads, and a bound on queued bytes."""

import os
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from vicinal.budget import Budget
from vicinal.engine import memory
from vicinal.engine.watched import WorkTimes
from vicinal.errors import Overloaded

WRITER_THREADS = 4  # commits wait for the disk, so more than there are cores
BACKGROUND_NICENESS = 10  # ours: a tenth of the time of a thread that answers, while there is one


@dataclass(frozen=True, slots=True)
class Resources:
    """Shared by all open indexes; background work gets one thread for each kind, which gives way
    to those that answer. `queue` counts bytes of mutations accepted and not yet applied. A thread
    that an index refuses for another reason waits on it, too, so all that may end such a refusal
    notifies it."""

    queue: Budget
    writers: Executor
    sealer: Executor
    merger: Executor
    times: WorkTimes = field(default_factory=WorkTimes)

    @classmethod
    def start(cls, queue_bytes_max: int) -> "Resources":
        """Start the thread pools; threads themselves start on first use."""
        memory.economise()
        return cls(
            Budget(queue_bytes_max),
            _pool("write", WRITER_THREADS, niceness=0),
            _pool("seal", 1, BACKGROUND_NICENESS),
            _pool("merge", 1, BACKGROUND_NICENESS),
        )

    def acquire(self, size: int) -> None:
        """Count `size` bytes as queued.

        Raises:
            Overloaded: that is too many.
        """
        if not self.queue.acquire(size):
            raise Overloaded(
                f"{self.queue.used} bytes of mutations are queued, {self.queue.bound} are allowed",
                retry_after=1.0,
                queue="writes",
            )

    def stop(self) -> None:
        """Wait for what runs and stop the threads."""
        for pool in (self.writers, self.sealer, self.merger):
            pool.shutdown()


def _pool(name: str, threads: int, niceness: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, f"vicinal-{name}", _begin, (niceness,))


def _begin(niceness: int) -> None:
    if niceness and sys.platform == "linux":  # elsewhere it is the process's, not the thread's
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)  # less than that may not be asked for
        os.setpriority(os.PRIO_PROCESS, thread, max(own, niceness))
