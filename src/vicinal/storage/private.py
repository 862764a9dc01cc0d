"""Folders and files that nobody but their owner reads, whatever the umask is.

A new one is its owner's alone, unless a person has opened the folder that it is in to a group,
and to nobody else: in a data folder of mode 0750 folders are 0750 and files 0640, in any other
0700 and 0600. The umask of the process, which belongs to the program around this library, is
not changed; it may take away more.

SQLite gives the files beside a database the mode of the database, so that is made first.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

_FOLDER = 0o770
_FILE = 0o660
_OTHERS = 0o007

ENTRIES = frozenset(
    (
        *("lock", "indexes", "d1", "tokens-required", "reserve"),
        *(f"{name}.db{end}" for name in ("catalog", "tokens") for end in ("", "-wal", "-shm")),
    )
)
"""What a data folder holds."""


def make_folder(path: Path) -> None:
    """Make a folder; those above it must be there, and none of its name.

    Raises:
        OSError: as `Path.mkdir`.
    """
    path.mkdir(mode=_mode_beside(path) & _FOLDER)


def make_folders(path: Path) -> None:
    """Make a folder, and those above it, unless they are there.

    Raises:
        OSError: as `Path.mkdir`.
    """
    if not path.is_dir():
        make_folders(path.parent)
        with suppress(FileExistsError):
            make_folder(path)


def make_data_folder(path: Path) -> None:
    """Make a folder for its owner alone, and those above it with it; it may be there already.

    Raises:
        OSError: as `Path.mkdir`.
    """
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def make_file(path: Path, mode: int | None = None) -> None:
    """Make an empty file unless there is one, for what cannot be told a mode.

    A file that is there is not opened: closing it would end the locks that SQLite has on it.

    Args:
        path: Its folder must be there.
        mode: Its mode; that of any other new file if not given.

    Raises:
        OSError: as `os.open`.
    """
    chosen = _mode_beside(path) & _FILE if mode is None else mode
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, chosen))


def opener(path: str, flags: int) -> int:
    """Open a file; for the parameter `opener` of `open`."""
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), _mode_beside(Path(path)) & _FILE)


def close_to_others(folder: Path) -> bool:
    """Take a data folder away from others than its owner, if anybody may use it.

    Nobody means that, so it is from before, or made without a thought. A folder that holds
    more than a data folder does is left as it is, but for what is ours in it.

    Returns:
        Whether it is its owner's now, or its group's.

    Raises:
        OSError: a mode cannot be changed, as the files are another user's.
    """
    if not _mode(folder) & _OTHERS:
        return True
    found = {path.name for path in folder.iterdir()}
    is_ours = found <= ENTRIES
    if is_ours:
        folder.chmod(0o700)
    for name in found & ENTRIES:
        _tighten(folder / name)
        if (folder / name).is_symlink():
            continue
        for parent, folders, files in os.walk(folder / name):
            for each in (*folders, *files):
                _tighten(Path(parent, each))
    return is_ours


def _tighten(path: Path) -> None:
    try:
        found = path.lstat().st_mode
        if not stat.S_ISLNK(found) and stat.S_IMODE(found) & 0o077:
            path.chmod(stat.S_IMODE(found) & 0o700)
    except FileNotFoundError:
        return  # what vanishes meanwhile is not missed


def _mode_beside(path: Path) -> int:
    mode = _mode(path.parent)
    return 0o700 if mode & _OTHERS else mode


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
