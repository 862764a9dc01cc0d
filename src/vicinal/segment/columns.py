"""Columns: one indexed property of every row, in the form that filters read.

A column has *keys*, the distinct values in ascending order, and for each row a *code*: the
rank of its value among the keys, or -1 when the row lacks one. Because keys are sorted, any
predicate is a few intervals of codes and a flag for rows without a value (`CodeSet`); because
rows are also kept sorted by code, those intervals are slices, whose lengths are counts. So a
predicate costs a binary search, not a scan.

`Column` is sealed and may be memory-mapped; `GrowingColumn` is the memtable's, appended to by
one writer while readers use the rows that were there when their snapshot was taken.
`filters.evaluate` defines what a predicate means; a property test holds the two together.
Namespaces are a column of strings in which no namespace is the lack of one. The strings of arrays
are a column of strings whose keys stand for several (`metadata.indexed_elements`), for `containing`
alone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Self, assert_never, cast, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from vicinal import interruption, metadata
from vicinal.ann.base import RowTest
from vicinal.filters.evaluate import holds
from vicinal.filters.nodes import Operator, Predicate, Scalar
from vicinal.model import IndexType, Mask, Ordinals
from vicinal.segment.binary_column import BinaryColumn
from vicinal.segment.postings import GrowingTextColumn, TextColumn

Codes = NDArray[np.int32]
_NO_ROWS: NDArray[np.uint32] = np.empty(0, np.uint32)
LACKING = -1
"""The code of a row without a value."""

_PYTHON_TYPES = {IndexType.STRING: str, IndexType.NUMBER: float, IndexType.BOOLEAN: bool}


@dataclass(frozen=True, slots=True)
class CodeSet:
    """Codes that pass a predicate: ascending, disjoint ``[start, stop)`` and maybe LACKING."""

    intervals: tuple[tuple[int, int], ...]
    lacking: bool

    def mask(self, codes: Codes) -> Mask:
        """Tell for each code whether it is in the set."""
        return self.test(codes).mask()

    def test(self, codes: Codes) -> RowTest:
        """Return the test that rows with these codes pass if theirs is in the set."""
        lacking = ((LACKING, LACKING + 1),) if self.lacking else ()
        intervals = np.array((*lacking, *self.intervals), np.int32).reshape(-1, 2)
        return RowTest(np.ascontiguousarray(codes), intervals)

    def complement(self, key_count: int) -> "CodeSet":
        """Return the set of all codes that are not in this one."""
        bounds = [0, *(bound for interval in self.intervals for bound in interval), key_count]
        gaps = [(start, stop) for start, stop in pairwise(bounds)][::2]
        return CodeSet(tuple(gap for gap in gaps if gap[0] < gap[1]), not self.lacking)


class Strings(Sequence[str]):
    """An immutable sequence of strings, kept as UTF-8."""

    def __init__(self, column: BinaryColumn) -> None:
        self.column = column

    @classmethod
    def of(cls, strings: Iterable[str]) -> Self:
        """Lay strings out."""
        return cls(BinaryColumn.of(string.encode() for string in strings))

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(position)
        return self.column[position].decode()

    def take(self, positions: Ordinals) -> list[str]:
        """Return the strings at these positions."""
        return [value.decode() for value in self.column.take(positions)]


class Column:
    """A sealed column, made from the arrays that `arrays` returns; each array is read on demand."""

    def __init__(self, index_type: IndexType, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.index_type = index_type
        self._arrays = arrays

    @cached_property
    def codes(self) -> Codes:
        """The code of each row."""
        return self._arrays["codes"]

    @cached_property
    def keys(self) -> Strings | NDArray[Any]:
        """The distinct values, ascending."""
        if self.index_type is IndexType.STRING:
            return Strings(BinaryColumn(self._arrays["key_offsets"], self._arrays["key_bytes"]))
        return self._arrays["keys"]

    @cached_property
    def _order(self) -> NDArray[np.uint32]:
        return self._arrays["order"]

    @cached_property
    def _starts(self) -> NDArray[np.uint32]:
        return self._arrays["starts"]

    @property
    def is_complete(self) -> bool:
        """Whether every row was indexed. Columns of versions that did not note it are not."""
        return "uncovered" in self._arrays and not len(self._arrays["uncovered"])

    @property
    def uncovered(self) -> NDArray[np.uint32]:
        """The rows that are older than the metadata index, ascending; they lack a value."""
        return self._arrays.get("uncovered", _NO_ROWS)

    @classmethod
    def of(
        cls,
        index_type: IndexType,
        keys: Sequence[Scalar],
        codes: Codes,
        uncovered: Ordinals | None = None,
    ) -> Self:
        """Seal a column whose keys come in any order; keys that no row has are dropped.

        `uncovered` are rows older than the metadata index, None for what is no column of one.
        """
        ranked = sorted(_distinct(codes), key=lambda code: keys[code])
        ranks = np.full(len(keys) + 1, LACKING, np.int32)  # the last serves LACKING
        ranks[ranked] = np.arange(len(ranked), dtype=np.int32)
        keys, codes = [keys[code] for code in ranked], ranks[codes]
        order = np.argsort(codes, kind="stable").astype(np.uint32)
        counts = np.bincount(codes[codes >= 0], minlength=len(keys))
        starts = np.zeros(len(keys) + 1, np.uint32)
        np.cumsum(counts, out=starts[1:])
        arrays: dict[str, NDArray[Any]] = {
            "codes": codes,
            "order": order[len(codes) - int(starts[-1]) :],
            "starts": starts,
        }
        if index_type is IndexType.STRING:
            column = Strings.of(str(key) for key in keys).column
            arrays["key_offsets"], arrays["key_bytes"] = column.offsets, column.data
        else:
            dtype = np.float64 if index_type is IndexType.NUMBER else np.bool_
            arrays["keys"] = np.array(keys, dtype)
        if uncovered is not None:
            arrays["uncovered"] = uncovered.astype(np.uint32)
        return cls(index_type, arrays)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays to store; `Column` takes them back."""
        return self._arrays

    def code_set(self, predicate: Predicate) -> CodeSet:
        """Return the codes for which a predicate holds."""
        match predicate.operator:
            case Operator.EQ | Operator.IN:
                return self._equal_to(predicate.operands)
            case Operator.NE | Operator.NIN:
                return self._equal_to(predicate.operands).complement(len(self.keys))
            case Operator.LT | Operator.LTE | Operator.GT | Operator.GTE:
                return self._in_order(predicate.operator, predicate.operands[0])
            case Operator.EXISTS:
                every = CodeSet(((0, len(self.keys)),) if len(self.keys) else (), lacking=False)
                if predicate.operands[0] is False:
                    return every.complement(len(self.keys))
                return every if predicate.operands[0] is True else CodeSet((), lacking=False)
            case Operator.STARTS_WITH:
                return self._starting_with(predicate.operands[0])
            case Operator.CONTAINS:
                return CodeSet((), lacking=False)  # no scalar does; see `containing`
            case _:
                assert_never(predicate.operator)

    def containing(self, element: Scalar | None) -> CodeSet:
        """Return the codes of a column of elements whose key stands for this one too."""
        if not isinstance(element, str):
            return CodeSet((), lacking=False)
        keys = cast(Strings, self.keys)
        offsets, text = keys.column.offsets, keys.column.data.tobytes()
        encoded = msgspec.json.encode(element)
        codes: list[int] = []
        at = text.find(encoded)
        while at >= 0:
            code = int(np.searchsorted(offsets, at, side="right")) - 1
            # The same bytes may stand across two elements.
            if element in metadata.elements(keys[code]):
                codes.append(code)
                at = text.find(encoded, int(offsets[code + 1]))
            else:
                at = text.find(encoded, at + 1)
        return CodeSet(tuple((code, code + 1) for code in codes), lacking=False)

    def count(self, codes: CodeSet) -> int:
        """Return the number of rows that have one of these codes."""
        count = sum(int(self._starts[b]) - int(self._starts[a]) for a, b in codes.intervals)
        return count + (len(self.codes) - len(self._order) if codes.lacking else 0)

    def rows(self, codes: CodeSet) -> Ordinals:
        """Return the rows that have one of these codes, in no order."""
        if codes.lacking:
            return np.flatnonzero(codes.mask(self.codes))
        slices = [self._order[self._starts[a] : self._starts[b]] for a, b in codes.intervals]
        return np.concatenate(slices).astype(np.int64) if slices else np.empty(0, np.int64)

    def counts(self, rows: Ordinals) -> list[tuple[Scalar, int]]:
        """Return the values of these rows, and how many of the rows have them."""
        return _counts(self.keys, self.codes[rows])

    def value(self, row: int) -> Scalar | None:
        """Return a row's value, or None when it lacks one."""
        code = int(self.codes[row])
        return None if code == LACKING else as_scalar(self.keys[code])

    def _equal_to(self, operands: tuple[Scalar | None, ...]) -> CodeSet:
        codes: set[int] = set()
        for operand in operands:
            if type(operand) is _PYTHON_TYPES[self.index_type]:
                code = bisect_left(self.keys, operand)
                if code < len(self.keys) and self.keys[code] == operand:
                    codes.add(code)
        return CodeSet(tuple((code, code + 1) for code in sorted(codes)), None in operands)

    def _starting_with(self, prefix: Scalar | None) -> CodeSet:
        if self.index_type is not IndexType.STRING or not isinstance(prefix, str):
            return CodeSet((), lacking=False)

        def head(key: str) -> str:
            return key[: len(prefix)]

        keys = cast(Strings, self.keys)
        start = bisect_left(keys, prefix)
        stop = bisect_right(keys, prefix, lo=start, key=head)
        return CodeSet(((start, stop),) if start < stop else (), lacking=False)

    def _in_order(self, operator: Operator, operand: Scalar | None) -> CodeSet:
        start, stop = 0, len(self.keys)
        if type(operand) is not _PYTHON_TYPES[self.index_type] or isinstance(operand, bool):
            return CodeSet((), lacking=False)
        match operator:
            case Operator.LT:
                stop = bisect_left(self.keys, operand)
            case Operator.LTE:
                stop = bisect_right(self.keys, operand)
            case Operator.GT:
                start = bisect_right(self.keys, operand)
            case Operator.GTE:
                start = bisect_left(self.keys, operand)
        return CodeSet(((start, stop),) if start < stop else (), lacking=False)


