"""Tokens over the network: extensions of ours beside ``vicinal token``.

Tokens are of all accounts, so a token must be good for everything to list, create or revoke them.
The first one is made by the command line: from then on every caller needs one, and no program that
reaches an open server may decide that for all others.
"""

from functools import partial

from vicinal.errors import BadBody, InvalidInput, NotFound
from vicinal.server.api.paths import API
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable, json_body
from vicinal.server.http.response import Response
from vicinal.tokens import Permission, Token
from vicinal.wire import envelope
from vicinal.wire import tokens as wire

ROUTES = RouteTable()

TOKENS = f"{API}/vicinal/tokens"
TOKEN = f"{TOKENS}/{{token_id}}"

_add = partial(ROUTES.add, is_of_all=True)


@_add("GET", TOKENS, Permission.WRITE, response=list[wire.TokenSchema])
async def list_tokens(request: ApiRequest) -> Response:
    """List the tokens without their secrets, oldest first (an extension of Vicinal)."""
    services = request.services
    stored = await services.workers.run(services.tokens.list)
    return Response(wire.many([_shown(token) for token in stored]))


@_add(
    "POST",
    TOKENS,
    Permission.WRITE,
    json_body,
    request=wire.CreateTokenRequest,
    response=wire.CreatedTokenSchema,
    errors=(BadBody, InvalidInput),
)
async def create_token(request: ApiRequest) -> Response:
    """Create a token and show its secret, once (an extension of Vicinal)."""
    services = request.services
    if request.token is None:
        raise InvalidInput(
            "this server needs no token yet; make the first one with: vicinal token create NAME"
        )
    wanted = wire.create_request(request.body)
    token, secret = await services.workers.run(
        lambda: services.tokens.create(wanted.name, Permission(wanted.permission), wanted.account)
    )
    return Response(wire.created(_shown(token), secret), headers=((b"cache-control", b"no-store"),))


@_add("DELETE", TOKEN, Permission.WRITE, errors=(NotFound,))
async def revoke_token(request: ApiRequest) -> Response:
    """Revoke a token, at once and for good (an extension of Vicinal)."""
    services, token_id = request.services, request.parameters["token_id"]
    await services.workers.run(lambda: services.tokens.revoke(token_id))
    return Response(envelope.NULL)


def _shown(token: Token) -> wire.ShownToken:
    permission: wire.PermissionName = "write" if token.allows(Permission.WRITE) else "read"
    return wire.ShownToken(token.id, token.name, permission, token.account, token.created_at)
