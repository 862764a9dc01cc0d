"""The shared engine of one node: implements `engine.base.Engine` over a PostgreSQL database.

    writes     go to the log in the database (`ledger`), and are acknowledged by its COMMIT
    queries    are answered from this node's copy (`copies`), which follows the log (`follower`)
    listings   are of the rows (`rows`, `listing`), so that any node can go on with them

The promises of `engine.base` hold of one node: its ``applied_seqno`` never goes back, but
another node's may be behind.
"""

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self, TypeVar
from uuid import UUID

from vicinal.budget import Budget
from vicinal.engine import blob_files
from vicinal.engine.admission import check_dimensions
from vicinal.engine.blob_files import BlobFiles
from vicinal.engine.contents import Contents
from vicinal.engine.copying import CopiedIndex
from vicinal.engine.options import EngineOptions
from vicinal.engine.reads import Reads
from vicinal.engine.resources import Resources
from vicinal.engine.shared import resolving, schema
from vicinal.engine.shared.catalog import SharedCatalog, SharedCatalogEntry
from vicinal.engine.shared.contents import RowsContents, position_of
from vicinal.engine.shared.copies import Copies, CopyClosed, CopyReplaced, Counts
from vicinal.engine.shared.database import PostgresDatabase
from vicinal.engine.shared.drafts import SharedDraft
from vicinal.engine.shared.filling import RowsSnapshot
from vicinal.engine.shared.follower import Follower
from vicinal.engine.shared.ledger import Ledger
from vicinal.engine.shared.listing import Listings, SharedCursors
from vicinal.engine.shared.log_reader import LogReader
from vicinal.engine.shared.nodes import Nodes
from vicinal.engine.shared.permits import Permits
from vicinal.engine.shared.resolving import CopyResolver
from vicinal.engine.shared.rows import Rows
from vicinal.engine.shared.uploads import Uploads, UploadWriter, upload_of
from vicinal.engine.watched import disk_usage
from vicinal.errors import IndexNotFound, Overloaded, Unavailable
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
from vicinal.storage.sqlite import translating
from vicinal.usage import EngineUsage, NodeUsage

logger = logging.getLogger(__name__)

LIST_DEADLINE_S = 30.0  # how long a listing waits for the rows; ours
WORKER_THREADS = 4  # replay and checkpoint; ours

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SharedOptions:
    """Options of a node of the shared engine.

    Args:
        dsn: Of the database.
        schema: Of the tables in it.
        write_deadline_s: After how many seconds a write that the database does not take is refused.
        is_strong: Whether a query waits until its node has all that was acknowledged before it.
        copies_bytes_max: How much disk the copies of the node may take, None for no bound.
        open_wait_s: How long a call waits for a copy that is being opened or filled.
        index: Options of an open index.
    """

    dsn: str
    schema: str = "vicinal"
    write_deadline_s: float = 30.0
    is_strong: bool = False
    copies_bytes_max: int | None = None
    open_wait_s: float = 1.0
    index: EngineOptions = field(default_factory=EngineOptions)


