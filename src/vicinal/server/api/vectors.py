"""The operations on vectors: query, insert, upsert, get, delete and list."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Protocol

from vicinal.errors import (
    BadBody,
    BadContentType,
    BadCursor,
    BadFilter,
    BadMetadataKey,
    BadParameter,
    BadQueryVector,
    BadRanking,
    BadRecord,
    BadTopK,
    BodyTooLarge,
    EmptyFilterValue,
    IdTooLong,
    LimitExceeded,
    MetadataTooLarge,
    NamespaceTooLong,
    Overloaded,
    TooManyIds,
    TooManyVectors,
    WrongDimensions,
)
from vicinal.model import (
    Accepted,
    BatchWriter,
    Delete,
    Insert,
    Query,
    QueryResult,
    Upsert,
    VectorBatch,
)
from vicinal.prepared import Prepared
from vicinal.server.api import ranking
from vicinal.server.api.paths import INDEX
from vicinal.server.api.ranking import NeedsModels
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Handler, RouteTable, json_body, large_body
from vicinal.server.api.slow_queries import Asker
from vicinal.server.api.writes import acknowledge, logged_once_sealed
from vicinal.server.concurrency import SMALL_BODY_BYTES, Workers, run_by_cost
from vicinal.server.http import request_ids
from vicinal.server.http.bodies import Body
from vicinal.server.http.response import Response
from vicinal.server.http.uploads import PART_BYTES
from vicinal.tokens import Permission
from vicinal.wire import codes, columns, options, requests, responses, schemas, vectors
from vicinal.wire.openapi import Parameter

_WRITE_ERRORS = (
    BadRecord,
    WrongDimensions,
    IdTooLong,
    NamespaceTooLong,
    BadMetadataKey,
    MetadataTooLarge,
    TooManyVectors,
    BadContentType,
    BadParameter,
    LimitExceeded,
    BodyTooLarge,
    Overloaded,
)

_UNPARSABLE = Parameter(
    "unparsable-behavior",
    str,
    "`error` refuses the batch for a record that does not parse, `discard` drops the record.",
)

ROUTES = RouteTable()

SEAL_WAIT_S = 2.0
"""Ours: how long a long columns body waits for the sealing of memtables before it is refused. Who
loads many vectors sends them faster than they are sealed; a seal takes tenths of a second, and
`Retry-After` counts whole ones."""

_PARTS_HELD = 4  # one that is read, one that waits, one that is filled, and a copy


EFFORT_HEADER = b"vicinal-effort"
EXPLAIN_HEADER = b"vicinal-explain"
FILTER_HEADER = b"vicinal-filter"
"""Extensions: how hard to look, whether the answer says how it was found, and whether the filter
may have the operators that are ours."""


@ROUTES.add(
    "POST",
    f"{INDEX}/query",
    Permission.READ,
    json_body,
    request=schemas.QueryRequest,
    response=schemas.QueryResultSchema,
    errors=(
        BadBody,
        BadQueryVector,
        BadTopK,
        IdTooLong,
        NamespaceTooLong,
        BadFilter,
        EmptyFilterValue,
        BadRanking,
        BodyTooLarge,
    ),
)
async def query(request: ApiRequest) -> Response:
    """Find the vectors nearest to a vector."""
    start = perf_counter()
    search = _Search(request)
    try:
        try:
            response = await _searched(search)
        except NeedsModels as needed:
            response = search.respond(await ranking.answer(request, needed.query))
    finally:
        seconds = perf_counter() - start
        if seconds >= request.services.slow_queries.least_s:
            search.note_slow(seconds)
    request.services.metrics.queried(search.address.account, search.address.name, seconds)
    return response


class _Search:
    """A query on its way: what was asked and answered, once that is known."""

    def __init__(self, request: ApiRequest) -> None:
        self.request = request
        self.address = request.address
        self._query: Query | None = None
        self._result: QueryResult | None = None

    def prepare(self) -> Prepared[QueryResult]:
        """Raises `NeedsModels`, and the errors of the engine."""
        self._query = query = _query_of(self.request)
        if ranking.needs_models(query):
            raise NeedsModels(query)
        return self.request.services.engine.prepare(self.address, query)

    def respond(self, result: QueryResult) -> Response:
        self._result = result
        return _query_response(result)

    def answer(self) -> Response:
        return self.respond(self.prepare().run())

    def note_slow(self, seconds: float) -> None:
        request, token = self.request, self.request.token
        asker = Asker(
            request.account,
            request.named_index,
            request_ids.text(request.request_id),
            "" if token is None else token.id,
        )
        if self._query is not None:
            request.services.slow_queries.add(asker, self._query, self._result, seconds)
            request.services.metrics.slow_query()


async def _searched(search: _Search) -> Response:
    request, address = search.request, search.address
    services, estimator = request.services, request.services.query_cost
    is_long = len(request.body) > SMALL_BODY_BYTES
    is_local = request.is_answered_at_once(address)
    is_shared = not is_long and services.clients.has_concurrent_clients(request.client)
    if is_long:
        return await services.workers.run(search.answer)
    offload = services.offload if is_shared and is_local else None
    if offload is not None and estimator.is_cheap(address):
        response, seconds = await offload.run(search.prepare, search.respond)
        estimator.note(address, seconds)
        return response
    return await run_by_cost(estimator, services.workers, address, search.answer, is_local=is_local)


def _query_of(request: ApiRequest) -> Query:
    query = requests.query(
        request.body,
        request.named_index.config.dimensions,
        request.services.limits,
        is_filter_extended=options.extends_filters(_header(request, FILTER_HEADER)),
    )
    if EFFORT_HEADER in request.headers or EXPLAIN_HEADER in request.headers:
        query = replace(
            query,
            effort=options.effort(_header(request, EFFORT_HEADER)),
            explain=options.explains(_header(request, EXPLAIN_HEADER)),
        )
    return query


def _query_response(result: QueryResult) -> Response:
    return Response(responses.query_result(result), messages=codes.notices_for(result))


def _header(request: ApiRequest, name: bytes) -> str | None:
    return request.headers[name].decode("latin-1").lower() if name in request.headers else None


def _add_write(name: str) -> Callable[[Handler], Handler]:
    return ROUTES.add(
        "POST",
        f"{INDEX}/{name}",
        Permission.WRITE,
        large_body,
        PART_BYTES,
        request=schemas.VectorRecordSchema,
        response=schemas.MutationSchema,
        errors=_WRITE_ERRORS,
        parameters=(_UNPARSABLE,),
        request_types=("application/x-ndjson", "application/json", "multipart/form-data"),
    )


@_add_write("insert")
async def insert(request: ApiRequest) -> Response:
    """Add vectors whose id is new; others are ignored."""
    return await _write(request, Insert, _RecordsForm(request))


@_add_write("upsert")
async def upsert(request: ApiRequest) -> Response:
    """Add vectors, replacing those whose id is there."""
    return await _write(request, Upsert, _RecordsForm(request))


def _add_columns(name: str) -> Callable[[Handler], Handler]:
    return ROUTES.add(
        "POST",
        f"{INDEX}/columns/{name}",
        Permission.WRITE,
        large_body,
        PART_BYTES,
        request=schemas.ColumnsRequest,
        response=schemas.MutationSchema,
        errors=_WRITE_ERRORS,
        request_types=(columns.CONTENT_TYPE,),
        operation_id=f"{name}_columns",
    )


@_add_columns("insert")
async def insert_columns(request: ApiRequest) -> Response:
    """Add vectors as `insert` does, from a line of names and raw float32 values. An extension."""
    return await _write(request, Insert, _ColumnsForm(request), seal_wait_s=SEAL_WAIT_S)


@_add_columns("upsert")
async def upsert_columns(request: ApiRequest) -> Response:
    """Add vectors as `upsert` does, from a line of names and raw float32 values. An extension."""
    return await _write(request, Upsert, _ColumnsForm(request), seal_wait_s=SEAL_WAIT_S)


class _PartsReader(Protocol):
    """A reader of a body that arrives in parts; `kept_bytes` is None when it keeps all of it."""

    @property
    def kept_bytes(self) -> int | None: ...
    def feed(self, part: bytes | bytearray) -> None: ...
    def finish(self) -> VectorBatch: ...


class _Form(Protocol):
    """A form of bodies of vectors: how a whole one is read, and one that arrives in parts."""

    def batch(self) -> VectorBatch: ...
    def reader(self, writer: BatchWriter) -> _PartsReader: ...


class _RecordsForm:
    """Records, in any form that clients of the platform send."""

    def __init__(self, request: ApiRequest) -> None:
        self._body = request.body
        self._dimensions = request.named_index.config.dimensions
        self._limits = request.services.limits
        self._type = request.headers.get(b"content-type", b"").decode("latin-1") or None
        self._discard = options.discards_unparsable(request.query.get("unparsable-behavior"))

    def batch(self) -> VectorBatch:
        return vectors.read(
            self._body, self._type, self._dimensions, self._limits, discard=self._discard
        )

    def reader(self, writer: BatchWriter) -> _PartsReader:
        return vectors.BodyReader(
            self._type, self._dimensions, self._limits, writer, discard=self._discard
        )


class _ColumnsForm:
    """Columns, with raw values."""

    def __init__(self, request: ApiRequest) -> None:
        self._body = request.body
        self._dimensions = request.named_index.config.dimensions
        self._limits = request.services.limits

    def batch(self) -> VectorBatch:
        return columns.batch_of(self._body, self._dimensions, self._limits)

    def reader(self, writer: BatchWriter) -> _PartsReader:
        return columns.ColumnsReader(self._dimensions, self._limits, writer)


async def _write(
    request: ApiRequest,
    kind: Callable[[VectorBatch], Insert | Upsert],
    form: _Form,
    *,
    seal_wait_s: float = 0.0,
) -> Response:
    engine, workers = request.services.engine, request.services.workers
    address = request.address
    mutation: Insert | Upsert | None = None

    def read_and_log() -> Future[Accepted]:
        return engine.append(address, kind(form.batch()))

    if request.arriving is not None:
        with closing(await workers.run(lambda: engine.open_batch(address))) as writer:
            reading = form.reader(writer)
            await _feed(reading, request.body, request.arriving, workers)

            def log() -> Future[Accepted]:
                nonlocal mutation
                mutation = mutation or kind(reading.finish())
                return engine.append(address, mutation)

            logged = await logged_once_sealed(workers, log, seal_wait_s)
    elif len(request.body) > SMALL_BODY_BYTES:
        logged = await workers.run(read_and_log)
    else:
        is_local = request.is_answered_at_once(address)
        logged = await run_by_cost(
            request.services.write_cost, workers, address, read_and_log, is_local=is_local
        )
    return await acknowledge(request, address, logged)


async def _feed(
    reading: _PartsReader, part: bytes | bytearray, arriving: Body, workers: Workers
) -> None:
    """Read a body while it arrives: one part in a thread, while the loop receives the next."""
    while part:
        feeding = workers.run(partial(reading.feed, part))
        try:
            part = await arriving.receive(PART_BYTES)
        finally:
            await feeding  # its error comes before that of receiving
        if reading.kept_bytes is not None:
            arriving.hold(reading.kept_bytes + _PARTS_HELD * PART_BYTES)


@ROUTES.add(
    "POST",
    f"{INDEX}/get_by_ids",
    Permission.READ,
    json_body,
    request=schemas.IdsRequest,
    response=list[schemas.VectorSchema],
    errors=(BadBody, TooManyIds, IdTooLong, BodyTooLarge),
)
async def get_by_ids(request: ApiRequest) -> Response:
    """Return stored vectors; unknown ids are left out."""
    services, address = request.services, request.address

    def get() -> bytes:
        ids = requests.ids(request.body, services.limits.get_ids_max, services.limits)
        return responses.vectors(services.engine.get(address, ids))

    return Response(await services.workers.run(get))


@ROUTES.add(
    "POST",
    f"{INDEX}/delete_by_ids",
    Permission.WRITE,
    json_body,
    request=schemas.IdsRequest,
    response=schemas.MutationSchema,
    errors=(BadBody, TooManyIds, IdTooLong, BodyTooLarge, Overloaded),
)
async def delete_by_ids(request: ApiRequest) -> Response:
    """Remove vectors; unknown ids are ignored."""
    services, address = request.services, request.address

    def log() -> Future[Accepted]:
        ids = requests.ids(request.body, services.limits.delete_ids_max, services.limits)
        return services.engine.append(address, Delete(ids))

    return await acknowledge(request, address, await services.workers.run(log))


@ROUTES.add(
    "GET",
    f"{INDEX}/list",
    Permission.READ,
    response=schemas.VectorListSchema,
    errors=(BadParameter, BadCursor),
    parameters=(
        Parameter("count", int, "How many ids a page has at most."),
        Parameter("cursor", str, "`nextCursor` of the page before."),
    ),
)
async def list_vectors(request: ApiRequest) -> Response:
    """List the ids of an index, page by page, from one snapshot."""
    services, address = request.services, request.address
    page = requests.list_parameters(
        request.query.get("count"), request.query.get("cursor"), services.limits
    )

    def list_page() -> bytes:
        return responses.page(services.engine.list(address, page.count, page.cursor))

    return Response(await services.workers.run(list_page))
