"""Operations for who watches a server at work, beside `ops`: extensions of ours.

Slow queries are of all accounts, so a token must be good for everything.
"""

from vicinal.server.api.paths import API
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import slow_queries as wire

ROUTES = RouteTable()


@ROUTES.add(
    "GET",
    f"{API}/vicinal/slow-queries",
    Permission.WRITE,
    response=wire.SlowQueriesSchema,
    is_of_all=True,
    is_watching=True,
)
async def list_slow_queries(request: ApiRequest) -> Response:
    """List the newest slow queries, without the values that they had (an extension of Vicinal)."""
    return Response(request.services.slow_queries.written())
