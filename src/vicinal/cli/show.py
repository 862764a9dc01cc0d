"""How commands print: tables and JSON to standard output, notes to standard error."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import click
import msgspec

_WIDE = 10_000  # when piped, nothing is cut or wrapped
_GAP = 2  # cells between two columns
_PREVIEW_CELLS_MIN = 20  # ours: a preview has as many, however long the ids are
_CUT = "…"

_STRING_CHARS_MAX = 60  # ours: of a string in a preview
_ITEMS_MAX = 4  # ours: of an array in a preview

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""Adds --json, for commands that write their JSON themselves."""


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    previewed: Sequence[str] = (),
    keeps_empty: bool = False,
) -> None:
    """Print rows under headings, leaving out columns that are empty in every row.

    The columns named in `right` are aligned right. On a terminal what is too long is folded, but
    for the columns in `previewed`, which are cut so that a row takes one line if the others let it;
    piped, lines are as long as they need. With `keeps_empty` no column is left out. Control
    characters are shown as `one_line` has them.
    """
    # Imported here, as most that commands print is no table.
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    laid_out = Table(box=None, pad_edge=False, header_style="bold")
    columns = [one_line(column) for column in columns]
    kept = [[one_line(cell) for cell in row] for row in rows]
    shown = [
        column
        for column in range(len(columns))
        if not kept or keeps_empty or any(row[column] for row in kept)
    ]
    console = Console()
    if console.is_terminal and previewed:
        _cut(columns, kept, shown, previewed, console.width)
    for column in shown:
        # Folded, as an id that is cut cannot be copied.
        laid_out.add_column(
            columns[column],
            justify="right" if columns[column] in right else "left",
            overflow="fold",
        )
    for row in kept:
        laid_out.add_row(*(escape(row[column]) for column in shown))
    if console.is_terminal:
        console.print(laid_out)
        return
    console.width = _WIDE
    with console.capture() as capture:
        console.print(laid_out)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def _cut(
    columns: Sequence[str],
    rows: Sequence[list[str]],
    shown: Sequence[int],
    previewed: Sequence[str],
    width: int,
) -> None:
    """Cut cells of the previewed columns to what the others leave of a line."""
    from rich.cells import cell_len, set_cell_size

    cut = [column for column in shown if columns[column] in previewed]
    others = sum(
        max(cell_len(columns[column]), *(cell_len(row[column]) for row in rows))
        for column in shown
        if column not in cut and rows
    )
    left = width - others - _GAP * (len(shown) - 1)
    for number, column in enumerate(cut):
        cells = max(left // (len(cut) - number), _PREVIEW_CELLS_MIN)
        for row in rows:
            if cell_len(row[column]) > cells:
                row[column] = set_cell_size(row[column], cells - 1) + _CUT
        left -= max((cell_len(row[column]) for row in rows), default=0)


def one_line(text: str) -> str:
    """Return a text with its control characters as escapes: a line end is ``\\n``.

    Such characters break a table apart, and some change what a terminal does.
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def compact(value: object, *, is_full: bool = True) -> str:
    """Return a value as JSON on one line; unless `is_full`, long strings and arrays are cut."""
    return msgspec.json.encode(value if is_full else _shortened(value)).decode()


def _shortened(value: object) -> object:
    match value:
        case str() if len(value) > _STRING_CHARS_MAX:
            return value[: _STRING_CHARS_MAX - 1] + _CUT
        case list() if len(value) > _ITEMS_MAX:
            return [*map(_shortened, value[:_ITEMS_MAX]), msgspec.Raw(_CUT.encode())]
        case list():
            return [_shortened(item) for item in value]
        case dict():
            return {name: _shortened(member) for name, member in value.items()}
    return value


def json(raw: bytes | msgspec.Raw) -> None:
    """Print JSON indented, numbers and order of members as they came."""
    click.echo(msgspec.json.format(bytes(raw), indent=2).decode())


def json_of(document: object) -> None:
    """Print a document as JSON."""
    json(msgspec.json.encode(document))


class Sections:
    """The parts of what a command prints: tables for a person, one JSON document for a program.

    Args:
        as_json: Whether it is the document, which `finish` prints; tables are printed at once.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._document: dict[str, list[dict[str, str | int]]] = {}

    def add(
        self,
        name: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str | int]],
        *,
        plain: Sequence[str] = (),
        heading: str | None = None,
    ) -> None:
        """Add a table, with a line before it.

        Numbers are aligned right and have separators, but for those of the columns in `plain`.
        """
        if self._as_json:
            self._document[name] = [dict(zip(columns, row, strict=True)) for row in rows]
            return
        if heading is not None:
            click.echo(heading)
        numeric = [
            column
            for number, column in enumerate(columns)
            if column in plain or any(isinstance(row[number], int) for row in rows)
        ]
        cells = [
            [
                f"{cell:,}" if isinstance(cell, int) and column not in plain else str(cell)
                for column, cell in zip(columns, row, strict=True)
            ]
            for row in rows
        ]
        table(columns, cells, right=numeric)

    def finish(self) -> None:
        """Print the document."""
        if self._as_json:
            json_of(self._document)


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
