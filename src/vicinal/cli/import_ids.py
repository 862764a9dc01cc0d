"""A bounded count of ids that come more than once in an import.

A file whose column of ids is none loses vectors in silence: each replaces the one before. Of every
id 64 bits of hash are kept, in sorted runs of doubling length, so 10 million take 80 MB.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IDS_MAX = 16_000_000
"""Ours: later ids are not looked at, which takes 128 MB."""


@dataclass(frozen=True, slots=True)
class RepeatedId:
    """An id that came before; `row` is its place in the batch."""

    id: str
    row: int


class IdCounter:
    """Counts ids that came before.

    Attributes:
        repeated_count: Rows whose id came in an earlier row.
        first: The first of them, None for none.
    """

    def __init__(self) -> None:
        self.repeated_count = 0
        self.first: RepeatedId | None = None
        self._runs: list[NDArray[np.int64]] = []
        self._count = 0

    def add(self, ids: Sequence[str]) -> RepeatedId | None:
        """Count the ids of a batch; return the first repeated one if there was none before."""
        if self._count >= IDS_MAX or not ids:
            return None
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        _, first_rows = np.unique(hashes, return_index=True)
        is_repeated = np.ones(len(hashes), np.bool_)
        is_repeated[first_rows] = False
        for run in self._runs:
            places = np.searchsorted(run, hashes)
            is_repeated |= run[np.minimum(places, len(run) - 1)] == hashes
        new = np.unique(hashes[~is_repeated])
        self._count += len(new)
        if len(new):
            self._add_run(new)
        rows = np.flatnonzero(is_repeated)
        self.repeated_count += len(rows)
        if not len(rows) or self.first is not None:
            return None
        self.first = RepeatedId(ids[int(rows[0])], int(rows[0]))
        return self.first

    def _add_run(self, run: NDArray[np.int64]) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)
