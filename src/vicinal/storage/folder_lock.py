"""The lock of a data folder: one process at a time has it open.

The lock is one of the file ``lock``, and ends with the process that has it, killed or not. The file
says which process that is, and of a server where it answers. It says so for people alone: nothing
depends on it, and it may be missing on a full disk, or be of a process that has ended.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from vicinal.errors import Unavailable

_NAME = "lock"
_BYTES_MAX = 4_096  # of a description that is read


class LockHolder(msgspec.Struct, frozen=True, omit_defaults=True):
    """The process that has a folder open; `origin` and `version` are those of a server."""

    process: int
    origin: str | None = None
    version: str | None = None


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
    _describe(descriptor, LockHolder(os.getpid()))
    return descriptor


def describe_server(folder: Path, origin: str, version: str) -> None:
    """Say where the server answers that has the folder, which is this process."""
    with suppress(OSError):
        descriptor = os.open(folder / _NAME, os.O_WRONLY)
        try:
            _describe(descriptor, LockHolder(os.getpid(), origin, version))
        finally:
            os.close(descriptor)


def _describe(descriptor: int, holder: LockHolder) -> None:
    with suppress(OSError):  # a full disk is no reason not to serve
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(holder) + b"\n", 0)


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
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False  # the file is older than the lock
    return process > 0
