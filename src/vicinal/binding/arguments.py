"""Arguments held to the types that the wire holds JSON to, so that both take the same.

Python hands over anything. Each function here returns what was meant, in Python's own type
exactly (NumPy's scalars and subclasses become it), or raises an `InvalidInput` that names the
argument. So what goes further, and what is stored, is what a JSON body could have brought.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TypeGuard, TypeVar

import numpy as np

from vicinal import metadata
from vicinal.errors import BadBody, BadCursor, InvalidInput
from vicinal.limits import ACCOUNT_ID, PROFILES, Limits
from vicinal.model import MetadataLevel
from vicinal.wire import requests

_E = TypeVar("_E", bound=StrEnum)

_INTEGER_MAX = 2**63 - 1  # ours: longer ones cannot even be shown in a message


def text(value: object, name: str, error: type[InvalidInput] = InvalidInput) -> str:
    """Return a string that UTF-8 can write."""
    if not isinstance(value, str):
        raise error(f"{name}: expected a string, got {kind(value)}")
    with asking(name, error):
        found = str.__str__(value)
    try:
        found.encode()
    except UnicodeEncodeError:
        raise error(f"{name}: half of a surrogate pair, which is no character") from None
    return found


def optional_text(value: object, name: str, error: type[InvalidInput] = InvalidInput) -> str | None:
    """Return a string that UTF-8 can write, or None."""
    return None if value is None else text(value, name, error)


def boolean(value: object, name: str) -> bool:
    """Return a boolean; numbers are none."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise InvalidInput(f"{name}: expected a boolean, got {kind(value)}")


def integer(value: object, name: str) -> int:
    """Return an integer; booleans, and floats without a fraction, are none."""
    if not _is_integer(value):
        raise InvalidInput(f"{name}: expected an integer, got {kind(value)}")
    return _bounded(value, name)


def optional_integer(value: object, name: str) -> int | None:
    """Return an integer, or None."""
    return None if value is None else integer(value, name)


def number(value: object, name: str) -> int | float:
    """Return a number of any kind but a boolean; not a number is one."""
    if isinstance(value, float | np.floating):
        with asking(name, InvalidInput):
            return float(value)
    if not _is_integer(value):
        raise InvalidInput(f"{name}: expected a number, got {kind(value)}")
    return _bounded(value, name)


def seconds(value: object, name: str) -> float:
    """Return a time to wait: a number from 0, infinite if None."""
    if value is None:
        return math.inf
    found = float(number(value, name))
    if not found >= 0.0:
        raise InvalidInput(f"{name}: expected seconds from 0, got {found:g}")
    return found


def member(kind_of: type[_E], value: object, name: str) -> _E:
    """Return the member of an enumeration that a string spells."""
    spelled = text(value, name)
    try:
        return kind_of(spelled)
    except ValueError:
        choices = ", ".join(each.value for each in kind_of)
        raise InvalidInput(f"{name} {metadata.shown(spelled)} is none of {choices}") from None


def optional_member(kind_of: type[_E], value: object, name: str) -> _E | None:
    """Return the member of an enumeration that a string spells, or None."""
    return None if value is None else member(kind_of, value, name)


def level(value: object) -> MetadataLevel:
    """Return how much metadata is wanted; True is all of it."""
    if isinstance(value, bool | np.bool_):
        return MetadataLevel.ALL if value else MetadataLevel.NONE
    return member(MetadataLevel, value, "return_metadata")


def ids(value: object, ids_max: int, limits: Limits) -> list[str]:
    """Return ids in their order; `ids_max` is inclusive.

    Raises:
        TooManyIds: there are more.
        IdTooLong: one is longer than a vector's may be.
        BadBody: they are not a sequence of strings.
    """
    if isinstance(value, str):
        found = metadata.shown(text(value, "ids", BadBody))
        raise BadBody(f"ids: expected a sequence of strings, got the string {found}")
    if isinstance(value, bytes | bytearray | Mapping | AbstractSet):
        raise BadBody(f"ids: expected a sequence of strings, got {kind(value)}")
    with asking("ids", BadBody):
        # No more than it says that there are, or than tell that there are too many: some never end.
        count_max = max(len(value) if isinstance(value, Sized) else 0, ids_max + 1)
        items = islice(iterated(value, "ids", BadBody), count_max)
        asked = [text(each, f"ids[{place}]", BadBody) for place, each in enumerate(items)]
    return requests.check_ids(asked, ids_max, limits)


def cursor(value: object) -> str | None:
    """Return a cursor, or None to begin."""
    return optional_text(value, "cursor", BadCursor)


def account(value: object) -> str:
    """Return an account id that the REST paths could hold as well."""
    found = text(value, "account")
    if ACCOUNT_ID.fullmatch(found) is None:
        raise InvalidInput(
            f"account {metadata.shown(found)} must be 1 to 32 letters, digits, dashes and "
            "underscores"
        )
    return found


def profile(value: object) -> str:
    """Return the name of a profile of limits."""
    found = text(value, "limits")
    if found not in PROFILES:
        raise InvalidInput(f"limits {metadata.shown(found)} is none of {', '.join(PROFILES)}")
    return found


def folder(value: object) -> Path:
    """Return the path of a folder, which may hold whatever a path of the system's can."""
    if not isinstance(value, str | os.PathLike):
        raise InvalidInput(f"path: expected a string or a path, got {kind(value)}")
    with asking("path", InvalidInput):
        found = os.fspath(value)
    if not isinstance(found, str):
        raise InvalidInput(f"path: expected a string or a path, got a path of {kind(found)}")
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        raise InvalidInput(f"path: {metadata.shown(found)} is no name of a file") from None
    if not found or "\0" in found:
        raise InvalidInput(f"path: {metadata.shown(found)} is no name of a file")
    return Path(found)


def iterated(value: object, name: str, error: type[InvalidInput]) -> Iterable[object]:
    """Return what can be iterated over as that."""
    try:
        found: Iterable[object] = iter(value)  # type: ignore[call-overload]  # found out here
        return found
    except TypeError:
        raise error(f"{name}: expected a sequence, got {kind(value)}") from None


@contextmanager
def asking(name: str, error: type[InvalidInput]) -> Iterator[None]:
    """Refuse an argument that raises something when it is asked for what it holds.

    Raises:
        InvalidInput: an `error`, with what was raised as its cause.
    """
    try:
        yield
    except InvalidInput:
        raise
    except Exception as raised:  # an object's methods may raise whatever they like
        raise error(f"{name}: cannot be read, it raises {type(raised).__name__[:80]}") from raised


def kind(value: object) -> str:
    """Return what to call a value in a message: as JSON does, else by its type."""
    if value is None or isinstance(value, bool | str | int | float | dict | list | tuple):
        return metadata.kind(value)
    return f"an object of type {type(value).__name__[:80]}"


def _is_integer(value: object) -> TypeGuard[int | np.integer]:
    # To Python a boolean is an integer, to NumPy a span of time.
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def _bounded(value: int | np.integer, name: str) -> int:
    with asking(name, InvalidInput):
        found = int.__index__(value) if isinstance(value, int) else int(value)
    if abs(found) > _INTEGER_MAX:
        raise InvalidInput(f"{name}: an integer of {found.bit_length()} bits is too large")
    return found
