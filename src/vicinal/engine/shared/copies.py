"""The copies of one node: of each index that it was asked for, one in a local folder.

    copies/<id>/    filled from one snapshot of the rows, then following the log (`follower`)

A copy is opened, and filled if it has to be, by threads of their own; a caller waits for a moment
and is then told to come again. A faulty copy is never repaired: it is thrown away, and another
one filled. When copies take more disk than they may, those unused longest go.

Locks, in the order they may be taken:

    of a folder   held to open, fill, close or remove the copy in it, so that none of these meets
                  another; never by a caller
    Copies._lock  which copies there are; held for a moment
"""

import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID
from weakref import WeakValueDictionary

from vicinal.engine import copying
from vicinal.engine.copying import CopiedIndex
from vicinal.engine.cursors import Cursors
from vicinal.engine.options import EngineOptions
from vicinal.engine.resources import Resources
from vicinal.engine.shared.catalog import SharedCatalogEntry
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.filling import FillRows
from vicinal.errors import Corruption, Error, IndexNotFound, Unavailable
from vicinal.interruption import interruptible
from vicinal.model import BEFORE_ANY, Seqno
from vicinal.storage import private
from vicinal.storage.sqlite import translating

logger = logging.getLogger(__name__)

FOLDER = "copies"
CAUGHT_UP_S = 60.0  # a copy that has not caught up by then is had as it is; ours
FILL_THREADS = 2  # `Use.FILL` has as many connections
PAUSE_S = 0.2  # before a copy that failed at once is filled again; doubles up to PAUSE_MAX_S
PAUSE_MAX_S = 30.0


@dataclass(slots=True, eq=False)
class _CopySlot:
    """The copy of one index, from the first call that asks for it."""

    entry: SharedCatalogEntry
    opening: Future[CopiedIndex] = field(default_factory=Future)
    copy: CopiedIndex | None = None
    is_ready: bool = False
    """Whether the copy has what was logged before it opened, so that callers may have it."""
    target: Seqno = BEFORE_ANY  # what was logged before it opened
    open_since: float = 0.0  # monotonic seconds
    used_at: float = 0.0  # monotonic seconds
    failures: int = 0
    """Times that it was thrown away since a mutation was replayed last."""


@dataclass(slots=True)
class Counts:
    """Events of copies since the start."""

    fills: int = 0
    fill_s: float = 0.0  # of all fills
    refills: dict[str, int] = field(default_factory=dict)
    """Copies thrown away, by cause."""
    evictions: int = 0


