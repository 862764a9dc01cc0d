"""``vicinal snapshot``: copies of all that a server keeps, made while it serves.

    a server            makes, lists, verifies, restores and deletes those in its own folder, which
                        the setting `snapshot_folder` names; or streams one
    a folder (STORE)    a store on this machine: streams are received into it, and it is read here
    a file or ``-``     one snapshot as a stream

Commands without STORE ask the server.
"""

import importlib.metadata
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast
from urllib.parse import quote

import click
import httpx
import msgspec

from vicinal import trust
from vicinal.cli import show
from vicinal.cli.client import Target, open_envelope, target_options
from vicinal.cli.verify import show_report, verify_stored
from vicinal.engine import catalog
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.errors import Corruption, reason_of
from vicinal.snapshots.manifest import ServerSnapshot
from vicinal.snapshots.receiving import SUFFIX, known_names, receive, relay
from vicinal.snapshots.restoring import check_empty, restore_folder
from vicinal.snapshots.service import SHARED_REFUSAL
from vicinal.snapshots.sinks import StoreSink, StreamSink
from vicinal.snapshots.store import Store
from vicinal.snapshots.taking import Server, new_id, take_snapshot
from vicinal.snapshots.work import InlineWork
from vicinal.storage import private
from vicinal.storage.files import sync, sync_directory
from vicinal.verify.folder import COPIES, is_data_folder
from vicinal.wire.snapshots import (
    DeletedSnapshotSchema,
    RestoredIndexSchema,
    SnapshotReportSchema,
    SnapshotSchema,
    described,
)

T = TypeVar("T")

_ROUTE = "/vicinal/snapshots"
_TIMEOUT = httpx.Timeout(None, connect=5.0)  # copying takes as long as it takes
_PIECE_BYTES = 1 << 20
_ARCHIVES = frozenset((".7z", ".bz2", ".gz", ".tar", ".tgz", ".xz", ".zip", ".zst"))

_STORE = click.argument("store", required=False, type=click.Path(path_type=Path))
_ID = click.option("--snapshot", "snapshot_id", help="Its id; the newest if not given.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("snapshot")
def group() -> None:
    """Back up all that a server keeps while it serves, and restore it."""


@group.command("create")
@click.argument("destination", required=False)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Read this data folder, which no server has open, instead of asking a server.",
)
@click.option("--copy", "copies", is_flag=True, help="Copy files also where links would do.")
@_JSON
@target_options
def create(
    destination: str | None, data: Path | None, *, copies: bool, as_json: bool, target: Target
) -> None:
    """Make a snapshot of all accounts, indexes, SQL databases and tokens.

    DESTINATION is a folder of snapshots, a file whose name ends in .tar.zst, or - for standard
    output; the server's own folder of snapshots if it is not given. The exit status is 1 if
    anything is missing in the snapshot.
    """
    if destination is not None:
        _check_kind(destination)
    if data is not None:
        snapshot = described(_create_at_rest(data, destination, copies=copies))
    elif destination is None:
        snapshot = _ask(target, "POST", "", {"copy": copies}, SnapshotSchema)
    else:
        snapshot = _create_streamed(target, destination)
    if as_json and destination != "-":
        show.json(msgspec.json.encode(snapshot))
    else:
        show.note(
            f"snapshot {snapshot.id}: {len(snapshot.indexes):,} indexes and "
            f"{snapshot.database_count:,} SQL databases of {snapshot.byte_count:,} bytes, of which "
            f"{snapshot.written_bytes:,} were written and {snapshot.linked_bytes:,} linked"
        )
    for part in snapshot.missing:
        show.note(f"it is without {part.name}: {part.reason}")
    if snapshot.missing:
        raise click.ClickException(f"{len(snapshot.missing)} parts are missing in the snapshot")


@group.command("list")
@_STORE
@_JSON
@target_options
def list_(store: Path | None, *, as_json: bool, target: Target) -> None:
    """List the snapshots in STORE, or in the server's folder, oldest first."""
    if store is None:
        snapshots = _ask(target, "GET", "", None, list[SnapshotSchema])
    else:
        snapshots = list(_stored(Store(store)))
    if as_json:
        show.json(msgspec.json.encode(snapshots))
        return
    show.table(
        ("snapshot", "started", "indexes", "databases", "bytes", "written", "missing"),
        [
            (
                snapshot.id,
                snapshot.started_at,
                f"{len(snapshot.indexes):,}",
                f"{snapshot.database_count:,}",
                f"{snapshot.byte_count:,}",
                f"{snapshot.written_bytes:,}",
                str(len(snapshot.missing) or ""),
            )
            for snapshot in snapshots
        ],
        right=("indexes", "databases", "bytes", "written"),
    )


