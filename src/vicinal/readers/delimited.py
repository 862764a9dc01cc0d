"""CSV, with a head of column names. The separator is ``,``, tab, ``;`` or ``|``: the one that cuts
the head into the most names.

A vector is one cell (``[1, 2]``, or numbers with any of ``,; |`` or spaces between), or the cells
of many columns. A cell of metadata is text, but becomes a number, true or false where that reads
back as the same text (so 1.10 and 007 stay text), and an empty cell is a missing value.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vicinal.errors import BadFile
from vicinal.readers import columnar
from vicinal.readers.base import (
    LIMITS,
    USUAL_IDS,
    USUAL_VECTORS,
    ColumnNames,
    Position,
    RowBatch,
    as_record,
)
from vicinal.readers.collecting import METADATA, RowCollector
from vicinal.readers.opening import FileSource, PulledFile

_SEPARATORS = ",\t;|"
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,14})\.\d{1,17}")
_PART_BYTES = 1 << 20


def is_table(start: bytes, names: ColumnNames) -> bool:
    """Tell whether a text begins with a head that has the columns of vectors or texts."""
    line = start.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf")
    try:
        head = _cells(line.decode().rstrip("\r"))
    except (UnicodeDecodeError, csv.Error):
        return False
    named = {names.id, names.text, names.vector} - {None}
    if named & set(head):
        return True
    return bool({*USUAL_IDS} & set(head) and (len(head) > 1 or {*USUAL_VECTORS} & set(head)))


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
        rows = csv.reader(text, delimiter=separator, strict=True)
        kept: list[tuple[int, list[str]]] = []
        number = 0
        while True:
            line = lines + rows.line_num + 1
            try:
                cells = next(rows, None)
            except csv.Error as error:
                raise BadFile(f"line {line}: {_reason(str(error))}") from None
            if cells is None:
                break
            if not cells:
                continue
            number += 1
            if number <= start.number:
                continue
            kept.append((line, cells))
            if len(kept) == rows_max:
                yield self._batch(columns, head, kept, number)
                kept = []
        if kept:
            yield self._batch(columns, head, kept, number)

    def _batch(
        self,
        columns: columnar.TableColumns,
        head: list[str],
        kept: list[tuple[int, list[str]]],
        number: int,
    ) -> RowBatch:
        names = columnar.row_names(columns, self._names)
        rows = RowCollector(names, self._dimensions, self.unit, len(kept), is_strict=False)
        others, used = set(columns.others), set(columns.names)
        first_number = number - len(kept)
        for position, (line, cells) in enumerate(kept):
            if len(cells) != len(head):
                rule = f"the line has {len(cells)} cells, and the head {len(head)} columns"
                rows.reject(line, rule, as_record(cells))
                continue
            record: dict[str, Any] = {
                name: _value(cell) if name in others and name != METADATA else cell
                for name, cell in zip(head, cells, strict=True)
                if name in used
            }
            columnar.add_record(rows, line, record, columns, names, first_number + position)
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


def _reason(reason: str) -> str:
    if "unexpected end of data" in reason:
        return "the file is cut off, or a quote is not closed"
    if "field larger than" in reason:
        return f"a cell of more than {LIMITS.record_bytes_max:,} bytes; is a quote not closed?"
    return f"this is not CSV: {reason}"
