"""The composition root: settings in, an application that answers and closes out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, call
from vicinal import app
from vicinal.app import create
from vicinal.errors import Corruption, InvalidInput, Unavailable
from vicinal.settings import TOKENS_FILE, Settings
from vicinal.tokens import Permission, Tokens

INDEX = {"name": "docs", "config": {"dimensions": 3, "metric": "cosine"}}


SERVE_AND_COUNT = """
import collections, json, os, signal, sys
from pathlib import Path
from vicinal import app
from vicinal.settings import Settings

opened, connected, ready = collections.Counter(), [], []

def count(event, values):
    if event == "sqlite3.connect" or (event == "open" and isinstance(values[0], str)):
        path = os.path.realpath(values[0])
        if path.startswith(data):
            opened[event, os.path.relpath(path, data)] += 1
    elif event == "socket.connect":
        connected.append(repr(values[1]))

def on_ready(origin, application):
    ready.append(origin)
    os.kill(os.getpid(), signal.SIGINT)

data = os.path.realpath(sys.argv[1])
settings = Settings(data=Path(data), port=0, log_level="error", require_token=True)
sys.addaudithook(count)
app.serve(settings, on_ready)
print(json.dumps({
    "ready": ready,
    "connected": connected,
    "opened": [[event, path, times] for (event, path), times in opened.items()],
}))
"""


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


def test_a_start_opens_each_thing_once_and_asks_itself_nothing(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / TOKENS_FILE)
    tokens.create("ci", Permission.WRITE)
    tokens.close()
    create(Settings(data=tmp_path)).close()
    environment = {name: value for name, value in os.environ.items() if "VICINAL" not in name}

    served = subprocess.run(
        [sys.executable, "-c", SERVE_AND_COUNT, str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    counts = json.loads(served.stdout)

    assert len(counts["ready"]) == 1
    assert counts["connected"] == []
    databases = [path for event, path, _ in counts["opened"] if event == "sqlite3.connect"]
    assert sorted(databases) == ["catalog.db", TOKENS_FILE]
    assert [row for row in counts["opened"] if row[2] > 1] == []