@group.command("verify")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@_ID
@_JSON
@target_options
def verify(source: Path | None, snapshot_id: str | None, *, as_json: bool, target: Target) -> None:
    """Read every byte of a snapshot in SOURCE, a folder of snapshots or a .tar.zst file.

    Without SOURCE the server reads one of its own. The exit status is 1 if anything is damaged.
    """
    if source is not None:
        show_report(verify_stored(source, snapshot_id), source, as_json=as_json)
        return
    path = f"/{_resolved(target, snapshot_id)}/verify"
    report = _ask(target, "POST", path, None, SnapshotReportSchema)
    if as_json:
        show.json(msgspec.json.encode(report))
    for damage in report.damages:
        show.note(f"{damage.subject}: {damage.file}: {damage.problem}")
    if report.damages:
        raise click.ClickException("the snapshot is damaged")
    if not as_json:
        show.note(f"every byte is as it was written, in {report.file_count:,} files")


@group.command("restore")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@_ID
@click.option(
    "--data", type=click.Path(path_type=Path), help="Make this data folder, which must be empty."
)
@click.option("--suffix", help="Restore into the running server, with this behind each name.")
@click.option("--index", "indexes", multiple=True, help="ACCOUNT/NAME of one; all if not given.")
@click.option("--copy", "copies", is_flag=True, help="Copy files also where links would do.")
@_JSON
@target_options
def restore(
    source: Path | None,
    snapshot_id: str | None,
    data: Path | None,
    suffix: str | None,
    indexes: tuple[str, ...],
    *,
    copies: bool,
    as_json: bool,
    target: Target,
) -> None:
    """Make a data folder of a snapshot in SOURCE, a folder of snapshots or a .tar.zst file.

    With --suffix the server adds the indexes of one of its own snapshots to those that it has,
    under new names; SOURCE is not given then.
    """
    if (data is None) == (suffix is None):
        raise click.UsageError("give either --data, a new folder, or --suffix, for new names")
    if data is not None:
        if source is None:
            raise click.UsageError("--data needs SOURCE, a folder of snapshots or a .tar.zst file")
        if indexes:
            raise click.UsageError("--index goes with --suffix; --data restores everything")
        snapshot = _restore_folder(source, snapshot_id, data, copies=copies)
        if as_json:
            show.json_of(described(snapshot))
        else:
            click.echo(f"restored snapshot {snapshot.id} to {data}")
        return
    if source is not None:
        raise click.UsageError("--suffix restores a snapshot of the server's own folder")
    body: dict[str, object] = {"suffix": suffix}
    if indexes:
        body["indexes"] = [_account_and_name(index) for index in indexes]
    path = f"/{_resolved(target, snapshot_id)}/restore"
    restored = _ask(target, "POST", path, body, list[RestoredIndexSchema])
    if as_json:
        show.json_of(restored)
        return
    for index in restored:
        click.echo(f"{index.account}/{index.name}")


@group.command("delete")
@_STORE
@click.option("--snapshot", "snapshot_id", required=True, help="Its id.")
@_JSON
@target_options
def delete(store: Path | None, snapshot_id: str, *, as_json: bool, target: Target) -> None:
    """Delete a snapshot, and the files that no other snapshot has."""
    if store is None:
        path = f"/{quote(snapshot_id, safe='')}"
        freed = _ask(target, "DELETE", path, None, DeletedSnapshotSchema).freed_bytes
    else:
        opened = Store(store)
        with opened.locked(writes=True):
            freed = opened.delete(snapshot_id)
    if as_json:
        show.json_of(DeletedSnapshotSchema(freed))
        return
    click.echo(f"deleted {snapshot_id}, which freed {freed:,} bytes")


def _stored(store: Store) -> Iterator[SnapshotSchema]:
    """Return the snapshots of a store that can be read; note the others."""
    return map(described, store.manifests(lambda error: show.note(str(error))))


def _create_at_rest(data: Path, destination: str | None, *, copies: bool) -> ServerSnapshot:
    """Make a snapshot of a data folder that no server has open."""
    if destination is None:
        raise click.UsageError("--data needs DESTINATION, a folder of snapshots or a .tar.zst file")
    if not is_data_folder(data):
        raise click.ClickException(f"{data} is no data folder")
    if (data / COPIES).is_dir() and not (data / catalog.FILE_NAME).exists():
        raise click.ClickException(SHARED_REFUSAL)
    snapshot_id = new_id()
    with closing(EmbeddedEngine.open(data)) as engine:
        server = Server(engine, data, importlib.metadata.version("vicinal"))
        if _is_stream(destination):
            with (
                _new_file(destination) as stream,
                StreamSink(stream, snapshot_id, InlineWork()) as stream_sink,
            ):
                return take_snapshot(server, stream_sink, snapshot_id)
        store = Store.create(Path(destination))
        with (
            store.locked(writes=True),
            StoreSink(store, snapshot_id, InlineWork(), copies=copies) as store_sink,
        ):
            return take_snapshot(server, store_sink, snapshot_id)


