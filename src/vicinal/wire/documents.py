"""The rules for the metadata of a vector to be stored, from a parsed document to compact JSON.

All forms of a vector have the same rules; filters have rules of their own (`filters.parse`).
The size is checked first, so that the time for a large document is bounded. Nothing here knows the
position of the vector in its body.
"""

from typing import Any

from vicinal import errors, metadata
from vicinal.limits import Limits

NESTED_TOO_DEEPLY = "nested too deeply"
"""The rule that a record breaks which parsers give up on; they cannot tell its id."""


class RecordError(Exception):
    """A record breaks `rule`, which is a part of the message.

    `vector_id` is None when it is not known, and `error` is the class of the error.
    """

    def __init__(
        self,
        rule: str,
        vector_id: str | None = None,
        error: type[errors.InvalidInput] = errors.BadRecord,
    ) -> None:
        super().__init__(rule)
        self.error = error
        self.rule = rule
        self.vector_id = vector_id


def blob(document: object, vector_id: str, limits: Limits) -> bytes:
    """Return metadata as compact JSON, ``b""`` for none.

    Raises:
        RecordError: a `BadRecord` (no object; nested deeper than `Limits.metadata_depth_max`; a
            number that no finite float64 is near), a `BadMetadataKey`, or `MetadataTooLarge`.
    """
    if document is None:
        return b""
    if not isinstance(document, dict):
        got = metadata.kind(document)
        raise RecordError(f"metadata: expected an object or null, got {got}", vector_id)
    try:
        encoded = metadata.encode(document)
    except RecursionError:
        raise RecordError(NESTED_TOO_DEEPLY) from None
    except ValueError:  # an integer of more digits than Python writes
        raise RecordError(f"metadata: {metadata.BEYOND}", vector_id) from None
    if len(encoded) > limits.metadata_bytes_max:
        rule = (
            f'oversized metadata for vector id="{vector_id}"; the compact JSON representation '
            f"of the metadata must not exceed {limits.metadata_bytes_max} bytes, "
            f"got {len(encoded)} bytes"
        )
        raise RecordError(rule, vector_id, errors.MetadataTooLarge)
    _refuse_broken_rule(document, vector_id, limits.metadata_depth_max)
    return encoded


def _refuse_broken_rule(value: Any, vector_id: str, depth_max: int) -> None:
    """Refuse an object or array with an item that breaks a rule, at any depth."""
    if depth_max == 0:
        raise RecordError(NESTED_TOO_DEEPLY)
    if isinstance(value, dict):
        for key in value:
            broken = broken_key_rule(key)
            if broken is not None:
                rule = f'invalid metadata key for vector id="{vector_id}": {broken}'
                raise RecordError(rule, vector_id, errors.BadMetadataKey)
        items = value.values()
    else:
        items = value
    for item in items:
        kind = type(item)
        if kind is float or kind is int:
            if not metadata.is_float64(item):
                rule = f"metadata: {_named(value, item)}{metadata.BEYOND}"
                raise RecordError(rule, vector_id)
        elif kind is not str and isinstance(item, dict | list) and (item or depth_max == 1):
            _refuse_broken_rule(item, vector_id, depth_max - 1)


def broken_key_rule(key: str) -> str | None:
    """Return the rule that a key of metadata breaks, None for one that breaks none."""
    if not key:
        return "a key must not be empty"
    if key[0] == "$":
        return f"key {metadata.shown(key)} must not start with '$'"
    for character in '."':
        if character in key:
            return f"key {metadata.shown(key)} must not contain {character!r}"
    return None


def _named(value: Any, item: object) -> str:
    """Return the key of an item in an object for a message, ``""`` for an array."""
    if not isinstance(value, dict):
        return ""
    key = next(key for key, member in value.items() if member is item)
    return f"key {metadata.shown(key)}: "
