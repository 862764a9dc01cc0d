"""Searches that run beside the event loop, in threads that never touch Python.

The loop drives a query (`steps`) up to its searches, puts those into the pool, answers other
requests meanwhile, and goes on with the query when the pool says that they are done. That
uses the other cores when several clients ask at once, and costs two wake-ups, which a client
that asks alone would wait for. So while a client is alone its queries are searched in the loop.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic, thread_time
from typing import Final, TypeVar

from vicinal.steps import Pool, Steps, Task

T = TypeVar("T")

Client = tuple[str, int] | None
"""Host and port of a connection's other end, None where it has no such."""

ALONE_S: Final = 0.02
"""Ours: a client is alone when no other has asked for so long."""


class ClientTracker:
    """Tells whether several clients ask at once. Used from the event loop's thread alone.

    Requests that are answered in the loop never overlap, so that counting those under way
    says nothing; but connections that are used in turns tell.
    """

    def __init__(self) -> None:
        self._newest: Client = None
        self._newest_s = self._other_s = -ALONE_S

    def has_concurrent_clients(self, client: Client, now_s: float | None = None) -> bool:
        """Note a request, and tell whether another client has asked of late."""
        now_s = monotonic() if now_s is None else now_s
        if client is None or client != self._newest:
            self._newest, self._other_s = client, self._newest_s
        self._newest_s = now_s
        return now_s - self._other_s < ALONE_S


class SearchOffload:
    """Drives work in steps whose tasks a pool does.

    Args:
        pool: None to do all tasks in the loop's thread.
    """

    def __init__(self, pool: Pool | None) -> None:
        self._pool = pool
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_possible(self) -> bool:
        """Whether there are threads to hand tasks to."""
        return self._pool is not None

    async def timed(self, steps: Steps[T]) -> tuple[T, float]:
        """Return what the work returns, and the seconds of CPU it took.

        Cancelling gives the work up; tasks of it that have been put are done all the same.
        """
        seconds, start = 0.0, thread_time()
        try:
            while True:
                tasks = next(steps)
                left = self._put(tasks)
                seconds += thread_time() - start
                if left is not None:
                    await left
                seconds += sum(each.cpu_seconds for each in tasks)
                start = thread_time()
        except StopIteration as end:
            return end.value, seconds + thread_time() - start
        finally:
            steps.close()

    def close(self) -> None:
        """Stop watching the pool, which is closed by whoever opened it."""
        if self._loop is not None and self._pool is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._pool.descriptor)
        self._loop = None

    def _put(self, tasks: Sequence[Task]) -> asyncio.Future[None] | None:
        """Do tasks; return what is resolved when those are done that the pool has taken."""
        loop = self._watched()
        all_done: asyncio.Future[None] = loop.create_future()
        left = 0

        def on_done() -> None:
            nonlocal left
            left -= 1
            if not left and not all_done.done() and not loop.is_closed():
                all_done.set_result(None)

        here = []
        for task in tasks:
            if self._pool is not None and self._pool.put(task, on_done):
                left += 1
            else:
                here.append(task)
        for task in here:
            task.run()
        return all_done if left else None

    def _watched(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which watches the pool from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.close()
            self._loop = loop
            if self._pool is not None:
                loop.add_reader(self._pool.descriptor, self._pool.collect)
        return loop
