"""The quick reader reads as the careful one does, and leaves the rest to it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vicinal.wire import members
from vicinal.wire.members import Malformed, NotANumber

CLEAR = [
    '{"id":"a","values":[1,2.5,-3e2]}',
    ' { "id" : "a" ,\t"values" : [ 1 , 2.5 , -3e2 ] \r\n}',
    '{"values":[1,2.5,-3e2],"id":"a"}',
    '{"id":"a[b","values":[1,2.5,-3e2]}',
    '{"id":"a","metadata":{"l":["x",["y"]],"o":{}},"values":[1,2.5,-3e2]}',
    '{"id":"a","values":[1,2.5,-3e2],"metadata":{"l":["x",[1,[2]]]}}',
    '{"a/b":1,"~1":2,"":3,"é":4,"values":[1,2.5,-3e2]}',
    '{"values":[1,2.5,-3e2],"n":null,"t":true,"f":false,"i":-7,"d":0.25,"s":"\\n"}',
    '{"values":[1,2.5,-3e2],"id":"\\"values\\":["}',
]


@pytest.mark.parametrize("text", CLEAR)
def test_a_clear_object_is_read_quickly_and_alike(text: str) -> None:
    read = members.quick(text.encode(), "values")

    assert read is not None
    expected = members.careful(text.encode(), "values", unique=True)
    assert list(read) == list(expected)
    assert isinstance(read["values"], np.ndarray)
    assert read["values"].dtype == np.float64
    assert read["values"].tolist() == expected["values"] == [1, 2.5, -300]
    assert {**read, "values": 0} == {**expected, "values": 0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1,2]",
        "17",
        '{"values":[1,2]',
        '{"values":[[1],2]}',
        '{"values":[1,[2]]}',
        '{"values":[[]]}',
        '{"id":"[","values":[[1],2]}',
        '{"m":{"x":[]},"values":[[1],2]}',
        '{"values":[1],"values":[2]}',
        '{"id":"a","id":"b","values":[1]}',
        r'{"id":"a","id\u0000":"b","values":[1]}',
        '{"values":[true]}',
        '{"values":[null]}',
        '{"values":["1"]}',
        '{"values":[{}]}',
        '{"values":{"0":1}}',
        '{"values":[NaN]}',
        '{"values":[1e400]}',
        r'{"id":"\ud800","values":[1]}',
        '{"id":' + "[" * 100_001,
    ],
)
def test_what_is_not_clear_is_left_to_the_careful_reader(text: str) -> None:
    assert members.quick(text.encode(), "values") is None


def test_malformed_utf8_is_left_to_the_careful_reader() -> None:
    assert members.quick(b'{"id":"\xff","values":[1]}', "values") is None
    with pytest.raises(Malformed, match="not UTF-8 at byte 7"):
        members.careful(b'{"id":"\xff","values":[1]}', "values", unique=True)


def test_objects_are_read_one_after_the_other() -> None:
    """A simdjson parser refuses to go on while a part of its last document is held."""
    first = members.quick(b'{"values":[1],"m":{"l":[1]}}', "values")
    second = members.quick(b'{"values":[2],"m":{"l":[2]}}', "values")

    assert first is not None
    assert second is not None
    assert (first["values"][0], first["m"], second["values"][0]) == (1, {"l": [1]}, 2)


def test_threads_do_not_share_a_document() -> None:
    def last(number: int) -> float:
        text = f'{{"values":[{",".join(str(number + i) for i in range(500))}]}}'.encode()
        read = members.quick(text, "values")
        assert read is not None
        return float(read["values"][-1])

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(last, range(200))) == [float(n + 499) for n in range(200)]


def test_a_repeated_member_is_refused_or_the_last_one_counts() -> None:
    text = b'{"a":1,"b":{"c":1,"c":2},"a":3}'

    assert members.careful(text, "x", unique=False) == {"a": 3, "b": {"c": 2}}
    with pytest.raises(Malformed, match="member 'a' is given twice"):
        members.careful(text, "x", unique=True)


def test_a_syntax_error_names_its_column() -> None:
    with pytest.raises(Malformed, match="not JSON: Expecting ',' delimiter at column 8"):
        members.careful(b'{"a":1 2}', "x", unique=True)


def test_integers_with_too_many_digits_are_refused() -> None:
    with pytest.raises(Malformed, match=r"^a number is beyond float64$"):
        members.careful(b'{"a":' + b"1" * 4301 + b"}", "x", unique=True)


def test_numbers_beyond_float64_become_infinite() -> None:
    assert members.numbers([1, 10**400, -(10**400)]).tolist() == [1, np.inf, -np.inf]


@pytest.mark.parametrize(
    ("value", "position"), [(None, None), ("x", None), ({}, None), ([1, True], 1), ([[]], 0)]
)
def test_what_is_no_array_of_numbers_is_named_by_position(
    value: object, position: int | None
) -> None:
    with pytest.raises(NotANumber) as caught:
        members.numbers(value)

    assert caught.value.position == position
