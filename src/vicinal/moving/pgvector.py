"""pgvector: the tables with a column of vectors that a PostgreSQL shows by its search path.

As a source a table needs a column that is unique and never null, for ids: its primary key, else
``id``. The vectors are in ``embedding`` or ``vector``, else in the first column of them. A column
``metadata`` of JSON holds properties, and every other column is one; values that are null are left
out. ``namespace`` of text is the namespace where this program has made the table. A table is read
in one transaction, so a copy is of one moment. The metric is that of its vector index; without one
that of the note, else euclidean, as pgvector's first operator.

As a destination a table gets the columns ``id``, ``namespace``, ``embedding`` and ``metadata``, and
a comment with its note.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from vicinal.errors import IndexExists, InvalidInput
from vicinal.model import IndexConfig, IndexType, MetadataIndex, Metric, VectorBatch
from vicinal.moving.base import ExistingIndex
from vicinal.moving.foreign import (
    ForeignCollection,
    ForeignPage,
    ForeignRecord,
    checked_dimensions,
    first_of,
    homeless_columns,
    metric_of,
)
from vicinal.moving.postgresql import Connection, quoted
from vicinal.moving.writing import CollectionNote
from vicinal.wire import documents

_DENSE = ("vector", "halfvec")
_VECTORS = (*_DENSE, "sparsevec")
_USUAL = ("embedding", "vector")
_ID_TYPES = {
    **dict.fromkeys(("text", "varchar", "bpchar", "name"), "text"),
    **dict.fromkeys(("int2", "int4", "int8"), "int8"),
    "uuid": "uuid",
    "citext": "",  # which is its own order, and may be in any schema
}
"""Type of a column of ids -> the type that a cursor is compared as; empty for the column's."""

_CASTS = {
    **dict.fromkeys(("text", "varchar", "bpchar", "citext", "name", "uuid"), "text"),
    **dict.fromkeys(("int2", "int4", "int8", "bool"), ""),
    **dict.fromkeys(("float4", "float8", "numeric"), "float8"),
    **dict.fromkeys(("json", "jsonb"), "text"),
    **dict.fromkeys(("_text", "_varchar"), "text[]"),
    **dict.fromkeys(("_int2", "_int4", "_int8", "_bool"), ""),
    **dict.fromkeys(("_float4", "_float8"), "float8[]"),
}
"""Type of a column -> what it is cast to, to be read as a value of JSON; others have no home."""

_JSON = ("json", "jsonb")
_INDEX_TYPES = {
    **dict.fromkeys(("text", "varchar", "bpchar", "uuid"), IndexType.STRING),
    **dict.fromkeys(("int2", "int4", "int8", "float4", "float8", "numeric"), IndexType.NUMBER),
    "bool": IndexType.BOOLEAN,
}
_METRICS = {"cosine": Metric.COSINE, "l2": Metric.EUCLIDEAN, "ip": Metric.DOT_PRODUCT}
_NAME_BYTES_MAX = 63  # PostgreSQL's, of an identifier
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND pg_table_is_visible(c.oid)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND t.typname = ANY($1::text[]))
ORDER BY c.relname
"""
_COLUMNS = """
SELECT a.attname AS name, t.typname AS type, t.typtype = 'e' AS is_enum, a.atttypmod AS size,
       a.attnotnull AS is_full, format_type(a.atttypid, a.atttypmod) AS shown
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_INDEXES = """
SELECT a.attname AS name, i.indisprimary AS is_primary, i.indisunique AS is_unique,
       m.amname AS method, o.opcname AS operators
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
     JOIN pg_opclass o ON o.oid = i.indclass[0]
WHERE i.indrelid = to_regclass($1) AND i.indnkeyatts = 1 AND i.indpred IS NULL AND i.indisvalid
ORDER BY c.relname
"""
_COMMENT = "SELECT obj_description(to_regclass($1), 'pg_class')"


@dataclass(frozen=True, slots=True)
class _TableColumn:
    name: str
    type: str
    is_enum: bool
    size: int
    is_full: bool
    shown: str

    @property
    def cast(self) -> str | None:
        """The type to cast it to, empty for none; None where it has no home."""
        return "text" if self.is_enum else _CASTS.get(self.type)


