"""The copies of one node: of each index that it was asked for, one in a local folder.

    copies/<id>/    filled from one snapshot of the rows, then following the log (`follower`)

A copy is opened, and filled if it has to be, by threads of their own; whoever asks waits for a
moment and is then told to come again. What is wrong with a copy is never repaired: it is thrown
away, and another one filled. When copies take more disk than they may, those unused longest go.
"""

import asyncio
import logging
import math
import os
import shutil
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import numpy as np

from vicinal.engine import copying
from vicinal.engine.copying import CopiedIndex, CopyPlace
from vicinal.engine.cursors import Cursors
from vicinal.engine.options import EngineOptions
from vicinal.engine.records import VALUES_DTYPE
from vicinal.engine.resources import Resources
from vicinal.engine.shared.catalog import CatalogEntry
from vicinal.engine.shared.database import Database, Timeouts, Use
from vicinal.errors import Corruption, Error, IndexNotFound, Unavailable
from vicinal.model import (
    BEFORE_ANY,
    CreateMetadataIndex,
    IndexType,
    MetadataIndex,
    Mutation,
    Seqno,
    Upsert,
    VectorBatch,
)
from vicinal.storage import private

logger = logging.getLogger(__name__)

FOLDER = "copies"
OPEN_WAIT_S = 1.0  # how long a caller waits for a copy to open; ours
CAUGHT_UP_S = 60.0  # how long opening waits for what was logged before it; ours
FILL_THREADS = 2  # `Use.FILL` has as many connections
BATCH_BYTES = 8 << 20  # of values read from the rows at a time; ours
BATCH_ROWS = 5_000
QUEUED_BATCHES = 2
FILL_TIMEOUTS = Timeouts(statement_s=60.0, idle_s=600.0)  # segments are written in between
PAUSE_S = 0.2  # before a copy that failed at once is filled again; doubles up to PAUSE_MAX_S
PAUSE_MAX_S = 30.0


@dataclass(slots=True, eq=False)
class _Slot:
    """The copy of one index, from the first call that asks for it."""

    entry: CatalogEntry
    opening: Future[CopiedIndex] = field(default_factory=Future)
    copy: CopiedIndex | None = None
    is_ready: bool = False
    """Whether the copy has what was logged before it opened, so that callers may have it."""
    used_at: float = 0.0  # monotonic seconds
    failures: int = 0
    """Times that it was thrown away since a mutation was replayed last."""


@dataclass(slots=True)
class Counts:
    """What has happened to copies since the start."""

    fills: int = 0
    refills: dict[str, int] = field(default_factory=dict)
    """Copies thrown away, by cause."""
    evictions: int = 0


