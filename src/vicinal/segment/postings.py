"""Text columns: of one property the terms of every row, and of every term the rows that have it.

`TextColumn` is sealed and may be memory-mapped; `GrowingTextColumn` is the memtable's, appended to
by one writer while readers use the rows that were there when their snapshot was taken. Both answer
for dead rows too: a reader leaves them out by the mask of its view.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vicinal.keywords.analyzer import analyzer
from vicinal.model import Mask, Ordinals
from vicinal.segment.binary_column import BinaryColumn

Lengths = NDArray[np.uint32]
_NO_ROWS: NDArray[np.uint32] = np.empty(0, np.uint32)
_COUNT_BITS = 16
_COUNT_MASK = (1 << _COUNT_BITS) - 1  # above `analyzer.TERMS_MAX`


@dataclass(frozen=True, slots=True)
class Postings:
    """The rows that have a term, ascending, and its count in these rows; both ``(m,)``."""

    rows: NDArray[np.uint32]
    counts: NDArray[np.uint16]


NO_POSTINGS = Postings(_NO_ROWS, np.empty(0, np.uint16))


class TextColumn:
    """A sealed text column, made from the arrays that `arrays` returns and reads on demand."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays

    @cached_property
    def lengths(self) -> Lengths:
        """The number of terms of each row."""
        return self._arrays["lengths"]

    @cached_property
    def terms(self) -> BinaryColumn:
        """The distinct terms, ascending."""
        return BinaryColumn(self._arrays["term_offsets"], self._arrays["term_bytes"])

    @cached_property
    def starts(self) -> NDArray[np.uint64]:
        """Where the postings of each term begin, and where the last ones end."""
        return self._arrays["starts"]

    @cached_property
    def rows(self) -> NDArray[np.uint32]:
        """The rows of all postings."""
        return self._arrays["rows"]

    @cached_property
    def counts(self) -> NDArray[np.uint16]:
        """The counts of all postings."""
        return self._arrays["counts"]

    @cached_property
    def _heads(self) -> NDArray[np.uint64]:
        return self._arrays["heads"]

    @property
    def is_complete(self) -> bool:
        """Whether every row was indexed."""
        return not len(self._arrays["uncovered"])

    @property
    def uncovered(self) -> NDArray[np.uint32]:
        """The rows that are older than the metadata index, ascending; they have no terms."""
        return self._arrays["uncovered"]

    @classmethod
    def of(
        cls,
        terms: Iterable[bytes],
        frequencies: NDArray[np.int64],
        postings: Postings,
        lengths: Lengths,
        uncovered: Ordinals,
    ) -> Self:
        """Seal a column.

        Args:
            terms: Ascending, each of some row.
            frequencies: The number of postings of each term.
            postings: The postings of all terms, one after another.
            lengths: Of each row.
            uncovered: See the property.
        """
        column = BinaryColumn.of(terms)
        starts = np.zeros(len(frequencies) + 1, np.uint64)
        np.cumsum(frequencies, out=starts[1:])
        return cls(
            {
                "term_offsets": column.offsets,
                "term_bytes": column.data,
                "heads": column.heads(np.arange(len(column))),
                "starts": starts,
                "rows": postings.rows,
                "counts": postings.counts,
                "lengths": lengths,
                "uncovered": uncovered.astype(np.uint32),
            }
        )

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays to store; `TextColumn` takes them back."""
        return self._arrays

    def postings(self, term: str) -> Postings:
        """Return the postings of a term."""
        encoded = term.encode()
        head = np.uint64(int.from_bytes(encoded[:8].ljust(8, b"\0"), "big"))
        first = int(np.searchsorted(self._heads, head))
        last = int(np.searchsorted(self._heads, head, side="right"))
        if first == last:
            return NO_POSTINGS
        number = bisect_left(range(last), encoded, lo=first, key=self.terms.__getitem__)
        if number == last or self.terms[number] != encoded:
            return NO_POSTINGS
        start, stop = int(self.starts[number]), int(self.starts[number + 1])
        return Postings(self.rows[start:stop], self.counts[start:stop])

    def is_indexed(self, row_count: int) -> NDArray[np.bool_]:
        """Tell for each row whether it was indexed."""
        indexed = np.ones(row_count, np.bool_)
        indexed[self.uncovered] = False
        return indexed


class GrowingTextColumn:
    """A text column of the memtable. One writer; a reader passes the row count of its snapshot."""

    def __init__(self, language: str | None, row_count: int = 0) -> None:
        """Begin with `row_count` rows that are older than the column."""
        self.uncovered_count = row_count
        self._analyzer = analyzer(language)
        self._postings: dict[str, array[int]] = {}  # of a term: row << 16 | count, ascending
        self._lengths = np.zeros(max(row_count, 64), np.uint32)
        self._count = row_count

    def extend(self, documents: Iterable[Sequence[str]]) -> None:
        """Append one document a row, which may have several texts or none."""
        postings_of, lengths = self._postings, []
        for row, texts in enumerate(documents, self._count):
            terms = self._analyzer.terms(texts) if texts else []
            lengths.append(len(terms))
            base = row << _COUNT_BITS
            distinct = set(terms)
            counts: Iterable[tuple[str, int]]
            if len(distinct) == len(terms):
                counts = [(term, 1) for term in terms]
            else:
                counts = Counter(terms).items()
            for term, count in counts:
                postings = postings_of.get(term)
                if postings is None:
                    postings_of[term] = array("Q", (base | count,))
                else:
                    postings.append(base | count)
        end = self._count + len(lengths)
        if end > len(self._lengths):
            # Readers keep the old array: the rows they may see never change in it.
            grown = np.zeros(max(end, 2 * len(self._lengths)), np.uint32)
            grown[: self._count] = self._lengths[: self._count]
            self._lengths = grown
        self._lengths[self._count : end] = lengths
        self._count = end

    def lengths_of(self, row_count: int) -> Lengths:
        """Return the number of terms of each of the first `row_count` rows."""
        return self._lengths[:row_count]

    def postings(self, term: str, row_count: int) -> Postings:
        """Return the postings of a term in the first `row_count` rows."""
        postings = self._postings.get(term)
        if postings is None:
            return NO_POSTINGS
        # A copy, as the writer may move what grows.
        packed = np.frombuffer(postings[: len(postings)], np.uint64)
        if packed[-1] >> np.uint64(_COUNT_BITS) >= row_count:
            packed = packed[: np.searchsorted(packed, np.uint64(row_count << _COUNT_BITS))]
        return _unpacked(packed)

    def is_indexed(self, row_count: int) -> NDArray[np.bool_]:
        """Tell for each of the first `row_count` rows whether it was indexed."""
        indexed: NDArray[np.bool_] = np.arange(row_count) >= self.uncovered_count
        return indexed

    def sealed(self, rows: Ordinals) -> TextColumn:
        """Return a sealed column of these rows, which ascend."""
        terms = sorted(self._postings)
        lists = [self._postings[term] for term in terms]
        packed = np.frombuffer(b"".join(lists), np.uint64)
        number_of = np.repeat(np.arange(len(terms)), np.array([len(p) for p in lists], np.int64))
        every = _unpacked(packed)
        new_row = np.full(self._count, -1, np.int64)
        new_row[rows] = np.arange(len(rows))
        kept_rows = new_row[every.rows]
        kept = kept_rows >= 0
        frequencies = np.bincount(number_of[kept], minlength=len(terms))
        return TextColumn.of(
            (terms[number].encode() for number in np.flatnonzero(frequencies).tolist()),
            frequencies[frequencies > 0],
            Postings(kept_rows[kept].astype(np.uint32), every.counts[kept]),
            self._lengths[rows],
            np.flatnonzero(rows < self.uncovered_count),
        )


def totals_of(lengths: Lengths, live: Mask) -> tuple[int, int]:
    """Return how many live rows have terms, and how many terms they have."""
    of_live = np.where(live, lengths, 0)
    return int(np.count_nonzero(of_live)), int(of_live.sum(dtype=np.int64))


def merged_texts(parts: Sequence[tuple[TextColumn | None, Ordinals]]) -> TextColumn:
    """Return one sealed column of the given rows, which ascend, of several columns; None is a
    column that no row was indexed in."""
    row_count = sum(len(rows) for _, rows in parts)
    terms = sorted({term for column, _ in parts if column for term in _all(column.terms)})
    number_of = {term: number for number, term in enumerate(terms)}
    chunks: list[tuple[NDArray[np.int64], NDArray[np.int64], Postings]] = []
    lengths = np.zeros(row_count, np.uint32)
    uncovered: list[Ordinals] = [np.empty(0, np.int64)]
    first = 0
    for column, rows in parts:
        numbers = np.arange(first, first + len(rows))
        first += len(rows)
        if column is None:
            uncovered.append(numbers)
            continue
        uncovered.append(numbers[np.isin(rows, column.uncovered)])
        lengths[numbers] = column.lengths[rows]
        chunks.append(_chunk(column, rows, numbers, number_of))
    frequencies = np.zeros(len(terms), np.int64)
    for of_terms, counts, _ in chunks:
        frequencies[of_terms] += counts
    kept = np.flatnonzero(frequencies)
    return TextColumn.of(
        (terms[number] for number in kept.tolist()),
        frequencies[kept],
        _interleaved(chunks, frequencies),
        lengths,
        np.concatenate(uncovered),
    )


def _chunk(
    column: TextColumn, rows: Ordinals, numbers: Ordinals, number_of: Mapping[bytes, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Postings]:
    """Return the number of each term of a column, how many of its postings are kept, and these."""
    new_row = np.full(len(column.lengths), -1, np.int64)
    new_row[rows] = numbers
    of_terms = np.array([number_of[term] for term in _all(column.terms)], np.int64)
    starts = column.starts.astype(np.int64)
    lengths = starts[1:] - starts[:-1]
    kept_rows = new_row[column.rows]
    kept = kept_rows >= 0
    counts = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[kept], minlength=len(lengths))
    postings = Postings(kept_rows[kept].astype(np.uint32), column.counts[kept])
    return of_terms, counts.astype(np.int64), postings


def _interleaved(
    chunks: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], Postings]],
    frequencies: NDArray[np.int64],
) -> Postings:
    """Return the postings of all chunks by term, those of a term in the order of the chunks."""
    total = int(frequencies.sum())
    rows, counts = np.empty(total, np.uint32), np.empty(total, np.uint16)
    at = np.cumsum(frequencies) - frequencies
    for of_terms, lengths, postings in chunks:
        within = np.arange(len(postings.rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        positions = np.repeat(at[of_terms], lengths) + within
        rows[positions], counts[positions] = postings.rows, postings.counts
        at[of_terms] += lengths
    return Postings(rows, counts)


def _unpacked(packed: NDArray[np.uint64]) -> Postings:
    return Postings(
        (packed >> np.uint64(_COUNT_BITS)).astype(np.uint32),
        (packed & np.uint64(_COUNT_MASK)).astype(np.uint16),
    )


def _all(terms: BinaryColumn) -> list[bytes]:
    data, ends = terms.data.tobytes(), terms.offsets.tolist()
    return [data[start:end] for start, end in pairwise(ends)]
