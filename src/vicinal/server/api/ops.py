"""Operations for operators: liveness, readiness, metrics and the OpenAPI document."""

from collections.abc import Sequence
from functools import cache

from vicinal.errors import Forbidden
from vicinal.server.api import metrics
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Handler, Route
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import envelope, openapi
from vicinal.wire.openapi import Operation

DATABASE_SILENT_S = 5.0  # ours: a node asks its database many times a second

_OK = b'{"status":"ok"}'


async def healthz(request: ApiRequest) -> Response:
    """Answer, which shows that the event loop runs."""
    return Response(_OK)


async def readyz(request: ApiRequest) -> Response:
    """Answer once the engine has: its catalog is open and a thread is free.

    A database that does not answer leaves a node ready: it goes on answering queries.
    """
    usage = await request.services.workers.run(request.services.engine.usage)
    node = usage.node
    if node is None or node.database_silent_s < DATABASE_SILENT_S:
        return Response(_OK)
    return Response(b'{"status":"ok","database":"silent for %d s"}' % round(node.database_silent_s))


async def show_metrics(request: ApiRequest) -> Response:
    """Return metrics in Prometheus' text format; they name the indexes of every account."""
    token = request.token
    if token is not None and token.account is not None:
        raise Forbidden(
            f"token {token.name!r} is for account {token.account!r}, metrics are of all"
        )
    text = await request.services.workers.run(request.services.metrics.text)
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
        ),
        _route("openapi.json", "Describe the operations", document_handler(operations, version)),
    )


def _route(
    name: str, summary: str, handler: Handler, permission: Permission | None = None
) -> Route:
    operation_id = name.partition(".")[0]
    operation = Operation("GET", f"/{name}", operation_id, summary, is_enveloped=False)
    return Route(operation, handler, permission, form=envelope.PLAIN)
