"""Members of a query that are ours are read, or refused with their name and bound."""

import json
from typing import Any

import numpy as np
import pytest

from vicinal.engine import ranked_search
from vicinal.errors import BadBody, InvalidInput
from vicinal.limits import PROFILES, Limits
from vicinal.model import CreateMetadataIndex, IndexType, MetadataIndex, Query
from vicinal.ranking import Diversity, Fusion, Grouping, Reranking, TextQuery
from vicinal.wire import requests, schemas

LIMITS = Limits()


def read(document: object, limits: Limits = LIMITS) -> Query:
    return requests.query(json.dumps(document).encode(), 2, limits)


def test_a_text_may_stand_alone_or_beside_a_vector() -> None:
    assert read({"text": "red fox"}) == Query(5, text=TextQuery("red fox"))
    assert read({"text": "fox", "vector": []}) == Query(5, text=TextQuery("fox"))
    both = read({"text": "fox", "vector": [1, 0], "topK": 3})
    assert both.vector is not None
    assert both.vector.tolist() == [1, 0]
    assert both.text == TextQuery("fox")
    stored = read({"text": "fox", "vector": [1, 0], "vectorId": "a"})
    assert (stored.vector, stored.vector_id, stored.text) == (None, "a", TextQuery("fox"))


def test_a_query_without_any_of_them_is_plain() -> None:
    for document in (
        {"vector": [1, 0]},
        {"vector": [1, 0], "hybrid": False, "returnScores": False, "returnHighlights": False},
        {"vectorId": "a", "text": None, "mmr": None, "rerank": None, "groupBy": None},
    ):
        assert not ranked_search.is_needed(read(document))


@pytest.mark.parametrize(
    ("members", "changes"),
    [
        ({"hybrid": True}, {"needs_vector": True}),
        ({"hybrid": True, "vectorId": "a"}, {}),
        ({"hybrid": {"fusion": "scores", "textShare": 0.2}, "vectorId": "a"},
         {"fusion": Fusion.SCORES, "share": 0.2}),
        ({"textWeights": {"a.b": 2, "c": 0.5}}, {"weights": (("a.b", 2.0), ("c", 0.5))}),
        ({"textWeights": {"a": 1e6, "b": 1e-6}}, {"weights": (("a", 1e6), ("b", 1e-6))}),
    ],
)  # fmt: skip
def test_options_of_the_text_are_read(members: Any, changes: dict[str, Any]) -> None:
    assert read({"text": "fox", **members}).text == TextQuery("fox", **changes)


