"""The form of a metadata filter: a conjunction of clauses on indexed properties.

A clause is a predicate on one property or, as an extension, a disjunction or negation of filters.
The wire's own grammar has predicates alone (platform docs, metadata filtering). Numbers are floats
(a number index has float64 precision), booleans are never numbers, and string operands of equality
are already cut to the indexed bytes, as `parse` leaves them. The meaning of a clause is in
`evaluate` alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

Scalar = str | float | bool
"""An indexed scalar. A property that is absent, null or of another type has none."""

Value = Scalar | tuple[str, ...]
"""An indexed value: a scalar or, of a property with a string index, the strings of an array."""


class Operator(StrEnum):
    """Comparison operators, spelled as on the wire."""

    EQ = "$eq"
    NE = "$ne"
    IN = "$in"
    NIN = "$nin"
    LT = "$lt"
    LTE = "$lte"
    GT = "$gt"
    GTE = "$gte"
    EXISTS = "$exists"
    CONTAINS = "$contains"
    STARTS_WITH = "$startsWith"


LISTS = frozenset((Operator.IN, Operator.NIN))
"""The operators whose operands are a list."""

EXTENSIONS = frozenset((Operator.EXISTS, Operator.CONTAINS, Operator.STARTS_WITH))
"""The operators that the platform has not."""


@dataclass(frozen=True, slots=True)
class Predicate:
    """One operator on one property.

    `operands` has one element, except for the operators of `LISTS`, which take any number. None
    stands for null.
    """

    property_name: str
    operator: Operator
    operands: tuple[Scalar | None, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A disjunction: at least one of the filters must hold."""

    filters: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """A negation: the filter must not hold."""

    filter: "Filter"


Clause = Predicate | AnyOf | Not

Filter = tuple[Clause, ...]
"""All clauses must hold; the empty filter holds for every vector."""


def predicates(filter_: Filter) -> Iterator[Predicate]:
    """Yield the predicates of a filter, those inside other clauses too, in order."""
    for clause in filter_:
        match clause:
            case Predicate():
                yield clause
            case AnyOf(filters):
                for branch in filters:
                    yield from predicates(branch)
            case Not(inner):
                yield from predicates(inner)


_PLAIN_NAME = re.compile(r"[\w.-]{1,64}")


def shape(filter_: Filter) -> str:
    """Return a filter without its operands, like ``year $gte and (topic $in 3 or topic $eq)``.

    A name with other characters than of words, or with more than 64, is written as ``?``.
    """
    return " and ".join(map(_clause_shape, filter_))


def _clause_shape(clause: Clause) -> str:
    match clause:
        case Predicate(name, operator, operands):
            shown = name if _PLAIN_NAME.fullmatch(name) else "?"
            return f"{shown} {operator}" + (f" {len(operands)}" if operator in LISTS else "")
        case AnyOf(filters):
            return f"({' or '.join(map(shape, filters))})"
        case Not(inner):
            return f"not ({shape(inner)})"
