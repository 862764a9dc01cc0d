"""The nouns of what an index takes on a machine: its parts and their bytes.

Plain frozen data, as in `model`.
"""

from dataclasses import dataclass

MEMTABLE = "memtable"
"""The name of a memtable among the parts of an index."""


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A segment of an index, or its memtable.

    Attributes:
        name: Its name: `MEMTABLE`, or that of a segment in the engine's words.
        vector_count: Vectors in it.
        deleted_count: Rows that are deleted or replaced, and take space until it is merged.
        byte_count: Bytes of its files; of a memtable, of its values in memory.
    """

    name: str
    vector_count: int
    deleted_count: int
    byte_count: int


@dataclass(frozen=True, slots=True)
class IndexStorage:
    """The parts of an index, oldest first, and the bytes of all of its files on this machine."""

    parts: tuple[StoredPart, ...]
    byte_count: int
