"""A vectors body in any form becomes the same batch, or is refused as a whole with a reason.

Runs with each way of reading an object: simdjson first, and the careful reader alone.
"""

import itertools
import json
from typing import Any

import numpy as np
import pytest

from vicinal.errors import (
    BadContentType,
    BadMetadataKey,
    BadRecord,
    IdTooLong,
    InvalidInput,
    MetadataTooLarge,
    NamespaceTooLong,
    TooManyVectors,
    WrongDimensions,
)
from vicinal.limits import Limits
from vicinal.model import VectorBatch
from vicinal.wire import lines, vectors
from vicinal.wire.rows import MemoryBatchWriter

pytestmark = pytest.mark.usefixtures("quick")

LIMITS = Limits()
A = {"id": "a", "values": [1, 0.5, -2], "namespace": "n", "metadata": {"k": 1, "s": "é"}}
B = {"id": "b", "values": [0, 1, 0], "namespace": None, "metadata": None}
C = {"id": "c", "values": [1e-3, 2e3, 3]}
RECORDS = [A, B, C]


def read(
    body: bytes | str,
    content_type: str | None = "application/x-ndjson",
    *,
    dimensions: int = 3,
    limits: Limits = LIMITS,
    discard: bool = False,
) -> VectorBatch:
    raw = body.encode() if isinstance(body, str) else body
    return vectors.read(raw, content_type, dimensions, limits, discard=discard)


def line(**members: Any) -> str:
    return json.dumps({"id": "a", "values": [1, 2, 3], **members}, ensure_ascii=False)


def ndjson(*records: object) -> str:
    return "\n".join(json.dumps(record) for record in records)


def multipart(content: str, name: str = 'name="vectors"', end: str = "\r\n", head: str = "") -> str:
    return end.join(
        [
            "--frontier",
            f'Content-Disposition: form-data; {name}; filename="vectors.ndjson"',
            f"Content-Type: application/x-ndjson{head}",
            "",
            content,
            "--frontier--",
            "",
        ]
    )


def refusal(body: bytes | str, error: type[InvalidInput] = BadRecord, **options: Any) -> str:
    with pytest.raises(error) as caught:
        read(body, **options)
    return str(caught.value)


NDJSON = ndjson(*RECORDS)
FORMS = {
    "ndjson": NDJSON,
    "final newline": NDJSON + "\n",
    "crlf": NDJSON.replace("\n", "\r\n") + "\r\n",
    "blank lines": "\n\n" + NDJSON.replace("\n", "\n \t\r\n\n") + "\n  \n",
    "byte order mark": "\ufeff" + NDJSON,
    "spaces around": "\n  " + NDJSON.replace("\n", "  \n\t") + "  ",
    "unescaped": "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS),
    "no spaces": "\n".join(json.dumps(each, separators=(",", ":")) for each in RECORDS),
    "vectors": json.dumps({"vectors": RECORDS}),
    "vectors, pretty": json.dumps({"vectors": RECORDS}, indent=2),
    "vectors beside others": json.dumps({"x": {"y": [1, "]}"]}, "vectors": RECORDS, "z": [{}]}),
    "array": json.dumps(RECORDS),
    "array, pretty": json.dumps(RECORDS, indent="\t"),
    "string": json.dumps(NDJSON),
    "string with final newline": json.dumps(NDJSON + "\n"),
    "string of vectors": json.dumps(json.dumps({"vectors": RECORDS})),
    "multipart": multipart(NDJSON),
    "multipart, pretty vectors": multipart(json.dumps({"vectors": RECORDS}, indent=1)),
    "multipart, unquoted name": multipart(NDJSON, name="name=vectors"),
    "multipart, bare newlines": multipart(NDJSON, end="\n"),
    "multipart, binary": multipart(NDJSON, head="\r\nContent-Transfer-Encoding: binary"),
    "multipart, another part": multipart("x", 'name="note"').removesuffix("--\r\n")
    + "\r\n"
    + multipart(NDJSON).removeprefix("--frontier\r\n"),
    "multipart, boundary in the content": multipart(NDJSON + "\n").replace(
        '"b"', '"b", "x": "--frontier"'
    ),
    "multipart, a line like the boundary": multipart("--frontierless\n").replace(
        "--frontierless", NDJSON + "\n"
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-ndjson",
        "application/json; charset=utf-8;",
        "multipart/form-data; boundary=other",
        "text/csv",
        None,
    ],
)
def test_every_form_gives_the_same_batch_whatever_the_header_says(
    form: str, content_type: str | None
) -> None:
    batch = read(FORMS[form], content_type)

    assert list(batch.ids) == ["a", "b", "c"]
    assert batch.values.dtype == np.float32
    assert batch.values.flags.c_contiguous
    np.testing.assert_array_equal(
        batch.values, np.array([[1, 0.5, -2], [0, 1, 0], [1e-3, 2e3, 3]], dtype=np.float32)
    )
    assert list(batch.namespaces) == ["n", "", ""]
    assert list(batch.metadata) == ['{"k":1,"s":"é"}'.encode(), b"", b""]


