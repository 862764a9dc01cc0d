"""Refusing WebSockets, without a word in the log.

Miniflare tries to open one before it calls a binding, and hangs up when it does not need
it. uvicorn, which hands such connections to a class, would warn about each.
"""

import asyncio

from uvicorn.config import Config
from uvicorn.server import ServerState

_REFUSAL = b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Refused(asyncio.Protocol):
    """Answers an attempt to open a WebSocket with 426; for uvicorn's setting ``ws``."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, object]
    ) -> None:
        # The server waits for the connections in this set when it stops.
        self._connections = server_state.connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer and hang up."""
        assert isinstance(transport, asyncio.Transport)
        self._connections.discard(self)
        transport.write(_REFUSAL)
        transport.close()
