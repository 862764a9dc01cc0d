"""Approximate answers beside the model's exact ones, over histories with churn and filters.

Segments here are large enough for codes. Whatever they propose: no row that the filter
refuses is in an answer, every score is the exact one, an answer is never short, and hardly
a neighbour is missing.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.clusters import clustered
from tests.support.engines import APPLIED_WITHIN_S, DOCS
from tests.support.model_engine import ModelEngine
from tests.support.waiting import wait_until
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.filters.nodes import Filter, Operator, Predicate
from vicinal.limits import PROFILES
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    Floats,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Mutation,
    Query,
    Upsert,
    VectorBatch,
)

LIMITS = PROFILES["open"]
DIMENSIONS, ROWS, BATCH, MEMTABLE = 48, 11_000, 1_000, 5_000
QUERIES = 60
RECALL_MIN = 0.99
INDEXES = (MetadataIndex("group", IndexType.NUMBER), MetadataIndex("colour", IndexType.STRING))
COLOURS = ("red", "green", "blue", "grey")


def batch(rows: Sequence[int], values: Floats, random: np.random.Generator) -> Upsert:
    documents = [
        {"group": int(random.integers(50)), "colour": COLOURS[int(random.integers(4)) % 3]}
        for _ in rows
    ]
    return Upsert(
        VectorBatch(
            [f"v{row}" for row in rows],
            values,
            [("", "half")[row % 2] for row in rows],
            [json.dumps(each, separators=(",", ":")).encode() for each in documents],
        )
    )


def history(random: np.random.Generator, values: Floats) -> list[Mutation]:
    """Return writes of all rows, then deletes and writes of some of them anew."""
    mutations: list[Mutation] = [CreateMetadataIndex(each) for each in INDEXES]
    mutations += [
        batch(range(start, start + BATCH), values[start : start + BATCH], random)
        for start in range(0, ROWS, BATCH)
    ]
    for _ in range(6):
        gone = random.choice(ROWS, 300, replace=False).tolist()
        anew = random.choice(ROWS, 200, replace=False).tolist()
        moved = values[anew] + random.normal(scale=0.2, size=(200, DIMENSIONS))
        mutations.append(Delete([f"v{row}" for row in gone]))
        mutations.append(batch(anew, moved.astype(np.float32), random))
    return mutations


def filters(random: np.random.Generator) -> list[tuple[str, Filter]]:
    group = float(random.integers(50))
    return [
        ("", ()),
        ("half", ()),
        ("", (Predicate("group", Operator.EQ, (group,)),)),
        ("", (Predicate("group", Operator.LT, (group + 1,)),)),
        ("", (Predicate("colour", Operator.NE, ("red",)),)),
        ("half", (Predicate("group", Operator.GTE, (group,)),
                  Predicate("colour", Operator.IN, ("green", "blue")))),
    ]  # fmt: skip


def write(engine: Engine, mutation: Mutation) -> None:
    accepted = engine.append(DOCS, mutation).result()
    assert engine.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)


def recall_of(engine: Engine, model: Engine, query: Query, metric: Metric) -> float | None:
    """Check an answer but for what is missing; return its recall, None when nothing passes."""
    nearest = model.query(DOCS, query).matches
    found = engine.query(DOCS, query).matches

    assert len(found) == len({match.id for match in found}) == len(nearest)
    scores = {match.id: match.score for match in nearest}
    if not {match.id for match in found} <= scores.keys():
        everything = Query(ROWS, query.vector, None, query.namespace, query.filter)
        scores = {match.id: match.score for match in model.query(DOCS, everything).matches}
    assert {match.id: match.score for match in found}.items() <= scores.items()
    shown = [match.score for match in found]
    assert shown == sorted(shown, reverse=metric is Metric.COSINE)
    if not nearest:
        return None
    bound = nearest[-1].score
    near = [each for each in shown if (each >= bound if metric is Metric.COSINE else each <= bound)]
    return len(near) / len(nearest)


CODES = {"codes", "codes of the selected rows"}


def methods_of(engine: Engine, query: Query) -> set[str]:
    return {step.method for step in engine.query(DOCS, query).explanations}


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize(("seed", "is_tidied"), [(1, False), (2, True)])
def test_approximate_answers_are_exact_but_for_the_rarest_neighbour(
    tmp_path: Path, metric: Metric, seed: int, is_tidied: bool
) -> None:
    random = np.random.default_rng(seed)
    values = clustered(ROWS + QUERIES, DIMENSIONS, seed)
    options = EngineOptions(LIMITS, memtable_rows_max=MEMTABLE)
    engine: EmbeddedEngine = EmbeddedEngine.open(tmp_path, options)
    model = ModelEngine(LIMITS)
    for each in (engine, model):
        each.create_index(DOCS, IndexConfig(DIMENSIONS, metric), None)
    for mutation in history(random, values[:ROWS]):
        write(engine, mutation)
        write(model, mutation)
    if is_tidied:
        engine.compact(DOCS)
        engine.close()
        engine = EmbeddedEngine.open(tmp_path, options)

    # Sealing is behind the writes on a busy machine, and a memtable is searched exactly.
    unfiltered = Query(10, values[ROWS], explain=True)
    wait_until(lambda: not CODES.isdisjoint(methods_of(engine, unfiltered)))

    recalls = []
    for place, vector in enumerate(values[ROWS:]):
        namespace, filter_ = filters(random)[place % 6]
        query = Query(10, vector, None, namespace, filter_)
        recalls.append(recall_of(engine, model, query, metric))
    engine.close()

    assert np.mean([each for each in recalls if each is not None]) >= RECALL_MIN
