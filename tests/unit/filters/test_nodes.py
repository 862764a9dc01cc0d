"""The shape of a filter has its names and operators, and no operand."""

import pytest

from vicinal.filters.nodes import shape
from vicinal.filters.parse import parse
from vicinal.limits import PROFILES


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, ""),
        ({"year": 4711}, "year $eq"),
        (
            {"year": {"$gte": 4711, "$lt": 4712}, "a.b-c": None},
            "year $gte and year $lt and a.b-c $eq",
        ),
        ({"k": {"$in": ["s3cret", 4711, None]}}, "k $in 3"),
        ({"k": {"$nin": ["s3cret"]}}, "k $nin 1"),
        ({"$or": [{"k": "s3cret"}, {"y": {"$gt": 4711}, "z": True}]}, "(k $eq or y $gt and z $eq)"),
        ({"$not": {"k": {"$startsWith": "s3cret"}}}, "not (k $startsWith)"),
        ({"k": {"$exists": True}}, "k $exists"),
        ({"k": {"$contains": "s3cret"}}, "k $contains"),
        ({"a\nb": 1}, "? $eq"),
        ({"a\x1b[31m": 1}, "? $eq"),
        ({"k" * 65: 1}, "? $eq"),
        ({"k" * 64: 1}, f"{'k' * 64} $eq"),
    ],
)
def test_a_shape_has_names_and_operators_alone(document: object, expected: str) -> None:
    told = shape(parse(document, PROFILES["open"], is_extended=True))

    assert told == expected
    assert "4711" not in told
    assert "s3cret" not in told
