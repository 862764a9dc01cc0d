"""Traces for OpenTelemetry: a span of every request, with those of its query or its append.

Nothing of this is there unless `settings.Settings.traces_url` asks for it: requests, engine and
threads are wrapped when the application is put together. Spans have names of accounts and indexes
of the catalog, forms of filters and numbers, and no value that a caller has sent. A caller's
``traceparent`` makes its span the parent of ours, as W3C's recommendation has it; our own ids of
requests are apart.
"""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from vicinal.engine.base import Engine
from vicinal.errors import InvalidInput
from vicinal.filters.nodes import shape
from vicinal.model import (
    Accepted,
    IndexAddress,
    Insert,
    Mutation,
    Query,
    QueryResult,
    UnresolvedMutation,
    Upsert,
)
from vicinal.prepared import Prepared
from vicinal.server.http.asgi import Application, Event, Receive, Scope, Send
from vicinal.server.http.request_ids import HEADER

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

EXPORT_S_MAX = 5.0  # ours: one attempt to send spans; those that wait are bounded, too
_PROPAGATED = (b"traceparent", b"tracestate")
_EXTRA = (
    "the setting traces_url needs OpenTelemetry; install it with: pip install 'vicinal[traces]'"
)


@dataclass(frozen=True, slots=True)
class Tracing:
    """A tracer, and what ends it: spans that wait are sent then."""

    tracer: "Tracer"
    close: Callable[[], None]


def to_collector(url: str, version: str) -> Tracing:
    """Return a tracer whose spans go to a collector by OTLP over HTTP, below a base URL.

    Sampling is what OpenTelemetry's own variables say (``OTEL_TRACES_SAMPLER``).

    Raises:
        InvalidInput: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise InvalidInput(_EXTRA) from error
    resource = Resource.create({"service.name": "vicinal", "service.version": version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_S_MAX)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider.get_tracer("vicinal", version), provider.shutdown)


class TracedRequests:
    """An application of ASGI around another one, whose HTTP requests have spans.

    Args:
        handle: Answers HTTP requests.
        template_of: Returns the path of the route table for a request.
    """

    def __init__(
        self, handle: Application, template_of: Callable[[Scope], str], tracer: "Tracer"
    ) -> None:
        self._handle = handle
        self._template_of = template_of
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request inside its span."""
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, Status, StatusCode

        template = self._template_of(scope)
        sent = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]
                if name in _PROPAGATED}  # fmt: skip
        with self._tracer.start_as_current_span(
            f"{scope['method']} {template}",
            context=propagate.extract(sent),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "http.route": template},
        ) as span:

            async def traced_send(event: Event) -> None:
                if event["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", event["status"])
                    request_id = dict(event["headers"]).get(HEADER)
                    if request_id is not None:
                        span.set_attribute("vicinal.request_id", request_id.decode())
                    if event["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(event)

            await self._handle(scope, receive, traced_send)


class ContextExecutor(ThreadPoolExecutor):
    """A pool of threads whose work is in the context of who submits it: its span is the parent."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor`."""
        return super().submit(partial(contextvars.copy_context().run, fn, *args, **kwargs))


class TracedEngine:
    """An engine around another one, whose queries and appends have spans."""

    def __init__(self, engine: Engine, tracer: "Tracer") -> None:
        self._engine = engine
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def query(self, address: IndexAddress, query: Query) -> QueryResult:
        """See `engine.base.Engine`."""
        return self.prepare(address, query).run()

    def prepare(self, address: IndexAddress, query: Query) -> Prepared[QueryResult]:
        """See `engine.base.Engine`. The span ends when the query is finished, or fails."""
        span = self._tracer.start_span("query", attributes=_of_query(address, query))
        try:
            prepared = self._engine.prepare(address, query)
        except BaseException as error:
            _end(span, error)
            raise
        return Prepared(partial(_finish, span, prepared.finish), prepared.tasks)

    def append(
        self,
        address: IndexAddress,
        mutation: Mutation | UnresolvedMutation,
        *,
        wait_s: float = 0.0,
    ) -> Future[Accepted]:
        """See `engine.base.Engine`. The span ends when the mutation is durable, or refused."""
        span = self._tracer.start_span("append", attributes=_of_mutation(address, mutation))
        try:
            accepted = self._engine.append(address, mutation, wait_s=wait_s)
        except BaseException as error:
            _end(span, error)
            raise
        accepted.add_done_callback(partial(_accepted, span))
        return accepted


def traced(engine: Engine, tracer: "Tracer") -> Engine:
    """Return an engine whose queries and appends have spans."""
    return cast(Engine, TracedEngine(engine, tracer))


def _of_index(address: IndexAddress) -> dict[str, str | int | float | bool]:
    return {"vicinal.account": address.account, "vicinal.index": address.name}


def _of_query(address: IndexAddress, query: Query) -> dict[str, str | int | float | bool]:
    attributes = _of_index(address) | {
        "vicinal.query.has_text": query.text is not None,
        "vicinal.query.top_k": query.top_k,
        "vicinal.query.filter": shape(query.filter),
        "vicinal.query.has_namespace": query.namespace != "",
    }
    if query.effort is not None:
        attributes["vicinal.query.effort"] = query.effort.value
    return attributes


def _of_mutation(
    address: IndexAddress, mutation: Mutation | UnresolvedMutation
) -> dict[str, str | int | float | bool]:
    attributes = _of_index(address) | {"vicinal.mutation": type(mutation).__name__}
    if isinstance(mutation, Insert | Upsert):
        attributes["vicinal.mutation.vectors"] = len(mutation.batch)
    return attributes


def _finish(span: "Span", finish: Callable[[], QueryResult]) -> QueryResult:
    try:
        result = finish()
    except BaseException as error:
        _end(span, error)
        raise
    parts = result.explain()
    times: Sequence[tuple[str, float]] = (
        ("select_ms", sum(part.select_ms for part in parts)),
        ("candidates_ms", sum(part.candidates_ms for part in parts)),
        ("rescore_ms", sum(part.rescore_ms for part in parts)),
        ("words_ms", sum(part.words.search_ms for part in parts if part.words)),
    )
    for name, value in times:
        span.set_attribute(f"vicinal.query.{name}", value)
    span.set_attribute("vicinal.query.parts", len(parts))
    span.set_attribute("vicinal.query.matches", len(result.matches))
    span.end()
    return result


def _accepted(span: "Span", accepted: Future[Accepted]) -> None:
    error = accepted.exception()
    if error is None:
        span.set_attribute("vicinal.mutation.seqno", accepted.result().seqno)
    _end(span, error)


def _end(span: "Span", error: BaseException | None) -> None:
    """End a span; of an error the class alone is told, as its text may have a caller's values."""
    from opentelemetry.trace import Status, StatusCode

    if error is not None:
        span.set_status(Status(StatusCode.ERROR))
        span.set_attribute("error.type", type(error).__name__)
    span.end()
