"""The growing columns of metadata indexes: how they begin, and how rows' metadata extends them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vicinal import metadata
from vicinal.filters.nodes import Scalar
from vicinal.model import IndexType, MetadataIndex
from vicinal.segment import format as layout
from vicinal.segment.columns import GrowingColumn
from vicinal.segment.postings import GrowingTextColumn

AnyGrowing = GrowingColumn | GrowingTextColumn


def keys_of(metadata_index: MetadataIndex) -> tuple[str, ...]:
    """Return the keys of the columns of an index."""
    name = metadata_index.property_name
    if metadata_index.index_type is not IndexType.STRING:
        return (name,)
    return name, layout.elements_key(name)


def begun(metadata_index: MetadataIndex, row_count: int) -> dict[str, AnyGrowing]:
    """Return columns of an index that is younger than `row_count` rows, which lack a value."""
    if metadata_index.index_type is IndexType.TEXT:
        texts = GrowingTextColumn(metadata_index.language, row_count)
        return {metadata_index.property_name: texts}
    index_type = metadata_index.index_type
    return {key: GrowingColumn(index_type, row_count) for key in keys_of(metadata_index)}


def extend(
    columns: Mapping[str, AnyGrowing], encoded: Sequence[bytes], *, string_bytes_max: int
) -> None:
    """Append rows to columns of any indexes, by their metadata as JSON, ``b""`` for none."""
    documents = [metadata.decode(document) for document in encoded]
    has_arrays = any(b"[" in document for document in encoded)
    for key, column in columns.items():
        name = layout.property_of(key)
        if isinstance(column, GrowingTextColumn):
            column.extend(metadata.texts(document, name) for document in documents)
        elif name != key and not has_arrays:
            column.extend_lacking(len(documents))
        else:
            index = MetadataIndex(name, column.index_type)
            column.extend(_indexed(key, index, documents, string_bytes_max))


class BackfilledColumns:
    """Columns of an index that has all rows of a memtable; one thread extends them.

    Attributes:
        columns: By key.
        row_count: How many rows they have, the first ones.
    """

    def __init__(self, metadata_index: MetadataIndex, *, string_bytes_max: int) -> None:
        self.columns = begun(metadata_index, 0)
        self.row_count = 0
        self._string_bytes_max = string_bytes_max

    def extend(self, encoded: Sequence[bytes]) -> None:
        """Append the next rows, by their metadata."""
        extend(self.columns, encoded, string_bytes_max=self._string_bytes_max)
        self.row_count += len(encoded)


def _indexed(
    key: str,
    metadata_index: MetadataIndex,
    documents: Iterable[dict[str, Any]],
    string_bytes_max: int,
) -> Iterator[Scalar | None]:
    name = metadata_index.property_name
    if key != name:
        for document in documents:
            yield metadata.indexed_elements(document, name, string_bytes_max=string_bytes_max)
        return
    for document in documents:
        yield metadata.indexed_value(document, metadata_index, string_bytes_max=string_bytes_max)
