"""Folders and files that only their owner can read, under any umask.

A person may open a folder to a group and to nobody else; then new files and folders in it are the
group's too: in a data folder of mode 0750 folders are 0750 and files 0640, in any other folder 0700
and 0600. The umask of the process belongs to the program around this library and is not changed; it
may restrict modes further.

SQLite gives the files beside a database the mode of the database, so that is made first.

Every function raises the `OSError` of the call of the system that fails.
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
        *("lock", "indexes", "copies", "blobs", "d1", "tokens-required", "reserve"),
        *(f"{name}.db{end}" for name in ("catalog", "tokens") for end in ("", "-wal", "-shm")),
    )
)
"""The names of the entries of a data folder."""


def make_folder(path: Path) -> None:
    """Make a new folder in an existing one."""
    path.mkdir(mode=_mode_beside(path) & _FOLDER)


def make_folders(path: Path) -> None:
    """Make a folder and its parents, unless they exist."""
    if not path.is_dir():
        make_folders(path.parent)
        with suppress(FileExistsError):
            make_folder(path)


def make_data_folder(path: Path) -> None:
    """Make a folder for its owner alone, and its parents, unless they exist."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def make_file(path: Path, mode: int | None = None) -> None:
    """Make an empty file unless it exists, for programs that cannot be given a mode.

    An existing file is not opened: closing it would end the locks that SQLite has on it.

    Args:
        path: A path in an existing folder.
        mode: The mode; if not given, that of other new files.
    """
    chosen = _mode_beside(path) & _FILE if mode is None else mode
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, chosen))


def opener(path: str, flags: int) -> int:
    """Open a file; for the parameter `opener` of `open`."""
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), _mode_beside(Path(path)) & _FILE)


def close_to_others(folder: Path) -> bool:
    """Restrict a data folder that everybody may use to its owner.

    Such a mode is never meant: it is from an older version or from a careless command. In a folder
    with entries other than `ENTRIES` only these entries are restricted.

    Returns:
        Whether the folder is its owner's now, or its group's.

    Raises:
        OSError: a mode cannot be changed, as the files are another user's.
    """
    if not _mode(folder) & _OTHERS:
        return True
    names = {path.name for path in folder.iterdir()}
    is_ours = names <= ENTRIES
    if is_ours:
        folder.chmod(0o700)
    for name in names & ENTRIES:
        _tighten(folder / name)
        if (folder / name).is_symlink():
            continue
        for parent, folders, files in os.walk(folder / name):
            for entry in (*folders, *files):
                _tighten(Path(parent, entry))
    return is_ours


def _tighten(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
        if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and stat.S_IMODE(mode) & 0o077:
            path.chmod(stat.S_IMODE(mode) & 0o700)
    except FileNotFoundError:
        return  # removed by another process meanwhile


def _mode_beside(path: Path) -> int:
    mode = _mode(path.parent)
    return 0o700 if mode & _OTHERS else mode


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
