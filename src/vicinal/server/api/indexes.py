"""The operations on whole indexes."""

from vicinal.errors import BadBody, BadIndexConfig, IndexExists, IndexNotFound, LimitExceeded
from vicinal.model import Index, IndexAddress
from vicinal.server.api.paths import INDEX, INDEXES
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Route, json_body
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import envelope, requests, responses, schemas
from vicinal.wire.openapi import Operation


async def list_indexes(request: ApiRequest) -> Response:
    """Return the indexes of an account."""
    engine, account = request.services.engine, request.account
    indexes = await request.services.workers.run(lambda: engine.list_indexes(account))
    return Response(responses.indexes(indexes))


async def create_index(request: ApiRequest) -> Response:
    """Create an empty index."""
    services, account = request.services, request.account

    def create() -> Index:
        new = requests.create_index(request.body, services.limits)
        address = IndexAddress(account, new.name)
        return services.engine.create_index(address, new.config, new.description)

    return Response(responses.index(await services.workers.run(create)))


async def get_index(request: ApiRequest) -> Response:
    """Return name, description and configuration of an index."""
    return Response(responses.index(request.named_index))


async def delete_index(request: ApiRequest) -> Response:
    """Delete an index with its vectors."""
    engine, address = request.services.engine, request.address
    await request.services.workers.run(lambda: engine.delete_index(address))
    return Response(envelope.NULL)


async def info(request: ApiRequest) -> Response:
    """Return the number of vectors and the last mutation that queries see."""
    engine, address = request.services.engine, request.address
    status = await request.services.workers.run(lambda: engine.status(address))
    return Response(responses.status(status))


ROUTES = (
    Route(
        Operation(
            method="GET",
            path=INDEXES,
            operation_id="list_indexes",
            summary="List the indexes of an account, oldest first",
            response=list[schemas.IndexSchema],
        ),
        list_indexes,
        Permission.READ,
    ),
    Route(
        Operation(
            method="POST",
            path=INDEXES,
            operation_id="create_index",
            summary="Create an index from dimensions and metric, or from a preset",
            request=schemas.CreateIndexRequest,
            response=schemas.IndexSchema,
            errors=(BadBody, BadIndexConfig, IndexExists, LimitExceeded),
        ),
        create_index,
        Permission.WRITE,
        json_body,
    ),
    Route(
        Operation(
            method="GET",
            path=INDEX,
            operation_id="get_index",
            summary="Return an index",
            response=schemas.IndexSchema,
            errors=(IndexNotFound,),
        ),
        get_index,
        Permission.READ,
    ),
    Route(
        Operation(
            method="DELETE",
            path=INDEX,
            operation_id="delete_index",
            summary="Remove an index and all it holds; its name is free at once",
            errors=(IndexNotFound,),
        ),
        delete_index,
        Permission.WRITE,
    ),
    Route(
        Operation(
            method="GET",
            path=f"{INDEX}/info",
            operation_id="info",
            summary="Count an index's vectors and name the last mutation that queries see",
            response=schemas.IndexInfoSchema,
            errors=(IndexNotFound,),
        ),
        info,
        Permission.READ,
    ),
)
