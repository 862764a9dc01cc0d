"""The manifest of a snapshot: all that is in it, and what vouches for every byte.

    manifest := {"sha256": of the bytes of the snapshot below, "snapshot": {...}}

The manifest is written last, and a snapshot without it is none. The snapshot's own files are named
by size and SHA-256, component files by the seal that the engine gave them (size and trailer
checksum), by which every block of them is verified.
"""

import hashlib
import re
from datetime import datetime
from pathlib import Path

import msgspec

from vicinal.errors import Corruption
from vicinal.model import IndexConfig
from vicinal.storage.files import Seal

FORMAT = 1
FILE_NAME = "manifest"
ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")

OWN_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,59}")
"""The name of a file that a snapshot has for itself."""

_IN_INDEX = re.compile(r"(segments/[0-9]{8}/[a-z0-9-]{1,40}|blobs/[0-9]{8,20})")


class OwnFile(msgspec.Struct, frozen=True):
    """A file that is described by its content."""

    name: str
    size: int
    sha256: str


class SharedFile(msgspec.Struct, frozen=True):
    """A component file of an index, which snapshots share: its path in the index's folder, its kind
    and its seal."""

    path: str
    kind: str
    size: int
    checksum: int

    @property
    def seal(self) -> Seal:
        """The seal that its content has."""
        return Seal(self.size, self.checksum)

    @property
    def name(self) -> str:
        """The name of its content among those of the index: no other content has it."""
        return f"{self.path.replace('/', '.')}-{self.size}-{self.checksum:08x}"


class IndexPart(msgspec.Struct, frozen=True):
    """An index as of one mutation of its log: the last one that was logged when it was pinned."""

    account: str
    name: str
    id: str
    description: str | None
    config: IndexConfig
    created_at: datetime
    seqno: int
    mutation_id: str | None
    log: OwnFile
    files: tuple[SharedFile, ...]


class DatabasePart(msgspec.Struct, frozen=True):
    """An SQL database; its file is among those that snapshots share."""

    account: str
    id: str
    file: OwnFile


class MissingPart(msgspec.Struct, frozen=True):
    """Something that could not be copied, and why."""

    name: str
    reason: str


class ServerSnapshot(msgspec.Struct, frozen=True):
    """All of a snapshot.

    Attributes:
        byte_count: Bytes of all its files.
        written_bytes: Bytes that were copied for it; the rest were there or were linked.
        linked_bytes: Bytes of files that were linked, and so share their disk blocks.
        missing: Empty for a whole snapshot.
    """

    id: str
    version: str
    started_at: datetime
    finished_at: datetime
    is_scheduled: bool
    indexes: tuple[IndexPart, ...]
    databases: tuple[DatabasePart, ...]
    tokens: OwnFile | None
    needs_tokens: bool
    missing: tuple[MissingPart, ...]
    byte_count: int
    written_bytes: int
    linked_bytes: int
    format: int = FORMAT


class _Envelope(msgspec.Struct):
    sha256: str
    snapshot: msgspec.Raw


class _FormatOnly(msgspec.Struct):
    format: int


def encode(snapshot: ServerSnapshot) -> bytes:
    """Return the file of a manifest."""
    raw = msgspec.json.encode(snapshot)
    return msgspec.json.encode(_Envelope(hashlib.sha256(raw).hexdigest(), msgspec.Raw(raw)))


def decode(raw: bytes, path: Path) -> ServerSnapshot:
    """Return the manifest in a file.

    Raises:
        Corruption: it is damaged, of another format, or names what no snapshot has.
    """
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        inner = bytes(envelope.snapshot)
        if hashlib.sha256(inner).hexdigest() != envelope.sha256:
            raise Corruption(f"{path} fails its checksum")
        seen = msgspec.json.decode(inner, type=_FormatOnly).format
        if seen != FORMAT:
            raise Corruption(f"{path} is of format {seen}, this version reads format {FORMAT}")
        snapshot = msgspec.json.decode(inner, type=ServerSnapshot)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Corruption(f"{path} cannot be read: {error}") from error
    _check_names(snapshot, path)
    return snapshot


def _check_names(snapshot: ServerSnapshot, path: Path) -> None:
    """Refuse names that lead out of the folders that they are in."""
    ids = [index.id for index in snapshot.indexes]
    paths = [file.path for index in snapshot.indexes for file in index.files]
    if not ID.fullmatch(snapshot.id):
        raise Corruption(f"{path} names a snapshot {snapshot.id!r:.100}")
    bad = [name for name in ids if not re.fullmatch(r"[0-9a-f-]{36}", name)]
    bad += [name for name in paths if not _IN_INDEX.fullmatch(name)]
    bad += [
        name
        for database in snapshot.databases
        for name in (database.account, database.id)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
    ]
    bad += [database.file.name for database in snapshot.databases
            if not re.fullmatch(r"[0-9a-f]{64}", database.file.name)]  # fmt: skip
    bad += [
        file.name
        for file in [*(index.log for index in snapshot.indexes), snapshot.tokens]
        if file is not None and not OWN_NAME.fullmatch(file.name)
    ]
    if bad:
        raise Corruption(f"{path} names a file {bad[0]!r:.100}, which no snapshot has")


def index_label(index: IndexPart) -> str:
    """Return account and name of an index."""
    return f"{index.account}/{index.name}"
