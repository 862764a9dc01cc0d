"""Bodies and URL parameters become the model, or are refused naming the member and the rule.

Queries run with each way of reading an object: simdjson first, and the careful reader alone.
"""

import json
from typing import Any

import numpy as np
import pytest

from vicinal.errors import (
    BadBody,
    BadEmbeddingBody,
    BadEmbeddingInput,
    BadFilter,
    BadIndexConfig,
    BadParameter,
    BadQueryVector,
    BadTopK,
    Error,
    NamespaceTooLong,
    TooManyIds,
)
from vicinal.filters.nodes import Operator, Predicate
from vicinal.limits import PROFILES, Limits
from vicinal.model import (
    CreateMetadataIndex,
    DeleteMetadataIndex,
    IndexConfig,
    IndexType,
    MetadataIndex,
    MetadataLevel,
    Metric,
    Query,
)
from vicinal.presets import PRESETS
from vicinal.wire import options, requests
from vicinal.wire.requests import EmbeddingParameters, ListParameters, OpenAIEmbeddingParameters

LIMITS = Limits()
CONFIG = {"dimensions": 3, "metric": "cosine"}
UNREADABLE = [
    b"",
    b"x",
    b"{",
    b'{"a":1}}',
    b"[" * 100_001,
    b'{"vector":' + b"[" * 100_001 + b"1" + b"]" * 100_001 + b"}",
    b'{"\xff":1}',
    b'{"a":NaN}',
    "{}".encode("utf-16"),
]


def raw(value: object) -> bytes:
    return json.dumps(value).encode()


def refusal(error: type[Error], read: Any, *arguments: Any) -> str:
    with pytest.raises(error) as caught:
        read(*arguments)
    return str(caught.value)


def query(limits: Limits = LIMITS, **members: Any) -> Query:
    return requests.query(raw({"vector": [1, 2, 3], **members}), 3, limits)


def test_an_index_is_created_from_dimensions_and_metric() -> None:
    body = raw({"name": "docs", "description": "é", "config": CONFIG, "unknown": []})

    created = requests.create_index(body, LIMITS)

    assert created == requests.CreateIndex("docs", "é", IndexConfig(3, Metric.COSINE))


@pytest.mark.parametrize("preset", PRESETS)
def test_an_index_is_created_from_a_preset(preset: str) -> None:
    body = raw({"name": "docs", "config": {"preset": preset}})

    assert requests.create_index(body, LIMITS).config == PRESETS[preset]


def test_the_config_of_an_index_made_from_a_preset_can_be_sent_back() -> None:
    config = {"preset": "openai/text-embedding-ada-002", "dimensions": 1536, "metric": "cosine"}

    created = requests.create_index(raw({"name": "docs", "config": config}), LIMITS)

    assert created.config.preset == "openai/text-embedding-ada-002"


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot-product"])
@pytest.mark.parametrize("profile", PROFILES)
def test_dimensions_at_and_beyond_the_limits(metric: str, profile: str) -> None:
    limits = PROFILES[profile]

    def created(dimensions: int) -> int:
        body = raw({"name": "x", "config": {"dimensions": dimensions, "metric": metric}})
        return requests.create_index(body, limits).config.dimensions

    for inside in (1, 2, limits.dimensions_max - 1, limits.dimensions_max):
        assert created(inside) == inside
    for outside in (-1, 0, limits.dimensions_max + 1):
        assert refusal(BadIndexConfig, created, outside) == (
            f"Dimensions must be in range: [1, {limits.dimensions_max}], got {outside}"
        )


@pytest.mark.parametrize(
    "name", ["a", "A-b_9", "x" * 64, "0", "tutorial-index", "-"], ids=lambda name: name[:20]
)
def test_index_names_of_letters_digits_dashes_and_underscores_are_accepted(name: str) -> None:
    assert requests.create_index(raw({"name": name, "config": CONFIG}), LIMITS).name == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "a.b", "é", "a\n", "\0", "x" * 65])
def test_other_index_names_are_refused(name: str) -> None:
    message = refusal(
        BadIndexConfig, requests.create_index, raw({"name": name, "config": CONFIG}), LIMITS
    )

    assert message.startswith("Index name")


def test_a_description_is_measured_in_bytes() -> None:
    def created(description: str) -> str | None:
        body = raw({"name": "x", "config": CONFIG, "description": description})
        return requests.create_index(body, LIMITS).description

    assert created("é" * 512) == "é" * 512
    assert "got 1025 bytes" in refusal(BadIndexConfig, created, "é" * 512 + "x")


