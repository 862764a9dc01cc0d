"""The tools of `vicinal mcp` find words, alone and beside vectors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from tests.support.commands import Commands
from tests.support.embedder import TINY
from tests.support.inline import InlineEngine, open_inline
from tests.unit.cli.test_agents import TEXTS, result, told
from vicinal.cli.client import Client, Target


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[InlineEngine]:
    """What the server of these tools keeps its indexes in."""
    opened = open_inline(tmp_path / "engine")
    yield opened
    opened.close()


@pytest.fixture
def client(vicinal: Commands) -> Iterator[Client]:
    """A client of a server that has an index for texts."""
    trusted = Target(vicinal.server.origin, vicinal.server.token, vicinal.server.account)
    with trusted.connect() as client:
        config = {"dimensions": 4, "metric": "cosine", "model": TINY}
        client.post(client.indexes(), {"name": "docs", "config": config})
        indexed = {"propertyName": "year", "indexType": "number"}
        client.post(client.indexes("docs", "metadata_index", "create"), indexed)
        yield client


def test_words_are_found_alone_and_beside_a_text_a_vector_or_an_id(client: Client) -> None:
    indexed = {"propertyName": "text", "indexType": "text", "language": "english"}
    client.post(client.indexes("docs", "metadata_index", "create"), indexed)
    result(client, "upsert_texts", {"index": "docs", "texts": TEXTS})

    def found(**arguments: object) -> list[str]:
        answer = result(client, "search", {"index": "docs", **arguments})
        return [match["id"] for match in answer["matches"]]

    assert found(words="cloud") == ["rain"]
    assert found(words="player") == ["chess"]
    assert found(words="player cloud", filter={"year": {"$gte": 1980}}) == ["rain"]
    assert found(words="nothing") == []
    assert found(text=TEXTS[0]["text"]) == ["chess", "rain"]
    assert found(text=TEXTS[0]["text"], words="falling clouds water")[0] == "rain"
    assert found(id="chess", words="falling clouds water")[0] == "rain"
    assert sorted(found(vector=[1, 0, 0, 0], words="cloud")) == ["chess", "rain"]
    described = result(client, "describe_index", {"index": "docs"})
    assert described["filterable_properties"] == [{"name": "year", "type": "number"}]
    assert described["text_properties"] == ["text"]


def nested(depth: int) -> object:
    filter_: object = {"year": 1}
    for _ in range(depth):
        filter_ = {"$not": filter_}
    return filter_


@pytest.mark.parametrize(
    "arguments",
    [
        {"words": "\ud800"},
        {"words": "cloud", "namespace": "\ud800"},
        {"id": "\ud800"},
        {"text": "\ud800"},
        {"index": "\ud800", "words": "cloud"},
        {"words": ""},
        {"words": "x" * 100_000},
        {"words": "é" * 8_000},
        {"words": 5},
        {"vector": [float("nan"), 0, 0, 0]},
        {"vector": [float("inf"), 0, 0, 0]},
        {"words": "cloud", "filter": nested(50)},
        {"words": "cloud", "filter": nested(150)},
        {"words": "cloud", "filter": {"year": "\ud800"}},
        {"words": "cloud", "top_k": 10**30},
    ],
)  # fmt: skip
def test_arguments_that_no_search_can_have_are_told_in_a_sentence(
    client: Client, arguments: dict[str, object]
) -> None:
    indexed = {"propertyName": "text", "indexType": "text"}
    client.post(client.indexes("docs", "metadata_index", "create"), indexed)

    said = told(client, "search", {"index": "docs", **arguments})

    assert "Traceback" not in said
    assert len(said) < 1_000
