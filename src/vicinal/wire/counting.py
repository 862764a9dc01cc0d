"""A count of the strings of a JSON array, without making Python objects of them.

A body of a hundred megabytes may hold thirty million texts; making them takes seconds and
gigabytes, only to refuse them. Matching the first hundred and one takes neither.
"""

import re
from contextlib import suppress
from itertools import islice

import msgspec

from vicinal.errors import BadEmbeddingInput
from vicinal.limits import Limits

SHORT_BYTES = 64 * 1024
"""Ours: shorter bodies are not counted in, as reading them is cheap."""

# Possessive, so that the matcher keeps no state for a character.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class _Body(msgspec.Struct, frozen=True):
    text: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()


def refuse_too_many(body: bytes | bytearray, path: str, limits: Limits) -> None:
    """Refuse a long body of too many texts; other faults are left to the reader of the body.

    Args:
        body: All of the body.
        path: The names that lead to the texts, with dots between them; the last is in the message.
        limits: The bound on the number of texts.

    Raises:
        BadEmbeddingInput: there are more texts.
    """
    if len(body) <= SHORT_BYTES:
        return
    names = path.split(".")
    with suppress(msgspec.DecodeError, RecursionError):
        for name in names:
            body = getattr(msgspec.json.decode(body, type=_Body), name)
        if has_more(body, limits.texts_per_embedding_max):
            raise BadEmbeddingInput(
                f"Error: {names[-1]}: expected 1 to {limits.texts_per_embedding_max} texts, "
                "got more"
            )


def has_more(raw: bytes | bytearray | msgspec.Raw, most: int) -> bool:
    """Tell whether an array has more than `most` strings; stops at the first beyond these."""
    content = memoryview(raw)
    if bytes(content[:1]) != b"[":
        return False
    return sum(1 for _ in islice(_STRING.finditer(content), most + 1)) > most
