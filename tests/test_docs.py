"""The pages in docs/ do not drift from the program: what they name is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from vicinal.cli import docs, main
from vicinal.settings import TABLE

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

_COMMAND = re.compile(r"(?:^|`|\$ |&& )vicinal ((?:[a-z][a-z-]*|-[-a-z]+)[^`\n]*)", re.MULTILINE)


def test_the_command_line_page_is_the_one_that_is_generated() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()

    assert written == docs.markdown(), "run: python -m vicinal.cli.docs > docs/cli.md"


def commands_in(page: Path) -> Iterator[str]:
    for line in _COMMAND.findall(page.read_text()):
        yield line.partition(" #")[0].strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    unknown = [line for line in commands_in(page) if not exists(line.split())]

    assert unknown == []


def exists(words: list[str]) -> bool:
    """Tell whether the words lead to a command that has the options among them."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.commands.get(words.pop(0))
        if found is None:
            return False
        command = found
    known = {"--help", "--version"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    if "--" in words:  # what follows is for another program
        words = words[: words.index("--")]
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    return named <= known


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("index create docs --dimensions 3", True),
        ("serve --no-require-token", True),
        ("wrangler -- dev --any-option-of-its", True),
        ("index make docs", False),
        ("index create docs --size 3", False),
    ],
)
def test_the_check_of_commands_can_fail(line: str, expected: bool) -> None:
    assert exists(line.split()) is expected


def test_every_setting_that_operations_names_exists() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    variables = set(re.findall(r"VICINAL_[A-Z_]+", text))

    assert words - {"bytes_in", "bytes_out"} <= {row.name for row in TABLE}
    assert variables <= {row.variable for row in TABLE}
    assert {"tail_rows_max", "queue_bytes_max", "requests_max"} <= words
