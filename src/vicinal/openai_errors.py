"""Errors of services with an OpenAI-style API, as their clients here read them.

    {"error": {"message": TEXT}} or {"error": TEXT}

This module does not know which API was asked.
"""

import msgspec

CHARS_MAX = 500  # ours: of a reason; it goes into messages and logs


class _ErrorMessage(msgspec.Struct):
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _ErrorMessage | str


def reason(content: bytes) -> str:
    """Return the start of the message in an error's body; of a body of another form the first 200
    bytes."""
    try:
        error = msgspec.json.decode(content, type=_ErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return content[:200].decode(errors="replace").strip()
    return (error if isinstance(error, str) else error.message)[:CHARS_MAX]
