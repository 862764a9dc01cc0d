"""The definition of an index: all that is needed to make one like it, without its vectors.

An export writes it beside its file, as ``FILE.index.json``; an import of that file makes the index
of it where there is none.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from vicinal.cli import show
from vicinal.cli.client import ApiError, Client, IndexResponse
from vicinal.cli.index import add_metadata_index
from vicinal.model import MetadataIndex
from vicinal.wire.schemas import MetadataIndexListSchema, MetadataIndexSchema

SUFFIX = ".index.json"

_NO_INDEX = 3000
_STANDARD = "standard"


class DefinedConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of an index."""

    dimensions: int
    metric: str
    preset: str | None = None
    effort: str = _STANDARD
    model: str | None = None


class IndexDefinition(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Settings, description and metadata indexes, oldest first."""

    config: DefinedConfig
    description: str | None = None
    metadata_indexes: tuple[MetadataIndexSchema, ...] = ()

    def create(self, client: Client, name: str) -> None:
        """Create an empty index by this definition."""
        config: dict[str, object] = (
            {"preset": self.config.preset}
            if self.config.preset
            else {"dimensions": self.config.dimensions, "metric": self.config.metric}
        )
        config |= {} if self.config.effort == _STANDARD else {"effort": self.config.effort}
        config |= {"model": self.config.model} if self.config.model else {}
        body: dict[str, object] = {"name": name, "config": config}
        body |= {"description": self.description} if self.description else {}
        client.post(client.indexes(), body)
        for row in self.metadata_indexes:
            language = row.language or None
            index = MetadataIndex(row.property_name, row.index_type, language)
            add_metadata_index(client, name, index)

    def command(self, name: str) -> str:
        """Return the command that creates an index by this definition."""
        config = self.config
        words = ["vicinal", "index", "create", name]
        if config.preset:
            words += ["--preset", config.preset]
        else:
            words += ["--dimensions", str(config.dimensions), "--metric", config.metric]
        if config.effort != _STANDARD:
            words += ["--effort", config.effort]
        if config.model:
            words += ["--model", config.model]
        if self.description:
            words += ["--description", self.description]
        for row in self.metadata_indexes:
            language = f":{row.language}" if row.language else ""
            words += ["--metadata-index", f"{row.property_name}:{row.index_type}{language}"]
        return shlex.join(words)


def definition_of(client: Client, index: IndexResponse) -> IndexDefinition:
    """Return the definition of an index that is there."""
    answer = client.get(client.indexes(index.name, "metadata_index", "list"))
    config = index.config
    return IndexDefinition(
        DefinedConfig(config.dimensions, config.metric, config.preset, config.effort, config.model),
        index.description,
        tuple(answer.decode(MetadataIndexListSchema).metadata_indexes),
    )


def definition_file(path: Path) -> Path:
    """Return where the definition for an exported file is."""
    return path.with_name(path.name + SUFFIX)


def save(path: Path, definition: IndexDefinition) -> None:
    """Write a definition in one step.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(definition)) + b"\n")
    temporary.replace(path)


def load(path: Path) -> IndexDefinition | None:
    """Return the definition in a file; None if there is no file.

    Raises:
        click.ClickException: it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=IndexDefinition)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path} does not define an index: {error}") from error


def get_or_create(client: Client, name: str, files: Sequence[Path]) -> IndexResponse:
    """Return an index; where there is none, make it by the definition beside the first file."""
    try:
        return client.get(client.indexes(name)).decode(IndexResponse)
    except ApiError as refused:
        path = definition_file(files[0])
        definition = load(path) if _NO_INDEX in refused.codes else None
        if definition is None:
            raise
    definition.create(client, name)
    show.note(f"made the index {name} as {path} says")
    return client.get(client.indexes(name)).decode(IndexResponse)
