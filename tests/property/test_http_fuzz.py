"""No request makes the server fail: whatever it gets, it answers, and never with a 500.

Requests come from two sources: the OpenAPI document, which knows what is nearly right (and
what answers look like), and bytes that know nothing.
"""

import io
import json
import string
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.python.asgi import ASGIClient
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.asgi import INDEXES, application, call
from tests.support.embedder import TINY
from tests.support.engines import DOCS, Record, create, insert
from vicinal.engine.base import Engine
from vicinal.model import CreateMetadataIndex, IndexType, MetadataIndex
from vicinal.server.api.routing import Route
from vicinal.server.http.asgi import Receive, Scope, Send
from vicinal.server.routes import API_ROUTES, BINDING_ROUTES
from vicinal.wire import columns, maps

BOUNDED = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
)


def fill(engine: Engine) -> None:
    """Make an index `docs` that has something to find."""
    create(engine)
    for name, kind in (("s", IndexType.STRING), ("k", IndexType.NUMBER)):
        engine.append(DOCS, CreateMetadataIndex(MetadataIndex(name, kind))).result()
    insert(
        engine,
        Record("a", [1, 0], "n", {"s": "x", "k": 1}),
        Record("b", [0, 1], metadata={"s": "y"}),
    )


APP = application(Path(tempfile.mkdtemp()))
fill(APP.services.engine)


async def never_stopped(scope: Scope, receive: Receive, send: Send) -> None:
    """The application to a test client that starts and stops it for each request."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    # The test client says "testserver", which is no name of this machine's.
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    scope["headers"] = [*others, (b"host", b"127.0.0.1")]
    await APP(scope, receive, send)


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: object, value: object) -> bytes:
    """Send lines as they were generated: as text, or as whatever they are instead."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@schemathesis.serializer(columns.CONTENT_TYPE)
