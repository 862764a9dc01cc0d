"""The lock of a data folder: one process at a time has it open.

The lock is one of the file ``lock``, and ends with the process that has it, killed or not.
"""

import fcntl
import os
from pathlib import Path

from vicinal.errors import Unavailable

_NAME = "lock"


def acquire(folder: Path) -> int:
    """Lock a folder; return a descriptor, whose closing unlocks it.

    Raises:
        Unavailable: another process has it.
    """
    descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Unavailable(f"{folder} is in use by another process") from error
    return descriptor


def is_held(folder: Path) -> bool:
    """Return whether a process has the folder open."""
    try:
        descriptor = os.open(folder / _NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, and for an instant: nothing of the folder changes.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
