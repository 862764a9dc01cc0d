"""When an index is sealed and merged: in the background, one of each at a time.

A seal that finds too little disk space, or too many files open, is tried again after a while: the
log has what is in the memtable. A merge that does is given up, as all works without it.

This knows when; how is known by `maintenance`, and what is due by the index.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from vicinal.engine.compaction import Compaction
from vicinal.engine.executors import SerialExecutor
from vicinal.engine.resources import Resources
from vicinal.errors import ResourceExhausted
from vicinal.storage.sqlite import is_exhausted

logger = logging.getLogger(__name__)

AGAIN_S = 1.0  # ours: between two attempts to seal while the disk is full
VERIFIED_AT_ONCE_BYTES_MAX = 512 << 20  # ours: half a second of reading


class Compactor:
    """Seals and merges one index. Thread-safe.

    Args:
        name: Of the index.
        compaction: Does it.
        resources: Have the threads.
        merges: Whether segments are merged.
        is_seal_due: Tells whether the memtable is full.
        fail: Takes what cannot be gone on with.
    """

    def __init__(
        self,
        name: str,
        compaction: Compaction,
        resources: Resources,
        *,
        merges: bool,
        is_seal_due: Callable[[], bool],
        fail: Callable[[Exception], None],
    ) -> None:
        self._name = name
        self._compaction = compaction
        self._merges_segments = merges
        self._is_seal_due = is_seal_due
        self._fail = fail
        self._queue = resources.queue
        self._lock = threading.Lock()  # of stopping
        self._is_stopped = False
        self._unsealed: ResourceExhausted | None = None
        self._seals: SerialExecutor[bool] = SerialExecutor(resources.sealer, self._seal)
        self._merges: SerialExecutor[bool] = SerialExecutor(resources.merger, self._merge)

    def start(self) -> None:
        """Begin with what opening has left to do."""
        if self._compaction.unverified_bytes <= VERIFIED_AT_ONCE_BYTES_MAX:
            self._merges.put([False])
        self._seals.put([False])

    def seal(self, *, is_forced: bool = False) -> None:
        """Have the memtable sealed if that is due or forced, and segments merged after it."""
        with self._lock:
            if not self._is_stopped:
                self._seals.put([is_forced])

    def merge_idle(self) -> None:
        """Have segments verified, and merged as for an index that nothing is written to."""
        with self._lock:
            if not self._is_stopped:
                self._merges.put([True])

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return self._seals.is_idle and self._merges.is_idle

    def join(self) -> None:
        """Wait until all that was asked for before has been done.

        Raises:
            ResourceExhausted: the memtable could not be sealed, and will be later.
        """
        self._wait()
        self.check()

    def check(self) -> None:
        """Tell whether the memtable could be sealed when that was tried last.

        Raises:
            ResourceExhausted: it could not.
        """
        if self._unsealed is not None:
            raise self._unsealed.with_traceback(None)

    def stop(self) -> None:
        """Begin nothing more, and wait for what is under way; it ends as soon as it can."""
        with self._lock:
            self._is_stopped = True
        self._wait()

    def interrupt(self) -> None:
        """Begin nothing more; for a thread that may not wait."""
        self._is_stopped = True

    def _wait(self) -> None:
        self._seals.join()
        self._merges.join()

    def _seal(self, forced: Sequence[bool]) -> None:
        if self._is_stopped:
            return
        try:
            if any(forced) or self._is_seal_due():
                self._compaction.seal()
                self._unsealed = None
                self._merges.put(forced)
        except Exception as error:
            if not is_exhausted(error):
                self._fail(error)
                return
            logger.warning("index %r is sealed later: %s", self._name, error)
            self._unsealed = ResourceExhausted(
                f"index {self._name!r} cannot be sealed: {error}", retry_after=AGAIN_S
            )
            self._queue.notify()  # who waits for room is told
            again = threading.Timer(AGAIN_S, self.seal, kwargs={"is_forced": True})
            again.daemon = True
            again.start()

    def _merge(self, is_idle: Sequence[bool]) -> None:
        try:
            while not self._is_stopped:
                # Again after a merge: its files have not been read back yet.
                self._compaction.verify(lambda: self._is_stopped)
                if not self._merges_segments:
                    return
                if not self._compaction.merge_once(is_idle=any(is_idle)):
                    return
        except (OSError, ResourceExhausted):
            # Nothing has changed, and all works without the merge, if more slowly.
            logger.exception("segments of index %r were not merged", self._name)
        except Exception as error:
            self._fail(error)
