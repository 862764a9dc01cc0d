"""Metadata as bytes of compact JSON: the only module that reads and writes them.

Engines store metadata as opaque bytes and get the value of a metadata index here. A metadata index
holds (platform docs, metadata filtering) strings cut to their first 64 bytes on a character
boundary, numbers as float64, and booleans. Null, arrays, objects and values of another type than
the index's are not indexed; but a string index holds the strings of an array, cut like others, for
the operators of ours that ask for them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from vicinal.filters.nodes import Scalar
from vicinal.model import IndexType, MetadataIndex

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[str, Any])
_elements_decoder = msgspec.json.Decoder(tuple[str, ...])
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

BEYOND = "a number is beyond float64"
"""The message about a number that no finite float64 is near."""

_BEYOND_FROM = 2**1024 - 2**970  # the least integer that no finite float64 is nearest to
_SHOWN_BITS_MAX = 14_000  # 4,215 digits
_INTEGRAL_MAX = 2.0**53  # beyond it float64 does not tell neighbouring integers apart


def encode(document: dict[str, Any]) -> bytes:
    """Return `document` as compact JSON, non-ASCII characters as they are."""
    return _encoder.encode(document)


def decode(blob: bytes) -> dict[str, Any]:
    """Return the object that `blob` holds; ``b""`` is the empty object."""
    return _decoder.decode(blob) if blob else {}


def written_at(blob: bytes, path: Sequence[str]) -> bytes | None:
    """Return the value at a path of the object in `blob`, as it is written; None for none."""
    value = blob
    for name in path:
        members = _members_decoder.decode(value) if value[:1] == b"{" else {}
        if name not in members:
            return None
        value = bytes(members[name])
    return value


def kind(value: object) -> str:
    """Return the type of a JSON value for a message, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case dict():
            return "an object"
        case _:
            return "an array"


def shown(text: str) -> str:
    """Return a string for a message: quoted, and cut to 80 characters."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def shown_number(number: float) -> str:
    """Return a number for a message, cut to 40 characters."""
    if isinstance(number, int) and number.bit_length() > _SHOWN_BITS_MAX:  # Python writes no more
        return f"an integer of about {number.bit_length() * 3 // 10} digits"
    text = str(number)
    return text if len(text) <= 40 else f"{text[:37]}..."


def is_float64(number: float) -> bool:
    """Tell whether a finite float64 is near a number."""
    if isinstance(number, int):
        return -_BEYOND_FROM < number < _BEYOND_FROM
    return number - number == 0.0


def cut(text: str, bytes_max: int) -> str:
    """Return the longest prefix of `text` that is at most `bytes_max` bytes of UTF-8."""
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text
    return encoded[:bytes_max].decode(errors="ignore")


def indexed_value(
    document: dict[str, Any], metadata_index: MetadataIndex, *, string_bytes_max: int
) -> Scalar | None:
    """Return the scalar that `metadata_index` holds for a vector with this metadata, or None."""
    value = _property(document, metadata_index.property_name)
    match metadata_index.index_type:
        case IndexType.STRING:
            return cut(value, string_bytes_max) if isinstance(value, str) else None
        case IndexType.NUMBER:
            # JSON allows any number of digits.
            is_number = type(value) in (int, float) and is_float64(value)
            return float(value) if is_number else None
        case IndexType.BOOLEAN:
            return value if isinstance(value, bool) else None
        case IndexType.TEXT:
            return None  # no filter reads it; see `texts`


def texts(document: dict[str, Any], property_name: str) -> Sequence[str]:
    """Return the texts that a text index holds: a string, or the strings of an array."""
    value = _property(document, property_name)
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return [element for element in value if isinstance(element, str)]
    return ()


def numbered_texts(
    document: dict[str, Any], property_name: str
) -> Sequence[tuple[int | None, str]]:
    """Return `texts`, each with its number in the array that it is of; None for a string."""
    value = _property(document, property_name)
    if isinstance(value, str):
        return ((None, value),)
    if isinstance(value, list):
        return [(at, element) for at, element in enumerate(value) if isinstance(element, str)]
    return ()


def indexed_elements(
    document: dict[str, Any], property_name: str, *, string_bytes_max: int
) -> str | None:
    """Return the strings of an array that a string index holds, as one key, or None without any.

    `elements` reads the key. Arrays of the same strings have the same key.
    """
    value = _property(document, property_name)
    if not isinstance(value, list):
        return None
    strings = {cut(element, string_bytes_max) for element in value if isinstance(element, str)}
    return _encoder.encode(sorted(strings)).decode() if strings else None


def elements(key: str) -> tuple[str, ...]:
    """Return the strings that a key of `indexed_elements` stands for."""
    return _elements_decoder.decode(key)


def patched(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return a document with a JSON merge patch applied (RFC 7386); neither is changed."""
    result = dict(document)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            before = result.get(name)
            result[name] = patched(before if isinstance(before, dict) else {}, value)
        else:
            result[name] = value
    return result


def _property(document: dict[str, Any], property_name: str) -> Any:
    if "." not in property_name:  # most, and every vector of an upload is asked
        return document.get(property_name)
    value: Any = document
    for key in property_name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def from_indexed_values(values: Iterable[tuple[str, Scalar]]) -> bytes:
    """Return compact JSON of these properties; a dot in a name makes a nested object.

    Numbers without a fraction are written as integers, as they were most likely given.
    Without any property it is ``b""``.
    """
    document: dict[str, Any] = {}
    for property_name, value in values:
        *parents, last = property_name.split(".")
        parent = document
        for key in parents:
            parent = parent.setdefault(key, {})
        if type(value) is float and value.is_integer() and abs(value) <= _INTEGRAL_MAX:
            value = int(value)
        parent[last] = value
    return encode(document) if document else b""
