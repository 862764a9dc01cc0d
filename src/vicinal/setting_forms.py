"""The forms of settings' values: their types, and what texts stand for, in flags and variables.

msgspec checks types and bounds afterwards; only a text that may be a value of another type is
replaced here.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from vicinal import sites

Text = Annotated[str, Meta(min_length=1)]
Names = tuple[Text, ...]
Pairs = tuple[tuple[Text, Text], ...]
"""A mapping, as pairs in the order given, so that settings stay hashable."""

Origins = Annotated[Names, Meta(extra={"form": "origins"})]
Hosts = Annotated[Names, Meta(extra={"form": "hosts"})]

FORMS: dict[object, str] = {
    str: "text",
    str | None: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    Path: "folder",
    Path | None: "folder",
    tuple[str, ...]: "list",
    tuple[tuple[str, str], ...]: "mapping",
}

MEMBER_READERS: dict[str, Callable[[str], str]] = {"origins": sites.origin, "hosts": sites.host}

FAULTS = {
    "integer": "is not a whole number",
    "number": "is not a number",
    "boolean": "is neither true nor false",
    "mapping": "is not a list of name=value",
    **dict.fromkeys(("text", "folder"), "is not a text with at least one character"),
    **dict.fromkeys(("list", *MEMBER_READERS), "is not a list of texts"),
}

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parsed(form: str, raw: object) -> object:
    """Return `raw` with texts replaced by what they stand for, and else as it is.

    msgspec's own reading of text is not used: it takes ``1e2`` for an integer, not ``yes``.
    """
    match form, raw:
        case "integer" | "number", str():
            with suppress(ValueError):
                return int(raw) if form == "integer" else float(raw)
        case "boolean", str():
            return _BOOLEANS.get(raw.strip().lower(), raw)
        case "folder", str():
            return _folder(raw.strip()) if raw.strip() else raw
        case "list" | "origins" | "hosts" | "mapping", str():
            return parsed(form, raw.split(","))
        case "list" | "origins" | "hosts", list() | tuple():
            return [parsed("text", part) for part in raw]
        case "mapping", list() | tuple():
            return [parsed("list", str(part).partition("=")[::2]) for part in raw]
        case "mapping", dict():
            return [parsed("list", pair) for pair in raw.items()]
        case "text", str():
            return raw.strip()
    return raw


def _folder(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and there is no such home folder") from None
