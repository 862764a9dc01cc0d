"""``vicinal limits``: the bounds of each profile, side by side."""

import click

from vicinal.cli import show
from vicinal.limits import PROFILES, rows


@click.command("limits")
@show.json_option
def command(as_json: bool) -> None:
    """Show the limits of each profile (choose one with `vicinal serve --limits`)."""
    if as_json:
        show.json_of({name: dict(zip(PROFILES, values, strict=True)) for name, values in rows()})
        return
    show.table(
        ("limit", *PROFILES),
        [(name, *map(_shown, values)) for name, values in rows()],
        right=tuple(PROFILES),
    )


def _shown(value: int | None) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else f"{value:,}"
