"""The meaning of a filter: one pure function, the oracle for every engine.

Engines evaluate filters over columns, bitmaps or SQL; their tests compare with this function.

* A vector *has* a value for a property when a metadata index on it existed as the vector
  was written (or was backfilled) and the value's type is the index's. Otherwise it lacks it.
* Positive operators hold only for a value of the operand's type. Strings compare by
  Unicode code points, which is the order of their UTF-8 bytes.
* ``$ne`` and ``$nin`` are the negations of ``$eq`` and ``$in``, so vectors that lack the
  property match them.
* A null operand stands for lacking the property.
* The strings of an array are indexed by a string index as well, for ``$contains`` and ``$exists``
  alone: to every other operator a vector with an array lacks the property, as on the platform.
* ``$exists`` is about what is indexed, and ``$startsWith`` and ``$contains`` hold only for strings.
* A filter that names a property without a metadata index anywhere matches nothing, negations
  included; the result names the property (``QueryResult.unindexed``).
"""

import operator as comparisons
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, assert_never

from vicinal.filters.nodes import (
    AnyOf,
    Clause,
    Filter,
    Not,
    Operator,
    Predicate,
    Scalar,
    Value,
    predicates,
)

_COMPARISONS: Mapping[Operator, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        Operator.LT: comparisons.lt,
        Operator.LTE: comparisons.le,
        Operator.GT: comparisons.gt,
        Operator.GTE: comparisons.ge,
    }
)


def matches(filter_: Filter, values: Mapping[str, Value | None]) -> bool:
    """Tell whether a vector passes a filter.

    Args:
        filter_: The clauses, all of which must hold.
        values: For each property that has a metadata index, the vector's value or None
            when it lacks one. A property that is not a key here has no metadata index.
    """
    if any(predicate.property_name not in values for predicate in predicates(filter_)):
        return False
    return all(_passes(clause, values) for clause in filter_)


def holds(predicate: Predicate, value: Value | None) -> bool:
    """Tell whether a predicate on an indexed property holds for one vector's value."""
    operands = predicate.operands
    scalar = None if isinstance(value, tuple) else value
    match predicate.operator:
        case Operator.EQ | Operator.IN:
            return any(_same(scalar, operand) for operand in operands)
        case Operator.NE | Operator.NIN:
            return not any(_same(scalar, operand) for operand in operands)
        case Operator.LT | Operator.LTE | Operator.GT | Operator.GTE as operator:
            # Python compares code points; lone surrogates cannot occur in parsed JSON text.
            is_ordered = type(scalar) is type(operands[0]) and type(scalar) in (str, float)
            return is_ordered and bool(_COMPARISONS[operator](scalar, operands[0]))
        case Operator.EXISTS:
            return operands[0] is (value is not None)
        case Operator.CONTAINS:
            return isinstance(value, tuple) and operands[0] in value
        case Operator.STARTS_WITH:
            prefix = operands[0]
            return isinstance(scalar, str) and isinstance(prefix, str) and scalar.startswith(prefix)
        case _:
            assert_never(predicate.operator)


def _passes(clause: Clause, values: Mapping[str, Value | None]) -> bool:
    match clause:
        case Predicate():
            return holds(clause, values[clause.property_name])
        case AnyOf(filters):
            return any(matches(branch, values) for branch in filters)
        case Not(inner):
            return not matches(inner, values)
        case _:
            assert_never(clause)


def _same(value: Scalar | None, operand: Scalar | None) -> bool:
    # Without the type test True would equal 1.0.
    return type(value) is type(operand) and value == operand
