"""A parsed filter passes the vectors that a plain reading of its JSON passes.

The model below never parses: it walks the filter's JSON beside the metadata's.
"""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vicinal import metadata
from vicinal.errors import BadFilter
from vicinal.filters.evaluate import matches
from vicinal.filters.nodes import Value, predicates
from vicinal.filters.parse import parse
from vicinal.limits import Limits
from vicinal.model import IndexType, MetadataIndex

LIMITS = Limits()
INDEXES = {
    "s": IndexType.STRING,
    "n": IndexType.NUMBER,
    "b": IndexType.BOOLEAN,
    "o.s": IndexType.STRING,
    "o.p.n": IndexType.NUMBER,
}

texts = st.sampled_from(
    ["", "a", "b", "ab", "é", "€" * 21 + "x", "€" * 21 + "y", "€" * 22, "x" * 70]
)
numbers = st.sampled_from([0, 1, -1, 2, 0.5, 1.0, 2**53 + 1, -0.0])
scalars = st.none() | st.booleans() | texts | numbers
values = scalars | st.lists(scalars, max_size=2)
documents = st.fixed_dictionaries(
    {},
    optional={
        "s": values,
        "n": values,
        "b": values,
        "u": values,
        "o": values
        | st.fixed_dictionaries(
            {},
            optional={
                "s": values,
                "p": values | st.fixed_dictionaries({}, optional={"n": values}),
            },
        ),
    },
)
ordered = texts | numbers
conditions = (
    scalars
    | st.fixed_dictionaries({"$eq": scalars})
    | st.fixed_dictionaries({"$ne": scalars})
    | st.fixed_dictionaries({"$in": st.lists(scalars, max_size=3)})
    | st.fixed_dictionaries({"$nin": st.lists(scalars, max_size=3)})
    | st.builds(
        lambda bounds: dict(bounds),
        st.tuples(
            st.tuples(st.sampled_from(["$gt", "$gte"]), ordered),
            st.tuples(st.sampled_from(["$lt", "$lte"]), ordered),
        )
        | st.tuples(st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered)),
    )
)
filters = st.dictionaries(st.sampled_from([*INDEXES, "u"]), conditions, min_size=1, max_size=3)
extended_conditions = (
    conditions
    | st.fixed_dictionaries({"$exists": st.booleans()})
    | st.fixed_dictionaries({"$contains": texts})
    | st.fixed_dictionaries({"$startsWith": texts})
)
extended_filters = st.recursive(
    st.dictionaries(st.sampled_from([*INDEXES, "u"]), extended_conditions, min_size=1, max_size=2),
    lambda inner: (
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$not": inner})
        | st.fixed_dictionaries({"$not": inner, "s": extended_conditions})
    ),
    max_leaves=5,
)


def model_passes(filter_: dict[str, Any], document: dict[str, Any]) -> bool:
    return model_keys(filter_) <= set(INDEXES) and model_clauses_hold(filter_, document)


def model_keys(filter_: dict[str, Any]) -> set[str]:
    keys: set[str] = set()
    for key, condition in filter_.items():
        if key in ("$and", "$or", "$not"):
            inner = condition if isinstance(condition, list) else [condition]
            keys |= set().union(*map(model_keys, inner))
        else:
            keys.add(key)
    return keys


def model_clauses_hold(filter_: dict[str, Any], document: dict[str, Any]) -> bool:
    results = []
    for key, condition in filter_.items():
        if key == "$not":
            results.append(not model_clauses_hold(condition, document))
        elif key in ("$and", "$or"):
            inner = [model_clauses_hold(each, document) for each in condition]
            results.append(all(inner) if key == "$and" else any(inner))
        else:
            results.append(
                model_holds(condition, model_value(document, key), model_strings(document, key))
            )
    return all(results)


def model_strings(document: Any, key: str) -> list[bytes]:
    """Return the strings of an array that a string index has."""
    if INDEXES[key] is not IndexType.STRING:
        return []
    for name in key.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    elements = document if isinstance(document, list) else []
    return [model_type(each)[1] for each in elements if isinstance(each, str)]


