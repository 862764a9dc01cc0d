"""The operations on metadata indexes."""

from collections.abc import Callable
from concurrent.futures import Future

from vicinal.errors import (
    AlreadyExists,
    BadBody,
    IndexNotFound,
    LimitExceeded,
    MetadataIndexNotFound,
)
from vicinal.model import Accepted, CreateMetadataIndex, DeleteMetadataIndex
from vicinal.server.api.paths import INDEX
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Route, json_body
from vicinal.server.api.writes import acknowledge
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import requests, responses, schemas
from vicinal.wire.openapi import Operation


async def create(request: ApiRequest) -> Response:
    """Make a property filterable."""
    limits = request.services.limits
    return await _write(request, lambda: requests.create_metadata_index(request.body, limits))


async def delete(request: ApiRequest) -> Response:
    """Delete a metadata index."""
    return await _write(request, lambda: requests.delete_metadata_index(request.body))


async def _write(
    request: ApiRequest, read: Callable[[], CreateMetadataIndex | DeleteMetadataIndex]
) -> Response:
    engine, address = request.services.engine, request.address

    def log() -> Future[Accepted]:
        return engine.append(address, read())

    return await acknowledge(request, address, await request.services.workers.run(log))


async def list_(request: ApiRequest) -> Response:
    """Return the metadata indexes of an index."""
    engine, address = request.services.engine, request.address
    indexes = await request.services.workers.run(lambda: engine.list_metadata_indexes(address))
    return Response(responses.metadata_indexes(indexes))


ROUTES = (
    Route(
        Operation(
            method="POST",
            path=f"{INDEX}/metadata_index/create",
            operation_id="create_metadata_index",
            summary="Index a metadata property of vectors written from now on",
            request=schemas.CreateMetadataIndexRequest,
            response=schemas.MutationSchema,
            errors=(BadBody, AlreadyExists, LimitExceeded, IndexNotFound),
        ),
        create,
        Permission.WRITE,
        json_body,
    ),
    Route(
        Operation(
            method="GET",
            path=f"{INDEX}/metadata_index/list",
            operation_id="list_metadata_indexes",
            summary="List the metadata indexes of an index, oldest first",
            response=schemas.MetadataIndexListSchema,
            errors=(IndexNotFound,),
        ),
        list_,
        Permission.READ,
    ),
    Route(
        Operation(
            method="POST",
            path=f"{INDEX}/metadata_index/delete",
            operation_id="delete_metadata_index",
            summary="Forget a metadata index; vectors keep their metadata",
            request=schemas.DeleteMetadataIndexRequest,
            response=schemas.MutationSchema,
            errors=(BadBody, MetadataIndexNotFound, IndexNotFound),
        ),
        delete,
        Permission.WRITE,
        json_body,
    ),
)
