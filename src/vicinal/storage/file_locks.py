"""Locks of files between processes, which end with the process that has them, killed or not.

These locks are those of ``flock``. Where there is none, on Windows, filelock takes the system's
own, which nobody can share: there readers exclude each other, too.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

IS_READABLE = fcntl is not None
"""Whether a file that is locked can be read and written all the same."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that is held until it is closed.

    Attributes:
        descriptor: Of the open file, which may be written to; None where it cannot be.
    """

    _release: Callable[[], object]
    descriptor: int | None = None

    def close(self) -> None:
        """Release it."""
        self._release()


def acquire(path: Path, *, is_shared: bool = False, creates: bool = True) -> HeldLock:
    """Lock a file without waiting.

    Args:
        path: The file, in an existing folder.
        is_shared: Whether others may share the lock.
        creates: Whether the file is made where there is none.

    Raises:
        BlockingIOError: another process, or another lock of this one, has it.
        OSError: the file cannot be opened.
    """
    if fcntl is None:
        return _acquire_by_filelock(path, creates=creates)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT if creates else os.O_RDONLY, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BlockingIOError(error.errno, f"{path} is locked") from error
    return HeldLock(partial(os.close, descriptor), descriptor)


def _acquire_by_filelock(path: Path, *, creates: bool) -> HeldLock:
    from filelock import FileLock, Timeout  # only here, as opening a folder is to be quick

    if not creates and not path.exists():
        raise FileNotFoundError(2, "there is none", str(path))
    lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(11, f"{path} is locked") from error
    return HeldLock(lock.release)
