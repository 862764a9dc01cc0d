"""The route table: every operation that is answered, in one list.

Routing, permissions, body limits and the OpenAPI document come from it, and the tests of the
documentation read it.
"""

from vicinal.server.api import (
    accounts,
    ai,
    chat,
    d1,
    indexes,
    maps,
    metadata_indexes,
    ops,
    pages,
    scopes,
    snapshots,
    tokens,
    vectors,
    watching,
)
from vicinal.server.api.routing import Route
from vicinal.server.workers import ai_proxy, binding, remote_session

API_ROUTES: tuple[Route, ...] = (
    *indexes.ROUTES,
    *vectors.ROUTES,
    *scopes.ROUTES,
    *maps.ROUTES,
    *metadata_indexes.ROUTES,
    *ai.ROUTES,
    *chat.ROUTES,
    *accounts.ROUTES,
    *remote_session.ROUTES,
    *d1.ROUTES,
    *snapshots.ROUTES,
    *tokens.ROUTES,
    *watching.ROUTES,
)
"""Routes for clients, which the OpenAPI document describes."""

BINDING_ROUTES: tuple[Route, ...] = (
    *binding.INDEX_ROUTES,
    *binding.AI_ROUTES,
    *ai_proxy.ROUTES,
)
"""Routes for the bindings of Workers: a protocol between their runtime and this server."""


def all_routes(version: str) -> tuple[Route, ...]:
    """Return the whole table; `version` is shown in the OpenAPI document."""
    described = [route.operation for route in API_ROUTES]
    return (*API_ROUTES, *BINDING_ROUTES, *ops.routes(described, version), *pages.ROUTES)
