"""The envelopes of results and errors, one `Envelope` for each kind of client.

REST clients expect the four members of the envelope always, the Workers bindings a bare
result. Results arrive as bytes and are spliced in, so that an answer is encoded once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from vicinal.wire.codes import ErrorResponse, Message

_encode = msgspec.json.Encoder().encode

NULL = b"null"
"""The result of an operation without a result."""

_RESULT = b'{"result":'
_SUCCEEDED = b',"success":true,"errors":[],"messages":[]}'


def success(result: bytes, messages: Sequence[Message] = ()) -> bytes:
    """Return the REST answer around `result`, which is JSON already."""
    if not messages:
        return _RESULT + result + _SUCCEEDED
    return b"".join(
        (_RESULT, result, b',"success":true,"errors":[],"messages":', _encode(messages), b"}")
    )


def failure(answer: ErrorResponse) -> bytes:
    """Return the REST answer for an error."""
    return b"".join(
        (
            b'{"result":null,"success":false,"errors":[{"code":%d,"message":' % answer.code,
            _encode(answer.message),
            b'}],"messages":[]}',
        )
    )


def bare_failure(answer: ErrorResponse) -> bytes:
    """Return an error for the Workers bindings, which read no envelope.

    The index binding reads ``error`` and ``code``, the AI binding ``errors``.
    """
    message = _encode(answer.message)
    return b'{"error":%b,"code":%d,"errors":[{"code":%d,"message":%b}]}' % (
        message,
        answer.code,
        answer.code,
        message,
    )


def openai_failure(answer: ErrorResponse) -> bytes:
    """Return an error for the OpenAI-compatible routes, whose clients read ``error.message``."""
    return b'{"error":{"message":%b,"type":%b,"param":null,"code":"%d"}}' % (
        _encode(answer.message),
        b'"invalid_request_error"' if answer.status < 500 else b'"server_error"',
        answer.code,
    )


def bare(result: bytes, messages: Sequence[Message] = ()) -> bytes:
    """Return `result` alone; without an envelope there are no messages."""
    return result


@dataclass(frozen=True, slots=True)
class Envelope:
    """The writers of results and errors for one kind of client."""

    success: Callable[[bytes, Sequence[Message]], bytes]
    failure: Callable[[ErrorResponse], bytes]


REST = Envelope(success, failure)
PLAIN = Envelope(bare, failure)
OPENAI = Envelope(bare, openai_failure)
BINDING = Envelope(bare, bare_failure)
BINDING_MODELS = Envelope(success, bare_failure)
"""The AI binding reads its list of models out of an envelope, but no error."""
