"""The work of a snapshot that reads or writes files, as tasks: done here, or by a process.

A server has it done by a process (`process`): a thread would take the interpreter's lock thousands
of times, and at a low priority hold up those that answer. Tasks are plain data, and their failures
are those of ``vicinal.errors``.
"""

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from vicinal.engine.log_copy import LogCopy
from vicinal.errors import Unavailable
from vicinal.snapshots.files import described, give_way, link_or_copy, verify_seal
from vicinal.snapshots.store import Store
from vicinal.snapshots.verifying import verify_snapshots
from vicinal.storage import private
from vicinal.storage.files import Seal, sync
from vicinal.storage.sqlite import translating
from vicinal.verify.report import Damage, Subject

LOCK_TIMEOUT_S = 30.0

_Row = tuple[Any, ...]  # fields of SQLite; of a damaged row they may be of any type


class PlaceFile(msgspec.Struct, frozen=True, tag=True):
    """Link or copy a component file to a new name, and verify it there."""

    source: str
    target: str
    kind: str
    size: int
    checksum: int
    copies: bool


class VerifyFile(msgspec.Struct, frozen=True, tag=True):
    """Verify a component file."""

    path: str
    kind: str
    size: int
    checksum: int


class CopyDatabase(msgspec.Struct, frozen=True, tag=True):
    """Copy an SQLite database as of one moment, and describe the copy."""

    source: str
    target: str


class BeginLog(msgspec.Struct, frozen=True, tag=True):
    """Begin the copy of a log."""

    path: str
    source: str


class AddRows(msgspec.Struct, frozen=True, tag=True):
    """Append rows to the log that was begun."""

    rows: Sequence[_Row]


class FinishLog(msgspec.Struct, frozen=True, tag=True):
    """End the log that was begun, and describe it."""

    document: bytes
    tombstones: Sequence[_Row]


class VerifySnapshots(msgspec.Struct, frozen=True, tag=True):
    """Read every byte of snapshots in a store, which the caller has locked."""

    store: str
    ids: Sequence[str]


Task = PlaceFile | VerifyFile | CopyDatabase | BeginLog | AddRows | FinishLog | VerifySnapshots


class Done(msgspec.Struct, frozen=True, tag=True):
    """The end of a task: whether a file was linked, the size and digest of a new one, or what was
    read of snapshots."""

    is_linked: bool = False
    size: int = 0
    sha256: str = ""
    subjects: tuple[Subject, ...] = ()
    damages: tuple[Damage, ...] = ()


class WorkFailed(Unavailable):
    """Tasks cannot be done any more, which has nothing to do with the one that was asked for."""


class Work(Protocol):
    """Does tasks, one at a time."""

    def perform(self, task: Task) -> Done:
        """Do a task.

        Raises:
            Corruption: a file is not as it was written.
            FileNotFoundError: a source is gone.
            OSError, ResourceExhausted, Unavailable: a disk is full, or does not answer.
            WorkFailed: no further task can be done.
        """

    def close(self) -> None:
        """End what was begun."""


class InlineWork:
    """Work that is done by the thread that asks for it.

    Args:
        gives_way: Whether what is written leaves the disk to others half of the time.
    """

    def __init__(self, *, gives_way: bool = False) -> None:
        self._gives_way = gives_way
        self._log: tuple[LogCopy, Path] | None = None

    def perform(self, task: Task) -> Done:
        """See `Work`."""
        match task:
            case PlaceFile(source, target, kind, size, checksum, copies):
                is_linked = link_or_copy(
                    Path(source), Path(target), copies=copies, gives_way=self._gives_way
                )
                verify_seal(Path(target), kind, Seal(size, checksum), source)
                return Done(is_linked)
            case VerifyFile(path, kind, size, checksum):
                verify_seal(Path(path), kind, Seal(size, checksum))
                return Done()
            case CopyDatabase(source, target):
                _copy_database(Path(source), Path(target))
                return _done(Path(target))
            case BeginLog(path, source):
                self.close()
                self._log = LogCopy(Path(path), source), Path(path)
                return Done()
            case AddRows(rows):
                assert self._log is not None
                began = time.monotonic()
                self._log[0].add(rows)
                if self._gives_way:
                    self._log[0].sync()
                    give_way(began, _size(rows))
                return Done()
            case FinishLog(document, tombstones):
                assert self._log is not None
                copied, path_ = self._log
                copied.finish(document, tombstones)
                self._log = None
                return _done(path_)
            case VerifySnapshots(store, ids):
                report = verify_snapshots(Store(Path(store)), ids)
                return Done(subjects=tuple(report.subjects), damages=tuple(report.damages))

    def close(self) -> None:
        """See `Work`."""
        if self._log is not None:
            with suppress(sqlite3.Error):
                self._log[0].cancel()
            self._log = None


def _size(rows: Sequence[_Row]) -> int:
    return sum(len(field) for row in rows for field in row if isinstance(field, bytes))


def _done(path: Path) -> Done:
    file = described(path, "")
    return Done(size=file.size, sha256=file.sha256)


def _copy_database(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    private.make_file(target, 0o600)
    uri = f"{source.absolute().as_uri()}?mode=rw"
    with (
        translating(source),
        closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S)) as original,
        closing(sqlite3.connect(target)) as copied,
    ):
        # All of it in one step: with several, each write of others would begin it again.
        original.backup(copied)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