@pytest.mark.parametrize("wrap", [bytes, bytearray, lambda raw: memoryview(raw)])
def test_a_body_may_be_any_buffer(wrap: Any) -> None:
    batch = vectors.read(wrap(NDJSON.encode()), None, 3, LIMITS)

    assert list(batch.ids) == ["a", "b", "c"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_single_object_is_a_batch_of_one(indent: int | None) -> None:
    batch = read(json.dumps(A, indent=indent), "application/json")

    assert list(batch.ids) == ["a"]


@pytest.mark.parametrize(
    "body", ["", "\n", " \r\n\n", "\ufeff", "[]", '{"vectors":[]}', '{"vectors": [ ] }', '""']
)
def test_a_body_without_records_is_an_empty_batch(body: str) -> None:
    batch = read(body)

    assert len(batch) == 0
    assert batch.values.shape == (0, 3)


def test_ids_may_repeat_in_a_batch() -> None:
    assert list(read(ndjson(A, A)).ids) == ["a", "a"]


def test_values_are_the_float32_nearest_to_what_was_written() -> None:
    batch = read(line(values=[58.8, 16777217, 1e-46]))

    assert batch.values[0].tolist() == [58.79999923706055, 16777216.0, 0.0]


def test_the_largest_float32_is_accepted() -> None:
    largest = float(np.finfo(np.float32).max)

    assert read(line(values=[largest, -largest, 0])).values[0, 0] == np.float32(largest)


@pytest.mark.parametrize(
    ("metadata", "stored"),
    [
        ("{}", "{}"),
        ('{"b": 1, "a": 2}', '{"b":1,"a":2}'),
        ('{"n": 1.0}', '{"n":1.0}'),
        ('{"n": 1e2}', '{"n":100.0}'),
        ('{"n": 0.1}', '{"n":0.1}'),
        ('{"n": -0.0}', '{"n":-0.0}'),
        ('{"n": 9007199254740993}', '{"n":9007199254740993}'),
        ('{"n": 123456789012345678901234567890}', '{"n":123456789012345678901234567890}'),
        (r'{"s": "\u00e9\ud83d\ude00\n\""}', '{"s":"é😀\\n\\""}'),
        ('{"t": true, "f": false, "z": null}', '{"t":true,"f":false,"z":null}'),
        ('{"l": ["a", "b"], "o": {"p": {"q": []}}}', '{"l":["a","b"],"o":{"p":{"q":[]}}}'),
        ('{"k": 1, "k": 2}', '{"k":2}'),
        ('{"id": "x", "values": [[1], 2]}', '{"id":"x","values":[[1],2]}'),
        ('{"k|l": 1, "é": 2, "a$": 3}', '{"k|l":1,"é":2,"a$":3}'),
    ],
)
def test_metadata_keeps_values_order_and_characters(metadata: str, stored: str) -> None:
    batch = read(f'{{"id":"a","values":[1,2,3],"metadata":{metadata}}}')

    assert batch.metadata[0].decode() == stored


@pytest.mark.parametrize("namespace", [None, ""])
def test_a_null_or_empty_namespace_is_none(namespace: str | None) -> None:
    assert read(line(namespace=namespace)).namespaces == [""]


def test_unknown_members_are_ignored() -> None:
    assert list(read(line(score=1, note={"a": [[]]})).ids) == ["a"]


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        ("not json", "not JSON"),
        ('{"id":"a","values":[1,2,3]', "not JSON"),
        ('{"id":"a","values":[1,2,3]}}', "not JSON"),
        ('{"id":"a","values":[1,2,3]} x', "not JSON"),
        ("null", "expected an object, got null"),
        ("17", "expected an object, got a number"),
        ('{"values":[1,2,3]}', "has no member 'id'"),
        ('{"id":null,"values":[1,2,3]}', "id: expected a string, got null"),
        ('{"id":5,"values":[1,2,3]}', "id: expected a string, got a number"),
        ('{"id":"","values":[1,2,3]}', "id: must not be empty"),
        ('{"id":"a"}', "id \"a\": has no member 'values'"),
        ('{"id":"a","values":null}', 'id "a": values: expected an array of numbers, got null'),
        ('{"id":"a","values":"1,2,3"}', "values: expected an array of numbers, got a string"),
        ('{"id":"a","values":{"0":1,"1":2,"2":3}}', "array of numbers, got an object"),
        ('{"id":"a","values":[1,null,3]}', "values[1]: expected a number, got null"),
        ('{"id":"a","values":[1,2,"3"]}', "values[2]: expected a number, got a string"),
        ('{"id":"a","values":[true,2,3]}', "values[0]: expected a number, got a boolean"),
        ('{"id":"a","values":[1,{},3]}', "values[1]: expected a number, got an object"),
        ('{"id":"a","values":[[1,2,3]]}', "values[0]: expected a number, got an array"),
        ('{"id":"a","values":[[1],2,3]}', "values[0]: expected a number, got an array"),
        ('{"id":"a","values":[1,2,[3]]}', "values[2]: expected a number, got an array"),
        ('{"id":"[","values":[1,2,[3]]}', "values[2]: expected a number, got an array"),
        ('{"metadata":{"l":[]},"id":"a","values":[[1],2,3]}', "values[0]: expected a number"),
        ('{"id":"a","values":[1,[],3]}', "values[1]: expected a number, got an array"),
        ('{"id":"a","values":[1,NaN,3]}', "values[1]: expected a number, got NaN"),
        ('{"id":"a","values":[1,2,-Infinity]}', "values[2]: expected a number, got -Infinity"),
        ('{"id":"a","values":[1,2,1e400]}', "values[2]: inf is beyond float32"),
        ('{"id":"a","values":[1,1e39,3]}', "values[1]: 1e+39 is beyond float32"),
        ('{"id":"a","values":[-3.5e38,1,3]}', "values[0]: -3.5e+38 is beyond float32"),
        ('{"id":"a","values":[1,2,1' + "0" * 400 + "]}", "values[2]: 1000"),
        ('{"id":"a","values":[1,2,03]}', "not JSON"),
        ('{"id":"a","values":[1,2,]}', "not JSON"),
        ('{"id":"a","id":"b","values":[1,2,3]}', "member 'id' is given twice"),
        ('{"id":"a","values":[1,2,3],"values":[1,2,3]}', "member 'values' is given twice"),
        (r'{"id":"a","values":[1,2,3],"\u0069d":"b"}', "member 'id' is given twice"),
        ('{"id":"a","values":[1,2,3],"namespace":5}', "namespace: expected a string or null"),
        ('{"id":"a","values":[1,2,3],"metadata":[]}', "metadata: expected an object or null"),
        ('{"id":"a","values":[1,2,3],"metadata":"{}"}', "metadata: expected an object or null"),
        ('{"id":"a","values":[1,2,3],"metadata":{"n":1e400}}', "a number is beyond float64"),
        ('{"id":"a","values":[1,2,3],"metadata":{"n":[NaN]}}', "not JSON"),
        (r'{"id":"\ud800","values":[1,2,3]}', "surrogate"),
        (r'{"id":"a","values":[1,2,3],"namespace":"\udfff"}', "surrogate"),
        (r'{"id":"a","values":[1,2,3],"metadata":{"\ud800":1}}', "surrogate"),
        (r'{"id":"a","values":[1,2,3],"metadata":{"s":["\ud800x"]}}', "surrogate"),
        ('{"id":"a","values":' + "[" * 100_001 + "]" * 100_001 + "}", "nested too deeply"),
        ('{"id":"a","values":[1,2,3],"x":' + "[" * 100_001, "nested too deeply"),
        ('{"a":' * 100_001, "nested too deeply"),
        ('{"id":"a","values":[1,2,3]' + " " * 1_100_000 + "}", "1100027 bytes, max is 1048576"),
    ],
)
def test_a_record_that_is_none_is_refused_naming_line_and_rule(record: str, rule: str) -> None:
    message = refusal("\n".join([line(), "", record, line()]))

    assert message.startswith(
        "failed to parse upsert vectors request in ndjson format: "
        "line Some(2) was not expected format (line 3"
    )
    assert rule in message


