"""A store: a folder of snapshots, which share the files that do not change.

    vicinal-snapshots          says that the folder is a store, and its format
    lock                       held by one process that writes, or by any number that read files
    shared/<index id>/<name>   component files, named by their place and seal
    shared/d1/<sha256>         SQL databases
    snapshots/<id>/            the files of one snapshot, and its manifest
    snapshots/<id>.part/       one that is being written, or deleted

A snapshot is there from the moment that its folder, with the fsynced manifest in it, gets its name
to the moment that it loses it; so manifests are read without the lock. A crash leaves a ``.part``
folder, files that no manifest names and files with ``.tmp`` after their names; the next writer
removes them. If a manifest cannot be read, shared files stay, as they may be its own.
"""

import errno
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from vicinal.errors import Corruption, InvalidInput, NotFound, Unavailable
from vicinal.snapshots import manifest
from vicinal.snapshots.files import write_durably
from vicinal.snapshots.manifest import ID, ServerSnapshot
from vicinal.storage import file_locks, private
from vicinal.storage.files import sync_directory
from vicinal.storage.sqlite import translating

MARKER = "vicinal-snapshots"
FORMAT = 1
D1 = "d1"

_UNFINISHED = ".part"


class SnapshotNotFound(NotFound):
    """A store has no snapshot of this id, or none at all."""


