"""The forms of a vectors body, recognised by their bytes, and the texts of its records.

    NDJSON                        one record a line; blank lines count but have no record
    {"vectors": [record, ..]}     other members may stand beside
    [record, ..]
    record                        also printed over several lines
    "NDJSON"                      a JSON string, as some clients send a str
    multipart/form-data           part `vectors` holds one of the above

All clients have been seen to send wrong headers, so the header is used only for a text in none of
these forms: then a header of a known type means a broken record, and any other header an unknown
content type. A UTF-8 byte order mark is removed, line ends may be CRLF.

Records are found one at a time, by brackets and strings alone, and are not parsed here: a hostile
body costs time in proportion to its length, and no memory.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from vicinal.errors import BadContentType
from vicinal.limits import Limits
from vicinal.wire import multipart
from vicinal.wire.members import Malformed, Text, unmarked


class Form(StrEnum):
    """The separation of records; spelled as in the live service's error text.

    A single record is NDJSON, on however many lines.
    """

    NDJSON = "ndjson"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a body: `frames` yields the start of a record in `text` and the record's text.

    Iterating `frames` raises `Malformed` when the text around records is cut off.
    """

    form: Form
    text: Text
    frames: Iterator[tuple[int, Text]]
    start: int = 0  # position in the text of the first record
    lines_before: int = 0  # of the body, before `start`

    def line(self, start: int) -> int:
        """Return the number of the line that holds a position, from 1."""
        return self.lines_before + self.text.count(b"\n", self.start, start) + 1


class Lines:
    """The records of NDJSON, one a line.

    `position` is the start of the rest, and may be set; `ends` counts the line ends before it.
    """

    def __init__(self, text: Text, position: int = 0, end: int | None = None) -> None:
        self.text = text
        self.position = position
        self.ends = 0
        self.end = len(text) if end is None else end

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> tuple[int, Text]:
        start = _first(self.text, self.position, self.end)
        self.ends += self.text.count(b"\n", self.position, start)
        if start == self.end:
            self.position = start
            raise StopIteration
        end = self.text.find(b"\n", start, self.end)
        self.position = self.end if end < 0 else end
        return start, self.text[start : self.position]


_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SOLID = re.compile(rb"[^ \t\r\n]")
_TOKEN = re.compile(rb'[^"{}\[\]]*+(?:' + _STRING + rb"|[{}\[\]])", re.DOTALL)
_SCALAR = re.compile(_STRING + rb'|[^ \t\r\n,"{}\[\]]+', re.DOTALL)
_MEMBER = re.compile(rb"[ \t\r\n]*(" + _STRING + rb")[ \t\r\n]*:[ \t\r\n]*", re.DOTALL)
_SEPARATOR = re.compile(rb"[ \t\r\n]*([,}\]])")

_KNOWN_TYPES = frozenset(
    (
        "",
        "application/json",
        "application/jsonl",
        "application/ndjson",
        "application/octet-stream",
        "application/x-ndjson",
        "multipart/form-data",
        "text/plain",
    )
)


def split(body: Text, content_type: str | None, limits: Limits) -> Records:
    """Find the form of a body and its records; a record over the limit is `Malformed`.

    Raises:
        Malformed: a multipart body or JSON string that cannot be read.
        BadContentType: the bytes have no known form and the header names no known type.
    """
    text = unmarked(body)
    start = _first(text)
    media_type = (content_type or "").split(";")[0].strip().lower()
    if multipart.looks_like_multipart(text[start : start + 1024]):
        parts = text[start:] if start else text
        text = unmarked(multipart.part(parts, "vectors", limits.multipart_parts_max))
        start = _first(text)
    elif text[start : start + 1] not in (b"", b"{", b"[", b'"'):
        if media_type == "multipart/form-data":
            raise Malformed("multipart body that does not start with its boundary")
        if media_type not in _KNOWN_TYPES:
            raise BadContentType(f"{media_type!r}, and the body is neither NDJSON nor JSON")
    if text[start : start + 1] == b'"':
        text = _opened(text[start:])
        start = _first(text)
    return _records(text, start, limits.record_bytes_max)


def _records(text: Text, start: int, record_bytes_max: int) -> Records:
    match text[start : start + 1]:
        case b"[":
            return Records(Form.JSON, text, _in_array(text, start + 1, record_bytes_max))
        case b"{":
            try:
                end, is_array = _walk(text, start + 1, record_bytes_max)
            except Malformed:
                pass
            else:
                if is_array:
                    return Records(Form.JSON, text, _in_object(text, end, record_bytes_max))
                if _first(text, end) == len(text):
                    return Records(Form.NDJSON, text, iter(((start, text[start:end]),)))
    return Records(Form.NDJSON, text, Lines(text))


