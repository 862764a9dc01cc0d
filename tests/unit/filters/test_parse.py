"""A filter inside the grammar becomes predicates; outside it, key and rule are named."""

from typing import Any

import pytest

from vicinal.errors import BadFilter
from vicinal.filters.nodes import Operator, Predicate, Scalar
from vicinal.filters.parse import parse
from vicinal.limits import Limits

LIMITS = Limits()


def refusal(document: object) -> str:
    with pytest.raises(BadFilter) as caught:
        parse(document, LIMITS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "operand"),
    [("x", "x"), ("", ""), (1, 1.0), (0.5, 0.5), (True, True), (False, False), (None, None)],
)
def test_a_scalar_stands_for_equality(given: object, operand: Scalar | None) -> None:
    expected = (Predicate("k", Operator.EQ, (operand,)),)

    for document in ({"k": given}, {"k": {"$eq": given}}):
        parsed = parse(document, LIMITS)
        assert parsed == expected
        assert type(parsed[0].operands[0]) is type(operand)


@pytest.mark.parametrize("name", ["$eq", "$ne"])
@pytest.mark.parametrize("operand", ["x", 1.0, True, None])
def test_equality_takes_any_scalar(name: str, operand: Scalar | None) -> None:
    assert parse({"k": {name: operand}}, LIMITS) == (Predicate("k", Operator(name), (operand,)),)


@pytest.mark.parametrize("name", ["$in", "$nin"])
@pytest.mark.parametrize("operands", [[], ["x"], ["x", 1.0, True, None], ["x", "x"]])
def test_lists_take_any_number_of_scalars(name: str, operands: list[Scalar | None]) -> None:
    parsed = parse({"k": {name: operands}}, LIMITS)

    assert parsed == (Predicate("k", Operator(name), tuple(operands)),)


@pytest.mark.parametrize("name", ["$lt", "$lte", "$gt", "$gte"])
@pytest.mark.parametrize("operand", ["x", "", 1.0, -0.5])
def test_ranges_take_strings_and_numbers(name: str, operand: Scalar) -> None:
    assert parse({"k": {name: operand}}, LIMITS) == (Predicate("k", Operator(name), (operand,)),)


@pytest.mark.parametrize("lower", ["$gt", "$gte"])
@pytest.mark.parametrize("upper", ["$lt", "$lte"])
def test_a_lower_and_an_upper_bound_go_together_in_either_order(lower: str, upper: str) -> None:
    low, high = Predicate("k", Operator(lower), ("a",)), Predicate("k", Operator(upper), ("b",))

    assert parse({"k": {lower: "a", upper: "b"}}, LIMITS) == (low, high)
    assert parse({"k": {upper: "b", lower: "a"}}, LIMITS) == (high, low)


@pytest.mark.parametrize(
    "operators",
    [
        ("$eq", "$ne"),
        ("$in", "$nin"),
        ("$lt", "$lte"),
        ("$gt", "$gte"),
        ("$eq", "$lt"),
        ("$in", "$gt"),
        ("$gt", "$lt", "$lte"),
        ("$gt", "$lt", "$ne"),
    ],
)
def test_no_other_operators_go_together(operators: tuple[str, ...]) -> None:
    condition: dict[str, Any] = {
        name: ["x"] if name in ("$in", "$nin") else "x" for name in operators
    }

    message = refusal({"k": condition})

    assert "filter on 'k'" in message
    assert f"{' and '.join(operators)} cannot be combined" in message


