"""Records that come as Python objects are held to the rules that records in JSON are."""

import json
from typing import Any

import numpy as np
import pytest

from vicinal.errors import BadRecord, InvalidInput, TooManyVectors
from vicinal.limits import Limits
from vicinal.wire import vectors

LIMITS = Limits(batch_vectors_max=3)
GOOD = {"id": "a", "values": [1.0, 2.5], "namespace": "n", "metadata": {"k": [1, {"x": "é"}]}}


def from_text(records: list[dict[str, Any]]) -> object:
    body = json.dumps({"vectors": records}).encode()
    return outcome(lambda: vectors.read(body, None, 2, LIMITS))


def from_objects(records: list[dict[str, Any]]) -> object:
    return outcome(lambda: vectors.batch(records, 2, LIMITS))


def outcome(read: Any) -> object:
    """Return a batch as plain data, or the class of the error."""
    try:
        batch = read()
    except InvalidInput as error:
        return type(error)
    return (batch.ids, batch.values.tolist(), batch.namespaces, batch.metadata)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"namespace": None, "metadata": None},
        {"namespace": "", "metadata": {}},
        {"namespace": "é" * 32},
        {"namespace": "é" * 33},
        {"namespace": 3},
        {"id": "é" * 32},
        {"id": "é" * 33},
        {"id": ""},
        {"id": 5},
        {"id": None},
        {"values": [1.0]},
        {"values": [1.0, 2.0, 3.0]},
        {"values": []},
        {"values": [1, 2]},
        {"values": [1e39, 0]},
        {"values": [1, "2"]},
        {"values": [1, True]},
        {"values": [[1, 2]]},
        {"values": None},
        {"values": {"0": 1, "1": 2}},
        {"metadata": []},
        {"metadata": "text"},
        {"metadata": {"": 1}},
        {"metadata": {"a.b": 1}},
        {"metadata": {"$a": 1}},
        {"metadata": {"a": {'"': 1}}},
        {"metadata": {"k": "x" * 10_232}},
        {"metadata": {"k": "x" * 10_233}},
        {"unknown": 1},
    ],
)
def test_a_record_is_accepted_or_refused_as_its_json_is(changed: dict[str, Any]) -> None:
    records = [GOOD, GOOD | {"id": "b"} | changed]

    assert from_objects(records) == from_text(records)


def test_a_record_without_a_member_is_refused_as_its_json_is() -> None:
    for member in ("id", "values"):
        records = [{name: value for name, value in GOOD.items() if name != member}]

        assert from_objects(records) is from_text(records) is BadRecord


def test_one_record_over_the_limit_is_refused_and_the_limit_is_not() -> None:
    assert from_objects([GOOD] * 3) == from_text([GOOD] * 3)
    assert from_objects([GOOD] * 4) is from_text([GOOD] * 4) is TooManyVectors


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "uint64"])
def test_values_may_be_an_array_of_any_numeric_type(dtype: str) -> None:
    batch = vectors.batch([{"id": "a", "values": np.array([1, 2], dtype)}], 2, LIMITS)

    assert batch.values.dtype == np.float32
    assert batch.values.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e39])
def test_a_number_that_is_no_float32_is_named_with_its_place(number: float) -> None:
    records = [GOOD, {"id": "bad", "values": np.array([0.0, number])}]

    with pytest.raises(BadRecord, match=r'values\[1\].*vectors\[1\], id "bad"'):
        vectors.batch(records, 2, LIMITS)


def test_no_records_are_an_empty_batch() -> None:
    batch = vectors.batch([], 2, LIMITS)

    assert len(batch) == 0
    assert batch.values.shape == (0, 2)
