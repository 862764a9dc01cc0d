"""Searches as tasks, and threads that run them without Python, beside the thread that asks.

A Python thread that searches takes the interpreter's lock before and after, and has to wait
for it while another works: with short searches that costs what the second core gains. These
threads enter ``pool.c`` once and stay there.
"""

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from vicinal.model import Ordinals
from vicinal.native.library import Library, library
from vicinal.native.structures import NO_MEMORY, UNVERIFIED, CodedRows, CodeSearch, PoolTask

WAITING_MAX = 4
"""Searches that may wait for each thread; one more is faster where it was asked for."""

_VERIFY = ctypes.CFUNCTYPE(ctypes.c_int64)
_COLLECTED_MAX = 64  # tasks, in one call
_SIGNALS_MAX = 64  # read at once, of a byte each; more are rarely unread than one


class SearchTask:
    """A search of some coded rows that any thread may run once.

    Args:
        built: Runs it.
        rows: The rows.
        search: The query; it points to `candidates`.
        candidates: Ordinals, written by the search.
        keepalive: The other objects that `rows` and `search` point to; they live as long as this.
        verify: Called in `run` with rows before their values are read, or None where all may be
            read. A pool calls nothing: it leaves a search that comes to such rows.

    Attributes:
        structure: The C structure that ``pool.c`` reads and writes. Its `cpu_seconds` are those
            that the search took in a pool; 0 if it ran elsewhere.
    """

    __slots__ = (
        "__weakref__", "_candidates", "_keepalive", "_library", "_raised", "_search", "_verify",
        "structure",
    )  # fmt: skip

    def __init__(
        self,
        built: Library,
        rows: CodedRows,
        search: CodeSearch,
        candidates: Ordinals,
        keepalive: object,
        verify: Callable[[Ordinals], None] | None = None,
    ) -> None:
        self._library = built
        self._search = search
        self._candidates = candidates
        self._keepalive = (rows, keepalive)
        self._verify = verify
        self._raised: BaseException | None = None
        self.structure = PoolTask(rows=ctypes.addressof(rows), search=ctypes.addressof(search))

    @property
    def seconds(self) -> float:
        """Seconds that it took, by the clock; 0 before it has run."""
        return cast(float, self.structure.seconds)

    @property
    def compared_count(self) -> int:
        """Codes of rows that it compared, the sample's left out; 0 before it has run."""
        return cast(int, self._search.compared_count)

    @property
    def expanded_count(self) -> int:
        """Rows that a walk through the graph went on from; 0 before it has run."""
        return cast(int, self._search.expanded_count)

    def run(self) -> None:
        """Search in this thread; `candidates` raises what `verify` raised, which ends it."""
        verify = self._verify
        if verify is None:
            self._library.run_task(self.structure)
            return

        def is_verified() -> int:
            try:
                verify(self._candidates[: self._search.unverified_count])
            except BaseException as error:  # which could not pass through C
                self._raised = error
                return 0
            return 1

        callback = _VERIFY(is_verified)
        self._search.verify = ctypes.cast(callback, ctypes.c_void_p)
        self._library.run_task(self.structure)
        self._search.verify = None

    @property
    def is_unverified(self) -> bool:
        """Whether a thread of a pool came to rows that are not verified, and left it."""
        return cast(bool, self.structure.status == UNVERIFIED) and self._raised is None

    def candidates(self) -> tuple[Ordinals, int] | None:
        """Return the candidates of a search that has run, and how many rows were rescored.

        None if the search is unusual, and left to Python.

        Raises:
            MemoryError: Nothing was searched.
            BaseException: `verify` raised it.
        """
        if self._raised is not None:
            raise self._raised
        status = self.structure.status
        if status == NO_MEMORY:
            raise MemoryError("no memory for a search by codes")
        return (self._candidates[:status], self._search.rescored_count) if status >= 0 else None


