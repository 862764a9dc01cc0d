"""``vicinal token`` makes tokens that a running server honours at once, and unmakes them."""

from pathlib import Path

import pytest

from tests.support.asgi import application
from tests.support.commands import Commands
from tests.support.server import in_thread

ANY = {"VICINAL_TOKEN": "any"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_token_is_honoured_while_the_server_runs_and_worthless_once_revoked(
    tmp_path: Path,
) -> None:
    with in_thread(application(tmp_path), token="any") as server:
        commands = Commands(server)
        data = ("--data", str(tmp_path))
        assert commands.ok("index", "list") == ""

        secret = commands.ok("token", "create", "laptop", *data).strip()

        assert "the token is not known" in commands.fails("index", "list")
        holder = Commands(server, {"VICINAL_TOKEN": secret})
        assert holder.ok("index", "list") == ""

        listing = commands.ok("token", "list", *data)
        assert secret not in listing
        token_id = listing.splitlines()[1].split()[0]
        commands.ok("token", "create", "other", *data)
        commands.ok("token", "revoke", token_id, *data)

        assert "the token is not known" in holder.fails("index", "list")


def test_a_token_can_be_for_reading_and_for_one_account_only(tmp_path: Path) -> None:
    with in_thread(application(tmp_path), token="any") as server:
        commands = Commands(server)
        data = ("--data", str(tmp_path))

        secret = commands.ok(
            "token", "create", "reader", "--read-only", "--account", server.account, *data
        )

        reader = Commands(server, {"VICINAL_TOKEN": secret.strip()})
        assert reader.ok("index", "list") == ""
        refused = reader.fails("index", "create", "docs", "--dimensions", "3", "--metric", "cosine")
        assert "allows read, not write" in refused
        other = Commands(server, {"VICINAL_TOKEN": secret.strip(), "VICINAL_ACCOUNT": "other"})
        assert "is not for account 'other'" in other.fails("index", "list")
        assert "reader  read" in commands.ok("token", "list", *data)


def test_the_data_folder_comes_from_the_settings_when_not_given(tmp_path: Path) -> None:
    with in_thread(application(tmp_path), token="any") as server:
        commands = Commands(server, {"VICINAL_DATA": "elsewhere"})

        commands.ok("token", "create", "a")

        assert Path("elsewhere/tokens.db").exists()
        assert "a     write       all" in commands.ok("token", "list", "--data", "elsewhere")


def test_only_the_secret_is_printed_so_that_it_can_be_piped(tmp_path: Path) -> None:
    with in_thread(application(tmp_path), token="any") as server:
        result = Commands(server).run("token", "create", "a")

    assert result.stdout.startswith("vcnl_")
    assert result.stdout.count("\n") == 1
    assert "not shown again" in result.stderr


def test_what_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    Path("file").touch()
    with in_thread(application(tmp_path), token="any") as server:
        commands = Commands(server)

        assert "1 to 100 characters" in commands.fails("token", "create", "")
        assert "account id" in commands.fails("token", "create", "a", "--account", "a b")
        assert "no token has the id 'x'" in commands.fails("token", "revoke", "x")
        assert "Error: file" in commands.fails("token", "list", "--data", "file")


def test_the_last_revocation_opens_nothing_and_disable_does_at_the_next_start(
    tmp_path: Path,
) -> None:
    data = ("--data", str(tmp_path))
    with in_thread(application(tmp_path), token="any") as server:
        commands = Commands(server)
        commands.ok("token", "create", "only", *data)
        token_id = commands.ok("token", "list", *data).splitlines()[1].split()[0]

        revoked = commands.run("token", "revoke", token_id, *data)

        assert "Requests still need a token" in revoked.stderr
        assert "vicinal token disable" in revoked.stderr
        assert "the token is not known" in commands.fails("index", "list")
        assert "until it is started again" in commands.run("token", "disable", *data).stderr
        assert "the token is not known" in commands.fails("index", "list")

    with in_thread(application(tmp_path), token="any") as server:
        assert Commands(server).ok("index", "list") == ""


def test_a_lost_database_is_named_and_can_be_made_again(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    with in_thread(application(tmp_path), token="any") as server:
        commands = Commands(server)
        commands.ok("token", "create", "old", *data)
        for path in tmp_path.glob("tokens.db*"):
            path.unlink()

        assert "there have been tokens" in commands.fails("index", "list")
        assert "there have been tokens" in commands.fails("token", "list", *data)
        secret = commands.ok("token", "create", "new", *data).strip()

        assert Commands(server, {"VICINAL_TOKEN": secret}).ok("index", "list") == ""
