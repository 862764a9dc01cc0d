"""Checks of arguments, by the types that the wire requires of JSON.

A caller in Python may pass any object. A function here returns the argument in Python's own type
exactly (NumPy's scalars and subclasses become it), or raises an `InvalidInput` that names the
argument. So only values that a JSON body could have are passed on and stored.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sized
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TypeGuard, TypeVar

import numpy as np

from vicinal import metadata
from vicinal.errors import BadBody, InvalidInput
from vicinal.limits import ACCOUNT_ID, PROFILES, Limits
from vicinal.model import MetadataLevel
from vicinal.wire import requests

_E = TypeVar("_E", bound=StrEnum)

_INTEGER_MAX = 2**63 - 1  # ours: Python does not even print longer ones


def text(value: object, name: str, error: type[InvalidInput] = InvalidInput) -> str:
    """Return a string that UTF-8 can write."""
    if not isinstance(value, str):
        raise error(f"{name}: expected a string, got {kind(value)}")
    with Asking(name, error):
        return encodable(str.__str__(value), name, error)


def encodable(characters: str, name: str, error: type[InvalidInput]) -> str:
    """Return a string that UTF-8 can write, and refuse any other."""
    try:
        characters.encode()
    except UnicodeEncodeError:
        raise error(f"{name}: half of a surrogate pair, which is no character") from None
    return characters


def optional_text(value: object, name: str, error: type[InvalidInput] = InvalidInput) -> str | None:
    """Return a string that UTF-8 can write, or None."""
    return None if value is None else text(value, name, error)


def boolean(value: object, name: str) -> bool:
    """Return a boolean; numbers are refused."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise InvalidInput(f"{name}: expected a boolean, got {kind(value)}")


def optional_integer(value: object, name: str) -> int | None:
    """Return an integer, or None; booleans, and floats without a fraction, are refused."""
    if value is None:
        return None
    if not _is_integer(value):
        raise InvalidInput(f"{name}: expected an integer, got {kind(value)}")
    return _bounded(value, name)


def number(value: object, name: str) -> int | float:
    """Return a number; booleans are refused, NaN is not."""
    if isinstance(value, float | np.floating):
        with Asking(name, InvalidInput):
            return float(value)
    if not _is_integer(value):
        raise InvalidInput(f"{name}: expected a number, got {kind(value)}")
    return _bounded(value, name)


def seconds(value: object, name: str) -> float:
    """Return a time to wait: a number from 0, infinite if None."""
    if value is None:
        return math.inf
    duration = float(number(value, name))
    if not duration >= 0.0:
        raise InvalidInput(f"{name}: expected seconds from 0, got {duration:g}")
    return duration


def member(enumeration: type[_E], value: object, name: str) -> _E:
    """Return the member of an enumeration whose value is a string."""
    spelled = text(value, name)
    try:
        return enumeration(spelled)
    except ValueError:
        choices = ", ".join(choice.value for choice in enumeration)
        raise InvalidInput(f"{name} {metadata.shown(spelled)} is none of {choices}") from None


def optional_member(enumeration: type[_E], value: object, name: str) -> _E | None:
    """Return the member of an enumeration whose value is a string, or None."""
    return None if value is None else member(enumeration, value, name)


def level(value: object) -> MetadataLevel:
    """Return the level of metadata; True is `MetadataLevel.ALL`."""
    if isinstance(value, bool | np.bool_):
        return MetadataLevel.ALL if value else MetadataLevel.NONE
    return member(MetadataLevel, value, "return_metadata")


def ids(value: object, ids_max: int, limits: Limits) -> list[str]:
    """Return ids in their order; `ids_max` is inclusive.

    Raises:
        TooManyIds: there are more ids.
        IdTooLong: an id is longer than a vector's may be.
        BadBody: the argument is not a sequence of strings.
    """
    if isinstance(value, str):
        shown = metadata.shown(text(value, "ids", BadBody))
        raise BadBody(f"ids: expected a sequence of strings, got the string {shown}")
    if isinstance(value, bytes | bytearray | Mapping | AbstractSet):
        raise BadBody(f"ids: expected a sequence of strings, got {kind(value)}")
    with Asking("ids", BadBody):
        # A sequence may be endless: no more items are read than its length, or than are too many.
        count_max = max(len(value) if isinstance(value, Sized) else 0, ids_max + 1)
        items = islice(iterated(value, "ids", BadBody), count_max)
        checked = [text(item, f"ids[{position}]", BadBody) for position, item in enumerate(items)]
    return requests.check_ids(checked, ids_max, limits)


def account(value: object) -> str:
    """Return an account id that may stand in a REST path as well."""
    account_id = text(value, "account")
    if ACCOUNT_ID.fullmatch(account_id) is None:
        raise InvalidInput(
            f"account {metadata.shown(account_id)} must be 1 to 32 letters, digits, dashes and "
            "underscores"
        )
    return account_id


def profile(value: object) -> str:
    """Return the name of a profile of limits."""
    name = text(value, "limits")
    if name not in PROFILES:
        raise InvalidInput(f"limits {metadata.shown(name)} is none of {', '.join(PROFILES)}")
    return name


def folder(value: object) -> Path:
    """Return the path of a folder, with any character that the system allows in a path."""
    if not isinstance(value, str | os.PathLike):
        raise InvalidInput(f"path: expected a string or a path, got {kind(value)}")
    with Asking("path", InvalidInput):
        path = os.fspath(value)
    if not isinstance(path, str):
        raise InvalidInput(f"path: expected a string or a path, got a path of {kind(path)}")
    with suppress(UnicodeEncodeError):
        if os.fsencode(path) and "\0" not in path:
            return Path(path)
    raise InvalidInput(f"path: {metadata.shown(path)} is no name of a file")


def iterated(value: object, name: str, error: type[InvalidInput]) -> Iterable[object]:
    """Return an iterator over a value."""
    try:
        items: Iterable[object] = iter(value)  # type: ignore[call-overload]  # tested by the call
        return items
    except TypeError:
        raise error(f"{name}: expected a sequence, got {kind(value)}") from None


@dataclass(slots=True)
class Asking:
    """A block that reads an argument, whose own methods may raise anything.

    A class, as several are entered for each vector: a generator takes three times as long.

    Raises:
        InvalidInput: an `error`, whose cause is the exception.
    """

    name: str
    error: type[InvalidInput]

    def __enter__(self) -> None:
        """Begin to read."""

    def __exit__(self, kind: object, raised: BaseException | None, traceback: object) -> None:
        """Refuse the argument if reading raised."""
        # An object's methods may raise any exception.
        if isinstance(raised, Exception) and not isinstance(raised, InvalidInput):
            shown = type(raised).__name__[:80]
            raise self.error(f"{self.name}: cannot be read, it raises {shown}") from raised


def kind(value: object) -> str:
    """Return the kind of a value for a message: JSON's, else the name of its type."""
    if value is None or isinstance(value, bool | str | int | float | dict | list | tuple):
        return metadata.kind(value)
    return f"an object of type {type(value).__name__[:80]}"


def _is_integer(value: object) -> TypeGuard[int | np.integer]:
    # To Python a boolean is an integer, to NumPy a span of time.
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def _bounded(value: int | np.integer, name: str) -> int:
    with Asking(name, InvalidInput):
        exact = int.__index__(value) if isinstance(value, int) else int(value)
    if abs(exact) > _INTEGER_MAX:
        raise InvalidInput(f"{name}: an integer of {exact.bit_length()} bits is too large")
    return exact
