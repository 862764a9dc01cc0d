"""From vector id to row: sorted 64-bit hashes, searched for many ids at once.

A hash only proposes; the id itself is compared in full, so colliding ids are told apart.
The hash is BLAKE2b cut to 8 bytes: the same on every machine and in every process, which
Python's own is not, as the sorted hashes are stored.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Ordinals
from vicinal.segment.columns import Strings

Hashes = NDArray[np.uint64]


def hashes(ids: Sequence[str]) -> Hashes:
    """Return the hash of each id, ``(n,)``."""
    raw = b"".join([blake2b(each.encode(), digest_size=8).digest() for each in ids])
    return np.frombuffer(raw, "<u8")


class IdTable:
    """The ids of a segment's rows, made from the arrays that `arrays` gives."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._ids = Strings(arrays["offsets"], arrays["bytes"])
        self._hashes: Hashes = arrays["hashes"]
        self._rows: NDArray[np.uint32] = arrays["rows"]

    @staticmethod
    def arrays(ids: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the arrays to store for rows with these ids."""
        offsets, data = Strings.arrays(ids)
        unsorted = hashes(ids)
        rows = np.argsort(unsorted, kind="stable").astype(np.uint32)
        return {"offsets": offsets, "bytes": data, "hashes": unsorted[rows], "rows": rows}

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> str:
        return self._ids[row]

    def find(self, ids: Sequence[str], id_hashes: Hashes) -> Ordinals:
        """Return the row of each id, -1 where there is none; ``(len(ids),)``."""
        found = np.full(len(ids), -1, np.int64)
        firsts = np.searchsorted(self._hashes, id_hashes)
        inside = firsts < len(self._hashes)
        inside[inside] = self._hashes[firsts[inside]] == id_hashes[inside]
        for place in np.flatnonzero(inside).tolist():
            at = int(firsts[place])
            while at < len(self._hashes) and self._hashes[at] == id_hashes[place]:
                row = int(self._rows[at])
                if self._ids[row] == ids[place]:
                    found[place] = row
                    break
                at += 1
        return found
