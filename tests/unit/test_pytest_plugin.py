"""``pip install vicinal`` gives pytest the fixture ``vicinal_server``: a server, empty each time.

The tests of a user are run in a pytest of their own, which finds the plugin by itself.
"""

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

USERS_TESTS = """
import json
import os
import time
import urllib.error
import urllib.request

import pytest


def ask(server, method, path, body=None, token=None):
    request = urllib.request.Request(
        f"{server.base_url}/accounts/{server.account}/vectorize/v2/indexes{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"Bearer {token or server.token}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["result"]


DOCS = {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}}
SEEN = []


@pytest.mark.parametrize("number", range(3))
def test_each_begins_with_nothing(vicinal_server, number):
    SEEN.append(vicinal_server)
    assert ask(vicinal_server, "GET", "") == []
    ask(vicinal_server, "POST", "", DOCS)
    ask(vicinal_server, "POST", "/docs/upsert", {"vectors": [{"id": "a", "values": [1, 0]}]})
    assert [index["name"] for index in ask(vicinal_server, "GET", "")] == ["docs"]


def test_one_server_serves_all_of_them(vicinal_server):
    assert {server.url for server in SEEN} == {vicinal_server.url}
    assert len({server.account for server in SEEN}) == len(SEEN) == 3


def test_what_a_test_leaves_behind_is_deleted(vicinal_server):
    assert ask(SEEN[0], "GET", "") == []


def test_a_reset_empties_the_account(vicinal_server):
    ask(vicinal_server, "POST", "", DOCS)
    vicinal_server.reset()
    assert ask(vicinal_server, "GET", "") == []


def test_the_token_is_asked_for(vicinal_server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(vicinal_server, "GET", "", token="wrong")
    with refused.value as answer:
        assert answer.code == 401


def test_the_environment_leads_to_the_server(vicinal_server):
    environment = vicinal_server.environment
    assert environment["CLOUDFLARE_BASE_URL"] == vicinal_server.base_url
    assert environment["CLOUDFLARE_ACCOUNT_ID"] == vicinal_server.account
"""


@pytest.fixture
def users(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in list(os.environ):
        if name.startswith("VICINAL_"):
            monkeypatch.delenv(name)
    return pytester


def test_each_test_of_a_user_has_an_empty_server(users: pytest.Pytester) -> None:
    users.makepyfile(USERS_TESTS)

    ran = users.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")

    ran.assert_outcomes(passed=8)


def test_the_users_own_settings_do_not_lead_it_astray(
    users: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VICINAL_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("VICINAL_TOKEN", "mine")
    monkeypatch.setenv("VICINAL_PORT", "1")
    (users.path / "vicinal.toml").write_text('data = "mine"')
    users.makepyfile(USERS_TESTS)

    ran = users.runpytest_subprocess("-k", "begins or token", "-p", "no:cacheprovider")

    ran.assert_outcomes(passed=4, deselected=4)
    assert not (tmp_path / "mine").exists()
    assert not (users.path / "mine").exists()


def test_a_server_that_does_not_start_says_why(
    users: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICINAL_LIMITS", "none-such")
    users.makepyfile("def test_it(vicinal_server): pass")

    ran = users.runpytest_subprocess("-p", "no:cacheprovider")

    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*did not start*", "*none-such*"])
