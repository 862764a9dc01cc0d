"""``vicinal vector``: read, count, delete and patch vectors by ids or by what is known of them.

A change of vectors that are named by a filter, a namespace or a prefix is one write. Ids go in as
many writes as the server's limits need.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import click
import msgspec

from vicinal.cli import id_batches, show
from vicinal.cli.client import ApiResponse, Client, Target, VectorResponse, target_options
from vicinal.cli.completion import index_argument
from vicinal.cli.scopes import ScopeOptions, json_option_value, scope_options
from vicinal.cli.vector_table import form_options, print_vectors, table_form
from vicinal.limits import PROFILES
from vicinal.wire.schemas import CountSchema, FacetSchema

WAIT_S = 60.0

_PAGE_MAX = min(limits.list_count_max for limits in PROFILES.values())
_IDS = click.argument("ids", metavar="[ID]...", nargs=-1)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say how many vectors, and change none.")
_ALL = click.option("--all", "takes_all", is_flag=True, help="All vectors of the index.")
_YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@click.group("vector")
def group() -> None:
    """Read, count, delete and patch vectors."""


@group.command("get")
@index_argument
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@form_options
@show.json_option
@target_options
def get(
    target: Target,
    index: str,
    ids: tuple[str, ...],
    columns: tuple[str, ...],
    full: bool,
    as_json: bool,
) -> None:
    """Show the vectors of INDEX with these IDs; the exit status is 1 if one is not there."""
    form = table_form(columns, full=full, as_json=as_json)
    wanted = list(dict.fromkeys(ids))
    with target.connect() as client:
        raw = id_batches.get_vectors(client, index, wanted)
    vectors = list(map(_vector, raw))
    if as_json:
        show.json_of(raw)
    elif vectors:
        print_vectors(vectors, form)
    missing = sorted(set(wanted) - {vector.id for vector in vectors}, key=wanted.index)
    if missing:
        raise click.ClickException(
            f"no vector of {index} has the id " + ", ".join(map(repr, missing))
        )


@group.command("list")
@index_argument
@scope_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many to show; `vicinal export` writes all.",
)
@click.option("--values", "return_values", is_flag=True, help="Show values, too.")
@form_options
@show.json_option
@target_options
def list_(
    target: Target,
    index: str,
    scope: ScopeOptions,
    limit: int,
    return_values: bool,
    columns: tuple[str, ...],
    full: bool,
    as_json: bool,
) -> None:
    """List the vectors of INDEX, all or those that options choose."""
    form = table_form(columns, full=full, as_json=as_json)
    wanted: dict[str, object] = {
        "returnValues": return_values or form.wants("values"),
        "returnMetadata": True,
    }
    with target.connect() as client:
        total, raw = _listed(client, index, wanted, scope, limit)
    if as_json:
        show.json_of({"count": len(raw), "totalCount": total, "vectors": raw})
        return
    if raw:
        print_vectors(list(map(_vector, raw)), form)
    if len(raw) < total:
        show.note(f"{len(raw):,} of {total:,} vectors; --limit shows more")
    elif not raw:
        show.note("no vectors")


@group.command("count")
@index_argument
@_IDS
@scope_options
@show.json_option
@target_options
def count_(
    target: Target, index: str, ids: tuple[str, ...], scope: ScopeOptions, as_json: bool
) -> None:
    """Count the vectors of INDEX: all, those of these IDs that are there, or those chosen."""
    if ids and not scope.is_all:
        raise click.UsageError("give either IDs, or --filter, --namespace and --prefix")
    with target.connect() as client:
        if ids:
            count = len(id_batches.get_vectors(client, index, list(dict.fromkeys(ids))))
        else:
            answer = client.post(client.indexes(index, "vectors", "count"), scope.members())
            count = answer.decode(CountSchema).count
    if as_json:
        show.json_of(CountSchema(count))
    else:
        click.echo(count)


@group.command("facets")
@index_argument
@click.argument("property_name", metavar="PROPERTY")
@scope_options
@click.option("--limit", type=int, help="How many values; 10 if not given.")
@show.json_option
@target_options
def facets(
    target: Target,
    index: str,
    property_name: str,
    scope: ScopeOptions,
    limit: int | None,
    as_json: bool,
) -> None:
    """Count the vectors of INDEX by their value of PROPERTY, which has a metadata index."""
    body = {"propertyName": property_name, **scope.members()}
    body |= {} if limit is None else {"count": limit}
    with target.connect() as client:
        answer = client.post(client.indexes(index, "vectors", "facets"), body)
    if as_json:
        show.json(answer.result)
        return
    facet = answer.decode(FacetSchema)
    show.table(
        (property_name, "vectors"),
        [(_facet_value(row.value), f"{row.count:,}") for row in facet.values],
        right=("vectors",),
        keeps_empty=True,
    )
    more = facet.distinct_count - len(facet.values)
    show.note(
        f"{facet.value_count:,} of {facet.vector_count:,} vectors have one of "
        f"{facet.distinct_count:,} values" + (f"; {more:,} are not shown" if more else "")
    )


@group.command("delete")
@index_argument
@_IDS
@scope_options
@_ALL
@_DRY_RUN
@_YES
@show.json_option
@target_options
def delete(
    target: Target,
    index: str,
    ids: tuple[str, ...],
    scope: ScopeOptions,
    takes_all: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete the vectors of INDEX with these IDs, those that options choose, or --all."""
    chosen = _chosen(ids, scope, takes_all=takes_all)
    options = _ChangeOptions("delete", "deleted", dry_run, yes, as_json)
    with target.connect() as client:

        def write(*, is_dry: bool) -> list[ApiResponse]:
            if not chosen.ids:
                path = client.indexes(index, "vectors", "delete")
                return [client.post(path, chosen.members() | {"dryRun": is_dry}, _WAITS)]
            path = client.indexes(index, "delete_by_ids")
            return id_batches.changes().answers(
                chosen.ids, lambda some: client.post(path, {"ids": some}, _WAITS)
            )

        if chosen.ids:
            # That route counts nothing.
            count = len(id_batches.get_vectors(client, index, chosen.ids))
        else:
            count = _counted(write(is_dry=True))
        _change(index, count, partial(write, is_dry=False), options)


