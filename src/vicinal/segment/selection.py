"""Selecting rows of a segment: a filter as terms over sealed columns, and their plan.

A term knows from its columns how many rows it passes at most, without reading rows. The narrowest
term is listed and the others test just those rows; where even that one passes many, every term
becomes a mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol, assert_never

import numpy as np

from vicinal.ann.base import Selection
from vicinal.filters.evaluate import holds
from vicinal.filters.nodes import AnyOf, Clause, Filter, Not, Operator, Predicate
from vicinal.model import Mask, Ordinals
from vicinal.segment.columns import CodeSet, Column, SealedColumn, sealed_values
from vicinal.segment.format import elements_key

LISTED_ROWS_MAX = 20_000
LISTED_ROWS_MIN = 4_000
LISTED_SHARE_MAX = 0.02
"""Up to this many rows, scoring a list beats a scan under a mask (docs/history/search.md)."""

TESTED_INTERVALS_MAX = 16
"""For more intervals of codes a mask is made; ours."""

_NO_ROWS = np.empty(0, np.int64)
_OF_ELEMENTS = frozenset((Operator.CONTAINS, Operator.EXISTS))


class Term(Protocol):
    """A part of a filter over the rows of one segment, dead ones too."""

    @property
    def count_max(self) -> int:
        """Number of rows that pass, or more."""
        ...

    def rows(self) -> Ordinals:
        """Return the rows that pass, each once, in no order."""
        ...

    def mask(self, rows: Ordinals | None = None) -> Mask:
        """Tell for each of these rows, or of all, whether it passes."""
        ...


@dataclass(frozen=True, slots=True)
class CodesTerm:
    """Rows of a column whose code is in a set."""

    column: Column
    codes: CodeSet
    count_max: int

    @classmethod
    def of(cls, column: Column, codes: CodeSet) -> "CodesTerm":
        """Count the rows; a binary search did the rest."""
        return cls(column, codes, column.count(codes))

    @property
    def is_short(self) -> bool:
        """Whether a row is tested in less time than it is read."""
        return len(self.codes.intervals) <= TESTED_INTERVALS_MAX

    def rows(self) -> Ordinals:
        """See `Term`."""
        return self.column.rows(self.codes)

    def mask(self, rows: Ordinals | None = None) -> Mask:
        """See `Term`."""
        return self.codes.mask(self.column.codes if rows is None else self.column.codes[rows])


@dataclass(frozen=True, slots=True)
class ConstantTerm:
    """All rows, or none: a predicate on a column that no row has a value in."""

    is_passed: bool
    row_count: int

    @property
    def count_max(self) -> int:
        """See `Term`."""
        return self.row_count if self.is_passed else 0

    def rows(self) -> Ordinals:
        """See `Term`."""
        return np.arange(self.count_max)

    def mask(self, rows: Ordinals | None = None) -> Mask:
        """See `Term`."""
        return np.full(self.row_count if rows is None else len(rows), self.is_passed)


@dataclass(frozen=True, slots=True)
class AllTerm:
    """Rows that pass every one of some terms."""

    terms: Sequence[Term]
    row_count: int

    @property
    def count_max(self) -> int:
        """See `Term`."""
        return min((term.count_max for term in self.terms), default=self.row_count)

    def rows(self) -> Ordinals:
        """See `Term`."""
        if not self.terms:
            return np.arange(self.row_count)
        first, *others = sorted(self.terms, key=attrgetter("count_max"))
        rows = first.rows()
        for other in others:
            rows = rows[other.mask(rows)]
        return rows

    def mask(self, rows: Ordinals | None = None) -> Mask:
        """See `Term`."""
        mask = np.ones(self.row_count if rows is None else len(rows), np.bool_)
        for term in self.terms:
            mask &= term.mask(rows)
        return mask


@dataclass(frozen=True, slots=True)
class AnyTerm:
    """Rows that pass at least one of some terms."""

    terms: Sequence[Term]
    row_count: int

    @property
    def count_max(self) -> int:
        """See `Term`."""
        return min(sum(term.count_max for term in self.terms), self.row_count)

    def rows(self) -> Ordinals:
        """See `Term`."""
        return np.unique(np.concatenate([_NO_ROWS, *(term.rows() for term in self.terms)]))

    def mask(self, rows: Ordinals | None = None) -> Mask:
        """See `Term`."""
        mask = np.zeros(self.row_count if rows is None else len(rows), np.bool_)
        for term in self.terms:
            mask |= term.mask(rows)
        return mask


@dataclass(frozen=True, slots=True)
class NotTerm:
    """Rows that do not pass a term."""

    term: Term
    row_count: int

    @property
    def count_max(self) -> int:
        """See `Term`."""
        return self.row_count

    def rows(self) -> Ordinals:
        """See `Term`."""
        return np.flatnonzero(self.mask())

    def mask(self, rows: Ordinals | None = None) -> Mask:
        """See `Term`."""
        return ~self.term.mask(rows)


def terms(
    filter_: Filter, columns: Mapping[str, SealedColumn | None], row_count: int
) -> list[Term]:
    """Return one term for each clause of a filter, whose properties must all have an index."""
    return [_term(clause, columns, row_count) for clause in filter_]


def predicate_term(column: Column | None, predicate: Predicate, row_count: int) -> Term:
    """Return the term of a predicate on a column; None is a column without values."""
    if column is None:
        return ConstantTerm(holds(predicate, None), row_count)
    return CodesTerm.of(column, column.code_set(predicate))


def select(terms: Sequence[Term], live: Mask, live_count: int) -> Selection:
    """Plan and evaluate a conjunction of terms over the live rows of a segment."""
    row_count = len(live)
    if not terms:
        return Selection(live_count, mask=None if live_count == row_count else live)
    listed_max = min(max(LISTED_ROWS_MIN, int(LISTED_SHARE_MAX * row_count)), LISTED_ROWS_MAX)
    first, *others = sorted(terms, key=attrgetter("count_max"))
    if first.count_max <= listed_max:
        rows = first.rows()
        for other in others:
            rows = rows[other.mask(rows)]
        return Selection.of_rows(rows if live_count == row_count else rows[live[rows]])
    if not others and isinstance(first, CodesTerm) and first.is_short:
        return _tested(first, live, live_count)
    mask = live.copy()
    for term in terms:
        mask &= term.mask()
    return Selection.of_mask(mask)


def _tested(term: CodesTerm, live: Mask, live_count: int) -> Selection:
    """Return the live rows that pass a term; only the dead ones are looked at to count them."""
    test = term.codes.test(term.column.codes)
    if live_count == len(live):
        return Selection(term.count_max, test=test)
    dead = np.flatnonzero(~live)
    dead_count = np.count_nonzero(term.mask(dead))
    return Selection(term.count_max - int(dead_count), mask=live, test=test)


def _term(clause: Clause, columns: Mapping[str, SealedColumn | None], row_count: int) -> Term:
    match clause:
        case Predicate():
            if clause.operator in _OF_ELEMENTS:
                return _elements_term(clause, columns, row_count)
            column = sealed_values(columns[clause.property_name])
            return predicate_term(column, clause, row_count)
        case AnyOf(filters):
            branches = [AllTerm(terms(branch, columns, row_count), row_count) for branch in filters]
            return AnyTerm(branches, row_count)
        case Not(inner):
            return NotTerm(AllTerm(terms(inner, columns, row_count), row_count), row_count)
        case _:
            assert_never(clause)


def _elements_term(
    predicate: Predicate, columns: Mapping[str, SealedColumn | None], row_count: int
) -> Term:
    """Return the term of an operator that is about arrays, too."""
    elements = sealed_values(columns.get(elements_key(predicate.property_name)))
    if predicate.operator is Operator.CONTAINS:
        if elements is None:
            return ConstantTerm(False, row_count)
        return CodesTerm.of(elements, elements.containing(predicate.operands[0]))
    column = sealed_values(columns[predicate.property_name])
    scalar = predicate_term(column, predicate, row_count)
    if elements is None:
        return scalar
    parts = [scalar, predicate_term(elements, predicate, row_count)]
    return (AnyTerm if predicate.operands[0] else AllTerm)(parts, row_count)
