"""Columns to rows: for tables, whose values come many at a time.

Ids and values are checked as arrays, and row by row only where something is wrong, or where rows
have metadata.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import BadFile
from vicinal.model import Floats, VectorBatch
from vicinal.readers.base import (
    ALL,
    USUAL_IDS,
    USUAL_NAMESPACES,
    USUAL_VECTORS,
    ColumnNames,
    NumberedPlaces,
    Position,
    RowBatch,
    as_record,
    shown,
)
from vicinal.readers.collecting import (
    METADATA,
    RowCollector,
    column_name,
    named,
    number_in,
    plain,
    record_in,
)
from vicinal.wire.documents import RecordError

ROW_NUMBER = "@row"
"""Of `ColumnNames.id`: ids are the numbers of rows, from 0."""

UNIT = "row"


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns that play a part in a table.

    Attributes:
        id: None where ids are numbers of rows.
        vector: One column, or as many as a vector has numbers; none for texts.
        text: The text to embed; None where there are vectors.
        others: Columns that become metadata.
        left_out: Columns that nobody named, neither to be kept nor to be ignored.
    """

    id: str | None
    vector: tuple[str, ...]
    namespace: str | None
    text: str | None
    others: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        first = (self.id, *self.vector, self.namespace, self.text, *self.others)
        return list(dict.fromkeys(name for name in first if name is not None))


def table_columns(there: Sequence[str], names: ColumnNames) -> TableColumns:
    """Find the columns of a table.

    Raises:
        BadFile: one is missing, or named twice; the message lists those that are there.
    """
    repeated = sorted({name for name in there if there.count(name) > 1})
    if repeated:
        raise BadFile(f"two columns have the name {shown(repeated[0])}")
    try:
        vector_id = None
        if names.id != ROW_NUMBER:
            vector_id = column_name(names.id, USUAL_IDS, there, "id")
        vector: tuple[str, ...] = ()
        text = None
        if names.text is not None:
            text = column_name(names.text, (), there, "text")
        elif names.vector is not None and ALL in names.vector:
            vector = names_like(names.vector, there)
            if not vector:
                raise RecordError(f"has no column like {shown(names.vector)}")
        else:
            vector = (column_name(names.vector, USUAL_VECTORS, there, "vector"),)
        namespace = named(names.namespace, USUAL_NAMESPACES, there)
        if namespace is not None:
            namespace = column_name(namespace, (), there, "namespace")
        kept = (ALL,) if names.metadata is None else names.metadata
        for name in kept:
            if name != ALL:
                column_name(name, (), there, "metadata")
    except RecordError as missing:
        hint = ", or @row for numbers" if "--id" in missing.rule else ""
        raise BadFile(missing.rule.replace("has no member", "it has no column") + hint) from None
    used = {vector_id, *vector, namespace, text, *names.ignored}
    others = tuple(name for name in there if name not in used and (ALL in kept or name in kept))
    left_out = tuple(name for name in there if name not in used and name not in others)
    return TableColumns(vector_id, vector, namespace, text, others, left_out)


