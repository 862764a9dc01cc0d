"""Tokens over the network: made and revoked by those who may do everything, and by nobody else."""

from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, Received, application, call
from vicinal.server.app import App
from vicinal.tokens import Permission

TOKENS = "/client/v4/vicinal/tokens"
OWNER = "a-token-of-the-settings"


@pytest.fixture
def owned(tmp_path: Path) -> App:
    return application(tmp_path, tokens=(OWNER,))


def ask(app: App, method: str, path: str, body: object = b"", *, secret: str = OWNER) -> Received:
    return call(app, method, path, body, headers={"authorization": f"Bearer {secret}"})


def test_a_token_is_created_used_listed_and_revoked(owned: App) -> None:
    answer = ask(owned, "POST", TOKENS, {"name": "ci", "account": "acme"})
    made = answer.result

    assert answer.headers["cache-control"] == "no-store"
    assert (made["name"], made["permission"], made["account"]) == ("ci", "read", "acme")
    assert ask(owned, "GET", INDEXES, secret=made["secret"]).status == 200
    (listed,) = ask(owned, "GET", TOKENS).result
    assert listed == {name: value for name, value in made.items() if name != "secret"}
    assert made["secret"].encode() not in ask(owned, "GET", TOKENS).body

    assert ask(owned, "DELETE", f"{TOKENS}/{made['id']}").result is None
    assert ask(owned, "GET", TOKENS).result == []
    assert ask(owned, "GET", INDEXES, secret=made["secret"]).status in (401, 403)
    assert ask(owned, "DELETE", f"{TOKENS}/{made['id']}").status == 404


def test_what_was_made_may_do_what_it_says_and_no_more(owned: App) -> None:
    writer = ask(owned, "POST", TOKENS, {"name": "w", "permission": "write"}).result["secret"]
    reader = ask(owned, "POST", TOKENS, {"name": "r"}).result["secret"]
    narrow = ask(
        owned, "POST", TOKENS, {"name": "n", "permission": "write", "account": "acme"}
    ).result["secret"]

    assert ask(owned, "GET", TOKENS, secret=writer).status == 200
    for secret in (reader, narrow):
        assert ask(owned, "GET", TOKENS, secret=secret).status == 403
        assert ask(owned, "POST", TOKENS, {"name": "x"}, secret=secret).status == 403
        assert ask(owned, "DELETE", f"{TOKENS}/x", secret=secret).status == 403


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "name"),
        ({"name": ""}, "1 to 100"),
        ({"name": "x" * 101}, "1 to 100"),
        ({"name": "x", "permission": "admin"}, "read, write"),
        ({"name": "x", "account": "a b"}, "account"),
        ({"name": 3}, "name"),
        (b"{", ""),
    ],
)
def test_what_can_be_no_token_is_refused(owned: App, body: object, text: str) -> None:
    status, _, message = ask(owned, "POST", TOKENS, body).error

    assert status == 400
    assert text in message
    assert ask(owned, "GET", TOKENS).result == []


def test_an_open_server_makes_no_token_for_a_caller_without_one(app: App) -> None:
    status, _, message = call(app, "POST", TOKENS, {"name": "x"}).error

    assert status == 400
    assert "vicinal token create" in message
    assert call(app, "GET", INDEXES).status == 200
    assert not app.services.tokens.has_tokens()


def test_tokens_of_the_settings_are_not_listed(owned: App) -> None:
    owned.services.tokens.create("stored", Permission.READ)

    assert [token["name"] for token in ask(owned, "GET", TOKENS).result] == ["stored"]
