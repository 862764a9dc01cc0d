"""Searches that run in threads that never take the interpreter's lock, beside the event loop.

The loop prepares a query, puts its searches into the pool, answers other requests, and finishes
the query when the pool reports them done. That uses the other cores while several clients ask at
once, and costs two wake-ups, which a client that asks alone would wait for. So while a client is
alone its queries are searched in the loop.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic, thread_time
from typing import Final, TypeVar

from vicinal.native.pool import SearchPool, SearchTask
from vicinal.prepared import Prepared

T = TypeVar("T")
Answer = TypeVar("Answer")

Client = tuple[str, int] | None
"""Host and port of the other end of a connection; None for a Unix socket."""

ALONE_S: Final = 0.02
"""A client is alone when no other has asked for this long; ours."""


class ClientTracker:
    """Tells whether several clients ask at one time. Used from the event loop's thread alone.

    Requests that are answered in the loop never overlap, so their number says nothing; but
    connections that are used in turns tell.
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
    """Has the tasks of prepared work run by a pool."""

    def __init__(self, pool: SearchPool) -> None:
        self._pool = pool
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(
        self, prepare: Callable[[], Prepared[T]], finish: Callable[[T], Answer]
    ) -> tuple[Answer, float]:
        """Prepare, run and finish; return the answer and its seconds of CPU.

        Tasks that the pool has taken are run also when this is cancelled.
        """
        start = thread_time()
        prepared = prepare()
        pending = self._put(prepared.tasks)
        seconds = thread_time() - start
        if pending is not None:
            await pending
        start = thread_time()
        answer = finish(prepared.finish())
        seconds += sum([task.structure.cpu_seconds for task in prepared.tasks])
        return answer, seconds + thread_time() - start

    def close(self) -> None:
        """Stop watching the pool, which its opener closes."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._pool.descriptor)
        self._loop = None

    def _put(self, tasks: Sequence[SearchTask]) -> asyncio.Future[None] | None:
        """Put tasks, run those that the pool refuses; return a future of the rest, if any."""
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
            if self._pool.put(task, on_done):
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
            loop.add_reader(self._pool.descriptor, self._pool.collect)
        return loop
