"""A file of vectors into another product by its own client, read as a user of it would.

    python -P -m benchmarks.peers.importing PRODUCT FORM FILE FOLDER SECONDS

Prints JSON: the vectors that were stored and the seconds from opening the file to the return of
the last call, imports of packages left out. No batch is read after SECONDS.

A matrix has numbers of rows for ids; other forms have ids and `values`, of CSV a cell of JSON.
"""

import csv
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Floats

Batches = Iterator[tuple[list[str], Floats]]

_NAME = "imported"


def npy(path: Path, count: int) -> Batches:
    """Read a matrix."""
    rows = np.load(path, mmap_mode="r")
    for start in range(0, len(rows), count):
        part = np.array(rows[start : start + count])
        yield [str(row) for row in range(start, start + len(part))], part


def parquet(path: Path, count: int) -> Batches:
    """Read parquet."""
    from pyarrow.parquet import ParquetFile

    for batch in ParquetFile(path).iter_batches(batch_size=count):
        flat = batch.column("values").flatten().to_numpy()
        yield batch.column("id").to_pylist(), flat.reshape(len(batch), -1)


def ndjson(path: Path, count: int) -> Batches:
    """Read a record a line."""
    import orjson

    with path.open("rb") as file:
        yield from _grouped((orjson.loads(line) for line in file), count)


def table(path: Path, count: int) -> Batches:
    """Read CSV."""
    import orjson

    with path.open(newline="", encoding="utf-8") as file:
        rows = (
            {"id": row["id"], "values": orjson.loads(row["values"])} for row in csv.DictReader(file)
        )
        yield from _grouped(rows, count)


def _grouped(records: Iterator[dict[str, Any]], count: int) -> Batches:
    ids: list[str] = []
    values: list[list[float]] = []
    for record in records:
        ids.append(record["id"])
        values.append(record["values"])
        if len(ids) == count:
            yield ids, np.array(values, np.float32)
            ids, values = [], []
    if ids:
        yield ids, np.array(values, np.float32)


READERS: dict[str, Callable[[Path, int], Batches]] = {
    "npy": npy, "parquet": parquet, "ndjson": ndjson, "csv": table,
}  # fmt: skip


def chroma(folder: str) -> tuple[int, Callable[[Batches], None]]:
    """Chroma: rows go into its HNSW as they are added."""
    import chromadb

    settings = chromadb.Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(folder, settings=settings)
    collection = client.create_collection(
        _NAME, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )

    def store(batches: Batches) -> None:
        for ids, values in batches:
            collection.add(ids=ids, embeddings=values)

    return client.get_max_batch_size(), store


def qdrant(folder: str) -> tuple[int, Callable[[Batches], None]]:
    """Qdrant's client in its local mode: arrays in memory, and SQLite; it searches exactly."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=folder)
    distance = models.Distance.COSINE

    def store(batches: Batches) -> None:
        for number, (ids, values) in enumerate(batches):
            if number == 0:
                vectors = models.VectorParams(size=values.shape[1], distance=distance)
                client.create_collection(_NAME, vectors_config=vectors)
            client.upload_collection(_NAME, vectors=values, ids=[int(id_) for id_ in ids])

    return 1_000, store


def lance(folder: str) -> tuple[int, Callable[[Batches], None]]:
    """LanceDB: a table without an index, written from one stream of Arrow."""
    import lancedb
    import pyarrow as pa

    database = lancedb.connect(folder)

    def store(batches: Batches) -> None:
        first = next(batches)
        dimensions = first[1].shape[1]
        vector = pa.list_(pa.float32(), dimensions)
        schema = pa.schema([("id", pa.string()), ("vector", vector)])

        def parts() -> Iterator[Any]:
            for ids, values in itertools.chain([first], batches):
                flat = pa.array(values.reshape(-1))
                column = pa.FixedSizeListArray.from_arrays(flat, dimensions)
                yield pa.record_batch([pa.array(ids), column], schema=schema)

        database.create_table(_NAME, data=pa.RecordBatchReader.from_batches(schema, parts()))

    return 10_000, store


PRODUCTS = {"chromadb": chroma, "qdrant-client": qdrant, "lancedb": lance}


def main(product: str, form: str, path: str, folder: str, seconds: str) -> None:
    """Store a file, and print how many of its vectors it took how long."""
    count_max, store = PRODUCTS[product](folder)
    import orjson  # noqa: F401  # what the readers import is not timed
    import pyarrow.parquet  # noqa: F401

    count = 0
    start = time.perf_counter()

    def counted() -> Batches:
        nonlocal count
        for ids, values in READERS[form](Path(path), count_max):
            if time.perf_counter() - start > float(seconds):
                return
            count += len(ids)
            yield ids, values

    store(counted())
    print(json.dumps({"count": count, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
