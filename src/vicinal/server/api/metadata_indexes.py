"""The operations on metadata indexes."""

from collections.abc import Callable
from concurrent.futures import Future

from vicinal.errors import (
    AlreadyExists,
    BadBody,
    LimitExceeded,
    MetadataIndexNotFound,
)
from vicinal.model import Accepted, CreateMetadataIndex, DeleteMetadataIndex
from vicinal.server.api.paths import INDEX
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable, json_body
from vicinal.server.api.writes import acknowledge
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import requests, responses, schemas

ROUTES = RouteTable()


@ROUTES.add(
    "POST",
    f"{INDEX}/metadata_index/create",
    Permission.WRITE,
    json_body,
    request=schemas.CreateMetadataIndexRequest,
    response=schemas.MutationSchema,
    errors=(BadBody, AlreadyExists, LimitExceeded),
)
async def create_metadata_index(request: ApiRequest) -> Response:
    """Index a metadata property of vectors written from now on."""
    limits = request.services.limits
    return await _write(request, lambda: requests.create_metadata_index(request.body, limits))


@ROUTES.add(
    "GET", f"{INDEX}/metadata_index/list", Permission.READ, response=schemas.MetadataIndexListSchema
)
async def list_metadata_indexes(request: ApiRequest) -> Response:
    """List the metadata indexes of an index, oldest first."""
    engine, address = request.services.engine, request.address
    indexes = await request.services.workers.run(lambda: engine.list_metadata_indexes(address))
    return Response(responses.metadata_indexes(indexes))


@ROUTES.add(
    "POST",
    f"{INDEX}/metadata_index/delete",
    Permission.WRITE,
    json_body,
    request=schemas.DeleteMetadataIndexRequest,
    response=schemas.MutationSchema,
    errors=(BadBody, MetadataIndexNotFound),
)
async def delete_metadata_index(request: ApiRequest) -> Response:
    """Forget a metadata index; vectors keep their metadata."""
    return await _write(request, lambda: requests.delete_metadata_index(request.body))


async def _write(
    request: ApiRequest, read: Callable[[], CreateMetadataIndex | DeleteMetadataIndex]
) -> Response:
    services, address = request.services, request.address
    mutation = await request.run_on_body(read)
    is_backfill = isinstance(mutation, CreateMetadataIndex) and mutation.backfill
    # One that reads every text takes minutes, in which queries need their threads.
    workers = services.backfill_workers if is_backfill else services.workers

    def log() -> Future[Accepted]:
        return services.engine.append(address, mutation)

    return await acknowledge(request, address, await workers.run(log))
