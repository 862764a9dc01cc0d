"""The meaning of a filter: one pure function, the oracle for every engine.

Engines evaluate filters over columns, bitmaps or SQL; their tests compare with this function.

* A vector *has* a value for a property when a metadata index on it existed as the vector
  was written (or was backfilled) and the value's type is the index's. Otherwise it lacks it.
* Positive operators hold only for a value of the operand's type. Strings compare by
  Unicode code points, which is the order of their UTF-8 bytes.
* ``$ne`` and ``$nin`` are the negations of ``$eq`` and ``$in``, so vectors that lack the
  property match them.
* A null operand stands for lacking the property.
* A predicate on a property without a metadata index matches nothing, negations included;
  the result names the property (``QueryResult.unindexed``).
"""

import operator as comparisons
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, assert_never

from vicinal.filters.nodes import Filter, Operator, Predicate, Scalar

_COMPARISONS: Mapping[Operator, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        Operator.LT: comparisons.lt,
        Operator.LTE: comparisons.le,
        Operator.GT: comparisons.gt,
        Operator.GTE: comparisons.ge,
    }
)


def matches(filter_: Filter, values: Mapping[str, Scalar | None]) -> bool:
    """Tell whether a vector passes a filter.

    Args:
        filter_: The predicates, all of which must hold.
        values: For each property that has a metadata index, the vector's value or None
            when it lacks one. A property that is not a key here has no metadata index.
    """
    return all(
        predicate.property_name in values and holds(predicate, values[predicate.property_name])
        for predicate in filter_
    )


def holds(predicate: Predicate, value: Scalar | None) -> bool:
    """Tell whether a predicate on an indexed property holds for one vector's value."""
    operands = predicate.operands
    match predicate.operator:
        case Operator.EQ | Operator.IN:
            return any(_same(value, operand) for operand in operands)
        case Operator.NE | Operator.NIN:
            return not any(_same(value, operand) for operand in operands)
        case Operator.LT | Operator.LTE | Operator.GT | Operator.GTE as operator:
            # Python compares code points; lone surrogates cannot occur in parsed JSON text.
            is_ordered = type(value) is type(operands[0]) and type(value) in (str, float)
            return is_ordered and bool(_COMPARISONS[operator](value, operands[0]))
        case _:
            assert_never(predicate.operator)


def _same(value: Scalar | None, operand: Scalar | None) -> bool:
    # Without the type test True would equal 1.0.
    return type(value) is type(operand) and value == operand
