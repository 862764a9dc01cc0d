"""How commands print: tables and JSON to standard output, notes to standard error."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDE = 10_000  # when piped, nothing is cut or wrapped


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print rows under headings, leaving out columns that are empty in every row.

    The columns named in `right` are aligned right. On a terminal what is too long is folded; piped,
    lines are as long as they need.
    """
    laid_out = Table(box=None, pad_edge=False, header_style="bold")
    kept = list(rows)
    shown = [
        column for column in range(len(columns)) if not kept or any(row[column] for row in kept)
    ]
    for column in shown:
        # Folded, as an id that is cut cannot be copied.
        laid_out.add_column(
            columns[column],
            justify="right" if columns[column] in right else "left",
            overflow="fold",
        )
    for row in kept:
        laid_out.add_row(*(escape(row[column]) for column in shown))
    console = Console()
    if console.is_terminal:
        console.print(laid_out)
        return
    console.width = _WIDE
    with console.capture() as capture:
        console.print(laid_out)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def json(raw: bytes | msgspec.Raw) -> None:
    """Print JSON indented, numbers and order of members as they came."""
    click.echo(msgspec.json.format(bytes(raw), indent=2).decode())


def program() -> str:
    """Return what starts this program in a shell: its path where the name alone would not do."""
    started_as = Path(sys.argv[0])
    is_named = started_as.name == "vicinal" and started_as.is_file()
    is_found = not is_named or shutil.which("vicinal") is not None
    # In full, as a line is often copied to where a Worker's project is.
    return "vicinal" if is_found else str(started_as.absolute())


_note_writers: list[Callable[[str], None]] = []


def note(text: str) -> None:
    """Tell the person, not the pipe."""
    if _note_writers:
        _note_writers[-1](text)
    else:
        click.echo(text, err=True)


@contextmanager
def noting_with(write: Callable[[str], None]) -> Iterator[None]:
    """Have notes written by a function, for the duration of the block: above a progress bar."""
    _note_writers.append(write)
    try:
        yield
    finally:
        _note_writers.pop()