class Copies:
    """Opens, fills, throws away and closes copies. Thread-safe.

    Args:
        database: Where the rows are.
        folder: Of the node; copies are in ``copies`` in it.
        options: Of an open index.
        resources: Threads of all copies.
        bytes_max: How much disk copies may take, None for no bound.
        announce: Called with the index of each copy that is about to open, and how far it is.
        on_opened: Called when a copy has opened, to have it followed.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        folder: Path,
        options: EngineOptions,
        resources: Resources,
        bytes_max: int | None,
        announce: Callable[[UUID, Seqno], None],
        on_opened: Callable[[], None],
    ) -> None:
        self._announce = announce
        self._database = database
        self._folder = folder / FOLDER
        self._options = options
        self._resources = resources
        self._bytes_max = bytes_max
        self._on_opened = on_opened
        self._lock = threading.Lock()
        self._slots: dict[UUID, _CopySlot] = {}
        self._folder_locks: WeakValueDictionary[UUID, threading.Lock] = WeakValueDictionary()
        self._is_closed = False
        self._cursors = Cursors(options.cursor_lifetime_s)  # of none: listings are of the rows
        self._fillers = ThreadPoolExecutor(FILL_THREADS, "vicinal-fill")
        self.counts = Counts()
        private.make_folders(self._folder)
        for path in list(self._folder.iterdir()):
            if not copying.is_filled(path):
                _remove(path)

    def opened(self, entry: SharedCatalogEntry, wait_s: float) -> CopiedIndex:
        """Return the copy of an index, opening it when it is not.

        Raises:
            IndexNotFound: the index is gone.
            Unavailable: it is still being opened or filled after `wait_s`, or cannot be.
        """
        until = time.monotonic() + min(wait_s, threading.TIMEOUT_MAX)
        while True:
            slot = self._slots.get(entry.key) or self._start(entry)
            slot.used_at = time.monotonic()
            copy = slot.copy
            if copy is not None and (slot.is_ready or slot.used_at - slot.open_since > CAUGHT_UP_S):
                return copy
            try:
                return slot.opening.result(max(until - slot.used_at, 0.0))
            except CopyClosed:
                continue  # to make room, before anybody had it
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

    def kept_ids(self) -> frozenset[UUID]:
        """Return of which indexes copies are open or being opened."""
        return frozenset(self._slots)

    def local_ids(self) -> Sequence[UUID]:
        """Return of which indexes there are folders."""
        index_ids = []
        for path in self._folder.iterdir():
            with suppress(ValueError):
                index_ids.append(UUID(path.name))
        return index_ids

    def remove(self, index_id: UUID, name: str) -> None:
        """Close and remove the copy of an index that is gone."""
        with self._lock:
            slot = self._slots.pop(index_id, None)
            if self._is_closed:
                return
            reason = IndexNotFound(name)
            self._fillers.submit(self._close_and_remove, index_id, slot, reason)
        if slot is not None:
            _settle(slot.opening, reason)  # at once; what is under way in its folder goes on

    def refill(self, index_id: UUID, copy: CopiedIndex, cause: str) -> None:
        """Throw a copy away and fill another, unless that is done already.

        Args:
            index_id: Of the index.
            copy: The copy that is wrong.
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
            self._fillers.submit(self._throw_away, slot, copy, name)
        logger.warning("the copy of index %r is filled again: %s", name, cause)

    def note_progress(self, index_id: UUID) -> None:
        """Say that a copy has replayed something."""
        slot = self._slots.get(index_id)
        if slot is not None:
            slot.failures = 0
            self._become_ready(slot)

    def keep_house(self) -> None:
        """Seal what is idle; close and remove what is unused longest while there is too much."""
        for _, copy in self.open_copies():
            copy.compact_idle()
        self._close_unused()
        self._evict()

    def close(self) -> None:
        """Close all copies; their files stay. A copy that is being filled is given up."""
        with self._lock:
            self._is_closed = True
            slots = list(self._slots.values())
            self._slots.clear()
        reason = Unavailable("the engine is closed")
        closed = [slot.copy for slot in slots if slot.copy is not None]
        for copy in closed:  # all at once, as the last one would go on while others are closed
            copy.interrupt()
        for copy in closed:
            copy.close(reason)
        for slot in slots:
            _settle(slot.opening, reason)
        self._fillers.shutdown(cancel_futures=True)
        for slot in slots:
            if slot.copy is not None and slot.copy not in closed:  # it opened meanwhile
                slot.copy.close(reason)

    def _start(self, entry: SharedCatalogEntry) -> _CopySlot:
        with self._lock:
            if self._is_closed:
                raise Unavailable("the engine is closed")
            slot = self._slots.get(entry.key)
            if slot is None:
                slot = self._slots[entry.key] = _CopySlot(entry, used_at=time.monotonic())
                self._fillers.submit(self._open, slot)
            return slot

    def _path(self, index_id: UUID) -> Path:
        return self._folder / str(index_id)

    def _folder_lock(self, index_id: UUID) -> threading.Lock:
        with self._lock:
            return self._folder_locks.setdefault(index_id, threading.Lock())

    def _submit_open(self, slot: _CopySlot) -> None:
        with self._lock:
            if not self._is_closed:
                self._fillers.submit(self._open, slot)

    # In the fillers' threads.

    def _open(self, slot: _CopySlot) -> None:
        """Open a copy, filling it when it has to be; what is in the way is said by its future."""
        opening, name = slot.opening, slot.entry.index.name
        try:
            with self._folder_lock(slot.entry.key):
                self._open_locked(slot)
        except Exception as error:
            if not isinstance(error, Error):
                logger.exception("index %r cannot be copied", name)
                error = Unavailable(
                    f"index {name!r} cannot be copied to this node: {error}", retry_after=1.0
                )
            with self._lock:
                if self._slots.get(slot.entry.key) is slot:
                    del self._slots[slot.entry.key]  # the next call tries again
            _settle(opening, error)
            return
        self._on_opened()
        self._become_ready(slot)

    def _open_locked(self, slot: _CopySlot) -> None:
        """Open a copy for callers to have.

        Raises:
            IndexNotFound: the index is gone, perhaps only since this began.
            Error: it cannot be opened.
        """
        check = partial(self._check_wanted, slot)
        check()
        with interruptible(check):
            copy = self._open_or_fill(slot)
        # In this order: what is logged after the first waits for this copy, what was before the
        # second this copy waits for.
        self._announce(slot.entry.key, copy.position.seqno)
        slot.target = self._logged_seqno(slot.entry.key)
        try:
            with self._lock:
                self._check_wanted(slot)
                slot.copy, slot.open_since = copy, time.monotonic()
        except Error as error:
            copy.close(error)
            raise

    def _check_wanted(self, slot: _CopySlot) -> None:
        if self._is_closed:
            raise Unavailable("the engine is closed")
        if self._slots.get(slot.entry.key) is not slot:
            raise IndexNotFound(slot.entry.index.name)

    def _become_ready(self, slot: _CopySlot) -> None:
        """Let callers have a copy once it has what was logged before it opened."""
        with self._lock:
            copy = slot.copy
            if copy is None or slot.is_ready or copy.position.seqno < slot.target:
                return
            slot.is_ready = True
            with suppress(InvalidStateError):  # the index is gone
                slot.opening.set_result(copy)

    def _logged_seqno(self, index_id: UUID) -> Seqno:
        """Return what an index has logged by now; 0 where the database does not say."""
        try:
            return self._database.run_coroutine(self._fetch_logged_seqno(index_id))
        except Unavailable:
            return BEFORE_ANY  # what is there is served meanwhile

    async def _fetch_logged_seqno(self, index_id: UUID) -> Seqno:
        async with self._database.session(Use.READ) as session:
            row = await session.fetchrow(
                "SELECT logged_seqno FROM vicinal.head WHERE index_id = $1", index_id
            )
        return BEFORE_ANY if row is None else Seqno(row[0])

    def _open_or_fill(self, slot: _CopySlot) -> CopiedIndex:
        key, path = slot.entry.key, self._path(slot.entry.key)
        if copying.is_filled(path):
            try:
                return CopiedIndex(
                    path, slot.entry.index, self._options, self._resources, self._cursors
                )
            except Corruption as error:
                logger.warning("the copy of index %r is filled again: %s", key, error)
                self.counts.refills["damage"] = self.counts.refills.get("damage", 0) + 1
        self._fill(slot, path)
        return CopiedIndex(path, slot.entry.index, self._options, self._resources, self._cursors)

    def _fill(self, slot: _CopySlot, path: Path) -> None:
        started, entry = time.monotonic(), slot.entry
        check = partial(self._check_wanted, slot)
        try:
            with FillRows(self._database, entry, check) as rows, translating(path):
                copying.fill(path, entry.index, self._options, rows)
        except BaseException:
            _remove(path)  # others need its room
            raise
        took_s = time.monotonic() - started
        with self._lock:
            self.counts.fills += 1
            self.counts.fill_s += took_s
        logger.info(
            "index %r was copied in %.2f s: %d vectors", entry.index.name, took_s, rows.vector_count
        )

    def _throw_away(self, slot: _CopySlot, copy: CopiedIndex, name: str) -> None:
        """Remove a copy and fill another; later and later while that does not help."""
        with self._folder_lock(slot.entry.key):
            copy.close(
                CopyReplaced(f"index {name!r} is being copied to this node", retry_after=1.0)
            )
            _remove(copy.folder)
        if slot.failures <= 1:
            self._open(slot)
            return
        pause_s = min(PAUSE_S * 2 ** (slot.failures - 2), PAUSE_MAX_S)
        again = threading.Timer(pause_s, self._submit_open, (slot,))
        again.daemon = True
        again.start()

    def _close_and_remove(self, index_id: UUID, slot: _CopySlot | None, reason: Error) -> None:
        """Close and remove the copy of an index that is gone."""
        with self._folder_lock(index_id):
            with self._lock:  # of a caller that knew the index from before
                newer = self._slots.pop(index_id, None)
            for removed in (slot, newer):
                if removed is not None:
                    _close(removed, reason)
            _remove(self._path(index_id))

    # In a thread of the workers.

    def _close_unused(self) -> None:
        """Close the copies unused longest while too many are open; their files stay."""
        with self._lock:
            used_at = {key: slot.used_at for key, slot in self._slots.items() if slot.copy}
        excess = max(len(used_at) - self._options.open_indexes_max, 0)
        for index_id in sorted(used_at, key=used_at.__getitem__)[:excess]:
            self._close_idle(index_id, "the copy was closed, as it was not used")

    def _evict(self) -> None:
        """Remove copies while all take too much disk, but never the one used last."""
        if self._bytes_max is None:
            return
        sizes = {index_id: _size(self._path(index_id)) for index_id in self.local_ids()}
        total = sum(sizes.values())
        with self._lock:
            used_at = {key: slot.used_at for key, slot in self._slots.items()}
        oldest = sorted(sizes, key=lambda index_id: used_at.get(index_id, -math.inf))
        for index_id in oldest[:-1]:
            if total <= self._bytes_max:
                return
            reason = "the copy was removed, as others needed its room"
            if self._close_idle(index_id, reason, is_removed=True):
                total -= sizes[index_id]
                self.counts.evictions += 1
                logger.info("the copy of index %s is removed: it was unused longest", index_id)

    def _close_idle(self, index_id: UUID, reason: str, *, is_removed: bool = False) -> bool:
        """Close a copy, and remove it, unless it is just being opened, filled or removed."""
        folder_lock = self._folder_lock(index_id)
        if not folder_lock.acquire(blocking=False):
            return False
        try:
            with self._lock:
                slot = self._slots.get(index_id)
                if slot is not None and slot.copy is None:
                    return False
                self._slots.pop(index_id, None)
            if slot is not None:
                _close(slot, CopyClosed(reason))
            if is_removed:
                _remove(self._path(index_id))
            return True
        finally:
            folder_lock.release()


class CopyClosed(Unavailable):
    """The copy was closed to make room, and opens again when it is asked for."""


class CopyReplaced(Unavailable):
    """The copy was thrown away, and another is being filled."""


def _close(slot: _CopySlot, reason: Error) -> None:
    """Close the copy of a slot that nobody finds any more; tell who waits for it."""
    if slot.copy is not None:
        slot.copy.close(reason)
    _settle(slot.opening, reason)


def _settle(opening: Future[CopiedIndex], error: Error) -> None:
    with suppress(InvalidStateError):  # it is settled already
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
