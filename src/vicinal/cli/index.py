"""``vicinal index``: create, look at and delete indexes and their metadata indexes."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec
from msgspec import UnsetType

from vicinal.cli import show
from vicinal.cli.client import (
    ApiError,
    Client,
    IndexResponse,
    Target,
    target_options,
)
from vicinal.cli.completion import named_index_argument
from vicinal.index_storage import MEMTABLE
from vicinal.model import Effort, IndexType, MetadataIndex, Metric
from vicinal.wire.schemas import (
    IndexInfoSchema,
    MetadataIndexListSchema,
    MetadataIndexSchema,
    MutationSchema,
    SegmentSchema,
)

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")
_NAME = named_index_argument("name")
_TYPES = click.Choice([index_type.value for index_type in IndexType])
_TEXT_SUFFIX = f":{IndexType.TEXT.value}"


@click.group("index")
def group() -> None:
    """Create, list, inspect and delete indexes."""


class _PropertyType(click.ParamType[MetadataIndex]):
    """``PROPERTY:TYPE``, or ``PROPERTY:text:LANGUAGE``; the property may hold colons."""

    name = "property:type"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> MetadataIndex:
        """Split at the last colons; refuse an unknown type."""
        name, _, form = str(value).rpartition(":")
        language = None
        if form not in _TYPES.choices and name.endswith(_TEXT_SUFFIX):
            name, form, language = name.removesuffix(_TEXT_SUFFIX), IndexType.TEXT.value, form
        if not name or form not in _TYPES.choices:
            types = ", ".join(_TYPES.choices)
            self.fail(f"{value!r} is not PROPERTY:TYPE with a type of {types}", param, ctx)
        return MetadataIndex(name, IndexType(form), language)


@group.command("create")
@click.argument("name")
@click.option("--dimensions", type=int, help="Length of every vector.")
@click.option("--metric", type=click.Choice([metric.value for metric in Metric]), help="Distance.")
@click.option("--preset", help="A model whose dimensions and metric to take instead.")
@click.option(
    "--effort",
    type=click.Choice([effort.value for effort in Effort]),
    help="How hard queries look that do not say; standard if not given.",
)
@click.option("--model", help="The model that makes its vectors; `query --text` then uses it.")
@click.option("--description", help="Any text.")
@click.option(
    "--metadata-index",
    "metadata_indexes",
    multiple=True,
    type=_PropertyType(),
    metavar="PROPERTY:TYPE",
    help="A property that filters may name, or PROPERTY:text[:LANGUAGE]; repeatable.",
)
@_AS_JSON
@target_options
def create(
    target: Target,
    name: str,
    dimensions: int | None,
    metric: str | None,
    preset: str | None,
    effort: str | None,
    model: str | None,
    description: str | None,
    metadata_indexes: tuple[MetadataIndex, ...],
    as_json: bool,
) -> None:
    """Create the index NAME, by --dimensions and --metric or by --preset."""
    if (preset is None) == (dimensions is None and metric is None):
        raise click.UsageError("give either --dimensions and --metric, or --preset")
    if preset is None and (dimensions is None or metric is None):
        raise click.UsageError("--dimensions and --metric belong together")
    config: dict[str, object] = (
        {"preset": preset} if preset else {"dimensions": dimensions, "metric": metric}
    )
    config |= {"effort": effort} if effort else {}
    config |= {"model": model} if model else {}
    body = {"name": name, "config": config} | ({"description": description} if description else {})
    with target.connect() as client:
        answer = client.post(client.indexes(), body)
        for metadata_index in metadata_indexes:
            add_metadata_index(client, name, metadata_index)
    if as_json:
        show.json(answer.result)
        return
    made = answer.decode(IndexResponse)
    click.echo(f"created {made.name}: {made.config.dimensions} dimensions, {made.config.metric}")


@group.command("list")
@click.option("--names", "names_only", is_flag=True, help="Ask for no counts and bytes.")
@_AS_JSON
@target_options
def list_(target: Target, names_only: bool, as_json: bool) -> None:
    """List the account's indexes, with the number of their vectors and the bytes of their files.

    Counting opens each index on the server; --names does not.
    """
    with target.connect() as client:
        listed = client.get(client.indexes())
        indexes = listed.decode(list[IndexResponse])
        states = {} if names_only else _states(client, indexes)
    if as_json:
        documents = listed.decode(list[dict[str, Any]])
        for document in documents:
            document |= _state_members(states.get(document["name"]))
        show.json_of(documents)
        return
    if not indexes:
        show.note(f"no indexes yet; `{target.command('index', 'create')}` makes one")
        return
    show.table(
        ("name", "dimensions", "metric", "preset", "vectors", "bytes", "created", "description"),
        [
            (
                index.name,
                str(index.config.dimensions),
                index.config.metric,
                index.config.preset or "",
                *_state_cells(states.get(index.name)),
                index.created_on,
                index.description or "",
            )
            for index in indexes
        ],
        right=("dimensions", "vectors", "bytes"),
    )


@group.command("info")
@_NAME
@_AS_JSON
@target_options
def info(target: Target, name: str, as_json: bool) -> None:
    """Show what the index NAME is, how many vectors a query sees in it, and its segments."""
    with target.connect() as client:
        described = client.get(client.indexes(name))
        answer = client.get(client.indexes(name, "info"), _DETAIL)
        listed = client.get(client.indexes(name, "metadata_index", "list"))
    index, state = described.decode(IndexResponse), answer.decode(IndexInfoSchema)
    metadata_indexes = listed.decode(MetadataIndexListSchema).metadata_indexes
    partial = {row.property_name: row.covered_count for row in state.partial_indexes or ()}
    if as_json:
        coverages = [
            {
                **msgspec.to_builtins(row),
                "coveredCount": partial.get(row.property_name, state.vector_count),
            }
            for row in metadata_indexes
        ]
        info_members = answer.decode(dict[str, Any])
        show.json_of(
            described.decode(dict[str, Any]) | info_members | {"metadataIndexes": coverages}
        )
        return
    filters = [
        f"{row.property_name} ({_type_name(row)}{_coverage(row.property_name, partial, state)})"
        for row in metadata_indexes
    ]
    vectors, size = _state_cells(state)
    show.table(
        ("index", index.name),
        [
            ("description", index.description or ""),
            ("dimensions", str(index.config.dimensions)),
            ("metric", index.config.metric),
            ("preset", index.config.preset or ""),
            ("effort", index.config.effort),
            ("model", index.config.model or ""),
            ("created", index.created_on),
            ("vectors", vectors),
            ("bytes", size),
            ("metadata indexes", ", ".join(filters)),
            ("newest visible mutation", state.processed_up_to_mutation or ""),
            ("visible since", state.processed_up_to_datetime or ""),
        ],
    )
    if state.segments:
        _print_segments(state.segments)


_DETAIL = {"detail": "true"}


def _states(client: Client, indexes: Sequence[IndexResponse]) -> dict[str, IndexInfoSchema]:
    """Return the state of each index that can be read; tell of the others."""
    states: dict[str, IndexInfoSchema] = {}
    for index in indexes:
        try:
            answer = client.get(client.indexes(index.name, "info"), _DETAIL)
        except ApiError as refused:
            show.note(f"{index.name}: {refused.message}")
        else:
            states[index.name] = answer.decode(IndexInfoSchema)
    return states


def _state_members(state: IndexInfoSchema | None) -> dict[str, int]:
    """Return the members for JSON; a server that is not ours tells no bytes."""
    if state is None:
        return {}
    members = {"vectorCount": state.vector_count}
    if not isinstance(state.byte_count, UnsetType):
        members["byteCount"] = state.byte_count
    return members


def _state_cells(state: IndexInfoSchema | None) -> tuple[str, str]:
    members = _state_members(state)
    vectors, size = members.get("vectorCount"), members.get("byteCount")
    return f"{vectors:,}" if vectors is not None else "", f"{size:,}" if size is not None else ""


def _print_segments(segments: Sequence[SegmentSchema]) -> None:
    click.echo(f"\nsegments: {sum(segment.name != MEMTABLE for segment in segments)}")
    show.table(
        ("part", "vectors", "deleted", "bytes"),
        [
            (
                segment.name,
                f"{segment.vector_count:,}",
                f"{segment.deleted_count:,}",
                f"{segment.byte_count:,}",
            )
            for segment in segments
        ],
        right=("vectors", "deleted", "bytes"),
    )


def _type_name(row: MetadataIndexSchema) -> str:
    return f"{row.index_type}:{row.language}" if row.language else row.index_type.value


def _coverage(name: str, partial: Mapping[str, int], state: IndexInfoSchema) -> str:
    """Return what an index covers, where that is not all."""
    if name not in partial:
        return ""
    return f", covers {partial[name]:,} of {state.vector_count:,} vectors"


@group.command("delete")
@_NAME
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@target_options
def delete(target: Target, name: str, yes: bool) -> None:
    """Delete the index NAME and every vector in it."""
    if not yes:
        click.confirm(f"Delete the index {name!r} and all its vectors?", abort=True, err=True)
    with target.connect() as client:
        client.delete(client.indexes(name))
    click.echo(f"deleted {name}")


@group.command("add-metadata-index")
@_NAME
@click.argument("property_name", metavar="PROPERTY")
@click.argument("index_type", metavar="TYPE", type=_TYPES)
@click.option("--backfill", is_flag=True, help="Index the vectors already stored, too.")
@_AS_JSON
@click.option("--language", help="Of TYPE text: cut words to their stems, as of english.")
@target_options
def add(
    target: Target,
    name: str,
    property_name: str,
    index_type: str,
    backfill: bool,
    as_json: bool,
    language: str | None,
) -> None:
    """Let filters on the index NAME use PROPERTY, which holds values of TYPE.

    TYPE is string, number or boolean, or text for words that `query --keywords` looks for; dots in
    PROPERTY reach into nested objects. Without
    --backfill only vectors written from now on can be found by it. An index that is there
    already stays as it is; with --backfill it then covers the vectors written before it, too.
    """
    with target.connect() as client:
        path = client.indexes(name, "metadata_index", "list")
        listed = client.get(path).decode(MetadataIndexListSchema).metadata_indexes
        wanted = MetadataIndex(property_name, IndexType(index_type), language)
        mutation_id = add_metadata_index(client, name, wanted, backfill=backfill)
    if as_json:
        show.json_of(MutationSchema(mutation_id))
    else:
        click.echo(
            f"metadata index on {property_name} ({wanted.type_name}): mutation {mutation_id}"
        )
    if any(metadata_index.property_name == property_name for metadata_index in listed):
        show.note(
            "note: it was there already; now it covers the vectors written before it, too"
            if backfill
            else "note: it was there already and has not changed: vectors written before it are "
            "not in it without --backfill"
        )


@group.command("delete-metadata-index")
@_NAME
@click.argument("property_name", metavar="PROPERTY")
@_AS_JSON
@target_options
def remove(target: Target, name: str, property_name: str, as_json: bool) -> None:
    """Stop filters on the index NAME from using PROPERTY."""
    with target.connect() as client:
        path = client.indexes(name, "metadata_index", "delete")
        answer = client.post(path, {"propertyName": property_name})
    if as_json:
        show.json(answer.result)
        return
    written = answer.decode(MutationSchema)
    click.echo(f"no metadata index on {property_name}: mutation {written.mutation_id}")


@group.command("list-metadata-indexes")
@_NAME
@_AS_JSON
@target_options
def list_metadata_indexes(target: Target, name: str, as_json: bool) -> None:
    """List the properties that filters on the index NAME may use."""
    with target.connect() as client:
        answer = client.get(client.indexes(name, "metadata_index", "list"))
    if as_json:
        show.json(answer.result)
        return
    listed = answer.decode(MetadataIndexListSchema).metadata_indexes
    show.table(("property", "type"), [(row.property_name, _type_name(row)) for row in listed])


def add_metadata_index(
    client: Client, name: str, metadata_index: MetadataIndex, *, backfill: bool = False
) -> str:
    """Create a metadata index; return the mutation's id."""
    body: dict[str, object] = {
        "propertyName": metadata_index.property_name,
        "indexType": metadata_index.index_type.value,
    }
    if metadata_index.language is not None:
        body["language"] = metadata_index.language
    if backfill:
        body["backfill"] = True
    answer = client.post(client.indexes(name, "metadata_index", "create"), body)
    return answer.decode(MutationSchema).mutation_id
