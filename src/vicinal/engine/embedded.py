"""The embedded engine: a folder of indexes, open in this process alone.

    lock             held while the folder is open
    catalog.db       which indexes there are (`catalog.py`)
    indexes/<uuid>/  index.db and segments/ of each (`log.py`, `segment/`)

Indexes open on first use. One that cannot be opened says why whenever it is asked for;
the others serve.
"""

import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from vicinal.engine.catalog import Catalog, CatalogEntry
from vicinal.engine.index import OpenIndex
from vicinal.engine.log import Log
from vicinal.engine.options import EngineOptions
from vicinal.engine.recovery import SEGMENTS
from vicinal.engine.resources import Resources
from vicinal.errors import Error, LimitExceeded, Unavailable
from vicinal.model import (
    Accepted,
    Index,
    IndexAddress,
    IndexConfig,
    MetadataIndex,
    Mutation,
    Page,
    Query,
    QueryResult,
    Seqno,
    Status,
    Vector,
)
from vicinal.storage.files import sync_directory

__all__ = ["EmbeddedEngine", "EngineOptions"]


class _Slot:
    """Where an index is opened once, however many threads ask for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.opened: OpenIndex | None = None
        self.failure: Error | None = None


class EmbeddedEngine:
    """See `engine.base.Engine` for what its methods promise."""

    def __init__(self, folder: Path, options: EngineOptions, lock: int) -> None:
        self._indexes = folder / "indexes"
        self._options = options
        self._lock = lock
        self._catalog = Catalog(folder)
        self._resources = Resources.start(options.queue_bytes_max)
        self._slots: dict[str, _Slot] = {}
        self._slots_lock = threading.Lock()
        self._is_closed = False

    @classmethod
    def open(cls, folder: Path, options: EngineOptions | None = None) -> Self:
        """Open a data folder, making it when it is not there.

        Raises:
            Unavailable: another process has it open.
            Corruption: the catalog is damaged.
        """
        (folder / "indexes").mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        try:
            engine = cls(folder, options or EngineOptions(), lock)
        except BaseException:
            os.close(lock)
            raise
        engine._sweep()
        return engine

    def create_index(
        self, address: IndexAddress, config: IndexConfig, description: str | None
    ) -> Index:
        """See `engine.base.Engine`."""
        count = len(self._catalog.of_account(address.account))
        count_max = self._options.limits.indexes_per_account_max
        if count_max is not None and count >= count_max:
            raise LimitExceeded(
                f"account {address.account!r} has {count} indexes, the maximum is {count_max}"
            )
        index = Index(address.name, description, config, datetime.now(UTC))
        folder = self._indexes / str(uuid.uuid4())
        (folder / SEGMENTS).mkdir(parents=True)
        Log.create(folder)
        sync_directory(folder)
        sync_directory(self._indexes)
        try:
            self._catalog.add(CatalogEntry(address, folder.name, index))
        except BaseException:
            shutil.rmtree(folder)
            raise
        return index

    def drop_index(self, address: IndexAddress) -> None:
        """See `engine.base.Engine`."""
        entry = self._catalog.remove(address)
        with self._slots_lock:
            slot = self._slots.pop(entry.folder, None)
        if slot is not None:
            with slot.lock:
                if slot.opened is not None:
                    slot.opened.close()
        shutil.rmtree(self._indexes / entry.folder)

    def get_index(self, address: IndexAddress) -> Index:
        """See `engine.base.Engine`."""
        return self._catalog.get(address).index

    def list_indexes(self, account: str) -> Sequence[Index]:
        """See `engine.base.Engine`."""
        return [each.index for each in self._catalog.of_account(account)]

    def list_metadata_indexes(self, address: IndexAddress) -> Sequence[MetadataIndex]:
        """See `engine.base.Engine`."""
        return self._open(address).readable().metadata_indexes

    def append(self, address: IndexAddress, mutation: Mutation) -> Future[Accepted]:
        """See `engine.base.Engine`."""
        return self._open(address).append(mutation)

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        """See `engine.base.Engine`."""
        return self._open(address).wait_applied(seqno, timeout_s)

    def status(self, address: IndexAddress) -> Status:
        """See `engine.base.Engine`."""
        opened = self._open(address)
        snapshot = opened.readable()
        return Status(
            opened.index.config.dimensions,
            snapshot.vector_count,
            snapshot.applied_seqno,
            snapshot.applied_mutation,
            snapshot.applied_at,
        )

    def query(self, address: IndexAddress, query: Query) -> QueryResult:
        """See `engine.base.Engine`."""
        return self._open(address).query(query)

    def get(self, address: IndexAddress, ids: Sequence[str]) -> Sequence[Vector]:
        """See `engine.base.Engine`."""
        return self._open(address).get(ids)

    def list(self, address: IndexAddress, count: int, cursor: str | None) -> Page:
        """See `engine.base.Engine`."""
        return self._open(address).list(count, cursor)

    def maintain(self, address: IndexAddress) -> None:
        """See `engine.base.Engine`."""
        self._open(address).maintain()

    def close(self) -> None:
        """See `engine.base.Engine`. Closing again does nothing."""
        with self._slots_lock:
            if self._is_closed:
                return
            self._is_closed = True
            slots, self._slots = list(self._slots.values()), {}
        for slot in slots:
            with slot.lock:
                if slot.opened is not None:
                    slot.opened.close()
        self._resources.stop()
        self._catalog.close()
        os.close(self._lock)

    def _open(self, address: IndexAddress) -> OpenIndex:
        entry = self._catalog.get(address)
        slot = self._slots.get(entry.folder)
        if slot is None:
            with self._slots_lock:
                if self._is_closed:
                    raise Unavailable("the engine is closed")
                slot = self._slots.setdefault(entry.folder, _Slot())
        if slot.opened is not None:
            return slot.opened
        with slot.lock:
            if slot.failure is not None:
                raise slot.failure
            if slot.opened is None:
                try:
                    slot.opened = OpenIndex(
                        self._indexes / entry.folder, entry.index, self._options, self._resources
                    )
                except Error as error:
                    slot.failure = error
                    raise
            return slot.opened

    def _sweep(self) -> None:
        """Remove folders of indexes that a crash left without an entry in the catalog."""
        named = {each.folder for each in self._catalog.all()}
        for path in self._indexes.iterdir():
            if path.name not in named:
                shutil.rmtree(path)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Unavailable(f"{folder} is in use by another process") from error
    return descriptor
