"""LanceDB: a folder, or a URL that its client takes.

A table needs a column ``id`` of text or integers and a column of vectors; of several the one called
``vector`` is taken, else the first. All other columns are the metadata, those without a value left
out. A table is read at one version, so a copy is of one moment; the metric is that of its vector
index, euclidean without one.

As a destination it gets a table with the columns ``id``, ``vector``, ``namespace`` and
``metadata``, which is JSON as text, as the columns of a table are fixed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vicinal.errors import InvalidInput
from vicinal.model import IndexConfig, IndexType, MetadataIndex, Metric, VectorBatch
from vicinal.moving.base import ExistingIndex
from vicinal.moving.foreign import (
    ForeignCollection,
    ForeignPage,
    ForeignRecord,
    checked_dimensions,
    first_of,
    homeless_columns,
    import_client,
    metric_of,
    without_secret,
)
from vicinal.moving.writing import NOTE, CollectionNote, document_of
from vicinal.wire.documents import broken_key_rule

_METRICS = {"cosine": Metric.COSINE, "l2": Metric.EUCLIDEAN, "dot": Metric.DOT_PRODUCT}
_ID = "id"
_PAGE_NAMES = 100


class LanceClient:
    """Implements `moving.foreign.ForeignClient` and `moving.writing.ForeignWriter`.

    Args:
        location: As the client takes it.
        key: For LanceDB's own service.
    """

    def __init__(self, location: str, key: str) -> None:
        module = import_client("lancedb", "lancedb")
        import_client("pyarrow", "lancedb")
        self.label = f"lancedb:{without_secret(location)}"
        options = {"api_key": key} if location.startswith("db://") else {}
        self._database = module.connect(location, **options)
        self._tables: dict[str, Any] = {}
        self._written: dict[str, Any] = {}

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
        homeless += homeless_columns(
            [
                (field.name, None if _is_json(field.type) else str(field.type))
                for field in table.schema
                if field.name not in (_ID, vector, *others)
            ]
        )
        dimensions = table.schema.field(vector).type.list_size
        note = _note(table)
        config = IndexConfig(checked_dimensions(dimensions, name), Metric.EUCLIDEAN)
        if note is not None:
            config = note.config
        if metric is not None:
            config = replace(config, metric=metric)
        return ForeignCollection(
            config,
            table.count_rows(),
            f"version {table.version}",
            kept,
            homeless + surplus,
            None if note is None else note.description,
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
            if field.name not in (_ID, vector, *others)
            and _is_json(field.type)
            and broken_key_rule(field.name) is None
        ]
        values = rows.column(vector).combine_chunks()
        if values.null_count:
            raise InvalidInput(f"{name!r} has rows without a vector")
        matrix = values.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
        ids = rows.column(_ID).to_pylist()
        documents = rows.select(properties).to_pylist()
        is_ours = _note(table) is not None
        records: list[ForeignRecord] = []
        for row, document in enumerate(documents):
            present = {key: value for key, value in document.items() if value is not None}
            namespace = ""
            if is_ours:
                namespace = present["namespace"]
                present = document_of(present.get("metadata", "").encode())
            records.append(ForeignRecord(str(ids[row]), matrix[row], present, namespace))
        return ForeignPage(records, str(offset + len(rows)) if len(rows) == count else None)

    def check_name(self, name: str) -> None:
        """See `moving.writing.ForeignWriter`: all names of indexes will do."""

    def existing(self, name: str) -> ExistingIndex | None:
        """See `moving.writing.ForeignWriter`.

        Raises:
            InvalidInput: there is such a table, and no copy has made it.
        """
        if name not in self.names():
            return None
        note = _note(self._writable(name))
        if note is None:
            raise InvalidInput(
                f"table {name!r} is in {self.label} already, and was not made by a copy"
            )
        return ExistingIndex(note.id, note.dimensions, note.metric.value, self.count(name))

    def create(self, name: str, note: CollectionNote) -> None:
        """See `moving.writing.ForeignWriter`."""
        self._database.create_table(name, schema=self._schema(note.dimensions, note))

    def delete(self, name: str) -> None:
        """See `moving.writing.ForeignWriter`."""
        self._written.pop(name, None)
        self._database.drop_table(name)

    def upsert(self, name: str, batch: VectorBatch) -> None:
        """See `moving.writing.ForeignWriter`."""
        arrow = import_client("pyarrow", "lancedb")
        dimensions = batch.values.shape[1]
        columns = [
            arrow.array(list(batch.ids), arrow.string()),
            arrow.FixedSizeListArray.from_arrays(arrow.array(batch.values.reshape(-1)), dimensions),
            arrow.array(list(batch.namespaces), arrow.string()),
            arrow.array([metadata.decode() for metadata in batch.metadata], arrow.string()),
        ]
        rows = arrow.table(columns, schema=self._schema(dimensions, None))
        merge = self._writable(name).merge_insert(_ID)
        merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def create_metadata_index(self, name: str, metadata_index: MetadataIndex) -> None:
        """See `moving.writing.ForeignWriter`: a column of JSON has no index of a property."""

    def count(self, name: str) -> int:
        """See `moving.writing.ForeignWriter`."""
        return int(self._writable(name).count_rows())

    def close(self) -> None:
        """See `moving.foreign.ForeignClient`."""
        self._tables.clear()
        self._written.clear()

    def _schema(self, dimensions: int, note: CollectionNote | None) -> Any:
        arrow = import_client("pyarrow", "lancedb")
        fields = [
            arrow.field(_ID, arrow.string()),
            arrow.field("vector", arrow.list_(arrow.float32(), dimensions)),
            arrow.field("namespace", arrow.string()),
            arrow.field("metadata", arrow.string()),
        ]
        return arrow.schema(fields, metadata=None if note is None else {NOTE: note.text})

    def _writable(self, name: str) -> Any:
        """Return a table at its newest version."""
        if name not in self._written:
            self._written[name] = self._database.open_table(name)
        return self._written[name]

    def _table(self, name: str) -> Any:
        """Return a table, held at the version that it had when it was first asked for."""
        if name not in self._tables:
            table = self._database.open_table(name)
            table.checkout(table.version)
            self._tables[name] = table
        return self._tables[name]

    def _indexes(
        self, table: Any, vector: str, name: str
    ) -> tuple[Metric | None, list[MetadataIndex]]:
        metric = None
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


def _note(table: Any) -> CollectionNote | None:
    text = (table.schema.metadata or {}).get(NOTE.encode())
    return CollectionNote.in_text(None if text is None else text.decode(errors="replace"))


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
