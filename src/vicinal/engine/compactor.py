"""When an index is sealed and merged: in the background, one of each at a time.

A seal that finds too little disk space, or too many files open, is tried again after a while: the
log has what is in memory. A merge that does is given up, as all works without it.

This knows when; `compaction` knows how.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vicinal.engine.compaction import Compaction
from vicinal.engine.executors import SerialExecutor
from vicinal.engine.health import Health
from vicinal.engine.options import EngineOptions
from vicinal.engine.resources import Resources
from vicinal.engine.state import State
from vicinal.errors import MEMTABLES, Corruption, Overloaded, ResourceExhausted, untraced
from vicinal.interruption import Interrupted
from vicinal.storage.sqlite import is_exhausted

logger = logging.getLogger(__name__)

AGAIN_S = 1.0  # ours: between two attempts to seal while the disk is full
VERIFIED_AT_ONCE_BYTES_MAX = 512 << 20  # ours: half a second of reading
IDLE_SEAL_ROWS_MIN = 1_000  # fewer rows are scanned as fast as a segment of them; ours


@dataclass(frozen=True, slots=True)
class SealRequest:
    """Seal what is in memory if that is due, or in any case."""

    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """Verify segments and merge them; further, if the index is idle."""

    is_idle: bool = False


@dataclass(frozen=True, slots=True)
class SealPolicy:
    """When what is in memory is sealed, and when it is too much."""

    name: str
    state: State
    options: EngineOptions

    @property
    def is_due(self) -> bool:
        """Whether memory, or the log, holds as much as it may."""
        state, options = self.state, self.options
        return (
            self.is_full()
            or state.unsealed_count >= options.memtable_rows_max
            or state.unsealed_bytes >= options.memtable_bytes_max
        )

    def is_full(self, times: int = 1) -> bool:
        """Return whether memory holds the bound of rows or bytes, this many times over."""
        memtable = self.state.memtable
        return (
            memtable.row_count >= times * self.options.memtable_rows_max
            or memtable.nbytes >= times * self.options.memtable_bytes_max
        )


class Compactor:
    """Seals and merges one index. Thread-safe.

    Args:
        resources: Has the threads, and the queue whose waiters are notified.
    """

    def __init__(
        self, compaction: Compaction, policy: SealPolicy, resources: Resources, health: Health
    ) -> None:
        self._compaction = compaction
        self._policy = policy
        self._health = health
        self._queue = resources.queue
        self._times = resources.times
        self._unsealed: ResourceExhausted | None = None
        self._freed_count = 0  # times that disk space was freed
        self._freed_lock = threading.Lock()  # for both of these
        self._compacted_write = 0.0  # when the write was that was compacted last
        self._seals: SerialExecutor[SealRequest] = SerialExecutor(resources.sealer, self._seal)
        self._merges: SerialExecutor[MergeRequest] = SerialExecutor(resources.merger, self._merge)

    def start(self) -> None:
        """Begin with what opening has left to do."""
        if self._compaction.unverified_bytes <= VERIFIED_AT_ONCE_BYTES_MAX:
            self._merges.submit([MergeRequest()])
        self._seals.submit([SealRequest(is_forced=self._policy.state.has_new_columns)])

    def seal_if_due(self) -> None:
        """Have what is in memory sealed if that is due, and segments merged after it."""
        if self._policy.is_due:
            self._seals.submit([SealRequest()])

    def seal(self) -> None:
        """Have what is in memory sealed, and segments merged after it."""
        self._seals.submit([SealRequest(is_forced=True)])

    def seal_again(self) -> None:
        """Have what could not be sealed tried again at once: disk space was freed.

        Until then writers may wait, also where an attempt that began before fails only now.
        """
        with self._freed_lock:
            self._freed_count += 1
            was_unsealed, self._unsealed = self._unsealed is not None, None
        if was_unsealed:
            self.seal()

    def merge_idle(self) -> None:
        """Have segments verified, and merged as for an index that nothing is written to."""
        self._merges.submit([MergeRequest(is_idle=True)])

    def compact_idle(self, written_at: float) -> None:
        """Seal and merge an index that nothing was written to since, once for each such time.

        Also looks whether its files still have the lengths that they are mapped with.
        """
        is_idle = time.monotonic() - written_at >= self._policy.options.idle_s
        if is_idle and written_at != self._compacted_write and not self._health.is_stopped:
            self._compacted_write = written_at
            if self._policy.state.memtable.row_count >= IDLE_SEAL_ROWS_MIN:
                self.seal()
            self.merge_idle()
        try:
            self._compaction.check_sizes()
        except Corruption as error:
            if self._health.closed is None:  # else the files may be those of a dropped index
                self._health.fail(error)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return self._seals.is_idle and self._merges.is_idle

    def join(self) -> None:
        """Wait until all that was asked for before has been done.

        Raises:
            ResourceExhausted: memory could not be sealed, and will be later.
        """
        self._seals.join()
        self._merges.join()
        self._check_sealed()

    def check_backpressure(self) -> None:
        """Refuse vectors while memory holds too many.

        Raises:
            ResourceExhausted: it could not be sealed when that was tried last.
            Overloaded: it has not been sealed yet.
        """
        if self._policy.is_full(self._policy.options.memtables_max):
            self._check_sealed()
            raise Overloaded(
                f"index {self._policy.name!r} takes vectors faster than it can seal them",
                retry_after=1.0,
                queue=MEMTABLES,
            )

    def interrupt(self) -> None:
        """Begin nothing more; a seal that is under way is finished, a merge is given up."""
        self._seals.is_closed = self._merges.is_closed = True
        self._compaction.interrupt()

    def close(self) -> None:
        """Wait for what is under way, after `interrupt`, and release what was kept."""
        self._seals.join()
        self._merges.join()
        self._compaction.release()

    def _check_sealed(self) -> None:
        unsealed = self._unsealed  # which may be sealed meanwhile
        if unsealed is not None:
            raise untraced(unsealed)

    def _seal(self, requests: Sequence[SealRequest]) -> None:
        is_forced = any(request.is_forced for request in requests)
        # Again after a frozen memtable: writers may wait for the one that has filled since.
        while not self._seals.is_closed and (is_forced or self._policy.is_due):
            freed_count, start = self._freed_count, time.perf_counter()
            try:
                self._compaction.seal()
            except Exception as error:
                self._times.seals.add_failure()
                if not is_exhausted(error):
                    self._health.fail(error)
                    return
                if self._seal_later(error, freed_count):
                    return
                is_forced = True  # what is frozen already is not due by itself
                continue
            self._times.seals.add(time.perf_counter() - start)
            self._unsealed = None
            self._merges.submit([MergeRequest(is_idle=is_forced)])
            is_forced = False

    def _seal_later(self, error: Exception, freed_count: int) -> bool:
        """Tell writers why nothing was sealed, and try again in a while; False if disk space
        was freed since `freed_count` was read."""
        name = self._policy.name
        with self._freed_lock:
            if self._freed_count != freed_count:
                return False
            self._unsealed = ResourceExhausted(
                f"index {name!r} cannot be sealed: {error}", retry_after=AGAIN_S
            )
        logger.warning("index %r is sealed later: %s", name, error)
        self._queue.notify()  # writers that wait are told why
        again = threading.Timer(AGAIN_S, self.seal)
        again.daemon = True
        again.start()
        return True

    def _merge(self, requests: Sequence[MergeRequest]) -> None:
        is_idle = any(request.is_idle for request in requests)
        try:
            while not self._merges.is_closed:
                # Writing may have stopped since: what is merged at last is merged at once then.
                is_idle |= any(request.is_idle for request in self._merges.more())
                # Again after a merge: its files have not been read back yet.
                self._compaction.verify(lambda: self._merges.is_closed)
                if not self._policy.options.merges:
                    return
                start = time.perf_counter()
                if not self._compaction.merge_once(is_idle=is_idle):
                    return
                self._times.merges.add(time.perf_counter() - start)
        except Interrupted:
            return
        except (OSError, ResourceExhausted):
            self._times.merges.add_failure()
            # Nothing has changed, and all works without the merge, if more slowly.
            logger.exception("segments of index %r were not merged", self._policy.name)
        except Exception as error:
            self._health.fail(error)
