"""The grammar of metadata filters: a parsed JSON document to predicates.

    filter     = { key: condition, .. }            all must hold
    condition  = scalar                            stands for {"$eq": scalar}
               | { operator: operand, .. }         one operator, or one lower and one upper bound
    scalar     = string | number | boolean | null

    $eq $ne            take a scalar
    $in $nin           take an array of scalars
    $lt $lte $gt $gte  take a string or a number

(platform docs, metadata filtering.) A dot in a key leads into nested objects. Numbers become
floats. Operands of equality are cut to the bytes that are indexed, as the stored values are,
so that a long string still finds itself; operands of ranges are compared whole.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, assert_never

from vicinal import metadata
from vicinal.errors import BadFilter, EmptyFilterValue
from vicinal.filters.nodes import LISTS, Filter, Operator, Predicate, Scalar
from vicinal.limits import Limits

_OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {operator.value: operator for operator in Operator}
)
_LOWER = frozenset((Operator.GT, Operator.GTE))
_UPPER = frozenset((Operator.LT, Operator.LTE))


def parse(document: object, limits: Limits) -> Filter:
    """Return the predicates of a filter, in the order of the document.

    A filter without conditions matches all: the documentation rules it out, but one client
    library sends it with every query that has none.

    Args:
        document: The filter as a JSON parser returned it.
        limits: Bounds on the filter's size and its keys, and on the indexed bytes of strings.

    Raises:
        BadFilter: the document is outside the grammar; the message names key and rule.
        EmptyFilterValue: the same, where a key has an empty object or array.
    """
    if not isinstance(document, dict):
        raise BadFilter(f"filter must be an object, got {metadata.kind(document)}")
    _check_size(document, limits)
    predicates: list[Predicate] = []
    for key, condition in document.items():
        broken = broken_key_rule(key, limits.filter_key_chars_max)
        if broken is not None:
            raise BadFilter(f"filter key {metadata.shown(key)} {broken}")
        predicates.extend(_predicates(key, condition, limits))
    return tuple(predicates)


def broken_key_rule(key: str, chars_max: int) -> str | None:
    """Return the rule of paths to properties that `key` breaks, None for a valid key."""
    if not key:
        return "must not be empty"
    if len(key) > chars_max:
        return f"has {len(key)} characters, max is {chars_max}"
    if key.startswith("$"):
        return "must not start with '$'; filters have no operators over several keys"
    for character in '"|':
        if character in key:
            return f"must not contain {character!r}"
    if not all(key.split(".")):
        return "must not have an empty name before, between or after its dots"
    return None


def _predicates(key: str, condition: object, limits: Limits) -> list[Predicate]:
    if isinstance(condition, list):
        error = BadFilter if condition else EmptyFilterValue
        raise error(f"filter on {metadata.shown(key)}: an array needs an operator, $in or $nin")
    if not isinstance(condition, dict):
        return [Predicate(key, Operator.EQ, (_equality(key, Operator.EQ, condition, limits),))]
    operators = _operators(key, condition)
    return [
        Predicate(key, operator, _operands(key, operator, condition[operator], limits))
        for operator in operators
    ]


def _operators(key: str, condition: dict[str, Any]) -> list[Operator]:
    if not condition:
        raise EmptyFilterValue(
            f"filter on {metadata.shown(key)}: an object of operators must not be empty"
        )
    operators: list[Operator] = []
    for name in condition:
        if name not in _OPERATORS:
            raise BadFilter(
                f"filter on {metadata.shown(key)}: unknown operator {metadata.shown(name)}, "
                f"expected one of {', '.join(_OPERATORS)}; nested properties take dotted keys"
            )
        operators.append(_OPERATORS[name])
    is_range = len(_LOWER.intersection(operators)) == len(_UPPER.intersection(operators)) == 1
    if len(operators) > 1 and not (is_range and len(operators) == 2):
        raise BadFilter(
            f"filter on {metadata.shown(key)}: {' and '.join(operators)} cannot be combined; "
            "only one lower bound ($gt or $gte) with one upper bound ($lt or $lte) can"
        )
    return operators


def _operands(
    key: str, operator: Operator, operand: object, limits: Limits
) -> tuple[Scalar | None, ...]:
    match operator:
        case Operator.EQ | Operator.NE:
            return (_equality(key, operator, operand, limits),)
        case Operator.IN | Operator.NIN:
            if isinstance(operand, list):
                return tuple(_equality(key, operator, item, limits) for item in operand)
            takes = "an array"
        case Operator.LT | Operator.LTE | Operator.GT | Operator.GTE:
            if isinstance(operand, str):
                return (operand,)
            if type(operand) in (int, float):
                return (_number(key, operand),)
            takes = "a string or a number"
        case _:
            assert_never(operator)
    raise BadFilter(
        f"filter on {metadata.shown(key)}: {operator} takes {takes}, got {metadata.kind(operand)}"
    )


def _equality(key: str, operator: Operator, operand: object, limits: Limits) -> Scalar | None:
    if operand is None or isinstance(operand, bool):
        return operand
    if isinstance(operand, str):
        return metadata.cut(operand, limits.indexed_string_bytes_max)
    if isinstance(operand, int | float):
        return _number(key, operand)
    takes = "an array of" if operator in LISTS else "one of"
    raise BadFilter(
        f"filter on {metadata.shown(key)}: {operator} takes {takes} string, number, boolean "
        f"or null, got {metadata.kind(operand)}"
    )


def _number(key: str, operand: Any) -> float:
    if not metadata.is_float64(operand):
        raise BadFilter(f"filter on {metadata.shown(key)}: {metadata.BEYOND}")
    return float(operand)


def _check_size(document: dict[str, Any], limits: Limits) -> None:
    try:
        size = len(metadata.encode(document))
    except RecursionError:
        raise BadFilter("filter is nested too deeply") from None
    except UnicodeEncodeError:
        raise BadFilter("filter holds half of a surrogate pair, which is no character") from None
    except ValueError:  # an integer of more digits than Python writes
        raise BadFilter(f"filter: {metadata.BEYOND}") from None
    if size > limits.filter_bytes_max:
        raise BadFilter(
            f"filter must be shorter than {limits.filter_bytes_max + 1} bytes of compact JSON, "
            f"got {size} bytes"
        )
