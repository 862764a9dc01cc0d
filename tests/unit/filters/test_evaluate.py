"""What each operator means for a vector that has a value, lacks one, or has no index for it."""

import pytest

from vicinal.filters.evaluate import holds, matches
from vicinal.filters.nodes import AnyOf, Not, Operator, Predicate, Scalar, Value


@pytest.mark.parametrize(
    ("operator", "operands", "holding", "failing"),
    [
        ("$eq", ("a",), ["a"], ["b", "", 1.0, True, None]),
        ("$eq", (1.0,), [1.0], [2.0, "1", True, None]),
        ("$eq", (True,), [True], [False, 1.0, "true", None]),
        ("$eq", (0.0,), [0.0, -0.0], [False, "", None]),
        ("$eq", (None,), [None], ["", 0.0, False]),
        ("$ne", ("a",), ["b", 1.0, True, None], ["a"]),
        ("$ne", (1.0,), [True, "1", None], [1.0]),
        ("$ne", (None,), ["", 0.0, False], [None]),
        ("$in", ("a", 1.0), ["a", 1.0], ["b", True, None]),
        ("$in", ("a", None), ["a", None], ["b"]),
        ("$in", (), [], ["a", None]),
        ("$nin", ("a", 1.0), ["b", True, None], ["a", 1.0]),
        ("$nin", ("a", None), ["b"], ["a", None]),
        ("$nin", (), ["a", None], []),
        ("$lt", (2.0,), [1.0, -5.0], [2.0, 3.0, "1", True, None]),
        ("$lte", (2.0,), [1.0, 2.0], [3.0, None]),
        ("$gt", (2.0,), [3.0], [2.0, 1.0, "9", True, None]),
        ("$gte", (2.0,), [2.0, 3.0], [1.0, None]),
        ("$lt", ("b",), ["", "a", "B", "aé"], ["b", "ba", 1.0, None]),
        ("$gte", ("net",), ["net", "network", "é"], ["nes", "", None]),
        ("$gt", ("z",), ["é", "😀"], ["z", "Z"]),
        ("$gt", ("\uffff",), ["😀"], ["\uffff", "é"]),
        ("$exists", (True,), ["", 0.0, False, ("a",)], [None]),
        ("$exists", (False,), [None], ["", 0.0, False, ("a",)]),
        ("$exists", (None,), [], ["", None, ("a",)]),
        ("$contains", ("a",), [("a",), ("b", "a")], ["a", ("ab",), (), None, 1.0]),
        ("$contains", (1.0,), [], [1.0, ("1",), None]),
        ("$startsWith", ("ab",), ["ab", "abc"], ["a", "", "xab", ("ab",), None, 1.0]),
        ("$startsWith", ("",), ["", "a"], [None, 1.0, True, ("a",)]),
        ("$startsWith", (None,), [], ["", None]),
        ("$eq", (None,), [None, ("a",)], ["a"]),
        ("$eq", ("a",), ["a"], [("a",)]),
        ("$ne", ("a",), [("a",), None], ["a"]),
        ("$in", ("a", None), ["a", None, ("x",)], ["x"]),
        ("$lt", ("b",), ["a"], [("a",)]),
    ],
)
def test_operators_hold_for_values_of_their_operands_type(
    operator: str,
    operands: tuple[Scalar | None, ...],
    holding: list[Value | None],
    failing: list[Value | None],
) -> None:
    predicate = Predicate("k", Operator(operator), operands)

    assert [value for value in [*holding, *failing] if holds(predicate, value)] == holding


@pytest.mark.parametrize("operator", list(Operator))
def test_a_property_without_an_index_matches_nothing(operator: Operator) -> None:
    predicate = Predicate("k", operator, ("a",))

    assert not matches((predicate,), {"other": "a"})


def test_all_predicates_must_hold() -> None:
    both = (Predicate("a", Operator.EQ, (1.0,)), Predicate("b", Operator.NE, ("x",)))

    assert matches(both, {"a": 1.0, "b": None})
    assert not matches(both, {"a": 2.0, "b": None})
    assert not matches(both, {"a": 1.0, "b": "x"})


def test_no_predicates_match_everything() -> None:
    assert matches((), {})


IS_A, IS_B = Predicate("k", Operator.EQ, ("a",)), Predicate("k", Operator.EQ, ("b",))


def test_one_filter_of_a_disjunction_must_hold() -> None:
    either = (AnyOf(((IS_A,), (IS_B, Predicate("n", Operator.GT, (1.0,))))),)

    assert matches(either, {"k": "a", "n": None})
    assert matches(either, {"k": "b", "n": 2.0})
    assert not matches(either, {"k": "b", "n": 1.0})
    assert not matches((AnyOf(()),), {})


def test_a_negation_holds_for_what_its_filter_does_not_pass() -> None:
    neither = (Not((AnyOf(((IS_A,), (IS_B,))),)),)

    assert [value for value in ("a", "b", "c", None) if matches(neither, {"k": value})] == [
        "c",
        None,
    ]
    assert not matches((Not(()),), {})


def test_a_property_without_an_index_anywhere_in_a_filter_matches_nothing() -> None:
    unknown = Predicate("u", Operator.EQ, ("x",))

    for filter_ in ((Not((unknown,)),), (AnyOf(((IS_A,), (unknown,))),), (IS_A, Not((unknown,)))):
        assert not matches(filter_, {"k": "a"})
