"""Responses, before `respond` sends them."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from vicinal.wire.codes import ErrorResponse, Message

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Stream:
    """The body of a response that is sent while it is made.

    Attributes:
        parts: The body in pieces. Closed when the client has gone.
        whole_s: Seconds that the whole may take, the client's reading included.
        failure: Writes the last piece, before the connection breaks off, when `parts` fails.
    """

    parts: AsyncGenerator[bytes, None]
    whole_s: float
    failure: Callable[[ErrorResponse], bytes]


@dataclass(frozen=True, slots=True)
class Response:
    """A response, complete but for ``Content-Length``.

    `body` is a bare result until the application has put the route's form around it, with
    `messages` for those clients that read them. A `stream` replaces `body`.
    """

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    messages: Sequence[Message] = ()
    content_type: bytes = JSON
    stream: Stream | None = None
