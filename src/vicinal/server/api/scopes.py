"""Operations on the vectors of a scope, which are ours: reading, counting, deleting, patching."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from vicinal.engine.base import Engine
from vicinal.errors import (
    BadBody,
    BadCursor,
    BadFilter,
    BadMetadataKey,
    BadParameter,
    BadRecord,
    BodyTooLarge,
    EmptyFilterValue,
    Error,
    IdTooLong,
    LimitExceeded,
    MetadataIndexNotFound,
    MetadataTooLarge,
    NamespaceTooLong,
    Overloaded,
    TooManyIds,
)
from vicinal.limits import Limits
from vicinal.model import DeleteScope, IndexAddress, ListedVector, Scan, Scope, VectorPage
from vicinal.server.api.paths import INDEX
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Handler, RouteTable, json_body
from vicinal.server.api.writes import acknowledge
from vicinal.server.http.response import Response, Stream
from vicinal.tokens import Permission
from vicinal.wire import envelope, schemas, scopes
from vicinal.wire.requests import Body

ROUTES = RouteTable()

EXPORT_S_MAX = 6 * 3600.0  # ours: of one export; a client that reads none has less
PART_BYTES = 256 * 1024  # ours: of an export that are made at one time, about
_SKIPPED_AT_ONCE = 10_000  # ours: vectors of a listing whose ids are read at one time
_NUMBER_BYTES = 20  # of one in JSON
_RECORD_BYTES = 500  # of one without its numbers, about

_SCOPE_ERRORS = (BadBody, NamespaceTooLong, IdTooLong, BadFilter, EmptyFilterValue, BodyTooLarge)


def _add_read(
    name: str, request: object, response: object, *errors: type[Error], is_lines: bool = False
) -> Callable[[Handler], Handler]:
    return ROUTES.add(
        "POST",
        f"{INDEX}/vectors/{name}",
        Permission.READ,
        json_body,
        request=request,
        response=response,
        errors=(*_SCOPE_ERRORS, *errors),
        is_lines=is_lines,
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


@_add_read(
    "export",
    schemas.ExportRequest,
    schemas.ListedContentSchema,
    BadParameter,
    BadCursor,
    is_lines=True,
)
async def export_vectors(request: ApiRequest) -> Response:
    """Stream all vectors of a scope, or the rest of a listing, from one snapshot (an extension)."""
    services, address = request.services, request.address
    dimensions = request.named_index.config.dimensions
    count = max(1, PART_BYTES // (_RECORD_BYTES + _NUMBER_BYTES * dimensions))

    def select() -> Iterator[Sequence[ListedVector]]:
        wanted = scopes.export(request.body, services.limits)
        if wanted.cursor is None:
            return services.engine.stream_vectors(address, wanted.scan, count)
        cursor = _skipped(services.engine, address, wanted.cursor, wanted.skip)
        if cursor is None:
            return iter(())
        # The first page is read here, so that a bad cursor is refused before the stream begins.
        first = services.engine.list_vectors(address, wanted.scan, count, cursor)
        return _pages(services.engine, address, wanted.scan, count, first)

    parts = _lines(request, await services.workers.run(select))
    stream = Stream(parts, EXPORT_S_MAX, lambda answer: envelope.REST.failure(answer) + b"\n")
    return Response(b"", content_type=b"application/x-ndjson", stream=stream)


def _skipped(engine: Engine, address: IndexAddress, cursor: str, skip: int) -> str | None:
    """Return the cursor after `skip` more vectors, None at the end of the listing.

    Raises:
        BadParameter: fewer vectors are left.
    """
    at: str | None = cursor
    left = skip
    while left:
        if at is None:
            raise BadParameter(
                f"skip is {skip}, and only {skip - left} vectors are after the cursor"
            )
        page = engine.list_vectors(address, Scan(), min(left, _SKIPPED_AT_ONCE), at)
        left, at = left - len(page.vectors), page.next_cursor
    return at


def _pages(
    engine: Engine, address: IndexAddress, scan: Scan, count: int, page: VectorPage
) -> Iterator[Sequence[ListedVector]]:
    """Yield the vectors of a page and of all that follow."""
    yield page.vectors
    while page.next_cursor is not None:
        page = engine.list_vectors(address, scan, count, page.next_cursor)
        yield page.vectors


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


def _add_change(name: str, request: object, *errors: type[Error]) -> Callable[[Handler], Handler]:
    return ROUTES.add(
        "POST",
        f"{INDEX}/vectors/{name}",
        Permission.WRITE,
        json_body,
        request=request,
        response=schemas.ChangedSchema,
        errors=(*_SCOPE_ERRORS, LimitExceeded, Overloaded, *errors),
    )


@_add_change("delete", schemas.DeleteScopeRequest)
async def delete_scope(request: ApiRequest) -> Response:
    """Remove the vectors of a scope in one write (an extension)."""
    return await _change(request, scopes.delete)


@_add_change(
    "patch",
    schemas.PatchMetadataRequest,
    BadRecord,
    BadMetadataKey,
    MetadataTooLarge,
    TooManyIds,
)
async def patch_metadata(request: ApiRequest) -> Response:
    """Patch the metadata of vectors in one write; their values stay (an extension)."""
    return await _change(request, scopes.patch)


async def _change(
    request: ApiRequest, read: Callable[[Body, Limits], scopes.ScopedChange]
) -> Response:
    services, address = request.services, request.address
    engine = services.engine
    wanted = await services.workers.run(lambda: read(request.body, services.limits))
    mutation = wanted.mutation
    if not wanted.is_dry_run:
        logged = await services.workers.run(lambda: engine.append(address, mutation))
        return await acknowledge(request, address, logged, scopes.changed)
    target = mutation.scope if isinstance(mutation, DeleteScope) else mutation.target

    def count() -> int:
        if isinstance(target, Scope):
            return engine.count(address, target)
        return len(engine.get(address, target))

    return Response(scopes.count(await services.workers.run(count)))
