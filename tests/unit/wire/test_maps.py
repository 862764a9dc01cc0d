"""Maps on the wire: what is asked for is bounded, and points are raw float32 behind a line."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vicinal.errors import BadBody, BadFilter, BadParameter, BadQueryVector, InvalidInput
from vicinal.limits import Limits
from vicinal.model import Floats, Scope
from vicinal.wire import maps

LIMITS = Limits()


def parsed(document: object) -> maps.MapParameters:
    return maps.parameters(json.dumps(document).encode(), 2, LIMITS)


def read(body: bytes) -> tuple[dict[str, Any], Floats]:
    line, _, rest = body.partition(b"\n")
    assert (len(line) + 1) % 4 == 0
    return json.loads(line), np.frombuffer(rest, "<f4")


def test_an_empty_body_is_a_map_of_all_along_the_axes() -> None:
    wanted = maps.parameters(b"", 2, LIMITS)

    assert (wanted.scope, wanted.layout, wanted.count_max) == (Scope(), "axes", 20_000)
    assert (wanted.property_name, wanted.vector) == (None, None)


def test_all_members_are_read() -> None:
    wanted = parsed(
        {"namespace": "n", "idPrefix": "p", "count": 7, "layout": "neighbors",
         "propertyName": "a.b", "vector": [1, 2.5]}
    )  # fmt: skip

    assert wanted.scope == Scope("n", (), "p")
    assert (wanted.count_max, wanted.layout, wanted.property_name) == (7, "neighbors", "a.b")
    assert wanted.vector is not None
    assert wanted.vector.tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("document", "error", "text"),
    [
        ({"count": 0}, BadParameter, "1 to 100000"),
        ({"count": 100_001}, BadParameter, "1 to 100000"),
        ({"count": 5_001, "layout": "neighbors"}, BadParameter, "1 to 5000"),
        ({"count": 10**40}, InvalidInput, "count"),
        ({"layout": "rings"}, BadBody, "axes"),
        ({"propertyName": ""}, BadBody, "propertyName"),
        ({"propertyName": "$a"}, BadBody, "propertyName"),
        ({"vector": [1]}, BadQueryVector, "2 dimensions"),
        ({"vector": "x"}, InvalidInput, "vector"),
        ({"filter": {"a": {"$near": 1}}}, BadFilter, "near"),
    ],
)
def test_what_no_map_can_be_of_is_refused(
    document: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        parsed(document)


@pytest.mark.parametrize("layout", ["axes", "neighbors"])
def test_the_greatest_count_is_let_in(layout: str) -> None:
    bound = maps.POINTS_MAX[layout]

    assert parsed({"count": bound, "layout": layout}).count_max == bound


POSITIONS = np.array([[0.5, -1], [1, 0.25]], np.float32)


def test_a_map_is_a_line_and_the_points() -> None:
    shown = maps.PlacedVectors(["a", "ü"], 5, (0.5, 0.25), POSITIONS)

    head, floats = read(maps.placed(parsed({}), shown))

    assert head == {
        "count": 2, "totalCount": 5, "layout": "axes", "explained": [0.5, 0.25],
        "ids": ["a", "ü"], "hasValues": False, "categories": None, "query": None,
    }  # fmt: skip
    assert floats.tolist() == [0.5, -1, 1, 0.25]


def test_values_and_scores_follow_the_points() -> None:
    shown = maps.PlacedVectors(
        ["a", "b"], 2, (1, 0), POSITIONS, ["x", None],
        np.array([0.25, -1], np.float32), np.array([0, 1], np.float32),
    )  # fmt: skip

    head, floats = read(maps.placed(parsed({"vector": [1, 0]}), shown))

    assert (head["categories"], head["query"], head["hasValues"]) == (["x"], [0, 1], True)
    assert floats[4:].tolist()[0] == 0
    assert np.isnan(floats[5])
    assert floats[6:].tolist() == [0.25, -1]


def column(values: Sequence[object]) -> tuple[list[str] | None, list[float]]:
    positions = np.zeros((len(values), 2), np.float32)
    written = [json.dumps(value, separators=(",", ":")).encode() for value in values]
    of_points = [maps.point_value(value) for value in written]
    shown = maps.PlacedVectors([""] * len(values), 0, (0, 0), positions, of_points)
    head, floats = read(maps.placed(parsed({}), shown))
    return head["categories"], floats[2 * len(values) :].tolist()


def test_many_numbers_stay_numbers_also_those_beyond_float32() -> None:
    categories, numbers = column([*range(20), 1e300, -(10**30), None])

    assert categories is None
    assert numbers[:20] == list(range(20))
    assert numbers[20] > 2e38
    assert numbers[21] == pytest.approx(-1e30)
    assert np.isnan(numbers[22])


def test_few_numbers_booleans_and_mixed_values_are_categories() -> None:
    assert column([1, 2, 1]) == (["1", "2"], [0, 1, 0])
    assert column([True, "true", False]) == (["true", "false"], [0, 0, 1])
    assert column([["a"], {"b": 1}])[0] == ['["a"]', '{"b":1}']


def test_rare_values_are_one_category_less() -> None:
    values = [f"v{number}" for number in range(maps.CATEGORIES_MAX)] * 2 + ["rare"]

    categories, numbers = column(values)

    assert len(categories or ()) == maps.CATEGORIES_MAX
    assert numbers[-1] == -1


def test_a_long_value_is_cut() -> None:
    categories, _ = column(["x" * 5_000])

    assert categories == ["x" * 117 + "..."]
