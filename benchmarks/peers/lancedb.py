"""LanceDB: one partition of HNSW over int8, refined from float32; bitmaps on metadata."""

from collections.abc import Sequence
from typing import Any

import lancedb
import pyarrow
from lancedb.index import Bitmap, HnswSq

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting

_TABLE = "benchmark"
_METRICS = {"cosine": "cosine", "euclidean": "l2", "dot-product": "dot"}


class LanceDB:
    """See `worker.Database`."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._metric = _METRICS[opening.metric]
        database = lancedb.connect(opening.folder)
        if _TABLE in database.list_tables().tables:
            self._table = database.open_table(_TABLE)
        else:
            self._table = database.create_table(_TABLE, schema=self._schema())
        self._setting: Setting = {}

    def _schema(self) -> Any:
        columns = [("id", pyarrow.int64())]
        columns += [(name, pyarrow.int64()) for name in self._opening.fields]
        if self._opening.fields:
            columns.append(("title", pyarrow.string()))
        vector = pyarrow.list_(pyarrow.float32(), self._opening.dimensions)
        return pyarrow.schema([*columns, ("vector", vector)])

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """See `worker.Database`."""
        columns: dict[str, Any] = {"id": range(first, first + len(values))}
        for name in documents[0] if documents else ():
            columns[name] = [document[name] for document in documents or ()]
        flat = pyarrow.array(values.reshape(-1))
        columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
        self._table.add(pyarrow.table(columns, schema=self._schema()))

    def build(self) -> None:
        """See `worker.Database`."""
        options = self._opening.options
        self._table.optimize()
        self._table.create_index(
            "vector",
            config=HnswSq(
                distance_type=self._metric,
                num_partitions=1,
                m=options["m"],
                ef_construction=options["ef_construction"],
            ),
        )
        for field in self._opening.fields:
            self._table.create_index(field, config=Bitmap())

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`."""
        self._setting = setting

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return query

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        request = self._table.search(query, vector_column_name="vector").distance_type(self._metric)
        request = request.limit(k).nprobes(1).ef(self._setting["ef"])
        request = request.refine_factor(self._setting["refine_factor"])
        if where is not None:
            request = request.where(f"{where[0]} = {where[1]}", prefilter=True)
        fields = [*self._opening.fields, "title"] if fetch else []
        return request.select(["id", "_distance", *fields]).to_list()

    def rows(self, result: Any) -> list[int]:
        """See `worker.Database`."""
        return [row["id"] for row in result]

    def close(self) -> None:
        """See `worker.Database`. Every write is on disk already."""


if __name__ == "__main__":
    worker.main(LanceDB)
