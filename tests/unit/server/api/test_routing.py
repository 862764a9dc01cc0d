"""A path leads to its route however it is encoded, and to nothing else."""

import re

import pytest

from vicinal.errors import RouteNotFound
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Route, Router, RouteTable, large_body
from vicinal.server.http.response import Response
from vicinal.server.routes import API_ROUTES, BINDING_ROUTES, all_routes
from vicinal.tokens import Permission

INDEXES = "/client/v4/accounts/acme/vectorize/v2/indexes"


ROUTES = all_routes("0")


@pytest.fixture(scope="module")
def router() -> Router:
    return Router(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation.operation_id)
def test_every_route_is_found_by_its_own_path(router: Router, route: Route) -> None:
    path = re.sub(r"{\w+}", "a", route.operation.path)

    assert router.match(path.encode()).routes[route.operation.method] is route


def test_parameters_are_taken_from_the_path(router: Router) -> None:
    place = router.match(f"{INDEXES}/docs/metadata_index/list".encode())

    assert place.parameters == {"account_id": "acme", "index_name": "docs"}


@pytest.mark.parametrize(
    ("encoded", "name"),
    [("a%20b", "a b"), ("a%2Fb", "a/b"), ("%C3%A9", "é"), ("%64ocs", "docs"), ("a+b", "a+b")],
)
def test_a_name_is_decoded_after_the_path_is_split(router: Router, encoded: str, name: str) -> None:
    place = router.match(f"{INDEXES}/{encoded}/info".encode())

    assert place.parameters["index_name"] == name
    assert place.routes["GET"].operation.operation_id == "info"


@pytest.mark.parametrize(
    "rest",
    [
        "@cf/baai/bge-base-en-v1.5",
        "@cf%2Fbaai%2Fbge-base-en-v1.5",
        "%40cf%2Fbaai%2Fbge-base-en-v1.5",
        "@cf%2fbaai/bge-base-en-v1.5/",
    ],
)
def test_a_model_name_may_have_slashes_encoded_or_not(router: Router, rest: str) -> None:
    place = router.match(f"/client/v4/accounts/acme/ai/run/{rest}".encode())

    assert place.parameters["model_name"] == "@cf/baai/bge-base-en-v1.5"


def test_a_slash_at_the_end_makes_no_difference(router: Router) -> None:
    with_slash, without = router.match(f"{INDEXES}/".encode()), router.match(INDEXES.encode())

    assert with_slash.routes == without.routes
    assert set(without.routes) == {"GET", "POST"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/client/v4",
        "/client/v4/accounts/acme",
        f"{INDEXES}/docs/nope",
        f"{INDEXES}/docs/metadata_index",
        f"{INDEXES}/docs//info",
        f"{INDEXES}//",
        f"{INDEXES}/%FF/info",
        f"/{INDEXES}",
        "/client/v4/accounts/acme/ai/run",
        "/client/v4/accounts/acme/ai/run/",
        "/client/v4/accounts/acme/vectorize/indexes",
    ],
)
def test_a_path_that_leads_nowhere_is_named(router: Router, path: str) -> None:
    with pytest.raises(RouteNotFound) as caught:
        router.match(path.encode())

    assert str(caught.value) == path


def test_a_place_tells_the_methods_it_answers(router: Router) -> None:
    assert router.match(INDEXES.encode()).allowed == "GET, HEAD, OPTIONS, POST"
    assert router.match(f"{INDEXES}/docs/query".encode()).allowed == "OPTIONS, POST"


def test_operations_have_names_of_their_own_and_say_what_they_do() -> None:
    operations = [route.operation for route in (*API_ROUTES, *BINDING_ROUTES)]

    assert len({each.operation_id for each in operations}) == len(operations)
    assert all(each.summary for each in operations)


def test_what_changes_something_needs_a_token_that_may_write() -> None:
    clients = (*API_ROUTES, *BINDING_ROUTES)
    writes = {
        route.operation.operation_id
        for route in clients
        if route.permission is not None and route.permission.value == "write"
    }

    assert writes == {
        "list_slow_queries",  # of all accounts
        "create_index",
        "delete_index",
        "insert",
        "upsert",
        "insert_columns",
        "upsert_columns",
        "delete_by_ids",
        "delete_scope",
        "patch_metadata",
        "create_metadata_index",
        "delete_metadata_index",
        "binding_insert",
        "binding_upsert",
        "binding_deleteByIds",
        "d1_raw",
        "d1_query",
        "list_snapshots",
        "get_snapshot",
        "create_snapshot",
        "stream_snapshot",
        "fetch_snapshot",
        "stream_stored_snapshot",
        "fetch_stored_snapshot",
        "give_ticket",
        "verify_snapshot",
        "restore_snapshot",
        "delete_snapshot",
        "list_tokens",  # as who may do everything may make them
        "create_token",
        "revoke_token",
    }
    assert all(route.permission is not None for route in clients)


def test_a_handler_names_its_operation_and_summarizes_it() -> None:
    table = RouteTable()

    @table.add("GET", "/other", None, operation_id="other")
    @table.add("POST", "/docs", Permission.WRITE, large_body, 7, errors=(RouteNotFound,))
    async def write_docs(request: ApiRequest) -> Response:
        """Write docs.

        More of it.
        """
        return Response(b"")

    first, second = table
    assert (first.operation.operation_id, second.operation.operation_id) == ("write_docs", "other")
    assert first.operation.summary == second.operation.summary == "Write docs"
    assert (first.operation.method, first.operation.path) == ("POST", "/docs")
    assert first.operation.errors == (RouteNotFound,)
    assert (first.permission, first.part_bytes) == (Permission.WRITE, 7)
    assert first.body_bytes_max is large_body
    assert first.handler is second.handler is write_docs
    assert (second.permission, second.body_bytes_max) == (None, None)
