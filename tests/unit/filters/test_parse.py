"""A filter inside the grammar becomes predicates; outside it, key and rule are named."""

from typing import Any

import pytest

from vicinal.errors import BadFilter
from vicinal.filters.nodes import AnyOf, Filter, Not, Operator, Predicate, Scalar, predicates
from vicinal.filters.parse import parse
from vicinal.limits import PROFILES, Limits

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
        assert type(next(predicates(parsed)).operands[0]) is type(operand)


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

    assert [each.property_name for each in predicates(parsed)] == ["b", "a.c"]


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
        assert (
            next(predicates(parse({letter * inside: 1}, limits))).property_name == letter * inside
        )
    with pytest.raises(BadFilter, match="has 513 characters, max is 512"):
        parse({letter * 513: 1}, limits)


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_filter_must_be_shorter_than_2048_bytes_of_compact_json(letter: str) -> None:
    room = 2_047 - len('{"k":{"$lt":""}}')
    size = len(letter.encode())
    text = letter * (room // size) + "x" * (room % size)

    assert next(predicates(parse({"k": {"$lt": text}}, LIMITS))).operands == (text,)
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
        assert next(predicates(parse({"k": {name: given}}, LIMITS))).operands == (cut,)
    assert next(predicates(parse({"k": text}, LIMITS))).operands == (cut,)


def test_operands_of_ranges_are_not_cut() -> None:
    assert next(predicates(parse({"k": {"$gte": "x" * 100}}, LIMITS))).operands == ("x" * 100,)


def test_messages_stay_short() -> None:
    assert len(refusal({"k": {"$" + "x" * 1000: 1}})) < 300


def test_a_filter_without_conditions_is_no_filter() -> None:
    assert parse({}, LIMITS) == ()


def extended(document: object, limits: Limits = LIMITS) -> Filter:
    return parse(document, limits, is_extended=True)


def extended_refusal(document: object) -> str:
    with pytest.raises(BadFilter) as caught:
        extended(document)
    return str(caught.value)


IS_X = Predicate("k", Operator.EQ, ("x",))


@pytest.mark.parametrize(
    ("document", "clauses"),
    [
        ({"$or": [{"k": "x"}, {"n": {"$lt": 2}}]},
         (AnyOf(((IS_X,), (Predicate("n", Operator.LT, (2.0,)),))),)),
        ({"$and": [{"k": "x"}, {"k": "x"}], "k": "x"}, (IS_X, IS_X, IS_X)),
        ({"$not": {"k": "x", "n": 1}}, (Not((IS_X, Predicate("n", Operator.EQ, (1.0,)))),)),
        ({"$or": [{"$and": [{"$not": {"k": "x"}}, {"k": "x"}]}]},
         (AnyOf(((Not((IS_X,)), IS_X),)),)),
        ({"k": {"$exists": True}}, (Predicate("k", Operator.EXISTS, (True,)),)),
        ({"k": {"$exists": False}}, (Predicate("k", Operator.EXISTS, (False,)),)),
        ({"k": {"$contains": "x" * 70}}, (Predicate("k", Operator.CONTAINS, ("x" * 64,)),)),
        ({"k": {"$startsWith": "é" * 33}}, (Predicate("k", Operator.STARTS_WITH, ("é" * 32,)),)),
    ],
)  # fmt: skip
def test_extensions_are_parsed_when_they_are_asked_for(document: object, clauses: Filter) -> None:
    assert extended(document) == clauses
    assert parse(document, PROFILES["open"]) == clauses
    assert refusal(document)


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        ({"$or": {}}, "$or takes an array of filters, got an object"),
        ({"$or": []}, "$or must not be an empty array"),
        ({"$and": "x"}, "$and takes an array of filters, got a string"),
        ({"$or": [{}]}, "a filter in $and, $or and $not must not be empty"),
        ({"$or": [1]}, "each filter in $and, $or and $not must be an object, got a number"),
        ({"$not": []}, "$not takes a filter, got an array"),
        ({"$not": {}}, "must not be empty"),
        ({"$nor": [{"k": 1}]}, "filter key '$nor' must not start with '$'"),
        ({"k": {"$not": {"$eq": 1}}}, "unknown operator '$not'"),
        ({"k": {"$or": [1]}}, "unknown operator '$or'"),
        ({"k": {"$exists": 1}}, "$exists takes true or false, got a number"),
        ({"k": {"$exists": None}}, "$exists takes true or false, got null"),
        ({"k": {"$contains": ["x"]}}, "$contains takes a string, got an array"),
        ({"k": {"$contains": 1}}, "$contains takes a string, got a number"),
        ({"k": {"$startsWith": None}}, "$startsWith takes a string, got null"),
        ({"k": {"$startsWith": "a", "$lt": "b"}}, "cannot be combined"),
    ],
)
def test_what_is_outside_the_extended_grammar_is_refused(document: object, rule: str) -> None:
    assert rule in extended_refusal(document)


def test_without_extensions_an_unknown_operator_is_told_the_platforms() -> None:
    message = refusal({"k": {"$exists": True}})

    assert "unknown operator '$exists', expected one of $eq, $ne, $in, $nin, $lt, " in message
    assert "$contains" not in message
    assert "$contains" in extended_refusal({"k": {"$some": 1}})


@pytest.mark.parametrize("combinator", ["$and", "$or", "$not"])
def test_combinators_are_nested_to_a_bound(combinator: str) -> None:
    def nested(depth: int) -> dict[str, Any]:
        inner: dict[str, Any] = {"k": 1}
        for _ in range(depth):
            inner = {combinator: inner if combinator == "$not" else [inner]}
        return inner

    assert len(list(predicates(extended(nested(LIMITS.filter_depth_max))))) == 1
    assert extended_refusal(nested(9)) == "filter has $and, $or and $not 9 deep, max is 8"
    assert "deep" in extended_refusal(nested(200)) or "bytes" in extended_refusal(nested(200))


def test_clauses_are_counted_to_a_bound() -> None:
    limits = Limits(filter_bytes_max=100_000)
    many = [{"k": 1}] * 127

    assert len(list(predicates(extended({"$or": many}, limits)))) == 127
    for document in ({"$or": [*many, {"k": 1}]}, {"$or": many, "a": 1}, {"$not": {"$or": many}}):
        with pytest.raises(BadFilter, match="more than 128 conditions"):
            extended(document, limits)
    assert len(extended({f"k{n}": 1 for n in range(128)}, limits)) == 128


def test_an_extended_filter_has_the_bound_of_bytes_too() -> None:
    assert "must be shorter than 2048 bytes" in extended_refusal({"$or": [{"k": "x" * 3_000}]})