class Copies:
    """Opens, fills, throws away and closes copies. Thread-safe.

    Args:
        database: Where the rows are.
        folder: Of the node; copies are in ``copies`` in it.
        options: What an open index may take.
        resources: Threads of all copies.
        bytes_max: How much disk copies may take, None for no bound.
        on_opened: Called with each copy that opens, to have it followed.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        options: EngineOptions,
        resources: Resources,
        bytes_max: int | None,
        on_opened: Callable[[], None],
    ) -> None:
        self._database = database
        self._folder = folder / FOLDER
        self._options = options
        self._resources = resources
        self._bytes_max = bytes_max
        self._on_opened = on_opened
        self._lock = threading.Lock()
        self._slots: dict[UUID, _Slot] = {}
        self._is_closed = False
        self._cursors = Cursors(options.cursor_lifetime_s)  # of none: listings are of the rows
        self._fillers = ThreadPoolExecutor(FILL_THREADS, "vicinal-fill")
        self.counts = Counts()
        private.make_folders(self._folder)
        for path in list(self._folder.iterdir()):
            if not copying.is_filled(path):
                _remove(path)

    def opened(self, entry: CatalogEntry, wait_s: float = OPEN_WAIT_S) -> CopiedIndex:
        """Return the copy of an index, opening it when it is not.

        Raises:
            IndexNotFound: the index is gone.
            Unavailable: it is still being opened or filled after `wait_s`, or cannot be.
        """
        slot = self._slots.get(entry.key) or self._start(entry)
        slot.used_at = time.monotonic()
        copy = slot.copy
        if copy is not None and slot.is_ready:
            return copy
        try:
            return slot.opening.result(min(wait_s, threading.TIMEOUT_MAX))
        except FutureTimeoutError:
            raise Unavailable(
                f"index {entry.index.name!r} is being copied to this node", retry_after=1.0
            ) from None

    def is_ready(self, index_id: UUID) -> bool:
        """Tell whether `opened` returns without waiting."""
        slot = self._slots.get(index_id)
        return slot is not None and slot.copy is not None and slot.is_ready

    def open_copies(self) -> Sequence[tuple[UUID, CopiedIndex]]:
        """Return the copies that are open."""
        return [(key, slot.copy) for key, slot in list(self._slots.items()) if slot.copy]

    def local_ids(self) -> Sequence[UUID]:
        """Return of which indexes there are folders."""
        found = []
        for path in self._folder.iterdir():
            with suppress(ValueError):
                found.append(UUID(path.name))
        return found

    def remove(self, index_id: UUID, name: str) -> None:
        """Close and remove the copy of an index that is gone."""
        with self._lock:
            slot = self._slots.pop(index_id, None)
            if self._is_closed:
                return
        self._fillers.submit(self._discard, index_id, slot, IndexNotFound(name))

    def refill(self, index_id: UUID, copy: CopiedIndex, cause: str) -> None:
        """Throw a copy away and fill another, unless that is done already.

        Args:
            index_id: Of the index.
            copy: What is wrong.
            cause: A word for the metrics.
        """
        with self._lock:
            slot = self._slots.get(index_id)
            if slot is None or slot.copy is not copy or self._is_closed:
                return
            slot.copy, slot.is_ready = None, False
            if slot.opening.done():
                slot.opening = Future()
            slot.failures += 1
            self.counts.refills[cause] = self.counts.refills.get(cause, 0) + 1
        name = slot.entry.index.name
        logger.warning("the copy of index %r is filled again: %s", name, cause)
        self._fillers.submit(self._refill, slot, copy, name)

    def note_progress(self, index_id: UUID) -> None:
        """Say that a copy has replayed something."""
        slot = self._slots.get(index_id)
        if slot is not None:
            slot.failures = 0

    def keep_house(self) -> None:
        """Seal what is idle; close and remove what is unused longest while there is too much."""
        for _, copy in self.open_copies():
            copy.compact_idle()
        self._close_unused()
        self._evict()

    def close(self) -> None:
        """Close all copies; their files stay."""
        with self._lock:
            self._is_closed = True
            slots = list(self._slots.values())
            self._slots.clear()
        reason = Unavailable("the engine is closed")
        for slot in slots:
            if slot.copy is not None:
                slot.copy.close(reason)
            elif not slot.opening.done():
                _settle(slot.opening, reason)
        self._fillers.shutdown(cancel_futures=True)
        for slot in slots:
            if slot.copy is not None:
                slot.copy.close(reason)  # it opened meanwhile

    def _start(self, entry: CatalogEntry) -> _Slot:
        with self._lock:
            if self._is_closed:
                raise Unavailable("the engine is closed")
            slot = self._slots.get(entry.key)
            if slot is None:
                slot = self._slots[entry.key] = _Slot(entry, used_at=time.monotonic())
                self._fillers.submit(self._open, slot)
            return slot

    def _path(self, index_id: UUID) -> Path:
        return self._folder / str(index_id)

    # In the fillers' threads.

    def _open(self, slot: _Slot) -> None:
        """Open a copy, filling it when it has to be; what is in the way is said by its future."""
        opening = slot.opening
        try:
            copy = self._opened_files(slot)
        except Exception as error:
            if not isinstance(error, Error):
                logger.exception("index %r cannot be copied", slot.entry.index.name)
                error = Unavailable(
                    f"index {slot.entry.index.name!r} cannot be copied to this node: {error}",
                    retry_after=1.0,
                )
            with self._lock:
                if self._slots.get(slot.entry.key) is slot:
                    del self._slots[slot.entry.key]  # the next call tries again
            _settle(opening, error)
            return
        with self._lock:
            is_wanted = self._slots.get(slot.entry.key) is slot and not self._is_closed
            if is_wanted:
                slot.copy = copy
        if not is_wanted:
            copy.close(Unavailable("the copy was closed while it was opened", retry_after=1.0))
            _settle(opening, IndexNotFound(slot.entry.index.name))
            return
        self._on_opened()
        try:
            copy.wait_applied(self._logged_seqno(slot.entry.key), CAUGHT_UP_S)
        except Error as error:  # it was thrown away, or closed
            with self._lock:
                if slot.opening is opening and self._slots.get(slot.entry.key) is slot:
                    return  # another fill answers who waits
            _settle(opening, error)
            return
        with self._lock:
            slot.is_ready = slot.copy is copy
        if not opening.done():
            opening.set_result(copy)

    def _logged_seqno(self, index_id: UUID) -> Seqno:
        """Return what an index has logged by now; 0 where the database does not say."""
        try:
            return self._database.run(self._fetch_logged_seqno(index_id))
        except Unavailable:
            return BEFORE_ANY  # what is there is served meanwhile

    async def _fetch_logged_seqno(self, index_id: UUID) -> Seqno:
        async with self._database.session(Use.READ) as session:
            row = await session.fetchrow(
                "SELECT logged_seqno FROM vicinal.head WHERE index_id = $1", index_id
            )
        return BEFORE_ANY if row is None else Seqno(row[0])

    def _opened_files(self, slot: _Slot) -> CopiedIndex:
        key, path = slot.entry.key, self._path(slot.entry.key)
        if copying.is_filled(path):
            try:
                return CopiedIndex(
                    path, slot.entry.index, self._options, self._resources, self._cursors
                )
            except Corruption as error:
                logger.warning("the copy of index %r is filled again: %s", key, error)
                self.counts.refills["damage"] = self.counts.refills.get("damage", 0) + 1
        self._fill(slot.entry, path)
        return CopiedIndex(path, slot.entry.index, self._options, self._resources, self._cursors)

    def _fill(self, entry: CatalogEntry, path: Path) -> None:
        started = time.monotonic()
        with _Snapshot(self._database, entry) as snapshot:
            copying.fill(path, entry.index, self._options, snapshot.place, snapshot.mutations())
        self.counts.fills += 1
        logger.info(
            "index %r was copied in %.2f s: %d vectors", entry.index.name,
            time.monotonic() - started, snapshot.count,
        )  # fmt: skip

    def _refill(self, slot: _Slot, copy: CopiedIndex, name: str) -> None:
        copy.close(Unavailable(f"index {name!r} is being copied to this node", retry_after=1.0))
        _remove(copy.folder)
        if slot.failures > 1:
            time.sleep(min(PAUSE_S * 2 ** (slot.failures - 2), PAUSE_MAX_S))
        self._open(slot)

    def _discard(self, index_id: UUID, slot: _Slot | None, reason: Error) -> None:
        if slot is not None and slot.copy is not None:
            slot.copy.close(reason)
        _remove(self._path(index_id))

    def _close_unused(self) -> None:
        """Close the copies unused longest while too many are open; their files stay."""
        with self._lock:
            slots = sorted(
                ((key, slot) for key, slot in self._slots.items() if slot.copy),
                key=lambda each: each[1].used_at,
            )
            excess = max(len(slots) - self._options.open_indexes_max, 0)
            closed = slots[:excess]
            for key, _ in closed:
                del self._slots[key]
        for _, slot in closed:
            assert slot.copy is not None
            slot.copy.close(Retired("the copy was closed, as it was not used"))

    def _evict(self) -> None:
        """Remove copies while all take too much disk, but never the one used last."""
        if self._bytes_max is None:
            return
        sizes = {index_id: _size(self._path(index_id)) for index_id in self.local_ids()}
        total = sum(sizes.values())
        with self._lock:
            used_at = {key: slot.used_at for key, slot in self._slots.items()}
        oldest = sorted(sizes, key=lambda each: used_at.get(each, -math.inf))
        for index_id in oldest[:-1]:
            if total <= self._bytes_max:
                return
            total -= sizes[index_id]
            self.counts.evictions += 1
            logger.info("the copy of index %s is removed: it was unused longest", index_id)
            with self._lock:
                slot = self._slots.pop(index_id, None)
            self._discard(
                index_id, slot, Retired("the copy was removed, as others needed its room")
            )


class Retired(Unavailable):
    """The copy was closed to make room, and opens again when it is asked for."""


class _Snapshot:
    """The rows of an index as of one moment, read by a task in the database's thread.

    Attributes:
        place: Which moment.
        count: Vectors read.
    """

    place: CopyPlace

    def __init__(self, database: Database, entry: CatalogEntry) -> None:
        self._database = database
        self._entry = entry
        self._queue: asyncio.Queue[Any] = asyncio.Queue(QUEUED_BATCHES)
        self.count = 0

    def __enter__(self) -> Self:
        self._reading = self._database.submit(self._read())
        self.place, self._metadata_indexes = self._next()
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.cancel()

    def mutations(self) -> Iterator[Mutation]:
        """Yield what makes the index: its vectors by seqno, and metadata indexes between them.

        So a metadata index has the vectors that it had: those written since, or all by backfill.
        """
        waiting = list(self._metadata_indexes)
        while (rows := self._next()) is not None:
            seqnos = [row["seqno"] for row in rows]
            first = 0
            while waiting and waiting[0][0] <= seqnos[-1]:
                end = bisect_left(seqnos, waiting[0][0])
                if end > first:
                    yield self._upsert(rows[first:end])
                yield waiting.pop(0)[1]
                first = end
            yield self._upsert(rows[first:])
        for _, mutation in waiting:
            yield mutation

    def _next(self) -> Any:
        """Return what the task has read next."""
        item = self._database.run(self._queue.get())
        if isinstance(item, Exception):
            raise item
        return item

    def _upsert(self, rows: Sequence[Any]) -> Upsert:
        self.count += len(rows)
        values = np.frombuffer(b"".join([row["floats"] for row in rows]), VALUES_DTYPE)
        return Upsert(
            VectorBatch(
                [row["id"].decode() for row in rows],
                values.reshape(len(rows), self._entry.index.config.dimensions),
                [row["namespace"].decode() for row in rows],
                [row["metadata"] for row in rows],
            )
        )

    async def _read(self) -> None:
        try:
            await self._read_all()
        except Exception as error:  # told to the thread that fills
            await self._queue.put(error)

    async def _read_all(self) -> None:
        key = self._entry.key
        row_bytes = 4 * self._entry.index.config.dimensions
        count = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
        async with self._database.transaction(
            Use.FILL, mode="ISOLATION LEVEL REPEATABLE READ READ ONLY", timeouts=FILL_TIMEOUTS
        ) as session:
            folded = await session.fetchrow(
                "SELECT seqno, mutation_id FROM vicinal.folded WHERE index_id = $1"
                " AND EXISTS (SELECT 1 FROM vicinal.head WHERE index_id = $1)",
                key,
            )
            if folded is None:
                raise IndexNotFound(self._entry.index.name)
            seqno, mutation_id = folded
            rows = await session.fetch(
                "SELECT created_seqno, property_name, type, is_backfilled"
                " FROM vicinal.metadata_index WHERE index_id = $1 AND created_seqno <= $2"
                " AND (dropped_seqno IS NULL OR dropped_seqno > $2) ORDER BY created_seqno",
                key,
                seqno,
            )
            place = CopyPlace(Seqno(seqno), None if mutation_id is None else str(mutation_id))
            await self._queue.put((place, [_metadata_index(row) for row in rows]))
            fetch = await session.cursor(
                "SELECT id, namespace, seqno, floats, metadata FROM vicinal.vector"
                " WHERE index_id = $1 ORDER BY seqno",
                key,
            )
            while rows := await fetch(count):
                await self._queue.put(rows)
        await self._queue.put(None)


def _metadata_index(row: Any) -> tuple[int, CreateMetadataIndex]:
    metadata_index = MetadataIndex(row["property_name"].decode(), IndexType(row["type"]))
    return row["created_seqno"], CreateMetadataIndex(metadata_index, row["is_backfilled"])


def _settle(opening: Future[CopiedIndex], error: Error) -> None:
    if not opening.done():
        opening.set_exception(error)


def _remove(path: Path) -> None:
    # First what says that it is whole: removing may be cut short.
    with suppress(OSError):
        (path / copying.FILLED).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _size(folder: Path) -> int:
    """Return how many bytes the files in a folder take."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total
