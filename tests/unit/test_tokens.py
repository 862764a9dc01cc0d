"""Tokens are known by their secret alone, are never stored, and can be taken back."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from vicinal import tokens as module
from vicinal.errors import Corruption, InvalidInput, NotFound, Unavailable
from vicinal.tokens import NAME_CHARS_MAX, PREFIX, REQUIRED_FILE, Permission, Tokens


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[Tokens]:
    tokens = Tokens(tmp_path / "tokens.db")
    yield tokens
    tokens.close()


def test_a_token_is_known_by_its_secret(tokens: Tokens) -> None:
    token, secret = tokens.create("ci", Permission.READ, "acme")

    assert tokens.authenticate(secret)[0] == token
    assert (token.name, token.permission, token.account) == ("ci", Permission.READ, "acme")


@pytest.mark.parametrize("change", [str.upper, lambda s: s + "x", lambda s: s[:-1], lambda _: ""])
def test_anything_but_the_secret_is_unknown(tokens: Tokens, change: Callable[[str], str]) -> None:
    _, secret = tokens.create("ci", Permission.WRITE)

    assert tokens.authenticate(change(secret))[0] is None


def test_secrets_are_long_recognisable_and_never_the_same(tokens: Tokens) -> None:
    made = {tokens.create("ci", Permission.READ)[1] for _ in range(20)}

    assert len(made) == 20
    assert all(secret.startswith(PREFIX) and len(secret) >= 43 for secret in made)


def test_the_secret_is_in_no_file(tokens: Tokens, tmp_path: Path) -> None:
    _, secret = tokens.create("ci", Permission.WRITE)

    files = list(tmp_path.iterdir())
    assert files
    assert all(secret.removeprefix(PREFIX).encode() not in path.read_bytes() for path in files)


def test_only_the_owner_may_read_the_file(tokens: Tokens, tmp_path: Path) -> None:
    assert (tmp_path / "tokens.db").stat().st_mode & 0o077 == 0


def test_what_is_no_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """As a link to a device is: root would change the mode of the machine's own."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    (tmp_path / "tokens.db").symlink_to(pipe)

    with pytest.raises(Corruption, match=r"tokens\.db is no file"):
        Tokens(tmp_path / "tokens.db")

    assert pipe.stat().st_mode & 0o777 == 0o666


def test_write_includes_read_and_read_does_not_include_write(tokens: Tokens) -> None:
    reader, _ = tokens.create("r", Permission.READ)
    writer, _ = tokens.create("w", Permission.WRITE)

    assert reader.allows(Permission.READ)
    assert not reader.allows(Permission.WRITE)
    assert writer.allows(Permission.READ)
    assert writer.allows(Permission.WRITE)


def test_a_token_without_an_account_reaches_all_and_one_with_only_its_own(tokens: Tokens) -> None:
    everywhere, _ = tokens.create("all", Permission.READ)
    at_home, _ = tokens.create("one", Permission.READ, "acme")

    assert everywhere.reaches("acme")
    assert everywhere.reaches("other")
    assert at_home.reaches("acme")
    assert not at_home.reaches("other")


def test_a_revoked_token_is_unknown_and_gone_from_the_list(tokens: Tokens) -> None:
    token, secret = tokens.create("ci", Permission.READ)
    kept, _ = tokens.create("kept", Permission.READ)

    tokens.revoke(token.id)

    assert tokens.authenticate(secret)[0] is None
    assert tokens.list() == [kept]
    with pytest.raises(NotFound, match=token.id):
        tokens.revoke(token.id)


def test_tokens_are_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    before = Tokens(tmp_path / "tokens.db")
    token, secret = before.create("ci", Permission.READ, "acme")
    before.close()

    after = Tokens(tmp_path / "tokens.db")

    assert after.authenticate(secret)[0] == token
    assert after.list() == [token]
    after.close()


