"""The command line, the binding in Python and REST take the same scopes, properties and counts, and
refuse the same ones in the same words."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

import vicinal
from tests.support.commands import Commands, Recorder
from vicinal.errors import Error
from vicinal.limits import Limits
from vicinal.model import IndexAddress
from vicinal.wire import scopes
from vicinal.wire.codes import response_for

RECORDS = (
    {"id": "a/1", "values": [1, 0], "namespace": "n", "metadata": {"k": "x", "a": {"b": 1}}},
    {"id": "a/2", "values": [0, 1], "metadata": {"k": "x", "a": {"b": 2}}},
    {"id": "b/1", "values": [1, 1], "metadata": {"k": "y"}},
)
SCOPES: Sequence[dict[str, Any]] = (
    {},
    {"namespace": "n"},
    {"namespace": ""},
    {"namespace": "none"},
    {"namespace": "x" * 65},
    {"idPrefix": "a/"},
    {"idPrefix": ""},
    {"idPrefix": "x" * 65},
    {"filter": {}},
    {"filter": {"k": "x"}},
    {"filter": {"a.b": {"$gte": 2}}},
    {"filter": {"$or": [{"k": "y"}, {"a.b": 1}]}},
    {"filter": {"k": {"$startsWith": "x"}}, "idPrefix": "a", "namespace": "n"},
    {"filter": {"absent": 1}},
    {"filter": {"k": {}}},
    {"filter": {"k": {"$near": 1}}},
    {"filter": [1]},
    {"filter": "k"},
    {"filter": {"k": {"$in": []}}},
)
FACETS: Sequence[tuple[str, int | None]] = (
    ("k", None), ("k", 1), ("k", 1_000), ("k", 1_001), ("k", 0), ("k", -1), ("a.b", None),
    ("absent", None), ("", None), ("k.", None), ("a", None), ("$k", None),
)  # fmt: skip

Outcome = int | dict[str, Any] | str
"""A count, the result of a facet count, or the text of the refusal with its code."""


@pytest.fixture
def docs(vicinal: Commands) -> Commands:
    vicinal.ok(
        *("index", "create", "docs", "--dimensions", "2", "--metric", "euclidean"),
        *("--metadata-index", "k:string", "--metadata-index", "a.b:number"),
    )
    lines = "\n".join(json.dumps(record) for record in RECORDS)
    vicinal.ok("import", "-", "docs", "--wait", stdin=lines)
    return vicinal


def over_rest(docs: Commands, name: str, body: dict[str, Any]) -> Outcome:
    url = f"{docs.server.base_url}/accounts/acme/vectorize/v2/indexes/docs/vectors/{name}"
    headers = {"authorization": f"Bearer {docs.server.token}"}
    answer = httpx.post(url, json=body, headers=headers).json()
    if answer["success"]:
        result: dict[str, Any] = answer["result"]
        return int(result["count"]) if name == "count" else result
    (error,) = answer["errors"]
    return f"{error['message']} [code: {error['code']}]"


def on_command_line(docs: Commands, name: str, *arguments: str) -> Outcome:
    result = docs.run("vector", name, "docs", "--json", *arguments)
    if result.exit_code == 0:
        document: dict[str, Any] = json.loads(result.stdout)
        return int(document["count"]) if name == "count" else document
    assert result.exit_code == 1, result.output
    return " ".join(result.stderr.removeprefix("Error: ").split())


def in_python(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except Error as error:
        answer = response_for(error)
        return f"{answer.message} [code: {answer.code}]"


def scope_flags(scope: dict[str, Any]) -> list[str]:
    flags = []
    for member, flag in (("namespace", "--namespace"), ("idPrefix", "--prefix")):
        flags += [f"{flag}={scope[member]}"] if member in scope else []
    return flags + ([f"--filter={json.dumps(scope['filter'])}"] if "filter" in scope else [])


def vectorize(engine: Recorder) -> vicinal.Vectorize:
    return vicinal.Vectorize(engine, IndexAddress("acme", "docs"), Limits())


def select(engine: Recorder, scope: dict[str, Any]) -> Any:
    return vectorize(engine).select(
        namespace=scope.get("namespace"),
        filter=scope.get("filter"),
        id_prefix=scope.get("idPrefix"),
    )


def test_the_same_vectors_are_counted(docs: Commands, engine: Recorder) -> None:
    for scope in SCOPES:
        expected = over_rest(docs, "count", scope)

        assert on_command_line(docs, "count", *scope_flags(scope)) == spaced(expected), scope
        python = in_python(lambda scope=scope: select(engine, scope).count())  # type: ignore[misc]
        assert python == expected, scope


def test_the_same_values_are_counted(docs: Commands, engine: Recorder) -> None:
    for name, count in FACETS:
        body: dict[str, Any] = {"propertyName": name}
        body |= {} if count is None else {"count": count}
        expected = over_rest(docs, "facets", body)

        flags = () if count is None else (f"--limit={count}",)
        assert on_command_line(docs, "facets", *flags, "--", name) == spaced(expected), body

        def facet(name: str = name, count: int | None = count) -> Outcome:
            facet = vectorize(engine).select().facet(name, count)
            document: dict[str, Any] = json.loads(scopes.facet_result(facet))
            return document

        assert in_python(facet) == expected, body


def spaced(outcome: Outcome) -> Outcome:
    return re.sub(r"\s+", " ", outcome) if isinstance(outcome, str) else outcome
