"""The tools of `vicinal mcp` find words, alone and beside vectors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from tests.support.commands import Commands
from tests.support.embedder import TINY
from tests.support.inline import InlineEngine, open_inline
from tests.unit.cli.test_agents import TEXTS, result
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
