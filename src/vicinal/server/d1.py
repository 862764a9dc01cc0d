"""SQL databases beside the indexes: what libraries keep the texts of their vectors in."""

from collections.abc import Callable, Sequence

from vicinal.errors import BadBody, BadStatement, NotFound, Overloaded, Unavailable
from vicinal.model import SqlResult
from vicinal.server.calls import Call, Reply, Route, large_body
from vicinal.server.paths import ACCOUNT
from vicinal.tokens import Permission
from vicinal.wire import d1
from vicinal.wire.openapi import Operation

DATABASE = f"{ACCOUNT}/d1/database/{{database_id}}"


async def raw(call: Call) -> Reply:
    """Run statements; rows come as arrays."""
    return await _run(call, d1.raw)


async def query(call: Call) -> Reply:
    """Run statements; rows come as objects."""
    return await _run(call, d1.objects)


async def _run(call: Call, write: Callable[[Sequence[SqlResult]], bytes]) -> Reply:
    services, account, database = call.services, call.account, call.parameters["database_id"]

    def work() -> bytes:
        return write(services.databases.run(account, database, d1.statements(call.body)))

    return Reply(await services.database_workers.run(work))


_ERRORS = (BadBody, BadStatement, NotFound, Overloaded, Unavailable)

ROUTES = (
    Route(
        Operation(
            method="POST",
            path=f"{DATABASE}/raw",
            operation_id="d1_raw",
            summary="Run SQL statements as one transaction; rows as arrays",
            request=d1.StatementsRequest,
            response=list[d1.RawResult],
            errors=_ERRORS,
        ),
        raw,
        Permission.WRITE,
        large_body,
    ),
    Route(
        Operation(
            method="POST",
            path=f"{DATABASE}/query",
            operation_id="d1_query",
            summary="Run SQL statements as one transaction; rows as objects",
            request=d1.StatementsRequest,
            response=list[d1.ObjectsResult],
            errors=_ERRORS,
        ),
        query,
        Permission.WRITE,
        large_body,
    ),
)
