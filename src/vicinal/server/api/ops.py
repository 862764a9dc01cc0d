"""Operations for operators: liveness, readiness, metrics and the OpenAPI document."""

from collections.abc import Sequence
from functools import cache

import msgspec

from vicinal.server.api import metrics
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Handler, Route
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.usage import NodeUsage
from vicinal.wire import envelope, openapi
from vicinal.wire.openapi import Operation

DATABASE_SILENT_S = 5.0  # ours: a node asks its database many times a second
LAG_S = 5.0  # ours: copies are milliseconds behind

_OK = b'{"status":"ok"}'


async def healthz(request: ApiRequest) -> Response:
    """Answer, which shows that the event loop runs."""
    return Response(_OK)


async def readyz(request: ApiRequest) -> Response:
    """Answer once the engine has: its catalog is open and a thread is free.

    A database that does not answer leaves a node ready, as do copies that are behind: it goes on
    answering queries. Indexes are not named: anybody may ask.
    """
    usage = await request.services.workers.run(request.services.engine.usage)
    return Response(_OK if usage.node is None else msgspec.json.encode(_readiness(usage.node)))


class _Readiness(msgspec.Struct, omit_defaults=True):
    status: str
    database: str | None = None
    copies: str | None = None


def _readiness(node: NodeUsage) -> _Readiness:
    readiness = _Readiness("ok")
    if node.database_silent_s >= DATABASE_SILENT_S:
        readiness.database = f"silent for {node.database_silent_s:.0f} s"
    lag = max(node.lags.values(), key=lambda lag: lag.seconds, default=None)
    if lag is not None and lag.seconds >= LAG_S:
        readiness.copies = f"up to {lag.seconds:.0f} s and {lag.mutation_count} mutations behind"
    return readiness


async def show_metrics(request: ApiRequest) -> Response:
    """Return metrics in Prometheus' text format; they name the indexes of every account."""
    text = await request.services.watch_workers.run(request.services.metrics.text)
    return Response(text, content_type=metrics.CONTENT_TYPE)


def document_handler(operations: Sequence[Operation], version: str) -> Handler:
    """Return the handler that answers with the OpenAPI document of these operations."""

    @cache
    def document() -> bytes:
        return openapi.document(operations, title="Vicinal", version=version, server_url="/")

    async def openapi_json(request: ApiRequest) -> Response:
        return Response(await request.services.workers.run(document))

    return openapi_json


def routes(operations: Sequence[Operation], version: str) -> tuple[Route, ...]:
    """Return the routes for operators; the last one describes `operations`."""
    return (
        _route("healthz", "Tell that the process lives", healthz),
        _route("readyz", "Tell that the engine answers", readyz),
        _route(
            "metrics",
            "Count requests, indexes and embeddings, for Prometheus",
            show_metrics,
            Permission.READ,
            is_of_all=True,
            is_watching=True,
        ),
        _route("openapi.json", "Describe the operations", document_handler(operations, version)),
    )


def _route(
    name: str,
    summary: str,
    handler: Handler,
    permission: Permission | None = None,
    *,
    is_of_all: bool = False,
    is_watching: bool = False,
) -> Route:
    operation_id = name.partition(".")[0]
    operation = Operation("GET", f"/{name}", operation_id, summary, is_enveloped=False)
    return Route(
        operation, handler, permission, is_of_all=is_of_all, is_watching=is_watching,
        form=envelope.PLAIN,
    )  # fmt: skip
