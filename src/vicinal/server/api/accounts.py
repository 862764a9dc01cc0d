"""Accounts and the caller, which tools ask for before they begin.

One account is listed: the token's own, or the configured one for a token that is good for all.
Every other well-formed account id works too.
"""

import re
from collections.abc import Sequence
from typing import TypeVar

from vicinal.errors import BadParameter, InvalidToken, UnknownUser
from vicinal.server.api import auth
from vicinal.server.api.paths import API
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import accounts
from vicinal.wire.openapi import Parameter

ROUTES = RouteTable()

T = TypeVar("T")

_NUMBER = re.compile(r"[0-9]{1,10}")

PER_PAGE = 50

PAGING = (
    Parameter("page", int, "Which page, from 1."),
    Parameter("per_page", int, f"How many a page has, {PER_PAGE} if not said."),
)


def page_of(request: ApiRequest, items: Sequence[T]) -> Sequence[T]:
    """Return the page of `items` that a request names; pages after the last are empty.

    The SDKs go on asking for the next page until one is empty.

    Raises:
        BadParameter: ``page`` or ``per_page`` is not an integer in its range.
    """
    page = _integer(request, "page", 1, 1_000_000)
    per_page = _integer(request, "per_page", PER_PAGE, 1_000)
    return items[(page - 1) * per_page : page * per_page]


def _integer(request: ApiRequest, name: str, default: int, most: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if _NUMBER.fullmatch(text) is None or not 1 <= int(text) <= most:
        raise BadParameter(f"{name} is {text[:40]!r}, not an integer from 1 to {most}")
    return int(text)


@ROUTES.add(
    "GET",
    f"{API}/accounts",
    Permission.READ,
    response=list[accounts.AccountSchema],
    errors=(BadParameter,),
    parameters=PAGING,
)
async def list_accounts(request: ApiRequest) -> Response:
    """List the accounts a token is for."""
    return Response(accounts.accounts(page_of(request, _accounts(request))))


@ROUTES.add(
    "GET",
    f"{API}/memberships",
    Permission.READ,
    response=list[accounts.MembershipSchema],
    errors=(BadParameter,),
    parameters=PAGING,
)
async def list_memberships(request: ApiRequest) -> Response:
    """List the caller's membership in each of them."""
    return Response(accounts.memberships(page_of(request, _accounts(request))))


@ROUTES.add(
    "GET",
    f"{API}/user",
    Permission.READ,
    response=accounts.UserSchema,
    errors=(UnknownUser,),
    unknown_token=UnknownUser,
)
async def user(request: ApiRequest) -> Response:
    """Tell who is calling."""
    return Response(accounts.user(request.services.config.account))


@ROUTES.add(
    "GET",
    f"{API}/user/tokens/verify",
    Permission.READ,
    response=accounts.VerificationSchema,
    errors=(InvalidToken,),
    unknown_token=InvalidToken,
)
async def verify_token(request: ApiRequest) -> Response:
    """Tell whether a token is good."""
    token_id = request.token.id if request.token is not None else "any"
    return Response(accounts.verification(token_id))


@ROUTES.add(
    "GET",
    f"{API}/user/permission",
    Permission.READ,
    response=accounts.CallerSchema,
    is_watching=True,
)
async def caller(request: ApiRequest) -> Response:
    """Tell what the caller may do, and in which account (an extension)."""
    token, config = request.token, request.services.config
    return Response(
        accounts.caller(
            "write" if token is None or token.allows(Permission.WRITE) else "read",
            None if token is None else token.account,
            config.account,
            config.version,
            is_token_needed=auth.needs_token(request.services.tokens, config),
        )
    )


def _accounts(request: ApiRequest) -> Sequence[str]:
    own = request.token.account if request.token is not None else None
    return (own or request.services.config.account,)
