"""The JSON of snapshots of a server: extensions of ours, which the platform has not."""

import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from vicinal.errors import BadBody
from vicinal.model import IndexAddress
from vicinal.snapshots.manifest import ServerSnapshot
from vicinal.verify.report import Damage, Report

_encode = msgspec.json.Encoder().encode
_FAILED = "Failed to parse the request body as JSON: "
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,32}")

KNOWN_MAX = 1_000_000  # ours: files that a caller of the stream says it has

_T = TypeVar("_T")


class CreateSnapshotRequest(msgspec.Struct, forbid_unknown_fields=True):
    """How a snapshot is made: whether files are copied also where they could be linked."""

    copy: bool = False


class StreamSnapshotRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Paths of shared files that the caller has, and that the stream leaves out."""

    known: Annotated[list[str], Meta(max_length=KNOWN_MAX)] = []


class IndexNameRequest(msgspec.Struct, forbid_unknown_fields=True):
    """An index of a snapshot."""

    account: str
    name: str


class RestoreSnapshotRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which indexes are restored, all if not said, and what is put behind their names."""

    suffix: str
    indexes: list[IndexNameRequest] | None = None


class SnapshotIndexSchema(msgspec.Struct, frozen=True):
    """An index of a snapshot, as of its last mutation."""

    account: str
    name: str
    mutation_id: str | None
    seqno: int


class MissingSchema(msgspec.Struct, frozen=True):
    """A part that a snapshot is without, and why."""

    name: str
    reason: str


class SnapshotSchema(msgspec.Struct, frozen=True):
    """A snapshot of a server."""

    id: str
    version: str
    started_at: str
    finished_at: str
    is_scheduled: bool
    byte_count: int
    written_bytes: int
    linked_bytes: int
    database_count: int
    indexes: tuple[SnapshotIndexSchema, ...]
    missing: tuple[MissingSchema, ...]


class TicketSchema(msgspec.Struct, frozen=True):
    """Leave to fetch a snapshot once, within some seconds."""

    ticket: str
    valid_s: float


class DamageSchema(msgspec.Struct, frozen=True):
    """Damage of one file of a snapshot."""

    subject: str
    file: str
    problem: str


class SnapshotReportSchema(msgspec.Struct, frozen=True):
    """The result of reading every byte of a snapshot."""

    file_count: int
    byte_count: int
    damages: list[DamageSchema]


class RestoredIndexSchema(msgspec.Struct, frozen=True):
    """The account and name of an index that was restored."""

    account: str
    name: str


class DeletedSnapshotSchema(msgspec.Struct, frozen=True):
    """The bytes that are free since a snapshot was deleted."""

    freed_bytes: int


def described(snapshot: ServerSnapshot) -> SnapshotSchema:
    """Return what is shown of a snapshot."""
    return SnapshotSchema(
        snapshot.id,
        snapshot.version,
        snapshot.started_at.isoformat(timespec="seconds"),
        snapshot.finished_at.isoformat(timespec="seconds"),
        snapshot.is_scheduled,
        snapshot.byte_count,
        snapshot.written_bytes,
        snapshot.linked_bytes,
        len(snapshot.databases),
        tuple(
            SnapshotIndexSchema(index.account, index.name, index.mutation_id, index.seqno)
            for index in snapshot.indexes
        ),
        tuple(MissingSchema(part.name, part.reason) for part in snapshot.missing),
    )


def one(snapshot: ServerSnapshot) -> bytes:
    """Write a snapshot."""
    return _encode(described(snapshot))


def many(snapshots: Sequence[ServerSnapshot]) -> bytes:
    """Write snapshots."""
    return _encode([described(snapshot) for snapshot in snapshots])


def ticket(given: str, valid_s: float) -> bytes:
    """Write a ticket."""
    return _encode(TicketSchema(given, valid_s))


def report(verified: Report) -> bytes:
    """Write the report of a verification."""
    return _encode(
        SnapshotReportSchema(
            sum(subject.file_count for subject in verified.subjects),
            sum(subject.byte_count for subject in verified.subjects),
            [_damage(damage) for damage in verified.damages],
        )
    )


def restored(addresses: Sequence[IndexAddress]) -> bytes:
    """Write the indexes that were restored."""
    return _encode([RestoredIndexSchema(address.account, address.name) for address in addresses])


def deleted(freed_bytes: int) -> bytes:
    """Write how much a deletion freed."""
    return _encode(DeletedSnapshotSchema(freed_bytes))


def create_request(body: bytes | bytearray) -> CreateSnapshotRequest:
    """Read how a snapshot is made; an empty body is the usual way.

    Raises:
        BadBody: the body has another shape.
    """
    return _decoded(body or b"{}", CreateSnapshotRequest)


def stream_request(body: bytes | bytearray) -> frozenset[str]:
    """Read which files the caller has; an empty body names none.

    Raises:
        BadBody: the body has another shape.
    """
    return frozenset(_decoded(body or b"{}", StreamSnapshotRequest).known)


def restore_request(
    body: bytes | bytearray,
) -> tuple[str, Sequence[tuple[str, str]] | None]:
    """Read the suffix of new names, and the accounts and names of indexes.

    Raises:
        BadBody: the body has another shape, or the suffix fits no name.
    """
    request = _decoded(body, RestoreSnapshotRequest)
    if not _SUFFIX.fullmatch(request.suffix):
        raise BadBody(
            f"{_FAILED}suffix: {request.suffix[:80]!r} is not 1 to 32 letters, digits, '_' or '-'"
        )
    if request.indexes is None:
        return request.suffix, None
    return request.suffix, [(index.account, index.name) for index in request.indexes]


def _damage(damage: Damage) -> DamageSchema:
    return DamageSchema(damage.subject, damage.file, damage.problem)


def _decoded(body: bytes | bytearray, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBody(f"{_FAILED}{error}") from error