@pytest.mark.parametrize(
    ("body", "error", "rule"),
    [
        ({}, BadBody, "missing required field `name`"),
        ([], BadBody, "Expected `object`, got `array`"),
        ({"name": 5, "config": CONFIG}, BadBody, "name: Expected `str`, got `int`"),
        ({"name": "x"}, BadIndexConfig, "Config must be provided"),
        ({"name": "x", "config": None}, BadIndexConfig, "Config must be provided"),
        ({"name": "x", "config": []}, BadBody, "config: Expected `object | null`"),
        ({"name": "x", "config": {}}, BadIndexConfig, "dimensions is missing"),
        ({"name": "x", "config": {"dimensions": 3}}, BadIndexConfig, "metric is missing"),
        ({"name": "x", "config": {"metric": "cosine"}}, BadIndexConfig, "dimensions is missing"),
        (
            {"name": "x", "config": {"dimensions": "3", "metric": "cosine"}},
            BadBody,
            "config.dimensions: Expected `int | null`, got `str`",
        ),
        ({"name": "x", "config": {"dimensions": 3.5, "metric": "cosine"}}, BadBody, "dimensions"),
        (
            {"name": "x", "config": {"dimensions": 3, "metric": "manhattan"}},
            BadBody,
            "Invalid enum value 'manhattan', expected one of cosine, euclidean, dot-product",
        ),
        ({"name": "x", "config": {"preset": "y"}}, BadIndexConfig, 'Preset "y" is unknown'),
        ({"name": "x", "config": {"preset": ""}}, BadIndexConfig, 'Preset "" is unknown'),
        (
            {"name": "x", "config": {"preset": "openai/text-embedding-ada-002", "dimensions": 3}},
            BadIndexConfig,
            "has 1536 dimensions",
        ),
        ({"name": "x", "config": CONFIG, "description": 1}, BadBody, "description"),
    ],
)
def test_an_index_that_cannot_be_is_refused(body: object, error: type[Error], rule: str) -> None:
    assert rule in refusal(error, requests.create_index, raw(body), LIMITS)


