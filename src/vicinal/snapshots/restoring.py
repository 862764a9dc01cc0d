"""Restoring: a snapshot becomes a data folder, or indexes of a running server under new names.

Every index gets a new id, and with it a folder, and keeps its account, name, log and mutation ids.
An id stands for one history of writes: from the snapshot on there are two, and what is kept by id
(cursors of listings, files that snapshots share) must not mix them.

A data folder is made in ``restoring`` inside it, and moved out at the end, the catalog last: until
that no engine opens the folder, so a restore that was killed is never served. Files are verified
while they are linked or copied.
"""

import dataclasses
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from vicinal.engine.catalog import UNFINISHED_RESTORE, Catalog, CatalogEntry
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.log import FILE_NAME as LOG_NAME
from vicinal.engine.pinned import FOLDERS
from vicinal.errors import AlreadyExists, Corruption, InvalidInput
from vicinal.model import Index, IndexAddress
from vicinal.settings import TOKENS_FILE
from vicinal.snapshots.files import copy, described
from vicinal.snapshots.manifest import IndexPart, OwnFile, ServerSnapshot
from vicinal.snapshots.store import D1, Store
from vicinal.snapshots.work import PlaceFile, Work
from vicinal.storage import private
from vicinal.storage.files import sync_directory
from vicinal.storage.sqlite import translating
from vicinal.tokens import REQUIRED_FILE

_NAMES_SHOWN = 5


@dataclasses.dataclass(frozen=True, slots=True)
class RestoredIndex:
    """An index of a snapshot, and the address that it is restored to."""

    part: IndexPart
    address: IndexAddress


def check_empty(data: Path) -> None:
    """Refuse a folder that holds anything but a restore that was not finished.

    Raises:
        InvalidInput: it does; names some of it.
    """
    if data.exists() and not data.is_dir():
        raise InvalidInput(f"{data} is no folder")
    names = sorted(path.name for path in data.iterdir()) if data.exists() else []
    names = [name for name in names if name not in (UNFINISHED_RESTORE, "lost+found")]
    if names:
        shown = ", ".join(names[:_NAMES_SHOWN])
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        raise InvalidInput(f"{data} is not empty, it holds {shown}{more}: choose a new folder")


def restore_folder(
    store: Store, snapshot: ServerSnapshot, data: Path, work: Work, *, copies: bool = False
) -> None:
    """Make a data folder of a snapshot of a store, which the caller has locked.

    Raises:
        InvalidInput: the folder is not empty.
        Corruption: a file of the snapshot is damaged. Nothing stays in the folder.
        ResourceExhausted: the disk is full. Likewise.
    """
    check_empty(data)
    with translating(data):
        private.make_data_folder(data)
        folder = data / UNFINISHED_RESTORE
        shutil.rmtree(folder, ignore_errors=True)
        private.make_folder(folder)
        try:
            _make(store, snapshot, folder, work, copies=copies)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _move(folder, data)
        folder.rmdir()
        sync_directory(data)


def _make(
    store: Store, snapshot: ServerSnapshot, folder: Path, work: Work, *, copies: bool
) -> None:
    indexes = folder / "indexes"
    private.make_folder(indexes)
    catalog = Catalog(folder, create=True)
    try:
        for part in snapshot.indexes:
            entry = _entry(part, IndexAddress(part.account, part.name))
            private.make_folder(indexes / entry.folder)
            fill_index(store, snapshot, part, indexes / entry.folder, work, copies=copies)
            catalog.add(entry, None)
    finally:
        catalog.close()
    sync_directory(indexes)
    for database in snapshot.databases:
        target = folder / "d1" / database.account / f"{database.id}.sqlite"
        private.make_folders(target.parent)
        copy_verified(store.shared / D1 / database.file.name, target, database.file)
        sync_directory(target.parent)
    if (folder / "d1").exists():
        sync_directory(folder / "d1")
    if snapshot.tokens is not None:
        source = store.own(snapshot.id) / snapshot.tokens.name
        copy_verified(source, folder / TOKENS_FILE, snapshot.tokens)
        (folder / TOKENS_FILE).chmod(0o600)
    if snapshot.needs_tokens:
        private.make_file(folder / REQUIRED_FILE)
    sync_directory(folder)


def _move(folder: Path, data: Path) -> None:
    """Move all out of a folder, the catalog last."""
    names = sorted(path.name for path in folder.iterdir())
    last = [name for name in names if name.startswith("catalog.db")]
    for name in [*(name for name in names if name not in last), *reversed(last)]:
        (folder / name).rename(data / name)
        sync_directory(data)


def restore_indexes(
    store: Store,
    snapshot: ServerSnapshot,
    engine: EmbeddedEngine,
    restored: Sequence[RestoredIndex],
    work: Work,
    *,
    copies: bool = False,
) -> None:
    """Add indexes of a snapshot to an engine that serves.

    Raises:
        IndexExists: a name is taken; nothing was restored.
        LimitExceeded: the account would have too many; those before it are restored.
        Corruption: a file of the snapshot is damaged; likewise.
    """
    addresses = [(index.address.account, index.address.name) for index in restored]
    used = {(entry.account, entry.index.name) for entry in engine.entries()}
    for address in addresses:
        if address in used or addresses.count(address) > 1:
            raise AlreadyExists(f"the name {address[1]!r} is taken in account {address[0]!r}")
    for index in restored:
        part = index.part

        def fill(folder: Path, part: IndexPart = part) -> None:
            fill_index(store, snapshot, part, folder, work, copies=copies)

        engine.add_index(_entry(part, index.address), fill)


def fill_index(
    store: Store,
    snapshot: ServerSnapshot,
    part: IndexPart,
    folder: Path,
    work: Work,
    *,
    copies: bool,
) -> None:
    """Put all files of an index into its new folder, durably and verified.

    Raises:
        Corruption: a file is damaged or missing.
    """
    for name in FOLDERS:
        private.make_folder(folder / name)
    folders = {folder / name for name in FOLDERS}
    for file in part.files:
        source, target = store.shared / part.id / file.name, folder / file.path
        if target.parent not in folders:
            private.make_folder(target.parent)
            folders.add(target.parent)
        try:
            work.perform(
                PlaceFile(str(source), str(target), file.kind, file.size, file.checksum, copies)
            )
        except FileNotFoundError as error:
            raise Corruption(f"{source} is missing") from error
    copy_verified(store.own(snapshot.id) / part.log.name, folder / LOG_NAME, part.log)
    for path in sorted(folders, reverse=True):
        sync_directory(path)
    sync_directory(folder)


def copy_verified(source: Path, target: Path, file: OwnFile) -> None:
    """Copy a file that is described by its content.

    Raises:
        Corruption: it is damaged or missing.
    """
    try:
        copy(source, target)
    except FileNotFoundError as error:
        raise Corruption(f"{source} is missing") from error
    if described(target, file.name) != file:
        raise Corruption(f"{source} is damaged: its size or digest differs")


def _entry(part: IndexPart, address: IndexAddress) -> CatalogEntry:
    index = Index(str(uuid.uuid4()), address.name, part.description, part.config, part.created_at)
    return CatalogEntry(address.account, index)
