"""LanceDB as a source: a folder, or a URL that its client takes.

A table needs a column ``id`` of text or integers and a column of vectors; of several the one called
``vector`` is taken, else the first. All other columns are the metadata, those without a value left
out. A table is read at one version, so a copy is of one moment; the metric is that of its vector
index, euclidean without one.
"""

from collections.abc import Sequence
from typing import Any

from vicinal.errors import InvalidInput
from vicinal.model import IndexConfig, IndexType, MetadataIndex, Metric
from vicinal.moving.foreign import (
    ForeignCollection,
    ForeignPage,
    ForeignRecord,
    checked_dimensions,
    first_of,
    import_client,
    metric_of,
)

_METRICS = {"cosine": Metric.COSINE, "l2": Metric.EUCLIDEAN, "dot": Metric.DOT_PRODUCT}
_ID = "id"
_PAGE_NAMES = 100


class LanceClient:
    """Implements `moving.foreign.ForeignClient`.

    Args:
        location: As the client takes it.
        key: For LanceDB's own service.
    """

    def __init__(self, location: str, key: str) -> None:
        module = import_client("lancedb", "lancedb")
        import_client("pyarrow", "lancedb")
        self.label = f"lancedb:{location}"
        options = {"api_key": key} if location.startswith("db://") else {}
        self._database = module.connect(location, **options)
        self._tables: dict[str, Any] = {}

    def names(self) -> Sequence[str]:
        """See `moving.foreign.ForeignClient`."""
        names: list[str] = []
        token: str | None = None
        while True:
            page = self._database.list_tables(page_token=token, limit=_PAGE_NAMES)
            names += page.tables
            token = page.page_token
            if not token:
                return names

    def describe(self, name: str) -> ForeignCollection:
        """See `moving.foreign.ForeignClient`."""
        table = self._table(name)
        vector, others = _vector_column(table.schema, name)
        _check_id(table.schema, name)
        metric, metadata_indexes = self._indexes(table, vector, name)
        kept, surplus = first_of(metadata_indexes)
        homeless = [f"vector column {other!r}" for other in others]
        homeless += [
            f"column {field.name!r} of type {field.type}"
            for field in table.schema
            if field.name not in (_ID, vector, *others) and not _is_json(field.type)
        ]
        dimensions = table.schema.field(vector).type.list_size
        return ForeignCollection(
            IndexConfig(checked_dimensions(dimensions, name), metric),
            table.count_rows(),
            f"version {table.version}",
            kept,
            homeless + surplus,
        )

    def page(self, name: str, cursor: str | None, count: int) -> ForeignPage:
        """See `moving.foreign.ForeignClient`; a cursor is an offset."""
        table = self._table(name)
        vector, others = _vector_column(table.schema, name)
        offset = int(cursor or 0)
        rows = table.search().offset(offset).limit(count).to_arrow()
        properties = [
            field.name
            for field in rows.schema
            if field.name not in (_ID, vector, *others) and _is_json(field.type)
        ]
        values = rows.column(vector).combine_chunks()
        if values.null_count:
            raise InvalidInput(f"{name!r} has rows without a vector")
        matrix = values.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
        ids = rows.column(_ID).to_pylist()
        documents = rows.select(properties).to_pylist()
        records = [
            ForeignRecord(
                str(ids[row]),
                matrix[row],
                {key: value for key, value in documents[row].items() if value is not None},
            )
            for row in range(len(rows))
        ]
        return ForeignPage(records, str(offset + len(rows)) if len(rows) == count else None)

    def close(self) -> None:
        """See `moving.foreign.ForeignClient`."""
        self._tables.clear()

    def _table(self, name: str) -> Any:
        """Return a table, held at the version that it had when it was first asked for."""
        if name not in self._tables:
            table = self._database.open_table(name)
            table.checkout(table.version)
            self._tables[name] = table
        return self._tables[name]

    def _indexes(self, table: Any, vector: str, name: str) -> tuple[Metric, list[MetadataIndex]]:
        metric = Metric.EUCLIDEAN
        metadata_indexes: list[MetadataIndex] = []
        for index in table.list_indices():
            (column, *_) = index.columns
            if column == vector:
                spelling = str(table.index_stats(index.name).distance_type or "l2")
                metric = metric_of(spelling, _METRICS, name)
            else:
                index_type = _index_type(table.schema.field(column).type)
                if index_type is not None:
                    metadata_indexes.append(MetadataIndex(column, index_type))
        return metric, metadata_indexes


def _vector_column(schema: Any, name: str) -> tuple[str, list[str]]:
    """Return the column of vectors, and the other columns of vectors."""
    types = import_client("pyarrow", "lancedb").types
    columns = [
        field.name
        for field in schema
        if types.is_fixed_size_list(field.type) and types.is_floating(field.type.value_type)
    ]
    if not columns:
        raise InvalidInput(f"{name!r} has no column of vectors of one length")
    chosen = "vector" if "vector" in columns else columns[0]
    return chosen, [column for column in columns if column != chosen]


def _check_id(schema: Any, name: str) -> None:
    types = import_client("pyarrow", "lancedb").types
    if _ID not in schema.names:
        raise InvalidInput(f"{name!r} has no column {_ID!r}")
    kind = schema.field(_ID).type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
        raise InvalidInput(f"column {_ID!r} of {name!r} is of type {kind}, not text or integers")


def _index_type(kind: Any) -> IndexType | None:
    types = import_client("pyarrow", "lancedb").types
    if types.is_string(kind) or types.is_large_string(kind):
        return IndexType.STRING
    if types.is_boolean(kind):
        return IndexType.BOOLEAN
    return IndexType.NUMBER if types.is_integer(kind) or types.is_floating(kind) else None


def _is_json(kind: Any) -> bool:
    """Tell whether values of a type are JSON: scalars, and lists and structs of them."""
    types = import_client("pyarrow", "lancedb").types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_json(kind.value_type)
    if types.is_struct(kind):
        return all(_is_json(kind.field(number).type) for number in range(kind.num_fields))
    return _index_type(kind) is not None or types.is_null(kind)
