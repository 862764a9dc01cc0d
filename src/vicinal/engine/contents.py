"""All that an index holds, as the mutations that make another one like it.

Vectors come in batches; the metadata indexes stand between them, so that each of them has in the
other index the vectors that it has in this one: those written after its creation, or all of them by
backfill. Everything is of one moment. After each mutation there is a cursor to go on from.

Who copies an index (`moving`) needs no more of an engine than `HasContents`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from vicinal import metadata
from vicinal.engine.base import Engine
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadCursor, Corruption
from vicinal.model import (
    CreateMetadataIndex,
    IndexAddress,
    IndexType,
    MetadataIndex,
    Ordinals,
    Upsert,
    VectorBatch,
)
from vicinal.segment.base import View
from vicinal.segment.columns import LACKING, GrowingColumn
from vicinal.segment.postings import GrowingTextColumn, TextColumn

BATCH_BYTES = 8 << 20  # of values in one mutation; ours
BATCH_ROWS = 5_000  # what one request may carry in every profile of limits
_DECODED_ROWS = 4_096  # documents of metadata that are read at one time; ours

Generations = NDArray[np.int16]


class Contents(Protocol):
    """The contents of one index at one moment, from a cursor on.

    Attributes:
        moment: Text that is the same only for the same state of the index.
        vector_count: Number of vectors of that state, also of those before the cursor.
    """

    moment: str
    vector_count: int

    def mutations(self) -> Iterator[tuple[Upsert | CreateMetadataIndex, str | None]]:
        """Yield mutations, and the cursor after each of them that has one.

        No id comes twice. A metadata index may be created again that was before the cursor.
        """
        ...


class HasContents(Engine, Protocol):
    """An engine whose indexes can be read whole."""

    def addresses(self) -> Sequence[IndexAddress]:
        """Return the addresses of the indexes of all accounts, oldest first; also of those that
        cannot be read, so that they can be named."""
        ...

    def contents(
        self, address: IndexAddress, cursor: str | None = None
    ) -> AbstractContextManager[Contents]:
        """Return the contents after a cursor, None for all; open for the duration of the block.

        Raises:
            BadCursor: the cursor is of another state: read from the beginning.
        """
        ...


def rows_at_once(dimensions: int) -> int:
    """Return the number of vectors of one batch."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES // (4 * dimensions)))


@dataclass(frozen=True, slots=True)
class _LiveRows:
    """The live rows of a view, and for each the metadata indexes that are older than it."""

    view: View
    rows: Ordinals
    generations: Generations | None
    """None: every vector is in every metadata index that has its property."""
    partial: frozenset[int]
    """The numbers of the metadata indexes that lack a vector which has their property."""


class SnapshotContents:
    """The contents of a snapshot.

    A cursor counts vectors in the order of the views, so it holds while these are what they were:
    it names their layout, too.
    """

    def __init__(
        self, snapshot: Snapshot, dimensions: int, string_bytes_max: int, cursor: str | None
    ) -> None:
        self.moment = f"{snapshot.applied_seqno}:{snapshot.applied_mutation}"
        self.vector_count = snapshot.vector_count
        self._snapshot = snapshot
        self._batch_rows = rows_at_once(dimensions)
        self._string_bytes_max = string_bytes_max
        self._layout = _layout(snapshot)
        self._skipped_count = 0
        if cursor is not None:
            layout, _, count = cursor.partition(".")
            if layout != self._layout or not count.isdecimal():
                raise BadCursor("the segments of the index have changed since this cursor")
            self._skipped_count = int(count)

    def mutations(self) -> Iterator[tuple[Upsert | CreateMetadataIndex, str | None]]:
        """See `Contents`.

        Raises:
            Corruption: a file is damaged, or holds what none can.
        """
        try:
            yield from self._mutations()
        except (IndexError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            raise Corruption(f"the index cannot be read: {error}") from error

    def _mutations(self) -> Iterator[tuple[Upsert | CreateMetadataIndex, str | None]]:
        indexes = self._snapshot.metadata_indexes
        parts = [self._part(view) for view in self._snapshot.views]
        has_older = any(part.generations is not None for part in parts)
        partial = {number for part in parts for number in part.partial}
        count = 0
        for generation in range(len(indexes) + 1):
            if has_older or generation == len(indexes):
                for part in parts:
                    rows = self._of_generation(part, generation)
                    first = min(max(self._skipped_count - count, 0), len(rows))
                    count += first
                    for start in range(first, len(rows), self._batch_rows):
                        chunk = rows[start : start + self._batch_rows]
                        count += len(chunk)
                        yield Upsert(_batch(part.view, chunk)), f"{self._layout}.{count}"
            if generation < len(indexes):
                is_backfilled = has_older and generation not in partial
                yield CreateMetadataIndex(indexes[generation], is_backfilled), None

    def _of_generation(self, part: _LiveRows, generation: int) -> Ordinals:
        if part.generations is not None:
            rows: Ordinals = part.rows[part.generations == generation]
            return rows
        is_last = generation == len(self._snapshot.metadata_indexes)
        return part.rows if is_last else part.rows[:0]

    def _part(self, view: View) -> _LiveRows:
        """Find out which metadata indexes are younger than which rows.

        A row that has a property and no value in its column is older than the metadata index, and
        younger than all in which it has one.
        """
        rows = np.flatnonzero(view.live)
        indexes = self._snapshot.metadata_indexes
        codes = [_codes(view, index) for index in indexes]
        doubtful = np.zeros(len(rows), np.bool_)
        for of_column in codes:
            doubtful |= True if of_column is None else of_column[rows] == LACKING
        generations = np.full(len(rows), len(indexes), np.int16)
        partial: set[int] = set()
        positions = np.flatnonzero(doubtful)
        for start in range(0, len(positions), _DECODED_ROWS):
            chunk = positions[start : start + _DECODED_ROWS]
            for position, raw in zip(chunk.tolist(), view.metadata(rows[chunk]), strict=True):
                document = metadata.decode(raw)
                lacking = [
                    number
                    for number, (index, of_column) in enumerate(zip(indexes, codes, strict=True))
                    if (of_column is None or of_column[rows[position]] == LACKING)
                    and self._has_value(document, index)
                ]
                if lacking:
                    generations[position] = lacking[0]
                    partial.update(lacking)
        return _LiveRows(view, rows, generations if partial else None, frozenset(partial))

    def _has_value(self, document: dict[str, object], index: MetadataIndex) -> bool:
        if index.index_type is IndexType.TEXT:
            return bool(metadata.texts(document, index.property_name))
        value = metadata.indexed_value(document, index, string_bytes_max=self._string_bytes_max)
        return value is not None


def _codes(view: View, index: MetadataIndex) -> NDArray[np.int32] | None:
    column = view.columns[index.property_name]
    if column is None:
        return None
    if isinstance(column, TextColumn | GrowingTextColumn):
        return np.where(column.is_indexed(len(view.live)), 0, LACKING).astype(np.int32)
    return column.codes(len(view.live)) if isinstance(column, GrowingColumn) else column.codes


def _layout(snapshot: Snapshot) -> str:
    shapes = [(view.name, len(view.live), view.live_count) for view in snapshot.views]
    text = repr((snapshot.applied_seqno, snapshot.applied_mutation, shapes))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _batch(view: View, rows: Ordinals) -> VectorBatch:
    return VectorBatch(
        view.ids(rows), view.values(rows), view.namespaces(rows), view.metadata(rows)
    )
