"""``vicinal serve``: the server, and on its first screen what to copy to use it."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from vicinal.cli import show
from vicinal.settings import TABLE, Setting, load


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for every setting; values are read by `settings.load`, not by click."""
    for row in reversed(TABLE):
        command = _flag(row)(command)
    return command


def _flag(row: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    if row.form == "boolean":
        names = f"{row.flag}/--no-{row.flag.removeprefix('--')}"
        return click.option(names, row.name, default=None, help=row.description)
    shown = row.shown(row.default)
    return click.option(
        row.flag,
        row.name,
        multiple=row.form in ("list", "mapping"),
        metavar="|".join(row.choices) or row.form.upper(),
        help=row.description + (f"  [default: {shown}]" if shown else ""),
    )


def config_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config, the TOML file of settings."""
    return click.option(
        "--config",
        envvar="VICINAL_CONFIG",
        type=click.Path(path_type=Path),
        help="TOML file of settings; vicinal.toml in the working folder if not given.",
    )(command)


@click.command("serve")
@config_option
@_flags
@click.option("--quiet", is_flag=True, help="Do not print the lines to copy.")
def command(config: Path | None, quiet: bool, **flags: object) -> None:
    """Serve Vectorize and text embeddings over HTTP until interrupted.

    Every setting can also be given in the environment (VICINAL_PORT for --port) or in a
    TOML file (port = 8790); flags are stronger than the environment, and that than the file.
    """
    settings = load(flags, os.environ, config).settings
    # Imported here: the engine and the HTTP server take a second to import, which the
    # other commands need not pay.
    from vicinal import app

    def announce(ready: app.Ready) -> None:
        if not quiet:
            show.note(f"Vicinal serves {settings.data} at {ready.origin}")

    app.serve(settings, announce)
