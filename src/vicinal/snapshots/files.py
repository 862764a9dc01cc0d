"""Single files of snapshots: written durably, linked or copied, verified by their seals."""

import errno
import hashlib
import os
import secrets
import time
from pathlib import Path

from vicinal.errors import Corruption, Error
from vicinal.snapshots.manifest import OwnFile
from vicinal.storage import private
from vicinal.storage.files import ComponentFile, Seal, sync, sync_directory

_HASHED_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20  # copied between two syncs, so that no other sync waits for long
_PAUSE_S_MAX = 0.5  # ours
_BYTES_PER_S_MAX = 40 << 20
"""Of copies that give way; ours. Hosted disks take a burst at many times this rate, and then have
every sync, also a server's, wait for tens of milliseconds."""
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file under a temporary name of its own, fsync it and give it its name."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb", opener=private.opener) as file:
            file.write(content)
            file.flush()
            sync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def link_or_copy(source: Path, target: Path, *, copies: bool, gives_way: bool = False) -> bool:
    """Give a file that never changes a second name, or copy it; tell whether it was linked.

    A copy's bytes are on disk when this returns; names are not synced.
    """
    target.unlink(missing_ok=True)
    if not copies:
        try:
            os.link(source, target)
            return True
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
    copy(source, target, gives_way=gives_way)
    return False


def copy(source: Path, target: Path, *, gives_way: bool = False) -> None:
    """Copy a file, and fsync it piece by piece.

    With `gives_way` the disk has pauses for the syncs of others, see `give_way`.
    """
    with source.open("rb") as reader, open(target, "xb", opener=private.opener) as writer:
        while piece := reader.read(_PIECE_BYTES):
            began = time.monotonic()
            writer.write(piece)
            writer.flush()
            sync(writer.fileno())
            if gives_way:
                give_way(began, len(piece))


def give_way(began: float, byte_count: int) -> None:
    """Sleep after bytes were written: as long as that took, more if they came too fast for a disk.

    Args:
        began: When writing them began, in monotonic seconds.
        byte_count: How many they were.
    """
    took_s = time.monotonic() - began
    time.sleep(min(max(took_s, byte_count / _BYTES_PER_S_MAX - took_s), _PAUSE_S_MAX))


def verify_seal(path: Path, kind: str, seal: Seal, name: str = "") -> None:
    """Read all of a component file.

    Raises:
        Corruption: it is not as it was written. The message has `name` in place of the path, if it
            is given: of a file that is made, the user knows only what it is made of.
    """
    try:
        file = ComponentFile(path, kind, seal, verifies=False)
        for start, end in file.damaged_blocks():
            raise Corruption(f"{path} is damaged between bytes {start} and {end}")
    except Corruption as error:
        if not name:
            raise
        raise Corruption(str(error).replace(str(path), name, 1)) from error


def is_sealed(path: Path, kind: str, seal: Seal) -> bool:
    """Tell whether a file is there with this seal; its blocks are not read."""
    try:
        ComponentFile(path, kind, seal, verifies=False)
    except Error:
        return False
    return True


def described(path: Path, name: str) -> OwnFile:
    """Return the size and digest of a file."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_HASHED_BYTES):
            digest.update(piece)
            size += len(piece)
    return OwnFile(name, size, digest.hexdigest())