def test_keys_are_all_to_hold_in_their_order() -> None:
    parsed = parse({"b": 1, "a.c": {"$gt": 2}}, LIMITS)

    assert [each.property_name for each in parsed] == ["b", "a.c"]


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        (None, "filter must be an object, got null"),
        ([], "filter must be an object, got an array"),
        ("x", "filter must be an object, got a string"),
        ({"": 1}, "filter key '' must not be empty"),
        ({"$and": []}, "filter key '$and' must not start with '$'"),
        ({'a"b': 1}, "must not contain '\"'"),
        ({"a|b": 1}, "filter key 'a|b' must not contain '|'"),
        ({".a": 1}, "filter key '.a' must not have an empty name"),
        ({"a.": 1}, "must not have an empty name"),
        ({"a..b": 1}, "must not have an empty name"),
        ({".": 1}, "must not have an empty name"),
        ({"k": []}, "filter on 'k': an array needs an operator"),
        ({"k": ["x"]}, "filter on 'k': an array needs an operator"),
        ({"k": {}}, "filter on 'k': an object of operators must not be empty"),
        ({"k": {"$regex": "x"}}, "filter on 'k': unknown operator '$regex'"),
        ({"k": {"nested": 1}}, "filter on 'k': unknown operator 'nested'"),
        ({"k": {"gte": 1}}, "unknown operator 'gte'"),
        ({"k": {"$GTE": 1}}, "unknown operator '$GTE'"),
        ({"k": {"": 1}}, "unknown operator ''"),
        ({"k": {"$eq": []}}, "$eq takes one of string, number, boolean or null, got an array"),
        ({"k": {"$ne": {}}}, "$ne takes one of string, number, boolean or null, got an object"),
        ({"k": {"$in": "x"}}, "$in takes an array, got a string"),
        ({"k": {"$nin": {"a": 1}}}, "$nin takes an array, got an object"),
        ({"k": {"$in": None}}, "$in takes an array, got null"),
        ({"k": {"$in": [["x"]]}}, "$in takes an array of string, number, boolean or null"),
        ({"k": {"$nin": [{}]}}, "$nin takes an array of string, number, boolean or null"),
        ({"k": {"$lt": True}}, "$lt takes a string or a number, got a boolean"),
        ({"k": {"$lte": None}}, "$lte takes a string or a number, got null"),
        ({"k": {"$gt": [1]}}, "$gt takes a string or a number, got an array"),
        ({"k": {"$gte": {}}}, "$gte takes a string or a number, got an object"),
        ({"k": 10**400}, "filter on 'k': a number is beyond float64"),
        ({"k": {"$lt": -(10**400)}}, "filter on 'k': a number is beyond float64"),
        ({"k": float("inf")}, "filter on 'k': a number is beyond float64"),
        ({"k": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_what_is_outside_the_grammar_is_refused(document: object, rule: str) -> None:
    assert rule in refusal(document)


def test_a_deep_filter_is_refused() -> None:
    document: dict[str, Any] = {}
    for _ in range(5000):
        document = {"k": document}

    assert "nested too deeply" in refusal(document)


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_key_is_measured_in_characters(letter: str) -> None:
    limits = Limits(filter_bytes_max=10_000)

    for inside in (511, 512):
        assert parse({letter * inside: 1}, limits)[0].property_name == letter * inside
    with pytest.raises(BadFilter, match="has 513 characters, max is 512"):
        parse({letter * 513: 1}, limits)


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_filter_must_be_shorter_than_2048_bytes_of_compact_json(letter: str) -> None:
    room = 2_047 - len('{"k":{"$lt":""}}')
    size = len(letter.encode())
    text = letter * (room // size) + "x" * (room % size)

    assert parse({"k": {"$lt": text}}, LIMITS)[0].operands == (text,)
    assert refusal({"k": {"$lt": text + letter}}) == (
        f"filter must be shorter than 2048 bytes of compact JSON, got {2_047 + size} bytes"
    )


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 64),
        ("é" * 32, "é" * 32),
        ("é" * 33, "é" * 32),
        ("x" + "é" * 32, "x" + "é" * 31),
        ("€" * 22, "€" * 21),
        ("😀" * 17, "😀" * 16),
    ],
)
def test_operands_of_equality_are_cut_as_stored_values_are(text: str, cut: str) -> None:
    for name, given in (("$eq", text), ("$ne", text), ("$in", [text]), ("$nin", [text])):
        assert parse({"k": {name: given}}, LIMITS)[0].operands == (cut,)
    assert parse({"k": text}, LIMITS)[0].operands == (cut,)


def test_operands_of_ranges_are_not_cut() -> None:
    assert parse({"k": {"$gte": "x" * 100}}, LIMITS)[0].operands == ("x" * 100,)


def test_messages_stay_short() -> None:
    assert len(refusal({"k": {"$" + "x" * 1000: 1}})) < 300


def test_a_filter_without_conditions_is_no_filter() -> None:
    assert parse({}, LIMITS) == ()
