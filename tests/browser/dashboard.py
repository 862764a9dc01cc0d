"""A server with something to look at, and a page that tells what goes wrong in it."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import numpy as np

from tests.support.asgi import application
from tests.support.embedder import DIMENSIONS, TINY, TinyEmbedder
from tests.support.server import in_thread
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App
from vicinal.snapshots.service import Snapshots

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

INDEXES = "/client/v4/accounts/local/vectorize/v2/indexes"
TOPICS = ("plants", "rivers", "engines")
COUNT = 240


def ask(origin: str, path: str, body: object = None, *, token: str = "any") -> Any:
    """Ask as a program does, and return the result."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {token}", "prefer": "wait=30"}
    with urlopen(Request(f"{origin}{path}", content, headers), timeout=60) as answer:
        return json.load(answer)["result"]


def lines(first: int, last: int) -> bytes:
    """Return vectors near an axis for each topic, as NDJSON."""
    random = np.random.default_rng(11)
    noise = random.normal(0, 0.12, (COUNT, DIMENSIONS))
    records = [
        {
            "id": f"doc-{number:03}",
            "values": (np.eye(DIMENSIONS)[number % 3] + noise[number]).tolist(),
            "namespace": ("old", "new")[number % 2],
            "metadata": {
                "title": f"Number {number} of {TOPICS[number % 3]}",
                "topic": TOPICS[number % 3],
                "year": 1950 + number % 70,
            },
        }
        for number in range(first, last)
    ]
    return "\n".join(map(json.dumps, records)).encode()


def fill(origin: str, token: str = "any") -> None:
    """Make an index `docs`, whose index on `year` covers a part, and an empty one."""
    config = {"dimensions": DIMENSIONS, "metric": "cosine", "model": TINY}
    docs = f"{INDEXES}/docs"
    ask(origin, INDEXES, {"name": "docs", "config": config}, token=token)
    ask(origin, INDEXES, {"name": "empty", "config": config}, token=token)
    wanted = {"propertyName": "topic", "indexType": "string"}
    ask(origin, f"{docs}/metadata_index/create", wanted, token=token)
    ask(origin, f"{docs}/upsert", lines(0, 150), token=token)
    wanted = {"propertyName": "year", "indexType": "number"}
    ask(origin, f"{docs}/metadata_index/create", wanted, token=token)
    ask(origin, f"{docs}/upsert", lines(150, COUNT), token=token)


@dataclass(frozen=True)
class Served:
    """A server that is filled."""

    origin: str
    app: App


@contextmanager
def serving(
    folder: Path, *, token: str | None = None, keeps_snapshots: bool = True
) -> Iterator[Served]:
    """Serve a filled folder; any query is slow enough to be listed as such."""
    data = folder / "data"
    data.mkdir()
    with closing(EmbeddedEngine.open(data)) as engine:
        app = application(
            data,
            engine=engine,
            embedder=TinyEmbedder(),
            config=ServerConfig(slow_query_s=1e-9),
            tokens=() if token is None else (token,),
            snapshots=Snapshots(
                engine, data, folder / "snapshots" if keeps_snapshots else None, "0"
            ),
        )
        with in_thread(app, token=token or "any") as running:
            fill(running.origin, running.token)
            yield Served(running.origin, app)
        app.services.tokens.close()


_EXPECTED = (
    "the server responded",  # with a refusal, which the page shows
    "GPU stall due to ReadPixels",  # the browser's own: it has no graphics card, and we read none
)


class Watched:
    """A page that keeps what a person would not see: errors, and requests to other origins."""

    def __init__(self, browser: "Browser", origin: str, **options: Any) -> None:
        self.origin = origin
        self.context = browser.new_context(
            viewport={"width": 1200, "height": 800}, accept_downloads=True, **options
        )
        self.context.set_default_timeout(20_000)
        self.problems: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)

    def open(self, address: str) -> "Page":
        """Show an address of the dashboard, as a link to it would."""
        self.page.goto(f"{self.origin}/ui/#/{address}")
        return self.page

    def close(self) -> None:
        """Close, and tell what went wrong."""
        self.context.close()
        assert self.problems == []

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(
            expected in message.text for expected in _EXPECTED
        ):
            self.problems.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((f"{self.origin}/", "blob:", "data:")):
            self.problems.append(f"request: {request.url}")