@pytest.mark.parametrize("form", ['{{"vectors":[{0},{1}]}}', "[{0},{1}]"])
def test_a_record_of_a_json_document_is_named_by_its_position(form: str) -> None:
    message = refusal(form.format(line(), '{"id":"z","values":[1,2,null]}'))

    assert message == (
        "failed to parse upsert vectors request in json format: line None was not expected "
        'format (vectors[1], id "z": values[2]: expected a number, got null)'
    )


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id":"\xff","values":[1,2,3]}',
        b'{"id":"a","values":[1,2,3],"metadata":{"k":"\xc3"}}',
        b'{"id":"a","values":[1,2,3],"metadata":{"\xed\xa0\x80":1}}',
        b'{"id":"a","values":[1,2,3],"unknown":"\xc0\x80"}',
        '{"id":"a","values":[1,2,3]}'.encode("utf-16-le"),
    ],
)
def test_malformed_utf8_is_refused(raw: bytes) -> None:
    message = refusal(line().encode() + b"\n" + raw)

    assert "line 2" in message


def test_depth_of_metadata_at_and_above_the_limit() -> None:
    def nested(depth: int) -> str:
        return '{"k":' * depth + "1" + "}" * depth

    batch = read(f'{{"id":"a","values":[1,2,3],"metadata":{nested(100)}}}')

    assert batch.metadata[0].decode() == nested(100)
    for depth in (101, 500, 2000):
        message = refusal(f'{{"id":"a","values":[1,2,3],"metadata":{nested(depth)}}}')
        assert "nested too deeply" in message


