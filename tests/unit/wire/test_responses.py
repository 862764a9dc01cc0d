"""Results are written with the members, spellings and numbers that clients read."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from vicinal.model import (
    Accepted,
    Floats,
    Index,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Page,
    QueryResult,
    ScoredVector,
    Seqno,
    Status,
    StoredVector,
)
from vicinal.wire import responses

MOMENT = datetime(2022, 11, 15, 18, 25, 44, 442097, tzinfo=UTC)


def floats(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)


def index(**members: Any) -> Index:
    return Index(
        **{
            "id": "7b3c",
            "name": "docs",
            "description": None,
            "config": IndexConfig(3, Metric.DOT_PRODUCT),
            "created_at": MOMENT,
            **members,
        }
    )


def test_an_index_has_its_config_and_times() -> None:
    assert json.loads(responses.index(index())) == {
        "name": "docs",
        "created_on": "2022-11-15T18:25:44.442097Z",
        "modified_on": "2022-11-15T18:25:44.442097Z",
        "config": {"dimensions": 3, "metric": "dot-product"},
    }


def test_a_description_and_a_preset_are_shown_when_there_are_any() -> None:
    config = IndexConfig(768, Metric.COSINE, preset="@cf/baai/bge-base-en-v1.5")

    shown = json.loads(responses.index(index(description="é", config=config)))

    assert shown["description"] == "é"
    assert shown["config"]["preset"] == "@cf/baai/bge-base-en-v1.5"


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05.000000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 1, tzinfo=UTC), "2026-01-02T03:04:05.000001Z"),
        (
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5))),
            "2026-01-01T22:04:05.000000Z",
        ),
    ],
)
def test_times_are_utc_with_microseconds(moment: datetime, shown: str) -> None:
    assert json.loads(responses.index(index(created_at=moment)))["created_on"] == shown


def test_indexes_are_a_bare_array() -> None:
    assert responses.indexes([]) == b"[]"
    names = [each["name"] for each in json.loads(responses.indexes([index(), index(name="b")]))]
    assert names == ["docs", "b"]


def test_a_write_is_proved_by_its_id() -> None:
    assert responses.mutation(Accepted("m-1", Seqno(4))) == b'{"mutationId":"m-1"}'


def test_a_match_has_no_members_that_were_not_asked_for() -> None:
    result = QueryResult((ScoredVector("1", float(np.float32(0.89693683)), ""),))

    assert responses.query_result(result) == (
        b'{"count":1,"matches":[{"id":"1","score":0.89693683}]}'
    )


def test_a_match_has_what_was_asked_for() -> None:
    match = ScoredVector("é", 1.0, "n", floats(58.8, -0.0, 3), b'{"b":1,"a":1.0}')

    assert responses.query_result(QueryResult((match,))).decode() == (
        '{"count":1,"matches":[{"id":"é","score":1.0,"values":[58.79999923706055,-0.0,3.0],'
        '"metadata":{"b":1,"a":1.0},"namespace":"n"}]}'
    )


@pytest.mark.parametrize("metadata", [None, b""])
def test_a_match_without_metadata_shows_none(metadata: bytes | None) -> None:
    shown = json.loads(
        responses.query_result(QueryResult((ScoredVector("1", 1.0, "", None, metadata),)))
    )

    assert shown["matches"] == [{"id": "1", "score": 1.0}]


def test_metadata_that_is_an_empty_object_is_shown() -> None:
    shown = json.loads(
        responses.query_result(QueryResult((ScoredVector("1", 1.0, "", None, b"{}"),)))
    )

    assert shown["matches"][0]["metadata"] == {}


def test_no_matches_are_a_result_too() -> None:
    assert responses.query_result(QueryResult(())) == b'{"count":0,"matches":[]}'


def test_matches_keep_their_order() -> None:
    result = QueryResult(
        (ScoredVector("b", 2.0, ""), ScoredVector("a", 1.0, ""), ScoredVector("c", 3.0, ""))
    )

    shown = json.loads(responses.query_result(result))

    assert [each["id"] for each in shown["matches"]] == ["b", "a", "c"]
    assert shown["count"] == 3


@pytest.mark.parametrize(
    ("score", "digits"),
    [
        (0.9999095, "0.9999095"),
        (0.1, "0.1"),
        (1 / 3, "0.33333334"),
        (0.0, "0.0"),
        (-1.0, "-1.0"),
        (1e-20, "1e-20"),
        (3.4028234663852886e38, "3.4028235e38"),
        (16777216, "16777216.0"),
        (123456.789, "123456.79"),
    ],
)
def test_a_score_has_the_fewest_digits_that_name_its_float32(score: float, digits: str) -> None:
    widened = float(np.float32(score))

    body = responses.query_result(QueryResult((ScoredVector("a", widened, ""),)))

    assert f'"score":{digits}}}'.encode() in body
    assert np.float32(json.loads(body)["matches"][0]["score"]) == np.float32(score)


def test_vectors_are_a_bare_array_with_all_they_hold() -> None:
    stored = [
        StoredVector("a", floats(58.8), "n", b'{"k":1}'),
        StoredVector("b", floats(1e-45), "", b""),
    ]

    assert responses.vectors([]) == b"[]"
    assert json.loads(responses.vectors(stored)) == [
        {"id": "a", "values": [58.79999923706055], "metadata": {"k": 1}, "namespace": "n"},
        {"id": "b", "values": [1.401298464324817e-45]},
    ]


def test_a_status_tells_what_is_readable() -> None:
    status = Status(3, 7, Seqno(2), "m-2", MOMENT)

    assert json.loads(responses.status(status)) == {
        "dimensions": 3,
        "vectorCount": 7,
        "processedUpToDatetime": "2022-11-15T18:25:44.442097Z",
        "processedUpToMutation": "m-2",
    }


def test_a_status_before_the_first_mutation_has_nulls() -> None:
    assert json.loads(responses.status(Status(3, 0, Seqno(0), None, None))) == {
        "dimensions": 3,
        "vectorCount": 0,
        "processedUpToDatetime": None,
        "processedUpToMutation": None,
    }


def test_a_page_says_where_to_go_on() -> None:
    assert json.loads(responses.page(Page(["a", "b"], 5, "cursor", MOMENT))) == {
        "count": 2,
        "totalCount": 5,
        "isTruncated": True,
        "nextCursor": "cursor",
        "cursorExpirationTimestamp": "2022-11-15T18:25:44.442097Z",
        "vectors": [{"id": "a"}, {"id": "b"}],
    }


def test_the_last_page_has_nulls() -> None:
    assert json.loads(responses.page(Page([], 0, None, None))) == {
        "count": 0,
        "totalCount": 0,
        "isTruncated": False,
        "nextCursor": None,
        "cursorExpirationTimestamp": None,
        "vectors": [],
    }


def test_metadata_indexes_are_always_a_list_with_types_in_lower_case() -> None:
    assert responses.metadata_indexes([]) == b'{"metadataIndexes":[]}'
    listed = [MetadataIndex("a.b", IndexType.STRING), MetadataIndex("n", IndexType.NUMBER)]
    assert json.loads(responses.metadata_indexes(listed)) == {
        "metadataIndexes": [
            {"propertyName": "a.b", "indexType": "string"},
            {"propertyName": "n", "indexType": "number"},
        ]
    }


def test_embeddings_have_their_shape() -> None:
    body = responses.embedding(np.array([[58.8, 1], [2, 3]], dtype=np.float32), "mean")

    assert json.loads(body) == {
        "shape": [2, 2],
        "data": [[58.79999923706055, 1.0], [2.0, 3.0]],
        "pooling": "mean",
    }
    assert "pooling" not in json.loads(responses.embedding(np.zeros((1, 2), np.float32), None))


def test_openai_embeddings_are_a_list_of_numbers() -> None:
    vectors = np.array([[0.5, 1], [2, 3]], dtype=np.float32)

    body = responses.openai_embedding(vectors, model="m", encoding="float", token_count=9)

    assert json.loads(body) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [2.0, 3.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }


def test_openai_embeddings_in_base64_are_little_endian_float32() -> None:
    vectors = np.array([[58.8, -1e-3]], dtype=np.float32)

    body = responses.openai_embedding(vectors, model="m", encoding="base64", token_count=1)

    decoded = base64.b64decode(json.loads(body)["data"][0]["embedding"])
    np.testing.assert_array_equal(np.frombuffer(decoded, dtype="<f4"), vectors[0])
