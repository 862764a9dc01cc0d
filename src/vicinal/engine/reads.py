"""The reads of an engine, each answered by the `Reader` of one open index.

An engine adds how an index is opened, and opened again when it was just evicted: `_on`.
Nothing here knows whether an index is a folder's own or a copy.
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from vicinal.engine.reader import Reader
from vicinal.index_storage import MEMTABLE, IndexStorage, StoredPart
from vicinal.model import (
    Facet,
    Index,
    IndexAddress,
    ListedVector,
    MetadataIndex,
    Query,
    QueryResult,
    Scan,
    Scope,
    Status,
    StoredVector,
    VectorBatch,
    VectorPage,
)
from vicinal.prepared import Prepared
from vicinal.segment.segment import SegmentView


class Readable(Protocol):
    """An open index with its reader and the folder of its files."""

    index: Index
    reader: Reader
    folder: Path

    def compact(self) -> None:
        """See `engine.base.Engine`."""
        ...


R = TypeVar("R", bound=Readable)
T = TypeVar("T")


class Reads(Generic[R]):
    """The part of `engine.base.Engine` that needs one open index and its reader alone."""

    @abstractmethod
    def _on(self, address: IndexAddress, work: Callable[[R], T]) -> T:
        """Do something with an open index; it is opened again if it was just evicted."""

    def list_metadata_indexes(self, address: IndexAddress) -> Sequence[MetadataIndex]:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.reader.current().metadata_indexes)

    def status(self, address: IndexAddress) -> Status:
        """See `engine.base.Engine`."""
        # Both of one index: another may take its name in between.
        snapshot, config = self._on(
            address, lambda opened: (opened.reader.current(), opened.index.config)
        )
        return Status(
            config.dimensions,
            snapshot.vector_count,
            snapshot.applied_seqno,
            snapshot.applied_mutation,
            snapshot.applied_at,
            snapshot.partial,
        )

    def storage(self, address: IndexAddress) -> IndexStorage:
        """See `engine.base.Engine`."""
        snapshot, folder = self._on(
            address, lambda opened: (opened.reader.current(), opened.folder)
        )
        parts = tuple(
            StoredPart(
                view.name if isinstance(view, SegmentView) else MEMTABLE,
                view.live_count,
                len(view.live) - view.live_count,
                view.byte_count,
            )
            for view in snapshot.views
        )
        return IndexStorage(parts, _bytes_in(folder))

    def query(self, address: IndexAddress, query: Query) -> QueryResult:
        """See `engine.base.Engine`."""
        return self.prepare(address, query).run()

    def prepare(self, address: IndexAddress, query: Query) -> Prepared[QueryResult]:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.reader.prepare(query))

    def get(self, address: IndexAddress, ids: Sequence[str]) -> Sequence[StoredVector]:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.reader.get(ids))

    def list_vectors(
        self, address: IndexAddress, scan: Scan, count: int, cursor: str | None
    ) -> VectorPage:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.reader.list_vectors(scan, count, cursor))

    def stream_vectors(
        self, address: IndexAddress, scan: Scan, count: int
    ) -> Iterator[Sequence[ListedVector]]:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.reader.stream_vectors(scan, count))

    def sample_vectors(
        self, address: IndexAddress, scope: Scope, count_max: int, part_max: int
    ) -> Iterator[VectorBatch]:
        """See `engine.base.Engine`."""
        return self._on(
            address, lambda opened: opened.reader.sample_vectors(scope, count_max, part_max)
        )

    def count(self, address: IndexAddress, scope: Scope) -> int:
        """See `engine.base.Engine`."""
        return self._on(address, lambda opened: opened.reader.count(scope))

    def facet(
        self, address: IndexAddress, property_name: str, scope: Scope, values_max: int
    ) -> Facet:
        """See `engine.base.Engine`."""
        return self._on(
            address, lambda opened: opened.reader.facet(property_name, scope, values_max)
        )

    def compact(self, address: IndexAddress) -> None:
        """See `engine.base.Engine`."""
        self._on(address, lambda opened: opened.compact())


def _bytes_in(folder: Path) -> int:
    """Return the bytes of all files below a folder; one that is removed meanwhile has none."""
    count = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                count += Path(parent, name).stat().st_size
    return count
