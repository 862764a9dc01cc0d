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


def model_passes(filter_: dict[str, Any], document: dict[str, Any]) -> bool:
    return all(
        key in INDEXES and model_holds(condition, model_value(document, key))
        for key, condition in filter_.items()
    )


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


def model_holds(condition: Any, value: Any) -> bool:
    if not isinstance(condition, dict):
        return bool(value == model_type(condition))
    results = []
    for operator, operand in condition.items():
        if operator in ("$eq", "$ne"):
            results.append((value == model_type(operand)) == (operator == "$eq"))
        elif operator in ("$in", "$nin"):
            results.append((value in [model_type(each) for each in operand]) == (operator == "$in"))
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
    predicates = parse(json.loads(json.dumps(filter_)), LIMITS)
    indexed = {
        key: metadata.indexed_value(
            document, MetadataIndex(key, kind), string_bytes_max=LIMITS.indexed_string_bytes_max
        )
        for key, kind in INDEXES.items()
    }

    assert matches(predicates, indexed) == model_passes(filter_, document)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["k", "a.b", "$eq", "$in", "$gt", "$lt", "$"]) | st.text(), inner
            )
        ),
        max_leaves=10,
    )
)
def test_any_document_is_parsed_or_refused(document: object) -> None:
    try:
        predicates = parse(document, LIMITS)
    except BadFilter:
        return

    assert isinstance(document, dict)
    assert {each.property_name for each in predicates} == set(document)
