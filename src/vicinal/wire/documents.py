"""The metadata of a vector to be stored: from a parsed document to compact JSON, or refused.

One set of rules for every form a vector can come in, and for `vectors` alone; filters have
their own (`filters.parse`). Size comes first: what is too large is not looked into, so that the
time it takes is bounded. Nothing here knows where in a body the vector stands.
"""

from typing import Any

from vicinal import errors, metadata
from vicinal.limits import Limits

NESTED_TOO_DEEPLY = "nested too deeply"
"""What is said of a record that parsers give up on, too: those cannot tell its id."""


class RecordError(Exception):
    """A record breaks a rule. For `BadRecord`, `rule` is what the message says of it."""

    def __init__(self, error: type[errors.InvalidInput], rule: str, vector_id: str | None) -> None:
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
        rule = f"metadata: expected an object or null, got {metadata.kind(document)}"
        raise RecordError(errors.BadRecord, rule, vector_id)
    try:
        encoded = metadata.encode(document)
    except RecursionError:
        raise RecordError(errors.BadRecord, NESTED_TOO_DEEPLY, None) from None
    except ValueError:  # an integer of more digits than Python writes
        raise RecordError(errors.BadRecord, f"metadata: {metadata.BEYOND}", vector_id) from None
    if len(encoded) > limits.metadata_bytes_max:
        rule = (
            f'oversized metadata for vector id="{vector_id}"; the compact JSON representation '
            f"of the metadata must not exceed {limits.metadata_bytes_max} bytes, "
            f"got {len(encoded)} bytes"
        )
        raise RecordError(errors.MetadataTooLarge, rule, vector_id)
    _check(document, vector_id, limits.metadata_depth_max)
    return encoded


def _check(value: Any, vector_id: str, depth_max: int) -> None:
    """Refuse what breaks a rule somewhere in an object or array."""
    if depth_max == 0:
        raise RecordError(errors.BadRecord, NESTED_TOO_DEEPLY, None)
    if isinstance(value, dict):
        for key in value:
            broken = _broken_key_rule(key)
            if broken is not None:
                rule = f'invalid metadata key for vector id="{vector_id}": {broken}'
                raise RecordError(errors.BadMetadataKey, rule, vector_id)
        items = value.values()
    else:
        items = value
    for item in items:
        kind = type(item)
        if kind is float or kind is int:
            if not metadata.is_float64(item):
                rule = f"metadata: {_named(value, item)}{metadata.BEYOND}"
                raise RecordError(errors.BadRecord, rule, vector_id)
        elif kind is not str and isinstance(item, dict | list) and (item or depth_max == 1):
            _check(item, vector_id, depth_max - 1)


def _broken_key_rule(key: str) -> str | None:
    if not key:
        return "a key must not be empty"
    if key[0] == "$":
        return f"key {metadata.shown(key)} must not start with '$'"
    for character in '."':
        if character in key:
            return f"key {metadata.shown(key)} must not contain {character!r}"
    return None


def _named(value: Any, item: object) -> str:
    """Say under which key of an object an item stands; an array has none."""
    if not isinstance(value, dict):
        return ""
    key = next(key for key, each in value.items() if each is item)
    return f"key {metadata.shown(key)}: "
