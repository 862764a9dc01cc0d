"""The log and the manifest of one index: what is durable, in one SQLite file and what it vouches
for.

    mutation    every acknowledged mutation that no segment holds yet, by seqno; of a long one
                the record is in a file of its own (`blob_files`)
    manifest    one row: which segments and metadata indexes there are, and up to which
                seqno they contain the log (`Manifest`)
    tombstone   which rows of a segment were dead at that seqno, as a bitmap

A mutation is acknowledged when the transaction that holds it has committed; several
share one (group commit). A segment exists when a transaction has put it into the
manifest: **that commit is the only commit point**. Tombstones and manifest change in the
same transaction and always describe the index as of `Manifest.sealed_seqno`; replaying
the mutations after it gives the present.

Mutations a segment holds are removed afterwards, in steps, so that a long removal does
not hold up commits; opening ignores and removes what a crash left of them.

Rows carry checksums and seqnos have no gaps. So that no damage at the end passes for a
shorter history either, the manifest notes the last seqno, a commit of the manifest is
followed by a checkpoint into the database, where all damage is noticed, and the file
`acknowledged` keeps a watermark (`storage.watermark`) that a killed process leaves behind.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from vicinal.engine import blob_files, records
from vicinal.engine.blob_files import BlobFiles, BlobWriter
from vicinal.engine.records import LogRecord
from vicinal.errors import Corruption, ResourceExhausted, Unavailable
from vicinal.model import BEFORE_ANY, Mask, Mutation, Seqno
from vicinal.segment.build import NumberedIndex
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

FORMAT_VERSION = 2
FILE_NAME = "index.db"
WATERMARK_NAME = "acknowledged"

_TRUNCATED_BYTES_MAX = 4 << 20  # removed in one transaction; about 10 ms

_SCHEMA = """
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
class Manifest:
    """Everything about an index that is not a mutation still in the log.

    `dead_counts` has an entry for each segment with tombstones. Times are microseconds
    since the epoch, UTC. `logged_seqno` is a seqno that was in the log when this was
    written: the log can never end before it.
    """

    format_version: int = FORMAT_VERSION
    segments: tuple[SegmentRecord, ...] = ()
    dead_counts: Mapping[int, int] = field(default_factory=dict)
    next_segment: int = 1
    metadata_indexes: tuple[NumberedIndex, ...] = ()
    next_metadata_index: int = 1
    sealed_seqno: Seqno = BEFORE_ANY
    sealed_mutation: str | None = None
    sealed_at: int | None = None
    logged_seqno: Seqno = BEFORE_ANY


