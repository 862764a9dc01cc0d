"""Writing a segment: from a memtable when it is sealed, from segments when they are merged.

Each function writes a folder of component files under a temporary name, every file
fsynced, and gives it its final name (`storage.files.publish`). Nothing refers to the
folder until the manifest names it: a crash before that leaves an orphan, which the next start
removes.

Values and metadata are copied in chunks, and a merge makes one column after the other. The rows'
index takes the most memory, so it is built when all else is written: what a merge has written it
holds no longer.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal import interruption, metadata
from vicinal.ann.exact import ExactIndex
from vicinal.model import Floats, IndexType, MetadataIndex, Metric, Ordinals
from vicinal.segment import format as layout
from vicinal.segment import row_index
from vicinal.segment.binary_column import BinaryColumn, Bytes, Offsets, gathered_offsets
from vicinal.segment.columns import Column, SealedColumn, merged, sealed_values
from vicinal.segment.format import NumberedIndex
from vicinal.segment.ids import IdTable
from vicinal.segment.memtable import MemtableView
from vicinal.segment.postings import GrowingTextColumn, TextColumn, merged_texts
from vicinal.segment.segment import Segment, SegmentView
from vicinal.storage import files, private
from vicinal.storage.files import ComponentFile, ComponentWriter, Seal

CHUNK_ROWS = 4_096
_CHUNK_BYTES = 512 << 10  # of values; glibc takes larger ones from the system each time


def seal_memtable(
    segments: Path,
    number: int,
    view: MemtableView,
    indexes: Sequence[NumberedIndex],
    metric: Metric,
    parameters: object | None = None,
) -> tuple[layout.SegmentRecord, Ordinals]:
    """Write the live rows of a memtable as segment `number`.

    Its index uses `parameters`, which are those of an older segment, where there are any; a merge
    measures them anew.

    Returns:
        The segment's record for the manifest, and the memtable row of each of its rows.
    """
    rows = np.flatnonzero(view.live)
    namespaces, by_key = view.sealed_columns(rows)
    columns = {
        column.component: by_key[column.key]
        for index in indexes
        for column in layout.columns_of(index)
        if column.key in by_key
    }
    documents = BinaryColumn.of(view.metadata(rows))
    components = _write_rows(
        _unfinished(layout.folder(segments, number)),
        ids=IdTable.arrays(view.ids(rows)),
        metadata_offsets=documents.offsets,
        metadata_chunks=[documents.data],
        values=[(view, rows)],
        namespaces=namespaces,
        columns=columns.items(),
    )
    return _finished(segments, number, len(rows), components, metric, parameters), rows


def merge(
    segments: Path,
    number: int,
    views: Sequence[SegmentView],
    indexes: Sequence[NumberedIndex],
    metric: Metric,
) -> tuple[layout.SegmentRecord, list[Ordinals]]:
    """Write the live rows of several segments as segment `number`, in the order given.

    A metadata index that is younger than some of the rows has a column all the same: those rows
    lack a value in it, as before. This and `seal_memtable` may be interrupted; their caller removes
    what they have written.

    Returns:
        The segment's record for the manifest, and for each view its rows in the segment, in order.
    """
    kept = [np.flatnonzero(view.live) for view in views]
    folder = _unfinished(layout.folder(segments, number))
    components = _write_merged(folder, list(zip(views, kept, strict=True)), indexes)
    return _finished(segments, number, sum(map(len, kept)), components, metric), kept


def _write_merged(
    folder: Path, parts: Sequence[tuple[SegmentView, Ordinals]], indexes: Sequence[NumberedIndex]
) -> dict[str, Seal]:
    """Write all but the index of the given rows of several segments."""
    columns = (
        (
            column.component,
            merged_column(column, [(view.columns[column.key], rows) for view, rows in parts]),
        )
        for index in indexes
        for column in layout.columns_of(index)
        if not column.has_elements or any(view.columns[column.key] for view, _ in parts)
    )
    documents = [(view.segment.all_metadata(), rows) for view, rows in parts]
    return _write_rows(
        folder,
        ids=IdTable.merged([(view.segment.ids, rows) for view, rows in parts]),
        metadata_offsets=gathered_offsets(documents),
        metadata_chunks=(chunk for column, rows in documents for chunk in column.chunks(rows)),
        values=[(view.segment, rows) for view, rows in parts],
        namespaces=merged(
            parts[0][0].segment.namespaces.index_type,
            ((view.segment.namespaces, rows) for view, rows in parts),
        ),
        columns=columns,
    )


def merged_column(
    column: layout.IndexedColumn, parts: Sequence[tuple[SealedColumn | None, Ordinals]]
) -> SealedColumn:
    """Return one column of the given rows of several segments' columns of a metadata index."""
    if column.index.index_type is IndexType.TEXT:
        return merged_texts([(_text(part), rows) for part, rows in parts])
    return merged(
        column.index.index_type,
        ((sealed_values(part), rows) for part, rows in parts),
        is_indexed=not column.has_elements,
    )


def _text(column: SealedColumn | None) -> TextColumn | None:
    assert column is None or isinstance(column, TextColumn)
    return column