@pytest.mark.usefixtures("quick")
class TestQuery:
    """Bodies of queries."""

    def test_only_a_vector_is_needed(self) -> None:
        read = query()

        assert read.vector is not None
        assert read.vector.dtype == np.float32
        assert read.vector.tolist() == [1, 2, 3]
        assert (read.top_k, read.vector_id, read.namespace, read.filter) == (5, None, "", ())
        assert (read.return_values, read.return_metadata) == (False, MetadataLevel.NONE)

    def test_a_null_is_as_good_as_nothing(self) -> None:
        read = query(
            vectorId=None,
            topK=None,
            filter=None,
            namespace=None,
            returnValues=None,
            returnMetadata=None,
        )

        assert read.vector is not None
        assert read.vector.tolist() == [1, 2, 3]
        assert (read.top_k, read.vector_id, read.namespace, read.filter) == (5, None, "", ())
        assert (read.return_values, read.return_metadata) == (False, MetadataLevel.NONE)

    def test_everything_can_be_said(self) -> None:
        read = query(
            topK=7,
            namespace="n",
            returnValues=True,
            returnMetadata="indexed",
            filter={"a.b": {"$in": [1, "x"]}},
            unknown={"vector": [[]]},
        )

        assert (read.top_k, read.namespace, read.return_values) == (7, "n", True)
        assert read.return_metadata is MetadataLevel.INDEXED
        assert read.filter == (Predicate("a.b", Operator.IN, (1.0, "x")),)

    def test_members_may_come_in_the_order_of_the_command_line_tool(self) -> None:
        body = (
            b'{"topK":3,"returnValues":false,"returnMetadata":"none","namespace":"n",'
            b'"filter":{"k":{"$in":["a[","b"]}},"vector":[1,2,3]}'
        )

        read = requests.query(body, 3, LIMITS)

        assert read.vector is not None
        assert read.vector.tolist() == [1, 2, 3]
        assert read.filter == (Predicate("k", Operator.IN, ("a[", "b")),)

    def test_an_id_stands_for_a_vector(self) -> None:
        read = requests.query(b'{"vectorId":"x","topK":2}', 3, LIMITS)

        assert (read.vector_id, read.vector, read.top_k) == ("x", None, 2)

    @pytest.mark.parametrize("vector", [[1, 2, 3], [], None, [[1]]])
    def test_an_id_prevails_over_a_vector(self, vector: object) -> None:
        read = query(vector=vector, vectorId="x")

        assert (read.vector_id, read.vector) == ("x", None)

    @pytest.mark.parametrize("body", [{}, {"vector": None}, {"vectorId": None}, {"topK": 3}])
    def test_neither_a_vector_nor_an_id_is_refused(self, body: object) -> None:
        message = refusal(BadBody, requests.query, raw(body), 3, LIMITS)

        assert "expected one of vector and vectorId, got neither" in message

    def test_the_last_of_a_repeated_member_counts(self) -> None:
        body = b'{"vector":[9],"topK":1,"vector":[1,2,3],"filter":{"k":1,"k":2},"topK":2}'

        read = requests.query(body, 3, LIMITS)

        assert read.vector is not None
        assert (read.vector.tolist(), read.top_k) == ([1, 2, 3], 2)
        assert read.filter == (Predicate("k", Operator.EQ, (2.0,)),)

    @pytest.mark.parametrize(
        ("level", "expected"),
        [
            ("none", MetadataLevel.NONE),
            ("indexed", MetadataLevel.INDEXED),
            ("all", MetadataLevel.ALL),
            (True, MetadataLevel.ALL),
            (False, MetadataLevel.NONE),
        ],
    )
    def test_metadata_is_asked_for_by_words_or_booleans(
        self, level: object, expected: MetadataLevel
    ) -> None:
        assert query(returnMetadata=level).return_metadata is expected

    @pytest.mark.parametrize("profile", PROFILES)
    @pytest.mark.parametrize(
        ("options", "bound"),
        [
            ({}, "top_k_max"),
            ({"returnMetadata": "indexed"}, "top_k_max"),
            ({"returnMetadata": False, "returnValues": False}, "top_k_max"),
            ({"returnMetadata": "all"}, "top_k_full_max"),
            ({"returnMetadata": True}, "top_k_full_max"),
            ({"returnValues": True}, "top_k_full_max"),
        ],
    )
    def test_top_k_at_and_above_its_limit(
        self, profile: str, options: dict[str, Any], bound: str
    ) -> None:
        limits = PROFILES[profile]
        largest = getattr(limits, bound)

        for inside in (1, largest - 1, largest, float(largest)):
            assert query(limits, topK=inside, **options).top_k == inside
        for above in (largest + 1, limits.top_k_max + 1):
            with pytest.raises(BadTopK, match=f"but got {above}"):
                query(limits, topK=above, **options)

    @pytest.mark.parametrize("top_k", [0, -1, 0.5, 1.5, -0.0])
    def test_top_k_must_be_a_positive_integer(self, top_k: float) -> None:
        assert refusal(BadTopK, lambda: query(topK=top_k)) == (
            f"top K must be an integer from 1 to 100, but got {top_k}"
        )

    @pytest.mark.parametrize("literal", [b"1e400", b"-1e400", b"1e300", b"9" * 300])
    def test_an_enormous_top_k_is_refused(self, literal: bytes) -> None:
        message = refusal(
            BadTopK, requests.query, b'{"vector":[1,2,3],"topK":' + literal + b"}", 3, LIMITS
        )

        assert len(message) < 150

    @pytest.mark.parametrize(
        ("members", "rule"),
        [
            ({"topK": "5"}, "topK: Expected `int | float | null`, got `str`"),
            ({"topK": True}, "topK: Expected `int | float | null`, got `bool`"),
            ({"topK": [5]}, "topK: Expected `int | float | null`, got `array`"),
            ({"returnValues": "true"}, "returnValues: Expected `bool | null`, got `str`"),
            ({"returnValues": 1}, "returnValues: Expected `bool | null`, got `int`"),
            (
                {"returnMetadata": "full"},
                "returnMetadata: Invalid enum value 'full', expected one of all, indexed, none",
            ),
            ({"returnMetadata": 1}, "returnMetadata"),
            ({"namespace": 5}, "namespace: Expected `str | null`, got `int`"),
            ({"vectorId": 5}, "vectorId: Expected `str | null`, got `int`"),
            ({"vectorId": ""}, "vectorId: must not be empty"),
            ({"vector": "abc"}, "vector: expected an array of numbers, got a string"),
            ({"vector": 5}, "vector: expected an array of numbers, got a number"),
            ({"vector": [1, None, 3]}, "vector[1]: expected a number, got null"),
            ({"vector": [1, 2, "3"]}, "vector[2]: expected a number, got a string"),
            ({"vector": [True, 2, 3]}, "vector[0]: expected a number, got a boolean"),
            ({"vector": [1, float("nan"), 3]}, "vector[1]: expected a number, got NaN"),
            ({"vector": [1, 2, 1e39]}, "vector[2]: 1e+39 is beyond float32"),
            ({"vector": [-(10**400), 2, 1]}, "vector[0]: -inf is beyond float32"),
            ({"namespace": "\ud800"}, "surrogate"),
        ],
    )
    def test_a_member_of_another_kind_is_refused(self, members: dict[str, Any], rule: str) -> None:
        message = refusal(BadBody, lambda: query(**members))

        assert message.startswith("Failed to parse the request body as JSON: ")
        assert rule in message

    @pytest.mark.parametrize(
        "vector",
        [
            [[1, 2, 3]],
            [[1], 2, 3],
            [1, 2, [3]],
            [[1, 2, 3], [4, 5, 6]],
            {"shape": [1, 3], "data": [[1, 2, 3]], "pooling": "mean"},
            {"0": 1, "1": 2, "2": 3},
            {},
        ],
    )
    def test_a_whole_embedding_answer_is_no_vector(self, vector: object) -> None:
        """Only data[0] of an embedding is: `query(resp)` and `query(resp.data)` are mistakes."""
        message = refusal(BadQueryVector, lambda: query(vector=vector))

        assert message.startswith(
            "invalid query vector, expected 3 dimensions, and got 0 dimensions"
        )
        assert "data[0]" in message

    @pytest.mark.parametrize("got", [0, 2, 4])
    def test_a_vector_of_another_length_is_refused(self, got: int) -> None:
        assert refusal(BadQueryVector, lambda: query(vector=[1] * got)) == (
            f"invalid query vector, expected 3 dimensions, and got {got} dimensions"
        )

    def test_a_namespace_is_measured_in_bytes(self) -> None:
        assert query(namespace="é" * 32).namespace == "é" * 32
        assert query(namespace="").namespace == ""
        message = refusal(NamespaceTooLong, lambda: query(namespace="é" * 32 + "x"))
        assert message == "namespace too long; max is 64 bytes, got 65 bytes"

    @pytest.mark.parametrize("filter_", [[], "x", 5, True, {"a": {}}, {"$or": []}])
    def test_a_filter_outside_the_grammar_is_refused(self, filter_: object) -> None:
        refusal(BadFilter, lambda: query(filter=filter_))

    @pytest.mark.parametrize("body", [*UNREADABLE, b"[]", b"null", b'"x"'])
    def test_a_body_that_is_no_object_is_refused(self, body: bytes) -> None:
        with pytest.raises(BadBody, match="Failed to parse the request body as JSON: "):
            requests.query(body, 3, LIMITS)


