"""Backfilling a metadata index: columns of the rows that are older than it.

Columns are made before the creation is logged, from snapshots and without the state's lock, while
writes go on:

    advance   again and again: columns of segments that are new, and of rows appended meanwhile
    log       the creation, behind all that was written meanwhile
    apply     under the state's lock: the columns are put in place, and those of the few rows made
              that no snapshot had

So a query sees either all rows in the index or no index, and a crash before the creation is logged
leaves nothing of it. Rows and segments never change; a segment that was merged meanwhile is a new
one. Dead rows are indexed as well. It may be interrupted.
"""

from collections.abc import Callable, Mapping

from vicinal import interruption
from vicinal.engine.snapshot import Snapshot
from vicinal.model import CreateMetadataIndex, MetadataIndex, Mutation
from vicinal.segment import build
from vicinal.segment import format as layout
from vicinal.segment.base import View
from vicinal.segment.columns import Column, SealedColumn
from vicinal.segment.growing import BackfilledColumns
from vicinal.segment.memtable import Memtable, MemtableView
from vicinal.segment.segment import SegmentView

ROWS_FEW = 1_000  # are left for the state's lock: some 50 ms for texts; ours
ADVANCES_MAX = 8  # ours: a next one has what was written during the one before

_PART_ROWS = 1_000  # of a memtable, between two looks whether to go on; ours


class Backfill:
    """The columns of one metadata index that is created with backfill. Used by one thread at a
    time.

    Args:
        string_bytes_max: Bytes of a string that are indexed.
    """

    def __init__(self, metadata_index: MetadataIndex, *, string_bytes_max: int) -> None:
        self.metadata_index = metadata_index
        self._string_bytes_max = string_bytes_max
        self._segments: dict[int, Mapping[str, SealedColumn | None]] = {}
        self._memtables: dict[Memtable, BackfilledColumns] = {}

    def advance(self, snapshot: Snapshot) -> int:
        """Make the columns of a newer snapshot that are not there yet; return of how many rows."""
        name = self.metadata_index.property_name
        is_there = self.metadata_index in snapshot.metadata_indexes
        if is_there and all(is_complete(view, name) for view in snapshot.views):
            return 0
        segments, self._segments = self._segments, {}
        memtables, self._memtables = self._memtables, {}
        row_count = 0
        for view in interruption.parts(snapshot.views):
            if isinstance(view, MemtableView):
                columns = memtables.get(view.memtable) or self._begun()
                row_count += self._extend(columns, view)
                self._memtables[view.memtable] = columns
            elif isinstance(view, SegmentView):
                number = view.segment.record.number
                if is_there and is_complete(view, name):
                    continue  # other rows are older than the index
                if number not in segments:
                    row_count += len(view.live)
                self._segments[number] = segments.get(number) or self._made(view)
        return row_count

    def columns_of_segment(self, view: SegmentView) -> Mapping[str, SealedColumn | None]:
        """Return the columns of a segment, by key; those not there yet are made now."""
        return self._segments.get(view.segment.record.number) or self._made(view)

    def columns_of_memtable(self, memtable: Memtable) -> BackfilledColumns:
        """Return the columns of the first rows of a memtable, to be extended by its thread."""
        return self._memtables.pop(memtable, None) or self._begun()

    def _begun(self) -> BackfilledColumns:
        return BackfilledColumns(self.metadata_index, string_bytes_max=self._string_bytes_max)

    def _extend(self, columns: BackfilledColumns, view: MemtableView) -> int:
        first, end = columns.row_count, len(view.live)
        for start in interruption.parts(range(first, end, _PART_ROWS)):
            columns.extend(view.metadata_between(start, min(start + _PART_ROWS, end)))
        return max(0, end - first)

    def _made(self, view: SegmentView) -> Mapping[str, SealedColumn | None]:
        columns = layout.columns_of(layout.NumberedIndex(0, self.metadata_index))
        return {column.key: self._made_column(view, column) for column in columns}

    def _made_column(self, view: SegmentView, indexed: layout.IndexedColumn) -> SealedColumn | None:
        column = build.backfill(
            view,
            indexed.index,
            string_bytes_max=self._string_bytes_max,
            has_elements=indexed.has_elements,
        )
        has_no_key = isinstance(column, Column) and not len(column.keys)
        return None if indexed.has_elements and has_no_key else column


def backfill_of(
    mutation: Mutation,
    current: Callable[[], Snapshot],
    *,
    string_bytes_max: int,
) -> Backfill | None:
    """Make the columns that a mutation asks for, of nearly all rows; None if it asks for none.

    Args:
        current: Returns the newest snapshot.
        string_bytes_max: As for `Backfill`.
    """
    if not isinstance(mutation, CreateMetadataIndex) or not mutation.backfill:
        return None
    backfill = Backfill(mutation.metadata_index, string_bytes_max=string_bytes_max)
    for _ in range(ADVANCES_MAX):
        if backfill.advance(current()) <= ROWS_FEW:
            break
    return backfill


def is_complete(view: View, property_name: str) -> bool:
    """Tell whether a metadata index has indexed every row of a view, dead ones too."""
    if isinstance(view, MemtableView):
        return not view.columns[property_name].uncovered_count
    column = view.columns[property_name]
    assert column is None or isinstance(column, SealedColumn)
    return column is not None and column.is_complete
