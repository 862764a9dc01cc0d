"""The bridge from the event loop to blocking work, and when not to cross it.

Crossing costs about 0.3 ms of CPU, more than a cheap query itself. So an index whose last
operations were quick is worked on right in the event loop, all else in a small pool.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import thread_time
from typing import TypeVar

from vicinal.errors import Overloaded
from vicinal.model import IndexAddress

T = TypeVar("T")

SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this length may be read in the event loop, in well under a millisecond."""

INLINE_S_MAX = 0.002  # ours: how long other requests may be held up for one
_REMEMBERED = 0.8  # the share of an average that is history, the rest is the newest
_INDEXES_MAX = 10_000


class Workers:
    """A bounded pool of threads.

    Args:
        name: Begins the names of the threads.
        threads: How many run at once.
        pending_max: How many may run and wait together.
    """

    def __init__(self, name: str, threads: int, pending_max: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._name = name
        self._pending = 0
        self._pending_max = pending_max

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread; cancelling drops it if it has not begun.

        Raises:
            Overloaded: too much waits already.
        """
        return await self.start(work)

    def start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Begin what `run` does."""
        if self._pending >= self._pending_max:
            raise Overloaded(
                f"{self._pending} requests wait for {self._name}, the most there may be",
                retry_after=1.0,
            )
        self._pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: object) -> None:
        self._pending -= 1

    def close(self) -> None:
        """Finish what is running, drop what waits."""
        self._pool.shutdown(cancel_futures=True)


class CostEstimator:
    """How long the operations on each index take, to tell cheap ones in advance.

    Used from the event loop's thread alone. An index that has not been worked on is not
    cheap, as its first use may have to open it.
    """

    def __init__(self) -> None:
        self._seconds: OrderedDict[IndexAddress, float] = OrderedDict()

    def is_cheap(self, address: IndexAddress) -> bool:
        """Decide whether to work on this index in the event loop."""
        return self._seconds.get(address, INLINE_S_MAX) < INLINE_S_MAX

    def note(self, address: IndexAddress, seconds: float) -> None:
        """Remember how long one operation took."""
        before = self._seconds.pop(address, seconds)
        self._seconds[address] = _REMEMBERED * before + (1 - _REMEMBERED) * seconds
        if len(self._seconds) > _INDEXES_MAX:
            self._seconds.popitem(last=False)


async def run_by_cost(
    estimator: CostEstimator,
    workers: Workers,
    address: IndexAddress,
    work: Callable[[], T],
    *,
    is_local: bool = True,
) -> T:
    """Run work on an index in the event loop when it is cheap, in a thread otherwise.

    Args:
        estimator: Of such work.
        workers: Have the threads.
        address: Of the index.
        work: What to run.
        is_local: Whether it needs nothing but this machine: waiting for another one takes no CPU,
            so it would pass for cheap.
    """
    if is_local and estimator.is_cheap(address):
        result, seconds = with_cpu_time(work)
    else:
        result, seconds = await workers.run(lambda: with_cpu_time(work))
    estimator.note(address, seconds)
    return result


async def off_loop(size: int, workers: Workers, work: Callable[[], T]) -> T:
    """Read a body in the event loop while it is short, in a thread otherwise."""
    return work() if size <= SMALL_BODY_BYTES else await workers.run(work)


def with_cpu_time(work: Callable[[], T]) -> tuple[T, float]:
    """Return the result of work, and the seconds of CPU that it took.

    Not the time on the clock: other work of the machine would make an index look slow.
    """
    start = thread_time()
    return work(), thread_time() - start


async def resolved(future: Future[T]) -> T:
    """Wait for a future of another thread without ever cancelling it."""
    return await asyncio.shield(asyncio.wrap_future(future))


class ClientDisconnected(Exception):
    """The client has closed the connection; nobody reads an answer."""


async def unless_disconnected(receive: Callable[[], Awaitable[object]], work: Awaitable[T]) -> T:
    """Wait for work, but give it up when the client goes.

    Args:
        receive: The ASGI callable, once the whole body has been read: the next event it
            gives can only be the disconnection.
        work: Cancelled when the client goes first.

    Raises:
        ClientDisconnected: the client went first.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnected
        return working.result()
    finally:
        for waiting in (working, gone):
            waiting.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)
