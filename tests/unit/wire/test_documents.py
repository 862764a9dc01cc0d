"""One set of rules for metadata, whatever form it came in and whoever read it."""

import json
import sys
from typing import Any

import pytest

from vicinal.errors import BadMetadataKey, BadRecord, InvalidInput, MetadataTooLarge
from vicinal.limits import Limits
from vicinal.model import VectorBatch
from vicinal.wire import vectors

LIMITS = Limits()

BEYOND = [
    "1e400",
    "-1e400",
    "1" + "0" * 309,
    str(2**1024 - 2**970),
    "-1" + "0" * 400,
    "1" + "0" * 4_299,
    "1" + "0" * 4_400,
    "-1" + "0" * 100_000,
]


pytestmark = pytest.mark.usefixtures("quick")


def record(document: str) -> str:
    return f'{{"id":"a","values":[1,2,3],"metadata":{document}}}'


def forms(text: str) -> dict[str, str]:
    """Return a good record and this one in every form, and how the second is named there."""
    rows = [record('{"k":1}'), text]
    lines = "\n".join(rows)
    part = '--x\r\nContent-Disposition: form-data; name="vectors"\r\n\r\n'
    return {
        lines: "line 2",
        lines + "\n": "line 2",
        json.dumps(lines): "line 2",
        f"{part}{lines}\r\n--x--": "line 2",
        f"[{','.join(rows)}]": "vectors[1]",
        f'{{"vectors":[{",".join(rows)}]}}': "vectors[1]",
    }


def read(body: str, *, discard: bool = False) -> VectorBatch:
    return vectors.read(body.encode(), None, 3, LIMITS, discard=discard)


def refusal(body: str, error: type[InvalidInput], *, discard: bool = False) -> str:
    with pytest.raises(error) as caught:
        read(body, discard=discard)
    assert type(caught.value) is error
    return str(caught.value)


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        ({"": 1}, "a key must not be empty"),
        ({"a.b": 1}, "key 'a.b' must not contain '.'"),
        ({'a"': 1}, "key 'a\"' must not contain '\"'"),
        ({"$a": 1}, "key '$a' must not start with '$'"),
        ({"o": {"": 1}}, "a key must not be empty"),
        ({"o": [{"$": 1}]}, "key '$' must not start with '$'"),
    ],
)
@pytest.mark.parametrize("discard", [False, True])
def test_a_key_that_no_filter_could_name_refuses_the_batch(
    document: dict[str, Any], rule: str, discard: bool
) -> None:
    for body, place in forms(record(json.dumps(document))).items():
        message = refusal(body, BadMetadataKey, discard=discard)

        assert message == f'invalid metadata key for vector id="a": {rule} ({place})'


@pytest.mark.parametrize("number", BEYOND, ids=lambda text: f"{text[:6]}, {len(text)} long")
@pytest.mark.parametrize("shape", ['{"n":%s}', '{"o":{"n":%s}}', '{"l":["x",%s]}', '{"l":[[%s]]}'])
def test_a_number_beyond_float64_is_refused_however_it_is_spelled(number: str, shape: str) -> None:
    for body, place in forms(record(shape % number)).items():
        message = refusal(body, BadRecord)

        assert place in message
        assert "a number is beyond float64" in message
        assert "digits" not in message  # nor any other advice of Python's
        assert list(read(body, discard=True).metadata) == [b'{"k":1}']


@pytest.mark.parametrize(
    "text",
    [
        '{"id":"a","values":[1,2,%s]}',
        '{"id":"a","values":[1,2,3],"x":%s}',
        '{"id":%s,"values":[1,2,3]}',
    ],
)
def test_an_integer_too_long_to_be_read_is_refused_wherever_it_stands(text: str) -> None:
    for body in forms(text % ("1" * 4_400)):
        assert "a number is beyond float64" in refusal(body, BadRecord)


@pytest.mark.parametrize(
    "number", [2**53 + 1, -(2**64), 10**30 + 1, int(sys.float_info.max), 2**1024 - 2**970 - 1]
)
def test_integers_within_float64_keep_their_digits(number: int) -> None:
    (blob,) = read(record(json.dumps({"n": number}))).metadata

    assert blob == b'{"n":%d}' % number


@pytest.mark.parametrize("deep", [100, 101, 500, *range(900, 1_060, 5), 2_000, 50_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"k":', "}")])
def test_what_is_nested_too_deeply_is_refused_in_the_same_words_however_deep(
    deep: int, opened: str, closed: str
) -> None:
    end = "1" if ":" in opened else ""
    document = '{"k":' + opened * deep + end + closed * deep + "}"

    assert refusal(record(document), BadRecord).endswith("(line 1: nested too deeply)")


def test_what_is_too_large_is_not_looked_into() -> None:
    document = {"$": "x" * LIMITS.metadata_bytes_max}

    refusal(record(json.dumps(document)), MetadataTooLarge, discard=True)


def test_a_byte_order_mark_within_a_body_is_told_of_without_advice() -> None:
    message = refusal(record("{}") + "\n\ufeff" + record("{}"), BadRecord)

    assert message.endswith("(line 2: not JSON: it begins with a byte order mark)")