def test_what_another_process_creates_and_revokes_is_seen_at_once(
    tokens: Tokens, tmp_path: Path
) -> None:
    assert tokens.list() == []
    program = (
        "import sys; from pathlib import Path; from vicinal.tokens import *;"
        "tokens = Tokens(Path(sys.argv[1]));"
        "print(tokens.create('there', Permission.WRITE)[1])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tokens.db")],
        check=True,
        capture_output=True,
        text=True,
    )

    token = tokens.authenticate(ran.stdout.strip())[0]
    assert token is not None
    assert token.name == "there"

    elsewhere = Tokens(tmp_path / "tokens.db")
    elsewhere.revoke(token.id)
    elsewhere.close()
    assert tokens.authenticate(ran.stdout.strip())[0] is None


def test_no_process_knows_a_token_any_more_when_another_has_revoked_it(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNCHANGED_S", 0.3)  # longer than anything else here takes
    with closing(Tokens(tmp_path / "tokens.db")) as elsewhere:
        token, secret = elsewhere.create("ci", Permission.READ)
        assert tokens.authenticate(secret)[0] == token

        elsewhere.revoke(token.id)

        assert tokens.authenticate(secret) == (None, True)

        other, secret = elsewhere.create("ci", Permission.READ)
        assert tokens.authenticate(secret)[0] == other

        elsewhere.disable()

        assert tokens.authenticate(secret) == (None, True)


def test_the_database_is_not_asked_at_every_request(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, secret = tokens.create("ci", Permission.READ)
    monkeypatch.setattr(module, "UNCHANGED_S", 60.0)
    assert tokens.authenticate(secret)[0] == token
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as connection, connection:
        connection.execute("DELETE FROM token")

    assert tokens.authenticate(secret)[0] == token
    assert tokens.list() == [], "who asks for the tokens gets those of now"

    monkeypatch.setattr(module, "UNCHANGED_S", 0.0)
    assert tokens.authenticate(secret)[0] is None


def test_another_file_in_the_place_of_the_database_is_read_at_once(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "restored").mkdir()
    with closing(Tokens(tmp_path / "restored" / "tokens.db")) as restored:
        token, secret = restored.create("ci", Permission.READ)
    monkeypatch.setattr(module, "UNCHANGED_S", 60.0)
    assert tokens.authenticate(secret) == (None, False)

    (tmp_path / "restored" / "tokens.db").replace(tmp_path / "tokens.db")

    assert tokens.authenticate(secret) == (token, True)
    with closing(Tokens(tmp_path / "tokens.db")) as later:
        assert later.list() == [token], "the log of the database that is gone was written over it"


def test_a_database_that_was_away_for_a_while_has_all_its_tokens(
    tokens: Tokens, tmp_path: Path
) -> None:
    token, secret = tokens.create("ci", Permission.READ)
    assert tokens.authenticate(secret)[0] == token

    (tmp_path / "tokens.db").rename(tmp_path / "away")
    with pytest.raises(Corruption, match="is missing"):
        tokens.authenticate(secret)
    (tmp_path / "away").rename(tmp_path / "tokens.db")

    assert tokens.authenticate(secret) == (token, True)


def test_a_copy_of_the_file_alone_has_all_tokens(tokens: Tokens, tmp_path: Path) -> None:
    token, secret = tokens.create("ci", Permission.READ)
    gone, _ = tokens.create("gone", Permission.READ)
    tokens.revoke(gone.id)
    (tmp_path / "copied").mkdir()

    shutil.copy(tmp_path / "tokens.db", tmp_path / "copied")

    with closing(Tokens(tmp_path / "copied" / "tokens.db")) as copied:
        assert copied.authenticate(secret) == (token, True)
        assert copied.list() == [token]


def test_a_database_that_comes_with_its_log_keeps_what_is_in_it(
    tokens: Tokens, tmp_path: Path
) -> None:
    (tmp_path / "copied").mkdir()
    with closing(Tokens(tmp_path / "copied" / "tokens.db")) as copied:
        _, secret = copied.create("ci", Permission.READ)
        with closing(sqlite3.connect(tmp_path / "copied" / "tokens.db")) as log, log:
            log.execute("UPDATE token SET name = 'renamed'")
        for name in ("tokens.db-wal", "tokens.db"):
            shutil.copy(tmp_path / "copied" / name, tmp_path / "copy")
            (tmp_path / "copy").replace(tmp_path / name)

    token, is_needed = tokens.authenticate(secret)
    assert token is not None
    assert token.name == "renamed"
    assert is_needed


def test_a_token_of_the_settings_allows_everything_and_is_not_stored(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.db", fixed=["chosen"])

    token = tokens.authenticate("chosen")[0]

    assert token is not None
    assert token.allows(Permission.WRITE)
    assert token.reaches("anywhere")
    assert tokens.list() == []
    assert tokens.has_tokens()
    tokens.close()
    assert b"chosen" not in (tmp_path / "tokens.db").read_bytes()


def test_there_is_a_token_once_one_was_created(tokens: Tokens) -> None:
    assert not tokens.has_tokens()

    token, _ = tokens.create("ci", Permission.READ)
    assert tokens.has_tokens()

    tokens.revoke(token.id)
    assert not tokens.has_tokens()


@pytest.mark.parametrize("name", ["", "x" * (NAME_CHARS_MAX + 1)])
def test_a_name_that_is_empty_or_too_long_is_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{NAME_CHARS_MAX} characters, not {len(name)}"):
        tokens.create(name, Permission.READ)

    assert tokens.list() == []


@pytest.mark.parametrize("account", ["", "a/b", "x" * 33, "ä", "a b", "a\n"])
def test_a_malformed_account_is_refused(tokens: Tokens, account: str) -> None:
    with pytest.raises(InvalidInput, match="account id"):
        tokens.create("ci", Permission.READ, account)


def test_a_file_that_is_no_token_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokens.db").write_bytes(b"something else" * 1000)

    with pytest.raises(Corruption, match=r"tokens\.db"):
        Tokens(tmp_path / "tokens.db")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"absent.tokens\.db"):
        Tokens(tmp_path / "absent" / "tokens.db")


def test_once_there_has_been_a_token_one_is_needed_until_that_is_taken_back(
    tokens: Tokens, tmp_path: Path
) -> None:
    assert not tokens.are_needed()
    assert not (tmp_path / REQUIRED_FILE).exists()

    token, _ = tokens.create("ci", Permission.READ)
    tokens.revoke(token.id)

    assert tokens.are_needed()
    with closing(Tokens(tmp_path / "tokens.db")) as later:
        assert later.are_needed()
        assert not later.has_tokens()

    with closing(Tokens(tmp_path / "tokens.db")) as later:
        later.disable()
    assert tokens.are_needed(), "what has been seen once is not forgotten while it runs"
    with closing(Tokens(tmp_path / "tokens.db")) as later:
        assert not later.are_needed()


def test_a_token_of_the_settings_is_needed_while_it_is_given(tmp_path: Path) -> None:
    with closing(Tokens(tmp_path / "tokens.db", fixed=["chosen"])) as tokens:
        assert tokens.are_needed()
    with closing(Tokens(tmp_path / "tokens.db")) as tokens:
        assert not tokens.are_needed()


def test_a_token_that_is_made_and_revoked_between_two_looks_is_noticed(
    tokens: Tokens, tmp_path: Path
) -> None:
    assert not tokens.are_needed()
    with closing(Tokens(tmp_path / "tokens.db")) as elsewhere:
        elsewhere.revoke(elsewhere.create("short", Permission.READ)[0].id)

    assert tokens.are_needed()


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for each in path.parent.glob("tokens.db*"):
        each.unlink()


def empty(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate()


def empty_all(path: Path) -> None:
    for each in path.parent.glob("tokens.db*"):
        if not each.name.endswith("-shm"):  # which is mapped by those who have it open
            empty(each)


def replace_by_nothing(path: Path) -> None:
    (path.parent / "new").touch()
    (path.parent / "new").rename(path)


def replace_by_another(path: Path) -> None:
    with closing(sqlite3.connect(path.parent / "new")) as connection:
        connection.execute("CREATE TABLE other (x)")
    (path.parent / "new").rename(path)


def forget_rows(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM token")


LOSSES = [delete, delete_all, empty, empty_all, replace_by_nothing, replace_by_another, forget_rows]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_database_lets_nobody_in_at_the_next_start(
    tmp_path: Path, loss: Callable[[Path], None]
) -> None:
    with closing(Tokens(tmp_path / "tokens.db")) as before:
        _, secret = before.create("ci", Permission.WRITE)

    loss(tmp_path / "tokens.db")

    try:
        with closing(Tokens(tmp_path / "tokens.db")) as after:
            assert after.authenticate(None) == (None, True)
            assert after.authenticate(secret) == (None, True)
    except Corruption as error:
        assert "vicinal token create" in str(error)  # noqa: PT017 # either will do
    with closing(Tokens(tmp_path / "tokens.db", renews=True)) as renewed:
        _, secret = renewed.create("new", Permission.WRITE)
        assert renewed.authenticate(None) == (None, True)
    with closing(Tokens(tmp_path / "tokens.db")) as after:
        assert after.authenticate(secret)[0] is not None


@pytest.mark.parametrize("loss", LOSSES)
def test_a_database_that_is_lost_while_it_is_open_lets_nobody_in_either(
    tmp_path: Path, loss: Callable[[Path], None]
) -> None:
    with closing(Tokens(tmp_path / "tokens.db", fixed=["chosen"])) as tokens:
        tokens.create("ci", Permission.WRITE)
        assert tokens.are_needed()

        loss(tmp_path / "tokens.db")

        for _ in range(3):
            try:
                assert tokens.authenticate(None) == (None, True)
            except (Corruption, Unavailable) as error:
                assert "tokens.db" in str(error)  # noqa: PT017 # either will do
        assert tokens.authenticate("chosen")[0] is not None


def test_tokens_that_are_made_anew_are_honoured_by_who_has_lost_the_old(
    tokens: Tokens, tmp_path: Path
) -> None:
    _, old = tokens.create("old", Permission.WRITE)
    delete_all(tmp_path / "tokens.db")
    with pytest.raises(Corruption, match="missing or empty"):
        tokens.authenticate(old)[0]
    with pytest.raises(Corruption, match="missing or empty"):
        tokens.authenticate(old)[0]

    with closing(Tokens(tmp_path / "tokens.db", renews=True)) as elsewhere:
        _, new = elsewhere.create("new", Permission.WRITE)

    assert tokens.authenticate(new)[0] is not None
    assert tokens.authenticate(old)[0] is None


def test_a_database_that_vanishes_where_there_was_no_token_is_made_again(
    tokens: Tokens, tmp_path: Path
) -> None:
    delete_all(tmp_path / "tokens.db")

    assert tokens.authenticate("any") == (None, False)
    with closing(Tokens(tmp_path / "tokens.db")) as elsewhere:
        _, secret = elsewhere.create("new", Permission.WRITE)
    assert tokens.authenticate(secret)[0] is not None


def test_tokens_of_a_version_without_the_mark_get_it(tokens: Tokens, tmp_path: Path) -> None:
    tokens.create("ci", Permission.READ)
    (tmp_path / REQUIRED_FILE).unlink()

    Tokens(tmp_path / "tokens.db").close()

    assert (tmp_path / REQUIRED_FILE).exists()


def test_the_mark_is_there_before_the_first_token_is(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError("the machine stops here")

    monkeypatch.setattr("vicinal.tokens.sync_directory", fail)
    with pytest.raises(Unavailable, match="stops here"):
        tokens.create("ci", Permission.WRITE)

    with closing(Tokens(tmp_path / "tokens.db")) as later:
        assert later.list() == []
        assert later.are_needed()


@pytest.mark.parametrize("has_tokens", [True, False])
@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_file_that_others_may_read_is_the_owners_alone_once_it_is_opened(
    tmp_path: Path, mode: int, has_tokens: bool
) -> None:
    """As a copy of a data folder may be, or an empty file that was made before."""
    path = tmp_path / "tokens.db"
    if has_tokens:
        with closing(Tokens(path)) as tokens:
            tokens.create("ci", Permission.READ)
    else:
        path.touch()
    path.chmod(mode)

    with closing(Tokens(path)) as tokens:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(tokens.list()) == has_tokens
