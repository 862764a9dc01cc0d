"""Writes docs/cli.md from the commands and settings themselves.

    python -m vicinal.cli.docs > docs/cli.md

A test compares the page with what this would write, so that the two cannot drift.
"""

import inspect
import math
from collections.abc import Iterator

import click

from vicinal.cli import COMMANDS, main
from vicinal.settings import TABLE, Setting

_HEAD = """# The command line

Written by `python -m vicinal.cli.docs > docs/cli.md`; do not edit.

Commands that work with an index talk to a running server: `--url`, `--token` and `--account`
say which, or `VICINAL_URL`, `VICINAL_TOKEN` and `VICINAL_ACCOUNT`. Answers go to standard
output, everything else to standard error. The exit status is 0 for success, 1 for an error
that is told in one sentence, 2 for a command line that cannot be understood. Tables on a terminal
fold what is too long and cut no id; values of metadata are previewed on their line, and whole with
`--full`. With `--json` a command that prints data prints one JSON document.

## Completion

A shell completes commands, options and the names of indexes, for which it asks the server
(`VICINAL_URL`, `VICINAL_TOKEN` and `VICINAL_ACCOUNT` say which; without an answer within a second
there are none):

```sh
eval "$(_VICINAL_COMPLETE=bash_source vicinal)"      # bash 4.4 or newer: in ~/.bashrc
eval "$(_VICINAL_COMPLETE=zsh_source vicinal)"       # zsh: in ~/.zshrc
_VICINAL_COMPLETE=fish_source vicinal | source       # fish: in ~/.config/fish/config.fish
```
"""

_SETTINGS_HEAD = """
## Settings

What `vicinal serve` is started with. A value comes from the first of these that has one: the
flag, the environment variable, the TOML file (`--config FILE`, `VICINAL_CONFIG`, or
`vicinal.toml` in the working folder), the default. `vicinal config show` tells which it was.
In flags and variables, lists are separated by commas and mappings written `name=value,...`;
in TOML they are arrays and tables. Folders in the TOML file are relative to it. Unknown keys
and values out of bounds are refused.

| TOML key | flag | environment | default | what it is |
|---|---|---|---|---|
"""

_HELP = {"--help", "-h"}
_TARGET = {"--url", "--token", "--account"}  # the head says what they are, where all three are


def markdown() -> str:
    """Return the page."""
    parts = [_HEAD, *(_section(*command) for command in _commands(main, ("vicinal",)))]
    rows = "".join(_row(row) for row in TABLE)
    return "".join([*parts, _SETTINGS_HEAD, rows])


def _commands(
    group: click.Group, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in COMMANDS if group is main else group.commands:
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _section(path: tuple[str, ...], command: click.Command) -> str:
    name = " ".join(path)
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"\n## {name}\n", f"\n    {usage}\n", f"\n{inspect.cleandoc(command.help or '')}\n"]
    settings = {row.flag for row in TABLE} if name == "vicinal serve" else set()
    named = {name for parameter in command.params for name in parameter.opts}
    left_out = _HELP | settings | (_TARGET if named >= _TARGET else set())
    options = [
        f"| `{_cell(record[0])}` | {_cell(record[1])} |\n"
        for parameter in command.params
        if isinstance(parameter, click.Option)
        and not left_out & set(parameter.opts)
        and (record := parameter.get_help_record(context)) is not None
    ]
    if options:
        lines += ["\n| option | |\n|---|---|\n", *options]
    if settings:
        lines.append("\nEvery setting below is a flag, too.\n")
    return "".join(lines)


def _row(row: Setting) -> str:
    default = row.shown(row.default)
    shown = f"`{default}`" if default else ""
    cells = (f"`{row.name}`", f"`{row.flag}`", f"`{row.variable}`", shown, _described(row))
    return f"| {' | '.join(cells)} |\n"


def _described(row: Setting) -> str:
    notes = [
        f"at least {row.least:,.10g}" if math.isfinite(row.least) else "",
        f"at most {row.most:,.10g}" if math.isfinite(row.most) else "",
        f"one of {', '.join(f'`{choice}`' for choice in row.choices)}" if row.choices else "",
        f"deprecated name: `{row.deprecated_name}`" if row.deprecated_name else "",
    ]
    note = ", ".join(note for note in notes if note)
    return _cell(row.description + (f" ({note})" if note else ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
