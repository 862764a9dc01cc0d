"""SQL databases next to the indexes, in which libraries keep the texts of their vectors.

No route creates a database: its first statement does. To describe one that does not
exist is an error.
"""

from collections.abc import Callable, Sequence
from typing import Any

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
from vicinal.server.api.routing import Handler, RouteTable, large_body
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import d1
from vicinal.wire.openapi import Parameter

_ERRORS = (BadBody, BadStatement, DatabaseNotFound, LimitExceeded, Overloaded, Unavailable)

ROUTES = RouteTable()

DATABASES = f"{ACCOUNT}/d1/database"
DATABASE = f"{DATABASES}/{{database_id}}"


def _body(limits: Limits) -> int:
    return min(large_body(limits), CALL_BYTES_MAX)


@ROUTES.add(
    "GET",
    DATABASES,
    Permission.READ,
    response=list[d1.DatabaseSchema],
    errors=(BadParameter,),
    parameters=(Parameter("name", str, "Only those whose name has this in it."), *PAGING),
)
async def d1_list(request: ApiRequest) -> Response:
    """List the SQL databases of the account."""
    databases, account = request.services.databases, request.account
    part = request.query.get("name", "")

    def list_page() -> bytes:
        page = page_of(request, [name for name in databases.ids(account) if part in name])
        return d1.databases([databases.info(account, name) for name in page])

    return Response(await request.services.workers.run(list_page))


@ROUTES.add(
    "GET", DATABASE, Permission.READ, response=d1.DatabaseSchema, errors=(DatabaseNotFound,)
)
async def d1_info(request: ApiRequest) -> Response:
    """Tell what is known of an SQL database."""
    services, database = request.services, request.parameters["database_id"]

    def describe() -> bytes:
        return d1.database(services.databases.info(request.account, database))

    return Response(await services.workers.run(describe))


def _add_statements(name: str, response: Any) -> Callable[[Handler], Handler]:
    return ROUTES.add(
        "POST",
        f"{DATABASE}/{name}",
        Permission.WRITE,
        _body,
        request=d1.StatementsRequest,
        response=response,
        errors=_ERRORS,
    )


@_add_statements("raw", list[d1.RawResultSchema])
async def d1_raw(request: ApiRequest) -> Response:
    """Run SQL statements as one transaction; rows as arrays."""
    return await _run_statements(request, d1.raw, names_each_row=False)


@_add_statements("query", list[d1.ObjectsResultSchema])
async def d1_query(request: ApiRequest) -> Response:
    """Run SQL statements as one transaction; rows as objects."""
    return await _run_statements(request, d1.objects, names_each_row=True)


async def _run_statements(
    request: ApiRequest,
    write: Callable[[Sequence[StatementResult]], bytes],
    *,
    names_each_row: bool,
) -> Response:
    databases, account = request.services.databases, request.account
    database = request.parameters["database_id"]

    def execute() -> bytes:
        statements = d1.statements(request.body)
        results = databases.execute(account, database, statements, names_each_row=names_each_row)
        return write(results)

    async with request.services.database_turns.turn(account, database):
        return Response(await request.services.database_workers.run(execute))