def _in_array(text: Text, position: int, record_bytes_max: int) -> Iterator[tuple[int, Text]]:
    end = yield from _elements(text, position, record_bytes_max)
    if _first(text, end) != len(text):
        raise Malformed("there is text after the end of the array")


def _in_object(text: Text, position: int, record_bytes_max: int) -> Iterator[tuple[int, Text]]:
    end = yield from _elements(text, position, record_bytes_max)
    separator = _SEPARATOR.match(text, end)
    if separator is not None and separator[1] == b",":
        end, is_repeated = _walk(text, separator.end(), record_bytes_max)
        if is_repeated:
            raise Malformed("member 'vectors' is given twice")
    elif separator is not None and separator[1] == b"}":
        end = separator.end()
    else:
        raise Malformed("the object is not closed after its array")
    if _first(text, end) != len(text):
        raise Malformed("there is text after the end of the object")


def _elements(
    text: Text, position: int, record_bytes_max: int
) -> Generator[tuple[int, Text], None, int]:
    """Yield the elements of an array; return the position after its end."""
    start = _first(text, position)
    if text[start : start + 1] == b"]":
        return start + 1
    while True:
        start = _first(text, position)
        end = value_end(text, start, start + record_bytes_max)
        yield start, text[start:end]
        separator = _SEPARATOR.match(text, end)
        if separator is None or separator[1] == b"}":
            raise Malformed("expected a comma or the end of the array")
        position = separator.end()
        if separator[1] == b"]":
            return position


def _walk(text: Text, position: int, record_bytes_max: int) -> tuple[int, bool]:
    """Skip the members of an object up to the array ``vectors``.

    Return the position inside that array, and True; or, without such a member, the position after
    the object's end, and False.
    """
    stop = position + record_bytes_max
    while position < stop:
        member = _MEMBER.match(text, position)
        if member is None:
            break
        if member[1] == b'"vectors"' and text[member.end() : member.end() + 1] == b"[":
            return member.end() + 1, True
        separator = _SEPARATOR.match(text, value_end(text, member.end(), stop))
        if separator is None or separator[1] == b"]":
            break
        position = separator.end()
        if separator[1] == b"}":
            return position, False
    raise Malformed("the object is not closed")


def value_end(text: Text, start: int, stop: int) -> int:
    """Return the position after the value that starts at `start`, which must be within `stop`."""
    if text[start : start + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(text, start, stop)
        if scalar is None:
            raise Malformed("expected a value")
        return scalar.end()
    depth = 0
    position = start
    while (token := _TOKEN.match(text, position, stop)) is not None:
        position = token.end()
        match text[position - 1]:
            case 0x5B if (end := _plain_array_end(text, position, stop)) is not None:  # [
                position = end
            case 0x7B | 0x5B:  # { [
                depth += 1
                continue
            case 0x7D | 0x5D:  # } ]
                depth -= 1
            case _:
                continue
        if depth == 0:
            return position
    if stop < len(text):
        raise Malformed(f"a record of more than {stop - start} bytes")
    raise Malformed("the body is cut off")


def _plain_array_end(text: Text, position: int, stop: int) -> int | None:
    """Return the position after an array that has neither strings nor arrays in it, else None.

    Searching for single bytes takes a tenth of the time of matching tokens.
    """
    following = text.find(b"[", position, stop)
    end = text.find(b"]", position, stop if following < 0 else following)
    if end < 0 or text.find(b'"', position, end) >= 0:
        return None
    return end + 1


def _opened(text: Text) -> Text:
    """Return the content of a JSON string, as UTF-8."""
    try:
        return msgspec.json.decode(text, type=str).encode()
    except UnicodeDecodeError as error:
        raise Malformed(f"a JSON string that is not UTF-8 at byte {error.start}") from None
    except msgspec.DecodeError as error:
        raise Malformed(f"a JSON string that cannot be read: {error}") from None


def _first(text: Text, position: int = 0, end: int | None = None) -> int:
    """Return the position of the next character that is no space, or the end of the text."""
    stop = len(text) if end is None else end
    solid = _SOLID.search(text, position, stop)
    return stop if solid is None else solid.start()
