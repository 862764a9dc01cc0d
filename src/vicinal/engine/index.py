"""One open index: its parts, and the order in which they begin and end.

Locks, in the order they may be taken:

    Writer.order  gives mutations their order; held to check one and queue it, not to resolve one
                  or to backfill a metadata index (`backfill`)
    (manifest)    inside `Compaction`: a whole seal, the commit of a merge
    State.lock    the writable state; held to apply, freeze and swap

Reads take none.
"""

from pathlib import Path

from vicinal.engine import recovery, watched
from vicinal.engine.applier import Applier
from vicinal.engine.compaction import Compaction
from vicinal.engine.compactor import Compactor, SealPolicy
from vicinal.engine.cursors import Cursors
from vicinal.engine.health import Health
from vicinal.engine.options import EngineOptions
from vicinal.engine.pinned import PinnedIndex
from vicinal.engine.reader import Reader
from vicinal.engine.resources import Resources
from vicinal.engine.snapshot import EMPTY
from vicinal.engine.writer import Writer
from vicinal.errors import Error
from vicinal.model import Index, IndexAddress
from vicinal.usage import IndexUsage


class OpenIndex:
    """An open index. Thread-safe.

    Attributes:
        folder: Has all of its files.

    Raises:
        Corruption: on opening, when something of it is missing or damaged.
        Unavailable: on opening, when another process has it open.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        options: EngineOptions,
        resources: Resources,
        cursors: Cursors,
    ) -> None:
        self.index = index
        self.folder = folder
        self._health = Health(index.name, resources.queue)
        self.reader = Reader(index, folder.name, cursors, self._health)
        self._queue = resources.queue
        self._log, self._state = recovery.open_index(
            folder, index.config, string_bytes_max=options.limits.indexed_string_bytes_max
        )
        self.reader.snapshot = self._state.snapshot()
        self._compactor = Compactor(
            Compaction(folder, self._log, index.config, self._state, self._publish),
            SealPolicy(index.name, self._state, options),
            resources,
            self._health,
        )
        self.applier = Applier(
            self._state,
            self.reader,
            resources,
            self._health,
            options.visibility_delay_s,
            self._compactor.seal_if_due,
        )
        self.writer = Writer(
            index,
            self._log,
            self.applier,
            self.reader,
            self._compactor,
            resources,
            options.limits,
            self._health,
        )
        self._compactor.start()

    def compact(self) -> None:
        """See `engine.base.Engine`."""
        with self.writer.order:
            self._health.check()
            self.writer.settled()
            self._compactor.seal()
        try:
            self._compactor.join()
        finally:
            self._health.check()

    def pin(self, account: str) -> PinnedIndex:
        """Return the index as it is now; its files stay until that is released.

        Raises:
            Unavailable: it was closed, or a failed write has left its log unknown.
        """
        self._health.check()
        return PinnedIndex(account, self.index, self.folder, self._log)

    def usage(self, address: IndexAddress) -> IndexUsage:
        """Return its numbers; it is known by `address` now."""
        return watched.index_usage(
            address,
            self.reader.snapshot,
            self.folder,
            self.writer.pending_count,
            is_failed=self._health.failure is not None,
        )

    @property
    def is_idle(self) -> bool:
        """Whether no work is queued or under way, and nothing of it is being copied."""
        return self.writer.is_idle and self._compactor.is_idle and self._log.pins.is_empty

    def compact_idle(self) -> None:
        """Compact the index when nothing has been written to it for a while."""
        self._compactor.compact_idle(self.writer.written_at)

    def seal_again(self) -> None:
        """Try again to seal what could not be sealed for want of disk space or files."""
        self._compactor.seal_again()

    def interrupt(self) -> None:
        """Give up what would take long, as the index is about to be closed."""
        self._compactor.interrupt()

    def close(self, reason: Error, *, is_kept: bool = True) -> None:
        """Let what is under way finish, refuse what comes later with `reason`, close the log.

        Args:
            reason: Why.
            is_kept: Whether the index will be opened again; else nothing more is written.

        Raises:
            sqlite3.Error: the log was not closed cleanly; it has what it acknowledged.
        """
        with self.writer.order:
            self._health.closed = reason
        self._queue.notify()  # a writer that waits for room would have none now
        self.interrupt()
        self.writer.close()
        self._compactor.close()
        self._health.notify()
        # Executors point back here, so that this index may be there a while: no file stays open.
        self.reader.snapshot = EMPTY
        self._state.release()
        self._log.close(is_clean=self._health.failure is None and is_kept)

    def _publish(self) -> None:
        self.reader.snapshot = self._state.snapshot()
        self._queue.notify()  # a memtable that is being sealed leaves room for another
