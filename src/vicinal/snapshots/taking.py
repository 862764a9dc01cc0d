"""Taking a snapshot: every index at one moment, the SQL databases and the tokens.

    1  each index is pinned, one after the other: its moment is after the snapshot's start, so all
       that was acknowledged before is in it, whole mutations and nothing else
    2  its component files go to the sink, those that are not there yet, each read and verified
    3  the rows of its log are written as a log of their own, and the index is released
    4  SQL databases and tokens are copied by SQLite, each as of one moment
    5  the manifest is written, and with it the snapshot exists

Writers wait for nothing but the reading of a few rows at a time. A part that is damaged or cannot
be opened is left out and named in the manifest; a full disk ends the snapshot, and nothing of it
stays.
"""

import contextlib
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vicinal.d1.files import DatabaseFile, database_files
from vicinal.engine.catalog import CatalogEntry
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.pinned import PinnedIndex
from vicinal.errors import Corruption, Error, IndexNotFound, ResourceExhausted, Unavailable
from vicinal.settings import TOKENS_FILE
from vicinal.snapshots.manifest import (
    DatabasePart,
    IndexPart,
    MissingPart,
    OwnFile,
    ServerSnapshot,
    SharedFile,
)
from vicinal.snapshots.sinks import Sink
from vicinal.snapshots.store import D1
from vicinal.storage import private
from vicinal.storage.files import sync
from vicinal.storage.sqlite import translating
from vicinal.tokens import REQUIRED_FILE

_LOCK_TIMEOUT_S = 30.0
_ATTEMPTS_MAX = 3  # at an index that is closed, to make room, while it is copied
_HASHED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Server:
    """All that is copied: the engine, and the data folder of SQL databases and tokens."""

    engine: EmbeddedEngine
    data: Path
    version: str


def new_id() -> str:
    """Return an id for a snapshot: ids of later seconds are greater."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def take_snapshot(
    server: Server, sink: Sink, snapshot_id: str, *, is_scheduled: bool = False
) -> ServerSnapshot:
    """Take a snapshot into a sink; return its manifest.

    Raises:
        ResourceExhausted: a disk is full.
        Unavailable: a disk does not answer, or the server is being stopped.
    """
    started_at = datetime.now(UTC)
    indexes, databases = [], []
    missing = [
        MissingPart(f"index {row.address.account}/{row.address.name}", row.damage)
        for row in server.engine.unreadable()
    ]
    with translating(sink.folder):
        for entry in server.engine.entries():
            try:
                indexes.append(_add_index(server.engine, sink, entry))
            except IndexNotFound:
                continue  # deleted meanwhile
            except (Corruption, Unavailable) as error:
                _check_goes_on(error)
                name = f"index {entry.account}/{entry.index.name}"
                missing.append(MissingPart(name, str(error)))
        for database in database_files(server.data / "d1"):
            try:
                databases.append(_add_database(sink, database))
            except (Corruption, Unavailable) as error:
                _check_goes_on(error)
                missing.append(
                    MissingPart(f"database {database.account}/{database.id}", str(error))
                )
        tokens = _add_tokens(sink, server.data)
        snapshot = ServerSnapshot(
            snapshot_id,
            server.version,
            started_at,
            datetime.now(UTC),
            is_scheduled,
            tuple(indexes),
            tuple(databases),
            tokens,
            (server.data / REQUIRED_FILE).exists(),
            tuple(missing),
            _byte_count(indexes, databases, tokens),
            sink.written_bytes,
            sink.linked_bytes,
        )
        sink.publish(snapshot)
    return snapshot


def _check_goes_on(error: Error) -> None:
    """Raise an error that is not of one part alone."""
    if isinstance(error, ResourceExhausted):
        raise error


def _add_index(engine: EmbeddedEngine, sink: Sink, entry: CatalogEntry) -> IndexPart:
    for attempt in range(_ATTEMPTS_MAX):
        try:
            with engine.pin(entry.address) as pinned:
                return _add_pinned(sink, pinned)
        except (FileNotFoundError, Unavailable) as error:
            if isinstance(error, ResourceExhausted):
                raise
            # The index was deleted, which the next attempt says, or closed and is opened again.
            if attempt == _ATTEMPTS_MAX - 1:
                if isinstance(error, FileNotFoundError):
                    raise Corruption(f"{error.filename} is missing") from error
                raise
    raise AssertionError


def _add_pinned(sink: Sink, pinned: PinnedIndex) -> IndexPart:
    index, moment = pinned.index, pinned.moment
    files = []
    for file in pinned.files:
        shared = SharedFile(file.path, file.kind, file.seal.size, file.seal.checksum)
        sink.add_component(
            f"shared/{index.id}/{shared.name}", pinned.folder / file.path, file.kind, file.seal
        )
        files.append(shared)
    path = sink.folder / f"{index.id}.db"
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # of an attempt before
    pinned.write_log(path)
    log = described(path, path.name)
    sink.add_own(path)
    return IndexPart(
        pinned.account,
        index.name,
        index.id,
        index.description,
        index.config,
        index.created_at,
        moment.seqno,
        moment.mutation_id,
        log,
        tuple(files),
    )


def _add_database(sink: Sink, database: DatabaseFile) -> DatabasePart:
    path = sink.folder / "database.tmp"
    copy_database(database.path, path)
    file = described(path, "")
    file = OwnFile(file.sha256, file.size, file.sha256)
    sink.add_content(f"shared/{D1}/{file.sha256}", path)
    return DatabasePart(database.account, database.id, file)


def _add_tokens(sink: Sink, data: Path) -> OwnFile | None:
    source = data / TOKENS_FILE
    if not source.exists():
        return None
    path = sink.folder / TOKENS_FILE
    copy_database(source, path)
    file = described(path, path.name)
    sink.add_own(path)
    return file


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database as of one moment, while others write to it, and fsync the copy.

    Raises:
        Corruption: it is damaged.
        ResourceExhausted, Unavailable: a disk is full or does not answer.
    """
    private.make_file(target, 0o600)
    uri = f"{source.absolute().as_uri()}?mode=rw"
    with (
        translating(source),
        closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_TIMEOUT_S)) as original,
        closing(sqlite3.connect(target)) as copied,
    ):
        # All of it in one step: with several, each write of others would begin it again.
        original.backup(copied)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def described(path: Path, name: str) -> OwnFile:
    """Return the size and digest of a file."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_HASHED_BYTES):
            digest.update(piece)
            size += len(piece)
    return OwnFile(name, size, digest.hexdigest())


def _byte_count(
    indexes: Sequence[IndexPart], databases: Sequence[DatabasePart], tokens: OwnFile | None
) -> int:
    own = [*(index.log for index in indexes), *(database.file for database in databases)]
    return (
        sum(file.size for file in own)
        + sum(file.size for index in indexes for file in index.files)
        + (0 if tokens is None else tokens.size)
    )
