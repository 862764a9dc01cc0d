"""``vicinal config``: every setting, its value and where that came from."""

import os
from pathlib import Path

import click
import msgspec

from vicinal.cli import show
from vicinal.cli.serve import config_option
from vicinal.settings import TABLE, load


@click.group("config")
def group() -> None:
    """Look at the settings."""


@group.command("show")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(config: Path | None, as_json: bool) -> None:
    """Show what `vicinal serve` would be started with here, without its flags."""
    loaded = load({}, os.environ, config)
    values = {row.name: row.shown(getattr(loaded.settings, row.name)) for row in TABLE}
    if as_json:
        rows = {
            name: {"value": value, "from": loaded.origins[name]} for name, value in values.items()
        }
        show.json(msgspec.json.encode(rows))
        return
    show.table(
        ("setting", "value", "from", "what it is"),
        [(row.name, values[row.name], loaded.origins[row.name], row.description) for row in TABLE],
    )