@pytest.mark.parametrize("body", UNREADABLE)
def test_a_body_that_is_not_json_is_refused_by_every_operation(body: bytes) -> None:
    for error, read, arguments in (
        (BadBody, requests.create_index, (LIMITS,)),
        (BadBody, requests.ids, (20, LIMITS)),
        (BadBody, requests.create_metadata_index, (LIMITS,)),
        (BadBody, requests.delete_metadata_index, ()),
    ):
        message = refusal(error, read, body, *arguments)
        assert message.startswith("Failed to parse the request body as JSON: ")


def test_malformed_utf8_is_refused_even_in_what_is_ignored() -> None:
    message = refusal(BadBody, requests.ids, b'{"ids":["a"],"x":"\xff"}', 20, LIMITS)

    assert message == "Failed to parse the request body as JSON: not UTF-8 at byte 18"


@pytest.mark.parametrize("bound", [20, 100])
def test_ids_at_and_above_the_limit(bound: int) -> None:
    def read(count: int) -> list[str]:
        return requests.ids(raw({"ids": [str(i) for i in range(count)]}), bound, LIMITS)

    for inside in (0, 1, bound - 1, bound):
        assert len(read(inside)) == inside
    assert refusal(TooManyIds, read, bound + 1) == (
        f"too many ids in payload; max id count is {bound}, got {bound + 1}"
    )


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({}, "missing required field `ids`"),
        (["a"], "Expected `object`, got `array`"),
        ({"ids": "a"}, "ids: Expected `array`, got `str`"),
        ({"ids": None}, "ids: Expected `array`, got `null`"),
        ({"ids": ["a", 5]}, "ids[1]: Expected `str`, got `int`"),
        ({"ids": [["a"]]}, "ids[0]: Expected `str`, got `array`"),
    ],
)
def test_ids_that_are_none_are_refused(body: object, rule: str) -> None:
    assert rule in refusal(BadBody, requests.ids, raw(body), 20, LIMITS)


