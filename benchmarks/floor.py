"""Servers that only read, parse and answer: the least that HTTP and JSON cost.

    python -m benchmarks.floor PORT

``POST /query`` reads the vector of a query into an array and answers with ten matches that
are always the same; ``POST /upsert`` reads every line of NDJSON, the vector into an array,
and keeps nothing. Raw ASGI under the same server, event loop and HTTP parser as Vicinal.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import simdjson
import uvicorn

_Send = Callable[[dict[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[dict[str, Any]]]

_MATCHES = [{"id": f"{row:08d}", "score": 0.123456789} for row in range(10)]
_FOUND = msgspec.json.encode(
    {"result": {"count": 10, "matches": _MATCHES}, "success": True, "errors": [], "messages": []}
)
_parser = simdjson.Parser()


async def app(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        return
    chunks, more = [], True
    while more:
        event = await receive()
        chunks.append(event.get("body", b""))
        more = event.get("more_body", False)
    body = b"".join(chunks)
    if scope["path"] == "/query":
        answer = _query(body)
    elif scope["path"] == "/upsert":
        answer = await asyncio.get_running_loop().run_in_executor(None, _upsert, body)
    else:
        answer = b"{}"
    headers = [
        (b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer)),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _query(body: bytes) -> bytes:
    document: Any = _parser.parse(body)
    vector = np.frombuffer(document["vector"].as_buffer(of_type="d"), np.float64)
    vector.astype(np.float32)
    del document
    return _FOUND


def _upsert(body: bytes) -> bytes:
    parser, count = simdjson.Parser(), 0
    for line in body.splitlines():
        document: Any = parser.parse(line)
        np.frombuffer(document["values"].as_buffer(of_type="d"), np.float64).astype(np.float32)
        count += 1
        del document
    return msgspec.json.encode({"count": count})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning",
                access_log=False, loop="uvloop", http="httptools")  # fmt: skip
