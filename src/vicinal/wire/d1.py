"""The JSON of SQL databases: statements in, rows out, as arrays or as objects.

Blobs are arrays of numbers, as in D1. Infinity has no JSON and becomes null, as everywhere.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from vicinal.d1 import DatabaseInfo
from vicinal.d1.messages import Statement, StatementResult, Value
from vicinal.errors import BadBody
from vicinal.wire.members import Text
from vicinal.wire.responses import timestamp

_encode = msgspec.json.Encoder().encode
_BLOB_PART = 65_536

_FAILED = "Failed to parse the request body as JSON: "

_Parameter = bool | int | float | str | None


class _Statement(msgspec.Struct):
    sql: str
    params: list[_Parameter] | None = None


class StatementsRequest(msgspec.Struct):
    """SQL to run: one text, which may hold several statements, or a batch of them."""

    sql: str | None = None
    params: list[_Parameter] | None = None
    batch: list[_Statement] | None = None


class MetaSchema(msgspec.Struct):
    """The effect of a statement; rows read are not counted."""

    duration: float
    changes: int
    last_row_id: int
    changed_db: bool
    size_after: int
    rows_written: int
    served_by: Literal["vicinal"] = "vicinal"


class RowsSchema(msgspec.Struct):
    """Rows as arrays, with one list of the names of their columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class RawResultSchema(msgspec.Struct):
    """The result of a statement, rows as arrays."""

    results: RowsSchema
    meta: MetaSchema
    success: Literal[True] = True


class ObjectsResultSchema(msgspec.Struct):
    """The result of a statement, rows as objects."""

    results: list[dict[str, Any]]
    meta: MetaSchema
    success: Literal[True] = True


class DatabaseSchema(msgspec.Struct, frozen=True):
    """A database of the list; its name is its id, as no call creates it."""

    uuid: str
    name: str
    created_at: str
    file_size: int
    version: Literal["production"] = "production"


def statements(body: Text) -> list[Statement]:
    """Read the statements of a call.

    Raises:
        BadBody: the body is not of this shape.
    """
    try:
        request = msgspec.json.decode(body, type=StatementsRequest)
    except UnicodeDecodeError as error:
        raise BadBody(f"{_FAILED}not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise BadBody(f"{_FAILED}nested too deeply") from None
    except msgspec.DecodeError as error:
        raise BadBody(f"{_FAILED}{error}") from None
    if (request.sql is None) == (request.batch is None):
        raise BadBody(f"{_FAILED}expected one of sql and batch")
    if request.batch is not None:
        return [Statement(item.sql, item.params or ()) for item in request.batch]
    assert request.sql is not None
    return [Statement(request.sql, request.params or ())]


def raw(results: Sequence[StatementResult]) -> bytes:
    """Write results with their rows as arrays."""
    return _encode(
        [
            RawResultSchema(RowsSchema(result.columns, _rows(result)), _meta(result))
            for result in results
        ]
    )


def objects(results: Sequence[StatementResult]) -> bytes:
    """Write results with their rows as objects; of columns of one name, the last counts."""
    return _encode(
        [
            ObjectsResultSchema(
                [dict(zip(result.columns, row, strict=True)) for row in _rows(result)],
                _meta(result),
            )
            for result in results
        ]
    )


def database(info: DatabaseInfo) -> bytes:
    """Write one database."""
    return _encode(_database(info))


def databases(infos: Sequence[DatabaseInfo]) -> bytes:
    """Write databases."""
    return _encode([_database(info) for info in infos])


def _database(info: DatabaseInfo) -> DatabaseSchema:
    return DatabaseSchema(info.id, info.id, timestamp(info.created_at), info.file_bytes)


def _rows(result: StatementResult) -> Sequence[Sequence[Any]]:
    return [_shown(row) if bytes in map(type, row) else row for row in result.rows]


def _shown(row: Sequence[Value]) -> list[Any]:
    return [_numbers(value) if isinstance(value, bytes) else value for value in row]


def _numbers(blob: bytes) -> msgspec.Raw:
    """Write a blob as an array of numbers.

    A single list would take eight bytes for each byte of megabytes of blobs.
    """
    parts = (blob[start : start + _BLOB_PART] for start in range(0, len(blob), _BLOB_PART))
    return msgspec.Raw(b"[%b]" % b",".join([_encode(list(part))[1:-1] for part in parts]))


def _meta(result: StatementResult) -> MetaSchema:
    return MetaSchema(
        duration=result.seconds * 1000,
        changes=result.changes,
        last_row_id=result.last_row_id,
        changed_db=result.changes > 0,
        size_after=result.file_bytes,
        rows_written=result.changes,
    )