class SharedEngine(Reads[CopiedIndex]):
    """See `engine.base.Engine` for what its methods promise."""

    is_shared = True

    def __init__(self, folder: Path, options: SharedOptions, lock: HeldLock) -> None:
        self._options = options
        self._lock = lock
        self._is_closed = False
        self._closing = threading.Lock()
        self._database = PostgresDatabase(options.dsn, options.schema)
        try:
            secret = schema.prepare(self._database)
        except BaseException:
            self._database.close()
            raise
        index = options.index
        shutil.rmtree(folder / blob_files.FOLDER, ignore_errors=True)  # what a crash left
        BlobFiles.create(folder)
        self._blobs = BlobFiles(folder)
        self._queue = Budget(index.queue_bytes_max)
        self._resources = Resources.start(index.queue_bytes_max)
        self._workers = ThreadPoolExecutor(WORKER_THREADS, "vicinal-follow")
        self._listings = Listings(self._database, SharedCursors(secret), index.cursor_lifetime_s)
        gone_s = self._listings.gone_s
        log = LogReader(self._blobs.folder)
        self._rows = Rows(self._database, self._workers, gone_s, log)
        self._nodes = Nodes(self._database)
        self._uploads = Uploads(self._database, self._nodes.node_id)
        self._catalog = SharedCatalog(self._database, options.write_deadline_s, self._on_dropped)
        self._copies = Copies(
            self._database,
            folder,
            index,
            self._resources,
            options.copies_bytes_max,
            self._announce,
            self._kick,
        )
        self._permits = Permits(index.limits, self._checkpoint_until)
        self._ledger = Ledger(
            self._database, self._permits, log, options.write_deadline_s, self._on_settled
        )
        self._follower = Follower(
            self._database,
            self._catalog,
            self._copies,
            self._rows,
            self._nodes,
            self._uploads,
            self._workers,
            index.visibility_delay_s,
            log,
        )
        self._following = self._database.submit(self._follower.follow())

    @classmethod
    def open(cls, folder: Path, options: SharedOptions) -> Self:
        """Open a node whose copies are in a folder, making that when it is not there.

        Raises:
            Unavailable: another process has the folder, or the database cannot be used; the message
                says why.
        """
        with translating(folder):
            private.make_data_folder(folder)
            lock = folder_lock.acquire(folder)
            try:
                return cls(folder, options, lock)
            except BaseException:
                lock.close()
                raise

    def create_index(
        self, address: IndexAddress, config: IndexConfig, description: str | None
    ) -> Index:
        """See `engine.base.Engine`."""
        count_max = self._options.index.limits.indexes_per_account_max
        return self._catalog.add(address, config, description, count_max)

    def delete_index(self, address: IndexAddress) -> None:
        """See `engine.base.Engine`."""
        self._follower.announce_deletion(self._catalog.remove(address))

    def answers_at_once(self, address: IndexAddress) -> bool:
        """See `engine.base.Engine`."""
        if self._options.is_strong:
            return False
        try:
            entry = self._catalog.remembered(address)
        except IndexNotFound:
            return True
        return entry is not None and self._copies.is_ready(entry.key)

    def get_index(self, address: IndexAddress) -> Index:
        """See `engine.base.Engine`."""
        return self._catalog.get(address).index

    def list_indexes(self, account: str) -> Sequence[Index]:
        """See `engine.base.Engine`."""
        return self._catalog.of_account(account)

    def open_batch(self, address: IndexAddress) -> BatchWriter:
        """See `engine.base.Engine`."""
        entry = self._catalog.get(address)
        dimensions = entry.index.config.dimensions
        return UploadWriter(self._blobs, dimensions, self._uploads, entry.key)

    def append(
        self,
        address: IndexAddress,
        mutation: Mutation | UnresolvedMutation,
        *,
        wait_s: float = 0.0,
    ) -> Future[Accepted]:
        """See `engine.base.Engine`; what is refused is said by the future, where that needs the
        database."""
        entry = self._catalog.get(address)
        until = time.monotonic() + wait_s
        if isinstance(mutation, UnresolvedMutation):
            # Opened before the log's end is locked, as filling a copy would hold up all writers.
            self._copies.opened(entry, self._options.open_wait_s)
            resolver = CopyResolver(partial(self._resolve, entry, mutation), self._queue)
            accepted = self._ledger.append(entry.key, entry.index.name, resolver, 0, until)
            accepted.add_done_callback(resolver.release)
            return accepted
        check_dimensions(mutation, entry.index)
        upload = upload_of(mutation, entry.key)
        try:
            draft = resolving.draft(mutation, upload=upload)
            self._acquire(draft.queued_bytes, until)
            try:
                return self._ledger.append(
                    entry.key, entry.index.name, draft, draft.queued_bytes, until
                )
            except BaseException:
                self._queue.release(draft.queued_bytes)
                raise
        except BaseException:
            if upload is not None:
                upload.cancel()
            raise

    def _resolve(
        self, entry: SharedCatalogEntry, mutation: UnresolvedMutation, seqno: Seqno
    ) -> SharedDraft:
        """Return the draft of a mutation that comes right after a seqno.

        Raises:
            Unavailable: the copy does not come to the seqno in time.
            Error: as `resolution.resolve`.
        """
        copy = self._copies.opened(entry, self._options.open_wait_s)
        self._kick()
        return resolving.resolved(copy, mutation, seqno, self._options.index.limits, self._blobs)

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        """See `engine.base.Engine`; with a timeout, until queries on every live node see it."""
        until = time.monotonic() + timeout_s
        entry = self._catalog.get(address)
        if timeout_s <= 0:
            return self._on(address, lambda copy: copy.wait_applied(seqno, 0.0))
        if not self._wait_copied(entry, seqno, until):
            return False
        return self._database.run_coroutine(self._nodes.wait_for_others(entry.key, seqno, until))

    def usage(self) -> EngineUsage:
        """See `engine.base.Engine`; open indexes are those of this node."""
        index_usages = []
        for index_id, copy in self._copies.open_copies():
            address = self._catalog.address_of(index_id)
            if address is not None:
                index_usages.append(copy.usage(address))
        return EngineUsage(
            self._catalog.index_count,
            index_usages,
            self._node_usage(),
            work=self._resources.times.usage(self._queue),
            disk=disk_usage(self._blobs.folder),
        )

    def _node_usage(self) -> NodeUsage:
        counts, database, now = self._copies.counts, self._database, time.monotonic()
        lags = {
            self._catalog.address_of(index_id): lag
            for index_id, lag in self._follower.lags.current(now).items()
        }
        return NodeUsage(
            node_count=self._nodes.count,
            database_silent_s=max(0.0, now - self._follower.polled_at),
            round_trip_s=self._follower.round_trip_s,
            lags={address: lag for address, lag in lags.items() if address is not None},
            fill_count=counts.fills,
            fill_s=counts.fill_s,
            checkpoint_count=self._rows.checkpoint_count,
            checkpoint_s=self._rows.checkpoint_s,
            refill_counts=dict(counts.refills),
            eviction_count=counts.evictions,
            statement_count=database.statements.count,
            statement_s=database.statements.seconds,
        )

    def list(self, address: IndexAddress, count: int, cursor: str | None) -> Page:
        """See `engine.base.Engine`."""
        entry = self._catalog.get(address)
        return self._database.run_coroutine(self._list(entry, count, cursor))

    def addresses(self) -> Sequence[IndexAddress]:
        """See `engine.contents.HasContents`."""
        return self._catalog.addresses()

    @contextmanager
    def contents(self, address: IndexAddress, cursor: str | None = None) -> Iterator[Contents]:
        """See `engine.contents.HasContents`; of all that was acknowledged before."""
        entry = self._catalog.get(address)
        after = position_of(cursor)
        self._database.run_coroutine(self._checkpoint_all(entry))
        with RowsSnapshot(self._database, entry, after) as rows:
            yield RowsContents(rows)

    @property
    def counts(self) -> Counts:
        """Events of the copies of this node since it opened."""
        return self._copies.counts

    def close(self) -> None:
        """See `engine.base.Engine`. Closing again does nothing."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        self._ledger.close()
        self._database.run_coroutine(self._leave())
        self._database.close()  # first, which ends the filling of copies
        self._uploads.close()
        self._copies.close()
        self._workers.shutdown()
        self._resources.stop()
        self._lock.close()

    def _on(self, address: IndexAddress, work: Callable[[CopiedIndex], T]) -> T:
        """Do something with a copy; it is opened again if it was just closed for want of use."""
        while True:
            try:
                return work(self._readable(address))
            except CopyClosed:
                continue

    def _readable(self, address: IndexAddress) -> CopiedIndex:
        entry = self._catalog.get(address)
        if not self._options.is_strong:
            return self._copies.opened(entry, self._options.open_wait_s)
        seqno = self._database.run_coroutine(self._logged_seqno(entry))
        until = time.monotonic() + self._options.write_deadline_s
        if not self._wait_copied(entry, seqno, until):
            raise Unavailable(
                f"this node's copy of index {entry.index.name!r} does not keep up", retry_after=1.0
            )
        return self._copies.opened(entry, self._options.open_wait_s)

    def _wait_copied(self, entry: SharedCatalogEntry, seqno: Seqno, until: float) -> bool:
        """Wait until this node's copy, or the one that replaces it, has a mutation.

        Returns whether it does at `until`, in monotonic seconds.

        Raises:
            IndexNotFound: the index is gone.
            Unavailable: there is no copy yet at `until`, or there cannot be one.
        """
        while True:
            copy = self._copies.opened(entry, max(until - time.monotonic(), 0.0))
            self._kick()
            try:
                return copy.wait_applied(seqno, max(until - time.monotonic(), 0.0))
            except (CopyClosed, CopyReplaced):
                continue

    def _acquire(self, size: int, until: float) -> None:
        """Count bytes as queued, waiting for room until a moment in monotonic seconds."""
        while True:
            seen = self._queue.changes
            if self._queue.acquire(size):
                return
            if not self._queue.wait_for_change(seen, until - time.monotonic()):
                raise Overloaded(
                    f"{self._queue.used} bytes of mutations are queued, "
                    f"{self._queue.bound} are allowed",
                    retry_after=1.0,
                    queue="writes",
                )

    def _announce(self, index_id: UUID, seqno: Seqno) -> None:
        with suppress(Unavailable):  # what is there is served meanwhile
            self._database.run_coroutine(self._nodes.announce(index_id, seqno))

    def _kick(self) -> None:
        self._follower.kick()

    def _on_dropped(self, index_id: UUID, name: str) -> None:
        self._copies.remove(index_id, name)

    # In the database's thread.

    def _on_settled(self, index_id: UUID, size: int) -> None:
        self._queue.release(size)
        self._follower.note_written(index_id)

    async def _checkpoint_until(self, index_id: UUID, seqno: Seqno) -> int:
        until = time.monotonic() + self._options.write_deadline_s
        return await self._rows.checkpoint_until(index_id, seqno, until)

    async def _logged_seqno(self, entry: SharedCatalogEntry) -> Seqno:
        row = await self._database.read(
            lambda session: session.fetchrow(
                "SELECT logged_seqno FROM vicinal.head WHERE index_id = $1", entry.key
            )
        )
        if row is None:
            self._catalog.evict(entry.key)
            raise IndexNotFound(entry.index.name)
        return Seqno(row[0])

    async def _list(self, entry: SharedCatalogEntry, count: int, cursor: str | None) -> Page:
        """Read a page; the first is of all that was acknowledged before."""
        until = time.monotonic() + LIST_DEADLINE_S
        if cursor is None:
            await self._checkpoint_all(entry)
            return await self._listings.first(entry.key, entry.index.name, count)
        while True:
            page, listed = await self._listings.next(entry.key, count, cursor)
            if page is not None:
                return page
            await self._rows.checkpoint_until(entry.key, Seqno(listed), until)

    async def _checkpoint_all(self, entry: SharedCatalogEntry) -> None:
        """Bring the rows to the end of the log as it is now."""
        until = time.monotonic() + LIST_DEADLINE_S
        seqno = await self._logged_seqno(entry)
        await self._rows.checkpoint_until(entry.key, seqno, until)

    async def _leave(self) -> None:
        self._following.cancel()
        await self._follower.stop()
        try:
            async with asyncio.timeout(1.0):
                await self._nodes.leave()
        except (TimeoutError, Unavailable):
            pass  # others stop waiting for this node after a while