def names_like(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a pattern with one ``*`` stands for, in their order."""
    before, _, after = pattern.partition(ALL)
    return tuple(
        name
        for name in names
        if name.startswith(before)
        and name.endswith(after)
        and len(name) >= len(before) + len(after)
    )


def batch_of(
    columns: TableColumns,
    data: Mapping[str, Any],
    count: int,
    names: ColumnNames,
    dimensions: int,
    start: int,
    fraction: float,
) -> RowBatch:
    """Return `count` rows as a batch.

    Args:
        columns: The columns, whose `names` are in `data`.
        data: A list of Python's values, or an array, for every column.
        count: The number of rows.
        names: As the person has named columns.
        dimensions: The length of every vector; 0 for texts.
        start: The number of rows before.
        fraction: How much of the file has been read.
    """
    end = Position(0, start + count)
    ids = _ids(columns, data, count, start)
    values = _values(columns, data, dimensions)
    if values is not None and ids is not None and not columns.others and columns.namespace is None:
        finite = np.isfinite(values)
        if finite.all():
            places = NumberedPlaces(UNIT, range(start + 1, start + count + 1))
            batch = VectorBatch(ids, values, [""] * count, [b""] * count)
            return RowBatch(batch, (), places, (), end, fraction, left_out=columns.left_out)
    rows = _row_by_row(columns, data, count, names, dimensions, start)
    return replace(rows.batch(end, fraction), left_out=columns.left_out)


def _ids(
    columns: TableColumns, data: Mapping[str, Any], count: int, start: int
) -> list[str] | None:
    """Return ids that surely are good; None where they have to be looked at one by one."""
    if columns.id is None:
        return [str(number) for number in range(start, start + count)]
    column = data[columns.id]
    ids = column.tolist() if isinstance(column, np.ndarray) else column
    types = set(map(type, ids))
    if types == {int}:
        return list(map(str, ids))
    if types != {str} or not all(ids) or max(map(len, ids)) > 100:
        return None
    return ids if "".join(ids).isascii() else None


def _values(columns: TableColumns, data: Mapping[str, Any], dimensions: int) -> Floats | None:
    """Return the values of all rows as one array; None where rows differ."""
    if len(columns.vector) != 1:
        return None
    column = data[columns.vector[0]]
    if not isinstance(column, np.ndarray) or column.ndim != 2 or column.shape[1] != dimensions:
        return None
    if column.dtype.kind not in "fiu":
        return None
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(column, np.float32)


def _row_by_row(
    columns: TableColumns,
    data: Mapping[str, Any],
    count: int,
    names: ColumnNames,
    dimensions: int,
    start: int,
) -> RowCollector:
    names = row_names(columns, names)
    rows = RowCollector(names, dimensions, UNIT, count, is_strict=False)
    lists = {
        name: data[name] if isinstance(data[name], list) else _listed(data[name])
        for name in columns.names
    }
    for row in range(count):
        record = {name: column[row] for name, column in lists.items()}
        add_record(rows, start + row + 1, record, columns, names, start + row)
    return rows


def row_names(columns: TableColumns, names: ColumnNames) -> ColumnNames:
    """Return the meaning of the members of records that `add_record` adds."""
    vector = columns.vector[0] if len(columns.vector) == 1 else names.vector
    return replace(
        names,
        id=columns.id or ROW_NUMBER,
        vector=vector if columns.vector else None,
        namespace=columns.namespace,
        metadata=columns.others,
        ignored=(),
        text=columns.text,
    )


def add_record(
    rows: RowCollector,
    number: int,
    record: dict[str, Any],
    columns: TableColumns,
    names: ColumnNames,
    row: int,
) -> None:
    """Add a row of a table, with values as Python has them, or reject it.

    `names` are `row_names`, and `row` is the number of rows before.
    """
    try:
        if len(columns.vector) > 1:
            record[names.vector or ""] = [
                _number(record.pop(name), name) for name in columns.vector
            ]
        for name in (*columns.others, columns.id, columns.namespace):
            if name is not None:
                record[name] = plain(record[name], name)
        if columns.namespace is not None and record[columns.namespace] == "":
            record[columns.namespace] = None
        if columns.id is None:
            record[ROW_NUMBER] = str(row)
        document = record.get(METADATA)
        if METADATA in columns.others and isinstance(document, str):
            record[METADATA] = _document_in(document)
    except RecordError as refused:
        rows.reject(number, refused.rule, as_record(record))
        return
    rows.add(number, record)


def _number(value: object, name: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return number_in(value)
    except ValueError:
        raise RecordError(f"{name}: {shown(value)} is no number") from None


def _listed(column: NDArray[Any]) -> Sequence[Any]:
    """Return an array as rows: of numbers for vectors, of Python's values else."""
    if column.ndim == 2:
        return list(column)
    if column.dtype.kind == "M" and np.datetime_data(column.dtype)[0] in _FINE_UNITS:
        return _fine_times(column)
    if column.dtype.kind == "m":  # which has no form in JSON, and is no number either
        column = column.astype("m8[us]")
    values: list[Any] = column.tolist()
    return values


_FINE_UNITS = ("ns", "ps", "fs", "as")
"""Units of time that Python has no type for."""


def _fine_times(column: NDArray[Any]) -> Sequence[Any]:
    """Return times as Python has them where that is exact, else as text."""
    rounded = column.astype("M8[us]")
    texts = np.datetime_as_string(column).tolist()
    return [
        time if is_exact or time is None else text
        for time, is_exact, text in zip(
            rounded.tolist(), (rounded == column).tolist(), texts, strict=True
        )
    ]


def _document_in(text: str) -> object:
    if not text.strip():
        return None
    try:
        return record_in(text.encode())
    except RecordError as refused:
        raise RecordError(f"{METADATA}: {refused.rule}") from None
