"""A batch in memory, made row by row: the default for the values of a body's records."""

from collections.abc import Sequence

import numpy as np

from vicinal.model import Floats, VectorBatch

_EMPTY_RECORD_BYTES = len(b'{"id":"a","values":[]}')
_FEW = 16


class MemoryBatchWriter:
    """A writer of a batch in memory; implements `model.BatchWriter`.

    Args:
        dimensions: Length of a row.
        text_bytes: Length of the text of all records, 0 if unknown.
        count_max: Bound on the number of rows.
    """

    def __init__(self, dimensions: int, text_bytes: int, count_max: int) -> None:
        # No record is shorter than one with an empty id and digits alone: this bounds memory.
        shortest = _EMPTY_RECORD_BYTES - 1 + 2 * dimensions - 1
        count = min(text_bytes // shortest + 1, count_max)
        # Rows not written to take no memory yet.
        self._rows: Floats = np.empty((max(count, 1), dimensions), np.float32)
        self._count = 0

    def free(self) -> Floats:
        """See `model.BatchWriter`."""
        if self._count == len(self._rows):
            grown = np.empty((max(2 * self._count, _FEW), self._rows.shape[1]), np.float32)
            grown[: self._count] = self._rows
            self._rows = grown
        return self._rows[self._count :]

    def advance(self, count: int) -> None:
        """See `model.BatchWriter`."""
        self._count += count

    def batch(
        self, ids: Sequence[str], namespaces: Sequence[str], metadata: Sequence[bytes]
    ) -> VectorBatch:
        """See `model.BatchWriter`."""
        return VectorBatch(ids, self._rows[: self._count], namespaces, metadata)

    def close(self) -> None:
        """See `model.BatchWriter`; there is nothing to remove."""
