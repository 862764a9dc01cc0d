"""The log of one index and its `manifest`, in one SQLite file with blob files beside it.

    mutation    every acknowledged mutation that no segment has yet, by seqno; a long record is in
                a file of its own (`blob_files`)
    manifest    one row: the segments, the metadata indexes, and the seqno up to which they
                contain the log (`Manifest`)
    tombstone   a bitmap of the rows of a segment that were dead at that seqno

A mutation is acknowledged when its transaction has committed; several mutations share one
(group commit). A segment exists when a transaction has put it into the
manifest: **that commit is the only commit point**. Tombstones and manifest change in the
same transaction and always describe the index as of `Manifest.sealed_seqno`; replaying
the mutations after it gives the present.

Mutations that a segment has are removed later, in several transactions, so that a long removal
does not delay commits; opening ignores and removes those that a crash left.

Rows have checksums and seqnos have no gaps. Damage at the end must not look like a shorter log: so
the manifest has the last seqno, a commit of the manifest is followed by a checkpoint into the
database, where all damage is found, and the file `acknowledged` has a watermark
(`storage.watermark`), which survives a killed process.
"""

import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vicinal.engine import blob_files, records
from vicinal.engine import manifest as manifests
from vicinal.engine.blob_files import BlobFiles, BlobWriter
from vicinal.engine.manifest import Manifest
from vicinal.engine.pins import Pin, Pins
from vicinal.engine.records import LogRecord
from vicinal.errors import Corruption, ResourceExhausted, Unavailable
from vicinal.model import Mask, Mutation, Seqno
from vicinal.segment.format import SegmentRecord
from vicinal.storage.files import Seal
from vicinal.storage.sqlite import (
    Field,
    checkpoint,
    checksum,
    close_database,
    open_database,
    transaction,
    translating,
)
from vicinal.storage.watermark import Watermark

FILE_NAME = "index.db"
WATERMARK_NAME = "acknowledged"

_TRUNCATED_BYTES_MAX = 1 << 20  # removed in one transaction; some milliseconds
_TRUNCATED_ROWS_MAX = 1_000
_COPIED_BYTES_MAX = 1 << 20  # yielded at a time to who copies a log
_READ_BYTES_MAX = 128 << 10  # of these, while commits wait: 0.4 ms
_READ_ROWS_MAX = 200