@group.command("patch")
@index_argument
@_IDS
@click.option(
    "--metadata",
    required=True,
    metavar="JSON",
    help="A merge patch (RFC 7386): null removes a key, objects are merged.",
)
@scope_options
@_ALL
@_DRY_RUN
@_YES
@show.json_option
@target_options
def patch(
    target: Target,
    index: str,
    ids: tuple[str, ...],
    metadata: str,
    scope: ScopeOptions,
    takes_all: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Change metadata of the vectors of INDEX with these IDs, those that options choose, or --all.

    Values stay as they are.
    """
    chosen = _chosen(ids, scope, takes_all=takes_all)
    options = _ChangeOptions("patch", "patched", dry_run, yes, as_json)
    document = json_option_value(metadata, "--metadata")
    if not isinstance(document, dict):
        raise click.UsageError("--metadata is not a JSON object")
    with target.connect() as client:
        path = client.indexes(index, "vectors", "patch")

        def write(*, is_dry: bool) -> list[ApiResponse]:
            body = {"metadata": document, "dryRun": is_dry}
            if not chosen.ids:
                return [client.post(path, body | chosen.members(), _WAITS)]
            return id_batches.changes().answers(
                chosen.ids, lambda some: client.post(path, body | {"ids": some}, _WAITS)
            )

        _change(index, _counted(write(is_dry=True)), partial(write, is_dry=False), options)


_WAITS = {"prefer": f"wait={WAIT_S:g}"}
"""Headers of a write that is answered when queries see it, so that the next command does."""


@dataclass(frozen=True, slots=True)
class _ChosenVectors:
    """The vectors of a command: by ids, or by a scope, which may be of all."""

    ids: Sequence[str]
    scope: ScopeOptions

    def members(self) -> dict[str, object]:
        """Return the members of a request for a change by scope."""
        return {"all": True} if self.scope.is_all else self.scope.members()


def _chosen(ids: Sequence[str], scope: ScopeOptions, *, takes_all: bool) -> _ChosenVectors:
    """Return the vectors that a command line names.

    Raises:
        click.UsageError: it names none, or in two ways.
    """
    if sum((bool(ids), not scope.is_all, takes_all)) != 1:
        raise click.UsageError(
            "give either IDs, or --filter, --namespace and --prefix, or --all for all vectors"
        )
    return _ChosenVectors(list(dict.fromkeys(ids)), scope)


class _Changed(msgspec.Struct, rename="camel"):
    """The answer to a change, or to a dry run of one; `delete_by_ids` counts nothing."""

    count: int | None = None
    mutation_id: str | None = None


@dataclass(frozen=True, slots=True)
class _ChangeOptions:
    """The name of a change, its past tense, and the options that all changes have."""

    verb: str
    past: str
    is_dry: bool
    is_confirmed: bool
    as_json: bool


def _change(
    index: str, count: int, write: Callable[[], list[ApiResponse]], options: _ChangeOptions
) -> None:
    """Ask, write and print the outcome; `count` is how many vectors it would change."""
    if options.is_dry:
        if options.as_json:
            show.json_of({"count": count})
        else:
            click.echo(f"would {options.verb} {count:,} vectors of {index}")
        return
    if not options.is_confirmed:
        question = f"{options.verb.capitalize()} {count:,} vectors of {index!r}?"
        click.confirm(question, abort=True, err=True)
    answers = write()
    changes = [answer.decode(_Changed) for answer in answers]
    counts = [change.count for change in changes if change.count is not None]
    count = sum(counts) if counts else count
    mutation_ids = [change.mutation_id for change in changes]
    if options.as_json:
        show.json_of({"count": count, "mutationIds": mutation_ids})
    else:
        click.echo(f"{options.past} {count:,} vectors of {index}")
    if not all(answer.is_visible for answer in answers):
        show.note(f"the write is durable, but not visible after {WAIT_S:g} seconds")


def _counted(answers: Sequence[ApiResponse]) -> int:
    return sum(answer.decode(CountSchema).count for answer in answers)


def _listed(
    client: Client, index: str, wanted: dict[str, object], scope: ScopeOptions, limit: int
) -> tuple[int, list[msgspec.Raw]]:
    """Return how many vectors there are, and the first `limit` of them as JSON."""
    path = client.indexes(index, "vectors", "list")
    vectors: list[msgspec.Raw] = []
    body = {**wanted, **scope.members()}
    while True:
        body["count"] = min(limit - len(vectors), _PAGE_MAX)
        page = client.post(path, body).decode(_VectorPage)
        vectors += page.vectors
        if page.next_cursor is None or len(vectors) >= limit:
            return page.total_count, vectors
        body = {**wanted, "cursor": page.next_cursor}


class _VectorPage(msgspec.Struct, rename="camel"):
    """One page of vectors, as JSON."""

    total_count: int
    next_cursor: str | None
    vectors: list[msgspec.Raw]


def _vector(raw: msgspec.Raw) -> VectorResponse:
    return msgspec.json.decode(raw, type=VectorResponse)


def _facet_value(value: str | float | bool) -> str:
    return show.one_line(value) if isinstance(value, str) else show.compact(value)