@dataclass(frozen=True, slots=True)
class _Table:
    """A table, with the parts of its columns.

    Attributes:
        others: Columns that are properties.
        homeless: Parts of it that can be none, each the end of a sentence.
        metric: As an index of the vectors spells it, None without one.
    """

    name: str
    id: _TableColumn
    vector: _TableColumn
    others: Sequence[_TableColumn]
    homeless: Sequence[str]
    metric: str | None
    metadata_indexes: Sequence[MetadataIndex]
    note: CollectionNote | None

    def page_query(self, *, is_first: bool) -> str:
        """Return the query for a page: ``$1`` is how many rows, ``$2`` the id before them."""
        columns = [f"{quoted(self.id.name)}::text", f"{quoted(self.vector.name)}::real[]"]
        columns += [
            quoted(column.name) + (f"::{column.cast}" if column.cast else "")
            for column in self.others
        ]
        key = f"t.{quoted(self.id.name)}"  # alone it would be the text that is selected
        compared_as = _ID_TYPES[self.id.type] or self.id.shown
        after = "" if is_first else f"WHERE {key} > $2::text::{compared_as}"
        return (
            f"SELECT {', '.join(columns)} FROM {quoted(self.name)} AS t {after}"
            f" ORDER BY {key} LIMIT $1"
        )


class PgvectorClient:
    """Implements `moving.foreign.ForeignClient`.

    Args:
        dsn: Of the database; its parameter ``search_path`` chooses schemas.
    """

    def __init__(self, dsn: str) -> None:
        self._connection = Connection(dsn)
        self.label = f"pgvector:{self._connection.label}"
        self._tables: dict[str, _Table] = {}

    def names(self) -> Sequence[str]:
        """See `moving.foreign.ForeignClient`."""
        return [row[0] for row in self._connection.rows(_TABLES, list(_VECTORS))]

    def describe(self, name: str) -> ForeignCollection:
        """See `moving.foreign.ForeignClient`; begins the transaction that pages are read in."""
        self._connection.begin_snapshot()
        table = self._tables[name] = _read_table(self._connection, name)
        key, vector = quoted(table.id.name), quoted(table.vector.name)
        (counted,) = self._connection.rows(
            f"SELECT count(*), count({key}), count({vector}), max(xmin::text::bigint),"
            f" (SELECT vector_dims({vector}::vector) FROM {quoted(name)} LIMIT 1)"
            f" FROM {quoted(name)}"
        )
        count, ids, vectors, newest, first_dimensions = counted
        if ids != count or vectors != count:
            missing = table.id.name if ids != count else table.vector.name
            raise InvalidInput(f"{name!r} has rows without a value in {missing!r}")
        dimensions = table.vector.size if table.vector.size > 0 else first_dimensions
        if dimensions is None:
            raise InvalidInput(f"{name!r} is empty, so its dimensions are not known")
        note = table.note
        config = IndexConfig(checked_dimensions(dimensions, name), Metric.EUCLIDEAN)
        if note is not None and note.dimensions == dimensions:
            config = note.config
        if table.metric is not None:
            config = replace(config, metric=metric_of(table.metric, _METRICS, name))
        kept, surplus = first_of(table.metadata_indexes)
        return ForeignCollection(
            config, count, f"{count} rows, the newest of transaction {newest}", kept,
            [*table.homeless, *surplus], None if note is None else note.description,
        )  # fmt: skip

    def page(self, name: str, cursor: str | None, count: int) -> ForeignPage:
        """See `moving.foreign.ForeignClient`; a cursor is the last id of the page before."""
        table = self._tables[name]
        after = () if cursor is None else (cursor,)
        rows = self._connection.rows(table.page_query(is_first=cursor is None), count, *after)
        records = [_record(table, row) for row in rows]
        return ForeignPage(records, records[-1].id if len(rows) == count else None)

    def close(self) -> None:
        """See `moving.foreign.ForeignClient`."""
        self._connection.close()


