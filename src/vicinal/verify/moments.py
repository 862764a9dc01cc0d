"""A copy of an SQLite database as of one moment, also while another process writes to it.

An index's database is its server's alone: SQLite's lock keeps all others from reading it, and a
reader that ignores the lock sees pages of different moments. So the database is copied, and then
its write-ahead log. Pages that a checkpoint writes to the database meanwhile are in the log as
well, and count from there, until the log begins anew with another salt in its header (sqlite.org,
"WAL-mode File Format"). So the copies are of one moment if that header was there and stayed; or,
without a log, if the database kept its time and size. Otherwise they are copied again. Damage is
believed when nothing moved, or when it is met every time.

Nothing of the folder is changed, and no lock is taken.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vicinal.errors import Corruption, Unavailable
from vicinal.storage.sqlite import translating

ATTEMPTS_MAX = 8  # ours
_SETTLED_S = 0.05  # a later write than this may have the time of an earlier one
_WAL_HEADER_BYTES = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _State:
    """Number of a database's file, header of its log, which is empty where there is none, and size
    and time of the database in that case."""

    file: int
    header: bytes
    main: tuple[int, int]


def at_one_moment(path: Path, read: Callable[[Path], T], *, first: Sequence[Path] = ()) -> T:
    """Return what `read` returns for a copy of a database as of one moment.

    Args:
        path: The database.
        read: Called with the path of the copy, which has the database's name; files of `first` are
            next to it. Called again if the copy was of several moments.
        first: Further files, which are copied before the database, if they are there.

    Raises:
        Corruption: the database is missing, or what `read` raises.
        Unavailable: it changed all the time, or cannot be read.
    """
    failure: Corruption | Unavailable = Unavailable(f"{path} changed each time it was read")
    for attempt in range(ATTEMPTS_MAX):
        time.sleep(min(attempt * _SETTLED_S, 0.5))
        with tempfile.TemporaryDirectory(prefix="vicinal-verify-") as name, translating(path):
            before = _state(path)
            copied = _copy(path, Path(name), first)
            after = _state(path)
            if before != after:
                continue
            try:
                return read(copied)
            except Corruption as error:
                failure = Corruption(str(error).replace(name, str(path.parent)))
                if _state(path) == before:
                    raise failure from error
    raise failure


def _copy(path: Path, folder: Path, first: Sequence[Path]) -> Path:
    for source in (*first, path, _wal(path)):
        if source.exists():
            shutil.copyfile(source, folder / source.name)
        elif source == path:
            raise Corruption(f"{path} is missing")
    return folder / path.name


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _state(path: Path) -> _State:
    header = _header(path)
    if not path.exists():
        raise Corruption(f"{path} is missing")
    status = path.stat()
    if header:
        return _State(status.st_ino, header, (0, 0))
    until = status.st_mtime + _SETTLED_S - time.time()
    if 0 < until <= _SETTLED_S:
        time.sleep(until)
        status = path.stat()
    # A log that has begun since is seen here.
    return _State(status.st_ino, _header(path), (status.st_size, status.st_mtime_ns))


def _header(path: Path) -> bytes:
    try:
        with _wal(path).open("rb") as file:
            return file.read(_WAL_HEADER_BYTES)
    except FileNotFoundError:
        return b""
