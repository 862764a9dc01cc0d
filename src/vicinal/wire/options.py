"""Options of requests that are headers or parameters of the URL, read into the model.

Headers whose names begin with Vicinal are ours. An absent one, or an empty value, is the default.
"""

from vicinal import errors
from vicinal.model import Effort


def effort(value: str | None) -> Effort | None:
    """Read the header ``Vicinal-Effort``; an absent one means the index's.

    Raises:
        BadParameter: the value is no effort.
    """
    if not value:
        return None
    try:
        return Effort(value)
    except ValueError:
        known = ", ".join(Effort)
        raise errors.BadParameter(
            f"Vicinal-Effort must be one of {known}, got {value[:40]!r}"
        ) from None


def explains(value: str | None) -> bool:
    """Read the header ``Vicinal-Explain``; an absent one means ``false``.

    Raises:
        BadParameter: the value is neither ``true`` nor ``false``.
    """
    return _choice("Vicinal-Explain", value, ("true", "false")) == "true"


def extends_filters(value: str | None) -> bool:
    """Read the header ``Vicinal-Filter``; an absent one means the platform's operators alone.

    Raises:
        BadParameter: the value is not ``extended``.
    """
    if value and value != "extended":
        raise errors.BadParameter(f"Vicinal-Filter must be 'extended', got {value[:40]!r}")
    return bool(value)


def discards_unparsable(value: str | None) -> bool:
    """Read the URL parameter ``unparsable-behavior``; an absent one means ``error``.

    Raises:
        BadParameter: the value is neither ``error`` nor ``discard``.
    """
    return _choice("unparsable-behavior", value, ("error", "discard")) == "discard"


def wants_detail(value: str | None) -> bool:
    """Read the URL parameter ``detail``; an absent one means ``false``.

    Raises:
        BadParameter: the value is neither ``true`` nor ``false``.
    """
    return _choice("detail", value, ("true", "false")) == "true"


def _choice(name: str, value: str | None, choices: tuple[str, str]) -> str | None:
    if value and value not in choices:
        first, second = choices
        raise errors.BadParameter(f"{name} must be {first!r} or {second!r}, got {value[:40]!r}")
    return value