class Store:
    """A folder of snapshots.

    Raises:
        InvalidInput: the folder is no store.
        Corruption: it is of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.snapshots = folder / "snapshots"
        marker = folder / MARKER
        if not marker.is_file():
            raise InvalidInput(f"{folder} is no folder of snapshots: it has no file {MARKER}")
        check_marker(marker.read_bytes(), folder)

    @classmethod
    def create(cls, folder: Path) -> "Store":
        """Open a store, making it where there is nothing, or an empty folder.

        Several threads and processes may make it at the same moment.

        Raises:
            InvalidInput: the folder holds something else.
        """
        marker = folder / MARKER
        with translating(folder):
            private.make_data_folder(folder)
            if not marker.exists():
                names = sorted(path.name for path in folder.iterdir())
                others = [name for name in names if name != "lock" and not name.startswith(MARKER)]
                if others and not marker.exists():
                    raise InvalidInput(
                        f"{folder} holds other things, such as {others[0]!r}; "
                        "snapshots need a folder of their own"
                    )
                # Who makes it at the same moment may be a writer by now, and tidy up.
                with suppress(FileNotFoundError):
                    write_durably(marker, msgspec.json.encode({"format": FORMAT}) + b"\n")
        return cls(folder)

    @contextmanager
    def locked(self, *, writes: bool = False) -> Iterator[None]:
        """Keep the store for this reader, or this writer alone, while the block runs.

        Raises:
            Unavailable: another process writes, or reads while this one would write.
        """
        path = self.folder / "lock"
        creates = writes or not path.exists()
        try:
            lock = file_locks.acquire(path, is_shared=not writes, creates=creates)
        except BlockingIOError as error:
            raise Unavailable(
                f"{self.folder} is in use: a snapshot is being made, read or deleted there",
                retry_after=5.0,
            ) from error
        except OSError as error:
            if writes or error.errno != errno.EROFS:
                raise Unavailable(f"{path}: {error.strerror}") from error
            yield  # nobody writes to it
            return
        try:
            yield
        finally:
            lock.close()

    def ids(self) -> Sequence[str]:
        """Return the ids of the snapshots, oldest first."""
        with translating(self.snapshots):
            if not self.snapshots.is_dir():
                return []
            return sorted(path.name for path in self.snapshots.iterdir() if ID.fullmatch(path.name))

    def resolve(self, snapshot_id: str | None) -> str:
        """Return the id of a snapshot, of the newest if none is given.

        Raises:
            SnapshotNotFound: there is none.
        """
        ids = self.ids()
        if not ids:
            raise SnapshotNotFound(f"{self.folder} has no snapshots")
        if snapshot_id is not None and snapshot_id not in ids:
            raise self._not_found(snapshot_id)
        return ids[-1] if snapshot_id is None else snapshot_id

    def manifest(self, snapshot_id: str) -> ServerSnapshot:
        """Return the manifest of a snapshot.

        Raises:
            Corruption: it is damaged or missing.
            SnapshotNotFound: there is no such snapshot, or no longer.
        """
        path = self.own(snapshot_id) / manifest.FILE_NAME
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            if not path.parent.is_dir():
                raise self._not_found(snapshot_id) from error
            raise Corruption(f"{path} is missing") from error
        snapshot = manifest.decode(raw, path)
        if snapshot.id != snapshot_id:
            raise Corruption(f"{path} is of snapshot {snapshot.id}")
        return snapshot

    def manifests(self, on_damage: Callable[[Corruption], object]) -> Iterator[ServerSnapshot]:
        """Yield the manifests that can be read, oldest first, and call `on_damage` for others.

        One of a snapshot that is deleted meanwhile is passed over.
        """
        for snapshot_id in self.ids():
            with suppress(SnapshotNotFound):
                try:
                    yield self.manifest(snapshot_id)
                except Corruption as error:
                    on_damage(error)

    def own(self, snapshot_id: str) -> Path:
        """Return the folder of a snapshot's own files."""
        return self.snapshots / snapshot_id

    def unfinished(self, snapshot_id: str) -> Path:
        """Return the folder of a snapshot that is being written or deleted."""
        return self.snapshots / f"{snapshot_id}{_UNFINISHED}"

    def begin(self, snapshot_id: str) -> Path:
        """Remove what a crash left, and make the folder of a new snapshot; return it."""
        with translating(self.folder):
            self.prepare()
            folder = self.unfinished(snapshot_id)
            private.make_folder(folder)
        return folder

    def prepare(self) -> None:
        """Make the folders of the store, and remove what a crash left in them."""
        private.make_folders(self.snapshots)
        private.make_folders(self.shared)
        self.collect_garbage()

    def publish(self, snapshot: ServerSnapshot) -> None:
        """Write the manifest, and make the snapshot one."""
        folder = self.unfinished(snapshot.id)
        with translating(self.folder):
            names = {index.id for index in snapshot.indexes}
            for name in [*names, D1]:
                if (self.shared / name).is_dir():
                    sync_directory(self.shared / name)
            sync_directory(self.shared)
            write_durably(folder / manifest.FILE_NAME, manifest.encode(snapshot))
            folder.rename(self.own(snapshot.id))
            sync_directory(self.snapshots)
            sync_directory(self.folder)

    def delete(self, snapshot_id: str) -> int:
        """Delete a snapshot and the files that it alone has; return the bytes that are free now.

        Raises:
            SnapshotNotFound: there is none.
        """
        self.resolve(snapshot_id)
        with translating(self.folder):
            self.own(snapshot_id).rename(self.unfinished(snapshot_id))
            sync_directory(self.snapshots)
            return self.collect_garbage()

    def collect_garbage(self) -> int:
        """Remove unfinished snapshots and files that no snapshot has; return how many bytes."""
        freed = 0
        for path in self.snapshots.glob(f"*{_UNFINISHED}"):
            freed += sum(freed_size(file) for file in path.rglob("*"))
            shutil.rmtree(path, ignore_errors=True)
        try:
            named = self._named()
        except Corruption:
            named = None
        for path in list(self.shared.glob("*/*")):
            if path.name.endswith(".tmp") or (named is not None and path not in named):
                freed += freed_size(path)
                path.unlink(missing_ok=True)
        for folder in list(self.shared.glob("*")):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        for path in self.folder.glob(f"{MARKER}*.tmp"):
            path.unlink(missing_ok=True)
        return freed

    def _not_found(self, snapshot_id: str) -> SnapshotNotFound:
        return SnapshotNotFound(f"{self.folder} has no snapshot {snapshot_id[:80]!r}")

    def _named(self) -> set[Path]:
        paths: set[Path] = set()
        for snapshot_id in self.ids():
            paths |= {self.folder / name for name in shared_names(self.manifest(snapshot_id))}
        return paths


def check_marker(raw: bytes, label: Path | str) -> None:
    """Refuse the marker of a store that this version does not read.

    Raises:
        Corruption: it is of another format, or none.
    """
    try:
        found_format = msgspec.json.decode(raw, type=dict[str, int])["format"]
    except (msgspec.MsgspecError, KeyError) as error:
        raise Corruption(f"{label}: its file {MARKER} cannot be read") from error
    if found_format != FORMAT:
        raise Corruption(f"{label} is of format {found_format}, this version reads format {FORMAT}")


def shared_names(snapshot: ServerSnapshot) -> set[str]:
    """Return the paths of a snapshot's shared files in its store."""
    names = {f"shared/{index.id}/{file.name}" for index in snapshot.indexes for file in index.files}
    return names | {f"shared/{D1}/{database.file.name}" for database in snapshot.databases}


def freed_size(path: Path) -> int:
    """Return the bytes that a file's removal frees: none if it has another name."""
    status = path.lstat()
    return status.st_size if status.st_nlink == 1 and path.is_file() else 0


SHARED_NAME = re.compile(r"shared/([0-9a-f-]{36}|d1)/([A-Za-z0-9.-]{1,160})")
"""The path of a shared file in a store."""
