"""Does recall decay when a third of an index is deleted and written again, against an index
that is built afresh with the same content?

50,000 rows of 768 dimensions. In three rounds a tenth of the ids are deleted, then written
again with other vectors; the index is sealed and merged after every step, as it is in the
background.
"""

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import data, measure, report
from benchmarks.measure import Floats, Rows
from benchmarks.report import Report, Table
from benchmarks.side import scratch
from benchmarks.texts import SEED
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.limits import PROFILES
from vicinal.model import (
    Delete,
    IndexAddress,
    IndexConfig,
    Metric,
    Mutation,
    Query,
    Upsert,
    VectorBatch,
)

ADDRESS = IndexAddress("local", "churn")
K = 10
ROUNDS = 3
SHARE = 0.1  # of the ids, a round
_BATCH = 1_000
_APPLIED_S = 600.0
_COLUMNS = ("index", "vectors", "recall@10", "CPU ms", "p50 ms", "p99 ms")


def run(*, is_quick: bool) -> Report:
    """Churn one index, build others afresh, compare."""
    size = 3_000 if is_quick else 50_000
    vectors = data.real(768, size + size // 2, is_quick=is_quick)
    queries = vectors.queries[: 200 if is_quick else 1_000]
    random = np.random.RandomState(SEED)
    row_of = np.arange(size)  # id -> the row whose values it has, -1 for none
    order = random.permutation(size)
    step = int(size * SHARE)
    rows, recalls = [], {}

    def compared(label: str, engine: EmbeddedEngine, folder: Path) -> None:
        fresh = _engine(folder, vectors.values.shape[1])
        _upsert(fresh, np.flatnonzero(row_of >= 0), vectors.values, row_of)
        fresh.compact(ADDRESS)
        for name, searched in ((label, engine), (f"{label}: built afresh", fresh)):
            timing, recall = _searched(searched, queries, vectors.values, row_of)
            recalls[name] = recall
            count = searched.status(ADDRESS).vector_count
            rows.append((name, count, recall, timing.cpu_ms, timing.p50_ms, timing.p99_ms))
        fresh.close()

    with scratch() as folder:
        engine = _engine(folder / "churned", vectors.values.shape[1])
        _upsert(engine, np.arange(size), vectors.values, row_of)
        engine.compact(ADDRESS)
        for turn in range(ROUNDS):
            chosen = order[turn * step : (turn + 1) * step]
            _delete(engine, chosen)
            row_of[chosen] = -1
            engine.compact(ADDRESS)
            if turn == ROUNDS - 1:
                compared("the last tenth deleted", engine, folder / "fresh-deleted")
            row_of[chosen] = size + turn * step + np.arange(step)
            _upsert(engine, chosen, vectors.values, row_of)
            engine.compact(ADDRESS)
        compared("30 % written again", engine, folder / "fresh")
        engine.close()
    loss = recalls["30 % written again: built afresh"] - recalls["30 % written again"]
    return Report(
        "churn", report.question(__doc__), is_quick,
        report.setup(
            data=vectors.description, seed=str(SEED),
            method=f"{len(queries):,} held-out queries, top {K}, standard effort, in this process",
        ),
        (Table(f"{size:,} x 768", _COLUMNS, tuple(rows)),),
        (report.at_most("recall lost against a fresh build", loss, 0.005),),
    )  # fmt: skip


def _engine(folder: Path, dimensions: int) -> EmbeddedEngine:
    engine = EmbeddedEngine.open(folder)
    engine.create_index(ADDRESS, IndexConfig(dimensions, Metric.COSINE), None)
    return engine


def _upsert(engine: EmbeddedEngine, ids: Rows, values: Floats, row_of: Rows) -> None:
    for start in range(0, len(ids), _BATCH):
        chosen = ids[start : start + _BATCH]
        batch = VectorBatch(
            [str(row) for row in chosen],
            np.ascontiguousarray(values[row_of[chosen]]),
            [""] * len(chosen),
            [b""] * len(chosen),
        )
        _write(engine, Upsert(batch))


def _delete(engine: EmbeddedEngine, ids: Rows) -> None:
    count_max = PROFILES["cloudflare"].delete_ids_max
    for start in range(0, len(ids), count_max):
        _write(engine, Delete([str(row) for row in ids[start : start + count_max]]))


def _write(engine: EmbeddedEngine, mutation: Mutation) -> None:
    seqno = engine.append(ADDRESS, mutation).result().seqno
    assert engine.wait_applied(ADDRESS, seqno, _APPLIED_S), "the write did not become visible"


def _searched(
    engine: EmbeddedEngine, queries: Floats, values: Floats, row_of: Rows
) -> tuple[measure.Timing, float]:
    """Return times and recall of an index whose ids have the values of these rows."""

    def ask(query: Floats) -> list[int]:
        result = engine.query(ADDRESS, Query(top_k=K, vector=query))
        return [int(match.id) for match in result.matches]

    timing, answers = measure.run([partial(ask, query) for query in queries], budget_s=300.0)
    ids = np.flatnonzero(row_of >= 0)
    content = np.ascontiguousarray(values[row_of[ids]])
    place_of = np.full(len(row_of), -1)
    place_of[ids] = np.arange(len(ids))
    places = [place_of[answer].tolist() for answer in answers]
    assert all(row >= 0 for answer in places for row in answer), "a deleted id was found"
    nearest = data.exact(content, queries, K, "cosine")
    return timing, measure.recall(places, content, queries, nearest, "cosine")