class GrowingColumn:
    """A column of the memtable. One writer; a reader passes the row count of its snapshot."""

    def __init__(self, index_type: IndexType, row_count: int = 0) -> None:
        """Begin with `row_count` rows that lack a value, as they are older than the column."""
        self.uncovered_count = row_count
        self.index_type = index_type
        self.keys: list[Scalar] = []
        self._code_of: dict[Scalar, int] = {}
        self._codes = np.full(max(row_count, 64), LACKING, np.int32)
        self._count = row_count

    def extend(self, values: Iterable[Scalar | None]) -> None:
        """Append one value (or None) a row."""
        codes = [LACKING if value is None else self._code(value) for value in values]
        end = self._count + len(codes)
        if end > len(self._codes):
            # Readers keep the old array: the rows they may see never change in it.
            grown = np.full(max(end, 2 * len(self._codes)), LACKING, np.int32)
            grown[: self._count] = self._codes[: self._count]
            self._codes = grown
        self._codes[self._count : end] = codes
        self._count = end

    def extend_lacking(self, count: int) -> None:
        """Append rows that lack a value."""
        self.extend([None] * count)

    def codes(self, row_count: int) -> Codes:
        """Return the codes of the first `row_count` rows; they index `keys`."""
        return self._codes[:row_count]

    def mask(self, predicate: Predicate, row_count: int) -> Mask:
        """Tell for each of the first `row_count` rows whether a predicate holds."""
        codes = self.codes(row_count)
        keys = self.keys
        key_count = len(keys)
        passes = np.zeros(key_count + 1, np.bool_)  # the last serves LACKING
        if predicate.operator in (Operator.EQ, Operator.NE, Operator.IN, Operator.NIN):
            for operand in predicate.operands:
                if operand is None:
                    passes[LACKING] = True
                elif type(operand) is _PYTHON_TYPES[self.index_type]:
                    code = self._code_of.get(operand, key_count)
                    if code < key_count:
                        passes[code] = True
            if predicate.operator in (Operator.NE, Operator.NIN):
                passes = ~passes
        else:
            passes[:key_count] = [holds(predicate, keys[code]) for code in range(key_count)]
            passes[LACKING] = holds(predicate, None)
        return passes[codes]

    def mask_containing(self, element: Scalar | None, row_count: int) -> Mask:
        """Tell for each of the first rows of a column of elements whether it has this one."""
        codes = self.codes(row_count)
        keys = cast(Sequence[str], self.keys)
        key_count = len(keys)
        passes = np.zeros(key_count + 1, np.bool_)  # the last serves LACKING
        if isinstance(element, str):
            encoded = msgspec.json.encode(element).decode()
            passes[:key_count] = [
                encoded in keys[code] and element in metadata.elements(keys[code])
                for code in range(key_count)
            ]
        return passes[codes]

    def counts(self, rows: Ordinals) -> list[tuple[Scalar, int]]:
        """Return the values of these rows, and how many of the rows have them."""
        return _counts(self.keys, self._codes[rows])

    def value(self, row: int) -> Scalar | None:
        """Return a row's value, or None when it lacks one."""
        code = int(self._codes[row])
        return None if code == LACKING else self.keys[code]

    def sealed(self, rows: Ordinals, *, is_indexed: bool = False) -> Column:
        """Return a sealed column of these rows, in this order; it notes which rows are older than
        the column where that is a metadata index's (`is_indexed`)."""
        uncovered = np.flatnonzero(rows < self.uncovered_count) if is_indexed else None
        return Column.of(self.index_type, self.keys, self._codes[rows], uncovered)

    def _code(self, value: Scalar) -> int:
        code = self._code_of.get(value)
        if code is None:
            code = len(self.keys)
            # The key goes first: a reader that finds the code must find its key.
            self.keys.append(value)
            self._code_of[value] = code
        return code


