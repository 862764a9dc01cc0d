"""A copy of an SQLite database as of one moment, also while another process writes to it.

An index's database is its server's alone: SQLite's lock keeps all others from reading it, and a
reader that ignores the lock sees pages of different moments. So the database and its write-ahead
log are copied. A checkpoint alone writes to the database itself, so the two are of one moment if,
while they were copied, the database kept its time and size and the log its header; otherwise they
are copied again. Damage is believed when nothing moved, or when it is met every time.

Nothing of the folder is changed, and no lock is taken.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vicinal.errors import Corruption, Unavailable
from vicinal.storage.sqlite import translating

ATTEMPTS_MAX = 8  # ours
_SETTLED_S = 0.05  # a later write than this may have the time of an earlier one
_WAL_HEADER_BYTES = 32

T = TypeVar("T")
_State = tuple[tuple[int, int, int], tuple[bytes, int]]
"""Number, size and time of a database, and header and size of its write-ahead log."""


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
            if not _is_same_moment(before, after):
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
    if not path.exists():
        raise Corruption(f"{path} is missing")
    status = path.stat()
    until = status.st_mtime + _SETTLED_S - time.time()
    if 0 < until <= _SETTLED_S:
        time.sleep(until)
        status = path.stat()
    try:
        with _wal(path).open("rb") as file:
            header = file.read(_WAL_HEADER_BYTES)
        size = _wal(path).stat().st_size
    except FileNotFoundError:
        header, size = b"", 0
    return (status.st_ino, status.st_size, status.st_mtime_ns), (header, size)


def _is_same_moment(before: _State, after: _State) -> bool:
    (main, (header, size)), (main_after, (header_after, size_after)) = before, after
    return main == main_after and header == header_after and size <= size_after
