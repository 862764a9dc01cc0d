"""``vicinal limits``: the bounds of each profile, side by side."""

import click

from vicinal.cli import show
from vicinal.limits import PROFILES, rows


@click.command("limits")
def command() -> None:
    """Show the limits of each profile (choose one with `vicinal serve --limits`)."""
    show.table(
        ("limit", *PROFILES),
        [(name, *map(_shown, values)) for name, values in rows()],
        right=tuple(PROFILES),
    )


def _shown(value: int | None) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else f"{value:,}"
