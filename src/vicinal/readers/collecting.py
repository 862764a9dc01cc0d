"""Rows that are collected into a batch: ids, namespaces and metadata are checked here.

All forms have the same rules: an integer id becomes its digits, a missing or null value of metadata
is left out, and a member of a record that has no meaning is refused. Numbers beyond float32 and NaN
are refused with their place.
"""

import datetime
import decimal
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vicinal import metadata
from vicinal.model import Floats, VectorBatch
from vicinal.readers.base import (
    ALL,
    LIMITS,
    USUAL_IDS,
    USUAL_NAMESPACES,
    USUAL_VECTORS,
    ColumnNames,
    NumberedPlaces,
    Position,
    RejectedRow,
    RowBatch,
    as_record,
    as_written,
    shown,
)
from vicinal.wire import members
from vicinal.wire.documents import NESTED_TOO_DEEPLY, RecordError, blob
from vicinal.wire.vectors import check_id, check_namespace

METADATA = "metadata"
"""The column, or member, that is a whole document of metadata."""


class RowCollector:
    """Collects the rows of one batch.

    Args:
        names: The meaning of columns.
        dimensions: The length that vectors must have; 0 where texts are embedded.
        unit: The unit that numbers count, like ``row``.
        count_max: The most rows.
        is_strict: Whether an unknown member is refused unless `names` says otherwise.
    """

    def __init__(
        self, names: ColumnNames, dimensions: int, unit: str, count_max: int, *, is_strict: bool
    ) -> None:
        self.values: Floats = np.empty((count_max, dimensions), np.float32)
        self._names = names
        self._dimensions = dimensions
        self._unit = unit
        self._ids: list[str] = []
        self._namespaces: list[str] = []
        self._metadata: list[bytes] = []
        self._texts: list[str] = []
        self._numbers: list[int] = []
        self._rejected: list[RejectedRow] = []
        self._left_out: dict[str, None] = {}
        default = (ALL,) if names.text is not None or not is_strict else ()
        self._kept_names = default if names.metadata is None else names.metadata

    @property
    def count(self) -> int:
        """The number of good rows, whose values are the first of `values`."""
        return len(self._ids)

    def add(self, number: int, record: Mapping[str, Any], text: bytes = b"") -> None:
        """Add a record, or reject it; `text` is what it was read from, if that is JSON."""
        vector_id = None
        try:
            vector_id = self._id(record)
            self._add_checked(number, vector_id, record)
        except RecordError as refused:
            rule, vector_id = refused.rule, refused.vector_id or vector_id
        except UnicodeEncodeError:
            rule = "a text is not UTF-8"
        else:
            return
        self.reject(number, rule, as_written(text) or as_record(record), vector_id)

    def add_row(self, number: int, vector_id: str, namespace: str, document: bytes) -> None:
        """Add a row that has been checked, whose values are in `values` already."""
        self._ids.append(vector_id)
        self._namespaces.append(namespace)
        self._metadata.append(document)
        self._numbers.append(number)

    def reject(self, number: int, rule: str, record: bytes, vector_id: str | None = None) -> None:
        """Reject a row."""
        self._rejected.append(RejectedRow(f"{self._unit} {number}", rule, record, vector_id))

    def batch(self, end: Position, fraction: float) -> RowBatch:
        """Return all rows as a batch."""
        vectors = VectorBatch(
            self._ids, self.values[: len(self._ids)], self._namespaces, self._metadata
        )
        places = NumberedPlaces(self._unit, self._numbers)
        rejected = tuple(self._rejected)
        return RowBatch(
            vectors, self._texts, places, rejected, end, min(fraction, 1.0),
            left_out=tuple(self._left_out),
        )  # fmt: skip

    def _add_checked(self, number: int, vector_id: str, record: Mapping[str, Any]) -> None:
        names = self._names
        text = None
        if names.text is None:
            vector_name = column_name(names.vector, USUAL_VECTORS, record, "vector")
            self.values[self.count] = numbers(record[vector_name], vector_name, self._dimensions)
        else:
            vector_name = column_name(names.text, (), record, "text")
            text = text_of(record[vector_name], vector_name)
        namespace_name = named(names.namespace, USUAL_NAMESPACES, record)
        namespace = self._namespace(record, namespace_name, vector_id)
        id_name = column_name(names.id, USUAL_IDS, record, "id")
        used = {id_name, vector_name, namespace_name, METADATA, *names.ignored}
        document = self._document(record, used)
        if text is not None and names.keeps_text:
            document[vector_name] = text
        self.add_row(number, vector_id, namespace, blob(document or None, vector_id, LIMITS))
        if text is not None:
            self._texts.append(text)

    def _id(self, record: Mapping[str, Any]) -> str:
        name = column_name(self._names.id, USUAL_IDS, record, "id")
        return id_of(record[name], name)

    def _namespace(self, record: Mapping[str, Any], name: str | None, vector_id: str) -> str:
        value = None if name is None else record.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise RecordError(f"{name}: expected a string or null, got {metadata.kind(value)}")
        check_namespace(value, vector_id, LIMITS)
        return value

    def _document(self, record: Mapping[str, Any], used: set[str | None]) -> dict[str, Any]:
        whole = record.get(METADATA)
        if whole is not None and not isinstance(whole, dict):
            got = metadata.kind(whole)
            raise RecordError(f"{METADATA}: expected an object or null, got {got}")
        document: dict[str, Any] = dict(whole or {})
        for name, value in record.items():
            if name in used:
                continue
            if ALL not in self._kept_names and name not in self._kept_names:
                if self._names.metadata is None:
                    raise RecordError(
                        f"unknown member {shown(name)}: `--metadata {name}` makes it metadata, "
                        f"`--ignore {name}` leaves it out"
                    )
                self._left_out[name] = None
                continue
            if value is not None:
                document[name] = value
        for name in self._kept_names:
            if name != ALL and name not in record and name not in document:
                raise RecordError(f"has no member {shown(name)}, which --metadata names")
        return document