@pytest.mark.parametrize("kind", ["string", "number", "boolean"])
def test_a_metadata_index_is_created(kind: str) -> None:
    body = raw({"propertyName": "a.b", "indexType": kind})

    expected = CreateMetadataIndex(MetadataIndex("a.b", IndexType(kind)))
    assert requests.create_metadata_index(body, LIMITS) == expected


@pytest.mark.parametrize(("given", "read"), [(True, True), (False, False), (None, False)])
def test_a_metadata_index_may_be_filled_from_what_is_there(given: object, read: bool) -> None:
    body = raw({"propertyName": "k", "indexType": "string", "backfill": given})

    assert requests.create_metadata_index(body, LIMITS).backfill is read


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"indexType": "string"}, "missing required field `propertyName`"),
        ({"propertyName": "k"}, "missing required field `indexType`"),
        (
            {"propertyName": "k", "indexType": "String"},
            "indexType: Invalid enum value 'String', expected one of string, number, boolean",
        ),
        ({"propertyName": 5, "indexType": "string"}, "propertyName: Expected `str`"),
        ({"propertyName": "", "indexType": "string"}, "must not be empty"),
        ({"propertyName": "$k", "indexType": "string"}, "must not start with '$'"),
        ({"propertyName": 'a"b', "indexType": "string"}, "must not contain '\"'"),
        ({"propertyName": "a..b", "indexType": "string"}, "empty name"),
        ({"propertyName": "é" * 513, "indexType": "string"}, "has 513 characters, max is 512"),
        ({"propertyName": "k", "indexType": "string", "backfill": "yes"}, "backfill"),
    ],
)
def test_a_metadata_index_that_no_filter_could_use_is_refused(body: object, rule: str) -> None:
    assert rule in refusal(BadBody, requests.create_metadata_index, raw(body), LIMITS)


def test_a_property_name_may_have_512_characters() -> None:
    body = raw({"propertyName": "é" * 512, "indexType": "string"})

    created = requests.create_metadata_index(body, LIMITS)

    assert created.metadata_index.property_name == "é" * 512


@pytest.mark.parametrize(
    "body", [{"propertyName": "k"}, {"property": "k"}, {"propertyName": "k", "property": "x"}]
)
def test_a_metadata_index_is_dropped_by_either_name_of_the_member(body: object) -> None:
    assert requests.delete_metadata_index(raw(body)) == DeleteMetadataIndex("k")


@pytest.mark.parametrize("body", [{}, {"propertyName": None}, {"propertyName": 5}, []])
def test_dropping_a_metadata_index_needs_its_name(body: object) -> None:
    refusal(BadBody, requests.delete_metadata_index, raw(body))


@pytest.mark.parametrize(
    ("count", "cursor", "read"),
    [
        (None, None, ListParameters(100, None)),
        ("", "", ListParameters(100, None)),
        ("1", "abc", ListParameters(1, "abc")),
        ("999", None, ListParameters(999, None)),
        ("1000", None, ListParameters(1000, None)),
        ("007", None, ListParameters(7, None)),
    ],
)
def test_a_listing_has_bounds_and_defaults(
    count: str | None, cursor: str | None, read: ListParameters
) -> None:
    assert requests.list_parameters(count, cursor, LIMITS) == read


@pytest.mark.parametrize("count", ["0", "1001", "-1", "1.5", "x", " 5", "٣", "9" * 5000])
def test_a_count_outside_its_range_is_refused(count: str) -> None:
    message = refusal(BadParameter, requests.list_parameters, count, None, LIMITS)

    assert message == f"count must be an integer from 1 to 1000, got {count[:40]!r}"


@pytest.mark.parametrize(
    ("value", "discards"), [(None, False), ("", False), ("error", False), ("discard", True)]
)
def test_what_to_do_with_unparsable_records_can_be_said(value: str | None, discards: bool) -> None:
    assert options.discards_unparsable(value) is discards


@pytest.mark.parametrize("value", ["drop", "Discard", "true"])
def test_another_behaviour_is_refused(value: str) -> None:
    assert repr(value) in refusal(BadParameter, options.discards_unparsable, value)


