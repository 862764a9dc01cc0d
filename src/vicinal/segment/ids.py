"""From vector id to row: sorted 64-bit hashes, searched for many ids at once.

After a hash the id itself is compared in full, so ids with equal hashes are told apart.
The hash is BLAKE2b cut to 8 bytes: the same on every machine and in every process, which
Python's own is not, as the sorted hashes are stored.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Ordinals
from vicinal.segment.binary_column import BinaryColumn, gathered
from vicinal.segment.columns import Strings

Hashes = NDArray[np.uint64]

_FEW = 64  # rows whose ids are read sooner than compared
_AT_ONCE = 1_000  # Python may keep for long what many small objects take for a moment


def hashes(ids: Sequence[str]) -> Hashes:
    """Return the hash of each id, ``(n,)``."""
    hashed = np.empty(len(ids), "<u8")
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        raw = b"".join([blake2b(vector_id.encode(), digest_size=8).digest() for vector_id in part])
        hashed[start : start + len(part)] = np.frombuffer(raw, "<u8")
    return hashed


class IdTable:
    """The ids of a segment's rows, made from the arrays that `arrays` returns; an array is read
    when it is needed."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays

    @cached_property
    def ids(self) -> Strings:
        """The id of each row."""
        return Strings(BinaryColumn(self._arrays["offsets"], self._arrays["bytes"]))

    @cached_property
    def hashes(self) -> Hashes:
        """The hash of each id, ascending."""
        return self._arrays["hashes"]

    @cached_property
    def rows(self) -> NDArray[np.uint32]:
        """The row of each of `hashes`."""
        return self._arrays["rows"]

    @staticmethod
    def arrays(ids: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the arrays to store for rows with these ids."""
        return _arrays(Strings.of(ids).column, hashes(ids))

    @staticmethod
    def merged(parts: Sequence[tuple["IdTable", Ordinals]]) -> dict[str, NDArray[Any]]:
        """Return the arrays to store for the given rows of several tables, one after another."""
        unsorted = []
        for table, kept in parts:
            by_row = np.empty(len(table), np.uint64)
            by_row[table.rows] = table.hashes
            unsorted.append(by_row[kept])
        column = gathered([(table.ids.column, kept) for table, kept in parts])
        return _arrays(column, np.concatenate(unsorted))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> str:
        return self.ids[row]

    def take(self, rows: Ordinals) -> list[str]:
        """Return the ids of these rows."""
        return self.ids.take(rows)

    def with_prefix(self, rows: Ordinals, prefix: str) -> Ordinals:
        """Return those of these rows whose id begins with `prefix`."""
        offsets, text = self.ids.column.offsets, self.ids.column.data
        encoded = prefix.encode()
        starts = offsets[rows].astype(np.int64)
        is_long = offsets[rows + 1].astype(np.int64) - starts >= len(encoded)
        rows, starts = rows[is_long], starts[is_long]
        # Byte by byte, as the first few leave few rows.
        for position, byte in enumerate(encoded):
            is_same = text[starts + position] == byte
            rows, starts = rows[is_same], starts[is_same]
        return rows

    def first(self, rows: Ordinals, count: int) -> Ordinals:
        """Return those of these rows that have the `count` first ids, and maybe some more."""
        column = self.ids.column
        first: list[Ordinals] = []
        at, longest = 0, int(column.lengths(rows).max(initial=0))
        while len(rows) > max(count, _FEW) and at < longest:
            heads = column.heads(rows, at)
            bound = np.partition(heads, count - 1)[count - 1]
            is_before = heads < bound
            first.append(rows[is_before])
            count -= len(first[-1])
            rows = rows[heads == bound]
            at += 8
        return np.concatenate([*first, rows])

    def find(self, ids: Sequence[str], id_hashes: Hashes) -> Ordinals:
        """Return the row of each id, -1 where there is none; ``(len(ids),)``."""
        rows = np.full(len(ids), -1, np.int64)
        firsts = np.searchsorted(self.hashes, id_hashes)
        inside = firsts < len(self.hashes)
        inside[inside] = self.hashes[firsts[inside]] == id_hashes[inside]
        for index in np.flatnonzero(inside).tolist():
            at = int(firsts[index])
            while at < len(self.hashes) and self.hashes[at] == id_hashes[index]:
                row = int(self.rows[at])
                if self.ids[row] == ids[index]:
                    rows[index] = row
                    break
                at += 1
        return rows


def _arrays(column: BinaryColumn, unsorted: Hashes) -> dict[str, NDArray[Any]]:
    rows = np.argsort(unsorted, kind="stable").astype(np.uint32)
    return {
        "offsets": column.offsets,
        "bytes": column.data,
        "hashes": unsorted[rows],
        "rows": rows,
    }
