"""Who is let in where: every route, by every way to it, with every kind of token.

What is expected follows from the route table and the rules of `vicinal.server.api.auth` and
`vicinal.server.http.origins`, written down once more in `expected`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.asgi import application, call
from tests.support.embedder import TINY
from tests.support.engines import DOCS, create
from tests.support.model_engine import ModelEngine
from vicinal.server.api.routing import Route
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App
from vicinal.server.routes import API_ROUTES, BINDING_ROUTES, all_routes
from vicinal.server.workers.sessions import Bindings
from vicinal.tokens import Permission, TokenStore
from vicinal.wire import codes, envelope

ROUTES = all_routes("0")
NAMES = defaultdict(lambda: "x", account_id=DOCS.account, index_name=DOCS.name, model_name=TINY)
REFUSED = (401, 403)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a request carries to be let in.

    Attributes:
        name: Of the kind.
        headers: It travels in these.
        secret: What they hold, None where they hold none.
        permission: What it allows on a server that knows it, None where none does.
        account: The only one it is good for.
    """

    name: str
    headers: Mapping[str, str]
    secret: str | None = None
    permission: Permission | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A server and what it asks for.

    Attributes:
        needs: Whether a token is needed.
        knows: Whether it knows the tokens that have a permission.
    """

    app: App
    needs: bool
    knows: bool
    sent: list[Sent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Request:
    """A request without what lets it in: how the route is reached, and what is said of it."""

    way: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    in_target: bool = False  # the token is written into the target


def bearer(secret: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {secret}"}


def kinds(tokens: TokenStore, *, revokes: bool) -> list[Sent]:
    """Return every kind of token, made by these."""
    made = [
        ("read", Permission.READ, None),
        ("write", Permission.WRITE, None),
        ("read here", Permission.READ, DOCS.account),
        ("write here", Permission.WRITE, DOCS.account),
        ("read elsewhere", Permission.READ, "other"),
        ("write elsewhere", Permission.WRITE, "other"),
    ]
    sent = [
        Sent("none", {}),
        Sent("no bearer", {"authorization": "Basic dXNlcjpwYXNz"}),
        Sent("an empty bearer", {"authorization": "Bearer "}),
        Sent("a key without an address", {"x-auth-key": "k"}),
        Sent("unknown", bearer("nobody-knows"), "nobody-knows"),
    ]
    for name, permission, account in made:
        token, secret = tokens.create(name, permission, account)
        sent.append(Sent(name, bearer(secret), secret, permission, account))
        if name == "write":
            by_key = {"x-auth-email": "me@example.com", "x-auth-key": secret}
            sent.append(Sent("write, as a key", by_key, secret, permission, account))
        if revokes:
            tokens.revoke(token.id)
    gone, secret = tokens.create("gone", Permission.WRITE)
    tokens.revoke(gone.id)
    return [*sent, Sent("revoked", bearer(secret), secret)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Server]:
    def build(name: str, *, requires: bool = False) -> tuple[App, TokenStore]:
        folder: Path = tmp_path_factory.mktemp(name)
        engine = ModelEngine()
        create(engine)
        app = application(folder, engine=engine, config=ServerConfig(require_token=requires))
        return app, app.services.tokens

    with_tokens, tokens = build("with-tokens")
    sent = kinds(tokens, revokes=False)
    all_revoked, gone = build("all-revoked")
    return {
        "with tokens": Server(with_tokens, True, True, sent),
        "all revoked": Server(all_revoked, True, False, kinds(gone, revokes=True)),
        "requires one": Server(build("requires", requires=True)[0], True, False, sent),
        "open": Server(build("open")[0], False, False, sent),
    }


SERVERS = ("with tokens", "all revoked", "requires one", "open")


def requests_to(route: Route) -> list[Request]:
    """Return the requests that reach a route, one for each way to it."""
    path = route.operation.path.format_map(NAMES)
    if route not in BINDING_ROUTES or route.addressed is None:
        return [Request("path", path, {"x-vectorize-account": "other"})]
    named = {"x-vectorize-account": DOCS.account, "cf-consn-model-id": TINY}
    wrapped = {
        "mf-binding": "V",
        "mf-url": f"http://x{path}",
        "mf-header-cf-consn-model-id": TINY,
        "mf-header-x-vectorize-account": "other",
        "x-vectorize-account": "other",
    }
    connection = f"/miniflare/{DOCS.account}?index.V={DOCS.name}"
    return [
        Request("headers", path, {**named, "x-vectorize-index": DOCS.name}),
        Request("connection string", connection, wrapped),
        Request("token in the connection string", connection, wrapped, in_target=True),
        Request("session", "/", wrapped),
        Request("token in the session", "/", wrapped, in_target=True),
    ]


def expected(route: Route, sent: Sent, server: Server) -> int:
    """Return the status that refuses a request, 0 where it is let in."""
    if route.permission is None:
        return 0
    if route.takes_ticket:
        return 401  # with any token: none of these requests has a ticket
    if sent.headers and sent.secret is None:
        return 401
    if not server.knows or sent.permission is None:
        if not server.needs:
            return 0
        unknown = route.unknown_token("x")
        return 401 if sent.secret is None else codes.response_for(unknown).status
    is_of_an_account = "{account_id}" in route.operation.path or route.addressed is not None
    is_of_all = "/vicinal/" in route.operation.path or route.operation.path == "/metrics"
    assert route.is_of_all == is_of_all
    if sent.account is not None and (is_of_all or (is_of_an_account and sent.account == "other")):
        return 403
    if route.permission is Permission.WRITE and sent.permission is Permission.READ:
        return 403
    return 0


def status_of(
    server: Server, route: Route, request: Request, sent: Sent, beside: Mapping[str, str]
) -> int:
    """Make a request and return its status.

    What it wraps, if it does, says that it is of somebody who may write, which changes nothing.
    Nor does one that is refused change anything, and HEAD is treated as GET is.
    """
    app, headers, target = server.app, {**request.headers, **beside}, request.target
    if request.way.endswith("session"):
        authorization = sent.headers["authorization"].encode() if request.in_target else None
        bindings = Bindings(DOCS.account, authorization, {"V": DOCS.name})
        headers["cf-workers-preview-token"] = app.services.sessions.add(bindings)
    elif request.in_target:
        target = f"{target}&{urlencode({'token': sent.secret})}"
    if not request.in_target:
        headers |= sent.headers
    (writer,) = (each for each in server.sent if each.name == "write")
    assert writer.secret is not None
    headers |= {f"mf-header-{name}": value for name, value in bearer(writer.secret).items()}
    headers |= {"mf-header-x-auth-email": "me@example.com", "mf-header-x-auth-key": writer.secret}
    engine = app.services.engine
    before = [(each.id, engine.status(DOCS)) for each in engine.list_indexes(DOCS.account)]
    got = call(app, route.operation.method, target, headers=headers)
    assert got.status is not None
    if got.status in REFUSED:
        after = [(each.id, engine.status(DOCS)) for each in engine.list_indexes(DOCS.account)]
        assert after == before
    if route.operation.method == "GET":
        head = call(app, "HEAD", target, headers=headers)
        # One that is let in by a ticket is no GET without a body: it would use the ticket up.
        assert head.status in ((got.status, 405) if route.takes_ticket else (got.status,))
        assert head.body == b""
    if route.operation.operation_id == "delete_index" and got.status == 200:
        create(app.services.engine)
    return got.status


def check(actual: int, wanted: int, what: str) -> None:
    if wanted:
        assert actual == wanted, what
    else:
        assert actual not in REFUSED, what
        assert actual < 500, what


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize(
    "route", ROUTES, ids=lambda route: f"{route.operation.method} {route.operation.operation_id}"
)
def test_a_token_opens_what_the_route_table_says_and_nothing_else(
    servers: Mapping[str, Server], route: Route, name: str
) -> None:
    server = servers[name]
    for request in requests_to(route):
        for sent in server.sent:
            if request.in_target and (sent.secret is None or "x-auth-key" in sent.headers):
                continue  # neither a connection string nor a session can say that
            actual = status_of(server, route, request, sent, {"host": "localhost"})

            check(actual, expected(route, sent, server), f"{request.way}, {sent.name}")


STRANGERS = (
    {"host": "evil.example"},
    {"host": "localhost", "origin": "http://evil.example"},
    {"host": "localhost", "sec-fetch-site": "cross-site"},
)


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize(
    "route", ROUTES, ids=lambda route: f"{route.operation.method} {route.operation.operation_id}"
)
def test_other_sites_are_refused_where_no_token_is_needed_and_need_one_elsewhere(
    servers: Mapping[str, Server], route: Route, name: str
) -> None:
    server = servers[name]
    is_binding = route.form in (envelope.BINDING, envelope.BINDING_MODELS)
    for request in requests_to(route):
        for sent in server.sent:
            if request.in_target and (sent.secret is None or "x-auth-key" in sent.headers):
                continue
            for stranger in STRANGERS:
                actual = status_of(server, route, request, sent, stranger)

                wanted = expected(route, sent, server) if server.needs else 403
                check(actual, wanted, f"{request.way}, {sent.name}, {stranger}")
            actual = status_of(server, route, request, sent, {"host": "vector-search"})
            is_stranger = not server.needs and not is_binding
            wanted = 403 if is_stranger else expected(route, sent, server)
            check(actual, wanted, f"{request.way}, {sent.name}, by a binding's name")


def test_no_route_of_the_table_is_left_out() -> None:
    """And each is asked for: by its path, or by all that leads to a binding."""
    assert set(map(id, (*API_ROUTES, *BINDING_ROUTES))) <= set(map(id, ROUTES))
    assert all(len(requests_to(each)) == (5 if each.addressed else 1) for each in ROUTES)
    assert {each.permission for each in ROUTES} == {None, Permission.READ, Permission.WRITE}


READING = """
/client/v4/accounts/{account_id}/ai/run/proxy
/client/v4/accounts/{account_id}/ai/run/{model_name}
/client/v4/accounts/{account_id}/ai/v1/chat/completions
/client/v4/accounts/{account_id}/ai/v1/completions
/client/v4/accounts/{account_id}/ai/v1/embeddings
/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}/get_by_ids
/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}/query
/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}/vectors/count
/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}/vectors/export
/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}/vectors/facets
/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}/vectors/list
/client/v4/accounts/{account_id}/vectorize/v2/indexes/{index_name}/vectors/map
/client/v4/accounts/{account_id}/workers/scripts/{script_name}/edge-preview
/client/v4/accounts/{account_id}/workers/services/{script_name}/environments/{environment}/edge-preview
/ai-gateway/run
/getByIds
/query
/run
"""
"""Paths whose other methods than GET change nothing; a new one is written down here, too."""

KEPT_FROM_READERS = """
/client/v4/vicinal/slow-queries
/client/v4/vicinal/snapshots
/client/v4/vicinal/snapshots/{snapshot_id}
/client/v4/vicinal/snapshots/{snapshot_id}/stream
/client/v4/vicinal/snapshots/stream
/client/v4/vicinal/tokens
"""

OPEN = "/docs /healthz /openapi.json /readyz /ui /ui/{file_name}"


def test_a_token_for_reading_reads_what_is_written_down_here_and_changes_nothing() -> None:
    """The tests above take the permissions of the table for granted."""
    by_permission = defaultdict(set)
    for route in ROUTES:
        by_permission[route.operation.method == "GET", route.permission].add(route.operation.path)

    assert by_permission[False, Permission.READ] == set(READING.split())
    assert by_permission[True, Permission.WRITE] == set(KEPT_FROM_READERS.split())
    assert by_permission[True, None] == set(OPEN.split())
    assert by_permission[False, None] == set()
