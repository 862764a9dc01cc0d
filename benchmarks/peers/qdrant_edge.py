"""Qdrant Edge: HNSW over float32, or over int8 with rescoring."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting

_DISTANCES = {
    "cosine": qdrant.Distance.Cosine,
    "euclidean": qdrant.Distance.Euclid,
    "dot-product": qdrant.Distance.Dot,
}


class QdrantEdge:
    """See `worker.Database`."""

    def __init__(self, opening: Opening) -> None:
        options = opening.options
        quantization = None
        if options.get("quantization") == "int8":
            quantization = qdrant.ScalarQuantizationConfig(
                qdrant.ScalarType.Int8, quantile=0.99, memory=qdrant.Memory.Pinned
            )
        hnsw = qdrant.HnswIndexConfig(
            m=options["m"], ef_construct=options["ef_construction"], full_scan_threshold=10_000
        )
        config = qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(
                size=opening.dimensions, distance=_DISTANCES[opening.metric]
            ),
            hnsw_config=hnsw,
            quantization_config=quantization,
            # One segment costs a query least; a segment counts as worth indexing from 1 MB.
            optimizers=qdrant.EdgeOptimizersConfig(
                default_segment_number=1, indexing_threshold=1_000
            ),
        )
        folder = Path(opening.folder)
        if any(folder.iterdir()):
            self._shard = qdrant.EdgeShard.load(str(folder))
        else:
            self._shard = qdrant.EdgeShard.create(str(folder), config)
            for field in opening.fields:
                self._shard.update(
                    qdrant.UpdateOperation.create_field_index(
                        field, qdrant.PayloadSchemaType.Integer
                    )
                )
        self._params = qdrant.SearchParams()

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """See `worker.Database`."""
        payloads: Sequence[Document | None] = documents or [None] * len(values)
        points = [
            qdrant.Point(row, vector, payload)
            for row, (vector, payload) in enumerate(
                zip(values.tolist(), payloads, strict=True), first
            )
        ]
        self._shard.update(qdrant.UpdateOperation.upsert_points(points))

    def build(self) -> None:
        """See `worker.Database`."""
        self._shard.flush()
        while self._shard.optimize():
            pass

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`."""
        quantization = None
        if "oversampling" in setting:
            quantization = qdrant.QuantizationSearchParams(
                rescore=True, oversampling=float(setting["oversampling"])
            )
        self._params = qdrant.SearchParams(hnsw_ef=setting["ef"], quantization=quantization)

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return qdrant.Query.Nearest(query.tolist())

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        condition = None
        if where is not None:
            match = qdrant.FieldCondition(where[0], match=qdrant.MatchValue(where[1]))
            condition = qdrant.Filter(must=[match])
        return self._shard.query(
            qdrant.QueryRequest(
                k, query=query, filter=condition, with_payload=fetch, params=self._params
            )
        )

    def rows(self, result: Any) -> list[int]:
        """See `worker.Database`."""
        return [point.id for point in result]

    def close(self) -> None:
        """See `worker.Database`."""
        self._shard.close()


if __name__ == "__main__":
    worker.main(QdrantEdge)
