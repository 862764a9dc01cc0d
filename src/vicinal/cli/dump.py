"""``vicinal dump``: what is in the files of a data folder, read as the engine reads them.

    a data folder       the indexes of its catalog, and their folders
    an index's folder   manifest, segments and the log of mutations that no segment holds
    a segment's folder  the component files and their arrays, then rows

All data that is shown has passed its checksums; damaged files are named instead. Nothing is
changed, but SQLite lets one process at a time have its files: stop the server first.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np

from vicinal.cli import show
from vicinal.engine import catalog, log
from vicinal.engine.catalog import Catalog
from vicinal.engine.log import Log
from vicinal.engine.manifest import Manifest
from vicinal.engine.recovery import SEGMENTS
from vicinal.errors import Unavailable
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    Insert,
    Metric,
    Mutation,
    Upsert,
)
from vicinal.segment import format as layout
from vicinal.segment.format import SegmentRecord
from vicinal.segment.segment import Segment
from vicinal.storage.files import ComponentFile

_VALUES_SHOWN = 4
_IDS_SHOWN = 3


@click.command("dump")
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many mutations or rows to show.",
)
@show.json_option
def command(path: Path, rows: int, as_json: bool) -> None:
    """Show what is in PATH: a data folder, the folder of an index, or that of a segment.

    All rows that are shown have passed their checksums. Stop the server first: it has the files.
    """
    shown = show.Sections(as_json=as_json)
    try:
        if (path / catalog.FILE_NAME).exists():
            _dump_catalog(path, shown)
        elif (path / log.FILE_NAME).exists():
            _dump_index(path, rows, shown)
        elif path.parent.name == SEGMENTS and (path.parent.parent / log.FILE_NAME).exists():
            _dump_segment(path, rows, shown)
        else:
            raise click.ClickException(
                f"{path} is neither a data folder nor the folder of an index or a segment"
            )
    except Unavailable as error:
        raise click.ClickException(f"{error}; if a server has it open, stop that first") from error
    shown.finish()


def _dump_catalog(folder: Path, shown: show.Sections) -> None:
    with closing(Catalog(folder)) as opened:
        entries, unreadable = opened.all(), opened.unreadable()
    shown.add(
        "indexes",
        ("account", "index", "dimensions", "metric", "preset", "created", "folder"),
        [
            (
                entry.address.account,
                entry.address.name,
                entry.index.config.dimensions,
                entry.index.config.metric.value,
                entry.index.config.preset or "",
                entry.index.created_at.isoformat(),
                str(folder / "indexes" / entry.folder),
            )
            for entry in entries
        ],
        plain=("dimensions",),
    )
    for row in unreadable:
        show.note(row.damage)


def _dump_index(folder: Path, rows: int, shown: show.Sections) -> None:
    with _log(folder) as opened:
        manifest = opened.manifest
        _show_manifest(manifest, shown)
        _show_segments(manifest, shown)
        entries = list(opened.entries())
    shown.add(
        "log",
        ("seqno", "mutation", "accepted", "bytes", "what"),
        [
            (
                entry.seqno,
                entry.mutation_id,
                _time(entry.accepted_at),
                entry.record.size,
                _described(entry.mutation),
            )
            for entry in entries[:rows]
        ],
        plain=("seqno",),
        heading=f"\nlog: {len(entries):,} mutations that no segment holds",
    )
    _show_rest(len(entries), rows)


def _show_manifest(manifest: Manifest, shown: show.Sections) -> None:
    indexed = [
        f"{entry.number} {entry.metadata_index.property_name} ({entry.metadata_index.type_name})"
        for entry in manifest.metadata_indexes
    ]
    shown.add(
        "manifest",
        ("manifest", "value"),
        [
            ("format version", str(manifest.format_version)),
            ("sealed seqno", str(manifest.sealed_seqno)),
            ("sealed mutation", manifest.sealed_mutation or "none"),
            ("sealed at", "never" if manifest.sealed_at is None else _time(manifest.sealed_at)),
            ("logged seqno, at least", str(manifest.logged_seqno)),
            ("metadata indexes", ", ".join(indexed) or "none"),
            ("next segment", str(manifest.next_segment)),
            ("next metadata index", str(manifest.next_metadata_index)),
        ],
    )


def _show_segments(manifest: Manifest, shown: show.Sections) -> None:
    shown.add(
        "segments",
        ("number", "rows", "dead", "bytes", "components"),
        [
            (
                segment.number,
                segment.row_count,
                manifest.dead_counts.get(segment.number, 0),
                sum(seal.size for seal in segment.components.values()),
                ", ".join(segment.components),
            )
            for segment in manifest.segments
        ],
        plain=("number",),
        heading=f"\nsegments: {len(manifest.segments)}",
    )


def _dump_segment(folder: Path, rows: int, shown: show.Sections) -> None:
    segments = folder.parent
    with _log(segments.parent) as opened:
        record = _record(opened.manifest, folder)
        live = opened.live_rows(record)
    _show_components(folder, record, shown)
    segment = Segment(segments, record, Metric.EUCLIDEAN)  # nothing is measured here
    some = np.arange(min(rows, record.row_count))
    values, metadata = segment.values(some), segment.metadata(some)
    shown.add(
        "rows",
        ("row", "state", "id", "namespace", "values", "metadata"),
        [
            (
                row,
                "" if live[row] else "dead",
                segment.ids[row],
                str(segment.namespaces.value(row) or ""),
                _start_of(values[row].tolist()),
                metadata[row].decode(),
            )
            for row in some.tolist()
        ],
        plain=("row",),
        heading=f"\nrows: {record.row_count:,}, {np.count_nonzero(~live):,} of them dead",
    )
    _show_rest(record.row_count, rows)


def _show_components(folder: Path, record: SegmentRecord, shown: show.Sections) -> None:
    lines = []
    for name, seal in record.components.items():
        file = ComponentFile(folder / name, name, seal)
        file.verify_all()
        arrays = [(name, file.unverified_array(name)) for name in file]
        described = [f"{name} {array.dtype}{list(array.shape)}" for name, array in arrays]
        lines.append((name, seal.size, ", ".join(described)))
    shown.add("components", ("component", "bytes", "arrays"), lines, heading="every checksum holds")


def _record(manifest: Manifest, folder: Path) -> SegmentRecord:
    for record in manifest.segments:
        if layout.folder(folder.parent, record.number).name == folder.name:
            return record
    raise click.ClickException(f"the manifest names no segment {folder.name}: it is a stray")


@contextmanager
def _log(folder: Path) -> Iterator[Log]:
    opened = Log(folder)
    try:
        yield opened
    finally:
        opened.close(is_clean=False)  # which writes nothing


def _described(mutation: Mutation) -> str:
    match mutation:
        case Insert(batch) | Upsert(batch):
            verb = "insert" if isinstance(mutation, Insert) else "upsert"
            return f"{verb} {len(batch):,} vectors: {_start_of(list(batch.ids), _IDS_SHOWN)}"
        case Delete(ids):
            return f"delete {len(ids):,} ids: {_start_of(list(ids), _IDS_SHOWN)}"
        case CreateMetadataIndex(index, backfill):
            filled = ", with backfill" if backfill else ""
            return f"create metadata index {index.property_name} ({index.type_name}){filled}"
        case DeleteMetadataIndex(property_name):
            return f"drop metadata index {property_name}"


def _start_of(items: list[str] | list[float], count: int = _VALUES_SHOWN) -> str:
    shown = ", ".join(item if isinstance(item, str) else f"{item:.6g}" for item in items[:count])
    return shown + (", ..." if len(items) > count else "")


def _show_rest(count: int, shown: int) -> None:
    if count > shown:
        show.note(f"{count - shown:,} more; --rows shows more")


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat()
