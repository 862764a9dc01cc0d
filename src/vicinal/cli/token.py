"""``vicinal token``: make and revoke API tokens, in the data folder or the database itself.

A running server notices at once, or within a second: no restart is needed.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from vicinal.cli import show
from vicinal.cli.config import config_option, read_settings
from vicinal.storage import private
from vicinal.stores import open_tokens
from vicinal.tokens import Permission, TokenStore

_DATA = click.option("--data", type=click.Path(path_type=Path), help="The server's data folder.")


@click.group("token")
def group() -> None:
    """Create, list and revoke the tokens that clients send."""


@group.command("create")
@click.argument("name")
@click.option("--read-only", is_flag=True, help="Allow queries and reading, no writing.")
@click.option("--account", help="The only account it is good for; all if not given.")
@_DATA
@show.json_option
@config_option
def create(
    name: str,
    read_only: bool,
    account: str | None,
    data: Path | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Make a token; NAME says what it is for. It is shown once and cannot be had again."""
    permission = Permission.READ if read_only else Permission.WRITE
    with _tokens(data, config, renews=True) as tokens:
        token, secret = tokens.create(name, permission, account)
    if as_json:
        show.json_of({"secret": secret, "token": token})
    else:
        click.echo(secret)
    show.note(f"{token.permission} token {token.id} ({token.name}). It is not shown again.")


@group.command("list")
@_DATA
@show.json_option
@config_option
def list_(data: Path | None, as_json: bool, config: Path | None) -> None:
    """List tokens, without their secrets."""
    with _tokens(data, config) as tokens:
        stored = tokens.list()
    if as_json:
        show.json_of(stored)
        return
    if not stored:
        show.note("no tokens; `vicinal token create NAME` makes one")
        return
    show.table(
        ("id", "name", "permission", "account", "created"),
        [
            (
                token.id,
                token.name,
                token.permission.value,
                token.account or "all",
                token.created_at.isoformat(timespec="seconds"),
            )
            for token in stored
        ],
    )


@group.command("revoke")
@click.argument("token_id", metavar="ID")
@_DATA
@config_option
def revoke(token_id: str, data: Path | None, config: Path | None) -> None:
    """Make the token with this ID worthless at once.

    After the last one nobody is let in, until there is another or `vicinal token disable`.
    """
    with _tokens(data, config) as tokens:
        tokens.revoke(token_id)
        is_last = not tokens.has_tokens()
    click.echo(f"revoked {token_id}")
    if is_last:
        show.note(
            "It was the last one. Requests still need a token: `vicinal token create` makes one, "
            "`vicinal token disable` lets them in without."
        )


@group.command("disable")
@_DATA
@config_option
def disable(data: Path | None, config: Path | None) -> None:
    """Revoke all tokens; from its next start a server on loopback needs none."""
    with _tokens(data, config, renews=True) as tokens:
        tokens.disable()
    click.echo("no token is needed any more")
    show.note("A server that runs goes on needing one until it is started again.")


@contextmanager
def _tokens(
    data: Path | None, config: Path | None, *, renews: bool = False
) -> Iterator[TokenStore]:
    settings = read_settings(config, {"data": None if data is None else str(data)})
    try:
        private.make_data_folder(settings.data)
    except OSError as error:
        raise click.ClickException(f"{settings.data}: {error.strerror}") from error
    with closing(open_tokens(replace(settings, token=()), renews=renews)) as tokens:
        yield tokens
