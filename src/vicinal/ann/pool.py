"""Threads that run compiled searches without Python, beside the thread that asks for them.

A Python thread that searches takes the interpreter's lock before and after, and has to wait
for it while another works: with short searches that costs what the second core gains. These
threads enter ``pool.c`` once and stay there.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress

from vicinal.ann.compiled import SearchTask
from vicinal.ann.library import Library, library
from vicinal.steps import Task

WAITING_MAX = 4
"""So many searches may wait for each thread; one more is faster where it was asked for."""

_COLLECTED = 64  # at once
_WORD_BYTES = 8


class SearchPool:
    """Implements `steps.Pool`; `close` it, or it closes itself at the end of the process.

    Args:
        built: What searches.
        threads: How many.
        waiting_max: How many searches may wait.

    Attributes:
        threads: That search.

    Raises:
        MemoryError: There is none for it.
        OSError: There are no file descriptors left.
    """

    def __init__(self, built: Library, threads: int, waiting_max: int | None = None) -> None:
        self._calls = built.pool
        self._waiting_max = WAITING_MAX * threads if waiting_max is None else waiting_max
        self._numbers = (ctypes.c_int64 * _COLLECTED)()
        self._count = 0
        # Also keeps every task, and so all that it points to, until a thread is done with it.
        self._under_way: dict[int, tuple[SearchTask, Callable[[], None]]] = {}
        self.descriptor, told = _descriptors()
        self._pool = self._calls.open(told)
        if self._pool is None:
            _close_descriptors(self.descriptor, told)
            raise MemoryError("no memory for a pool of searches")
        self.threads = tuple(
            threading.Thread(
                target=self._calls.run,
                args=(self._pool,),
                name=f"vicinal-search_{place}",
                daemon=True,  # else the interpreter would wait for them before it stops them
            )
            for place in range(threads)
        )
        self._process = os.getpid()
        self._stop = weakref.finalize(
            self, _stop, built, self._pool, self.threads, self._under_way, (self.descriptor, told),
            self._process,
        )  # fmt: skip
        for each in self.threads:
            each.start()

    @staticmethod
    def of_this_machine() -> "SearchPool | None":
        """Return a pool that leaves one core to Python, None where there is nothing to gain."""
        may_use = getattr(os, "sched_getaffinity", None)
        built, cores = library(), len(may_use(0)) if may_use else os.cpu_count() or 1
        return None if built is None or cores < 2 else SearchPool(built, cores - 1)

    def put(self, task: Task, on_done: Callable[[], None]) -> bool:
        """See `steps.Pool`."""
        # A forked process has the pool and not its threads.
        if not isinstance(task, SearchTask) or os.getpid() != self._process or self.is_closed:
            return False
        self._count += 1
        task.structure.number = self._count
        self._under_way[self._count] = (task, on_done)
        address = ctypes.addressof(task.structure)
        if self._calls.put(self._pool, address, self._waiting_max):
            return True
        del self._under_way[self._count]
        return False

    def collect(self) -> None:
        """See `steps.Pool`."""
        if self.is_closed:
            return
        with suppress(BlockingIOError):
            os.read(self.descriptor, _WORD_BYTES)
        for number in self._done():
            _, on_done = self._under_way.pop(number)
            on_done()

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return not self._stop.alive

    def close(self) -> None:
        """See `steps.Pool`. What is not collected by then never is; closing again does nothing."""
        self._stop()

    def _done(self) -> list[int]:
        """Return the numbers of the tasks that are done, each once."""
        found: list[int] = []
        address = ctypes.addressof(self._numbers)
        while True:
            count = self._calls.take(self._pool, address, _COLLECTED)
            found += self._numbers[:count]
            if count < _COLLECTED:
                return found


def _descriptors() -> tuple[int, int]:
    """Return one to read from and one that is written to, which may be the same."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return descriptor, descriptor
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return reading, writing


def _close_descriptors(*descriptors: int) -> None:
    for each in set(descriptors):
        os.close(each)


def _stop(
    built: Library,
    pool: int,
    running: tuple[threading.Thread, ...],
    under_way: dict[int, tuple[SearchTask, Callable[[], None]]],
    descriptors: tuple[int, int],
    process: int,
) -> None:
    """Do what was put, end the threads, and let go of everything.

    Nothing is freed before the threads have ended: they read what the tasks point to.
    """
    if os.getpid() != process:
        return  # a thread of the other process may hold the lock for ever
    built.pool.stop(pool)
    for each in running:
        if each.ident is not None:
            each.join()
    under_way.clear()
    built.pool.close(pool)
    _close_descriptors(*descriptors)
