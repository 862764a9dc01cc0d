"""An answer, before it is put on the wire by `respond`."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from vicinal.wire.codes import ErrorResponse, Message


@dataclass(frozen=True, slots=True)
class Stream:
    """The rest of an answer that is sent while it is made.

    Attributes:
        parts: What to send, in pieces. Closed when the client has gone.
        whole_s: Seconds that all of it may take, the client's reading included.
        failure: Writes what is sent, before the connection breaks off, when `parts` fails.
    """

    parts: AsyncGenerator[bytes, None]
    whole_s: float
    failure: Callable[[ErrorResponse], bytes]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, complete but for ``Content-Length``.

    `body` is a bare result until the application has put the route's form around it, with
    `messages` for those clients that read them. Where there is a `stream`, it is the body.
    """

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    messages: Sequence[Message] = ()
    content_type: bytes = b"application/json"
    stream: Stream | None = None
