"""``vicinal limits``: the bounds of each profile, side by side."""

import click

from vicinal.cli import show
from vicinal.limits import PROFILES, rows


@click.command("limits")
def command() -> None:
    """Show the limits of each profile (choose one with `vicinal serve --limits`)."""
    show.table(
        ("limit", *PROFILES),
        [
            (name, *("none" if value is None else f"{value:,}" for value in values))
            for name, values in rows()
        ],
        right=tuple(PROFILES),
    )
