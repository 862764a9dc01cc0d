"""``vicinal index``: create, look at and delete indexes and their metadata indexes."""

from collections.abc import Mapping

import click

from vicinal.cli import show
from vicinal.cli.client import Client, IndexResponse, Target, target_options
from vicinal.model import Effort, IndexType, Metric
from vicinal.wire.schemas import IndexInfoSchema, MetadataIndexListSchema, MutationSchema

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")
_TYPES = click.Choice([index_type.value for index_type in IndexType])


@click.group("index")
def group() -> None:
    """Create, list, inspect and delete indexes."""


class _PropertyType(click.ParamType[tuple[str, str]]):
    """``PROPERTY:TYPE``; the property may hold colons."""

    name = "property:type"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the last colon; refuse an unknown type."""
        name, _, form = str(value).rpartition(":")
        if not name or form not in _TYPES.choices:
            types = ", ".join(_TYPES.choices)
            self.fail(f"{value!r} is not PROPERTY:TYPE with a type of {types}", param, ctx)
        return name, form


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
    help="A property that filters may name; repeatable.",
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
    metadata_indexes: tuple[tuple[str, str], ...],
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
        for property_name, index_type in metadata_indexes:
            add_metadata_index(client, name, property_name, index_type)
    if as_json:
        show.json(answer.result)
        return
    made = answer.decode(IndexResponse)
    click.echo(f"created {made.name}: {made.config.dimensions} dimensions, {made.config.metric}")


@group.command("list")
@_AS_JSON
@target_options
def list_(target: Target, as_json: bool) -> None:
    """List the account's indexes."""
    with target.connect() as client:
        answer = client.get(client.indexes())
    if as_json:
        show.json(answer.result)
        return
    indexes = answer.decode(list[IndexResponse])
    if not indexes:
        show.note(f"no indexes yet; `{target.command('index', 'create')}` makes one")
        return
    show.table(
        ("name", "dimensions", "metric", "preset", "created", "description"),
        [
            (
                index.name,
                str(index.config.dimensions),
                index.config.metric,
                index.config.preset or "",
                index.created_on,
                index.description or "",
            )
            for index in indexes
        ],
        right=("dimensions",),
    )


@group.command("info")
@click.argument("name")
@_AS_JSON
@target_options
def info(target: Target, name: str, as_json: bool) -> None:
    """Show what the index NAME is and how many vectors a query sees in it."""
    with target.connect() as client:
        index = client.get(client.indexes(name)).decode(IndexResponse)
        answer = client.get(client.indexes(name, "info"))
        listed = client.get(client.indexes(name, "metadata_index", "list"))
    if as_json:
        show.json(answer.result)
        return
    state = answer.decode(IndexInfoSchema)
    partial = {row.property_name: row.covered_count for row in state.partial_indexes or ()}
    filters = [
        f"{row.property_name} ({row.index_type}{_coverage(row.property_name, partial, state)})"
        for row in listed.decode(MetadataIndexListSchema).metadata_indexes
    ]
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
            ("vectors", f"{state.vector_count:,}"),
            ("metadata indexes", ", ".join(filters)),
            ("newest visible mutation", state.processed_up_to_mutation or ""),
            ("visible since", state.processed_up_to_datetime or ""),
        ],
    )


def _coverage(name: str, partial: Mapping[str, int], state: IndexInfoSchema) -> str:
    """Return what an index covers, where that is not all."""
    if name not in partial:
        return ""
    return f", covers {partial[name]:,} of {state.vector_count:,} vectors"


@group.command("delete")
@click.argument("name")
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
@click.argument("name")
@click.argument("property_name", metavar="PROPERTY")
@click.argument("index_type", metavar="TYPE", type=_TYPES)
@click.option("--backfill", is_flag=True, help="Index the vectors already stored, too.")
@target_options
def add(target: Target, name: str, property_name: str, index_type: str, backfill: bool) -> None:
    """Let filters on the index NAME use PROPERTY, which holds values of TYPE.

    TYPE is string, number or boolean; dots in PROPERTY reach into nested objects. Without
    --backfill only vectors written from now on can be found by it. An index that is there
    already stays as it is; with --backfill it then covers the vectors written before it, too.
    """
    with target.connect() as client:
        path = client.indexes(name, "metadata_index", "list")
        listed = client.get(path).decode(MetadataIndexListSchema).metadata_indexes
        mutation_id = add_metadata_index(client, name, property_name, index_type, backfill=backfill)
    click.echo(f"metadata index on {property_name} ({index_type}): mutation {mutation_id}")
    if any(metadata_index.property_name == property_name for metadata_index in listed):
        show.note(
            "note: it was there already; now it covers the vectors written before it, too"
            if backfill
            else "note: it was there already and has not changed: vectors written before it are "
            "not in it without --backfill"
        )


@group.command("delete-metadata-index")
@click.argument("name")
@click.argument("property_name", metavar="PROPERTY")
@target_options
def remove(target: Target, name: str, property_name: str) -> None:
    """Stop filters on the index NAME from using PROPERTY."""
    with target.connect() as client:
        path = client.indexes(name, "metadata_index", "delete")
        written = client.post(path, {"propertyName": property_name}).decode(MutationSchema)
    click.echo(f"no metadata index on {property_name}: mutation {written.mutation_id}")


@group.command("list-metadata-indexes")
@click.argument("name")
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
    show.table(("property", "type"), [(row.property_name, row.index_type) for row in listed])


def add_metadata_index(
    client: Client, name: str, property_name: str, index_type: str, *, backfill: bool = False
) -> str:
    """Create a metadata index; return the mutation's id."""
    body: dict[str, object] = {"propertyName": property_name, "indexType": index_type}
    if backfill:
        body["backfill"] = True
    answer = client.post(client.indexes(name, "metadata_index", "create"), body)
    return answer.decode(MutationSchema).mutation_id