@pytest.mark.parametrize("got", [0, 2, 4])
def test_a_vector_of_another_length_is_refused(got: int) -> None:
    message = refusal(ndjson(A, {"id": "x", "values": [1] * got}), WrongDimensions)

    assert message == (
        f'invalid vector for id="x", expected 3 dimensions, and got {got} dimensions (line 2)'
    )


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
def test_ids_are_measured_in_bytes(letter: str) -> None:
    size = len(letter.encode())
    longest = letter * (64 // size)
    padded = longest + "x" * (64 - len(longest.encode()))

    assert read(line(id=padded[:-1])).ids == [padded[:-1]]
    assert read(line(id=padded)).ids == [padded]
    for one_more, got in ((padded + "x", 65), (padded + letter, 64 + size)):
        assert refusal(line(id=one_more), IdTooLong) == (
            f"id too long; max is 64 bytes, got {got} bytes (line 1)"
        )


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
def test_namespaces_are_measured_in_bytes(letter: str) -> None:
    size = len(letter.encode())
    padded = letter * (64 // size) + "x" * (64 % size)

    assert read(line(namespace=padded)).namespaces == [padded]
    assert refusal(line(namespace=padded + letter), NamespaceTooLong) == (
        f'namespace too long for vector id="a"; max is 64 bytes, got {64 + size} bytes (line 1)'
    )


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
@pytest.mark.parametrize("escaped", [False, True])
def test_metadata_is_measured_in_bytes_of_compact_json(letter: str, escaped: bool) -> None:
    room = 10_240 - len('{"k":""}')
    size = len(letter.encode())
    text = letter * (room // size) + "x" * (room % size)
    spaced = {"k": text}

    record = json.dumps({**A, "metadata": spaced}, ensure_ascii=escaped, indent=1)

    assert len(read(record).metadata[0]) == 10_240
    larger = json.dumps({**A, "metadata": {"k": text + letter}}, ensure_ascii=escaped)
    assert refusal(larger, MetadataTooLarge) == (
        'oversized metadata for vector id="a"; the compact JSON representation of the metadata '
        f"must not exceed 10240 bytes, got {10_240 + size} bytes (line 1)"
    )


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("form", ["ndjson", "json"])
def test_a_batch_may_hold_as_many_vectors_as_the_limit_and_no_more(
    form: str, discard: bool
) -> None:
    limits = Limits(batch_vectors_max=4)

    def body(count: int) -> str:
        records = [{"id": str(i), "values": [i]} for i in range(count)]
        return ndjson(*records) if form == "ndjson" else json.dumps(records)

    for count in (3, 4):
        assert len(read(body(count), dimensions=1, limits=limits, discard=discard)) == count
    assert (
        refusal(body(5), TooManyVectors, dimensions=1, limits=limits, discard=discard)
        == "too many vectors in payload; max vector count is 4, got at least 5"
    )


def test_dropped_records_count_for_the_number_of_vectors() -> None:
    limits = Limits(batch_vectors_max=4)

    assert len(read("x\n" * 4, limits=limits, discard=True)) == 0
    refusal("x\n" * 5, TooManyVectors, limits=limits, discard=True)


def test_the_shortest_records_fit_in_the_room_made_for_them() -> None:
    batch = read('{"id":"a","values":[1]}\n' * 50, dimensions=1)

    assert len(batch) == 50


@pytest.mark.parametrize(
    "bad",
    [
        "not json",
        '{"id":"x","values":[1,2,3]',
        '{"id":5,"values":[1,2,3]}',
        '{"id":"x","values":[1,null,3]}',
        '{"id":"x","values":[1,1e39,3]}',
        '{"id":"x","values":[1,2,3],"metadata":{"n":1e400}}',
        '{"id":"x","values":[1,2,3],"metadata":{"n":1}',
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_discard_drops_lines_that_are_no_vector_records(bad: str, at: int) -> None:
    lines = [line(id="good"), line(id="also", namespace="n", metadata={"k": 1})]
    lines.insert(at, bad)

    batch = read("\n".join(lines), discard=True)

    assert list(batch.ids) == ["good", "also"]
    assert batch.values.shape == (2, 3)
    assert batch.values.flags.c_contiguous
    assert list(batch.namespaces) == ["", "n"]
    assert list(batch.metadata) == [b"", b'{"k":1}']


def test_discard_drops_items_of_an_array_too() -> None:
    batch = read(f'[17, {line()}, {{"id":"x"}}, "s", null]', discard=True)

    assert list(batch.ids) == ["a"]


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (line(values=[1]), WrongDimensions),
        (line(id="x" * 65), IdTooLong),
        (line(namespace="x" * 65), NamespaceTooLong),
        (line(metadata={"k": "x" * 10_240}), MetadataTooLarge),
        (line(metadata={"a.b": 1}), BadMetadataKey),
    ],
)
def test_discard_still_refuses_records_over_a_limit(record: str, error: type[InvalidInput]) -> None:
    refusal(f"not json\n{record}", error, discard=True)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (f"[{line()}", "after 1 records: expected a comma or the end of the array"),
        (f"[{line()},", "after 1 records: expected a value"),
        (f"[{line()},]", "after 1 records: expected a value"),
        (f"[{line()} {line()}]", "after 1 records: expected a comma"),
        (f"[{line()}}}", "after 1 records: expected a comma"),
        (f'[{line()},{{"id":"b","val', "after 1 records: the body is cut off"),
        (f'{{"vectors":[{line()}]', "the object is not closed after its array"),
        (f'{{"vectors":[{line()}],', "the object is not closed"),
        (f'{{"vectors":[{line()}],"x":[1}}', "the object is not closed"),
        (f'{{"vectors":[{line()}],"x":[1', "the body is cut off"),
        (f'{{"vectors":[{line()}]}} x', "text after the end of the object"),
        (f"[{line()}] x", "text after the end of the array"),
        (f'{{"vectors":[{line()}],"vectors":[]}}', "member 'vectors' is given twice"),
    ],
)
@pytest.mark.parametrize("discard", [False, True])
def test_a_json_document_that_breaks_off_is_refused_even_when_discarding(
    body: str, rule: str, discard: bool
) -> None:
    message = refusal(body, discard=discard)

    assert message.startswith("failed to parse upsert vectors request in json format: line None")
    assert rule in message


def test_an_item_longer_than_any_record_is_refused_before_it_is_read() -> None:
    message = refusal('[{"id":"a","x":[' + "[]," * 1_000_000 + "1]}]")

    assert "a record of more than 1048576 bytes" in message


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (multipart(NDJSON)[:-20], "its closing boundary is missing"),
        (multipart(NDJSON)[:40] + "\r\n", "its closing boundary is missing"),
        (multipart(NDJSON, 'name="file"'), "without a part named 'vectors'; it has ['file']"),
        (multipart(NDJSON, "x=y"), "without a part named 'vectors'"),
        (
            multipart(NDJSON, head="\r\nContent-Transfer-Encoding: base64"),
            "transfer encoding 'base64'",
        ),
        (
            multipart(NDJSON).removesuffix("--\r\n")
            + "\r\n"
            + multipart(NDJSON).removeprefix("--frontier\r\n"),
            "several parts named 'vectors'",
        ),
        ("--frontier\r\nContent-Type: x\r\n--frontier--", "without an empty line"),
        ("junk", "does not start with its boundary"),
        ('"{\\"id\\"', "a JSON string that cannot be read"),
        ('"\\ud800"', "a JSON string that cannot be read"),
    ],
)
def test_a_wrapping_that_cannot_be_opened_is_refused(body: str, rule: str) -> None:
    message = refusal(body, content_type="multipart/form-data; boundary=frontier")

    assert rule in message


