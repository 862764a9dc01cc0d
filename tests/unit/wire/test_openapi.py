"""The document describes each operation with the types and codes that are in use."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it publishes no types
import numpy as np
import pytest

from vicinal import errors
from vicinal.model import QueryResult, ScoredVector
from vicinal.wire import codes, envelope, openapi, responses, schemas
from vicinal.wire.openapi import Operation, Parameter

OPERATIONS = [
    Operation(
        method="POST",
        path="/accounts/{account_id}/indexes/{index_name}/query",
        operation_id="query",
        summary="Find",
        request=schemas.QueryRequest,
        response=schemas.QueryResultSchema,
        errors=(errors.BadTopK, errors.IndexNotFound),
    ),
    Operation("GET", "/indexes", "list", "List", response=list[schemas.IndexSchema]),
    Operation(
        "DELETE",
        "/indexes",
        "delete",
        "Delete",
        parameters=(Parameter("count", int, "How many"), Parameter("cursor", str)),
    ),
    Operation(
        "POST",
        "/insert",
        "insert",
        "Insert",
        request=schemas.VectorRecordSchema,
        response=schemas.MutationSchema,
        request_types=("application/x-ndjson", "application/json", "multipart/form-data"),
    ),
    Operation(
        "POST",
        "/embeddings",
        "embed",
        "Embed",
        request=schemas.OpenAIEmbeddingRequest,
        response=schemas.OpenAIEmbeddingListSchema,
        is_enveloped=False,
    ),
]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made = openapi.document(OPERATIONS, title="T", version="1.2", server_url="http://x/")
    loaded: dict[str, Any] = json.loads(made)
    return loaded


def schema(document: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return the schema of a body, able to follow its references."""
    at: Any = document["paths"]
    for name in (*path, "content", "application/json", "schema"):
        at = at[name]
    return {**at, "components": document["components"]}


def test_the_document_says_what_it_is(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "T", "version": "1.2"}
    assert document["servers"] == [{"url": "http://x/"}]


def test_every_operation_is_there_once(document: dict[str, Any]) -> None:
    found = {
        (method.upper(), path): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }

    assert found == {(each.method, each.path): each.operation_id for each in OPERATIONS}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*(references(each) for each in value.values()))
        if isinstance(value, list):
            return set().union(*(references(each) for each in value))
        return set()

    names = {each.removeprefix("#/components/schemas/") for each in references(document)}

    assert names == set(document["components"]["schemas"])


def test_parameters_come_from_the_path_and_the_operation(document: dict[str, Any]) -> None:
    in_path = document["paths"][OPERATIONS[0].path]["post"]["parameters"]
    in_query = document["paths"]["/indexes"]["delete"]["parameters"]

    assert [(each["name"], each["in"], each["required"]) for each in in_path] == [
        ("account_id", "path", True),
        ("index_name", "path", True),
    ]
    assert [(each["name"], each["in"], each["schema"]) for each in in_query] == [
        ("count", "query", {"type": "integer"}),
        ("cursor", "query", {"type": "string"}),
    ]


def test_an_answer_that_is_written_fits_its_schema(document: dict[str, Any]) -> None:
    match = ScoredVector("a", 0.5, "n", np.ones(2, np.float32), b'{"k":1}')
    written = json.loads(envelope.success(responses.query_result(QueryResult((match,)))))
    described = schema(document, OPERATIONS[0].path, "post", "responses", "200")

    jsonschema.validate(written, described)
    del written["result"]["matches"][0]["score"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, described)


def test_an_error_that_is_written_fits_its_schema(document: dict[str, Any]) -> None:
    answer = codes.response_for(errors.IndexNotFound("x"))

    for path, method, body in (
        (OPERATIONS[0].path, "post", envelope.failure(answer)),
        ("/embeddings", "post", envelope.openai_failure(answer)),
    ):
        described = schema(document, path, method, "responses", "404")
        jsonschema.validate(json.loads(body), described)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({}, described)


def test_errors_are_listed_by_status_and_code(document: dict[str, Any]) -> None:
    answers = document["paths"][OPERATIONS[0].path]["post"]["responses"]

    assert "40025:" in answers["400"]["description"]
    assert "3000:" in answers["404"]["description"]
    assert "40025:" not in document["paths"]["/indexes"]["get"]["responses"]["400"]["description"]
    assert {"401", "403", "404", "429", "500", "503"} <= set(answers)


def test_bodies_are_described_in_every_media_type(document: dict[str, Any]) -> None:
    content = document["paths"]["/insert"]["post"]["requestBody"]["content"]

    assert list(content) == ["application/x-ndjson", "application/json", "multipart/form-data"]
    described = schema(document, "/insert", "post", "requestBody")
    jsonschema.validate({"vectors": [{"id": "a", "values": [1, 2.5]}]}, described)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"vectors": [{"id": "a"}]}, described)


def test_an_operation_without_a_body_describes_none(document: dict[str, Any]) -> None:
    assert "requestBody" not in document["paths"]["/indexes"]["get"]


def test_members_are_spelled_as_on_the_wire(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert list(schemas["QueryRequest"]["properties"]) == [
        "vector",
        "vectorId",
        "topK",
        "returnValues",
        "returnMetadata",
        "namespace",
        "filter",
        "text",
        "textWeights",
        "hybrid",
        "mmr",
        "groupBy",
        "rerank",
        "returnScores",
        "returnHighlights",
    ]
    assert list(schemas["MmrRequest"]["properties"]) == ["lambda", "fetchK"]
    assert schemas["Index"]["properties"]["created_on"] == {"type": "string", "format": "date-time"}
    assert "Raw" not in json.dumps(document)