def test_diversity_groups_and_reranking_are_read() -> None:
    query = read(
        {
            "vector": [1, 0],
            "topK": 10,
            "text": "fox",
            "mmr": {"lambda": 0.25, "fetchK": 33},
            "groupBy": {"property": "url"},
            "rerank": {"property": "text", "model": "m"},
            "returnScores": True,
            "returnHighlights": True,
        }
    )
    assert query.diversity == Diversity(0.25, 33)
    assert query.grouping == Grouping("url", 1)
    assert query.reranking == Reranking("text", "m", 40)
    assert query.return_scores
    assert query.return_highlights
    assert read({"vector": [1, 0], "topK": 1, "mmr": {}}).diversity == Diversity(0.5, 20)
    assert read({"vectorId": "a", "groupBy": {"property": "u", "count": 3}}).grouping == Grouping(
        "u", 3
    )


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"text": ""}, "text: must have words in it"),
        ({"text": " \n\t"}, "text: must have words in it"),
        ({"text": "a" * 8_193}, "text: max is 8192 bytes, got 8193 bytes"),
        ({"text": "é" * 500_000}, "text: max is 8192 bytes, got 1000000 bytes"),
        ({"text": 7}, "text: Expected `str | null`, got `int`"),
        ({"text": ["a"]}, "text: Expected `str | null`, got `array`"),
        ({"textWeights": {"a": 1}}, "textWeights: needs text beside it"),
        ({"hybrid": True}, "hybrid: needs text beside it"),
        ({"hybrid": {}}, "hybrid: needs text beside it"),
        ({"rerank": {"property": "a"}}, "rerank: needs text beside it"),
        ({"returnHighlights": True}, "returnHighlights: needs text beside it"),
        ({"text": "a", "textWeights": {"b": 0}}, "textWeights: 'b' must be above 0, got 0"),
        ({"text": "a", "textWeights": {"b": -1}}, "textWeights: 'b' must be above 0, got -1"),
        ({"text": "a", "textWeights": {"b": 1e308}},
         "textWeights: 'b' must be from 1e-06 to 1e+06, got 1e+308"),
        ({"text": "a", "textWeights": {"b": 1.1e6}}, "must be from 1e-06 to 1e+06, got 1100000.0"),
        ({"text": "a", "textWeights": {"b": 9e-7}}, "must be from 1e-06 to 1e+06, got 9e-07"),
        ({"text": "a", "textWeights": {"b": 5e-324}}, "must be from 1e-06 to 1e+06, got 5e-324"),
        ({"text": "a", "textWeights": {f"p{n}": 1 for n in range(11)}},
         "textWeights: max is 10 properties, got 11"),
        ({"text": "a", "textWeights": {"b": "x"}}, "Expected `float`, got `str`"),
        ({"text": "a", "hybrid": {"textShare": 1.5}},
         "hybrid.textShare: must be from 0 to 1, got 1.5"),
        ({"text": "a", "hybrid": {"fusion": "sum"}}, "expected one of ranks, scores"),
        ({"mmr": {"lambda": -0.1}}, "mmr.lambda: must be from 0 to 1, got -0.1"),
        ({"mmr": {"fetchK": 4}}, "mmr.fetchK: must be from topK, 5, to 1000, got 4"),
        ({"mmr": {"fetchK": 1_001}}, "mmr.fetchK: must be from topK, 5, to 1000, got 1001"),
        ({"groupBy": {}}, "Object missing required field `property`"),
        ({"groupBy": {"property": "a", "count": 0}}, "groupBy.count: must be from 1 to 100, got 0"),
        ({"text": "a", "rerank": {"property": "a", "fetchK": 10**9}},
         "rerank.fetchK: must be from topK, 5, to 1000, got 1000000000"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_name(members: Any, complaint: str) -> None:
    with pytest.raises(BadBody) as refused:
        read({"vector": [1, 0], **members})
    assert complaint in str(refused.value)


def test_without_a_text_a_vector_is_missed_as_ever() -> None:
    with pytest.raises(BadBody, match="expected one of vector and vectorId, got neither"):
        read({"mmr": {}})
    with pytest.raises(InvalidInput, match="and got 0 dimensions"):
        read({"vector": []})


@pytest.mark.parametrize("limits", PROFILES.values(), ids=PROFILES)
def test_every_profile_has_room_for_its_own_top_k(limits: Limits) -> None:
    query = read({"text": "a", "topK": limits.top_k_max, "mmr": {}}, limits)
    assert query.diversity is not None
    assert query.diversity.candidate_count >= limits.top_k_max


def create(document: object) -> CreateMetadataIndex:
    return requests.create_metadata_index(json.dumps(document).encode(), LIMITS)


def test_a_text_index_has_a_language_or_none() -> None:
    document = {"propertyName": "a", "indexType": "text"}
    index = MetadataIndex("a", IndexType.TEXT)
    assert create(document) == CreateMetadataIndex(index)
    index = MetadataIndex("a", IndexType.TEXT, "english")
    assert create({**document, "language": "english"}) == CreateMetadataIndex(index)
    with pytest.raises(BadBody, match="language: 'klingon' is none of arabic, "):
        create({**document, "language": "klingon"})
    with pytest.raises(BadBody, match="language: an index of type string has none"):
        create({"propertyName": "a", "indexType": "string", "language": "english"})


def test_a_vector_that_is_an_array_in_memory_is_read_beside_a_text() -> None:
    request = schemas.QueryRequest(text="a")
    query = requests.checked_query(request, np.array([1.0, 2.0]), 2, LIMITS)
    assert query.vector is not None
    assert query.text == TextQuery("a")


@pytest.mark.parametrize(
    ("members", "beginning"),
    [
        ({"text": "a", "hybrid": {"fusion": "x" * 100_000}}, "hybrid.fusion: Invalid enum value"),
        ({"vector": [1, 0], "returnMetadata": "x" * 100_000}, "returnMetadata: Invalid enum value"),
    ],
)
def test_a_value_of_any_length_is_shown_by_its_start(
    members: dict[str, Any], beginning: str
) -> None:
    with pytest.raises(BadBody, match=beginning) as raised:
        read(members)

    assert len(str(raised.value)) < 400
    assert "expected one of" in str(raised.value)
