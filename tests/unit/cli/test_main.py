"""A command imports what it needs and no more, as half a second at each start is felt."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vicinal.cli import COMMANDS, main

LIST_TOKENS = """
import tempfile
from vicinal.cli import main
with tempfile.TemporaryDirectory() as folder:
    main(["token", "list", "--data", folder], standalone_mode=False)
"""

MEASURED = ("numpy", "httpx", "rich", "vicinal.engine", "vicinal.server", "vicinal.moving")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import vicinal", []),
        ("import vicinal.pytest_plugin", []),
        ("from vicinal.cli import main; main(['--version'], standalone_mode=False)", []),
        ("import vicinal.cli.index", ["numpy", "httpx", "rich"]),
        ("import vicinal; vicinal.Columns", ["numpy", "vicinal.engine"]),
        (LIST_TOKENS, ["numpy"]),
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


@pytest.mark.parametrize(
    "words",
    [
        ["snapshot", "restore", "gone.tar.zst", "--data", "new"],
        ["snapshot", "verify", "gone.tar.zst"],
        ["snapshot", "list", "gone"],
        ["snapshot", "delete", "gone", "--snapshot", "20260101-000000-000000"],
    ],
)
def test_a_file_that_is_not_there_is_one_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(main, words)

    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    assert "gone" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_full_is_one_sentence() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    code = "from vicinal.cli import main; main(['limits', '--json'])"
    with Path("/dev/full").open("wb", buffering=0) as full:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("option", ["--filter", "--vector"])
def test_an_option_that_is_nested_too_deeply_is_refused(option: str) -> None:
    words = ["query", "docs", option, "[" * 100_000]
    words += [] if option == "--vector" else ["--vector", "1"]

    result = CliRunner().invoke(main, words)

    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert f"{option} is nested too deeply" in result.stderr
