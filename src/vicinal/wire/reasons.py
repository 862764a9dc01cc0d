"""The fault of a body that is not of its shape, in words: the member's path first."""

import re

from msgspec import inspect

FAILED = "Failed to parse the request body as JSON: "
"""The beginning of what is said of a body that is not of its shape."""

_CHARS_MAX = 200  # ours

_AT = re.compile(r" - at `\$\.?([^`]+)`$")


def reason(error: Exception, shape: type) -> str:
    """Return the fault that msgspec finds in a body of this shape, the member's path first."""
    match error:
        case RecursionError():
            return "nested too deeply"
        case UnicodeDecodeError():
            return f"not UTF-8 at byte {error.start}"
    text = str(error)
    path = _AT.search(text)
    if path is None:
        return _cut(text)
    choices = _choices(shape, path[1]) if text.startswith("Invalid enum value") else ""
    return f"{path[1]}: {_cut(text[: path.start()])}{choices}"


def _cut(text: str) -> str:
    """Return the start of what may have a value of a client in it."""
    return text if len(text) <= _CHARS_MAX else f"{text[: _CHARS_MAX - 3]}..."


def _choices(shape: type, path: str) -> str:
    """Return the values that the member at a path may have."""
    types = [inspect.type_info(shape)]
    for name in path.split("."):
        types = [
            choice
            for struct in types
            if isinstance(struct, inspect.StructType)
            for field in struct.fields
            if field.encode_name == name
            for choice in (
                field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
            )
        ]
    values: list[object] = []
    for choice in types:
        if isinstance(choice, inspect.LiteralType):
            values += choice.values
        elif isinstance(choice, inspect.EnumType):
            values += [member.value for member in choice.cls]
    return f", expected one of {', '.join(map(str, values))}"
