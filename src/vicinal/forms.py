"""How the value of a setting is read, by its form: what text, TOML and lists stand for.

A reader raises ValueError with the end of a sentence that begins with the raw value. Nothing
here knows which settings there are.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vicinal import sites

Names = tuple[str, ...]
Pairs = tuple[tuple[str, str], ...]
"""A mapping, as pairs in the order given, so that settings stay hashable."""


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("is not a text with at least one character")
    return raw.strip()


def _integer(raw: object) -> int:
    if isinstance(raw, str | int) and not isinstance(raw, bool):
        with suppress(ValueError):
            return int(raw)
    raise ValueError("is not a whole number")


def _number(raw: object) -> float:
    if isinstance(raw, str | int | float) and not isinstance(raw, bool):
        with suppress(ValueError):
            value = float(raw)
            if math.isfinite(value):
                return value
    raise ValueError("is not a number")


def _boolean(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(raw, str) and raw.strip().lower() in known:
        return known[raw.strip().lower()]
    raise ValueError("is neither true nor false")


def _folder(raw: object) -> Path:
    return Path(_text(raw)).expanduser()


def _names(raw: object) -> Names:
    parts = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(parts, list | tuple):
        raise ValueError("is not a list of texts")
    return tuple(_text(part) for part in parts)


def _origins(raw: object) -> Names:
    return tuple(sites.origin(each) for each in _names(raw))


def _hosts(raw: object) -> Names:
    return tuple(sites.host(each) for each in _names(raw))


def _pairs(raw: object) -> Pairs:
    if isinstance(raw, dict):
        return tuple((_text(key), _text(each)) for key, each in raw.items())
    pairs = [part.partition("=") for part in _names(raw)]
    if not all(key.strip() and each.strip() for key, _, each in pairs):
        raise ValueError("is not a list of name=value")
    return tuple((key.strip(), each.strip()) for key, _, each in pairs)


FORMS: dict[str, Callable[[object], object]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "folder": _folder,
    "list": _names,
    "mapping": _pairs,
    "origins": _origins,
    "hosts": _hosts,
}

FORM_OF_TYPE: dict[object, str] = {
    str: "text",
    str | None: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    Path: "folder",
    Path | None: "folder",
    Names: "list",
    Pairs: "mapping",
}
