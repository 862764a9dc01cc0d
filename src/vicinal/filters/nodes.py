"""The form of a metadata filter: a conjunction of predicates on indexed properties.

A filter has no disjunction and no nesting: the wire's grammar has none (platform docs,
metadata filtering). Numbers are floats (a number index has float64 precision), booleans
are never numbers, and string operands of equality are already cut to the indexed bytes,
as `parse` leaves them. The meaning of a predicate is in `evaluate` alone.
"""

from dataclasses import dataclass
from enum import StrEnum

Scalar = str | float | bool
"""An indexed value. A property that is absent, null or of another type has none."""


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


LISTS = frozenset((Operator.IN, Operator.NIN))
"""The operators whose operands are a list."""


@dataclass(frozen=True, slots=True)
class Predicate:
    """One operator on one property.

    `operands` has one element, except for the operators of `LISTS`, which take any number. None
    stands for null.
    """

    property_name: str
    operator: Operator
    operands: tuple[Scalar | None, ...]


Filter = tuple[Predicate, ...]
"""All predicates must hold; the empty filter holds for every vector."""