def raw(_: object, value: object) -> bytes:
    """Send a columns body as it was generated: bytes, or text instead."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", never_stopped)


class Adapter(requests.adapters.HTTPAdapter):
    """Hands requests to the application in this thread, as `call` does.

    Schemathesis has a thread and an event loop for it, which cost more than most answers.
    """

    def send(
        self, request: requests.PreparedRequest, *_: object, **__: object
    ) -> requests.Response:
        assert request.method is not None
        body = request.body or b""
        content = body.encode() if isinstance(body, str) else body
        headers = {**cast("dict[str, str]", request.headers), "host": "127.0.0.1"}
        answer = call(APP, request.method, request.path_url, content, headers=headers)
        assert answer.status is not None
        return self.build_response(
            request,
            urllib3.HTTPResponse(
                io.BytesIO(answer.body), answer.headers, answer.status, preload_content=False
            ),
        )


class Client(ASGIClient):
    """What sends the cases, whatever proxies the environment names."""

    def __init__(self) -> None:
        super().__init__(SCHEMA.app)
        self.trust_env = False
        self.mount("http://", Adapter())


CLIENT = Client()


@SCHEMA.parametrize()
@BOUNDED
def test_a_request_made_from_the_document_is_answered_as_the_document_says(case: Case[Any]) -> None:
    if "index_name" in case.path_parameters:
        # A name made up would never be one that exists.
        case.path_parameters |= {"account_id": DOCS.account, "index_name": DOCS.name}
    answer = case.call_and_validate(
        session=CLIENT,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
    if case.operation.label.startswith("DELETE") and answer.status_code == 200:
        fill_again()


def fill_again() -> None:
    """Make the index anew if a request has deleted it, as the next one wants it again."""
    if not APP.services.engine.list_indexes(DOCS.account):
        fill(APP.services.engine)


# Requests that know nothing of the document.

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, -0.0, 1e308, "\ud800", "a", "docs"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(string.ascii_letters + "$.\0", max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)

MEMBERS = st.sampled_from(
    [
        *("name", "config", "dimensions", "metric", "preset", "description"),
        *("id", "ids", "values", "vectors", "namespace", "metadata", "vector", "vectorId"),
        *("topK", "returnValues", "returnMetadata", "filter", "propertyName", "indexType"),
        *("text", "pooling", "model", "input", "inputs", "encoding_format", "requests"),
        *("sql", "params"),
    ]
)

BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(MEMBERS, JSON_VALUES, max_size=5).map(lambda body: json.dumps(body).encode()),
    st.lists(st.dictionaries(MEMBERS, JSON_VALUES, max_size=5), max_size=4).map(
        lambda lines: b"\n".join(json.dumps(line).encode() for line in lines)
    ),
    JSON_VALUES.map(lambda body: json.dumps(json.dumps(body)).encode()),
)

CONTENT_TYPES = st.sampled_from(
    [
        *("", "application/json", "application/json; charset=utf-8;", "application/x-ndjson"),
        *("multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "\xff/;;=,"),
    ]
)


ROUTES = (*API_ROUTES, *BINDING_ROUTES)

NAMES = defaultdict(lambda: "x", account_id=DOCS.account, index_name=DOCS.name, model_name=TINY)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation.operation_id)
@BOUNDED
@given(data=st.data())
def test_a_request_made_of_anything_is_answered(route: Route, data: st.DataObject) -> None:
    path = route.operation.path
    target = path.format_map(NAMES)
    query = data.draw(st.text(string.printable, max_size=20).map(_quoted), "query")
    body = data.draw(BODIES, "body")
    headers = {"content-type": data.draw(CONTENT_TYPES, "content type")}
    if not path.startswith("/client"):
        headers |= {"x-vectorize-account": DOCS.account, "x-vectorize-index": DOCS.name}
        headers |= {"cf-consn-model-id": TINY}

    answer = call(APP, route.operation.method, f"{target}?{query}", body, headers=headers)

    note(f"{answer.status}: {answer.body[:300]!r}")
    assert answer.status is not None
    assert answer.status < 500
    if route.operation.operation_id == "export_vectors" and answer.status == 200:
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert all(isinstance(json.loads(line), dict) for line in answer.body.splitlines())
        return
    if route.operation.operation_id == "map_vectors" and answer.status == 200:
        assert answer.headers["content-type"] == maps.CONTENT_TYPE
        assert isinstance(json.loads(answer.body.partition(b"\n")[0]), dict)
        return
    assert answer.headers["content-type"] == "application/json"
    json.loads(answer.body)
    if route.operation.operation_id == "delete_index":
        fill_again()


@BOUNDED
@given(path=st.binary(max_size=40), method=st.sampled_from(["GET", "POST", "BREW", "HEAD"]))
def test_a_path_made_of_anything_is_answered(path: bytes, method: str) -> None:
    target = f"{INDEXES}/" + "".join(
        f"%{byte:02X}" if byte < 99 else chr(byte) for byte in path if byte < 127
    )

    answer = call(APP, method, target)

    assert answer.status in (200, 400, 404, 405)


def _quoted(text: str) -> str:
    """Encode just what a request line cannot have, so that the rest is what was drawn."""
    return "".join(each if each > " " and each != "#" else f"%{ord(each):02X}" for each in text)


HEADER_NAMES = st.sampled_from(
    [
        *("authorization", "x-auth-key", "x-auth-email", "content-type", "content-length"),
        *("content-encoding", "transfer-encoding", "expect", "prefer", "vicinal-effort", "cookie"),
        *(
            "vicinal-explain",
            "vicinal-filter",
            "mf-url",
            "mf-binding",
            "mf-header-prefer",
            "mf-header-content-type",
        ),
        *("mf-header-x-vectorize-account", "cf-workers-preview-token", "host", "origin"),
        *("x-vectorize-account", "x-vectorize-index", "cf-consn-model-id"),
    ]
)

HEADER_VALUES = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40),
    st.sampled_from(
        [
            *("http://[", "http://[::1/query", "http://x/query?a=%ff%00", "//[x]/query", "/query"),
            *(
                "http://x/query",
                "http://x/insert",
                "http://x/ai/run",
                "VECTORIZE",
                "\xb2",
                "1" * 5_000,
            ),
            *("wait=" + "9" * 5_000, "wait=5", "wait=-1", "wait=1e9", "respond-async, wait=\xb2"),
            *(
                "Bearer x",
                "Bearer \xff",
                "Basic eDp4",
                "0" * 5_000 + "1",
                "multipart/form-data; boundary=",
            ),
        ]
    ),
)

QUERIES = st.one_of(
    st.text(string.printable, max_size=60).map(_quoted),
    st.sampled_from(
        [
            *("page=" + "1" * 5_000, "per_page=%ED%A0%80", "count=" + "0" * 5_000, "cursor=%ff%fe"),
            *("&" * 10_000, "a=1&" * 5_000, "%", "%zz=%", "token=%ff&index.V=%ed%a0%80", ";;==&&"),
        ]
    ),
)


@BOUNDED
@given(
    headers=st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=5),
    query=QUERIES,
    route=st.sampled_from(ROUTES),
    prefix=st.sampled_from(["", "", "/miniflare/acme", "/miniflare/%ff", "/miniflare/%ed%a0%80"]),
)
@example({"mf-url": "http://["}, "", ROUTES[0], "/miniflare/x")
@example({"content-length": "0" * 5_000 + "1"}, "", ROUTES[1], "")
@example({"content-length": "1" * 5_000}, "", ROUTES[1], "")
@example(
    {"mf-url": "http://x/query", "mf-binding": "V"}, "index.V=%ed%a0%80", ROUTES[0], "/miniflare/x"
)
def test_headers_and_query_strings_made_of_anything_are_answered(
    headers: dict[str, str], query: str, route: Route, prefix: str
) -> None:
    target = prefix or route.operation.path.format_map(NAMES)

    answer = call(APP, route.operation.method, f"{target}?{query}", b"{}", headers=headers)

    note(f"{answer.status}: {answer.body[:300]!r}")
    assert answer.status is not None
    assert answer.status < 500
    if route.operation.operation_id == "delete_index":
        fill_again()
