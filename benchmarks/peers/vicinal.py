"""Vicinal: the embedded engine, in process.

Rows go in by the Python binding; queries go to the engine, as effort can be set there, and
metadata is decoded as the binding does it.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting
from vicinal.binding import Columns, Vectorize
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.errors import IndexExists, Overloaded
from vicinal.filters.nodes import Operator, Predicate
from vicinal.limits import PROFILES
from vicinal.model import (
    Effort,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataLevel,
    Metric,
    Query,
)

_RETRY_S = 0.05

ADDRESS = IndexAddress("local", "benchmark")


class Vicinal:
    """See `worker.Database`."""

    def __init__(self, opening: Opening) -> None:
        limits = PROFILES["open"]
        self._engine = EmbeddedEngine.open(Path(opening.folder), EngineOptions(limits=limits))
        config = IndexConfig(opening.dimensions, Metric(opening.metric))
        try:
            self._engine.create_index(ADDRESS, config, None)
            is_new = True
        except IndexExists:
            is_new = False
        self._index = Vectorize(self._engine, ADDRESS, limits)
        self._effort = Effort.STANDARD
        for field in opening.fields if is_new else ():
            self._index.create_metadata_index(field, IndexType.NUMBER, wait=True)

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """See `worker.Database`."""
        ids = [str(row) for row in range(first, first + len(values))]
        rows = Columns(ids, values, metadata=documents)
        while True:
            try:
                self._index.upsert(rows)
                return
            except Overloaded:
                time.sleep(_RETRY_S)

    def build(self) -> None:
        """See `worker.Database`."""
        self._engine.compact(ADDRESS)

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`."""
        self._effort = Effort(setting["effort"])

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return query

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        result = self._engine.query(
            ADDRESS,
            Query(
                top_k=k,
                vector=query,
                filter=()
                if where is None
                else (Predicate(where[0], Operator.EQ, (float(where[1]),)),),
                return_metadata=MetadataLevel.ALL if fetch else MetadataLevel.NONE,
                effort=self._effort,
            ),
        )
        if fetch:
            return [(match.id, match.score, msgspec.json.decode(match.metadata or b"{}"))
                    for match in result.matches]  # fmt: skip
        return [(match.id, match.score) for match in result.matches]

    def rows(self, result: Any) -> list[int]:
        """See `worker.Database`."""
        return [int(match[0]) for match in result]

    def close(self) -> None:
        """See `worker.Database`."""
        self._engine.close()


if __name__ == "__main__":
    worker.main(Vicinal)
