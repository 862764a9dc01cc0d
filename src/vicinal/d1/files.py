"""The files of SQL databases, to copy and examine them: no statement of a user runs.

Databases are shared: the processes that run statements may write while this reads, each as of one
moment. This knows SQLite files in folders of accounts, not calls.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vicinal.d1.databases import DATABASE_ID, SUFFIX
from vicinal.storage.sqlite import translating

LOCK_TIMEOUT_S = 30.0
PROBLEMS_MAX = 20  # ours: of one database


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """A database: the account, its id and its file."""

    account: str
    id: str
    path: Path


def database_files(folder: Path) -> Iterator[DatabaseFile]:
    """Yield the databases in the folder of all accounts, in order."""
    if not folder.is_dir():
        return
    for account in sorted(folder.iterdir()):
        if not account.is_dir():
            continue
        for path in sorted(account.iterdir()):
            name = path.name.removesuffix(SUFFIX)
            if path.name.endswith(SUFFIX) and DATABASE_ID.fullmatch(name):
                yield DatabaseFile(account.name, name, path)


def problems(path: Path) -> list[str]:
    """Return what SQLite's integrity check has against a database.

    Raises:
        Corruption: it cannot be opened.
        Unavailable: the disk does not answer.
    """
    with translating(path), closing(_open(path)) as connection:
        connection.execute("PRAGMA trusted_schema=OFF")
        rows = connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})").fetchall()
    return [str(row[0]) for row in rows if row[0] != "ok"]


def _open(path: Path) -> sqlite3.Connection:
    # At rest there is no write-ahead log, and then nothing is made next to the file.
    is_at_rest = not path.with_name(f"{path.name}-wal").exists()
    options = "immutable=1" if is_at_rest else "mode=ro"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}", uri=True, timeout=LOCK_TIMEOUT_S
    )
