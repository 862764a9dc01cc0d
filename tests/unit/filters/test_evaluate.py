"""What each operator means for a vector that has a value, lacks one, or has no index for it."""

import pytest

from vicinal.filters.evaluate import holds, matches
from vicinal.filters.nodes import Operator, Predicate, Scalar


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
    ],
)
def test_operators_hold_for_values_of_their_operands_type(
    operator: str,
    operands: tuple[Scalar | None, ...],
    holding: list[Scalar | None],
    failing: list[Scalar | None],
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
