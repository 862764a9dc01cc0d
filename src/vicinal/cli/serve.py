"""``vicinal serve``: the server, and on its first screen what to copy to use it."""

import gc
import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vicinal import errors
from vicinal.cli import shell_lines, show
from vicinal.cli.config import config_option
from vicinal.settings import TABLE, Setting, Settings, load

if TYPE_CHECKING:
    from vicinal.app import Application

TOKEN_VARIABLE = "VICINAL_TOKEN"


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for every setting; values are read by `settings.load`, not by click."""
    for row in reversed(TABLE):
        if row.deprecated_name:
            command = click.option(row.deprecated_flag, row.deprecated_name, hidden=True)(command)
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
        multiple=row.form in ("list", "mapping", "origins", "hosts"),
        metavar="|".join(row.choices) or row.form.upper(),
        help=row.description + (f"  [default: {shown}]" if shown else ""),
    )


@click.command("serve")
@config_option
@_flags
@click.option("--demo", "with_demo", is_flag=True, help="Load the demo and show an answer.")
@click.option("--quiet", is_flag=True, help="Do not print the lines to copy.")
def command(config: Path | None, with_demo: bool, quiet: bool, **flags: object) -> None:
    """Serve Vectorize and text embeddings over HTTP until interrupted.

    Every setting can also be given in the environment (VICINAL_PORT for --port) or in a
    TOML file (port = 8790); flags are stronger than the environment, and that than the file.
    """
    loaded = load(flags, os.environ, config)
    settings = loaded.settings
    # Imported here: the engine and the HTTP server take a second to import, which the
    # other commands need not pay. All of it stays: looking for garbage in it would take a tenth of
    # that time, and some of every later collection's.
    gc.disable()
    from vicinal import app

    gc.freeze()
    gc.enable()

    def announce(origin: str, application: app.Application) -> None:
        if not quiet:
            click.echo(lines_to_copy(origin, application, settings))
        if with_demo:
            _show_demo(origin, application, settings)

    app.serve(settings, announce, loaded.warnings)


def lines_to_copy(origin: str, application: "Application", settings: Settings) -> str:
    """Return what a person needs to know to use the server, each line ready to be run.

    A token is never printed, as this output may end in a log: the lines take it from
    ``VICINAL_TOKEN`` where one is needed, and have any text for it where none is.
    """
    base_url, account = f"{origin}/client/v4", settings.account
    if application.needs_token:
        shell, python = f'"${TOKEN_VARIABLE}"', f'os.environ["{TOKEN_VARIABLE}"]'
        node, header = f"process.env.{TOKEN_VARIABLE}", f"Bearer ${TOKEN_VARIABLE}"
        first = f"Every request needs a token; the lines take it from {TOKEN_VARIABLE}."
    else:
        shell, python, node, header = account, f'"{account}"', f'"{account}"', f"Bearer {account}"
        first = "No token has been created, so any text will do for one."
    wrangler = shell_lines.command("wrangler", origin=origin, account=account)
    worker = f"{wrangler} -- dev"
    environment = f"CLOUDFLARE_API_BASE_URL={base_url} CLOUDFLARE_API_TOKEN={shell}"
    return f"""
Vicinal serves {shlex.quote(str(settings.data))} at {origin}
{first}

  browser   {origin}/ui/
  curl      curl -H "Authorization: {header}" {base_url}/accounts/{account}/vectorize/v2/indexes
  Python    client = cloudflare.Cloudflare(base_url="{base_url}", api_token={python})
            client.vectorize.indexes.list(account_id="{account}")
  Node      const client = new Cloudflare({{ baseURL: "{base_url}", apiToken: {node} }})
            await client.vectorize.indexes.list({{ account_id: "{account}" }})
  Worker    {worker}
  wrangler  {environment} CLOUDFLARE_ACCOUNT_ID={account} npx wrangler vectorize list
"""


def _show_demo(origin: str, application: "Application", settings: Settings) -> None:
    """Load the demo and print answers; a demo that fails leaves the server serving."""
    from vicinal.cli import demo
    from vicinal.cli.client import Target

    target = Target(origin, application.own_token, settings.account)
    access_log = logging.getLogger("vicinal.access")
    level = access_log.level
    access_log.setLevel(logging.WARNING)  # so that its own requests do not hide the answer
    try:
        with target.connect() as client:
            demo.load(client)
            demo.answer_question(client)
            demo.answer_example(client, demo.MODEL, demo.EXAMPLES[1])
    except (click.ClickException, errors.Error) as error:
        show.note(f"the demo failed: {error}")
        return
    finally:
        access_log.setLevel(level)
    click.echo(f'\nAsk your own: {target.command("query", demo.FACTS_INDEX)} --text "..."')
