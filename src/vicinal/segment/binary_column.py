"""A binary column: many byte strings in two arrays, their offsets and their bytes.

Gathering rows touches no byte string by itself: merging a million takes a few calls of NumPy,
which hold up no query.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Ordinals

Offsets = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

CHUNK_BYTES = 4 << 20  # gathered at a time; their positions take eight times as much


@dataclass(frozen=True, slots=True)
class BinaryColumn:
    """Byte strings; the k-th is ``data[offsets[k]:offsets[k + 1]]``.

    `offsets` is ``(n + 1,)`` uint64, `data` uint8; both may be memory-mapped.
    """

    offsets: Offsets
    data: Bytes

    @classmethod
    def of(cls, values: Iterable[bytes]) -> "BinaryColumn":
        """Lay byte strings out, one at a time."""
        ends, data = array("Q", [0]), bytearray()
        for value in values:
            data += value
            ends.append(len(data))
        return cls(np.frombuffer(ends, np.uint64), np.frombuffer(data, np.uint8))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def take(self, rows: Ordinals) -> list[bytes]:
        """Return the byte strings of these rows."""
        starts, ends = self.offsets.take(rows).tolist(), self.offsets.take(rows + 1).tolist()
        data = self.data.data
        return [bytes(data[start:end]) for start, end in zip(starts, ends, strict=True)]

    def lengths(self, rows: Ordinals) -> NDArray[np.int64]:
        """Return the lengths of these rows in bytes."""
        return (self.offsets[rows + 1] - self.offsets[rows]).astype(np.int64)

    def heads(self, rows: Ordinals, at: int = 0) -> NDArray[np.uint64]:
        """Return eight bytes of each of these rows, from byte `at` on, as a number that sorts as
        they do; bytes beyond a row's end count as 0."""
        if not len(self.data):
            return np.zeros(len(rows), np.uint64)
        starts = self.offsets[rows].astype(np.int64)[:, np.newaxis] + at
        positions = starts + np.arange(8)
        inside = positions < self.offsets[rows + 1].astype(np.int64)[:, np.newaxis]
        taken = self.data[np.minimum(positions, len(self.data) - 1)]
        return np.where(inside, taken, np.uint8(0)).view(">u8")[:, 0].astype(np.uint64)

    def chunks(self, rows: Ordinals) -> Iterator[Bytes]:
        """Yield the bytes of these rows one after another, `CHUNK_BYTES` at a time.

        A row longer than a chunk makes a chunk of its own.
        """
        starts = self.offsets[rows].astype(np.int64)
        lengths = self.lengths(rows)
        ends = np.cumsum(lengths)
        first = 0
        while first < len(rows):
            done = int(ends[first - 1]) if first else 0
            last = max(int(np.searchsorted(ends, done + CHUNK_BYTES, side="right")), first + 1)
            counts = lengths[first:last]
            # A byte's position: the start of its row, and the offset in the row.
            into = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            yield self.data[np.repeat(starts[first:last], counts) + into]
            first = last


def gathered_offsets(parts: Sequence[tuple[BinaryColumn, Ordinals]]) -> Offsets:
    """Return the offsets of the rows of several columns, one after another."""
    lengths = [np.zeros(1, np.int64), *(column.lengths(rows) for column, rows in parts)]
    return np.cumsum(np.concatenate(lengths)).astype(np.uint64)


def gathered(parts: Sequence[tuple[BinaryColumn, Ordinals]]) -> BinaryColumn:
    """Return the rows of several columns as one, one after another."""
    chunks = [chunk for column, rows in parts for chunk in column.chunks(rows)]
    return BinaryColumn(gathered_offsets(parts), np.concatenate([np.empty(0, np.uint8), *chunks]))
