"""Two readers of one JSON object with a long array of numbers in it.

Vector records and queries are such objects: nearly all of their bytes are one array. `quick`
returns the members of an object without faults, and None for any other text, without a reason.
`careful` reads the other texts, a few times slower, and raises with the reason. Callers try
`quick` first.

Both agree on every text that `quick` accepts, and keep the values of the text: integers of any size
up to 4,300 digits, other numbers as float64, strings as Unicode, members in their order.
"""

import json
import re
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import simdjson
from numpy.typing import NDArray

from vicinal import metadata

Text = bytes | bytearray
Numbers = NDArray[np.float64]
Members = dict[str, Any]
"""The members of an object. `quick` reads the member of numbers as an array."""


_BOM = b"\xef\xbb\xbf"
_SCALARS_THEN_ARRAY = re.compile(
    rb'\s*\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[^\s"{}\[\],]+)\s*,\s*)*"([^"\\]*)"\s*:\s*\['
)
_FEW = 16  # members of a usual object; the time to find all names grows with their number


class Malformed(Exception):
    """The text is not a JSON object; the message says why, without the place."""


class TooDeep(Malformed):
    """The text is nested deeper than parsers go; its content is not known."""

    def __init__(self) -> None:
        super().__init__("nested too deeply")


class NotANumber(Exception):
    """An array of numbers has another item at `position`, or is no array: then that is None."""

    def __init__(self, position: int | None, value: object) -> None:
        path = "" if position is None else f"[{position}]"
        wanted = "an array of numbers" if position is None else "a number"
        got = value.name if isinstance(value, _Token) else metadata.kind(value)
        super().__init__(f"{path}: expected {wanted}, got {got}")
        self.position = position
        self.value = value


class _Token:
    """NaN, Infinity or -Infinity, which the standard library's parser accepts as numbers."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


_TOKENS: Mapping[str, _Token] = MappingProxyType(
    {name: _Token(name) for name in ("NaN", "Infinity", "-Infinity")}
)


class _Thread(threading.local):
    """A parser for every thread, as simdjson's is not safe to share."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()


_thread = _Thread()


def unmarked(text: Text) -> Text:
    """Return a text without a byte order mark at its start; copied only if it has one."""
    return text.removeprefix(_BOM) if text.startswith(_BOM) else text


def careful(text: Text, array: str, *, unique: bool) -> Members:
    """Return the members of the object in `text`; `array` is not checked.

    With `unique`, an object that has a member twice is malformed; otherwise the last one
    counts. Within the members the last one always counts.

    Raises:
        Malformed: the text is not a JSON object.
    """
    try:
        decoded = text.decode()
        # No callback of ours for objects or constants: a text can have a million.
        document = json.loads(decoded, parse_constant=_TOKENS.__getitem__)
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise TooDeep from None
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON: {_reason(error)}") from None
    except ValueError:  # an integer of more digits than Python reads
        raise Malformed(metadata.BEYOND) from None
    if not isinstance(document, dict):
        raise Malformed(f"expected an object, got {metadata.kind(document)}")
    repeated = _repeated(decoded, document) if unique else None
    if repeated is not None:
        raise Malformed(f"member {metadata.shown(repeated)} is given twice")
    _refuse_non_json({name: value for name, value in document.items() if name != array})
    return document


def is_deep(text: Text) -> bool:
    """Tell whether a text is nested deeper than parsers go, without making objects of it."""
    try:
        _pass_over(text)
    except RecursionError:
        return True
    except msgspec.MsgspecError:
        pass
    return False


def numbers(value: object) -> Numbers:
    """Return a member as numbers; those beyond float64 become infinite.

    Raises:
        NotANumber: the member is not an array, or one of its items is not a number.
    """
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list):
        raise NotANumber(None, value)
    if not set(map(type, value)) <= {int, float}:
        position = next(i for i, item in enumerate(value) if type(item) not in (int, float))
        raise NotANumber(position, value[position])
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError:
        return np.array([_as_float(item) for item in value], dtype=np.float64)


def quick(text: Text, array: str) -> Members | None:
    """Return the members of the object, `array` as numbers; None for a text with any fault."""
    if text.startswith(_BOM):  # simdjson would skip it
        return None
    try:
        # A parser serves one document at a time, so no value may refer to it after this call.
        document = _thread.parser.parse(text)
        if type(document) is not simdjson.Object:
            return None
        names = list(document)
        if len(names) > _FEW or len(set(names)) != len(names):
            return None
        if "\0" in "".join(names):  # simdjson compares names up to a NUL
            return None
        members: Members = {}
        for name in names:
            value = document[name]
            if name == array:
                if type(value) is not simdjson.Array or not _is_flat(text, name):
                    return None
                buffer = value.as_buffer(of_type="d")
                members[name] = np.frombuffer(buffer, dtype=np.float64)
            elif type(value) is simdjson.Object:
                members[name] = value.as_dict()
            elif type(value) is simdjson.Array:
                members[name] = value.as_list()
            else:
                members[name] = value
    except (ValueError, RuntimeError, TypeError, msgspec.MsgspecError):
        return None
    return members


_pass_over = msgspec.json.Decoder(msgspec.Raw).decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _is_flat(text: Text, array: str) -> bool:
    """Tell whether the array is flat; simdjson's `as_buffer` flattens nested arrays silently.

    Two cases are flat without parsing: the text has no second bracket, or only scalars stand
    before the array and it closes before another array opens.
    """
    if text.find(b"[", text.find(b"[") + 1) < 0:
        return True
    head = _SCALARS_THEN_ARRAY.match(text)
    if head is not None and head[1] == array.encode():
        following = text.find(b"[", head.end())
        if following < 0 or text.find(b"]", head.end()) < following:
            return True
    return b"[" not in bytes(_decode_raw(text)[array])[1:]


def _repeated(text: str, document: Members) -> str | None:
    """Return the first name that occurs a second time in the object in `text`, if any."""
    has_one_spelling = len(document) <= _FEW and "\\" not in text
    if has_one_spelling and all(text.count(f'"{name}"') == 1 for name in document):
        return None
    seen: set[str] = set()
    for name, _ in json.loads(text, object_pairs_hook=list):
        if name in seen:
            return str(name)
        seen.add(name)
    return None


def _reason(error: json.JSONDecodeError) -> str:
    if error.doc.startswith("\ufeff"):
        return "it begins with a byte order mark"
    return f"{error.msg} at column {error.pos + 1}"


def _refuse_non_json(document: Members) -> None:
    """Refuse texts that the standard library reads though they are not JSON."""
    try:
        metadata.encode(document)
    except UnicodeEncodeError:
        raise Malformed("half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise TooDeep from None
    except TypeError:
        raise Malformed("not JSON: NaN and Infinity are no numbers there") from None


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