class SearchPool:
    """Threads that run search tasks; `close` it, or it closes itself at the end of the process.

    Args:
        waiting_max: Number of searches that may wait; `WAITING_MAX` for each thread by default.

    Attributes:
        descriptor: A file descriptor that can be read from when there is something to collect.
        threads: The threads.

    Raises:
        MemoryError: There is no memory for a pool.
        OSError: There are no file descriptors left.
    """

    def __init__(self, built: Library, threads: int, waiting_max: int | None = None) -> None:
        self._calls = built.pool
        self._waiting_max = WAITING_MAX * threads if waiting_max is None else waiting_max
        self._numbers = (ctypes.c_int64 * _COLLECTED_MAX)()
        self._count = 0
        # Also keeps every task, and so all that it points to, until a thread is done with it.
        self._running: dict[int, tuple[SearchTask, Callable[[], None]]] = {}
        self.descriptor, signalled = os.pipe()
        os.set_blocking(self.descriptor, False)
        self._pool = self._calls.open(signalled)
        if self._pool is None:
            os.close(self.descriptor)
            os.close(signalled)
            raise MemoryError("no memory for a pool of searches")
        self.threads = tuple(
            threading.Thread(
                target=self._calls.run,
                args=(self._pool,),
                name=f"vicinal-search_{number}",
                daemon=True,  # else the interpreter would wait for them before it stops them
            )
            for number in range(threads)
        )
        self._process = os.getpid()
        self._stop = weakref.finalize(
            self, _stop, built, self._pool, self.threads, self._running,
            (self.descriptor, signalled), self._process,
        )  # fmt: skip
        for thread in self.threads:
            thread.start()

    @staticmethod
    def of_this_machine() -> "SearchPool | None":
        """Return a pool that leaves one core to Python, None where there is nothing to gain."""
        if sys.platform == "win32":
            return None  # whose loop watches no pipes
        affinity = getattr(os, "sched_getaffinity", None)
        built, cores = library(), len(affinity(0)) if affinity else os.cpu_count() or 1
        return None if built is None or cores < 2 else SearchPool(built, cores - 1)

    def put(self, task: SearchTask, on_done: Callable[[], None]) -> bool:
        """Have a task done and `on_done` called by `collect`; return False if it is not taken.

        The pool keeps the task until then.
        """
        # A forked process has the pool and not its threads.
        if os.getpid() != self._process or self.is_closed:
            return False
        self._count += 1
        task.structure.number = self._count
        self._running[self._count] = (task, on_done)
        address = ctypes.addressof(task.structure)
        if self._calls.put(self._pool, address, self._waiting_max):
            return True
        del self._running[self._count]
        return False

    def collect(self) -> None:
        """Call `on_done` of all tasks that are done; return at once."""
        if self.is_closed:
            return
        with suppress(BlockingIOError):
            os.read(self.descriptor, _SIGNALS_MAX)
        for number in self._done():
            _, on_done = self._running.pop(number)
            on_done()

    @property
    def is_closed(self) -> bool:
        """Whether no task is taken any more."""
        return not self._stop.alive

    def close(self) -> None:
        """Do the tasks that were put, and end the threads.

        Tasks that are not collected by then never are; closing again does nothing.
        """
        self._stop()

    def _done(self) -> list[int]:
        """Return the numbers of the tasks that are done, each once."""
        numbers: list[int] = []
        address = ctypes.addressof(self._numbers)
        while True:
            count = self._calls.take(self._pool, address, _COLLECTED_MAX)
            numbers += self._numbers[:count]
            if count < _COLLECTED_MAX:
                return numbers


def _stop(
    built: Library,
    pool: int,
    threads: tuple[threading.Thread, ...],
    tasks: dict[int, tuple[SearchTask, Callable[[], None]]],
    descriptors: tuple[int, int],
    process: int,
) -> None:
    """Do the tasks that were put, end the threads, and free everything.

    Nothing is freed before the threads have ended: they read what the tasks point to.
    """
    if os.getpid() != process:
        return  # a thread of the other process may hold the lock for ever
    built.pool.stop(pool)
    for thread in threads:
        if thread.ident is not None:
            thread.join()
    tasks.clear()
    built.pool.close(pool)
    for descriptor in descriptors:
        os.close(descriptor)
