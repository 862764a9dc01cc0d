"""Makes a Qdrant, a Chroma and a LanceDB in a folder, by their clients."""

import sys
from pathlib import Path

import chromadb
import lancedb
import numpy as np
import pyarrow as pa
from qdrant_client import QdrantClient, models

folder, count = Path(sys.argv[1]), int(sys.argv[2])
values = np.random.default_rng(7).standard_normal((count, 4)).astype(np.float32)
np.save(folder / "values.npy", values)

qdrant = QdrantClient(path=str(folder / "qdrant"))
qdrant.create_collection(
    "plain", vectors_config=models.VectorParams(size=4, distance=models.Distance.EUCLID)
)
points = [
    models.PointStruct(
        id=number,
        vector=row.tolist(),
        payload={"kind": f"k{number % 3}", "n": number, "deep": {"list": [1, None, "x"]}},
    )
    for number, row in enumerate(values)
]
qdrant.upsert("plain", points)
qdrant.create_collection(
    "named",
    vectors_config={
        "a": models.VectorParams(size=4, distance=models.Distance.DOT),
        "b": models.VectorParams(size=2, distance=models.Distance.DOT),
    },
    sparse_vectors_config={"words": models.SparseVectorParams()},
)
qdrant.upsert(
    "named",
    [models.PointStruct(id=1, vector={"a": [1, 2, 3, 4], "b": [1, 2]}, payload={})],
)
qdrant.create_collection(
    "taxi", vectors_config=models.VectorParams(size=4, distance=models.Distance.MANHATTAN)
)
qdrant.close()

chroma = chromadb.PersistentClient(str(folder / "chroma"))
plain = chroma.create_collection("plain", configuration={"hnsw": {"space": "l2"}})
plain.add(
    ids=[f"id {number}" for number in range(count)],
    embeddings=values,
    documents=[f"text {number}" for number in range(count)],
    metadatas=[{"kind": f"k{number % 3}", "n": number} for number in range(count)],
)
chroma.create_collection("none-yet")

lance = lancedb.connect(str(folder / "lance"))
lance.create_table(
    "plain",
    data=pa.table(
        {
            "id": [f"id {number}" for number in range(count)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 4),
            "kind": [None if number == 0 else f"k{number % 3}" for number in range(count)],
            "n": list(range(count)),
            "deep": [{"list": [1, number]} for number in range(count)],
            "when": pa.array([0] * count, pa.timestamp("us")),
        }
    ),
)
