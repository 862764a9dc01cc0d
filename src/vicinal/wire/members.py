"""One JSON object with a long array of numbers in it, read fast or read with reasons.

Vector records and queries are such objects: nearly all of their bytes are one array. Two
readers share the work. `quick` returns the members when there is nothing to object to, and
None otherwise, without a reason. `careful` reads what `quick` would not, a few times slower,
and raises with the reason. Callers try the first, then the second.

`quick` has two implementations that agree on every text they accept: simdjson, and msgspec
for where simdjson is not built. What is kept of the text is its values: integers of any size
up to 4,300 digits, other numbers as float64, strings as Unicode, members in their order.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from vicinal import metadata

try:
    import simdjson
except ImportError:  # no wheel for this platform: msgspec alone takes about 2.5 times as long
    simdjson = None  # type: ignore[assignment]  # a module otherwise

Text = bytes | bytearray
Numbers = NDArray[np.float64]
Members = dict[str, Any]
"""The members of an object. The one asked for as numbers is an array when `quick` read it."""


_MARK = b"\xef\xbb\xbf"
_SCALARS_THEN_ARRAY = re.compile(
    rb'\s*\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[^\s"{}\[\],]+)\s*,\s*)*"([^"\\]*)"\s*:\s*\['
)
_FEW = 16  # members of a usual object; looking for each name takes time in proportion


class Malformed(Exception):
    """The text is not a JSON object; the message says why, without the place."""


class TooDeep(Malformed):
    """The text is nested deeper than it can be read; what is in it is not known."""

    def __init__(self) -> None:
        super().__init__("nested too deeply")


class NotANumber(Exception):
    """An array of numbers holds something else, at `position`; None when it is no array."""

    def __init__(self, position: int | None, value: object) -> None:
        place = "" if position is None else f"[{position}]"
        wanted = "an array of numbers" if position is None else "a number"
        got = value.name if isinstance(value, _Token) else metadata.kind(value)
        super().__init__(f"{place}: expected {wanted}, got {got}")
        self.position = position
        self.value = value


class _Token:
    """NaN, Infinity or -Infinity, which the standard library's parser takes for numbers."""

    def __init__(self, name: str) -> None:
        self.name = name


_TOKENS: Mapping[str, _Token] = MappingProxyType(
    {name: _Token(name) for name in ("NaN", "Infinity", "-Infinity")}
)


class _Thread(threading.local):
    """What each thread has of its own: a parser is not safe to share."""

    parser: "simdjson.Parser | None" = None


_thread = _Thread()


def unmarked(text: Text) -> Text:
    """Return a text without the byte order mark it begins with; copied only if there is one."""
    return text.removeprefix(_MARK) if text.startswith(_MARK) else text


def careful(text: Text, array: str, *, unique: bool) -> Members:
    """Return the members of the object that `text` holds, `array` still to be looked at.

    With `unique`, an object that gives a member twice is malformed; otherwise the last one
    counts, as inside the members in any case.
    """
    try:
        decoded = text.decode()
        # Nothing of ours is called back, for each object or constant: a text can hold a million.
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
    _check({name: value for name, value in document.items() if name != array})
    return document


def is_deep(text: Text) -> bool:
    """Tell whether a text is nested deeper than it can be read; nothing is made of it."""
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
        NotANumber: it is not an array, or one of its items is not a number.
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


def quick_with_msgspec(text: Text, array: str) -> Members | None:
    """Return the members of the object, `array` as numbers; None when anything is unclear."""
    try:
        members = _decode_any(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    # A member given twice is hidden by its last value; an escape may hide its name as well.
    if not isinstance(members, dict) or len(members) > _FEW:
        return None
    if b"\\u" in text or b"\\/" in text:
        return None
    if any(text.count(b'"%b"' % name.encode()) != 1 for name in members):
        return None
    if array in members:
        try:
            members[array] = numbers(members[array])
        except NotANumber:
            return None
    return members


def quick_with_simdjson(text: Text, array: str) -> Members | None:
    """Return the members of the object, `array` as numbers; None when anything is unclear."""
    if text.startswith(_MARK):  # it would pass over it
        return None
    try:
        # A parser serves one document at a time: nothing of it may outlive this call.
        document = _parser().parse(text)
        if type(document) is not simdjson.Object:
            return None
        names = list(document)
        if len(names) > _FEW or len(set(names)) != len(names):
            return None
        if "\0" in "".join(names):  # it looks a name up as far as that
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


quick: Final[Callable[[Text, str], Members | None]] = (
    quick_with_msgspec if simdjson is None else quick_with_simdjson
)
"""The faster of the two that can run here."""

_decode_any = msgspec.json.Decoder().decode
_pass_over = msgspec.json.Decoder(msgspec.Raw).decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _parser() -> "simdjson.Parser":
    if _thread.parser is None:
        _thread.parser = simdjson.Parser()
    return _thread.parser


def _is_flat(text: Text, array: str) -> bool:
    """Tell whether the array is flat; simdjson's `as_buffer` flattens it without a word.

    Flat without looking closer: there is no second bracket anywhere, or only scalars stand
    before the array and it closes before another one opens.
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
    """Return the first member that the object in `text` gives a second time, if any."""
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


def _check(document: Members) -> None:
    """Refuse what the standard library reads though it is no JSON."""
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
