"""The opening of an index: from its folder to the state of the last acknowledged mutation.

    1  open the log: SQLite's own recovery, then integrity, checksums, seqnos without gaps
    2  open every segment the manifest names, checking seals and checksums
    3  read the tombstones as of the manifest's seqno
    4  make text columns anew whose terms another version of the analyzer has made
    5  replay the mutations after the manifest's seqno into a fresh memtable
    6  remove orphans: files that the manifest does not name, and mutations that segments have,
       both left by a crash during a seal or merge

Any missing or damaged file stops this index with `Corruption`. Nothing is skipped, and orphans are
removed after everything else has been read: an orphan may be the last copy of damaged data.
"""

import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from vicinal import interruption
from vicinal.engine.log import Entry, Log
from vicinal.engine.manifest import Manifest
from vicinal.engine.state import SealedState, State
from vicinal.errors import Corruption, ResourceExhausted
from vicinal.model import IndexConfig, Insert, Mutation, Upsert
from vicinal.segment import format as layout
from vicinal.segment.segment import Segment, SegmentView

SEGMENTS = "segments"


def open_index(folder: Path, config: IndexConfig, *, string_bytes_max: int) -> tuple[Log, State]:
    """Open the log of the index in `folder`, and return it and the present state.

    Raises:
        Corruption: something is missing or damaged; the message names it.
        Unavailable: another process has it open.
    """
    log = Log(folder)
    try:
        return log, recover(folder, log, config, string_bytes_max=string_bytes_max)
    except BaseException:
        log.close(is_clean=False)
        raise


def recover(folder: Path, log: Log, config: IndexConfig, *, string_bytes_max: int) -> State:
    """Return the present state of the index in `folder`. May be interrupted: nothing has changed.

    Raises:
        Corruption: a file is missing or damaged; the message names it.
    """
    manifest = log.manifest
    views = tuple(
        _view(folder, log, manifest, record, config)
        for record in interruption.parts(manifest.segments)
    )
    sealed = SealedState(
        views,
        manifest.metadata_indexes,
        manifest.next_metadata_index,
        manifest.sealed_seqno,
        manifest.sealed_mutation,
        None if manifest.sealed_at is None else moment(manifest.sealed_at),
    )
    state = State(config, sealed, string_bytes_max=string_bytes_max)
    for entry in interruption.parts(log.entries()):
        mutation = checked(entry, log, config)
        state.apply(entry, mutation, moment(entry.accepted_at))
    remove_orphans(folder / SEGMENTS, manifest)
    with suppress(ResourceExhausted):  # truncated after the next seal instead
        log.truncate()
    log.remove_orphans()
    return state


def remove_orphans(segments: Path, manifest: Manifest) -> None:
    """Remove folders and files in the folder of segments that the manifest does not name."""
    if not segments.is_dir():
        raise Corruption(f"{segments} is missing")
    named = {layout.folder(segments, record.number): record for record in manifest.segments}
    for path in segments.iterdir():
        record = named.get(path)
        if record is None:
            _remove(path)
            continue
        for file in path.iterdir():
            if file.name not in record.components:
                _remove(file)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def moment(microseconds: int) -> datetime:
    """Return the time of a log entry, in UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def microseconds(at: datetime) -> int:
    """Return a time as microseconds since the epoch, as in a log entry."""
    return round(at.timestamp() * 1e6)


def checked(entry: Entry, log: Log, config: IndexConfig) -> Mutation:
    """Return the mutation of an entry, after a check that it fits this index.

    The checksum tells that the bytes are as written, not that they belong to this index.

    Raises:
        Corruption: it is no mutation, or not one of an index with this configuration.
    """
    try:
        mutation = entry.mutation
    except Corruption as error:
        raise Corruption(f"{log.path}: {error}") from error
    if isinstance(mutation, Insert | Upsert):
        values = mutation.batch.values
        if values.shape[1] != config.dimensions:
            raise Corruption(
                f"mutation {entry.seqno} in {log.path} is of {values.shape[1]} dimensions, "
                f"the index has {config.dimensions}"
            )
        if not np.isfinite(values).all():
            raise Corruption(f"mutation {entry.seqno} in {log.path} has values that are no numbers")
    return mutation


def _view(
    folder: Path, log: Log, manifest: Manifest, record: layout.SegmentRecord, config: IndexConfig
) -> SegmentView:
    segment = Segment(folder / SEGMENTS, record, config.metric)
    if segment.dimensions != config.dimensions:
        raise Corruption(
            f"segment {record.number} in {folder} is of {segment.dimensions} dimensions, "
            f"the index has {config.dimensions}"
        )
    columns = segment.metadata_columns(manifest.metadata_indexes)
    return SegmentView.of(segment, log.live_rows(record), columns)
