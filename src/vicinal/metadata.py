"""Metadata as bytes of compact JSON: the one place that reads and writes them.

Engines store metadata as opaque bytes and ask here for the value that a metadata index
would hold. What is indexed (platform docs, metadata filtering): strings cut to their
first 64 bytes on a character boundary, numbers as float64, booleans. Null, arrays,
objects and values of another type than the index's are not indexed.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from vicinal.filters.nodes import Scalar
from vicinal.model import IndexType, MetadataIndex

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[str, Any])

BEYOND = "a number is beyond float64"
"""What is said of a number that no finite float64 is near."""

_BEYOND_FROM = 2**1024 - 2**970  # the least integer that no finite float64 is nearest to
_SHOWN_BITS_MAX = 14_000  # 4,215 digits
_INTEGRAL_MAX = 2.0**53  # beyond it float64 does not tell neighbouring integers apart


def encode(document: dict[str, Any]) -> bytes:
    """Return `document` as compact JSON, non-ASCII characters as they are."""
    return _encoder.encode(document)


def decode(blob: bytes) -> dict[str, Any]:
    """Return the object that `blob` holds; ``b""`` is the empty object."""
    return _decoder.decode(blob) if blob else {}


def kind(value: object) -> str:
    """Return what to call a JSON value in a message."""
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
    """Return a string for a message: quoted, and shortened where it is absurdly long."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def shown_number(number: float) -> str:
    """Return a number for a message: shortened where it is absurdly long."""
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
    """Return what `metadata_index` holds for a vector with this metadata, or None."""
    value: Any = document
    for key in metadata_index.property_name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    match metadata_index.index_type:
        case IndexType.STRING:
            return cut(value, string_bytes_max) if isinstance(value, str) else None
        case IndexType.NUMBER:
            return _as_float(value) if type(value) in (int, float) else None
        case IndexType.BOOLEAN:
            return value if isinstance(value, bool) else None


def from_indexed_values(values: Iterable[tuple[str, Scalar]]) -> bytes:
    """Return compact JSON holding just these properties, dots opened into objects.

    Numbers without a fraction are written as integers, as they were most likely given.
    No property at all gives ``b""``.
    """
    document: dict[str, Any] = {}
    for property_name, value in values:
        *parents, last = property_name.split(".")
        place = document
        for key in parents:
            place = place.setdefault(key, {})
        if type(value) is float and value.is_integer() and abs(value) <= _INTEGRAL_MAX:
            value = int(value)
        place[last] = value
    return encode(document) if document else b""


def _as_float(value: float) -> float | None:
    try:
        return float(value)
    except OverflowError:  # an integer beyond float64: JSON allows any number of digits
        return None
