"""``vicinal limits``: the bounds of each profile, side by side."""

import click
from rich.console import Console
from rich.table import Table

from vicinal.limits import PROFILES, rows


@click.command("limits")
def command() -> None:
    """Show the limits of each profile (choose one with `vicinal serve --limits`)."""
    table = Table(box=None, pad_edge=False)
    table.add_column("limit")
    for profile in PROFILES:
        table.add_column(profile, justify="right")
    for name, values in rows():
        table.add_row(name, *("none" if value is None else f"{value:,}" for value in values))
    Console().print(table)
