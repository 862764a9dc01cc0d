"""The JSON of tokens: an extension of ours. A secret is in the answer to its creation alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from vicinal.wire.requests import Body, decode
from vicinal.wire.responses import timestamp

_encode = msgspec.json.Encoder().encode

PermissionName = Literal["read", "write"]


class CreateTokenRequest(msgspec.Struct):
    """A token to create: what it is for, what it permits, and the account that it is good for, null
    for all."""

    name: str
    permission: PermissionName = "read"
    account: str | None = None


class TokenSchema(msgspec.Struct, frozen=True, rename="camel"):
    """A stored token; `account` is null for all accounts."""

    id: str
    name: str
    permission: PermissionName
    account: str | None
    created_on: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class CreatedTokenSchema(TokenSchema, frozen=True, rename="camel"):
    """A token that was created, with its secret, which is not shown again."""

    secret: str


@dataclass(frozen=True, slots=True)
class ShownToken:
    """The parts of a token that are shown."""

    id: str
    name: str
    permission: PermissionName
    account: str | None
    created_at: datetime


def create_request(body: Body) -> CreateTokenRequest:
    """Read which token is to be created.

    Raises:
        BadBody: the body is not JSON of this shape.
    """
    return decode(body, CreateTokenRequest)


def many(tokens: Sequence[ShownToken]) -> bytes:
    """Write tokens."""
    return _encode([TokenSchema(*_members(token)) for token in tokens])


def created(token: ShownToken, secret: str) -> bytes:
    """Write a token that was created, with its secret."""
    return _encode(CreatedTokenSchema(*_members(token), secret))


def _members(token: ShownToken) -> tuple[str, str, PermissionName, str | None, str]:
    created_on = timestamp(token.created_at)
    return token.id, token.name, token.permission, token.account, created_on
