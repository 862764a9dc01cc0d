"""zvec: HNSW over float32, or over RaBitQ codes with a refiner."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zvec

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting

_METRICS = {
    "cosine": zvec.MetricType.COSINE,
    "euclidean": zvec.MetricType.L2,
    "dot-product": zvec.MetricType.IP,
}


class Zvec:
    """See `worker.Database`."""

    def __init__(self, opening: Opening) -> None:
        zvec.init(log_level=zvec.LogLevel.ERROR)
        path = Path(opening.folder) / "collection"
        self._is_rabitq = opening.options["index"] == "hnsw_rabitq"
        if path.exists():
            self._collection = zvec.open(str(path))
        else:
            self._collection = zvec.create_and_open(str(path), self._schema(opening))
        self._fields = [*opening.fields, "title"] if opening.fields else []
        self._params: Any = None

    def _schema(self, opening: Opening) -> Any:
        make = zvec.HnswRabitqIndexParam if self._is_rabitq else zvec.HnswIndexParam
        index = make(
            metric_type=_METRICS[opening.metric],
            m=opening.options["m"],
            ef_construction=opening.options["ef_construction"],
        )
        fields = [
            zvec.FieldSchema(name, zvec.DataType.INT64, index_param=zvec.InvertIndexParam())
            for name in opening.fields
        ]
        if fields:
            fields.append(zvec.FieldSchema("title", zvec.DataType.STRING))
        vectors = zvec.VectorSchema(
            "vector", zvec.DataType.VECTOR_FP32, opening.dimensions, index_param=index
        )
        return zvec.CollectionSchema("benchmark", fields=fields or None, vectors=vectors)

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """See `worker.Database`."""
        fields: Sequence[Document | None] = documents or [None] * len(values)
        rows = [
            zvec.Doc(id=str(row), vectors={"vector": vector}, fields=more)
            for row, (vector, more) in enumerate(zip(values.tolist(), fields, strict=True), first)
        ]
        for status in self._collection.insert(rows):
            if not status.ok():
                raise RuntimeError(status.message())

    def build(self) -> None:
        """See `worker.Database`."""
        self._collection.flush()
        self._collection.optimize()

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`."""
        if self._is_rabitq:
            self._params = zvec.HnswRabitqQueryParam(ef=setting["ef"], is_using_refiner=True)
        else:
            self._params = zvec.HnswQueryParam(ef=setting["ef"])

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return query

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        return self._collection.query(
            zvec.Query(field_name="vector", vector=query, param=self._params),
            topk=k,
            filter=None if where is None else f"{where[0]} = {where[1]}",
            output_fields=self._fields if fetch else [],
        )

    def rows(self, result: Any) -> list[int]:
        """See `worker.Database`."""
        return [int(doc.id) for doc in result]

    def close(self) -> None:
        """See `worker.Database`."""
        self._collection.close()


if __name__ == "__main__":
    worker.main(Zvec)