def column_name(
    given: str | None, usual: Sequence[str], columns: Mapping[str, Any] | Sequence[str], role: str
) -> str:
    """Return the name of a column that must be there.

    Raises:
        RecordError: it is not; the rule names the columns that are.
    """
    name = named(given, usual, columns)
    if name is not None and name in columns:
        return name
    wanted = shown(given) if given is not None else shown(usual[0])
    there = ", ".join(map(shown, list(columns)[:20])) or "none"
    raise RecordError(f"has no member {wanted}; --{role} names another of: {there}")


def named(
    given: str | None, usual: Sequence[str], columns: Mapping[str, Any] | Sequence[str]
) -> str | None:
    """Return the name of a column; None if none is given and no usual one is there."""
    if given is not None:
        return given
    return next((name for name in usual if name in columns), None)


def id_of(value: object, name: str) -> str:
    """Return an id; an integer becomes its digits.

    Raises:
        RecordError: it is neither a string nor an integer, or empty or too long.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise RecordError(f"{name}: expected a string, got {metadata.kind(value)}")
    try:
        check_id(value, LIMITS)
    except UnicodeEncodeError:
        raise RecordError(f"{name}: not UTF-8") from None
    return value


def text_of(value: object, name: str) -> str:
    """Return a text to embed.

    Raises:
        RecordError: it is no string, or blank.
    """
    if not isinstance(value, str):
        raise RecordError(f"{name}: expected a string, got {metadata.kind(value)}")
    if not value.strip():
        raise RecordError(f"{name}: the text is empty")
    return value


def numbers(value: object, name: str, dimensions: int) -> Floats:
    """Return values as float32.

    Raises:
        RecordError: another length, or a value that is no finite float32.
    """
    if isinstance(value, str):
        value = numbers_in(value, name)
    try:
        exact = _exact_numbers(value)
    except members.NotANumber as error:
        raise RecordError(f"{name}{error}") from None
    if len(exact) != dimensions:
        raise RecordError(f"{name}: expected {dimensions} dimensions, and got {len(exact)}")
    with np.errstate(over="ignore"):
        row = exact.astype(np.float32)
    finite = np.isfinite(row)
    if not finite.all():
        position = int(np.argmin(finite))
        raise RecordError(f"{name}[{position}]: {exact[position]} is no finite float32")
    return row


def _exact_numbers(value: object) -> members.Numbers:
    if isinstance(value, np.ndarray) and (value.dtype.kind not in "fiu" or value.ndim != 1):
        raise members.NotANumber(None, value.tolist())
    try:
        return members.numbers(value)
    except members.NotANumber as error:
        if not isinstance(value, list) or not isinstance(error.value, _OTHER_NUMBERS):
            raise
    return members.numbers(
        [float(item) if isinstance(item, _OTHER_NUMBERS) else item for item in value]
    )


_OTHER_NUMBERS = (decimal.Decimal, np.floating)
"""Of columns of tables, beside Python's own."""


def number_in(text: str) -> float:
    """Return the number that a text is.

    Raises:
        ValueError: it is none. Python's underscores between digits are of programs alone.
    """
    if "_" in text:
        raise ValueError
    return float(text)


def numbers_in(cell: str, name: str) -> list[float]:
    """Return the numbers in a text: an array of JSON or NumPy, or separated by any of ``,; |``.

    Raises:
        RecordError: a part is no number; the rule names it.
    """
    parts = cell.strip().strip("[]()").replace(",", " ").replace(";", " ").replace("|", " ").split()
    floats: list[float] = []
    for part in parts:
        try:
            floats.append(number_in(part))
        except ValueError:
            rule = f"{name}[{len(floats)}]: {shown(part)} is no number"
            raise RecordError(rule) from None
    return floats


def plain(value: Any, name: str) -> Any:
    """Return a value of a table in the types of JSON; a NaN is a missing value.

    Raises:
        RecordError: it has no form in JSON.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isnan(value):
                return None
            if math.isinf(value):
                raise RecordError(f"{name}: {value} has no form in JSON")
            return value
        case decimal.Decimal():
            exponent = value.as_tuple().exponent
            return plain(int(value) if exponent == 0 else float(value), name)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
        case dict():
            return {str(key): plain(item, f"{name}.{key}") for key, item in value.items()}
        case list() | tuple():
            return [plain(item, f"{name}[{row}]") for row, item in enumerate(value)]
        case np.generic() | np.ndarray():
            return plain(value.tolist(), name)
    raise RecordError(f"{name}: {type(value).__name__} has no form in JSON")


def record_in(text: bytes | bytearray) -> members.Members:
    """Return the members of a record of JSON.

    Raises:
        RecordError: it is no object, or breaks a bound; the rule says how.
    """
    if len(text) > LIMITS.record_bytes_max:
        raise RecordError(f"a record of {len(text)} bytes, max is {LIMITS.record_bytes_max}")
    if len(text) > LIMITS.record_nodes_max:
        count = text.count(b"[") + text.count(b"{") + text.count(b":")
        if count > LIMITS.record_nodes_max:
            raise RecordError(
                f"a record of {count} members, arrays and objects, by their colons and brackets, "
                f"max is {LIMITS.record_nodes_max}"
            )
    record = members.quick(text, "values")
    if record is not None:
        return record
    try:
        return members.careful(text, "values", unique=True)
    except members.TooDeep:
        raise RecordError(NESTED_TOO_DEEPLY) from None
    except members.Malformed as error:
        raise RecordError(str(error)) from None