class PgvectorWriter:
    """Implements `moving.writing.ForeignWriter`. Tables are made in the first schema of the path.

    Args:
        dsn: Of the database.
    """

    def __init__(self, dsn: str) -> None:
        self._connection = Connection(dsn)
        self.label = f"pgvector:{self._connection.label}"

    def check_name(self, name: str) -> None:
        """See `moving.writing.ForeignWriter`."""
        if len(name.encode()) > _NAME_BYTES_MAX:
            raise InvalidInput(
                f"{name!r} cannot be the name of a table, which has at most {_NAME_BYTES_MAX} bytes"
            )

    def existing(self, name: str) -> ExistingIndex | None:
        """See `moving.writing.ForeignWriter`.

        Raises:
            InvalidInput: there is such a table, and no copy has made it.
        """
        ((there,),) = self._connection.rows("SELECT to_regclass($1)::text", quoted(name))
        if there is None:
            return None
        note = _note(self._connection, name)
        if note is None:
            raise InvalidInput(
                f"table {name!r} is in {self.label} already, and was not made by a copy"
            )
        return ExistingIndex(note.id, note.dimensions, note.metric.value, self.count(name))

    def create(self, name: str, note: CollectionNote) -> None:
        """See `moving.writing.ForeignWriter`."""
        if not self._connection.rows("SELECT FROM pg_extension WHERE extname = 'vector'"):
            self._connection.execute("CREATE EXTENSION vector")
        if self._connection.rows("SELECT to_regclass($1)::text", quoted(name))[0][0] is not None:
            raise IndexExists(name)
        self._connection.execute(
            f"CREATE TABLE {quoted(name)} (id text PRIMARY KEY, namespace text NOT NULL,"
            f" embedding vector({note.dimensions}) NOT NULL, metadata jsonb);"
            f"COMMENT ON TABLE {quoted(name)} IS {_literal(note.text)}"
        )

    def delete(self, name: str) -> None:
        """See `moving.writing.ForeignWriter`."""
        self._connection.execute(f"DROP TABLE IF EXISTS {quoted(name)}")

    def upsert(self, name: str, batch: VectorBatch) -> None:
        """See `moving.writing.ForeignWriter`."""
        for row, vector_id in enumerate(batch.ids):
            texts = (vector_id, batch.namespaces[row])
            if any("\0" in text for text in texts) or _NUL.search(batch.metadata[row]):
                raise InvalidInput(
                    f"vector {vector_id!r} has the character NUL, which PostgreSQL keeps in no text"
                )
        vectors = [msgspec.json.encode(values.tolist()).decode() for values in batch.values]
        metadata = [document.decode() or None for document in batch.metadata]
        self._connection.rows(
            f"INSERT INTO {quoted(name)} (id, namespace, embedding, metadata)"
            " SELECT i, n, v::vector, m::jsonb"
            " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS r(i, n, v, m)"
            " ON CONFLICT (id) DO UPDATE SET namespace = excluded.namespace,"
            " embedding = excluded.embedding, metadata = excluded.metadata",
            list(batch.ids), list(batch.namespaces), vectors, metadata,
        )  # fmt: skip

    def create_metadata_index(self, name: str, metadata_index: MetadataIndex) -> None:
        """See `moving.writing.ForeignWriter`: one index of JSON serves all properties."""
        note = _note(self._connection, name)
        if note is None:
            raise InvalidInput(f"the comment of table {name!r} is not that of a copy any more")
        indexes = self._connection.rows(_INDEXES, quoted(name))
        if not any(row["name"] == "metadata" for row in indexes):
            self._connection.execute(
                f"CREATE INDEX ON {quoted(name)} USING gin (metadata jsonb_path_ops)"
            )
        changed = note.with_index(metadata_index)
        self._connection.execute(f"COMMENT ON TABLE {quoted(name)} IS {_literal(changed.text)}")

    def count(self, name: str) -> int:
        """See `moving.writing.ForeignWriter`."""
        ((count,),) = self._connection.rows(f"SELECT count(*) FROM {quoted(name)}")
        return int(count)

    def close(self) -> None:
        """See `moving.writing.ForeignWriter`."""
        self._connection.close()


