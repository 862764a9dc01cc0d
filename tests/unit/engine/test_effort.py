"""A query chooses how hard to look, and can be told how it was answered."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.engines import APPLIED_WITHIN_S, DOCS
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.filters.nodes import Operator, Predicate
from vicinal.model import (
    CreateMetadataIndex,
    Effort,
    Floats,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Query,
    Upsert,
    VectorBatch,
)

ROWS, DIMENSIONS, SEED = 6_000, 48, 11
FEW = 60  # rows, so few that each is measured


def vectors() -> Floats:
    """Return vectors on a surface of twelve dimensions, the last 50 of them for queries."""
    random = np.random.default_rng(SEED)
    surface = random.normal(size=(12, DIMENSIONS))
    return (random.normal(size=(ROWS + 50, 12)) @ surface).astype(np.float32)


def part_of(row: int) -> bytes:
    if row % 10 == 0:
        return b"tenth"
    return b"few" if row % 100 == 1 else b"rest"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    """An engine with one sealed segment of all rows, in parts of different size."""
    folder: Path = tmp_path_factory.mktemp("effort")
    engine = EmbeddedEngine.open(folder, EngineOptions(memtable_rows_max=ROWS))
    engine.create_index(DOCS, IndexConfig(DIMENSIONS, Metric.COSINE), None)
    index = MetadataIndex("part", IndexType.STRING)
    engine.append(DOCS, CreateMetadataIndex(index)).result()
    batch = VectorBatch(
        [f"v{row}" for row in range(ROWS)],
        vectors()[:ROWS],
        [""] * ROWS,
        [b'{"part":"%s"}' % part_of(row) for row in range(ROWS)],
    )
    last = engine.append(DOCS, Upsert(batch)).result()
    assert engine.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
    engine.compact(DOCS)
    yield engine
    engine.close()


def ask(query: Floats, effort: Effort, *filter_: Predicate) -> Query:
    return Query(top_k=10, vector=query, effort=effort, filter=filter_, explain=True)


def test_exact_effort_scores_every_vector_and_the_others_ever_fewer(
    engine: EmbeddedEngine,
) -> None:
    scored = []
    for effort in (Effort.LOW, Effort.STANDARD, Effort.HIGH, Effort.EXACT):
        (step,) = engine.query(DOCS, ask(vectors()[ROWS], effort)).explanations
        scored.append(step.scored_count)
        assert step.vector_count == step.selected_count == ROWS
        assert step.method == ("exact scan" if effort is Effort.EXACT else "codes")
        assert step.rescored_count >= 10

    assert scored == sorted(set(scored))
    assert scored[-1] == ROWS


def test_standard_effort_finds_what_exact_effort_finds(engine: EmbeddedEngine) -> None:
    found = 0
    for query in vectors()[ROWS:]:
        exact = engine.query(DOCS, ask(query, Effort.EXACT)).matches
        standard = engine.query(DOCS, ask(query, Effort.STANDARD)).matches

        assert len(standard) == 10
        found += len({match.id for match in exact} & {match.id for match in standard})
        scores = {match.id: match.score for match in exact}
        assert all(match.score == scores.get(match.id, match.score) for match in standard)

    assert found >= 0.995 * 10 * 50


@pytest.mark.parametrize(
    ("part", "selected_count", "method"),
    [("tenth", ROWS // 10, "codes of the selected rows"),
     ("few", FEW, "exact over the selected rows"),
     ("rest", ROWS - ROWS // 10 - FEW, "codes")],
)  # fmt: skip
def test_an_explanation_names_how_a_filter_was_used(
    engine: EmbeddedEngine, part: str, selected_count: int, method: str
) -> None:
    wanted = Predicate("part", Operator.EQ, (part,))

    (step,) = engine.query(DOCS, ask(vectors()[ROWS], Effort.STANDARD, wanted)).explanations

    assert step.part.startswith("segment ")
    assert step.selected_count == selected_count
    assert step.method == method
    assert 10 <= step.rescored_count <= step.scored_count <= selected_count
    assert (step.scored_count == selected_count) == method.startswith("exact")
    assert min(step.select_ms, step.candidates_ms, step.rescore_ms) >= 0


def test_an_explanation_says_exact_where_codes_would_have_read_every_row(
    engine: EmbeddedEngine,
) -> None:
    wanted = Predicate("part", Operator.EQ, ("tenth",))
    query = replace(ask(vectors()[ROWS], Effort.STANDARD, wanted), top_k=ROWS // 15)

    (step,) = engine.query(DOCS, query).explanations

    assert step.scored_count == step.selected_count == ROWS // 10
    assert step.method == "exact over the selected rows"


def test_a_query_that_names_no_effort_has_the_index_s(tmp_path: Path) -> None:
    values = vectors()
    engine = EmbeddedEngine.open(tmp_path, EngineOptions())
    engine.create_index(DOCS, IndexConfig(DIMENSIONS, Metric.COSINE, effort=Effort.EXACT), None)
    batch = VectorBatch(
        [f"v{row}" for row in range(ROWS)], values[:ROWS], [""] * ROWS, [b""] * ROWS
    )
    engine.append(DOCS, Upsert(batch)).result()
    engine.compact(DOCS)
    engine.close()
    engine = EmbeddedEngine.open(tmp_path, EngineOptions())

    (unnamed,) = engine.query(DOCS, Query(10, values[ROWS], explain=True)).explanations
    (named,) = engine.query(DOCS, ask(values[ROWS], Effort.LOW)).explanations
    engine.close()

    assert (unnamed.method, named.method) == ("exact scan", "codes")


def test_nothing_is_explained_unless_asked(engine: EmbeddedEngine) -> None:
    query = replace(ask(vectors()[ROWS], Effort.STANDARD), explain=False)

    assert engine.query(DOCS, query).explanations == ()
