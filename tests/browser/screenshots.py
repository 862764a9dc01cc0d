"""The pictures of docs/dashboard.md: ``python -m tests.browser.screenshots`` makes them again.

Needs Debian's chromium, PyPI's playwright, and the model that ``make run`` fetches: it embeds the
demo's facts.
"""

import base64
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.browser.conftest import ARGUMENTS
from tests.browser.dashboard import INDEXES, Watched, ask
from tests.support.chromium import chromium
from tests.support.server import in_thread
from vicinal.app import create
from vicinal.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parents[2] / "docs" / "images"
MODEL = "@hf/sentence-transformers/all-minilm-l6-v2"
FACTS = f"{INDEXES}/facts"
QUALITY = 62

PAGES = {
    "indexes": ("indexes", "[aria-label=Indexes] tbody tr"),
    "browse": ('browse/facts?filter={"natural":{"$eq":true}}', "[aria-label=Vectors] tbody tr"),
    "row": ("row/facts/animals-02", ".matches li"),
    "search": (
        "search/facts?text=machines that play games&effort=high",
        "[aria-label=Matches] tbody tr",
    ),
    "map": ("map/facts?color=topic&layout=neighbors&text=surviving the cold", "[data-drawn]"),
    "operations": ("operations", "[aria-label='Open indexes'] tbody tr"),
    "slow": ("operations?show=slow", "[aria-label='Slow queries'] tbody tr"),
    "api": ("api?open=count_vectors", "details[open] form"),
}
"""Picture -> the address that is shown, and what is there when it can be taken."""


def fill(origin: str) -> None:
    """Embed the demo's facts into an index of theirs."""
    ask(origin, INDEXES, {"name": "facts", "config": {"preset": MODEL}})
    ask(origin, INDEXES, {"name": "stories", "config": {"preset": MODEL}})
    for name, kind in (("topic", "string"), ("year", "number"), ("natural", "boolean")):
        body = {"propertyName": name, "indexType": kind}
        ask(origin, f"{FACTS}/metadata_index/create", body)
    text = (resources.files("vicinal.cli") / "data" / "facts.ndjson").read_text(encoding="utf-8")
    facts = [json.loads(line) for line in text.splitlines()]
    for first in range(0, len(facts), 100):
        some = facts[first : first + 100]
        path = f"/client/v4/accounts/local/ai/run/{MODEL}"
        rows = ask(origin, path, {"text": [fact["text"] for fact in some]})["data"]
        lines = [
            json.dumps(
                {
                    "id": fact["id"],
                    "values": row,
                    "metadata": {name: value for name, value in fact.items() if name != "id"},
                }
            )
            for fact, row in zip(some, rows, strict=True)
        ]
        ask(origin, f"{FACTS}/upsert", "\n".join(lines).encode())


@contextmanager
def queried(origin: str) -> Iterator[None]:
    """Ask something all the time, for charts to show."""
    ended = threading.Event()

    def work() -> None:
        topics: list[Any] = [None, {"topic": "animals"}, {"year": {"$lt": 1980}}]
        number = 0
        while not ended.wait(0.01):
            number += 1
            body = {"vectorId": f"animals-{number % 20 + 1:02}", "topK": 10}
            wanted = topics[number % 3]
            ask(origin, f"{FACTS}/query", body if wanted is None else {**body, "filter": wanted})

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def take(page: "Page", name: str) -> int:
    """Write a picture of a page as it is, and return its bytes."""
    session = page.context.new_cdp_session(page)
    shot = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    data = base64.b64decode(shot["data"])
    (FOLDER / f"dashboard-{name}.webp").write_bytes(data)
    return len(data)


def show(watched: Watched, name: str) -> None:
    """Bring a page to where its picture is taken."""
    address, there = PAGES[name]
    page = watched.open(address)
    page.locator(there).first.wait_for()
    if name == "search":
        page.get_by_role("button", name="Compare with exact").click()
        page.get_by_text("of the exact").wait_for()
    if name == "operations":
        page.wait_for_timeout(45_000)  # two charts' worth of readings
    if name == "api":
        page.get_by_label("index_name").fill("facts")
        page.get_by_label("Body").fill('{"filter": {"natural": true}}')
        page.get_by_role("button", name="Send").click()
        page.get_by_text("200", exact=True).first.wait_for()
        page.locator("details[open]").first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)


def main() -> None:
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        settings = Settings(data=Path(folder) / "data", slow_query_s=0.002)
        with closing(create(settings)) as application, in_thread(application.asgi) as running:
            fill(running.origin)
            browser = playwright.chromium.launch(
                executable_path=chromium(), headless=True, args=ARGUMENTS
            )
            total = 0
            with queried(running.origin):
                for scheme, names in (("light", list(PAGES)), ("dark", ["map"])):
                    with closing(Watched(browser, running.origin, color_scheme=scheme)) as watched:
                        for name in names:
                            show(watched, name)
                            suffix = "" if scheme == "light" else f"-{scheme}"
                            total += take(watched.page, f"{name}{suffix}")
            browser.close()
    print(f"{total} bytes")  # noqa: T201 a program says what it did


if __name__ == "__main__":
    main()
