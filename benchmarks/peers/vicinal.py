"""Vicinal: the embedded engine, through the Python binding that users call."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting
from vicinal.binding import Columns, Matches, Vectorize
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.errors import IndexExists, Overloaded
from vicinal.limits import PROFILES
from vicinal.model import IndexAddress, IndexConfig, IndexType, Metric

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
        self._engine.maintain(ADDRESS)

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`. There is nothing to set."""

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return query

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        return self._index.query(
            query,
            top_k=k,
            filter=None if where is None else {where[0]: where[1]},
            return_metadata="all" if fetch else "none",
        )

    def rows(self, found: Matches) -> list[int]:
        """See `worker.Database`."""
        return [int(match.id) for match in found.matches]

    def close(self) -> None:
        """See `worker.Database`."""
        self._engine.close()


if __name__ == "__main__":
    worker.main(Vicinal)
