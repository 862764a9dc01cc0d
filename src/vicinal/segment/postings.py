"""Text columns: of one property the terms of every row, and of every term the rows that have it.

`TextColumn` is sealed and may be memory-mapped; `GrowingTextColumn` is the memtable's, appended to
by one writer while readers use the rows that were there when their snapshot was taken. Both answer
for dead rows too: a reader leaves them out by the mask of its view.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from ctypes import sizeof
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vicinal import interruption
from vicinal.keywords.analyzer import VERSION, analyzer
from vicinal.model import Mask, Ordinals
from vicinal.native.library import Library
from vicinal.native.structures import TermPostings, TermTable
from vicinal.segment.binary_column import BinaryColumn

MADE_BY = f"analyzer_{VERSION}"
"""The name of an empty array, in columns whose terms today's analyzer has made."""

Lengths = NDArray[np.uint32]
_NO_ROWS: NDArray[np.uint32] = np.empty(0, np.uint32)
_COUNT_BITS = 16
_COUNT_MASK = (1 << _COUNT_BITS) - 1  # above `analyzer.TERMS_MAX`


@dataclass(frozen=True, slots=True)
class Postings:
    """The rows that have a term, ascending, and its count in these rows; both ``(m,)``."""

    rows: NDArray[np.uint32]
    counts: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Terms:
    """Distinct terms that are looked for in one property.

    `encoded` has them in UTF-8, one after another; `ends` is where each ends, ``(n,)``.
    """

    terms: Sequence[str]
    encoded: bytes
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, terms: Sequence[str]) -> Self:
        """Encode terms."""
        encoded = [term.encode() for term in terms]
        return cls(terms, b"".join(encoded), np.cumsum([*map(len, encoded)], dtype=np.int64))


FoundTerms = NDArray[np.uint8]
"""The postings of some terms, for C: ``(n, sizeof(TermPostings))``."""

_POSTINGS_BYTES = sizeof(TermPostings)


def no_terms(count: int) -> FoundTerms:
    """Return the postings of `count` terms that no row has."""
    return np.zeros((count, _POSTINGS_BYTES), np.uint8)


@dataclass(frozen=True, slots=True)
class Lookup:
    """The postings of some terms in one view.

    `frequencies` is the number of live rows of each term, ``(n,)``; `keepalive` owns the memory
    that `postings` points to.
    """

    postings: FoundTerms
    frequencies: NDArray[np.int64]
    keepalive: object


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
                MADE_BY: np.empty(0, np.uint8),
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

    def lookup(self, built: Library, terms: Terms, live: Mask | None) -> Lookup:
        """Find the postings of terms; `live` of None: all rows are."""
        postings = np.empty((len(terms.terms), _POSTINGS_BYTES), np.uint8)
        frequencies = built.find_terms(self._table, live, terms.encoded, terms.ends, postings)
        return Lookup(postings, frequencies, self)

    @cached_property
    def _table(self) -> TermTable:
        of_rows = self.lengths[self.lengths > 0]
        return TermTable(
            term_offsets=self.terms.offsets.ctypes.data,
            term_bytes=self.terms.data.ctypes.data,
            starts=self.starts.ctypes.data,
            rows=self.rows.ctypes.data,
            counts=self.counts.ctypes.data,
            lengths=self.lengths.ctypes.data,
            term_count=len(self.terms),
            byte_count=len(self.terms.data),
            posting_count=len(self.rows),
            row_count=len(self.lengths),
            length_min=int(of_rows.min()) if len(of_rows) else 1,
        )

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
        packed = self._packed(term, row_count)
        return NO_POSTINGS if packed is None else _unpacked(packed)

    def lookup(self, terms: Terms, live: Mask, *, has_dead: bool) -> Lookup:
        """Find the postings of terms in the rows of a snapshot, `live`."""
        postings, frequencies = no_terms(len(terms.terms)), np.zeros(len(terms.terms), np.int64)
        lengths, copies = self._lengths, []
        for number, term in enumerate(terms.terms):
            packed = self._packed(term, len(live))
            if packed is None or not len(packed):
                continue
            copies.append(packed)
            address = packed.ctypes.data
            of_term = TermPostings.from_buffer(postings[number])
            # The count is the lowest two bytes of a number, and the row the four that follow.
            of_term.rows, of_term.counts = address + _COUNT_BITS // 8, address
            of_term.row_step = of_term.count_step = packed.itemsize
            of_term.lengths, of_term.length_min = lengths.ctypes.data, 1
            of_term.count = frequencies[number] = len(packed)
            if has_dead:
                frequencies[number] = np.count_nonzero(live[packed >> np.uint64(_COUNT_BITS)])
        return Lookup(postings, frequencies, (lengths, copies))

    def _packed(self, term: str, row_count: int) -> NDArray[np.uint64] | None:
        postings = self._postings.get(term)
        if postings is None:
            return None
        # A copy, as the writer may move what grows.
        packed = np.frombuffer(postings[: len(postings)], np.uint64)
        if packed[-1] >> np.uint64(_COUNT_BITS) >= row_count:
            packed = packed[: np.searchsorted(packed, np.uint64(row_count << _COUNT_BITS))]
        return packed

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
    for column, rows in interruption.parts(parts):
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
