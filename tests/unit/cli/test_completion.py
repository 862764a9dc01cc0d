"""Shells complete the names of indexes by asking the server, and never see an error."""

import socket
from collections.abc import Sequence

import click
import pytest
from click.shell_completion import BashComplete

from tests.support.commands import Commands
from vicinal.cli import completion, docs, main


def completed(
    vicinal: Commands, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], begun: str
) -> list[str]:
    """Return what is offered for the word that is begun after these."""
    for name, value in (
        ("VICINAL_URL", vicinal.server.origin),
        ("VICINAL_TOKEN", vicinal.server.token),
        ("VICINAL_ACCOUNT", vicinal.server.account),
    ):
        monkeypatch.setenv(name, vicinal.extra.get(name, value))
    complete = BashComplete(main, {}, "vicinal", "_VICINAL_COMPLETE")
    return [item.value for item in complete.get_completions(list(words), begun)]


@pytest.fixture
def indexes(vicinal: Commands) -> Commands:
    for name in ("docs", "docs-old", "faq"):
        vicinal.ok("index", "create", name, "--dimensions", "2", "--metric", "cosine")
    return vicinal


@pytest.mark.parametrize(
    "words",
    [
        ("query",), ("export",), ("index", "info"), ("index", "delete"),
        ("index", "add-metadata-index"), ("index", "delete-metadata-index"),
        ("index", "list-metadata-indexes"), ("vector", "get"), ("vector", "list"),
        ("vector", "count"), ("vector", "facets"), ("vector", "delete"), ("vector", "patch"),
        ("query", "--top-k", "3"), ("mcp", "--index"), ("mcp", "--index", "faq", "--index"),
    ],
)  # fmt: skip
def test_names_of_indexes_are_offered_where_one_is_meant(
    indexes: Commands, monkeypatch: pytest.MonkeyPatch, words: Sequence[str]
) -> None:
    assert completed(indexes, monkeypatch, words, "do") == ["docs", "docs-old"]
    assert completed(indexes, monkeypatch, words, "") == ["docs", "docs-old", "faq"]
    assert completed(indexes, monkeypatch, words, "z") == []


def test_a_new_name_and_a_file_are_not_completed_by_those_that_are_there(
    indexes: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(indexes, monkeypatch, ("index", "create"), "do") == []
    assert "docs" not in completed(indexes, monkeypatch, ("export", "docs"), "do")


def test_files_are_completed_and_behind_them_indexes_too(
    indexes: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(indexes, monkeypatch, ("import",), "do") == ["do"], "a file alone"
    assert completed(indexes, monkeypatch, ("import", "a.ndjson"), "do") == [
        "do", "docs", "docs-old",
    ]  # fmt: skip
    assert completed(indexes, monkeypatch, ("import", "a", "b", "--wait"), "z") == ["z"]


def test_options_say_which_server_and_account_are_asked(
    indexes: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Commands(indexes.server, {"VICINAL_URL": "http://127.0.0.1:9", "VICINAL_ACCOUNT": "x"})
    here = ("query", "--url", indexes.server.origin, "--account", "acme")

    assert completed(other, monkeypatch, here, "f") == ["faq"]
    assert completed(other, monkeypatch, ("query",), "f") == []


@pytest.mark.parametrize(
    "extra",
    [
        {"VICINAL_URL": "http://127.0.0.1:9"},
        {"VICINAL_URL": "no url"},
        {"VICINAL_URL": "http://[::1"},
        {"VICINAL_TOKEN": "unknown"},
        {"VICINAL_TOKEN": "\u65e5"},
    ],
)
def test_without_an_answer_nothing_is_offered_and_nothing_is_said(
    indexes: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: dict[str, str],
) -> None:
    deaf = Commands(indexes.server, extra)

    assert completed(deaf, monkeypatch, ("query",), "d") == []
    assert capsys.readouterr() == ("", "")


def test_a_server_that_does_not_answer_is_not_waited_for(
    indexes: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = completed(
            Commands(indexes.server, {"VICINAL_URL": url}), monkeypatch, ["query"], ""
        )

    assert found == []


def test_commands_that_take_an_index_complete_it() -> None:
    """A command with an argument INDEX or NAME of one that is there offers its names."""
    new = {"index create", "token create", "model pull", "import"}
    without = []
    for path, command in docs._commands(main, ()):  # noqa: SLF001  # the walk of the page
        for parameter in command.params:
            if isinstance(parameter, click.Argument) and parameter.name in ("index", "name"):
                is_completed = parameter._custom_shell_complete is not None  # noqa: SLF001  # has no other name
                if not is_completed and " ".join(path) not in new:
                    without.append(" ".join(path))

    assert without == []
