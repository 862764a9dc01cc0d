"""hnswlib: the index alone, without ids of one's own, metadata, durability or filters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hnswlib

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting

_SPACES = {"cosine": "cosine", "euclidean": "l2", "dot-product": "ip"}


class Hnswlib:
    """See `worker.Database`."""

    def __init__(self, opening: Opening) -> None:
        self._path = Path(opening.folder) / "index.bin"
        self._index = hnswlib.Index(_SPACES[opening.metric], opening.dimensions)
        if self._path.exists():
            self._index.load_index(str(self._path))
        else:
            self._index.init_index(
                max_elements=0,
                M=opening.options["m"],
                ef_construction=opening.options["ef_construction"],
            )

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """See `worker.Database`. Metadata is not kept."""
        self._index.resize_index(first + len(values))
        self._index.add_items(values, range(first, first + len(values)))

    def build(self) -> None:
        """See `worker.Database`. Rows are indexed as they are added."""

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`."""
        self._index.set_ef(setting["ef"])

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return query

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        assert where is None, "hnswlib keeps no metadata"
        return self._index.knn_query(query, k, num_threads=1)

    def rows(self, result: Any) -> list[int]:
        """See `worker.Database`."""
        return [int(row) for row in result[0][0]]

    def close(self) -> None:
        """See `worker.Database`."""
        self._index.save_index(str(self._path))


if __name__ == "__main__":
    worker.main(Hnswlib)
