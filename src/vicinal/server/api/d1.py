"""SQL databases next to the indexes, in which libraries keep the texts of their vectors.

No route creates a database: its first statement does. To describe one that does not
exist is an error.
"""

from collections.abc import Callable, Sequence

from vicinal.d1.bounds import CALL_BYTES_MAX
from vicinal.d1.messages import StatementResult
from vicinal.errors import (
    BadBody,
    BadParameter,
    BadStatement,
    DatabaseNotFound,
    LimitExceeded,
    Overloaded,
    Unavailable,
)
from vicinal.limits import Limits
from vicinal.server.api.accounts import PAGING, page_of
from vicinal.server.api.paths import ACCOUNT
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Route, large_body
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import d1
from vicinal.wire.openapi import Operation, Parameter

DATABASES = f"{ACCOUNT}/d1/database"
DATABASE = f"{DATABASES}/{{database_id}}"


async def raw(request: ApiRequest) -> Response:
    """Run statements; rows come as arrays."""
    return await _run_statements(request, d1.raw, names_each_row=False)


async def query(request: ApiRequest) -> Response:
    """Run statements; rows come as objects."""
    return await _run_statements(request, d1.objects, names_each_row=True)


async def list_databases(request: ApiRequest) -> Response:
    """Return the databases of the account, or those whose name has a text in it."""
    databases, account = request.services.databases, request.account
    part = request.query.get("name", "")

    def list_page() -> bytes:
        page = page_of(request, [name for name in databases.ids(account) if part in name])
        return d1.databases([databases.info(account, name) for name in page])

    return Response(await request.services.workers.run(list_page))


async def info(request: ApiRequest) -> Response:
    """Return name, size and times of a database."""
    services, database = request.services, request.parameters["database_id"]

    def describe() -> bytes:
        return d1.database(services.databases.info(request.account, database))

    return Response(await services.workers.run(describe))


async def _run_statements(
    request: ApiRequest,
    write: Callable[[Sequence[StatementResult]], bytes],
    *,
    names_each_row: bool,
) -> Response:
    services, account = request.services, request.account
    database = request.parameters["database_id"]

    def execute() -> bytes:
        statements = d1.statements(request.body)
        results = services.databases.execute(
            account, database, statements, names_each_row=names_each_row
        )
        return write(results)

    async with services.database_turns.turn(account, database):
        return Response(await services.database_workers.run(execute))


def _body(limits: Limits) -> int:
    return min(large_body(limits), CALL_BYTES_MAX)


_ERRORS = (BadBody, BadStatement, DatabaseNotFound, LimitExceeded, Overloaded, Unavailable)

ROUTES = (
    Route(
        Operation(
            method="GET",
            path=DATABASES,
            operation_id="d1_list",
            summary="List the SQL databases of the account",
            response=list[d1.DatabaseSchema],
            errors=(BadParameter,),
            parameters=(Parameter("name", str, "Only those whose name has this in it."), *PAGING),
        ),
        list_databases,
        Permission.READ,
    ),
    Route(
        Operation(
            method="GET",
            path=DATABASE,
            operation_id="d1_info",
            summary="Tell what is known of an SQL database",
            response=d1.DatabaseSchema,
            errors=(DatabaseNotFound,),
        ),
        info,
        Permission.READ,
    ),
    Route(
        Operation(
            method="POST",
            path=f"{DATABASE}/raw",
            operation_id="d1_raw",
            summary="Run SQL statements as one transaction; rows as arrays",
            request=d1.StatementsRequest,
            response=list[d1.RawResultSchema],
            errors=_ERRORS,
        ),
        raw,
        Permission.WRITE,
        _body,
    ),
    Route(
        Operation(
            method="POST",
            path=f"{DATABASE}/query",
            operation_id="d1_query",
            summary="Run SQL statements as one transaction; rows as objects",
            request=d1.StatementsRequest,
            response=list[d1.ObjectsResultSchema],
            errors=_ERRORS,
        ),
        query,
        Permission.WRITE,
        _body,
    ),
)
