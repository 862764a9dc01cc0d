"""How commands print: tables and JSON to standard output, notes to standard error."""

from collections.abc import Iterable, Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table

_WIDE = 10_000  # when piped, nothing is cut or wrapped


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print rows under headings; the columns named in `right` are aligned right."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    laid_out = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        laid_out.add_column(column, justify="right" if column in right else "left")
    for row in rows:
        # Text from a server is never markup.
        laid_out.add_row(*(_plain(cell) for cell in row))
    console.print(laid_out)


def json(raw: bytes | msgspec.Raw) -> None:
    """Print JSON indented, numbers and order of members as they came."""
    click.echo(msgspec.json.format(bytes(raw), indent=2).decode())


def note(text: str) -> None:
    """Tell the person, not the pipe."""
    click.echo(text, err=True)


def _plain(cell: str) -> str:
    return cell.replace("[", r"\[")