def merged(
    index_type: IndexType,
    parts: Iterable[tuple[Column | None, Ordinals]],
    *,
    is_indexed: bool = False,
) -> Column:
    """Return one column of the given rows of several columns; None is a column without values.

    A metadata index's column (`is_indexed`) notes which rows are older than the index.
    """
    union: dict[Scalar, int] = {}
    codes: list[Codes] = []
    uncovered: list[Ordinals] = [np.empty(0, np.int64)]
    row_count = 0
    for column, rows in interruption.parts(parts):
        if is_indexed:
            is_older = np.isin(rows, column.uncovered) if column is not None else rows >= 0
            uncovered.append(np.flatnonzero(is_older) + row_count)
            row_count += len(rows)
        if column is None:
            codes.append(np.full(len(rows), LACKING, np.int32))
            continue
        merged_codes = np.empty(len(column.keys) + 1, np.int32)
        merged_codes[LACKING] = LACKING
        for code, key in enumerate(column.keys):
            merged_codes[code] = union.setdefault(as_scalar(key), len(union))
        codes.append(merged_codes[column.codes[rows]])
    older = np.concatenate(uncovered) if is_indexed else None
    return Column.of(index_type, list(union), np.concatenate(codes), older)


SealedColumn = Column | TextColumn
AnyColumn = SealedColumn | GrowingColumn | GrowingTextColumn
"""A column of a metadata index; only that of a text index has no values."""


