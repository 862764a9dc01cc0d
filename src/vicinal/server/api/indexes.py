"""The operations on whole indexes."""

from vicinal.errors import BadBody, BadIndexConfig, BadParameter, IndexExists, LimitExceeded
from vicinal.model import Index, IndexAddress
from vicinal.server.api.paths import INDEX, INDEXES
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable, json_body
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import envelope, options, requests, responses, schemas
from vicinal.wire.openapi import Parameter

ROUTES = RouteTable()


@ROUTES.add("GET", INDEXES, Permission.READ, response=list[schemas.IndexSchema])
async def list_indexes(request: ApiRequest) -> Response:
    """List the indexes of an account, oldest first."""
    engine, account = request.services.engine, request.account
    indexes = await request.services.workers.run(lambda: engine.list_indexes(account))
    return Response(responses.indexes(indexes))


@ROUTES.add(
    "POST",
    INDEXES,
    Permission.WRITE,
    json_body,
    request=schemas.CreateIndexRequest,
    response=schemas.IndexSchema,
    errors=(BadBody, BadIndexConfig, IndexExists, LimitExceeded),
)
async def create_index(request: ApiRequest) -> Response:
    """Create an index from dimensions and metric, or from a preset."""
    services, account = request.services, request.account

    def create() -> Index:
        new = requests.create_index(request.body, services.limits)
        address = IndexAddress(account, new.name)
        return services.engine.create_index(address, new.config, new.description)

    return Response(responses.index(await services.workers.run(create)))


@ROUTES.add("GET", INDEX, Permission.READ, response=schemas.IndexSchema)
async def get_index(request: ApiRequest) -> Response:
    """Return an index."""
    return Response(responses.index(request.named_index))


@ROUTES.add("DELETE", INDEX, Permission.WRITE)
async def delete_index(request: ApiRequest) -> Response:
    """Remove an index and all it holds; its name is free at once."""
    engine, address = request.services.engine, request.address
    await request.services.workers.run(lambda: engine.delete_index(address))
    request.services.metrics.deleted(request.account, address.name)
    return Response(envelope.NULL)


@ROUTES.add(
    "GET",
    f"{INDEX}/info",
    Permission.READ,
    response=schemas.IndexInfoSchema,
    errors=(BadParameter,),
    parameters=(
        Parameter("detail", bool, "Whether to tell the bytes and segments, too (an extension)."),
    ),
)
async def info(request: ApiRequest) -> Response:
    """Count an index's vectors and name the last mutation that queries see."""
    engine, address = request.services.engine, request.address
    is_detailed = options.wants_detail(request.query.get("detail"))

    def answer() -> bytes:
        status = engine.status(address)
        return responses.status(status, engine.storage(address) if is_detailed else None)

    return Response(await request.services.workers.run(answer))
