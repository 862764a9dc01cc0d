"""The demo's facts are fit to be stored and filtered, and loading them twice does nothing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.support.asgi import application
from tests.support.commands import Commands, Recorder
from tests.support.embedder import TINY, TinyEmbedder
from tests.support.server import in_thread
from vicinal.cli import demo
from vicinal.cli.client import Target
from vicinal.embeddings.base import Embedding, Pooling
from vicinal.limits import Limits
from vicinal.model import CreateMetadataIndex, Upsert
from vicinal.wire import vectors

MINILM = "@hf/sentence-transformers/all-minilm-l6-v2"


class CountingEmbedder(TinyEmbedder):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, model: str, texts: Sequence[str], pooling: Pooling | None = None) -> Embedding:
        self.texts += texts
        return super().embed(model, texts, pooling)


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def vicinal(tmp_path: Path, engine: Recorder, embedder: CountingEmbedder) -> Iterator[Commands]:
    with in_thread(application(tmp_path, engine=engine, embedder=embedder)) as server:
        yield Commands(server)


def test_there_are_a_few_hundred_facts_of_many_topics() -> None:
    facts = demo.read_facts()
    topics = Counter(fact.topic for fact in facts)

    assert len(facts) >= 300
    assert len({fact.id for fact in facts}) == len({fact.text for fact in facts}) == len(facts)
    assert len(topics) >= 10
    assert min(topics.values()) >= 20


def test_every_property_tells_some_facts_from_others() -> None:
    facts = demo.read_facts()

    years = [fact.year for fact in facts if fact.year is not None]
    assert 100 <= len(years) < len(facts)
    assert min(years) < 1000 < 2000 < max(years) <= 2021
    assert 50 <= sum(fact.natural for fact in facts) <= len(facts) - 50
    continents = Counter(fact.location["continent"] for fact in facts if fact.location)
    assert set(continents) == {
        *("Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America")
    }
    assert len(facts) - continents.total() >= 50


def test_facts_are_within_the_strictest_limits() -> None:
    records = [
        {"id": fact.id, "values": [1.0], "metadata": msgspec.to_builtins(fact)}
        for fact in demo.read_facts()
    ]

    assert len(vectors.batch(records, 1, Limits())) == len(records)


def test_loading_stores_every_story_and_fact_behind_their_metadata_indexes(
    vicinal: Commands, engine: Recorder
) -> None:
    vicinal.ok("demo", "--model", TINY)

    stored = sum(len(each.batch) for each in engine.appended if isinstance(each, Upsert))
    assert stored == len(demo.STORIES) + len(demo.read_facts())
    kinds = [type(each) for each in engine.appended]
    assert kinds == [Upsert, *[CreateMetadataIndex] * 4, *[Upsert] * (len(kinds) - 5)]


def test_its_indexes_know_the_model_of_their_texts(vicinal: Commands, engine: Recorder) -> None:
    vicinal.ok("demo", "--model", TINY)

    indexes = engine.list_indexes(vicinal.server.account)
    assert {index.name: index.config.model for index in indexes} == {
        demo.STORIES_INDEX: TINY,
        demo.FACTS_INDEX: TINY,
    }


def test_loading_again_embeds_and_writes_nothing(
    vicinal: Commands, engine: Recorder, embedder: CountingEmbedder
) -> None:
    target = Target(vicinal.server.origin, vicinal.server.token, vicinal.server.account)
    with target.connect() as client:
        demo.load(client, TINY)
        engine.appended.clear()
        embedder.texts.clear()

        demo.load(client, TINY)

    assert engine.appended == []
    assert embedder.texts == []


def test_what_an_interrupted_load_left_is_completed(vicinal: Commands, engine: Recorder) -> None:
    engine.fail_at(7, RuntimeError("stop"))  # in the midst of the facts
    vicinal.fails("demo", "--model", TINY)

    vicinal.ok("demo", "--model", TINY)

    count = len(demo.read_facts())
    assert f"vectors                  {count}" in vicinal.ok("index", "info", demo.FACTS_INDEX)


def test_every_example_is_asked_and_answered(vicinal: Commands) -> None:
    shown = vicinal.ok("demo", "--model", TINY)

    for example in demo.EXAMPLES:
        assert f'"{example.text}"' in shown
    assert shown.count("score") == 1 + len(demo.EXAMPLES)


def test_a_model_that_is_not_there_is_one_sentence(vicinal: Commands) -> None:
    assert MINILM in vicinal.fails("demo")
