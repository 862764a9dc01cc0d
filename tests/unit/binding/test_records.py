"""Records are copied as a JSON parser would have them, whatever Python's types they came in."""

from collections import UserDict
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np
import pytest

from vicinal.binding.records import Columns, Vector, records
from vicinal.errors import BadRecord


class Color(StrEnum):
    RED = "red"


class Whole(int):
    pass


SIMPLE: dict[str, Any] = {"a": 1, "b": 0.5, "c": "red", "d": True, "e": None, "f": -(2**62)}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (SIMPLE, SIMPLE),
        ({}, {}),
        (UserDict(SIMPLE), SIMPLE),
        ({"ä": "ö", "b": 10**30}, {"ä": "ö", "b": 10**30}),
        ({Color.RED: Color.RED, "a": Whole(7)}, {"red": "red", "a": 7}),
        ({"a": np.int8(3), "b": (1, [2.5, {"c": None}])}, {"a": 3, "b": [1, [2.5, {"c": None}]]}),
    ],
)
def test_metadata_is_copied_into_pythons_own_types(
    metadata: Mapping[str, Any], expected: dict[str, Any]
) -> None:
    as_record, as_vector, as_column = (
        next(records(vectors))["metadata"]
        for vectors in (
            [{"id": "a", "values": [1.0], "metadata": metadata}],
            [Vector("a", np.ones(1, np.float32), metadata=metadata)],
            Columns(["a"], [[1.0]], metadata=[metadata]),
        )
    )

    for copied in (as_record, as_vector, as_column):
        assert copied == expected
        assert copied is not metadata
        assert [type(key) for key in copied] == [str] * len(expected)
        for name, value in expected.items():
            assert type(copied[name]) is type(value)


@pytest.mark.parametrize(
    ("metadata", "where"),
    [
        ({"a": "\ud800"}, r"vectors\[1\].metadata.a: half of a surrogate pair"),
        ({"\ud800": 1}, r"vectors\[1\].metadata: half of a surrogate pair"),
        ({1: 1}, r"vectors\[1\].metadata: key 1 is int, not a string"),
        ({"a": 1j}, r"vectors\[1\].metadata.a: complex has no form in JSON"),
        ({"a": 10**5_000}, r"vectors\[1\].metadata.a: an integer of 16610 bits"),
    ],
)
def test_metadata_without_a_form_in_json_is_refused_with_its_place(
    metadata: dict[Any, Any], where: str
) -> None:
    columns = Columns(["a", "b"], np.ones((2, 1)), metadata=[SIMPLE, metadata])

    with pytest.raises(BadRecord, match=where):
        list(records(columns))
