"""The embedded engine: a folder of indexes, open in this process alone.

    lock             held while the folder is open
    catalog.db       the indexes (`catalog.py`)
    reserve          removed to delete an index when the disk is full (`catalog.py`)
    indexes/<uuid>/  an index: index.db and acknowledged (`log.py`), blobs/ (`blob_files.py`) and
                     segments/ (`segment/`)

Indexes open on first use, and the least recently used one is closed when more than
``EngineOptions.open_indexes_max`` are open, so that thousands of small indexes need few file
handles. An index that cannot be opened raises the reason at every call; the others serve.

An address with an id reaches that index alone, never another that has taken its name: the slot of
an open index is found by the id and compares the rest, `Catalog.get` compares the id.
"""

import logging
import math
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from vicinal.engine.catalog import Catalog, CatalogEntry, Unreadable, check_restored
from vicinal.engine.contents import Contents, SnapshotContents
from vicinal.engine.cursors import Cursors
from vicinal.engine.index import OpenIndex
from vicinal.engine.log import Log
from vicinal.engine.options import EngineOptions
from vicinal.engine.pinned import PinnedIndex
from vicinal.engine.reads import Reads
from vicinal.engine.recovery import SEGMENTS
from vicinal.engine.resources import Resources
from vicinal.engine.watched import disk_usage
from vicinal.errors import (
    Corruption,
    Error,
    IndexExists,
    IndexNotFound,
    LimitExceeded,
    ResourceExhausted,
    Unavailable,
    untraced,
)
from vicinal.interruption import interruptible
from vicinal.model import (
    Accepted,
    BatchWriter,
    Index,
    IndexAddress,
    IndexConfig,
    Mutation,
    Page,
    Seqno,
    UnresolvedMutation,
)
from vicinal.storage import folder_lock, private
from vicinal.storage.file_locks import HeldLock
from vicinal.storage.files import sync_directory
from vicinal.storage.sqlite import translating
from vicinal.usage import EngineUsage

__all__ = ["EmbeddedEngine", "EngineOptions"]

logger = logging.getLogger(__name__)

AGAIN_S = 1.0  # ours: before an index is opened again that could not be for want of resources

_NONSENSE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Raised by fields that pass their checksum and are of wrong types or beyond any bound."""

T = TypeVar("T")


class Evicted(Unavailable):
    """The index was closed to make room, and opens again when it is asked for."""


class _Slot:
    """Where an index is opened once, however many threads ask for it.

    `opened` and `failure` are set under the lock. A failure stays, unless it passes by itself.
    """

    def __init__(self, entry: CatalogEntry) -> None:
        self.entry = entry
        self.address = entry.address
        self.lock = threading.Lock()
        self.opened: OpenIndex | None = None
        self.failure: Error | None = None
        self.again_at = math.inf  # monotonic seconds: when a failure is looked at again
        self.used_at = 0.0  # monotonic seconds

    def evict(self) -> bool:
        """Close the index until it is asked for again, if nothing is under way in it."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            opened = self.opened
            if opened is None or not opened.is_idle:
                return False
            self.opened = None
            _close(opened, Evicted(f"index {opened.index.name!r} is being opened again"))
            return True
        finally:
            self.lock.release()

    def close(self, reason: Error, *, is_kept: bool = True) -> None:
        """Answer with `reason` from now on; called under the lock."""
        if self.failure is None or self.again_at < math.inf:
            self.failure, self.again_at = reason, math.inf
        opened, self.opened = self.opened, None
        if opened is not None:
            _close(opened, reason, is_kept=is_kept)