def sealed_values(column: SealedColumn | None) -> Column | None:
    """Return a column of values; nothing asks a text column for them."""
    assert not isinstance(column, TextColumn)
    return column


def values_of(column: AnyColumn | None) -> Column | GrowingColumn | None:
    """Return a column of values; nothing asks a text column for them."""
    assert column is None or isinstance(column, Column | GrowingColumn)
    return column


def indexed_values(
    columns: Mapping[str, AnyColumn | None], row: int, properties: Iterable[str]
) -> list[tuple[str, Scalar]]:
    """Return these properties with their values, where the row has one."""
    named = [(name, values_of(columns[name])) for name in properties]
    values = [(name, column.value(row)) for name, column in named if column is not None]
    return [(name, value) for name, value in values if value is not None]


def keys_of(keys: Sequence[Scalar] | Strings | NDArray[Any], codes: Codes) -> set[str]:
    """Return the keys of a string column that these codes stand for."""
    return {str(keys[code]) for code in _distinct(codes)}


def as_scalar(key: Any) -> Scalar:
    """Return a key as a plain Python value; keys of mapped columns are numpy scalars."""
    # numpy's float64 is a float, too, and no encoder takes it.
    return cast(Scalar, key.item() if isinstance(key, np.generic) else key)


def _counts(
    keys: Sequence[Scalar] | Strings | NDArray[Any], codes: Codes
) -> list[tuple[Scalar, int]]:
    counts = np.bincount(codes[codes >= 0])
    codes_of_keys = np.flatnonzero(counts).tolist()
    return [
        (as_scalar(keys[code]), count)
        for code, count in zip(codes_of_keys, counts[codes_of_keys].tolist(), strict=True)
    ]


def _distinct(codes: Codes) -> list[int]:
    """Return the codes that occur, ascending, without `LACKING`."""
    # Codes are dense, so counting them is faster than sorting; and `unique` imports modules
    # of numpy that stay in memory.
    occurring: list[int] = np.flatnonzero(np.bincount(codes[codes >= 0])).tolist()
    return occurring