@pytest.mark.parametrize(
    ("body", "read"),
    [
        ({"text": "a"}, EmbeddingParameters(("a",))),
        ({"text": ["a", "", "é"]}, EmbeddingParameters(("a", "", "é"))),
        ({"text": "a", "pooling": "cls"}, EmbeddingParameters(("a",), "cls")),
        ({"text": "a", "pooling": "mean", "x": 1}, EmbeddingParameters(("a",), "mean")),
        ({"text": "a", "pooling": None}, EmbeddingParameters(("a",))),
    ],
)
def test_texts_to_embed_are_read_in_both_forms(body: object, read: EmbeddingParameters) -> None:
    assert requests.embedding(raw(body), LIMITS) == read
    assert requests.binding_embedding(raw({"inputs": body, "options": {}}), LIMITS) == read


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({}, "missing required field `text`"),
        ([], "Expected `object`"),
        ({"text": 5}, "text: Expected `str | array`, got `int`"),
        ({"text": None}, "text: Expected `str | array`, got `null`"),
        ({"text": ["a", 5]}, "text[1]: Expected `str`, got `int`"),
        ({"text": []}, "text: expected 1 to 100 texts, got 0"),
        ({"text": ["a"] * 101}, "text: expected 1 to 100 texts, got 101"),
        ({"text": "a", "pooling": "max"}, "pooling: Invalid enum value 'max', expected one of"),
        ({"requests": [{"text": "a"}]}, "missing required field `text`"),
    ],
)
def test_what_cannot_be_embedded_is_refused(body: object, rule: str) -> None:
    assert rule in refusal(BadEmbeddingInput, requests.embedding, raw(body), LIMITS)
    refusal(BadEmbeddingInput, requests.binding_embedding, raw({"inputs": body}), LIMITS)


def test_as_many_texts_as_the_limit_can_be_embedded() -> None:
    assert len(requests.embedding(raw({"text": ["a"] * 100}), LIMITS).texts) == 100


def test_an_embedding_for_the_binding_needs_inputs() -> None:
    body = raw({"text": "a"})

    assert "`inputs`" in refusal(BadEmbeddingInput, requests.binding_embedding, body, LIMITS)


@pytest.mark.parametrize("body", [b"", b"x", b"{", b'{"\xff":1}', "{}".encode("utf-16")])
def test_an_embedding_body_that_is_not_json_has_an_error_of_its_own(body: bytes) -> None:
    for read in (requests.embedding, requests.binding_embedding, requests.openai_embedding):
        refusal(BadEmbeddingBody, read, body, LIMITS)


@pytest.mark.parametrize("body", [b'{"text":' + b"[" * 100_001, b'{"x":' + b"[" * 100_001])
def test_a_deep_embedding_body_is_refused(body: bytes) -> None:
    with pytest.raises((BadEmbeddingBody, BadEmbeddingInput)):
        requests.embedding(body, LIMITS)


@pytest.mark.parametrize(
    ("body", "read"),
    [
        ({"model": "m", "input": "a"}, OpenAIEmbeddingParameters("m", ("a",))),
        ({"model": "m", "input": ["a", "b"]}, OpenAIEmbeddingParameters("m", ("a", "b"))),
        (
            {"model": "m", "input": "a", "encoding_format": "base64", "dimensions": 3, "user": "u"},
            OpenAIEmbeddingParameters("m", ("a",), "base64", 3),
        ),
        (
            {"model": "m", "input": "a", "encoding_format": "float", "dimensions": None},
            OpenAIEmbeddingParameters("m", ("a",), "float"),
        ),
    ],
)
def test_texts_to_embed_are_read_in_openai_form(
    body: object, read: OpenAIEmbeddingParameters
) -> None:
    assert requests.openai_embedding(raw(body), LIMITS) == read


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"input": "a"}, "`model`"),
        ({"model": "m"}, "`input`"),
        ({"model": "m", "input": [1, 2]}, "input[0]: Expected `str`, got `int`"),
        ({"model": "m", "input": []}, "input: expected 1 to 100 texts, got 0"),
        ({"model": "m", "input": "a", "encoding_format": "int8"}, "expected one of base64, float"),
        ({"model": "m", "input": "a", "dimensions": "3"}, "dimensions: Expected `int | null`"),
    ],
)
def test_what_openai_would_not_take_is_refused(body: object, rule: str) -> None:
    assert rule in refusal(BadEmbeddingInput, requests.openai_embedding, raw(body), LIMITS)
