"""Chroma in process: HNSW over float32, metadata in SQLite."""

from collections.abc import Sequence
from typing import Any

import chromadb
from chromadb.api.shared_system_client import SharedSystemClient

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting

COLLECTION = "benchmark"

_SPACES = {"cosine": "cosine", "euclidean": "l2", "dot-product": "ip"}


class Chroma:
    """See `worker.Database`."""

    def __init__(self, opening: Opening) -> None:
        self._folder = opening.folder
        self._client = self._connected()
        self._collection = self._client.get_or_create_collection(
            COLLECTION,
            embedding_function=None,
            configuration={
                "hnsw": {
                    "space": _SPACES[opening.metric],
                    "max_neighbors": opening.options["m"],
                    "ef_construction": opening.options["ef_construction"],
                }
            },
        )

    def _connected(self) -> Any:
        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(self._folder, settings=settings)

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """See `worker.Database`."""
        self._collection.add(
            ids=[str(row) for row in range(first, first + len(values))],
            embeddings=values,
            metadatas=documents,
        )

    def build(self) -> None:
        """See `worker.Database`. Rows are indexed as they are added."""

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`."""
        self._collection.modify(configuration={"hnsw": {"ef_search": setting["ef"]}})
        # An index that is loaded keeps its setting, so load it again.
        self.close()
        self._client = self._connected()
        self._collection = self._client.get_collection(COLLECTION, embedding_function=None)

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return [query]

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        return self._collection.query(
            query_embeddings=query,
            n_results=k,
            where=None if where is None else {where[0]: where[1]},
            include=["distances", "metadatas"] if fetch else ["distances"],
        )

    def rows(self, result: Any) -> list[int]:
        """See `worker.Database`."""
        return [int(row) for row in result["ids"][0]]

    def close(self) -> None:
        """See `worker.Database`."""
        self._client._system.stop()  # noqa: SLF001 - it has no public way to close
        SharedSystemClient.clear_system_cache()


if __name__ == "__main__":
    worker.main(Chroma)
