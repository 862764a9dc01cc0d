"""Who is let in: everyone while there are no tokens, then only those with the right one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vicinal.errors import Forbidden, Unauthenticated
from vicinal.server.api.auth import authorize, secret_in
from vicinal.server.api.services import ServerConfig
from vicinal.server.http.asgi import Headers
from vicinal.tokens import Permission, Tokens

OPEN = ServerConfig()
CLOSED = ServerConfig(require_token=True)


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[Tokens]:
    tokens = Tokens(tmp_path / "tokens.db")
    yield tokens
    tokens.close()


def bearer(secret: str) -> Headers:
    return {b"authorization": f"Bearer {secret}".encode()}


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer s3cret"},
        {b"authorization": b"bearer   s3cret "},
        {b"x-auth-email": b"me@example.com", b"x-auth-key": b"s3cret"},
        {b"authorization": b"Bearer s3cret", b"x-auth-key": b"other"},
    ],
)
def test_a_token_travels_as_bearer_or_as_key_beside_an_address(headers: Headers) -> None:
    assert secret_in(headers) == "s3cret"


def test_a_request_without_any_of_the_headers_carries_no_token() -> None:
    assert secret_in({b"content-type": b"application/json"}) is None


@pytest.mark.parametrize(
    ("headers", "missing"),
    [
        ({b"authorization": b"Bearer"}, "no bearer token"),
        ({b"authorization": b"Bearer  "}, "no bearer token"),
        ({b"authorization": b""}, "no bearer token"),
        ({b"authorization": b"Basic dXNlcjpwYXNz"}, "no bearer token"),
        ({b"x-auth-key": b"s3cret"}, "X-Auth-Email header is missing"),
        ({b"x-auth-email": b"me@example.com"}, "X-Auth-Key header is missing"),
        ({b"x-auth-email": b"me@example.com", b"x-auth-key": b""}, "X-Auth-Key header is missing"),
    ],
)
def test_a_header_without_a_token_is_refused_even_where_none_is_needed(
    tokens: Tokens, headers: Headers, missing: str
) -> None:
    with pytest.raises(Unauthenticated, match=missing):
        authorize(headers, "acme", Permission.READ, tokens, OPEN)


def test_as_long_as_there_are_no_tokens_everyone_is_let_in(tokens: Tokens) -> None:
    assert authorize({}, "acme", Permission.WRITE, tokens, OPEN) is None
    assert authorize(bearer("anything"), "acme", Permission.WRITE, tokens, OPEN) is None


def test_the_first_token_closes_the_door_to_all_others(tokens: Tokens) -> None:
    token, secret = tokens.create("ci", Permission.WRITE)

    assert authorize(bearer(secret), "acme", Permission.WRITE, tokens, OPEN) == token
    with pytest.raises(Unauthenticated, match="no token was sent"):
        authorize({}, "acme", Permission.READ, tokens, OPEN)
    with pytest.raises(Unauthenticated, match="not known"):
        authorize(bearer("anything"), "acme", Permission.READ, tokens, OPEN)


def test_a_server_that_requires_a_token_lets_nobody_in_without_one(tokens: Tokens) -> None:
    with pytest.raises(Unauthenticated, match="no token was sent"):
        authorize({}, "acme", Permission.READ, tokens, CLOSED)
    with pytest.raises(Unauthenticated, match="not known"):
        authorize(bearer("anything"), "acme", Permission.READ, tokens, CLOSED)


def test_a_token_that_may_only_read_cannot_write(tokens: Tokens) -> None:
    _, secret = tokens.create("reader", Permission.READ)

    assert authorize(bearer(secret), "acme", Permission.READ, tokens, OPEN)
    with pytest.raises(Forbidden, match="'reader' allows read, not write"):
        authorize(bearer(secret), "acme", Permission.WRITE, tokens, OPEN)


def test_a_token_for_one_account_opens_no_other(tokens: Tokens) -> None:
    _, secret = tokens.create("home", Permission.WRITE, "acme")

    assert authorize(bearer(secret), "acme", Permission.WRITE, tokens, OPEN)
    assert authorize(bearer(secret), "", Permission.READ, tokens, OPEN)
    with pytest.raises(Forbidden, match="not for account 'other'"):
        authorize(bearer(secret), "other", Permission.READ, tokens, OPEN)


def test_no_refusal_repeats_the_secret(tokens: Tokens) -> None:
    tokens.create("ci", Permission.WRITE)

    with pytest.raises(Unauthenticated) as caught:
        authorize(bearer("s3cret-that-is-not-known"), "acme", Permission.READ, tokens, OPEN)

    assert "s3cret" not in str(caught.value)
