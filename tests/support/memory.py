"""A place in memory for files, where there is room: syncing and making them costs nothing there."""

import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")  # where there is Linux
MEMORY_BYTES_MIN = 4 << 30  # several servers, some of which keep many megabytes of log


def memory() -> Path | None:
    """Where files of tests can be in memory, None where they cannot."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_BYTES_MIN:
        return None
    return MEMORY