SCHEMA = """
CREATE TABLE mutation (
  seqno INTEGER PRIMARY KEY, mutation_id TEXT NOT NULL, accepted_at INTEGER NOT NULL,
  size INTEGER NOT NULL, payload BLOB, file_size INTEGER, file_checksum INTEGER,
  checksum INTEGER NOT NULL);
CREATE TABLE manifest (
  only INTEGER PRIMARY KEY CHECK (only = 0), document BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE tombstone (
  segment INTEGER PRIMARY KEY, bitmap BLOB NOT NULL, checksum INTEGER NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A mutation to be appended. A `blob` has the record in a file already."""

    mutation_id: str
    record: LogRecord
    blob: BlobWriter | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A mutation in the log.

    `accepted_at` is microseconds since the epoch. `file` has the record, if that is long; values
    begin at `segment.arena.FILE_OFFSET`.
    """

    seqno: Seqno
    mutation_id: str
    accepted_at: int
    record: LogRecord
    file: Path | None = None

    @property
    def mutation(self) -> Mutation:
        """The mutation, decoded.

        Raises:
            Corruption: the record is of no mutation.
        """
        try:
            return records.decode(self.record)
        except Corruption as error:
            raise Corruption(f"mutation {self.seqno} {error}") from error


@dataclass(frozen=True, slots=True)
class LogMoment:
    """A log at one moment, pinned: its manifest, tombstones as rows, last seqno and mutation, and
    the seals of blob files. The mutations are those after `Manifest.sealed_seqno` to `seqno`."""

    manifest: Manifest
    tombstones: Sequence[tuple[int, bytes, int]]
    seqno: Seqno
    mutation_id: str | None
    file_seals: Sequence[tuple[Seqno, Seal]]
    pin: Pin


class Log:
    """An open log. Thread-safe: one call at a time.

    Every method but `close` may raise:

    Raises:
        Corruption: rows are damaged or missing.
        ResourceExhausted: the disk is full, or too many files are open. Nothing is written, and the
            log goes on.
        Unavailable: another process has the file, or the disk does not answer. After a failed
            write the content is unknown until the log is opened again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.Lock()
        with ExitStack() as opened, translating(self.path):
            self._connection = open_database(self.path, SCHEMA, create=False)
            opened.callback(self._connection.close)
            self._watermark = Watermark(folder / WATERMARK_NAME)
            opened.callback(self._watermark.close)
            self.manifest = manifests.load(self._connection, self.path)
            self.blobs = BlobFiles(folder)
            self.pins = Pins()
            self._is_closed = False
            self.last_seqno = self._check_seqnos(self.manifest)
            self._file_seals = self._stored_file_seals()
            opened.pop_all()

    @classmethod
    def create(cls, folder: Path) -> None:
        """Make an empty log in an existing folder."""
        BlobFiles.create(folder)
        connection = open_database(folder / FILE_NAME, SCHEMA)
        with transaction(connection):
            manifests.store(connection, Manifest())
        close_database(connection)

    def append(self, drafts: Sequence[Draft], accepted_at: int) -> list[Entry]:
        """Make mutations durable in one transaction; return their entries in order."""
        with self._lock:
            first = self.last_seqno + 1
            entries = [
                self._entry(Seqno(seqno), draft.mutation_id, accepted_at, draft.record)
                for seqno, draft in enumerate(drafts, first)
            ]
            last = entries[-1].seqno
            try:
                with translating(self.path):
                    seals = self._write_files(entries, drafts)
                with self._settling(self.manifest, last), transaction(self._connection):
                    self._connection.executemany(
                        "INSERT INTO mutation VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (_row(entry, seals.get(entry.seqno)) for entry in entries),
                    )
            except ResourceExhausted:
                with suppress(OSError):  # the next record overwrites such a file
                    self.blobs.remove(entry.seqno for entry in entries)
                for draft in drafts:
                    if draft.blob is not None:
                        draft.blob.remove()
                raise
            self.last_seqno = last
            self._file_seals.update(seals)
        with suppress(OSError):  # an older watermark holds as well
            self._watermark.write(self.last_seqno)
        return entries

    def entries(self) -> Iterator[Entry]:
        """Yield the mutations that no segment has, in order. For opening only."""
        with translating(self.path):
            cursor = self._connection.execute(
                "SELECT * FROM mutation WHERE seqno > ? ORDER BY seqno",
                (self.manifest.sealed_seqno,),
            )
            for *fields, expected in cursor:
                if checksum(*fields) != expected:
                    raise Corruption(f"mutation {fields[0]} in {self.path} fails its checksum")
                seqno, mutation_id, accepted_at, _, raw, file_size, file_checksum = fields
                if raw is None:
                    record = self.blobs.read(seqno, Seal(file_size, file_checksum))
                else:
                    try:
                        record = LogRecord.of(raw)
                    except Corruption as error:
                        raise Corruption(f"mutation {seqno} in {self.path} {error}") from error
                file = self.blobs.path(seqno) if raw is None else None
                yield Entry(seqno, mutation_id, accepted_at, record, file)

    def verify_files(self, last: Seqno) -> None:
        """Verify the files of mutations up to `last` that no segment has.

        The memtable maps these files, and a seal copies them into a segment with new checksums.
        """
        with translating(self.path):
            for seqno, seal in self.file_seals(last):
                self.blobs.read(seqno, seal)

    def file_seals(self, last: Seqno) -> list[tuple[Seqno, Seal]]:
        """Return the files of mutations up to `last` that no segment has, in order."""
        with self._lock:
            return self._unsealed_files(last)

    def _unsealed_files(self, last: Seqno) -> list[tuple[Seqno, Seal]]:
        sealed = self.manifest.sealed_seqno
        return [item for item in self._file_seals.items() if sealed < item[0] <= last]

    def _stored_file_seals(self) -> dict[Seqno, Seal]:
        """Read the files of mutations: for opening only, as it looks at every row of the log."""
        rows = self._connection.execute(
            "SELECT seqno, file_size, file_checksum FROM mutation "
            "WHERE seqno > ? AND file_size IS NOT NULL ORDER BY seqno",
            (self.manifest.sealed_seqno,),
        )
        return {Seqno(seqno): Seal(size, expected) for seqno, size, expected in rows}

    def commit(self, manifest: Manifest, live: Mapping[int, Mask]) -> None:
        """Replace manifest and tombstones in one transaction: the only commit point.

        Args:
            manifest: The new manifest; `dead_counts` and `logged_seqno` are filled in.
            live: Segment number -> mask of the rows alive at the manifest's `sealed_seqno`.
        """
        dead_counts = {
            number: int(len(mask) - np.count_nonzero(mask)) for number, mask in live.items()
        }
        with self._lock:
            manifest = replace(
                manifest,
                dead_counts={n: count for n, count in dead_counts.items() if count},
                logged_seqno=self.last_seqno,
            )
            with self._settling(manifest, self.last_seqno), transaction(self._connection):
                manifests.store_tombstones(self._connection, live)
                manifests.store(self._connection, manifest)
            self.manifest = manifest
        with self._lock, suppress(ResourceExhausted), translating(self.path):
            checkpoint(self._connection)  # on a full disk, with the next commit

    def live_rows(self, segment: SegmentRecord) -> Mask:
        """Return the mask of a segment's rows that were alive at `Manifest.sealed_seqno`."""
        with translating(self.path):
            return manifests.load_live_rows(self._connection, self.path, self.manifest, segment)

    def truncate(self) -> None:
        """Remove the mutations that segments have, a few at a time, and then their files.

        Half of the time is left to those that append.
        """
        sealed_seqno = self.manifest.sealed_seqno
        for step in itertools.count():
            began = time.perf_counter()
            with self._lock, translating(self.path), transaction(self._connection):
                # Asked each time, as another thread may pin what is there.
                sealed_seqno = self.pins.truncatable(self.manifest.sealed_seqno)
                rows = self._connection.execute(
                    "SELECT seqno, size FROM mutation WHERE seqno <= ? ORDER BY seqno LIMIT ?",
                    (sealed_seqno, _TRUNCATED_ROWS_MAX),
                ).fetchall()
                if not rows:
                    break
                last = _last_of_part(rows, _TRUNCATED_BYTES_MAX)
                self._connection.execute("DELETE FROM mutation WHERE seqno <= ?", (last,))
            if step == 0 and len(rows) < _TRUNCATED_ROWS_MAX and last == rows[-1][0]:
                break  # few, which took no longer than a commit
            _let_others(began)
        with self._lock, translating(self.path):
            last = self.pins.truncatable(sealed_seqno)
            self.blobs.truncate(last)
            self._file_seals = {
                seqno: seal for seqno, seal in self._file_seals.items() if seqno > last
            }
            self._connection.execute("PRAGMA shrink_memory")  # of its cache of removed rows

    def pin(self) -> LogMoment:
        """Pin the log as it is now, until `release`."""
        with self._lock, translating(self.path):
            self._check_open()
            sealed = self.manifest.sealed_seqno
            tombstones = self._connection.execute("SELECT * FROM tombstone").fetchall()
            last = self._connection.execute(
                "SELECT mutation_id FROM mutation WHERE seqno > ? ORDER BY seqno DESC LIMIT 1",
                (sealed,),
            ).fetchone()
            numbers = [record.number for record in self.manifest.segments]
            return LogMoment(
                self.manifest,
                tombstones,
                self.last_seqno,
                self.manifest.sealed_mutation if last is None else last[0],
                self._unsealed_files(self.last_seqno),
                self.pins.add(numbers, sealed),
            )

    def release(self, moment: LogMoment) -> None:
        """Release a pin; mutations that were kept for it are removed after the next seal."""
        self.pins.release(moment.pin)

    def rows(self, moment: LogMoment) -> Iterator[Sequence[tuple[Field, ...]]]:
        """Yield the rows of a pinned moment's mutations in order, a megabyte at a time.

        Their checksums are not compared.
        """
        after, last = moment.manifest.sealed_seqno, moment.seqno
        part: list[tuple[Field, ...]] = []
        size = 0
        while after < last:
            began = time.perf_counter()
            rows, read_bytes = self._few_rows(after, last)
            part += rows
            size += read_bytes
            after = Seqno(after + len(rows))
            if size >= _COPIED_BYTES_MAX or after == last:
                yield part
                part, size = [], 0
            else:
                _let_others(began)

    def _few_rows(self, after: Seqno, last: Seqno) -> tuple[list[tuple[Field, ...]], int]:
        """Return the first rows after a seqno, and the bytes of their mutations."""
        with self._lock, translating(self.path):
            self._check_open()
            sizes = self._connection.execute(
                "SELECT seqno, size FROM mutation WHERE seqno > ? AND seqno <= ? "
                "ORDER BY seqno LIMIT ?",
                (after, last, _READ_ROWS_MAX),
            ).fetchall()
            until = _last_of_part(sizes, _READ_BYTES_MAX) if sizes else after
            rows = self._connection.execute(
                "SELECT * FROM mutation WHERE seqno > ? AND seqno <= ? ORDER BY seqno",
                (after, until),
            ).fetchall()
        if not rows or len(rows) != until - after:
            raise Corruption(f"{self.path} lacks mutations after {after}")
        return rows, sum(size for seqno, size in sizes if seqno <= until)

    def remove_orphans(self) -> None:
        """Remove blob files that no row names. For opening only, before any write."""
        with self._lock, translating(self.path):
            self.blobs.remove_orphans(self.manifest.sealed_seqno, self.last_seqno)

    def close(self, *, is_clean: bool = True) -> None:
        """Write the last seqno and close the file; write nothing if the log has failed.

        Raises:
            sqlite3.Error: the last seqno could not be written; all acknowledged mutations are.
        """
        with self._lock:
            self._is_closed = True
            self._watermark.close()
            if not is_clean:
                self._connection.close()
                return
            try:
                with transaction(self._connection):
                    manifests.store(
                        self._connection, replace(self.manifest, logged_seqno=self.last_seqno)
                    )
            finally:
                close_database(self._connection)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"{self.path} was closed")

    def _entry(self, seqno: Seqno, mutation_id: str, accepted_at: int, record: LogRecord) -> Entry:
        is_long = record.size >= blob_files.FILE_BYTES_MIN
        return Entry(
            seqno, mutation_id, accepted_at, record, self.blobs.path(seqno) if is_long else None
        )

    def _write_files(self, entries: Sequence[Entry], drafts: Sequence[Draft]) -> dict[Seqno, Seal]:
        """Make long records durable in their files; return the seals of these."""
        seals = {
            entry.seqno: self.blobs.adopt(entry.seqno, draft.blob)
            if draft.blob is not None
            else self.blobs.write(entry.seqno, entry.record)
            for entry, draft in zip(entries, drafts, strict=True)
            if entry.file is not None
        }
        if seals:
            self.blobs.sync()
        return seals

    @contextmanager
    def _settling(self, manifest: Manifest, last: Seqno) -> Iterator[None]:
        """Find out whether a transaction that met a full disk is on disk all the same.

        Args:
            manifest: The manifest after the transaction.
            last: The last seqno after the transaction.

        Raises:
            ResourceExhausted: the transaction is not on disk.
            Unavailable: the content is unknown until the log is opened again.
        """
        try:
            with translating(self.path):
                yield
        except ResourceExhausted as error:
            try:
                self._connection.close()
                self._connection = open_database(self.path, SCHEMA, create=False)
                current = manifests.load(self._connection, self.path)
                current_last = self._check_seqnos(current)
                if (current, current_last) == (manifest, last):
                    checkpoint(self._connection)  # which syncs it
                    return
            except (Unavailable, sqlite3.Error) as cause:
                raise Unavailable(f"{error}; and then: {cause}") from cause
            if (current, current_last) != (self.manifest, self.last_seqno):
                raise Unavailable(f"{error}; part of what was refused was kept") from error
            raise

    def _check_seqnos(self, manifest: Manifest) -> Seqno:
        first, last, count = self._connection.execute(
            "SELECT min(seqno), max(seqno), count(*) FROM mutation WHERE seqno > ?",
            (manifest.sealed_seqno,),
        ).fetchone()
        last = last or manifest.sealed_seqno
        is_gapless = count == last - manifest.sealed_seqno and (
            not count or first == manifest.sealed_seqno + 1
        )
        known = max(manifest.logged_seqno, self._watermark.read())
        if not is_gapless or last < known:
            raise Corruption(
                f"{self.path} lacks mutations: it has {count} from {first} to {last}, "
                f"after {manifest.sealed_seqno} and to {known} or more"
            )
        return Seqno(last)


def _let_others(began: float) -> None:
    """Sleep for as long as this thread had the lock, since a moment of the performance counter.

    Else it has the lock again before one that waits for it is awake: of the writes that come while
    20,000 mutations are removed, some waited for all of that, a tenth of a second.
    """
    time.sleep(time.perf_counter() - began)


def _last_of_part(rows: Sequence[tuple[int, int]], bytes_max: int) -> int:
    """Return the last seqno of the first bytes; `rows` are seqnos and sizes of mutations."""
    sizes = np.cumsum([size for _, size in rows])
    return rows[min(int(np.searchsorted(sizes, bytes_max)), len(rows) - 1)][0]


def _row(entry: Entry, seal: Seal | None) -> tuple[Field, ...]:
    """Return the row of an entry; a record with a seal is in its file."""
    fields: tuple[Field, ...] = (
        entry.seqno,
        entry.mutation_id,
        entry.accepted_at,
        entry.record.size,
        bytes(entry.record) if seal is None else None,
        None if seal is None else seal.size,
        None if seal is None else seal.checksum,
    )
    return (*fields, checksum(*fields))
