"""The reads of one open index, all from its newest snapshot and without a lock: the writer
replaces the snapshot and never changes it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from vicinal.engine import ranked_search, scan, search
from vicinal.engine.cursors import Cursors
from vicinal.engine.health import Health
from vicinal.engine.snapshot import EMPTY, Snapshot
from vicinal.errors import Corruption
from vicinal.model import (
    Facet,
    Index,
    ListedVector,
    Page,
    Query,
    QueryResult,
    Scan,
    Scope,
    StoredVector,
    VectorBatch,
    VectorPage,
)
from vicinal.prepared import Prepared

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Reader:
    """Answers reads of one index. Thread-safe.

    Args:
        owner: The key of its listings in `cursors`; no other index ever has it.
        health: Told of damage that a read has met.

    Attributes:
        snapshot: The newest one; the writer replaces it.
    """

    def __init__(self, index: Index, owner: str, cursors: Cursors, health: Health) -> None:
        self._index = index
        self._owner = owner
        self._cursors = cursors
        self._health = health
        self.snapshot: Snapshot = EMPTY

    def current(self) -> Snapshot:
        """Return the newest snapshot."""
        # In this order: an index that is closed releases its snapshot.
        snapshot = self.snapshot
        self._health.check_readable()
        return snapshot

    def prepare(self, query: Query) -> Prepared[QueryResult]:
        """See `engine.base.Engine`."""
        snapshot, config = self.current(), self._index.config
        prepare = ranked_search.prepare if ranked_search.is_needed(query) else search.prepare
        prepared = self._guarded(lambda: prepare(snapshot, config, query))
        return Prepared(partial(self._guarded, prepared.finish), prepared.tasks)

    def get(self, ids: Sequence[str]) -> list[StoredVector]:
        """See `engine.base.Engine`."""
        snapshot = self.current()
        return self._guarded(lambda: snapshot.get(ids))

    def list(self, count: int, cursor: str | None) -> Page:
        """See `engine.base.Engine`."""
        snapshot = self.current()
        return self._guarded(lambda: self._cursors.page(self._owner, snapshot, count, cursor))

    def list_vectors(self, scan_: Scan, count: int, cursor: str | None) -> VectorPage:
        """See `engine.base.Engine`."""
        snapshot = self.current()
        return self._guarded(
            lambda: self._cursors.vectors(self._owner, snapshot, scan_, count, cursor)
        )

    def stream_vectors(self, scan_: Scan, count: int) -> Iterator[Sequence[ListedVector]]:
        """See `engine.base.Engine`."""
        snapshot = self.current()
        parts = self._guarded(lambda: scan.stream(snapshot, scan_, count))
        return self._guarded_parts(parts)

    def sample_vectors(self, scope: Scope, count_max: int, part_max: int) -> Iterator[VectorBatch]:
        """See `engine.base.Engine`."""
        snapshot = self.current()
        parts = self._guarded(lambda: scan.sample(snapshot, scope, count_max, part_max))
        return self._guarded_parts(parts)

    def count(self, scope: Scope) -> int:
        """See `engine.base.Engine`."""
        snapshot = self.current()
        return self._guarded(lambda: scan.count(snapshot, scope))

    def facet(self, property_name: str, scope: Scope, values_max: int) -> Facet:
        """See `engine.base.Engine`."""
        snapshot = self.current()
        return self._guarded(lambda: scan.facet(snapshot, property_name, scope, values_max))

    def _guarded_parts(self, parts: Iterator[T]) -> Iterator[T]:
        while (part := self._guarded(lambda: next(parts, None))) is not None:
            yield part

    def _guarded(self, read: Callable[[], T]) -> T:
        """Return the result of a read; report damage, and turn values that no index can hold into
        `Corruption`.

        All checksums of such values are right, so they may be a mistake of ours: the index goes
        on.
        """
        try:
            return read()
        except Corruption as error:
            self._health.fail(error)
            raise
        except (IndexError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            logger.exception("index %r cannot be read", self._index.name)
            raise Corruption(f"index {self._index.name!r} cannot be read: {error}") from error
