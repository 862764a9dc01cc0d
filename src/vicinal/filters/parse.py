"""The grammar of metadata filters: a parsed JSON document to predicates.

    filter     = { key: condition, .. }            all must hold
    condition  = scalar                            stands for {"$eq": scalar}
               | { operator: operand, .. }         one operator, or one lower and one upper bound
    scalar     = string | number | boolean | null

    $eq $ne            take a scalar
    $in $nin           take an array of scalars
    $lt $lte $gt $gte  take a string or a number

(platform docs, metadata filtering.) With extensions, which are ours:

    filter     = as above, and any of  "$and": [filter, ..]  "$or": [filter, ..]  "$not": filter

    $exists                takes true or false
    $contains $startsWith  take a string

A dot in a key leads into nested objects. Numbers become floats. Operands of equality, of $contains
and of $startsWith are cut to the bytes that are indexed, as the stored values are, so that a long
string still finds itself; operands of ranges are compared whole.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, assert_never

from vicinal import metadata
from vicinal.errors import BadFilter, EmptyFilterValue
from vicinal.filters.nodes import (
    EXTENSIONS,
    LISTS,
    AnyOf,
    Clause,
    Filter,
    Not,
    Operator,
    Predicate,
    Scalar,
)
from vicinal.limits import Limits

_OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {operator.value: operator for operator in Operator}
)
_PLATFORM_OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {name: operator for name, operator in _OPERATORS.items() if operator not in EXTENSIONS}
)
_AND, _OR, _NOT = "$and", "$or", "$not"
_COMBINATORS = frozenset((_AND, _OR, _NOT))
_LOWER = frozenset((Operator.GT, Operator.GTE))
_UPPER = frozenset((Operator.LT, Operator.LTE))


def parse(document: object, limits: Limits, *, is_extended: bool = False) -> Filter:
    """Return the clauses of a filter, in the order of the document.

    A filter without conditions matches all: the documentation rules it out, but one client
    library sends it with every query that has none.

    Args:
        document: The filter as a JSON parser returned it.
        limits: Bounds on the filter's size, depth and keys, and on the indexed bytes of strings;
            they may allow extensions in any case.
        is_extended: Whether extensions are allowed.

    Raises:
        BadFilter: the document is outside the grammar; the message names key and rule.
        EmptyFilterValue: the same, where a key has an empty object or array.
    """
    if not isinstance(document, dict):
        raise BadFilter(f"filter must be an object, got {metadata.kind(document)}")
    _check_size(document, limits)
    if is_extended or limits.filter_extensions:
        return _ExtendedParser(limits).filter(document, 0)
    clauses: list[Clause] = []
    for key, condition in document.items():
        clauses.extend(_condition(key, condition, limits, _PLATFORM_OPERATORS))
    return tuple(clauses)


class _ExtendedParser:
    """Parses one filter with extensions, counting its clauses."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clause_count = 0

    def filter(self, document: object, depth: int) -> Filter:
        """Return the clauses of a filter that is inside this many combinators."""
        if not isinstance(document, dict):
            raise BadFilter(
                "each filter in $and, $or and $not must be an object, "
                f"got {metadata.kind(document)}"
            )
        if depth and not document:
            raise EmptyFilterValue("a filter in $and, $or and $not must not be empty")
        clauses: list[Clause] = []
        for key, condition in document.items():
            if key in _COMBINATORS:
                clauses.extend(self._combined(key, condition, depth + 1))
            else:
                parsed = _condition(key, condition, self._limits, _OPERATORS)
                self._count(len(parsed))
                clauses.extend(parsed)
        return tuple(clauses)

    def _combined(self, key: str, condition: object, depth: int) -> Filter:
        depth_max = self._limits.filter_depth_max
        if depth > depth_max:
            raise BadFilter(f"filter has $and, $or and $not {depth} deep, max is {depth_max}")
        self._count(1)
        if key == _NOT:
            if not isinstance(condition, dict):
                raise BadFilter(f"{key} takes a filter, got {metadata.kind(condition)}")
            return (Not(self.filter(condition, depth)),)
        if not isinstance(condition, list):
            raise BadFilter(f"{key} takes an array of filters, got {metadata.kind(condition)}")
        if not condition:
            raise EmptyFilterValue(f"{key} must not be an empty array")
        filters = [self.filter(branch, depth) for branch in condition]
        if key == _AND:
            return tuple(clause for branch in filters for clause in branch)
        return (AnyOf(tuple(filters)),)

    def _count(self, count: int) -> None:
        self._clause_count += count
        clauses_max = self._limits.filter_clauses_max
        if self._clause_count > clauses_max:
            raise BadFilter(f"filter has more than {clauses_max} conditions, $and, $or and $not")


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


def _condition(
    key: str, condition: object, limits: Limits, known: Mapping[str, Operator]
) -> list[Predicate]:
    """Return the predicates of the condition on a key, with the operators that are known."""
    broken = broken_key_rule(key, limits.filter_key_chars_max)
    if broken is not None:
        raise BadFilter(f"filter key {metadata.shown(key)} {broken}")
    if isinstance(condition, list):
        error = BadFilter if condition else EmptyFilterValue
        raise error(f"filter on {metadata.shown(key)}: an array needs an operator, $in or $nin")
    if not isinstance(condition, dict):
        return [Predicate(key, Operator.EQ, (_equality(key, Operator.EQ, condition, limits),))]
    operators = _operators(key, condition, known)
    return [
        Predicate(key, operator, _operands(key, operator, condition[operator], limits))
        for operator in operators
    ]


def _operators(
    key: str, condition: dict[str, Any], known: Mapping[str, Operator]
) -> list[Operator]:
    if not condition:
        raise EmptyFilterValue(
            f"filter on {metadata.shown(key)}: an object of operators must not be empty"
        )
    operators: list[Operator] = []
    for name in condition:
        if name not in known:
            raise BadFilter(
                f"filter on {metadata.shown(key)}: unknown operator {metadata.shown(name)}, "
                f"expected one of {', '.join(known)}; nested properties take dotted keys"
            )
        operators.append(known[name])
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
        case Operator.EXISTS:
            if isinstance(operand, bool):
                return (operand,)
            takes = "true or false"
        case Operator.CONTAINS | Operator.STARTS_WITH:
            if isinstance(operand, str):
                return (metadata.cut(operand, limits.indexed_string_bytes_max),)
            takes = "a string"
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
