"""WebSockets are refused, without a line in the log.

Miniflare tries to open one before it calls a binding, and hangs up when it does not need it.
uvicorn, which hands such connections to a class, would otherwise warn about every one;
`connection` refuses them itself, in their turn.
"""

import asyncio
from typing import cast


def refusal(further: bytes = b"") -> bytes:
    """Return the whole response, which ends the connection; `further` are lines of its head."""
    return (
        b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n%bconnection: close\r\n\r\n"
        % further
    )


class WebSocketRefusal(asyncio.Protocol):
    """Answers an attempt to open a WebSocket with 426; for uvicorn's setting ``ws``."""

    def __init__(self, config: object, server_state: object, app_state: object) -> None:
        """Take the arguments that uvicorn gives; none is needed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer and hang up."""
        # A cast, as uvloop's transports are no subclasses.
        writable = cast("asyncio.WriteTransport", transport)
        writable.write(refusal())
        writable.close()
