"""A segment on disk: a folder of component files that never change.

    values       `values` (n, d) float32 as given, `norms` (n,) float32
    ids          `offsets` `bytes` of the ids in row order; `hashes` sorted, `rows` of each
    metadata     `offsets` `bytes` of the compact JSON of each row
    namespaces   a column of strings
    codes        `codes` `offset` `scale` `slack` `scored` (ann.quantizer), if they help
    graph        `codes` `offset` `scale` `slack` `scored` `neighbours` `entries` `entry_starts`
                 `breadths` (ann.graph), in place of codes, where there are many rows
    column-G     a column; G is the number of the metadata index it belongs to
    elements-G   a column of arrays' strings, of a string index, if a row has one
    text-G       a text column, of a text index

A column is `codes` (n,) int32, `order` and `starts` uint32, and its keys: `keys`, or
`key_offsets` and `key_bytes` for strings (`columns.py`). A text column is its terms and the rows
that have them (`postings.py`). docs/format.md has the whole.

Component names are file names and the kinds written into the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vicinal.model import IndexType, MetadataIndex
from vicinal.storage.files import Seal

VALUES = "values"
IDS = "ids"
METADATA = "metadata"
NAMESPACES = "namespaces"


@dataclass(frozen=True, slots=True)
class NumberedIndex:
    """A metadata index with the number that names its columns; numbers are never reused."""

    number: int
    metadata_index: MetadataIndex


def elements_key(property_name: str) -> str:
    """Return the key of a property's elements column, beside the property's own."""
    return property_name + '"'  # which no property has in its name (`filters.parse`)


def property_of(key: str) -> str:
    """Return the property that the key of a column belongs to."""
    return key.removesuffix('"')


@dataclass(frozen=True, slots=True)
class IndexedColumn:
    """A column of a metadata index.

    Attributes:
        key: Its key in the mappings of views.
        component: The name of its component.
        index: The metadata index.
        has_elements: Whether it has the strings of arrays instead of scalars; it is stored only
            where a row has any.
    """

    key: str
    component: str
    index: MetadataIndex
    has_elements: bool = False


def columns_of(numbered: NumberedIndex) -> tuple[IndexedColumn, ...]:
    """Return the columns of a metadata index."""
    index, number = numbered.metadata_index, numbered.number
    if index.index_type is IndexType.TEXT:
        return (IndexedColumn(index.property_name, f"text-{number}", index),)
    scalars = IndexedColumn(index.property_name, f"column-{number}", index)
    if index.index_type is not IndexType.STRING:
        return (scalars,)
    key = elements_key(index.property_name)
    return scalars, IndexedColumn(key, f"elements-{number}", index, has_elements=True)


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """The manifest's record of a segment; it names every file in the folder."""

    number: int
    row_count: int
    components: Mapping[str, Seal]


def folder(segments: Path, number: int) -> Path:
    """Return a segment's folder under an index's ``segments`` folder."""
    return segments / f"{number:08d}"
