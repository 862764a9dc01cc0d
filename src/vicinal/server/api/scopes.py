"""Operations on the vectors of a scope, which are ours: listing, export, counts and facets."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from vicinal.errors import (
    BadBody,
    BadCursor,
    BadFilter,
    BadParameter,
    BodyTooLarge,
    EmptyFilterValue,
    Error,
    IdTooLong,
    LimitExceeded,
    MetadataIndexNotFound,
    NamespaceTooLong,
)
from vicinal.model import ListedVector
from vicinal.server.api.paths import INDEX
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Handler, RouteTable, json_body
from vicinal.server.http.response import Response, Stream
from vicinal.tokens import Permission
from vicinal.wire import envelope, schemas, scopes

ROUTES = RouteTable()

EXPORT_S_MAX = 6 * 3600.0  # ours: of one export; a client that reads none has less
PART_BYTES = 256 * 1024  # ours: of an export that are made at one time, about
_NUMBER_BYTES = 20  # of one in JSON
_RECORD_BYTES = 500  # of one without its numbers, about

_SCOPE_ERRORS = (BadBody, NamespaceTooLong, IdTooLong, BadFilter, EmptyFilterValue, BodyTooLarge)


def _add_read(
    name: str, request: object, response: object, *errors: type[Error]
) -> Callable[[Handler], Handler]:
    return ROUTES.add(
        "POST",
        f"{INDEX}/vectors/{name}",
        Permission.READ,
        json_body,
        request=request,
        response=response,
        errors=(*_SCOPE_ERRORS, *errors),
    )


@_add_read("list", schemas.ListContentRequest, schemas.ContentListSchema, BadParameter, BadCursor)
async def list_content(request: ApiRequest) -> Response:
    """List vectors with values and metadata, page by page, from one snapshot (an extension)."""
    services, address = request.services, request.address

    def answer() -> bytes:
        wanted = scopes.content_page(request.body, services.limits)
        page = services.engine.list_vectors(address, wanted.scan, wanted.count, wanted.cursor)
        return scopes.page(page)

    return Response(await services.workers.run(answer))


@_add_read("export", schemas.ExportRequest, None)
async def export_vectors(request: ApiRequest) -> Response:
    """Stream all vectors of a scope as NDJSON, from one snapshot (an extension)."""
    services, address = request.services, request.address
    dimensions = request.named_index.config.dimensions
    count = max(1, PART_BYTES // (_RECORD_BYTES + _NUMBER_BYTES * dimensions))

    def select() -> Iterator[Sequence[ListedVector]]:
        scan = scopes.export(request.body, services.limits)
        return services.engine.stream_vectors(address, scan, count)

    parts = _lines(request, await services.workers.run(select))
    stream = Stream(parts, EXPORT_S_MAX, lambda answer: envelope.REST.failure(answer) + b"\n")
    return Response(b"", content_type=b"application/x-ndjson", stream=stream)


async def _lines(
    request: ApiRequest, parts: Iterator[Sequence[ListedVector]]
) -> AsyncGenerator[bytes, None]:
    """Yield lines; the next are made when those before have been taken."""

    def answer() -> bytes | None:
        part = next(parts, None)
        return None if part is None else scopes.lines(part)

    while (text := await request.services.workers.run(answer)) is not None:
        yield text


@_add_read("count", schemas.ScopeRequest, schemas.CountSchema)
async def count_vectors(request: ApiRequest) -> Response:
    """Count the vectors of a scope (an extension)."""
    services, address = request.services, request.address

    def answer() -> bytes:
        scope = scopes.scope(request.body, services.limits)
        return scopes.count(services.engine.count(address, scope))

    return Response(await services.workers.run(answer))


@_add_read(
    "facets",
    schemas.FacetRequest,
    schemas.FacetSchema,
    BadParameter,
    MetadataIndexNotFound,
    LimitExceeded,
)
async def count_values(request: ApiRequest) -> Response:
    """Count the most frequent values of an indexed property in a scope (an extension)."""
    services, address = request.services, request.address

    def answer() -> bytes:
        wanted = scopes.facet(request.body, services.limits)
        facet = services.engine.facet(
            address, wanted.property_name, wanted.scope, wanted.values_max
        )
        return scopes.facet_result(facet)

    return Response(await services.workers.run(answer))
