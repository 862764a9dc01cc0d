"""faiss: an index alone, a graph over 8-bit values or lists of 4-bit codes that are rescored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.measure import Floats
from benchmarks.peers import worker
from benchmarks.peers.worker import Document, Opening, Setting

_METRICS = {
    "cosine": faiss.METRIC_INNER_PRODUCT,  # of rows of length 1
    "euclidean": faiss.METRIC_L2,
    "dot-product": faiss.METRIC_INNER_PRODUCT,
}
_LISTS_PER_ROOT = 4  # lists per square root of the rows, as faiss's guide to indexes has it
_TRAINED_PER_LIST = 64


class Faiss:
    """See `worker.Database`."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._path = Path(opening.folder) / "index.bin"
        self._rows: list[Floats] = []
        self._index: Any = None
        self._params: Any = None
        if self._path.exists():
            self._index = faiss.read_index(str(self._path))

    def insert(self, first: int, values: Floats, documents: Sequence[Document] | None) -> None:
        """See `worker.Database`. Metadata is not kept; `build` indexes, once it has seen all."""
        self._rows.append(self._scaled(values))

    def build(self) -> None:
        """See `worker.Database`."""
        rows = np.concatenate(self._rows)
        self._rows.clear()
        metric = _METRICS[self._opening.metric]
        if self._opening.options["index"] == "hnsw":
            m = self._opening.options["m"]
            # "HNSW" counts the links of the upper levels, half of those at the lowest one.
            index = faiss.index_factory(rows.shape[1], f"HNSW{m},SQ8", metric)
            index.hnsw.efConstruction = self._opening.options["ef_construction"]
            index.train(rows[:100_000])
        else:
            count = max(int(_LISTS_PER_ROOT * len(rows) ** 0.5), 1)
            codes = rows.shape[1] // 4
            key = f"IVF{count},PQ{codes}x4fs,RFlat"
            index = faiss.index_factory(rows.shape[1], key, metric)
            some = np.random.default_rng(0).permutation(len(rows))[: count * _TRAINED_PER_LIST]
            index.train(rows[np.sort(some)])
        index.add(rows)
        self._index = index

    def tune(self, setting: Setting) -> None:
        """See `worker.Database`."""
        faiss.omp_set_num_threads(1)  # for searches, which every contender runs in one thread
        if "ef" in setting:
            self._params = faiss.SearchParametersHNSW(efSearch=setting["ef"])
        else:
            lists = faiss.SearchParametersIVF(nprobe=setting["nprobe"])
            self._params = faiss.IndexRefineSearchParameters(
                k_factor=setting["k_factor"], base_index_params=lists
            )

    def asked(self, query: Floats) -> Any:
        """See `worker.Database`."""
        return self._scaled(query[np.newaxis])

    def search(self, query: Any, k: int, where: tuple[str, int] | None, *, fetch: bool) -> Any:
        """See `worker.Database`."""
        assert where is None, "faiss keeps no metadata"
        return self._index.search(query, k, params=self._params)

    def rows(self, result: Any) -> list[int]:
        """See `worker.Database`."""
        return [int(row) for row in result[1][0]]

    def close(self) -> None:
        """See `worker.Database`."""
        faiss.write_index(self._index, str(self._path))

    def _scaled(self, values: Floats) -> Floats:
        if self._opening.metric != "cosine":
            return np.ascontiguousarray(values, np.float32)
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        return np.asarray(values / np.maximum(lengths, 1e-30), np.float32)


if __name__ == "__main__":
    worker.main(Faiss)
