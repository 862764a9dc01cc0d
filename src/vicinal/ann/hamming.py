"""Hamming distances of codes to a query's code, and the rows within a limit.

Every code is compared, a chunk at a time, so that memory does not grow with the rows.
`Codes.nearest` estimates from a sample which limit leaves as many rows as are expected; rows come
in no order, as they are rescored anyway. ``native/binary.c`` does the same with the same numbers.

Knows nothing of values, metrics or effort.
"""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Mask, Ordinals
from vicinal.native.library import library

Bits = NDArray[np.uint8]
Hammings = NDArray[np.int32]

_CHUNK_ROWS = 1 << 13  # whose words take half a megabyte, and stay in a core's cache
_EVEN_BYTES = np.uint64(0x00FF00FF00FF00FF)
_EACH_PAIR = np.uint64(0x0001000100010001)
_SAMPLE_ROWS = 2_048
_GROWTH = 8  # times as many rows are aimed at when a limit left too few


@dataclass(frozen=True, slots=True)
class Near:
    """All rows within a Hamming distance, in no order.

    Attributes:
        rows: ``(m,)``.
        hammings: ``(m,)``: the distances of `rows`.
        limit: All rows with distance <= `limit` are included.
    """

    rows: Ordinals
    hammings: Hammings
    limit: int

    def count_within(self, limit: int) -> int:
        """Return the number of rows with distance <= `limit`."""
        return int(np.count_nonzero(self.hammings <= limit))

    def between(self, above: int, limit: int) -> tuple[Ordinals, Hammings]:
        """Return the rows with ``above < distance <= limit``, and their distances."""
        is_between = (self.hammings > above) & (self.hammings <= limit)
        return self.rows[is_between], self.hammings[is_between]

    def first(self, count: int) -> tuple[Ordinals, Hammings]:
        """Return the `count` nearest rows, any of those that tie, and their distances."""
        if count >= len(self.rows):
            return self.rows, self.hammings
        kept = self.hammings.argpartition(count - 1)[:count]
        return self.rows[kept], self.hammings[kept]

    def distance_of(self, count: int) -> int:
        """Return the distance of the `count`-th nearest row, or of the last."""
        last = min(count, len(self.hammings)) - 1
        return int(np.partition(self.hammings, last)[last])


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes that a search compares, and the query's code.

    Attributes:
        codes: ``(n, b)``, C-contiguous, n at least 1.
        code: ``(b,)``.
        sample: The sample of `codes`, if it was computed before.
        rows: ``(n,)``: the row of each code; None if they are ``0..n-1``.
        allowed: ``(n,)``; None allows all.
        count: Number of allowed codes, if `allowed` is given; at least 1.
    """

    codes: Bits
    code: Bits
    sample: Bits | None = None
    rows: Ordinals | None = None
    allowed: Mask | None = None
    count: int | None = None

    def nearest(self, expected: int, least: int) -> Near:
        """Return about `expected` rows and not fewer than `least`, or all that are allowed."""
        if len(self.codes) <= _SAMPLE_ROWS and self.allowed is None:
            rows = np.arange(len(self.codes)) if self.rows is None else self.rows
            return Near(rows, distances(self.codes, self.code), 8 * self.codes.shape[1])
        count = len(self.codes) if self.count is None else self.count
        least = min(least, count)
        sample_hammings = self._sampled()
        while True:
            near = self.within(self._limit(sample_hammings, expected / count))
            if len(near.rows) >= least:
                return near
            expected *= _GROWTH

    def within(self, limit: int) -> Near:
        """Return the rows with distance <= `limit`."""
        chunks = [self._chunk(start, limit) for start in range(0, len(self.codes), _CHUNK_ROWS)]
        rows = np.concatenate([chunk_rows for chunk_rows, _ in chunks])
        hammings = np.concatenate([chunk_hammings for _, chunk_hammings in chunks])
        return Near(rows if self.rows is None else self.rows[rows], hammings, limit)

    def _chunk(self, start: int, limit: int) -> tuple[Ordinals, Hammings]:
        end = start + _CHUNK_ROWS
        hammings = distances(self.codes[start:end], self.code)
        is_near = hammings <= limit
        if self.allowed is not None:
            is_near &= self.allowed[start:end]
        near = np.flatnonzero(is_near)
        return near + start, hammings[near]

    def _sampled(self) -> Hammings:
        codes = sample(self.codes) if self.sample is None else self.sample
        hammings = distances(codes, self.code)
        if self.allowed is not None:
            hammings = hammings[self.allowed[:: sample_step(len(self.codes))]]
        return hammings

    def _limit(self, sample_hammings: Hammings, share: float) -> int:
        """Return a limit that leaves this share of the rows or, more likely, a few more."""
        in_sample = share * len(sample_hammings)
        quantile = math.ceil(in_sample + math.sqrt(in_sample))
        if quantile >= len(sample_hammings):
            return int(8 * self.codes.shape[1])
        sample_hammings.partition(quantile)
        return int(sample_hammings[quantile])


def sample(codes: Bits, step: int | None = None) -> Bits:
    """Return every `step`-th of ``(n, b)`` codes, or up to 2,048."""
    return np.ascontiguousarray(codes[:: step or sample_step(len(codes))])


def sample_step(count: int) -> int:
    """Return s such that every s-th of `count` codes is in a `sample`."""
    return -(-count // _SAMPLE_ROWS)


def distances(codes: Bits, code: Bits) -> Hammings:
    """Return the Hamming distances of codes ``(n, b)`` to a code ``(b,)``, b a multiple of 64."""
    built = library()
    if built is not None:
        return built.hammings(codes, code)
    counts = np.bitwise_count(codes.view(np.uint64) ^ code.view(np.uint64)).view(np.uint64)
    # The eight counts of a word are added up in two steps, as their sum may not fit into a byte.
    pairs = (counts & _EVEN_BYTES) + (counts >> np.uint64(8) & _EVEN_BYTES)
    sums = pairs * _EACH_PAIR >> np.uint64(48)
    return cast(Hammings, sums.sum(axis=1).astype(np.int32))
