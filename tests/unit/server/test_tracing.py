"""A traced server has a span for each request, query and append; another one has nothing of it."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.asgi import INDEXES, application, call
from tests.support.server import in_process
from vicinal.app import create
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.errors import Corruption, InvalidInput
from vicinal.model import IndexAddress, Query, QueryResult
from vicinal.prepared import Prepared
from vicinal.server import tracing
from vicinal.server.app import App
from vicinal.settings import Settings

QUERY = f"{INDEXES}/docs/query"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def app(tmp_path: Path, exporter: InMemorySpanExporter) -> Iterator[App]:
    """A traced server with an index of two dimensions."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with closing(EmbeddedEngine.open(tmp_path / "data")) as engine:
        app = application(tmp_path, engine=engine, tracer=provider.get_tracer("test"))
        call(
            app, "POST", INDEXES, {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}}
        )
        exporter.clear()
        yield app


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the finished spans by their names, each of which must be there once."""
    finished: Sequence[ReadableSpan] = exporter.get_finished_spans()
    named = {span.name: span for span in finished}
    assert len(named) == len(finished)
    return named


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def is_inside(inner: ReadableSpan, outer: ReadableSpan) -> bool:
    assert outer.context is not None
    return inner.parent is not None and inner.parent.span_id == outer.context.span_id


def test_a_query_is_inside_its_request(app: App, exporter: InMemorySpanExporter) -> None:
    body = {"vector": [0.1234567890123, 1], "topK": 3, "filter": {"year": {"$gte": 4711471147}}}
    call(app, "POST", f"{INDEXES}/docs/metadata_index/create",
         {"propertyName": "year", "indexType": "number"})  # fmt: skip
    exporter.clear()

    answer = call(app, "POST", QUERY, body)

    found = spans(exporter)
    template = "/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}/query"
    request, query = found[f"POST {template}"], found["query"]
    assert is_inside(query, request)
    assert request.kind is SpanKind.SERVER
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": template,
        "http.response.status_code": 200,
        "vicinal.request_id": answer.headers["cf-ray"],
    }
    told = attributes(query)
    assert (told["vicinal.account"], told["vicinal.index"]) == ("acme", "docs")
    assert (told["vicinal.query.top_k"], told["vicinal.query.filter"]) == (3, "year $gte")
    assert told["vicinal.query.select_ms"] >= 0
    assert "47114711" not in str(told)  # long enough that no time has its digits
    assert "0.1234567" not in str(told)


@pytest.mark.parametrize("size", [0, 70_000], ids=["in the loop", "in a thread"])
def test_an_append_is_inside_its_request_and_ends_when_it_is_durable(
    app: App, exporter: InMemorySpanExporter, size: int
) -> None:
    record = json.dumps({"id": "a", "values": [1, 0]}).encode()

    call(app, "POST", f"{INDEXES}/docs/upsert", record.ljust(size), headers={"prefer": "wait=30"})

    found = spans(exporter)
    (request,) = (span for name, span in found.items() if name.startswith("POST "))
    append = found["append"]
    assert is_inside(append, request)
    assert attributes(append) == {
        "vicinal.account": "acme",
        "vicinal.index": "docs",
        "vicinal.mutation": "Upsert",
        "vicinal.mutation.vectors": 1,
        "vicinal.mutation.seqno": 1,
    }


def test_a_refusal_is_no_error_of_the_server_and_a_failure_is(
    app: App, exporter: InMemorySpanExporter
) -> None:
    def prepare(address: IndexAddress, query: Query) -> Prepared[QueryResult]:
        raise Corruption("a file with s3cret in its name fails its checksum")

    assert call(app, "POST", QUERY, b"{").status == 400
    (refused,) = spans(exporter).values()
    assert refused.status.status_code is StatusCode.UNSET
    exporter.clear()
    app.services.engine._engine.prepare = prepare  # type: ignore[attr-defined]  # noqa: SLF001

    assert call(app, "POST", QUERY, {"vector": [1, 1]}).status == 500

    found = spans(exporter)
    assert {span.status.status_code for span in found.values()} == {StatusCode.ERROR}
    assert attributes(found["query"])["error.type"] == "Corruption"
    assert "s3cret" not in "".join(span.to_json() for span in found.values())


def test_a_write_that_is_refused_ends_its_span(app: App, exporter: InMemorySpanExporter) -> None:
    wrong = {"vectors": [{"id": "a", "values": [1, 0]}]}
    app.services.engine._engine._resources.queue.bound = 0  # type: ignore[attr-defined]  # noqa: SLF001
    app.services.engine._engine._resources.queue.used = 1  # type: ignore[attr-defined]  # noqa: SLF001

    assert call(app, "POST", f"{INDEXES}/docs/upsert", wrong).status == 429

    append = spans(exporter)["append"]
    assert append.status.status_code is StatusCode.ERROR
    assert attributes(append)["error.type"] == "Overloaded"


def test_the_span_of_a_caller_is_the_parent(app: App, exporter: InMemorySpanExporter) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"

    call(app, "GET", "/healthz", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})

    (span,) = spans(exporter).values()
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == trace
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


@pytest.mark.parametrize("sent", ["", "nonsense", "00-0-0-00", "\x80" * 100])
def test_a_header_that_is_none_is_passed_over(
    app: App, exporter: InMemorySpanExporter, sent: str
) -> None:
    assert call(app, "GET", "/healthz", headers={"traceparent": sent}).status == 200

    (span,) = spans(exporter).values()
    assert span.parent is None


def test_what_is_no_route_has_no_name_of_the_callers(
    app: App, exporter: InMemorySpanExporter
) -> None:
    call(app, "GET", "/s3cret")

    assert set(spans(exporter)) == {"GET (no route)"}


def test_without_a_tracer_nothing_stands_in_the_way(tmp_path: Path) -> None:
    app = application(tmp_path)

    assert app._handle == app._http  # noqa: SLF001
    assert type(app.services.workers._pool) is ThreadPoolExecutor  # noqa: SLF001
    assert not isinstance(app.services.engine, tracing.TracedEngine)


def test_without_the_setting_nothing_of_it_is_imported(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from vicinal.app import create
from vicinal.settings import Settings
create(Settings(data=Path(sys.argv[1]))).close()
found = [name for name in sys.modules if name.startswith("opentelemetry")]
assert not found and "vicinal.server.tracing" not in sys.modules, found
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "data")], check=True)


def test_without_the_package_the_setting_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(InvalidInput, match=r"pip install 'vicinal\[traces\]'"):
        create(Settings(data=tmp_path / "data", traces_url="http://127.0.0.1:1"))


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Take what is sent to a collector; yield its base URL and the paths and bodies."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            received.append((self.path, self.rfile.read(size)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_sends_its_spans_to_a_collector_at_the_latest_when_it_stops(
    tmp_path: Path,
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with collector() as (url, received):
        with in_process(tmp_path, arguments=("--traces-url", url)):
            pass

        assert {path for path, _ in received} == {"/v1/traces"}
        assert b"GET /readyz" in b"".join(body for _, body in received)


def test_a_collector_that_is_away_keeps_nobody_waiting(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with in_process(tmp_path, arguments=("--traces-url", "http://127.0.0.1:9")) as server:
        assert server.process is not None
    assert server.process.returncode == 0