def backfill(
    view: SegmentView,
    metadata_index: MetadataIndex,
    *,
    string_bytes_max: int,
    has_elements: bool = False,
) -> SealedColumn:
    """Return a column of a metadata index that is younger than the segment, from its metadata.

    With `has_elements` the column of arrays' strings.
    """
    if metadata_index.index_type is IndexType.TEXT:
        return _backfilled_texts(view, metadata_index)
    keys: dict[str | float | bool, int] = {}
    codes = np.full(len(view.live), -1, np.int32)
    value: str | float | bool | None
    for chunk in _chunks(np.arange(len(view.live))):
        for row, encoded in zip(chunk.tolist(), view.metadata(chunk), strict=True):
            if has_elements and b"[" not in encoded:
                continue
            document = metadata.decode(encoded)
            if has_elements:
                value = metadata.indexed_elements(
                    document, metadata_index.property_name, string_bytes_max=string_bytes_max
                )
            else:
                value = metadata.indexed_value(
                    document, metadata_index, string_bytes_max=string_bytes_max
                )
            if value is not None:
                codes[row] = keys.setdefault(value, len(keys))
    uncovered = None if has_elements else np.empty(0, np.int64)
    return Column.of(metadata_index.index_type, list(keys), codes, uncovered)


def _backfilled_texts(view: SegmentView, metadata_index: MetadataIndex) -> TextColumn:
    growing = GrowingTextColumn(metadata_index.language)
    rows = np.arange(len(view.live))
    for chunk in _chunks(rows):
        growing.extend(
            metadata.texts(metadata.decode(encoded), metadata_index.property_name)
            for encoded in view.metadata(chunk)
        )
    return growing.sealed(rows)


def write_column(segments: Path, number: int, name: str, column: SealedColumn) -> Seal:
    """Add a column, as the component `name`, to a segment that is already in place."""
    folder = layout.folder(segments, number)
    temporary = folder / f"{name}.tmp"
    temporary.unlink(missing_ok=True)
    seal = files.write(temporary, name, column.arrays())
    files.publish(temporary, folder / name)
    return seal


def remove(segments: Path, number: int) -> None:
    """Remove a segment's folder, finished or not, that the manifest does not name.

    An orphan that cannot be removed stays for the next start.
    """
    folder = layout.folder(segments, number)
    for path in (folder, _unfinished(folder)):
        shutil.rmtree(path, ignore_errors=True)


def _unfinished(folder: Path) -> Path:
    return folder.with_suffix(".tmp")


def _write_rows(
    folder: Path,
    *,
    ids: Mapping[str, NDArray[Any]],
    metadata_offsets: Offsets,
    metadata_chunks: Iterable[Bytes],
    values: Sequence[tuple[MemtableView | Segment, Ordinals]],
    namespaces: Column,
    columns: Iterable[tuple[str, SealedColumn]],
) -> dict[str, Seal]:
    """Write all but the rows' index into a new folder; columns are taken one after the other."""
    shutil.rmtree(folder, ignore_errors=True)
    private.make_folder(folder)
    row_count = len(metadata_offsets) - 1
    components = {
        layout.VALUES: _write_values(folder / layout.VALUES, values, row_count),
        layout.IDS: files.write(folder / layout.IDS, layout.IDS, ids),
        layout.METADATA: _write_metadata(
            folder / layout.METADATA, metadata_offsets, metadata_chunks
        ),
        layout.NAMESPACES: files.write(
            folder / layout.NAMESPACES, layout.NAMESPACES, namespaces.arrays()
        ),
    }
    for name, column in interruption.parts(columns):
        components[name] = files.write(folder / name, name, column.arrays())
    return components


def _finished(
    segments: Path,
    number: int,
    row_count: int,
    components: Mapping[str, Seal],
    metric: Metric,
    parameters: object | None = None,
) -> layout.SegmentRecord:
    """Build and write the index of the rows whose components are written, and publish all."""
    final = layout.folder(segments, number)
    folder = _unfinished(final)
    rows = ComponentFile(folder / layout.VALUES, layout.VALUES, components[layout.VALUES])
    exact = ExactIndex(rows.unverified_array("values"), rows["norms"], metric)
    built = row_index.build(exact, parameters)
    interruption.point()
    if built is not None:
        kind, arrays = built
        name = kind.component
        components = {**components, name: files.write(folder / name, name, arrays)}
    files.publish(folder, final)
    return layout.SegmentRecord(number, row_count, components)


def _write_values(
    path: Path, parts: Sequence[tuple[MemtableView | Segment, Ordinals]], row_count: int
) -> Seal:
    with ComponentWriter(path, layout.VALUES) as writer:
        shape = (row_count, parts[0][0].dimensions)
        writer.add_chunks(
            "values",
            np.float32,
            shape,
            interruption.parts(chunk for part in parts for chunk in _values(*part)),
        )
        writer.add("norms", np.concatenate([view.norms(rows) for view, rows in parts]))
    return writer.seal


def _values(view: MemtableView | Segment, rows: Ordinals) -> Iterator[Floats]:
    """Yield the values of ascending rows, chunk by chunk; adjacent rows are not copied."""
    count = max(_CHUNK_BYTES // (view.dimensions * 4), 1)
    for at in range(0, len(rows), count):
        chunk = rows[at : at + count]
        first, last = int(chunk[0]), int(chunk[-1])
        if last - first == len(chunk) - 1:
            yield view.values_between(first, last + 1)
        else:
            yield view.values(chunk)


def _write_metadata(path: Path, offsets: Offsets, chunks: Iterable[Bytes]) -> Seal:
    with ComponentWriter(path, layout.METADATA) as writer:
        writer.add("offsets", offsets)
        writer.add_chunks("bytes", np.uint8, (int(offsets[-1]),), interruption.parts(chunks))
    return writer.seal


def _chunks(rows: Ordinals) -> Iterator[Ordinals]:
    starts = interruption.parts(range(0, len(rows), CHUNK_ROWS))
    return (rows[start : start + CHUNK_ROWS] for start in starts)
