"""Vectors as rows of a table: which columns, and how much of a value.

A column is a part of the vector (`PARTS`) or a property of its metadata, by its name with dots
between the keys of nested objects, as metadata indexes are named. A property whose name is that of
a part is ``metadata.NAME``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
import msgspec

from vicinal.cli import show
from vicinal.cli.client import MatchResponse, VectorResponse

PARTS = ("score", "id", "namespace", "metadata", "values")
"""The parts of a vector, in the order of a table for which no columns are named."""

_OF_METADATA = "metadata."


@dataclass(frozen=True, slots=True)
class TableForm:
    """The wanted form of a table of vectors.

    Attributes:
        columns: The columns in order; empty for `PARTS`.
        is_full: Whether values are shown whole, else previewed on one line.
    """

    columns: tuple[str, ...] = ()
    is_full: bool = False

    def wants(self, part: str) -> bool:
        """Tell whether a column is named."""
        return part in self.columns


def form_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --columns and --full."""
    command = click.option(
        "--full", is_flag=True, help="Show values whole; else they are previewed on one line."
    )(command)
    return click.option(
        "--columns",
        metavar="A,B",
        callback=_column_names,
        help="Show these: id, score, namespace, metadata, values, or properties of the metadata.",
    )(command)


def _column_names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    if value is None:
        return ()
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise click.BadParameter(f"{value!r} has an empty name", context, parameter)
    return names


def table_form(columns: tuple[str, ...], *, full: bool, as_json: bool) -> TableForm:
    """Return the form that options ask for.

    Raises:
        click.UsageError: JSON, which has no columns, is asked for as well.
    """
    if as_json and (columns or full):
        raise click.UsageError("--columns and --full are for the table; --json prints all there is")
    return TableForm(columns, full)


def print_vectors(vectors: Sequence[MatchResponse | VectorResponse], form: TableForm) -> None:
    """Print vectors as a table, in the order given, and name the columns that none of them has."""
    names = form.columns or PARTS
    for name in names if vectors else ():
        if name not in PARTS and all(_value(vector, name) is msgspec.UNSET for vector in vectors):
            show.note(f"note: none of them has a property {name!r} in its metadata")
    show.table(
        names,
        [
            [show.one_line(_cell(vector, name, form.is_full)) for name in names]
            for vector in vectors
        ],
        right=("score",),
        previewed=() if form.is_full else [name for name in names if name not in _FOLDED],
        keeps_empty=bool(form.columns),
    )


_FOLDED = ("score", "id", "namespace")
"""Never cut: they are short, or are copied."""


def _cell(vector: MatchResponse | VectorResponse, name: str, is_full: bool) -> str:
    match name:
        case "id":
            return vector.id
        case "score":
            return f"{vector.score:.6f}" if isinstance(vector, MatchResponse) else ""
        case "namespace":
            return vector.namespace or ""
        case "metadata":
            return show.compact(vector.metadata, is_full=is_full) if vector.metadata else ""
        case "values":
            return show.compact(vector.values, is_full=is_full) if vector.values else ""
    value = _value(vector, name)
    if value is msgspec.UNSET:
        return ""
    text = show.compact(value, is_full=is_full)
    # A string needs no quotes.
    return str(msgspec.json.decode(text)) if isinstance(value, str) else text


def _value(vector: MatchResponse | VectorResponse, name: str) -> object:
    """Return the value of a vector's property, `UNSET` where it has none."""
    metadata: object = vector.metadata
    for key in name.removeprefix(_OF_METADATA).split("."):
        if not isinstance(metadata, dict) or key not in metadata:
            return msgspec.UNSET
        metadata = metadata[key]
    return metadata