@dataclass(frozen=True, slots=True)
class Draft:
    """A mutation on its way into the log. `blob` has the record in its file already, if given."""

    mutation_id: str
    record: LogRecord
    blob: BlobWriter | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A mutation in the log.

    `accepted_at` is microseconds since the epoch. `file` is the one that the record is in, if it
    is long; values begin at `segment.room.FILE_OFFSET`.
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
            Corruption: the record holds none.
        """
        try:
            return records.decode(self.record)
        except Corruption as error:
            raise Corruption(f"mutation {self.seqno} {error}") from error


class Log:
    """An open log. Any thread may call any method; they take turns.

    Every method but `close` may raise:

    Raises:
        Corruption: rows are damaged or missing.
        ResourceExhausted: the disk is full, or too many files are open. What was to be written
            is not, and the log goes on.
        Unavailable: another process has the file, or the disk does not answer. After a
            write nothing can be said of what it wrote until the log is opened again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.Lock()
        with ExitStack() as opened, translating(self.path):
            self._connection = open_database(self.path, _SCHEMA, create=False)
            opened.callback(self._connection.close)
            self._watermark = Watermark(folder / WATERMARK_NAME)
            opened.callback(self._watermark.close)
            self.manifest = self._read_manifest()
            self.blobs = BlobFiles(folder)
            self.last_seqno = self._check_seqnos(self.manifest)
            opened.pop_all()

    @classmethod
    def create(cls, folder: Path) -> None:
        """Make an empty log in an existing folder."""
        BlobFiles.create(folder)
        connection = open_database(folder / FILE_NAME, _SCHEMA)
        with transaction(connection):
            _write_manifest(connection, Manifest())
        close_database(connection)

    def append(self, drafts: Sequence[Draft], accepted_at: int) -> list[Entry]:
        """Make mutations durable in one transaction; return their entries, in the same order."""
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
                with suppress(OSError):  # a file in the way of the next is written over
                    self.blobs.remove(entry.seqno for entry in entries)
                for draft in drafts:
                    if draft.blob is not None:
                        draft.blob.remove()
                raise
            self.last_seqno = last
        with suppress(OSError):  # an older one is a watermark as well
            self._watermark.write(self.last_seqno)
        return entries

    def entries(self) -> Iterator[Entry]:
        """Yield the mutations that no segment holds, in order. For opening only."""
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
                    record = self._record_of(seqno, raw)
                file = self.blobs.path(seqno) if raw is None else None
                yield Entry(seqno, mutation_id, accepted_at, record, file)

    def verify_files(self, last: Seqno) -> None:
        """Verify the files of mutations up to `last` that no segment holds.

        The memtable is searched in these files, and a copy of them is vouched for anew.
        """
        with self._lock, translating(self.path):
            rows = self._connection.execute(
                "SELECT seqno, file_size, file_checksum FROM mutation "
                "WHERE seqno > ? AND seqno <= ? AND file_size IS NOT NULL ORDER BY seqno",
                (self.manifest.sealed_seqno, last),
            ).fetchall()
        with translating(self.path):
            for seqno, size, file_checksum in rows:
                self.blobs.read(seqno, Seal(size, file_checksum))

    def commit(self, manifest: Manifest, live: Mapping[int, Mask]) -> None:
        """Replace manifest and tombstones in one transaction: the only commit point.

        Args:
            manifest: The new manifest; `dead_counts` and `logged_seqno` are filled in.
            live: For each segment of the manifest the rows alive as of its `sealed_seqno`.
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
                _write_tombstones(self._connection, live)
                _write_manifest(self._connection, manifest)
            self.manifest = manifest
        with self._lock, suppress(ResourceExhausted), translating(self.path):
            checkpoint(self._connection)  # on a full disk with the next commit

    def live_rows(self, segment: SegmentRecord) -> Mask:
        """Return which rows of a segment were alive at `Manifest.sealed_seqno`."""
        expected = self.manifest.dead_counts.get(segment.number, 0)
        with translating(self.path):
            row = self._connection.execute(
                "SELECT bitmap, checksum FROM tombstone WHERE segment = ?", (segment.number,)
            ).fetchone()
        bitmap, found = row or (b"", checksum(segment.number, b""))
        dead = np.zeros(segment.row_count, np.bool_)
        if checksum(segment.number, bitmap) == found and bitmap:
            bits = np.frombuffer(bitmap, np.uint8)
            dead = np.unpackbits(bits, count=segment.row_count, bitorder="little").astype(np.bool_)
        if int(np.count_nonzero(dead)) != expected:
            raise Corruption(
                f"the tombstones of segment {segment.number} in {self.path} are damaged"
            )
        return ~dead

    def truncate(self) -> None:
        """Remove the mutations that segments hold, a few at a time, and then their files."""
        while True:
            with self._lock, translating(self.path), transaction(self._connection):
                rows = self._connection.execute(
                    "SELECT seqno, size FROM mutation WHERE seqno <= ? ORDER BY seqno LIMIT 1000",
                    (self.manifest.sealed_seqno,),
                ).fetchall()
                if not rows:
                    break
                sizes = np.cumsum([size for _, size in rows])
                last = rows[min(int(np.searchsorted(sizes, _TRUNCATED_BYTES_MAX)), len(rows) - 1)][
                    0
                ]
                self._connection.execute("DELETE FROM mutation WHERE seqno <= ?", (last,))
        with self._lock, translating(self.path):
            self.blobs.truncate(self.manifest.sealed_seqno)
            self._connection.execute("PRAGMA shrink_memory")  # its cache of what is gone

    def remove_orphans(self) -> None:
        """Remove what no row names: for opening only, when nothing is on its way."""
        with self._lock, translating(self.path):
            self.blobs.remove_orphans(self.manifest.sealed_seqno, self.last_seqno)

    def close(self, *, is_clean: bool = True) -> None:
        """Note the last seqno and close the file; write nothing if the log has failed.

        Raises:
            sqlite3.Error: the note could not be written; all that was acknowledged is there.
        """
        with self._lock:
            self._watermark.close()
            if not is_clean:
                self._connection.close()
                return
            try:
                with transaction(self._connection):
                    _write_manifest(
                        self._connection, replace(self.manifest, logged_seqno=self.last_seqno)
                    )
            finally:
                close_database(self._connection)

    def _record_of(self, seqno: Seqno, raw: bytes) -> LogRecord:
        try:
            return LogRecord.of(raw)
        except Corruption as error:
            raise Corruption(f"mutation {seqno} in {self.path} {error}") from error

    def _entry(self, seqno: Seqno, mutation_id: str, accepted_at: int, record: LogRecord) -> Entry:
        is_long = record.size >= blob_files.FILE_BYTES_MIN
        return Entry(
            seqno, mutation_id, accepted_at, record, self.blobs.path(seqno) if is_long else None
        )

    def _write_files(self, entries: Sequence[Entry], drafts: Sequence[Draft]) -> dict[Seqno, Seal]:
        """Make the records durable that have files of their own; return the seals of these."""
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
        """Find out whether a transaction is on disk for which the disk was too full.

        Args:
            manifest: What there is after it.
            last: The last seqno after it.

        Raises:
            ResourceExhausted: it is not. If it is, nothing is raised.
            Unavailable: what is there is known when the log is opened again.
        """
        try:
            with translating(self.path):
                yield
        except ResourceExhausted as error:
            try:
                self._connection.close()
                self._connection = open_database(self.path, _SCHEMA, create=False)
                found = self._read_manifest()
                found_last = self._check_seqnos(found)
                if (found, found_last) == (manifest, last):
                    checkpoint(self._connection)  # which syncs it
                    return
            except (Unavailable, sqlite3.Error) as cause:
                raise Unavailable(f"{error}; and then: {cause}") from cause
            if (found, found_last) != (self.manifest, self.last_seqno):
                raise Unavailable(f"{error}; part of what was refused was kept") from error
            raise

    def _read_manifest(self) -> Manifest:
        row = self._connection.execute("SELECT document, checksum FROM manifest").fetchone()
        if row is None or checksum(row[0]) != row[1]:
            raise Corruption(f"the manifest in {self.path} is missing or damaged")
        try:
            manifest = msgspec.json.decode(row[0], type=Manifest)
        except msgspec.MsgspecError as error:
            raise Corruption(f"the manifest in {self.path} cannot be read: {error}") from error
        if manifest.format_version != FORMAT_VERSION:
            raise Corruption(
                f"{self.path} is of format {manifest.format_version}, "
                f"this version reads format {FORMAT_VERSION}"
            )
        return manifest

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


def _write_tombstones(connection: sqlite3.Connection, live: Mapping[int, Mask]) -> None:
    connection.execute("DELETE FROM tombstone")
    for number, mask in live.items():
        if not mask.all():
            bitmap = np.packbits(~mask, bitorder="little").tobytes()
            connection.execute(
                "INSERT INTO tombstone VALUES (?, ?, ?)",
                (number, bitmap, checksum(number, bitmap)),
            )


def _write_manifest(connection: sqlite3.Connection, manifest: Manifest) -> None:
    document = msgspec.json.encode(manifest)
    connection.execute(
        "INSERT OR REPLACE INTO manifest VALUES (0, ?, ?)", (document, checksum(document))
    )


def _row(entry: Entry, seal: Seal | None) -> tuple[Field, ...]:
    """Return the row of an entry, whose record is in a file if there is a seal of it."""
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
