"""The route table: every operation that is answered, in one list.

Routing, permissions, body limits and the OpenAPI document all come from it; the tests of
the documentation read it too.
"""

from vicinal.server import (
    accounts,
    ai,
    binding,
    indexes,
    metadata_indexes,
    ops,
    remote_session,
    vectors,
)
from vicinal.server.calls import Route

API_ROUTES: tuple[Route, ...] = (
    *indexes.ROUTES,
    *vectors.ROUTES,
    *metadata_indexes.ROUTES,
    *ai.ROUTES,
    *accounts.ROUTES,
    *remote_session.ROUTES,
    *binding.INDEX_ROUTES,
    *binding.AI_ROUTES,
)
"""What clients call; the OpenAPI document describes these."""


def all_routes(version: str) -> tuple[Route, ...]:
    """Return the whole table; `version` is shown in the OpenAPI document."""
    return (*API_ROUTES, *ops.routes([route.operation for route in API_ROUTES], version))
