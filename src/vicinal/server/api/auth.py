"""Authentication and authorization: the caller's token, and whether it allows the operation.

A token travels as ``Authorization: Bearer TOKEN`` or as ``X-Auth-Key`` with ``X-Auth-Email``, whose
value is not read. While no token has been made and none is required, requests without one are let
in, and so is any token; a header that holds no token is refused all the same, as its sender meant
something else.
"""

from vicinal.errors import Forbidden, Unauthenticated
from vicinal.server.api.services import ServerConfig
from vicinal.server.http.asgi import Headers
from vicinal.tokens import Permission, Token, TokenStore

HEADERS = (b"authorization", b"x-auth-key", b"x-auth-email")
"""The headers that a token travels in."""

_WAYS_IN = "send 'Authorization: Bearer TOKEN', or 'X-Auth-Email' and 'X-Auth-Key'"


def secret_in(headers: Headers) -> str | None:
    """Return the token that a request carries, or None when it has no such header.

    Raises:
        Unauthenticated: there is a header, but no token in it.
    """
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, secret = authorization.strip().partition(b" ")
        if scheme.lower() != b"bearer" or not secret.strip():
            raise Unauthenticated(f"the Authorization header holds no bearer token; {_WAYS_IN}")
        return secret.strip().decode("latin-1")
    key, email = headers.get(b"x-auth-key"), headers.get(b"x-auth-email")
    if key is None and email is None:
        return None
    if not key or not email:
        missing = "X-Auth-Email" if key else "X-Auth-Key"
        raise Unauthenticated(f"the {missing} header is missing; {_WAYS_IN}")
    return key.decode("latin-1")


def needs_token(tokens: TokenStore, config: ServerConfig) -> bool:
    """Tell whether requests need a token."""
    return config.require_token or tokens.are_needed()


def authorize(
    headers: Headers,
    account: str,
    permission: Permission,
    tokens: TokenStore,
    config: ServerConfig,
    unknown: type[Unauthenticated] = Unauthenticated,
    *,
    is_of_all: bool = False,
) -> Token | None:
    """Return the token of a request that is let in, None when none is needed.

    `account` is ``""`` for a path without one; `unknown` is the error of a token that is not known;
    `is_of_all` is that of the route.

    Raises:
        Unauthenticated: a token is needed, and there is none or it is not known.
        Forbidden: the token lacks the permission, or is for another account.
    """
    secret = secret_in(headers)
    token, is_needed = tokens.authenticate(secret)
    if token is None:
        if not config.require_token and not is_needed:
            return None
        if secret is None:
            raise Unauthenticated(f"no token was sent; {_WAYS_IN}")
        raise unknown(f"the token is not known; {_WAYS_IN}")
    if account and not token.reaches(account):
        raise Forbidden(f"token {token.name!r} is not for account {account!r}")
    if is_of_all and token.account is not None:
        raise Forbidden(
            f"token {token.name!r} is for account {token.account!r}, this is about all accounts"
        )
    if not token.allows(permission):
        raise Forbidden(f"token {token.name!r} allows {token.permission}, not {permission}")
    return token
