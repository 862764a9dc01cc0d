"""Golden exchanges: what a request gets, as files that name where they know it from.

One file is one exchange::

    {
      "source": "where this is known from, with the strength of the evidence",
      "why": "what it shows, in a sentence",
      "server": {"limits": "cloudflare-2025", "tokens": {"reader": {"permission": "read"}}},
      "given": [requests that must succeed first, and are waited for],
      "request": {"method": "POST", "path": "{indexes}/docs/query", "body": {"vector": [1]}},
      "response": {"status": 200, "headers": {"allow": "GET"}, "body": {...}}
    }

`server` and `given` may be missing. In paths ``{api}``, ``{account}`` and ``{indexes}``
stand for the usual beginnings. A request has a JSON `body`, a `text` sent as it is, or
neither, and `headers`, in which ``<token NAME>`` stands for a token's secret. A response
compares exactly: an extra member is as wrong as a missing one and 1 is not 1.0, except
where the file has ``<uuid>``, ``<time>``, ``<integer>``, ``<any string>`` or
``<begins with> ...``. Of the headers only those in the file are looked at, and null means that a
header is not there.
"""

import json
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.asgi import Received, call
from tests.support.embedder import TinyEmbedder
from vicinal.d1 import Databases
from vicinal.engine.base import Engine
from vicinal.limits import PROFILES, Limits
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App, build
from vicinal.tokens import Permission, Tokens

FOLDER = Path(__file__).parent / "golden"
ACCOUNTS = ("acme", "other")
"""The account that ``{account}`` stands for, and those that files name."""

_API = "/client/v4"
_ACCOUNT = f"{_API}/accounts/{ACCOUNTS[0]}"
_INDEXES = f"{_ACCOUNT}/vectorize/v2/indexes"
_BEGINS = "<begins with> "
_TOKEN = re.compile(r"<token (\w+)>")

_TOP_LEVEL = {"source", "why", "server", "given", "request", "response"}


def exchanges() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    """Read a file, refusing members that nothing would look at."""
    exchange = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(exchange, dict)
    assert set(exchange) <= _TOP_LEVEL, f"unknown members: {set(exchange) - _TOP_LEVEL}"
    assert {"source", "why", "request", "response"} <= set(exchange)
    for request in [*exchange.get("given", []), exchange["request"]]:
        assert set(request) <= {"method", "path", "body", "text", "headers"}, request
    assert set(exchange["response"]) <= {"status", "headers", "body"}
    assert set(exchange.get("server", {})) <= {"limits", "tokens"}
    return exchange


def limits_of(exchange: dict[str, Any]) -> Limits:
    return PROFILES[exchange.get("server", {}).get("limits", "cloudflare")]


def replay(exchange: dict[str, Any], engine: Engine, folder: Path) -> None:
    """Play an exchange against an engine and compare what comes back."""
    tokens = Tokens(folder / "tokens.db")
    config = ServerConfig(limits=limits_of(exchange))
    app = build(engine, TinyEmbedder(), tokens, Databases(folder / "d1"), config)
    try:
        for request in exchange.get("given", []):
            # Given requests come before the tokens, so that they need none.
            answer = _send(app, request, {}, {"prefer": "wait=30"})
            assert answer.status == 200, (request, answer.body)
        secrets = {
            name: tokens.create(name, Permission(row["permission"]), row.get("account"))[1]
            for name, row in exchange.get("server", {}).get("tokens", {}).items()
        }
        _compare(_send(app, exchange["request"], secrets, {}), exchange["response"])
    finally:
        app.services.workers.close()
        app.services.embedding_workers.close()
        tokens.close()


def _send(
    app: App, request: dict[str, Any], secrets: dict[str, str], headers: dict[str, str]
) -> Received:
    path = (
        request["path"]
        .replace("{indexes}", _INDEXES)
        .replace("{account}", _ACCOUNT)
        .replace("{api}", _API)
    )
    sent = headers | {
        name: _TOKEN.sub(lambda found: secrets[found[1]], value)
        for name, value in request.get("headers", {}).items()
    }
    body = request["body"] if "body" in request else request.get("text", "").encode()
    return call(app, request["method"], path, body, headers=sent)


def _compare(answer: Received, response: dict[str, Any]) -> None:
    assert answer.status == response["status"], answer.body
    for name, value in response.get("headers", {}).items():
        assert answer.headers.get(name) == value, f"header {name}: {answer.headers.get(name)!r}"
    if "body" not in response:
        assert answer.body == b""
        return
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    found = differences(answer.json, response["body"])
    assert not found, "; ".join(found)


def differences(got: object, expected: object, place: str = "body") -> list[str]:
    """Return where two JSON values differ, in the words of the file's placeholders."""
    if isinstance(expected, str) and expected in _PLACEHOLDERS:
        return [] if _PLACEHOLDERS[expected](got) else [f"{place}: {got!r} is not {expected}"]
    if isinstance(expected, str) and expected.startswith(_BEGINS):
        begins = isinstance(got, str) and got.startswith(expected.removeprefix(_BEGINS))
        return [] if begins else [f"{place}: {got!r} does not begin so: {expected!r}"]
    if type(got) is not type(expected):
        return [f"{place}: got {got!r}, expected {expected!r}"]
    if isinstance(expected, dict) and isinstance(got, dict):
        found = [f"{place}: {name!r} is missing" for name in expected if name not in got]
        found += [f"{place}: {name!r} is extra" for name in got if name not in expected]
        for name in expected.keys() & got.keys():
            found += differences(got[name], expected[name], f"{place}.{name}")
        return found
    if isinstance(expected, list) and isinstance(got, list):
        if len(got) != len(expected):
            return [f"{place}: {len(got)} items, expected {len(expected)}: {got!r}"]
        pairs = enumerate(zip(got, expected, strict=True))
        return [each for i, (g, e) in pairs for each in differences(g, e, f"{place}[{i}]")]
    return [] if got == expected else [f"{place}: got {got!r}, expected {expected!r}"]


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _is_time(value: object) -> bool:
    shape = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    if not isinstance(value, str) or not re.fullmatch(shape, value):
        return False
    try:
        return datetime.fromisoformat(value).year > 2000
    except ValueError:
        return False


_PLACEHOLDERS: dict[str, Callable[[object], bool]] = {
    "<uuid>": _is_uuid,
    "<time>": _is_time,
    "<integer>": lambda value: type(value) is int,
    "<any string>": lambda value: isinstance(value, str) and value != "",
}