def _create_streamed(target: Target, destination: str) -> SnapshotSchema:
    """Have the server stream a snapshot; return it."""
    if _is_stream(destination):
        with _new_file(destination) as stream, _streamed(target, []) as pieces:
            return described(relay(cast(IO[bytes], _Reader(pieces)), stream))
    store = Store.create(Path(destination))
    with store.locked(writes=True), _streamed(target, known_names(store)) as pieces:
        return described(receive(cast(IO[bytes], _Reader(pieces)), store))


def _restore_folder(
    source: Path, snapshot_id: str | None, data: Path, *, copies: bool
) -> ServerSnapshot:
    check_empty(data)
    if source.is_dir():
        store = Store(source)
        with store.locked():
            snapshot = store.manifest(store.resolve(snapshot_id))
            restore_folder(store, snapshot, data, InlineWork(), copies=copies)
        return snapshot
    private.make_data_folder(data.parent)
    with tempfile.TemporaryDirectory(prefix=f".{data.name}-", dir=data.parent) as name:
        # Next to the folder, so that what is unpacked is linked and not copied once more.
        store = Store.create(Path(name))
        with source.open("rb") as stream:
            try:
                snapshot = receive(stream, store)
            except Corruption as error:
                raise Corruption(f"{source}: {error}") from error
        if snapshot_id not in (None, snapshot.id):
            raise click.ClickException(f"{source} is snapshot {snapshot.id}")
        restore_folder(store, snapshot, data, InlineWork())
    return snapshot


def _check_kind(destination: str) -> None:
    """Refuse to make a folder of a name that was meant for a file of another kind."""
    path = Path(destination)
    if path.suffix.lower() in _ARCHIVES and not _is_stream(destination) and not path.is_dir():
        raise click.UsageError(
            f"{path}: a snapshot is a file whose name ends in {SUFFIX}, or a folder"
        )


def _is_stream(destination: str) -> bool:
    return destination == "-" or destination.endswith(SUFFIX)


@contextmanager
def _new_file(destination: str) -> Iterator[IO[bytes]]:
    """Open standard output, or a file that has its name once it is whole and on disk."""
    if destination == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(destination)
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with open(unfinished, "wb", opener=private.opener) as file:
            yield file
            file.flush()
            sync(file.fileno())
        unfinished.rename(path)
        sync_directory(path.absolute().parent)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _streamed(target: Target, known: Sequence[str]) -> Iterator[Iterator[bytes]]:
    body = msgspec.json.encode({"known": known})
    headers = {"content-type": "application/json"}
    with target.http(_TIMEOUT) as http:
        try:
            with http.stream("POST", f"{_ROUTE}/stream", content=body, headers=headers) as response:
                if not response.is_success:
                    response.read()
                    open_envelope(response)
                yield response.iter_raw(_PIECE_BYTES)
        except httpx.TransportError as error:
            raise click.ClickException(
                f"no whole snapshot from {target.origin}: {reason_of(error)}"
            ) from error


class _Reader(io.RawIOBase):
    """The pieces of an answer as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _ask(target: Target, method: str, path: str, body: object, form: type[T]) -> T:
    """Ask the server, which may take long; return its answer."""
    content = b"" if body is None else msgspec.json.encode(body)
    headers = {"content-type": "application/json"} if content else {}
    with target.http(_TIMEOUT) as http:
        try:
            response = http.request(method, f"{_ROUTE}{path}", content=content, headers=headers)
        except httpx.TransportError as error:
            raise click.ClickException(
                f"no answer from {target.origin}: "
                f"{trust.with_remedy(reason_of(error))}. "
                "Is a server running there? --data reads the folder of one that is stopped."
            ) from error
    return open_envelope(response).decode(form)


def _resolved(target: Target, snapshot_id: str | None) -> str:
    if snapshot_id is not None:
        return quote(snapshot_id, safe="")
    snapshots = _ask(target, "GET", "", None, list[SnapshotSchema])
    if not snapshots:
        raise click.ClickException("the server has no snapshots")
    return snapshots[-1].id


def _account_and_name(text: str) -> dict[str, str]:
    account, separator, name = text.partition("/")
    if not separator:
        raise click.UsageError(f"--index {text}: it is written ACCOUNT/NAME")
    return {"account": account, "name": name}