class EmbeddedEngine(Reads[OpenIndex]):
    """See `engine.base.Engine` for what its methods promise."""

    is_shared = False

    def __init__(self, folder: Path, options: EngineOptions, lock: HeldLock) -> None:
        self._indexes = folder / "indexes"
        self._options = options
        self._lock = lock
        # A folder with indexes has a catalog; making a new one would lose them all.
        has_indexes = any(path.is_dir() for path in self._indexes.iterdir())
        self._catalog = Catalog(folder, create=not has_indexes)
        self._remove_orphans()
        self._resources = Resources.start(options.queue_bytes_max)
        self._cursors = Cursors(options.cursor_lifetime_s)  # outlive the closing of an index
        self._slots: dict[str, _Slot] = {}
        self._slots_lock = threading.Lock()
        self._is_closed = False
        self._closing = threading.Event()
        self._housekeeper = threading.Thread(
            target=self._keep_house, name="vicinal-housekeeper", daemon=True
        )
        self._housekeeper.start()

    @classmethod
    def open(cls, folder: Path, options: EngineOptions | None = None) -> Self:
        """Open a data folder, making it when it is not there.

        Raises:
            Unavailable: another process has it open, or it cannot be used.
            Corruption: the catalog is damaged, or missing while there are indexes; or a snapshot
                was not restored to the end.
        """
        with translating(folder):
            check_restored(folder)
            _make_folder(folder, private.make_data_folder)
            _make_folder(folder / "indexes", private.make_folder)
            lock = folder_lock.acquire(folder)
            try:
                _close_to_others(folder)
                return cls(folder, options or EngineOptions(), lock)
            except BaseException:
                lock.close()
                raise

    def create_index(
        self, address: IndexAddress, config: IndexConfig, description: str | None
    ) -> Index:
        """See `engine.base.Engine`."""
        count_max = self._options.limits.indexes_per_account_max
        self._catalog.check_new(address, count_max)
        now = datetime.now(UTC)
        index = Index(str(uuid.uuid4()), address.name, description, config, now)
        folder = self._indexes / index.id
        try:
            with translating(folder):
                self._make_index_folder(folder)
            self._catalog.add(CatalogEntry(address.account, index), count_max)
        except (IndexExists, LimitExceeded, ResourceExhausted):
            # Somebody was faster, or the disk is full. After any other error the catalog may
            # name the folder.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return index

    def delete_index(self, address: IndexAddress) -> None:
        """See `engine.base.Engine`."""
        try:
            entry = self._catalog.get(address)
        except Corruption:
            # Its row cannot be read. If its folder is unknown, the folder stays.
            folder = self._catalog.remove(address)
        else:
            folder = self._remove(entry)
        if folder is not None:
            # The next start removes the rest.
            shutil.rmtree(self._indexes / folder, ignore_errors=True)
            with self._slots_lock:
                self._slots.pop(folder, None)
        self._catalog.make_reserve()
        for slot in list(self._slots.values()):
            if (opened := slot.opened) is not None:
                opened.seal_again()  # there may be room now

    def _remove(self, entry: CatalogEntry) -> str | None:
        slot = self._slot(entry)
        with slot.lock:
            try:
                folder = self._catalog.remove(entry.address)
            except (IndexNotFound, ResourceExhausted):
                raise
            except Error as error:
                # The index may be gone at the next start, so nothing more may be acknowledged.
                slot.close(error)
                raise
            slot.close(IndexNotFound(entry.index.name), is_kept=False)
            self._cursors.remove(entry.folder)
            return folder

    def answers_at_once(self, address: IndexAddress) -> bool:
        """See `engine.base.Engine`."""
        return True

    def get_index(self, address: IndexAddress) -> Index:
        """See `engine.base.Engine`."""
        return self._catalog.get(address).index

    def list_indexes(self, account: str) -> Sequence[Index]:
        """See `engine.base.Engine`."""
        return [entry.index for entry in self._catalog.of_account(account)]

    def open_batch(self, address: IndexAddress) -> BatchWriter:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.writer.open_batch())

    def append(
        self,
        address: IndexAddress,
        mutation: Mutation | UnresolvedMutation,
        *,
        wait_s: float = 0.0,
    ) -> Future[Accepted]:
        """See `engine.base.Engine`."""
        until = time.monotonic() + wait_s
        return self._on(address, lambda opened: opened.writer.append(mutation, wait_until=until))

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.applier.wait(seqno, timeout_s))

    def entries(self) -> Sequence[CatalogEntry]:
        """Return all indexes that can be read, over all accounts, oldest first."""
        return self._catalog.all()

    def unreadable(self) -> Sequence[Unreadable]:
        """Return the rows of the catalog that cannot be read."""
        return self._catalog.unreadable()

    def pin(self, address: IndexAddress) -> PinnedIndex:
        """Return an index as it is now, to be copied; its files stay until that is released.

        Raises:
            IndexNotFound, Unavailable, Corruption: as all methods that take an address.
        """
        return self._on(address, lambda opened: opened.pin(address.account))

    def add_index(self, entry: CatalogEntry, fill: Callable[[Path], None]) -> None:
        """Add an index whose files there are elsewhere; it is served from then on.

        Args:
            entry: Its account and description; its id is new, and names the folder.
            fill: Called with the folder, to put all files there durably.

        Raises:
            IndexExists: the account has an index of this name.
            LimitExceeded: the account holds as many indexes as it may.
        """
        count_max = self._options.limits.indexes_per_account_max
        self._catalog.check_new(entry.address, count_max)
        folder = self._indexes / entry.folder
        try:
            with translating(folder):
                private.make_folder(folder)
                fill(folder)
                sync_directory(folder)
                sync_directory(folder.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            self._catalog.add(entry, count_max)
        except (IndexExists, LimitExceeded, ResourceExhausted):
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def usage(self) -> EngineUsage:
        """See `engine.base.Engine`."""
        entries = self._catalog.all()
        opened, unopened = [], [row.address for row in self._catalog.unreadable()]
        for entry in entries:
            slot = self._slots.get(entry.folder)
            if slot is None:
                continue
            address, index = IndexAddress(entry.account, entry.index.name), slot.opened
            if index is not None:
                opened.append(index.usage(address))
            elif slot.failure is not None:
                unopened.append(address)
        return EngineUsage(
            len(entries),
            opened,
            unopened=unopened,
            work=self._resources.times.usage(self._resources.queue),
            disk=disk_usage(self._indexes),
        )

    def list(self, address: IndexAddress, count: int, cursor: str | None) -> Page:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.reader.list(count, cursor))

    def addresses(self) -> Sequence[IndexAddress]:
        """See `engine.contents.HasContents`."""
        unreadable = [row.address for row in self._catalog.unreadable()]
        return [entry.address for entry in self._catalog.all()] + unreadable

    @contextmanager
    def contents(self, address: IndexAddress, cursor: str | None = None) -> Iterator[Contents]:
        """See `engine.contents.HasContents`."""
        string_bytes_max = self._options.limits.indexed_string_bytes_max
        opened = self._on(address, lambda opened: (opened.reader.current(), opened.index.config))
        snapshot, config = opened
        yield SnapshotContents(snapshot, config.dimensions, string_bytes_max, cursor)

    def close(self) -> None:
        """See `engine.base.Engine`. Closing again does nothing."""
        with self._slots_lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._closing.set()
        self._housekeeper.join()
        slots = list(self._slots.values())
        for slot in slots:  # all at once, as the last one would go on while others are closed
            if (opened := slot.opened) is not None:
                opened.interrupt()
        for slot in slots:
            with slot.lock:
                slot.close(Unavailable("the engine is closed"))
        self._resources.stop()
        self._catalog.close()
        self._lock.close()

    def _slot(self, entry: CatalogEntry) -> _Slot:
        with self._slots_lock:
            self._check_open()
            return self._slots.setdefault(entry.folder, _Slot(entry))

    def _on(self, address: IndexAddress, work: Callable[[OpenIndex], T]) -> T:
        """Do something with an open index; it is opened again if it was just retired."""
        while True:
            try:
                return work(self._open(address))
            except Evicted:
                continue

    def _open(self, address: IndexAddress) -> OpenIndex:
        slot = None if address.id is None else self._slots.get(address.id)
        if slot is None or slot.address != address:
            entry = self._catalog.get(address)
            slot = self._slots.get(entry.folder) or self._slot(entry)
        slot.used_at = time.monotonic()
        return slot.opened or self._open_slot(slot)

    def _open_slot(self, slot: _Slot) -> OpenIndex:
        entry = slot.entry
        self._evict_unused()
        with slot.lock:
            if slot.opened is None and time.monotonic() >= slot.again_at:
                slot.failure, slot.again_at = None, math.inf
            if slot.failure is None and slot.opened is None:
                if self._catalog.get(slot.address) != entry:
                    raise IndexNotFound(entry.index.name)  # dropped meanwhile
                folder = self._indexes / entry.folder
                try:
                    with translating(folder), interruptible(self._check_open):
                        slot.opened = OpenIndex(
                            folder, entry.index, self._options, self._resources, self._cursors
                        )
                except Error as error:
                    slot.failure = untraced(error)
                    if isinstance(error, ResourceExhausted):
                        slot.again_at = time.monotonic() + AGAIN_S
                except _NONSENSE as error:
                    logger.error("index %r cannot be opened", entry.index.name, exc_info=error)
                    slot.failure = Corruption(
                        f"{folder} holds what no index can: {type(error).__name__}: {error}"
                    )
            if slot.opened is None:
                assert slot.failure is not None
                raise untraced(slot.failure)
            return slot.opened

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("the engine is closed")

    def _evict_unused(self) -> None:
        """Close the least recently used indexes, so that one more may open."""
        with self._slots_lock:
            opened = [slot for slot in self._slots.values() if slot.opened is not None]
        excess = len(opened) + 1 - self._options.open_indexes_max
        for slot in sorted(opened, key=lambda slot: slot.used_at):
            if excess <= 0:
                return
            excess -= slot.evict()

    def _keep_house(self) -> None:
        """Compact idle indexes at intervals, until the engine is closed."""
        while not self._closing.wait(self._options.idle_s / 2):
            for folder in list(self._slots):
                self._compact_idle_index(folder)

    def _compact_idle_index(self, folder: str) -> None:
        # A function of its own, as a variable would keep an index open between two rounds.
        slot = self._slots.get(folder)
        opened = slot.opened if slot is not None else None
        if opened is not None:
            opened.compact_idle()

    @staticmethod
    def _make_index_folder(folder: Path) -> None:
        private.make_folder(folder)
        private.make_folder(folder / SEGMENTS)
        Log.create(folder)
        sync_directory(folder)
        sync_directory(folder.parent)

    def _remove_orphans(self) -> None:
        """Remove folders of indexes that a crash left without an entry in the catalog."""
        if self._catalog.unreadable():
            return  # a folder may belong to a row that cannot be read
        named = {entry.folder for entry in self._catalog.all()}
        for path in self._indexes.iterdir():
            if path.is_dir() and path.name not in named:
                shutil.rmtree(path, ignore_errors=True)


def _close(opened: OpenIndex, reason: Error, *, is_kept: bool = True) -> None:
    try:
        opened.close(reason, is_kept=is_kept)
    except (sqlite3.Error, OSError):
        logger.exception("index %r was not closed cleanly", opened.index.name)


def _make_folder(folder: Path, make: Callable[[Path], None]) -> None:
    """Make a folder, and those above it, durably."""
    if folder.is_dir():
        return
    _make_folder(folder.parent, Path.mkdir)
    with suppress(FileExistsError):
        make(folder)
    sync_directory(folder.parent)


def _close_to_others(folder: Path) -> None:
    try:
        is_private = private.close_to_others(folder)
    except PermissionError as error:
        logger.warning("%s is another user's, and can be read by others: %s", folder, error)
        return
    if not is_private:
        logger.warning("%s holds other files, too, so others can still see into it", folder)
