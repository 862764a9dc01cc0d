"""The composition root: settings in, an application that answers and closes out."""

from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, call
from vicinal import app
from vicinal.app import create
from vicinal.errors import Corruption, InvalidInput, Unavailable
from vicinal.settings import TOKENS_FILE, Settings
from vicinal.tokens import Permission, Tokens

INDEX = {"name": "docs", "config": {"dimensions": 3, "metric": "cosine"}}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_what_an_application_stores_is_there_for_the_next_one(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "deep" / "data")
    first = create(settings)
    call(first.asgi, "POST", INDEXES, INDEX)
    first.close()

    second = create(settings)
    try:
        assert [index["name"] for index in call(second.asgi, "GET", INDEXES).result] == ["docs"]
    finally:
        second.close()


def test_settings_reach_the_engine_and_the_server(tmp_path: Path) -> None:
    wide = {"name": "docs", "config": {"dimensions": 4_096, "metric": "cosine"}}
    application = create(Settings(data=tmp_path, limits="open"))
    try:
        assert call(application.asgi, "POST", INDEXES, wide).status == 200
    finally:
        application.close()


@pytest.mark.parametrize(
    ("settings", "anonymous", "stranger"),
    [
        ({}, 200, 200),
        ({"token": ("secret",)}, 401, 401),
        ({"require_token": True}, 401, 401),
        ({"host": "0.0.0.0", "token": ("secret",)}, 401, 401),
    ],
)
def test_who_is_let_in_follows_from_the_settings_and_the_application_itself_always_is(
    tmp_path: Path, settings: dict[str, object], anonymous: int, stranger: int
) -> None:
    application = create(Settings(data=tmp_path, **settings))  # type: ignore[arg-type]  # a table
    try:
        assert call(application.asgi, "GET", INDEXES).status == anonymous
        headers = bearer("stranger")
        assert call(application.asgi, "GET", INDEXES, headers=headers).status == stranger
        headers = bearer(application.own_token)
        assert call(application.asgi, "GET", INDEXES, headers=headers).status == 200
        assert application.needs_token is (anonymous == 401)
    finally:
        application.close()


def test_a_failed_start_leaves_nothing_locked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no token exists"):
        create(Settings(data=tmp_path, host="0.0.0.0"))
    open_one = create(Settings(data=tmp_path))
    with pytest.raises(Unavailable, match="in use"):
        create(Settings(data=tmp_path))
    open_one.close()

    create(Settings(data=tmp_path)).close()


def test_a_server_whose_tokens_are_lost_does_not_start(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / TOKENS_FILE)
    tokens.create("ci", Permission.WRITE)
    tokens.close()
    (tmp_path / TOKENS_FILE).unlink()

    with pytest.raises(Corruption, match="vicinal token create"):
        create(Settings(data=tmp_path))


def test_a_server_whose_last_token_is_revoked_starts_and_lets_nobody_in(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / TOKENS_FILE)
    tokens.revoke(tokens.create("ci", Permission.WRITE)[0].id)
    tokens.close()

    application = create(Settings(data=tmp_path))
    try:
        assert application.needs_token
        assert call(application.asgi, "GET", INDEXES).status == 401
    finally:
        application.close()
    with pytest.raises(InvalidInput, match="no token exists"):
        create(Settings(data=tmp_path, host="0.0.0.0"))


def test_the_address_and_the_settings_say_which_names_and_pages_are_known(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, allowed_hosts=("box",), allowed_origins=("http://a",))
    application = create(settings)
    try:
        for headers, status in (
            ({"host": "box:1"}, 200),
            ({"host": "127.0.0.1:1"}, 200),
            ({"host": "other"}, 403),
            ({"host": "box", "origin": "http://a"}, 200),
            ({"host": "box", "origin": "http://b"}, 403),
        ):
            assert call(application.asgi, "GET", INDEXES, headers=headers).status == status
    finally:
        application.close()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("localhost", "http://localhost:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("::1", "http://[::1]:1"),
    ],
)
def test_the_origin_is_one_that_this_machine_can_reach(host: str, origin: str) -> None:
    assert app.origin(host, 1) == origin
