"""A segment on disk: a folder of component files that never change.

    values       `values` (n, d) float32 as given, `norms` (n,) float32
    ids          `offsets` `bytes` of the ids in row order; `hashes` sorted, `rows` of each
    metadata     `offsets` `bytes` of the compact JSON of each row
    namespaces   a column of strings
    codes        `codes` `offset` `scale` `slack` `scored` (ann.quantizer), if they help
    column-G     a column; G is the number of the metadata index it belongs to

A column is `codes` (n,) int32, `order` and `starts` uint32, and its keys: `keys`, or
`key_offsets` and `key_bytes` for strings (`columns.py`). docs/format.md has the whole.

Component names are file names and the kinds written into the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vicinal.model import MetadataIndex
from vicinal.storage.files import Seal

VALUES = "values"
IDS = "ids"
METADATA = "metadata"
NAMESPACES = "namespaces"


def column_name(number: int) -> str:
    """Return the name of the component that holds the column of a metadata index."""
    return f"column-{number}"


@dataclass(frozen=True, slots=True)
class NumberedIndex:
    """A metadata index with the number that names its columns; numbers are never reused."""

    number: int
    metadata_index: MetadataIndex


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """The manifest's record of a segment; it names every file in the folder."""

    number: int
    row_count: int
    components: Mapping[str, Seal]


def folder(segments: Path, number: int) -> Path:
    """Return a segment's folder under an index's ``segments`` folder."""
    return segments / f"{number:08d}"