def _read_table(connection: Connection, name: str) -> _Table:
    """Return what the columns of a table are for.

    Raises:
        InvalidInput: it has none for ids, or for vectors that an index can have.
    """
    columns = {
        row["name"]: _TableColumn(**dict(row)) for row in connection.rows(_COLUMNS, quoted(name))
    }
    indexes = connection.rows(_INDEXES, quoted(name))
    vector = _vector_column(columns, name)
    id_column = _id_column(columns, indexes, name)
    note = _note(connection, name)
    left = [column for column in columns.values() if column not in (vector, id_column)]
    others = [
        column
        for column in left
        if column.cast is not None and documents.broken_key_rule(column.name) is None
    ]
    operators = [
        row["operators"] for row in indexes
        if row["name"] == vector.name and row["operators"].startswith(vector.type)
    ]  # fmt: skip
    metrics = [name.removeprefix(f"{vector.type}_").removesuffix("_ops") for name in operators]
    return _Table(
        name, id_column, vector, others,
        homeless_columns(
            [(column.name, column.shown if column.cast is None else None) for column in left]
        ),
        metrics[0] if metrics else None,
        note.indexes if note is not None else _metadata_indexes(others, indexes),
        note,
    )  # fmt: skip


def _vector_column(columns: Mapping[str, _TableColumn], name: str) -> _TableColumn:
    dense = [column for column in columns.values() if column.type in _DENSE]
    if not dense:
        raise InvalidInput(f"{name!r} has no column of dense vectors")
    usual = [columns[usual] for usual in _USUAL if usual in columns]
    return next((column for column in usual if column in dense), dense[0])


def _id_column(
    columns: Mapping[str, _TableColumn], indexes: Sequence[Any], name: str
) -> _TableColumn:
    primary = [row["name"] for row in indexes if row["is_primary"]]
    unique = [row["name"] for row in indexes if row["is_unique"] and row["name"] == "id"]
    if not primary + unique:
        raise InvalidInput(f"{name!r} has no primary key of one column, and no unique column 'id'")
    column = columns[(primary + unique)[0]]
    if column.type not in _ID_TYPES:
        raise InvalidInput(
            f"column {column.name!r} of {name!r} is of type {column.shown}, not text, integers or "
            "UUIDs"
        )
    return column


def _metadata_indexes(
    others: Sequence[_TableColumn], indexes: Sequence[Any]
) -> Sequence[MetadataIndex]:
    indexed = {row["name"] for row in indexes if row["method"] in ("btree", "hash")}
    return [
        MetadataIndex(column.name, _INDEX_TYPES[column.type])
        for column in others
        if column.name in indexed and column.type in _INDEX_TYPES
    ]


def _note(connection: Connection, name: str) -> CollectionNote | None:
    ((comment,),) = connection.rows(_COMMENT, quoted(name))
    return CollectionNote.in_text(comment)


def _record(table: _Table, row: Any) -> ForeignRecord:
    vector_id, values, *others = row
    properties: dict[str, Any] = {}
    namespace = ""
    for column, value in zip(table.others, others, strict=True):
        if value is None:
            continue
        if column.name == "namespace" and table.note is not None:
            namespace = value
            continue
        if column.type in _JSON:
            value = _json_in(value, f"row {vector_id!r} of {table.name!r}, {column.name!r}")
        is_whole = column.name == "metadata" and isinstance(value, dict)
        members = value if is_whole else {column.name: value}
        for name in members.keys() & properties.keys():
            raise InvalidInput(
                f"row {vector_id!r} of {table.name!r} has {name!r} in a column and in 'metadata': "
                "both cannot be kept"
            )
        properties |= members
    return ForeignRecord(vector_id, values, properties, namespace)


def _json_in(text: str, location: str) -> Any:
    """Return the JSON in a column.

    Raises:
        InvalidInput: it cannot be metadata.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidInput(f"{location}: {error}") from None


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
