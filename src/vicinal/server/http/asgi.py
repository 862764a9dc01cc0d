"""The types of ASGI 3 that this server is called with."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

Headers = Mapping[bytes, bytes]
"""Names in lower case; of a header that was sent twice, the last."""
