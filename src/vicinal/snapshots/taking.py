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

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vicinal.d1.files import DatabaseFile, database_files
from vicinal.engine.catalog import CatalogEntry
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.log import FILE_NAME as LOG_NAME
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
from vicinal.snapshots.work import AddRows, BeginLog, CopyDatabase, FinishLog, WorkFailed
from vicinal.storage.sqlite import translating
from vicinal.tokens import REQUIRED_FILE

_ATTEMPTS_MAX = 3  # at an index that is closed, to make room, while it is copied


@dataclass(frozen=True, slots=True)
class Server:
    """All that is copied: the engine, and the data folder of SQL databases and tokens."""

    engine: EmbeddedEngine
    data: Path
    version: str


def new_id() -> str:
    """Return an id for a snapshot: ids of later microseconds are greater."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond << 4 | secrets.randbits(4):06x}"


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
    if isinstance(error, ResourceExhausted | WorkFailed):
        raise error


def _add_index(engine: EmbeddedEngine, sink: Sink, entry: CatalogEntry) -> IndexPart:
    for attempt in range(_ATTEMPTS_MAX):
        try:
            with engine.pin(entry.address) as pinned:
                return _add_pinned(sink, pinned)
        except (FileNotFoundError, Unavailable) as error:
            if isinstance(error, ResourceExhausted | WorkFailed):
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
    sink.work.perform(BeginLog(str(path), str(pinned.folder / LOG_NAME)))
    for rows in pinned.log_rows():
        sink.work.perform(AddRows(rows))
    end = sink.work.perform(FinishLog(pinned.log_document(), moment.tombstones))
    log = OwnFile(path.name, end.size, end.sha256)
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
    end = sink.work.perform(CopyDatabase(str(database.path), str(path)))
    sink.add_content(f"shared/{D1}/{end.sha256}", path)
    return DatabasePart(database.account, database.id, OwnFile(end.sha256, end.size, end.sha256))


def _add_tokens(sink: Sink, data: Path) -> OwnFile | None:
    source = data / TOKENS_FILE
    if not source.exists():
        return None
    path = sink.folder / TOKENS_FILE
    end = sink.work.perform(CopyDatabase(str(source), str(path)))
    sink.add_own(path)
    return OwnFile(path.name, end.size, end.sha256)


def _byte_count(
    indexes: Sequence[IndexPart], databases: Sequence[DatabasePart], tokens: OwnFile | None
) -> int:
    own = [*(index.log for index in indexes), *(database.file for database in databases)]
    return (
        sum(file.size for file in own)
        + sum(file.size for index in indexes for file in index.files)
        + (0 if tokens is None else tokens.size)
    )
