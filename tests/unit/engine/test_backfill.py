"""A metadata index is backfilled while its vectors are written, sealed, merged and deleted."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.engines import DOCS, Record, batch
from tests.support.holding import Held
from tests.support.model_engine import ModelEngine
from vicinal import metadata
from vicinal.engine import backfill
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.state import State
from vicinal.errors import AlreadyExists, Error
from vicinal.filters.nodes import Operator, Predicate
from vicinal.keywords.analyzer import Analyzer
from vicinal.model import (
    Accepted,
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Mutation,
    Query,
    Upsert,
)
from vicinal.ranking import TextQuery

TEXT = MetadataIndex("text", IndexType.TEXT, "english")
COLOR = MetadataIndex("color", IndexType.STRING)
ROWS = 40  # of a memtable
WORDS = ["fox", "hound", "badger", "owl", "mouse"]


def opened_at(folder: Path) -> EmbeddedEngine:
    return EmbeddedEngine.open(folder, EngineOptions(memtable_rows_max=ROWS))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    with closing(opened_at(tmp_path)) as opened:
        opened.create_index(DOCS, IndexConfig(2, Metric.COSINE), None)
        yield opened


@pytest.fixture
def model() -> ModelEngine:
    """An engine that has no segments, and that nothing is done in meanwhile."""
    created = ModelEngine()
    created.create_index(DOCS, IndexConfig(2, Metric.COSINE), None)
    return created


def write(mutation: Mutation, *engines: Engine) -> None:
    """Write to engines, and wait until queries see it."""
    for engine in engines:
        accepted = engine.append(DOCS, mutation).result(60)
        assert engine.wait_applied(DOCS, accepted.seqno, 60)


def rows(first: int, count: int, word: str = "") -> Upsert:
    return Upsert(
        batch(
            *(
                Record(
                    f"v{number}",
                    [1.0, number],
                    metadata={
                        "text": f"{word} {WORDS[number % 5]} {WORDS[number % 3]}",
                        "color": ["red", "green"] if number % 4 == 0 else WORDS[number % 2],
                    },
                )
                for number in range(first, first + count)
            )
        )
    )


class Creation:
    """A metadata index that is being created, held at the first call of a function."""

    def __init__(
        self,
        engine: EmbeddedEngine,
        threads: ThreadPoolExecutor,
        patched: pytest.MonkeyPatch,
        index: MetadataIndex = TEXT,
        at: tuple[object, str] = (Analyzer, "terms"),
    ) -> None:
        self._engine, self._mutation = engine, CreateMetadataIndex(index, backfill=True)
        self._held = Held(patched, *at)
        self.accepted: Future[Accepted] = threads.submit(
            lambda: engine.append(DOCS, self._mutation).result(60)
        )
        self._held.wait()

    def go_on(self) -> None:
        self._held.go_on()

    def finish(self, model: ModelEngine) -> None:
        """Go on to the end, and do the same in the model."""
        self.go_on()
        assert self._engine.wait_applied(DOCS, self.accepted.result(60).seqno, 60)
        write(self._mutation, model)


Create = Callable[..., Creation]
"""Begins one; takes its index and where it is held, if these are others."""


@pytest.fixture
def create(engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Create]:
    with ThreadPoolExecutor(2) as threads:
        yield partial(Creation, engine, threads, monkeypatch)


def assert_same_words(engine: EmbeddedEngine, model: ModelEngine) -> None:
    """Check that each word finds each row that has it once, with its score."""
    for text in [*WORDS, "new", "new fox owl"]:
        query = Query(1_000, text=TextQuery(text))
        found, expected = engine.query(DOCS, query), model.query(DOCS, query)
        assert not found.partial
        assert len(found.matches) == len(expected.matches)
        assert {m.id: m.score for m in found.matches} == pytest.approx(
            {m.id: m.score for m in expected.matches}
        ), text


def test_writes_are_acknowledged_and_visible_while_older_texts_are_cut_to_words(
    engine: EmbeddedEngine,
    model: ModelEngine,
    create: Create,
) -> None:
    write(rows(0, 2 * ROWS + 5), engine, model)
    creation = create()

    write(rows(3, 4, "new"), engine, model)
    write(rows(1_000, 5, "new"), engine, model)
    write(Delete(["v0", "v84", "v1004"]), engine, model)

    assert [vector.id for vector in engine.get(DOCS, ["v1000", "v0"])] == ["v1000"]
    assert not creation.accepted.done()
    assert not engine.list_metadata_indexes(DOCS)

    creation.finish(model)
    assert_same_words(engine, model)
    write(rows(5, 90, "new"), engine, model)
    assert_same_words(engine, model)


def test_filters_find_each_row_once_that_was_written_while_their_index_was_backfilled(
    engine: EmbeddedEngine,
    model: ModelEngine,
    create: Create,
) -> None:
    write(rows(0, 2 * ROWS + 5), engine, model)
    creation = create(COLOR, (metadata, "indexed_value"))

    write(rows(3, 4), engine, model)
    write(rows(1_000, 5), engine, model)
    assert not creation.accepted.done()

    creation.finish(model)
    for predicate in [
        Predicate("color", Operator.EQ, ("fox",)),
        Predicate("color", Operator.NE, ("fox",)),
        Predicate("color", Operator.CONTAINS, ("green",)),
    ]:
        query = Query(1_000, vector=np.ones(2, np.float32), filter=(predicate,))
        found, expected = engine.query(DOCS, query), model.query(DOCS, query)
        assert not found.partial
        assert sorted(m.id for m in found.matches) == sorted(m.id for m in expected.matches)


def _sealed(engine: EmbeddedEngine, model: ModelEngine) -> None:
    write(rows(1_000, ROWS + 3, "new"), engine, model)
    engine.compact(DOCS)


def _merged(engine: EmbeddedEngine, model: ModelEngine) -> None:
    for first in range(0, 4 * ROWS, ROWS):
        write(rows(first + 7, ROWS, "new"), engine, model)
        engine.compact(DOCS)


def _deleted(engine: EmbeddedEngine, model: ModelEngine) -> None:
    write(Delete([f"v{number}" for number in range(200)]), engine, model)
    engine.compact(DOCS)
    write(rows(2, 3, "new"), engine, model)


def _dropped(engine: EmbeddedEngine, model: ModelEngine) -> None:
    write(DeleteMetadataIndex("text"), engine, model)
    write(rows(2, 3, "new"), engine, model)


def _created(engine: EmbeddedEngine, model: ModelEngine) -> None:
    write(DeleteMetadataIndex("text"), engine, model)
    write(CreateMetadataIndex(TEXT), engine, model)
    write(rows(2, 3, "new"), engine, model)


@pytest.mark.parametrize("meanwhile", [_sealed, _merged, _deleted, _dropped, _created])
@pytest.mark.parametrize("is_there", [False, True], ids=["new", "partial"])
def test_whatever_happens_while_texts_are_cut_to_words_each_row_is_found_once(
    tmp_path: Path,
    engine: EmbeddedEngine,
    model: ModelEngine,
    create: Create,
    meanwhile: Callable[[EmbeddedEngine, ModelEngine], None],
    *,
    is_there: bool,
) -> None:
    write(rows(0, 2 * ROWS + 5), engine, model)
    if is_there or meanwhile in (_dropped, _created):
        write(CreateMetadataIndex(TEXT), engine, model)
        write(rows(500, 9), engine, model)
    creation = create()

    # What is written to a text index that is there is cut to words as well.
    meanwhile(engine, model)

    creation.finish(model)
    assert_same_words(engine, model)
    engine.close()
    with closing(opened_at(tmp_path)) as again:
        assert_same_words(again, model)
        again.compact(DOCS)
        assert_same_words(again, model)


def test_hardly_a_row_is_left_for_the_lock_of_the_state(
    engine: EmbeddedEngine,
    model: ModelEngine,
    create: Create,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backfill, "ROWS_FEW", 0)
    write(rows(0, 2 * ROWS + 5), engine, model)
    creation = create()
    _merged(engine, model)
    under_lock: list[int] = []
    real_apply, real_terms = State.apply, Analyzer.terms

    def apply(state: State, *args: Any) -> None:
        with pytest.MonkeyPatch.context() as patched:

            def terms(analyzer: Analyzer, texts: Any) -> list[str]:
                under_lock.append(1)
                return real_terms(analyzer, texts)

            patched.setattr(Analyzer, "terms", terms)
            real_apply(state, *args)

    monkeypatch.setattr(State, "apply", apply)

    creation.finish(model)
    assert not under_lock
    assert_same_words(engine, model)


def test_an_index_of_another_language_that_was_created_meanwhile_stays(
    engine: EmbeddedEngine, create: Create
) -> None:
    write(rows(0, 5), engine)
    creation = create()
    german = MetadataIndex("text", IndexType.TEXT, "german")

    write(CreateMetadataIndex(german), engine)

    creation.go_on()
    with pytest.raises(AlreadyExists, match="german"):
        creation.accepted.result(60)
    assert list(engine.list_metadata_indexes(DOCS)) == [german]


def test_what_is_refused_is_refused_before_any_text_is_cut_to_words(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(rows(0, 5), engine)
    write(CreateMetadataIndex(MetadataIndex("text", IndexType.STRING)), engine)
    held = Held(monkeypatch, Analyzer, "terms")

    with pytest.raises(AlreadyExists):
        engine.append(DOCS, CreateMetadataIndex(TEXT, backfill=True))

    assert not held.is_begun.is_set()


@pytest.mark.parametrize("is_deleted", [False, True], ids=["closed", "deleted"])
def test_nothing_of_an_index_is_left_when_it_ends_while_texts_are_cut_to_words(
    tmp_path: Path,
    engine: EmbeddedEngine,
    create: Create,
    *,
    is_deleted: bool,
) -> None:
    write(rows(0, 2 * ROWS + 5), engine)
    creation = create()

    if is_deleted:
        engine.delete_index(DOCS)
    else:
        engine.close()

    creation.go_on()
    with pytest.raises(Error):
        creation.accepted.result(60)
    engine.close()
    with closing(opened_at(tmp_path)) as again:
        if not is_deleted:
            assert not again.list_metadata_indexes(DOCS)
            assert again.status(DOCS).vector_count == 2 * ROWS + 5
