"""A count of the strings of a JSON array, without making Python objects of them.

A body of a hundred megabytes may hold thirty million texts; making them takes seconds and
gigabytes, only to refuse them. Matching the first hundred and one takes neither.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

import msgspec

from vicinal.errors import BadEmbeddingInput
from vicinal.limits import Limits

SHORT_BYTES = 64 * 1024
"""Ours: shorter bodies are not counted in, as reading them is cheap."""

# Possessive, so that the matcher keeps no state for a character.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class _Text(msgspec.Struct, frozen=True):
    text: msgspec.Raw = msgspec.Raw()


class _Inputs(msgspec.Struct, frozen=True):
    inputs: _Text = _Text()


class _Input(msgspec.Struct, frozen=True):
    input: msgspec.Raw = msgspec.Raw()


def refuse_too_many(
    body: bytes | bytearray,
    texts_of: Callable[[bytes | bytearray], msgspec.Raw],
    member: str,
    limits: Limits,
) -> None:
    """Refuse a long body of too many texts; other faults are left to the reader of the body.

    Args:
        body: All of the body.
        texts_of: Returns the member that has the texts, as JSON.
        member: The name of the member, for the message.
        limits: The bound on the number of texts.

    Raises:
        BadEmbeddingInput: there are more texts.
    """
    if len(body) <= SHORT_BYTES:
        return
    with suppress(msgspec.DecodeError, RecursionError):
        if has_more(texts_of(body), limits.texts_per_embedding_max):
            raise BadEmbeddingInput(
                f"Error: {member}: expected 1 to {limits.texts_per_embedding_max} texts, got more"
            )


def texts(body: bytes | bytearray) -> msgspec.Raw:
    """Return the member ``text`` as JSON; empty when there is none.

    Raises:
        msgspec.DecodeError, RecursionError: the body is not such an object.
    """
    return msgspec.json.decode(body, type=_Text).text


def inputs_texts(body: bytes | bytearray) -> msgspec.Raw:
    """Return the member ``inputs.text`` as JSON; otherwise as `texts`."""
    return msgspec.json.decode(body, type=_Inputs).inputs.text


def input_texts(body: bytes | bytearray) -> msgspec.Raw:
    """Return the member ``input`` as JSON; otherwise as `texts`."""
    return msgspec.json.decode(body, type=_Input).input


def has_more(raw: msgspec.Raw, most: int) -> bool:
    """Tell whether an array has more than `most` strings; stops at the first beyond these."""
    content = memoryview(raw)
    if bytes(content[:1]) != b"[":
        return False
    return sum(1 for _ in islice(_STRING.finditer(content), most + 1)) > most
