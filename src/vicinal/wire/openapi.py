"""The OpenAPI 3.1 document, generated from the types that read and write the wire.

The server describes each of its routes by one `Operation`; shapes come from the structs of
`schemas`, errors from `codes`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from vicinal import errors
from vicinal.errors import Error
from vicinal.wire import schemas
from vicinal.wire.codes import CODES

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter of the URL. `schema` is a type that msgspec describes."""

    name: str
    schema: Any
    description: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: a method on a path, its parameters, its body and its result.

    Path parameters are the ``{names}`` in `path`. `request` and `response` are structs of
    `schemas` (or any type that msgspec describes), None for no body or a null result.
    `request_types` are the media types the body is accepted in. `is_lines` tells whether the result
    is NDJSON, a line for each `response`, instead of JSON; a `response_type` other than JSON is one
    line of `response` with raw values behind it. `is_enveloped` tells whether any other result
    comes in the REST envelope; failures are in OpenAI's form when it does not.
    `errors` are classes of ``vicinal.errors`` beside those that any operation may raise.
    """

    method: str
    path: str
    operation_id: str
    summary: str
    request: Any = None
    response: Any = None
    errors: tuple[type[Error], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    request_types: tuple[str, ...] = ("application/json",)
    is_enveloped: bool = True
    is_lines: bool = False
    response_type: str = JSON


_NDJSON = "application/x-ndjson"
_REF = "#/components/schemas/{name}"
_SCHEMA_SUFFIX = re.compile(rb'(?<=\w)Schema(?=")')
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_ANYWHERE = (
    errors.BadParameter,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.RouteNotFound,
    errors.Overloaded,
    errors.Unavailable,
    errors.Corruption,
)
_SECURITY_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "email": {"type": "apiKey", "in": "header", "name": "X-Auth-Email"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Auth-Key"},
}


def document(
    operations: Sequence[Operation], *, title: str, version: str, server_url: str
) -> bytes:
    """Return the document as JSON."""
    types = [type_ for operation in operations for type_ in _types(operation)]
    described, components = msgspec.json.schema_components(
        [schemas.SuccessSchema, *types], ref_template=_REF
    )
    envelope = components.pop(schemas.SuccessSchema.__name__)
    remaining = iter(described[1:])
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        result, *others = [next(remaining) for _ in _types(operation)]
        is_whole = not operation.is_lines and operation.response_type == JSON
        if operation.is_enveloped and is_whole:
            result = envelope | {"properties": envelope["properties"] | {"result": result}}
        entry = _described(operation, result, *others)
        paths.setdefault(operation.path, {})[operation.method.lower()] = entry
    encoded = msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": title, "version": version},
            "servers": [{"url": server_url}],
            "security": [{"token": []}, {"email": [], "key": []}, {}],
            "paths": paths,
            "components": {"schemas": components, "securitySchemes": _SECURITY_SCHEMES},
        }
    )
    # Only in Python do schemas need other names than the model's classes.
    return _SCHEMA_SUFFIX.sub(b"", encoded)


def _types(operation: Operation) -> list[Any]:
    """Return the types that an operation needs schemas of, in the order `_described` takes them."""
    failure = schemas.FailureSchema if operation.is_enveloped else schemas.OpenAIFailureSchema
    request = schemas.VectorBatchSchema if _NDJSON in operation.request_types else operation.request
    parameters = (parameter.schema for parameter in operation.parameters)
    return [operation.response, failure, request, *parameters]


def _described(
    operation: Operation,
    answer: dict[str, Any],
    failure: dict[str, Any],
    request: dict[str, Any],
    *parameters: dict[str, Any],
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PATH_PARAMETER.findall(operation.path)
        ]
        + [
            {
                "name": parameter.name,
                "in": "query",
                "description": parameter.description,
                "schema": schema,
            }
            for parameter, schema in zip(operation.parameters, parameters, strict=True)
        ],
        "responses": {"200": _result(operation, answer)}
        | _failures((*_ANYWHERE, *operation.errors), failure),
    }
    if operation.request is not None:
        content = {type_: {"schema": _body(type_, request)} for type_ in operation.request_types}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    lines = {"type": "string", "contentMediaType": _NDJSON}
    match media_type:
        case "application/x-ndjson":
            return lines
        case "application/vnd.vicinal.columns":
            return {"type": "string", "format": "binary"}
        case "multipart/form-data":
            return {"type": "object", "properties": {"vectors": lines}, "required": ["vectors"]}
        case _:
            return schema


def _failures(classes: Iterable[type[Error]], schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the answers to errors by status, with the codes of a status in its description."""
    codes: dict[int, dict[int, str]] = {}
    for class_ in classes:
        row = CODES[class_]
        summary = (class_.__doc__ or class_.__name__).partition("\n")[0]
        codes.setdefault(row.status, {}).setdefault(row.code, summary)
    return {
        str(status): _content(
            " ".join(f"{code}: {summary}" for code, summary in sorted(codes[status].items())),
            schema,
        )
        for status in sorted(codes)
    }


def _result(operation: Operation, answer: dict[str, Any]) -> dict[str, Any]:
    if operation.is_lines:
        return _lines(answer)
    if operation.response_type == JSON:
        return _content("The result", answer)
    binary = {"type": "string", "format": "binary", "contentSchema": answer}
    return {
        "description": "A line of JSON, and raw values behind it",
        "content": {operation.response_type: {"schema": binary}},
    }


def _lines(line: dict[str, Any]) -> dict[str, Any]:
    described = {"type": "string", "contentMediaType": _NDJSON, "contentSchema": line}
    return {"description": "One result a line", "content": {_NDJSON: {"schema": described}}}


def _content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
