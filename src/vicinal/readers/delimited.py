"""CSV, with a head of column names. The separator is ``,``, tab, ``;`` or ``|``: the one that cuts
the head into the most names.

A vector is one cell (``[1, 2]``, or numbers with any of ``,; |`` or spaces between), or the cells
of many columns. A cell of metadata is text, but becomes a number, true or false where that reads
back as the same text (so 1.10 and 007 stay text), and an empty cell is a missing value.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vicinal.errors import BadFile
from vicinal.readers import columnar
from vicinal.readers.base import (
    ALL,
    LIMITS,
    USUAL_IDS,
    USUAL_VECTORS,
    ColumnNames,
    Position,
    RowBatch,
    as_record,
)
from vicinal.readers.collecting import METADATA, RowCollector
from vicinal.readers.columnar import ROW_NUMBER, names_like
from vicinal.readers.opening import START_BYTES, FileSource, PulledFile

_SEPARATORS = ",\t;|"
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,14})\.\d{1,17}")
_PART_BYTES = 1 << 20


def is_table(start: bytes, names: ColumnNames) -> bool:
    """Tell whether a text begins with a head that has the columns of vectors or texts."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    line = text.replace(b"\r", b"\n").partition(b"\n")[0]
    is_cut = len(line) == len(text) and len(start) >= START_BYTES
    try:
        head = line.decode(errors="ignore" if is_cut else "strict")
        if is_cut:
            head = head.rpartition(separator_of(head))[0]
        return _has_columns(_cells(head), names)
    except (UnicodeDecodeError, csv.Error):
        return False


def _has_columns(head: Sequence[str], names: ColumnNames) -> bool:
    if {names.id, names.text, names.vector} & set(head):
        return True
    if names.vector is not None and ALL in names.vector and names_like(names.vector, head):
        return True
    has_id, has_vector = bool({*USUAL_IDS} & set(head)), bool({*USUAL_VECTORS} & set(head))
    if names.text is None and (has_vector and (len(head) > 1 or names.id == ROW_NUMBER)):
        return True
    return has_id and (len(head) > 1 or has_vector)


@dataclass(frozen=True, slots=True)
class _Line:
    """A row: the number of its first line, and its cells, or the rule that its text breaks."""

    number: int
    cells: list[str]
    rule: str
    text: str


class _KeptLines:
    """Lines of a text, those of the row that is being read kept."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._kept: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._kept.append(line)
        return line

    def begin_row(self) -> None:
        """Keep lines of the next row alone."""
        self._kept.clear()

    @property
    def text(self) -> str:
        """The row, without its end."""
        return "".join(self._kept).rstrip("\r\n")


class CsvReader:
    """Reads CSV.

    Args:
        source: The file.
        names: The meaning of columns.
        dimensions: The length of every vector; 0 for texts.
    """

    unit = "line"

    def __init__(self, source: FileSource, names: ColumnNames, dimensions: int) -> None:
        self._source = source
        self._names = names
        self._dimensions = dimensions
        csv.field_size_limit(LIMITS.record_bytes_max)

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        """See `base.FileReader`."""
        # A line that is not UTF-8 is told by its number, when it is read.
        text = io.TextIOWrapper(
            io.BufferedReader(PulledFile(self._source.pull), _PART_BYTES),
            "utf-8-sig", "surrogateescape", newline="",
        )  # fmt: skip
        first = text.readline()
        lines = 1
        while first and not first.strip():
            first = text.readline()
            lines += 1
        if not first:
            return
        separator = separator_of(first)
        try:
            (head,) = csv.reader([first], delimiter=separator, strict=True)
        except (csv.Error, ValueError):
            raise BadFile("line 1: the head cannot be read: a quote is not closed") from None
        head = [name.strip() for name in head]
        columns = columnar.table_columns(head, self._names)
        lines_read = _KeptLines(text)
        rows = csv.reader(lines_read, delimiter=separator, strict=True)
        kept: list[_Line] = []
        number = 0
        while True:
            line = lines + rows.line_num + 1
            cells, rule = [], ""
            lines_read.begin_row()
            try:
                cells = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                rule = _reason(str(error))
                if not _is_of_one_row(str(error)):
                    raise BadFile(f"line {line}: {rule}") from None
            if not cells and not rule:
                continue
            number += 1
            if number <= start.number:
                continue
            kept.append(_Line(line, cells, rule, lines_read.text if rule else ""))
            if len(kept) == rows_max:
                yield self._batch(columns, head, kept, number)
                kept = []
        if kept:
            yield self._batch(columns, head, kept, number)

    def _batch(
        self,
        columns: columnar.TableColumns,
        head: list[str],
        kept: Sequence[_Line],
        number: int,
    ) -> RowBatch:
        names = columnar.row_names(columns, self._names)
        rows = RowCollector(names, self._dimensions, self.unit, len(kept), is_strict=False)
        others, used = set(columns.others), set(columns.names)
        first_number = number - len(kept)
        for position, line in enumerate(kept):
            if line.rule:
                rows.reject(line.number, line.rule, as_record(line.text))
                continue
            if len(line.cells) != len(head):
                rule = f"the line has {len(line.cells)} cells, and the head {len(head)} columns"
                rows.reject(line.number, rule, as_record(line.cells))
                continue
            record: dict[str, Any] = {
                name: _value(cell) if name in others and name != METADATA else cell
                for name, cell in zip(head, line.cells, strict=True)
                if name in used
            }
            columnar.add_record(rows, line.number, record, columns, names, first_number + position)
        batch = rows.batch(Position(0, number), self._source.fraction)
        return replace(batch, left_out=columns.left_out)


def separator_of(line: str) -> str:
    """Return the separator that cuts a line into the most cells."""
    return max(_SEPARATORS, key=lambda separator: (line.count(separator), separator == ","))


def _cells(line: str) -> list[str]:
    (cells,) = csv.reader([line], delimiter=separator_of(line), strict=True) if line else ([],)
    return [cell.strip() for cell in cells]


def _value(cell: str) -> object:
    if not cell:
        return None
    if cell in ("true", "false", "True", "False"):
        return cell in ("true", "True")
    if _INTEGER.fullmatch(cell) and cell != "-0":
        return int(cell)
    if _DECIMAL.fullmatch(cell) and repr(float(cell)) == cell:
        return float(cell)
    return cell


def _is_of_one_row(reason: str) -> bool:
    """Tell whether the rows after one that breaks a rule can be read."""
    return "expected after" in reason


def _reason(reason: str) -> str:
    if "unexpected end of data" in reason:
        return "the file is cut off, or a quote is not closed"
    if "field larger than" in reason:
        return f"a cell of more than {LIMITS.record_bytes_max:,} bytes; is a quote not closed?"
    return f"this is not CSV, or has a quote too many, or one that is not doubled: {reason}"
