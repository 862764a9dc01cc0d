"""The lock of a data folder: one process at a time has it open.

The lock is one of the file ``lock``, and ends with the process that has it, killed or not. The file
says which process that is, and of a server where it answers. It says so for people alone: nothing
depends on it, and it may be missing on a full disk, or be of a process that has ended. On Windows
it says nothing, as a file that is locked cannot be read there.
"""

import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from vicinal.errors import Unavailable
from vicinal.storage import file_locks
from vicinal.storage.file_locks import HeldLock

_NAME = "lock"
_BYTES_MAX = 4_096  # of a description that is read
_descriptors: dict[Path, int] = {}  # of the locks that this process holds, by folder


class LockHolder(msgspec.Struct, frozen=True, omit_defaults=True):
    """The process that has a folder open; `origin` and `version` are those of a server."""

    process: int
    origin: str | None = None
    version: str | None = None


def acquire(folder: Path) -> HeldLock:
    """Lock a folder until the lock is closed.

    Raises:
        Unavailable: another process has it.
    """
    try:
        lock = file_locks.acquire(folder / _NAME)
    except BlockingIOError as error:
        raise Unavailable(f"{folder} is in use by another process") from error
    if lock.descriptor is not None:
        _describe(lock.descriptor, LockHolder(os.getpid()))
        _descriptors[folder.absolute()] = lock.descriptor
    return HeldLock(partial(_release, folder.absolute(), lock))


def describe_server(folder: Path, origin: str, version: str) -> None:
    """Say where the server answers that has the folder, if it is this process."""
    descriptor = _descriptors.get(folder.absolute())
    if descriptor is not None:
        _describe(descriptor, LockHolder(os.getpid(), origin, version))


def _release(folder: Path, lock: HeldLock) -> None:
    _descriptors.pop(folder, None)
    lock.close()


def _describe(descriptor: int, holder: LockHolder) -> None:
    with suppress(OSError):  # a full disk is no reason not to serve
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, msgspec.json.encode(holder) + b"\n")


def is_held(folder: Path) -> bool:
    """Return whether a process has the folder open."""
    try:
        # Shared, and for an instant: nothing of the folder changes.
        file_locks.acquire(folder / _NAME, is_shared=True, creates=False).close()
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def holder(folder: Path) -> LockHolder | None:
    """Return the process that has the folder open, None if nobody has or the file does not say."""
    if not is_held(folder):
        return None
    try:
        with (folder / _NAME).open("rb") as file:
            described = msgspec.json.decode(file.read(_BYTES_MAX), type=LockHolder)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return described if _is_alive(described.process) else None


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":
        return process > 0  # where a signal of 0 is one that interrupts
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False  # the file is older than the lock
    return process > 0