@pytest.mark.parametrize(
    "record",
    [
        line(metadata={"$" + "x" * 10_000: 1}),
        '{"id":"a","' + "x" * 10_000 + '":1,"' + "x" * 10_000 + '":2}',
        line(id="x" * 10_000, values=None),
    ],
)
def test_messages_stay_short(record: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(record)

    assert len(str(caught.value)) < 400


def test_lines_of_a_part_are_counted_from_its_start() -> None:
    assert "(line 2: not JSON" in refusal(multipart(f"{line()}\nx"))


@pytest.mark.parametrize("content_type", ["text/csv", "application/xml", "image/png; q=1"])
def test_a_body_in_no_known_form_of_an_unknown_type_is_named_so(content_type: str) -> None:
    message = refusal("id,values\n1,2", BadContentType, content_type=content_type)

    assert content_type.split(";")[0] in message


@pytest.mark.parametrize(
    "content_type", [None, "", "application/x-ndjson", "Application/JSON;", "text/plain"]
)
def test_a_body_in_no_known_form_of_a_known_type_is_a_bad_record(content_type: str | None) -> None:
    assert "line 1" in refusal("id,values\n1,2", content_type=content_type)


@pytest.mark.parametrize("cut", range(1, len(NDJSON)))
def test_a_body_cut_anywhere_is_refused_or_holds_whole_records(cut: int) -> None:
    try:
        batch = read(NDJSON[:cut])
    except BadRecord:
        return

    assert list(batch.ids) == ["a", "b", "c"][: len(batch)]
    assert NDJSON[:cut].rstrip().endswith("}")


def test_a_line_is_read_when_it_is_whole_and_refused_before_the_body_has_ended(
    compiled: bool,
) -> None:
    reader = vectors.BodyReader(None, 3, LIMITS, MemoryBatchWriter(3, 0, 10))
    reader.feed(f"{line()}\n{line(id='b')[:-3]}".encode())

    if compiled and lines.is_built():
        with pytest.raises(BadRecord, match=r"line 2, id \"b\""):
            reader.feed(b'"x"]}\n')
    else:
        reader.feed(b'"x"]}\n')
        with pytest.raises(BadRecord, match=r"line 2, id \"b\""):
            reader.finish()


@pytest.mark.parametrize("form", ["lines", "array"])
def test_parts_may_be_used_again_once_they_were_read(compiled: bool, form: str) -> None:
    records = [line(id=str(number)) for number in range(3)]
    body = "\n".join(records) + "\n" if form == "lines" else f"[{','.join(records)}]"
    cuts = [0, len(records[0]) + 1, len(records[0]) + 5, len(records[0]) + 9, len(body)]
    reader = vectors.BodyReader(None, 3, LIMITS, MemoryBatchWriter(3, 0, 10))

    for start, end in itertools.pairwise(cuts):
        part = bytearray(body[start:end].encode())
        reader.feed(part)
        part[:] = b"x" * len(part)

    assert reader.finish().ids == ["0", "1", "2"]


def test_room_is_made_for_more_than_was_announced() -> None:
    reader = vectors.BodyReader(None, 3, LIMITS, MemoryBatchWriter(3, 10, 1_000))
    ids = [str(number) for number in range(1_000)]

    for each in ids:
        reader.feed(f"{line(id=each)}\n".encode())

    batch = reader.finish()
    assert batch.ids == ids
    assert batch.values.tolist() == [[1, 2, 3]] * 1_000
