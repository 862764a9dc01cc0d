"""A snapshot: the whole readable state of an index at one moment.

Readers take the newest one from the index and use it without a lock for as long as they
like; writers publish a new one and never touch an old one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np

from vicinal.filters.nodes import Filter, Predicate, predicates
from vicinal.model import (
    BEFORE_ANY,
    IndexCoverage,
    IndexType,
    MetadataIndex,
    Ordinals,
    Seqno,
    StoredVector,
)
from vicinal.segment.base import View
from vicinal.segment.ids import hashes


@dataclass(frozen=True)
class Snapshot:
    """Views of segments, oldest first, then of the memtable; an id is live in at most one.

    `applied_mutation` and `applied_at` (UTC) are those of the newest mutation contained.
    """

    views: tuple[View, ...]
    metadata_indexes: tuple[MetadataIndex, ...]
    applied_seqno: Seqno
    applied_mutation: str | None
    applied_at: datetime | None

    @cached_property
    def vector_count(self) -> int:
        """The number of vectors."""
        return sum(view.live_count for view in self.views)

    @cached_property
    def indexed_properties(self) -> frozenset[str]:
        """The properties that have a metadata index which filters read."""
        return frozenset(
            index.property_name
            for index in self.metadata_indexes
            if index.index_type is not IndexType.TEXT
        )

    @cached_property
    def text_indexes(self) -> tuple[MetadataIndex, ...]:
        """The text indexes, oldest first."""
        return tuple(i for i in self.metadata_indexes if i.index_type is IndexType.TEXT)

    def unindexed(self, filter_: Filter) -> tuple[str, ...]:
        """Return the properties of a filter that have no metadata index, each once."""
        indexed = self.indexed_properties
        for clause in filter_:  # without a generator, as every query with a filter comes by
            if not isinstance(clause, Predicate) or clause.property_name not in indexed:
                break
        else:
            return ()
        names = dict.fromkeys(predicate.property_name for predicate in predicates(filter_))
        return tuple(name for name in names if name not in indexed)

    @cached_property
    def partial(self) -> tuple[IndexCoverage, ...]:
        """The metadata indexes that do not cover all vectors, oldest first."""
        coverages = (
            IndexCoverage(
                index,
                sum(view.covered_count(index.property_name) for view in self.views),
                self.vector_count,
            )
            for index in self.metadata_indexes
        )
        return tuple(c for c in coverages if c.covered_count < c.vector_count)

    def get(self, ids: Sequence[str]) -> list[StoredVector]:
        """Return the vectors of these ids that exist, in the order asked, each once."""
        distinct = list(dict.fromkeys(ids))
        id_hashes = hashes(distinct)
        vectors: dict[int, StoredVector] = {}
        for view in self.views:
            rows = view.find(distinct, id_hashes)
            positions = np.flatnonzero(rows >= 0)
            vectors.update(zip(positions.tolist(), _vectors(view, rows[positions]), strict=True))
        return [vectors[position] for position in sorted(vectors)]

    def count(self, ids: Sequence[str]) -> int:
        """Return the number of these distinct ids that exist."""
        id_hashes = hashes(ids)
        return sum(int((view.find(ids, id_hashes) >= 0).sum()) for view in self.views)


EMPTY = Snapshot((), (), BEFORE_ANY, None, None)


def _vectors(view: View, rows: Ordinals) -> list[StoredVector]:
    return [
        StoredVector(*columns)
        for columns in zip(
            view.ids(rows), view.values(rows), view.namespaces(rows), view.metadata(rows),
            strict=True,
        )
    ]  # fmt: skip
