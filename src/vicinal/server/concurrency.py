"""Blocking work beside the event loop: a bounded pool of threads, and when to do without.

Handing work to a thread costs about 0.3 ms of CPU, more than a cheap query itself. So work on an
index whose last operations were quick runs in the event loop, other work in the pool. There it ends
at its next point (`interruption`) once its request is given up or the server stops.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import thread_time
from typing import Generic, TypeVar

from vicinal.daemon_threads import DaemonThreads
from vicinal.errors import Overloaded, Unavailable
from vicinal.interruption import Interrupted, interruptible
from vicinal.model import IndexAddress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueueGauge:
    """A queue: its name, how many requests run and wait in it, and how many may."""

    name: str
    length: Callable[[], int]
    length_max: int


SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this length may be read in the event loop, in well under a millisecond."""

INLINE_S_MAX = 0.002  # ours: the time that one request may hold up the others
_HISTORY_SHARE = 0.8  # of the moving average; the newest operation has the rest
_INDEXES_MAX = 10_000


class Workers:
    """A bounded pool of threads; `pending_max` calls may run and wait at one time.

    `pool` makes the pool, of a number of threads and a name. `DaemonThreads` are for calls that
    change nothing here and may wait for long, for a model or another server: `close` leaves them.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        pending_max: int,
        pool: Callable[[int, str], ThreadPoolExecutor | DaemonThreads] = ThreadPoolExecutor,
    ) -> None:
        self._pool = pool(threads, name)
        self._name = name
        self._pending = 0
        self._is_given_up = False
        self._pending_max = pending_max

    @property
    def gauge(self) -> QueueGauge:
        """The length of the queue, for metrics."""
        return QueueGauge(self._name, lambda: self._pending, self._pending_max)

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have blocking work run in a thread; cancelling removes it if it has not begun, and ends
        it at its next point if it has.

        Raises:
            Overloaded: `pending_max` calls run and wait already.
        """
        if self._pending >= self._pending_max:
            raise Overloaded(
                f"{self._pending} requests wait for {self._name}, the most there may be",
                retry_after=1.0,
                queue=self._name,
            )
        self._pending += 1
        call = _Call(work, self._check_open)
        future = asyncio.wrap_future(self._pool.submit(call))
        future.add_done_callback(call.note_end)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: object) -> None:
        self._pending -= 1

    def _check_open(self) -> None:
        if self._is_given_up:
            raise Interrupted

    def give_up(self) -> None:
        """End running work at its next point; do not wait for that."""
        self._is_given_up = True

    def close(self) -> None:
        """Give up running work, and finish what comes to no point, or leave it to daemon threads;
        cancel waiting work."""
        self.give_up()
        if isinstance(self._pool, DaemonThreads):
            self._pool.close()
        else:
            self._pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class _Call(Generic[T]):
    """Work in a thread, as long as somebody wants its result; its points call `check_open`."""

    work: Callable[[], T]
    check_open: Callable[[], None]
    is_given_up: bool = False

    def __call__(self) -> T:
        try:
            with interruptible(self._check_wanted):
                return self.work()
        except Interrupted:
            raise Unavailable("the work was given up", retry_after=1.0) from None

    def note_end(self, future: asyncio.Future[T]) -> None:
        self.is_given_up = future.cancelled()

    def _check_wanted(self) -> None:
        self.check_open()
        if self.is_given_up:
            raise Interrupted


class CostEstimator:
    """Moving averages of the CPU time of operations, by index, to tell cheap ones in advance.

    Used from the event loop's thread alone. An index without operations is not cheap, as its
    first use may have to open it.
    """

    def __init__(self) -> None:
        self._seconds: OrderedDict[IndexAddress, float] = OrderedDict()

    def is_cheap(self, address: IndexAddress) -> bool:
        """Tell whether the average is below `INLINE_S_MAX`."""
        return self._seconds.get(address, INLINE_S_MAX) < INLINE_S_MAX

    def note(self, address: IndexAddress, seconds: float) -> None:
        """Add the CPU time of one operation to the average."""
        before = self._seconds.pop(address, seconds)
        self._seconds[address] = _HISTORY_SHARE * before + (1 - _HISTORY_SHARE) * seconds
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

    Work is not `is_local` that needs another machine: waiting for one takes no CPU, so it would
    pass for cheap.
    """
    if is_local and estimator.is_cheap(address):
        result, seconds = with_cpu_time(work)
    else:
        result, seconds = await workers.run(lambda: with_cpu_time(work))
    estimator.note(address, seconds)
    return result


def with_cpu_time(work: Callable[[], T]) -> tuple[T, float]:
    """Return the result of work, and the seconds of CPU that it took.

    Wall-clock time would make an index look slow while the machine does other work.
    """
    start = thread_time()
    return work(), thread_time() - start


async def resolved(future: Future[T]) -> T:
    """Wait for a future of another thread without ever cancelling it."""
    return await asyncio.shield(asyncio.wrap_future(future))


class ClientDisconnected(Exception):
    """The client has closed the connection; nobody reads an answer."""


async def unless_disconnected(receive: Callable[[], Awaitable[object]], work: Awaitable[T]) -> T:
    """Wait for work; cancel it when the client disconnects.

    The whole body has been read: the next event of `receive` can only be the disconnection.

    Raises:
        ClientDisconnected: the client disconnected first.
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
