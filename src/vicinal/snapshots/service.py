"""The snapshots of one server: made on request and on a schedule, into its own store.

One snapshot is made at a time; a process of low priority does what takes long (`process`). The
schedule counts from the newest snapshot that there is, so a restart moves nothing, and keeps the
newest of its own; those that were asked for stay until they are deleted.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from vicinal.engine.embedded import EmbeddedEngine
from vicinal.errors import Corruption, Error, InvalidInput, NotFound, Overloaded, Unavailable
from vicinal.limits import Limits
from vicinal.model import IndexAddress
from vicinal.snapshots.manifest import ServerSnapshot
from vicinal.snapshots.process import ProcessWork
from vicinal.snapshots.restoring import RestoredIndex, restore_indexes
from vicinal.snapshots.sinks import StoreSink, StreamSink
from vicinal.snapshots.store import MARKER, Store
from vicinal.snapshots.taking import Server, new_id, take_snapshot
from vicinal.snapshots.work import VerifySnapshots
from vicinal.verify.report import Report

logger = logging.getLogger(__name__)

SHARED_REFUSAL = (
    "servers that share a PostgreSQL keep everything in it: back that up with pg_basebackup and "
    "its WAL (docs/scale-out.md); a node's folder has only copies, which `vicinal verify` reads"
)
RETRY_S_MAX = 300.0  # ours: after a scheduled snapshot that failed
SENT_MAX = 4  # ours: stored snapshots that are sent at one time, each by a process


@dataclass(frozen=True, slots=True)
class Schedule:
    """When snapshots are made by themselves: seconds from one to the next (never if 0), and the
    number of these that are kept."""

    interval_s: float = 0.0
    kept_count: int = 7


class Snapshots:
    """Makes, lists, verifies, restores and deletes snapshots. Thread-safe.

    Args:
        engine: The engine that is copied; None where nodes share a database; then all is refused.
        data: The data folder.
        folder: The store; None if none is set, and then snapshots can only be streamed.
        version: Of this program.
        schedule: When snapshots are made by themselves; never if not given.
        limits: Bounds on the names of indexes.

    All methods may raise:

    Raises:
        InvalidInput: there is no store, or nodes share a database.
        Unavailable: the store is in use, or its disk does not answer; `ResourceExhausted` if full.
    """

    def __init__(
        self,
        engine: EmbeddedEngine | None,
        data: Path,
        folder: Path | None,
        version: str,
        schedule: Schedule | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._engine = engine
        self._data = data
        self._folder = folder
        self._version = version
        self._schedule = schedule or Schedule()
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._sending = threading.Semaphore(SENT_MAX)
        self._stopping = threading.Event()
        self._processes: set[ProcessWork] = set()
        self._thread: threading.Thread | None = None
        self.failure_count = 0

    def start(self) -> None:
        """Begin with the schedule, if there is one.

        Raises:
            InvalidInput: the folder holds something other than snapshots.
        """
        if self._schedule.interval_s and self._folder is not None and self._engine is not None:
            Store.create(self._folder)
            self._thread = threading.Thread(
                target=self._keep_schedule, name="vicinal-snapshots", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the schedule, and what is being made, verified or restored, which fails."""
        self._stopping.set()
        for work in self._processes.copy():
            work.stop()
        if self._thread is not None:
            self._thread.join()

    def create(self, *, copies: bool = False, is_scheduled: bool = False) -> ServerSnapshot:
        """Make a snapshot in the store.

        Args:
            copies: Whether files are copied also where they could be linked.
            is_scheduled: Whether the schedule may delete it.
        """
        store = self._store()
        server = self._server()
        with self._at_a_time(), store.locked(writes=True):
            snapshot_id = new_id()
            with (
                self._process() as work,
                StoreSink(store, snapshot_id, work, copies=copies) as sink,
            ):
                snapshot = take_snapshot(server, sink, snapshot_id, is_scheduled=is_scheduled)
        for part in snapshot.missing:
            logger.warning("snapshot %s is without %s: %s", snapshot.id, part.name, part.reason)
        return snapshot

    def write_stream(self, stream: IO[bytes], known: frozenset[str]) -> ServerSnapshot:
        """Make a snapshot that goes to a stream, without the shared files that are `known`."""
        server = self._server()
        with self._at_a_time():
            snapshot_id = new_id()
            with (
                self._process() as work,
                StreamSink(stream, snapshot_id, work, known) as sink,
            ):
                return take_snapshot(server, sink, snapshot_id)

    def write_stored(self, stream: IO[bytes], snapshot_id: str, known: frozenset[str]) -> None:
        """Write a snapshot of the store to a stream, without the shared files that are `known`.

        The store is not locked, as who reads may be slow: a snapshot that is deleted meanwhile
        ends the stream.

        Raises:
            SnapshotNotFound: there is none of this id, or no longer.
            Corruption: it is damaged.
            Overloaded: `SENT_MAX` are being sent.
        """
        store = self._store()
        snapshot = store.manifest(store.resolve(snapshot_id))
        with (
            self._place(),
            self._process() as work,
            StreamSink(stream, snapshot.id, work, known) as sink,
        ):
            try:
                sink.add_stored(store, snapshot)
            except FileNotFoundError as error:
                store.resolve(snapshot_id)
                raise Corruption(f"{error.filename} is missing") from error

    def list(self) -> Sequence[ServerSnapshot]:
        """Return the snapshots of the store that can be read, oldest first."""
        return list(self._store().manifests(lambda error: logger.warning("%s", error)))

    def get(self, snapshot_id: str) -> ServerSnapshot:
        """Return a snapshot of the store.

        Raises:
            SnapshotNotFound: there is none of this id.
            Corruption: it cannot be read.
        """
        store = self._store()
        return store.manifest(store.resolve(snapshot_id))

    def verify(self, snapshot_id: str) -> Report:
        """Read every byte of a snapshot of the store.

        Raises:
            SnapshotNotFound: there is none of this id.
        """
        store = self._store()
        report = Report(store.folder)
        with store.locked(), self._process() as work:
            ids = [store.resolve(snapshot_id)]
            end = work.perform(VerifySnapshots(str(store.folder), ids))
        report.subjects.extend(end.subjects)
        report.damages.extend(end.damages)
        return report

    def restore(
        self, snapshot_id: str, *, suffix: str, indexes: Sequence[tuple[str, str]] | None = None
    ) -> Sequence[IndexAddress]:
        """Restore indexes of a snapshot as new ones, whose names end in a suffix.

        Args:
            snapshot_id: Of the store.
            suffix: Put behind the names.
            indexes: Accounts and names of those to restore; None for all.

        Raises:
            SnapshotNotFound: there is none of this id.
            NotFound: it has no such index.
            AlreadyExists: a name is taken; nothing was restored.
            Corruption: the snapshot is damaged.
        """
        store = self._store()
        server = self._server()
        with store.locked(), self._process() as work:
            snapshot = store.manifest(store.resolve(snapshot_id))
            parts = {(part.account, part.name): part for part in snapshot.indexes}
            for account, name in indexes or ():
                if (account, name) not in parts:
                    raise NotFound(f"snapshot {snapshot.id} has no index {account}/{name}")
            chosen = parts if indexes is None else dict.fromkeys(indexes)
            restored = [
                RestoredIndex(parts[key], IndexAddress(key[0], f"{key[1]}{suffix}"))
                for key in chosen
            ]
            self._check_names(restored)
            restore_indexes(store, snapshot, server.engine, restored, work)
        return [index.address for index in restored]

    def delete(self, snapshot_id: str) -> int:
        """Delete a snapshot of the store; return the bytes that are free now.

        Raises:
            SnapshotNotFound: there is none of this id.
        """
        store = self._store()
        with self._at_a_time(), store.locked(writes=True):
            return store.delete(snapshot_id)

    def newest(self) -> datetime | None:
        """Return when the newest snapshot of the store was begun; None if there is none."""
        if self._folder is None or not (self._folder / MARKER).exists():
            return None
        ids = Store(self._folder).ids()
        return None if not ids else datetime.strptime(ids[-1][:15], "%Y%m%d-%H%M%S").replace(
            tzinfo=UTC
        )  # fmt: skip

    def _check_names(self, restored: Sequence[RestoredIndex]) -> None:
        bound = self._limits.index_name_bytes_max
        for index in restored:
            size = len(index.address.name.encode())
            if size > bound:
                raise InvalidInput(
                    f"index name {index.address.name!r} has {size} bytes, "
                    f"the maximum is {bound} bytes"
                )

    def _server(self) -> Server:
        if self._engine is None:
            raise InvalidInput(SHARED_REFUSAL)
        return Server(self._engine, self._data, self._version)

    def _store(self) -> Store:
        self._server()
        if self._folder is None:
            raise InvalidInput(
                "this server has no folder for snapshots: start it with the setting "
                "snapshot_folder (vicinal serve --snapshot-folder FOLDER), or have the snapshot "
                "streamed (vicinal snapshot create FILE.tar.zst)"
            )
        return Store.create(self._folder)

    @contextmanager
    def _process(self) -> Iterator[ProcessWork]:
        with closing(ProcessWork()) as work:
            self._processes.add(work)
            if self._stopping.is_set():
                work.stop()
            try:
                yield work
            finally:
                self._processes.discard(work)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._sending.acquire(blocking=False):
            raise Overloaded(
                f"{SENT_MAX} snapshots are being sent, the most there may be",
                retry_after=5.0,
                queue="snapshots",
            )
        try:
            yield
        finally:
            self._sending.release()

    def _at_a_time(self) -> "_OneAtATime":
        return _OneAtATime(self._lock)

    def _keep_schedule(self) -> None:
        wait_s = self._due_in_s()
        is_made = False  # and older ones are to be deleted
        while not self._stopping.wait(wait_s):
            try:
                if not is_made:
                    self.create(is_scheduled=True)
                    is_made = True
                self._delete_excess()
                is_made = False
                wait_s = self._due_in_s()
            except Error as error:
                self.failure_count += 1
                if is_made:
                    logger.error("older scheduled snapshots were not deleted: %s", error)
                else:
                    logger.error("the scheduled snapshot was not made: %s", error)
                wait_s = min(self._schedule.interval_s, RETRY_S_MAX)

    def _due_in_s(self) -> float:
        newest = self.newest()
        if newest is None:
            return 0.0
        age_s = (datetime.now(UTC) - newest).total_seconds()
        return min(max(self._schedule.interval_s - age_s, 0.0), self._schedule.interval_s)

    def _delete_excess(self) -> None:
        scheduled = [snapshot.id for snapshot in self.list() if snapshot.is_scheduled]
        for snapshot_id in scheduled[: -self._schedule.kept_count]:
            self.delete(snapshot_id)


class _OneAtATime:
    """A lock that refuses instead of waiting."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise Unavailable("another snapshot is being made or deleted", retry_after=5.0)

    def __exit__(self, *_: object) -> None:
        self._lock.release()
