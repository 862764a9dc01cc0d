"""Numbers of open indexes and of the work on them, for `usage`.

Threads that work on an index add to `WorkTimes`; the rest is counted when somebody asks, from
snapshots and the sizes of files, without a lock.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vicinal.budget import Budget
from vicinal.durations import Durations
from vicinal.engine import blob_files
from vicinal.engine.snapshot import Snapshot
from vicinal.model import IndexAddress
from vicinal.segment.segment import SegmentView
from vicinal.usage import DiskUsage, IndexUsage, WorkUsage

# Ours: from a write that a cache takes to a disk that has all but stopped.
_COMMIT_S = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
# Ours: from a few vectors to millions.
_REWRITE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)


@dataclass(frozen=True, slots=True)
class WorkTimes:
    """Durations of the work on all indexes of an engine.

    Attributes:
        commits: Of transactions of logs, with their fsync; a transaction has one mutation or many.
        seals, merges: Of the background work.
    """

    commits: Durations = field(default_factory=lambda: Durations(_COMMIT_S))
    seals: Durations = field(default_factory=lambda: Durations(_REWRITE_S))
    merges: Durations = field(default_factory=lambda: Durations(_REWRITE_S))

    def usage(self, queue: Budget) -> WorkUsage:
        """Return all counts; `queue` has the bytes of mutations that are not applied yet."""
        return WorkUsage(
            queue.used,
            queue.bound,
            self.commits.current(),
            self.seals.current(),
            self.merges.current(),
        )


def index_usage(
    address: IndexAddress, snapshot: Snapshot, folder: Path, pending_count: int, *, is_failed: bool
) -> IndexUsage:
    """Return the numbers of an open index in a folder."""
    segments = [view.segment for view in snapshot.views if isinstance(view, SegmentView)]
    sealed_rows = sum(view.live_count for view in snapshot.views if isinstance(view, SegmentView))
    seals = [seal for segment in segments for seal in segment.record.components.values()]
    return IndexUsage(
        address,
        snapshot.vector_count,
        pending_count,
        len(segments),
        snapshot.vector_count - sealed_rows,
        sum(seal.size for seal in seals) + _log_bytes(folder),
        is_failed,
    )


def disk_usage(folder: Path) -> DiskUsage | None:
    """Return the size and the free bytes of the file system of a folder, None if it tells none."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return DiskUsage(usage.free, usage.total)


def _log_bytes(folder: Path) -> int:
    """Return the bytes of an index's log: the files of its folder, and its blob files."""
    size = 0
    for path in (folder, folder / blob_files.FOLDER):
        with suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                size += _file_bytes(entry)
    return size


def _file_bytes(entry: os.DirEntry[str]) -> int:
    with suppress(OSError):  # removed meanwhile
        if entry.is_file(follow_symlinks=False):
            return entry.stat(follow_symlinks=False).st_size
    return 0
