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
from vicinal.server.api.calls import Call, Route, json_body
from vicinal.server.api.paths import INDEX
from vicinal.server.api.writes import acknowledge
from vicinal.server.http.response import Reply
from vicinal.tokens import Permission
from vicinal.wire import requests, responses, shapes
from vicinal.wire.openapi import Operation


async def create(call: Call) -> Reply:
    """Make a property filterable."""
    limits = call.services.limits
    return await _write(call, lambda: requests.create_metadata_index(call.body, limits))


async def drop(call: Call) -> Reply:
    """Forget a metadata index."""
    return await _write(call, lambda: requests.delete_metadata_index(call.body))


async def _write(
    call: Call, read: Callable[[], CreateMetadataIndex | DeleteMetadataIndex]
) -> Reply:
    engine, address = call.services.engine, call.address

    def log() -> Future[Accepted]:
        return engine.append(address, read())

    return await acknowledge(call, address, await call.services.workers.run(log))


async def list_(call: Call) -> Reply:
    """Return the metadata indexes of an index."""
    engine, address = call.services.engine, call.address
    found = await call.services.workers.run(lambda: engine.list_metadata_indexes(address))
    return Reply(responses.metadata_indexes(found))


ROUTES = (
    Route(
        Operation(
            method="POST",
            path=f"{INDEX}/metadata_index/create",
            operation_id="create_metadata_index",
            summary="Index a metadata property of vectors written from now on",
            request=shapes.CreateMetadataIndexRequest,
            response=shapes.Mutation,
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
            response=shapes.MetadataIndexList,
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
            request=shapes.DeleteMetadataIndexRequest,
            response=shapes.Mutation,
            errors=(BadBody, MetadataIndexNotFound, IndexNotFound),
        ),
        drop,
        Permission.WRITE,
        json_body,
    ),
)
