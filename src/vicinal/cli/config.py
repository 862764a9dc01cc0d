"""``vicinal config``, and how all commands read the settings.

Every command that needs settings calls `read_settings`, which tells about deprecated names.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import click
import msgspec

from vicinal.cli import show
from vicinal.settings import TABLE, Loaded, Settings, load


def config_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config, the TOML file of settings."""
    return click.option(
        "--config",
        envvar="VICINAL_CONFIG",
        type=click.Path(path_type=Path),
        help="TOML file of settings; vicinal.toml in the working folder if not given.",
    )(command)


def read_settings(
    config: Path | None, flags: Mapping[str, object] = MappingProxyType({})
) -> Settings:
    """Return the settings of this command line, and warn about deprecated names.

    Raises:
        InvalidInput: as `settings.load`.
    """
    return _loaded(config, flags).settings


def _loaded(config: Path | None, flags: Mapping[str, object]) -> Loaded:
    loaded = load(flags, os.environ, config)
    for warning in loaded.warnings:
        show.note(f"warning: {warning}")
    return loaded


@click.group("config")
def group() -> None:
    """Look at the settings."""


@group.command("show")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(config: Path | None, as_json: bool) -> None:
    """Show what `vicinal serve` would be started with here, without its flags."""
    loaded = _loaded(config, {})
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
