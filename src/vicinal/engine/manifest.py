"""The manifest of one index and the tombstones of its segments, as rows of its database.

Both always describe the index as of `Manifest.sealed_seqno`. When they are written, and in which
transaction, is for `log` to say.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from vicinal.errors import Corruption
from vicinal.model import BEFORE_ANY, Mask, Seqno
from vicinal.segment.format import NumberedIndex, SegmentRecord
from vicinal.storage.sqlite import checksum

FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """The durable state of an index but for the mutations in the log.

    `dead_counts` has an entry for each segment with tombstones. Times are microseconds
    since the epoch, UTC. `logged_seqno` was in the log when the manifest was written: the log
    never ends before it.
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


def load(connection: sqlite3.Connection, path: Path) -> Manifest:
    """Return the manifest in the database at `path`.

    Raises:
        Corruption: it is missing, damaged or of another format.
    """
    row = connection.execute("SELECT document, checksum FROM manifest").fetchone()
    if row is None or checksum(row[0]) != row[1]:
        raise Corruption(f"the manifest in {path} is missing or damaged")
    try:
        manifest = msgspec.json.decode(row[0], type=Manifest)
    except msgspec.MsgspecError as error:
        raise Corruption(f"the manifest in {path} cannot be read: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise Corruption(
            f"{path} is of format {manifest.format_version}, "
            f"this version reads format {FORMAT_VERSION}"
        )
    return manifest


def store_tombstones(connection: sqlite3.Connection, live: Mapping[int, Mask]) -> None:
    """Replace all tombstones; `live` has the mask of each segment, by its number."""
    connection.execute("DELETE FROM tombstone")
    for number, mask in live.items():
        if not mask.all():
            bitmap = np.packbits(~mask, bitorder="little").tobytes()
            connection.execute(
                "INSERT INTO tombstone VALUES (?, ?, ?)",
                (number, bitmap, checksum(number, bitmap)),
            )


def store(connection: sqlite3.Connection, manifest: Manifest) -> None:
    """Replace the manifest."""
    document = msgspec.json.encode(manifest)
    connection.execute(
        "INSERT OR REPLACE INTO manifest VALUES (0, ?, ?)", (document, checksum(document))
    )


def load_live_rows(
    connection: sqlite3.Connection, path: Path, manifest: Manifest, segment: SegmentRecord
) -> Mask:
    """Return the mask of a segment's rows that were alive at `Manifest.sealed_seqno`.

    Raises:
        Corruption: its tombstones are damaged.
    """
    expected = manifest.dead_counts.get(segment.number, 0)
    row = connection.execute(
        "SELECT bitmap, checksum FROM tombstone WHERE segment = ?", (segment.number,)
    ).fetchone()
    bitmap, written = row or (b"", checksum(segment.number, b""))
    dead = np.zeros(segment.row_count, np.bool_)
    if checksum(segment.number, bitmap) == written and bitmap:
        bits = np.frombuffer(bitmap, np.uint8)
        dead = np.unpackbits(bits, count=segment.row_count, bitorder="little").astype(np.bool_)
    if int(np.count_nonzero(dead)) != expected:
        raise Corruption(f"the tombstones of segment {segment.number} in {path} are damaged")
    return ~dead
