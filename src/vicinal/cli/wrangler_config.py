"""The account of a wrangler project: ``account_id`` in its configuration.

wrangler uses that before any environment variable, so all other programs of the project have to
use it too. Files are found, environments chosen and names inherited as wrangler does it; the rest
of a configuration is not read. Whether the account is the right one is for the callers to say.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import tomli

FILE_NAMES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")
"""In wrangler's order: a file of the first name above wins over one of the next name here."""

ENVIRONMENT_VARIABLE = "CLOUDFLARE_ENV"

VARIABLE_FILES = (".env", ".env.local")
"""Files that wrangler reads where it is run, for variables that the process has not."""

CONFIG_BYTES_MAX = 1 << 20
"""Ours; a configuration is a few kilobytes."""


@dataclass(frozen=True, slots=True)
class ConfigSelection:
    """The options of a wrangler command that choose its configuration.

    Attributes:
        folder: Folder that wrangler runs in.
        files: Configuration files that are named; empty if wrangler is to find one.
        environment: Name of a section of ``env``; ``""`` for none, None for the value of
            ``CLOUDFLARE_ENV``.
        variable_files: Files that may set ``CLOUDFLARE_ENV``, later ones win; empty for
            `VARIABLE_FILES` in the folder.
    """

    folder: Path
    files: tuple[Path, ...] = ()
    environment: str | None = None
    variable_files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedAccount:
    """An account, and the file that names it."""

    account: str
    file: Path


def named_account(selection: ConfigSelection, variables: Mapping[str, str]) -> NamedAccount | None:
    """Return the account that the project names, or None when it names none.

    Raises:
        click.ClickException: a file cannot be read, or files name different accounts.
    """
    environment = selection.environment
    if environment is None:
        environment = variables.get(ENVIRONMENT_VARIABLE)
    if environment is None:
        environment = _environment_in(selection)
    nearest = _nearest_file(selection.folder)
    files: Sequence[Path] = selection.files or ((nearest,) if nearest is not None else ())
    named = [
        NamedAccount(account, file)
        for file in files
        if (account := _account_in(_parse_file(file), environment, file))
    ]
    for other in named[1:]:
        if other.account != named[0].account:
            raise click.ClickException(
                f"{named[0].file} names the account {named[0].account}, and {other.file} names "
                f"{other.account}; Workers that run together have their bindings in one account. "
                "Give both files the same account_id, or run them apart"
            )
    return named[0] if named else None


# As npm's dotenv has it, for one variable.
_ENVIRONMENT_LINE = re.compile(
    r"^[^\S\r\n]*(?:export[^\S\r\n]+)?"
    + ENVIRONMENT_VARIABLE
    + r"""(?:[^\S\r\n]*=|:[^\S\r\n]+)[^\S\r\n]*(?:'([^']*)'|"([^"]*)"|`([^`]*)`|([^#\r\n]*))""",
    re.MULTILINE,
)


def _environment_in(selection: ConfigSelection) -> str:
    """Return the environment that the files of variables set; unreadable ones count as empty."""
    files = selection.variable_files or tuple(selection.folder / name for name in VARIABLE_FILES)
    environment = ""
    for file in files:
        if not file.is_file():  # A pipe would be waited for.
            continue
        try:
            with file.open("rb") as opened:
                text = opened.read(CONFIG_BYTES_MAX).decode(errors="replace")
        except OSError:
            continue
        for single, double, back, bare in _ENVIRONMENT_LINE.findall(text):
            environment = single or double or back or bare.strip()
    return environment


def _nearest_file(folder: Path) -> Path | None:
    files = (parent / name for name in FILE_NAMES for parent in (folder, *folder.parents))
    return next((file for file in files if file.is_file()), None)


def _account_in(config: object, environment: str, file: Path) -> str:
    """Return the account of an environment: its own, or the one at the top; ``""`` for none."""
    if not isinstance(config, dict):
        raise click.ClickException(
            f"{file} is not a configuration of wrangler's: it has no members"
        )
    sections = config.get("env")
    section = sections.get(environment) if isinstance(sections, dict) and environment else None
    own = section.get("account_id") if isinstance(section, dict) else None
    account = own or config.get("account_id") or ""
    if not isinstance(account, str):
        raise click.ClickException(f"{file}: account_id is {account!r}, which is not a string")
    return account


def _parse_file(file: Path) -> object:
    # wrangler takes the format from the end of the name, and an unknown one for no settings.
    is_toml = file.name.endswith("toml")
    try:
        with file.open("rb") as opened:
            raw = opened.read(CONFIG_BYTES_MAX + 1)
        if not is_toml and not file.name.endswith(("json", "jsonc")):
            return {}
        if len(raw) > CONFIG_BYTES_MAX:
            raise click.ClickException(
                f"{file} is longer than {CONFIG_BYTES_MAX:,} bytes; --account says what is "
                "looked for there"
            )
        text = raw.decode("utf-8-sig")
        return tomli.loads(text) if is_toml else read_jsonc(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise click.ClickException(
            f"{file} cannot be read: {reason}. Its account_id says which account the project is in"
        ) from error


# A string, so that a comment sign in a string is left alone; or a comment. Both may end with the
# text, which keeps the search linear if one is never closed.
_STRING = r'("(?:[^"\\]|\\.)*(?:"|\Z))'
_STRING_OR_COMMENT = re.compile(_STRING + r"|//[^\n\r]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_STRING_OR_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])", re.DOTALL)


def read_jsonc(text: str) -> object:
    """Parse JSON with comments and trailing commas.

    Raises:
        ValueError: it is something else.
        RecursionError: it is nested too deeply.
    """
    for pattern in (_STRING_OR_COMMENT, _STRING_OR_LAST_COMMA):
        # Blanks and line ends stay, so that an error is told at its place.
        text = pattern.sub(lambda match: match[1] or re.sub(r"[^\n\r]", " ", match[0]), text)
    return json.loads(text, strict=False)