def model_value(document: Any, key: str) -> Any:
    """Return what is indexed, as a tuple of its JSON type and value; None is lacking."""
    for name in key.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    kind = model_type(document)
    return kind if kind is not None and kind[0] == INDEXES[key].value else None


def model_type(value: Any) -> Any:
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int | float):
        return "number", float(value)
    if isinstance(value, str):
        end = 64
        encoded = value.encode()
        while len(encoded) > end and encoded[end] & 0xC0 == 0x80:
            end -= 1
        return "string", encoded[:end]
    return None


def model_holds(condition: Any, value: Any, strings: list[bytes]) -> bool:
    if not isinstance(condition, dict):
        return bool(value == model_type(condition))
    results = []
    for operator, operand in condition.items():
        if operator in ("$eq", "$ne"):
            results.append((value == model_type(operand)) == (operator == "$eq"))
        elif operator in ("$in", "$nin"):
            results.append((value in [model_type(each) for each in operand]) == (operator == "$in"))
        elif operator == "$exists":
            results.append((value is not None or bool(strings)) == operand)
        elif operator == "$contains":
            results.append(model_type(operand)[1] in strings)
        elif operator == "$startsWith":
            is_string = value is not None and value[0] == "string"
            results.append(is_string and value[1].startswith(model_type(operand)[1]))
        else:
            results.append(model_in_order(operator, value, operand))
    return all(results)


def model_in_order(operator: str, value: Any, operand: Any) -> bool:
    kind, bound = (
        ("string", operand.encode())
        if isinstance(operand, str)
        else (
            "number",
            float(operand),
        )
    )
    if value is None or value[0] != kind:
        return False
    stored = value[1]
    results: dict[str, bool] = {
        "$lt": stored < bound,
        "$lte": stored <= bound,
        "$gt": stored > bound,
        "$gte": stored >= bound,
    }
    return results[operator]


@given(filter_=filters, document=documents)
def test_a_parsed_filter_means_what_its_json_says(
    filter_: dict[str, Any], document: dict[str, Any]
) -> None:
    clauses = parse(json.loads(json.dumps(filter_)), LIMITS)

    assert matches(clauses, indexed(document)) == model_passes(filter_, document)
    assert parse(json.loads(json.dumps(filter_)), LIMITS, is_extended=True) == clauses


@given(filter_=extended_filters, document=documents)
def test_an_extended_filter_means_what_its_json_says(
    filter_: dict[str, Any], document: dict[str, Any]
) -> None:
    clauses = parse(json.loads(json.dumps(filter_)), LIMITS, is_extended=True)

    assert matches(clauses, indexed(document)) == model_passes(filter_, document)


def indexed(document: dict[str, Any]) -> dict[str, Value | None]:
    bytes_max = LIMITS.indexed_string_bytes_max
    values: dict[str, Value | None] = {}
    for key, kind in INDEXES.items():
        index = MetadataIndex(key, kind)
        values[key] = metadata.indexed_value(document, index, string_bytes_max=bytes_max)
        if kind is IndexType.STRING and values[key] is None:
            elements = metadata.indexed_elements(document, key, string_bytes_max=bytes_max)
            values[key] = None if elements is None else metadata.elements(elements)
    return values


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["k", "a.b", "$eq", "$in", "$gt", "$lt", "$", "$or", "$not", "$exists"]
                )
                | st.text(),
                inner,
            )
        ),
        max_leaves=10,
    )
)
def test_any_document_is_parsed_or_refused(document: object) -> None:
    for is_extended in (False, True):
        try:
            clauses = parse(document, LIMITS, is_extended=is_extended)
        except BadFilter:
            continue

        assert isinstance(document, dict)
        names = {each.property_name for each in predicates(clauses)}
        assert names == (model_keys(document) if is_extended else set(document))
