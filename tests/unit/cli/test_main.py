"""A command imports what it needs and no more, as half a second at each start is felt."""

import subprocess
import sys

import click
import pytest

from vicinal.cli import COMMANDS, main

MEASURED = ("numpy", "httpx", "rich", "vicinal.engine", "vicinal.server", "vicinal.moving")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import vicinal", []),
        ("import vicinal.pytest_plugin", []),
        ("from vicinal.cli import main; main(['--version'], standalone_mode=False)", []),
        ("import vicinal.cli.index", ["numpy", "httpx", "rich"]),
        ("import vicinal; vicinal.Columns", ["numpy", "vicinal.engine"]),
        (
            "import vicinal.app, vicinal.cli.serve",
            ["numpy", "vicinal.engine", "vicinal.server"],
        ),
    ],
)
def test_what_is_imported_is_what_is_needed(code: str, expected: list[str]) -> None:
    said = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(sorted(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    assert [name for name in MEASURED if f"{name!r}" in said] == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_name_that_it_is_listed_by(name: str) -> None:
    command = main.get_command(click.Context(main), name)

    assert command is not None
    assert command.name == name


def test_a_command_that_there_is_not_is_refused() -> None:
    with pytest.raises(click.UsageError, match="No such command 'serv'"):
        main(["serv"], standalone_mode=False)
