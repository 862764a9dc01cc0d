"""How long does a page of the dashboard take until it shows what it is about, and how smoothly is a
map of 100,000 vectors panned and zoomed, in a Chromium without a graphics card?

Server and browser share the cores. A page is shown once the table, map or the like that it is for
is there, from the start of the navigation, by the browser's own clock: in a new tab of a browser
without cached files, in new tabs with them, and loaded again in its tab (medians). A new tab is a
new process of the browser; what that takes alone is told by a page of three words. The frames are
those that the browser draws while the pointer drags or the wheel turns without a pause; each shows
the map somewhere else.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import report, serving
from benchmarks.contender import Failed
from benchmarks.measure import Floats
from benchmarks.report import Report, Table
from benchmarks.serving import INDEX, Client, Server
from benchmarks.side import scratch
from tests.support.chromium import chromium
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import (
    CreateMetadataIndex,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Upsert,
    VectorBatch,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROWS, DIMENSIONS, SEED = 100_000, 384, 12
NAME = INDEX.rpartition("/")[2]
PAGE_MS_MAX, MAP_MS_MAX, FRAMES_MIN = 200.0, 2_000.0, 30.0
_ADDRESS = IndexAddress("local", NAME)
_GROUPS, _BATCH = 12, 5_000
_WITHIN_MS = 60_000
_FILTER = "%7B%22group%22%3A%7B%22%24eq%22%3A%22g1%22%7D%7D"
_CHROMIUM = (
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

PAGES = {
    "indexes": "[aria-label=Indexes] tbody tr",
    f"browse/{NAME}": "[aria-label=Vectors] tbody tr",
    f"browse/{NAME}?filter={_FILTER}": "[aria-label=Vectors] tbody tr",
    f"row/{NAME}/v7": ".matches li",
    f"search/{NAME}?by=id&id=v7": "[aria-label=Matches] tbody tr",
    "operations": "[aria-label='Open indexes'] tbody tr",
    "operations?show=slow": "[aria-label='Slow queries'] tbody tr",
    "operations?show=storage": "[aria-label=Parts] tbody tr",
    "operations?show=import": "input[type=file]",
    "api": "details.operation",
}
"""Address of a page -> what it is about."""

_WATCH = """selector => {
    const look = () => {
        const ended = document.querySelector(selector);
        if (ended) window.shownAt ??= performance.now();
        else requestAnimationFrame(look);
    };
    look();
}"""
_SHOWN = """() => new Promise(done => {
    const look = () => window.shownAt ? done(window.shownAt) : requestAnimationFrame(look);
    look();
})"""
_COUNT = """() => {
    window.frames = [];
    const frame = time => {
        window.frames.push(time);
        window.counting = requestAnimationFrame(frame);
    };
    window.counting = requestAnimationFrame(frame);
}"""
_ZOOM = """([selector, x, y]) => {
    const sheet = document.querySelector(selector);
    let step = 0;
    const turn = () => {
        const deltaY = Math.floor(step++ / 20) % 2 ? 60 : -60;
        const place = { clientX: x, clientY: y, bubbles: true, cancelable: true };
        sheet.dispatchEvent(new WheelEvent("wheel", { deltaY, ...place }));
        window.turning = requestAnimationFrame(turn);
    };
    turn();
}"""
"""Turns the wheel once a frame: from outside the browser it takes longer than a frame."""
_STOP = "() => cancelAnimationFrame(window.turning)"
_COUNTED = "() => { cancelAnimationFrame(window.counting); return window.frames; }"


@dataclass(frozen=True, slots=True)
class Shown:
    """Milliseconds until a page is shown."""

    first: float
    new_tab: float
    again: float


@dataclass(frozen=True, slots=True)
class Frames:
    """What was drawn during a gesture."""

    per_second: float
    slowest_ms: float


def run(*, is_quick: bool) -> Report:
    """Fill an index, then open each page and move the map."""
    rows, rounds, gesture_s = (2_000, 1, 0.3) if is_quick else (ROWS, 7, 5.0)
    with scratch() as folder:
        _fill(folder / "data", rows)
        with serving.vicinal(folder / "data", "--slow-query-s", "1e-9") as server:
            _warm(server)
            with _chromium() as browser:
                pages = {"(three words)": _shown(browser, server, None, "body", rounds)}
                pages |= {
                    address: _shown(browser, server, address, selector, rounds)
                    for address, selector in PAGES.items()
                }
                address, selector = f"map/{NAME}?points=100000", f"[data-drawn='{rows}']"
                pages[address] = _shown(browser, server, address, selector, rounds)
                gestures = _gestures(browser, server, address, selector, gesture_s)
    return Report(
        "dashboard", report.question(__doc__), is_quick,
        report.setup(
            data=f"{rows:,} x {DIMENSIONS} in {_GROUPS} groups", seed=str(SEED),
            cores=str(len(os.sched_getaffinity(0))), method=f"{rounds} times each; SwiftShader",
        ),
        (
            Table(
                "pages", ("page", "first ms", "new tab ms", "again ms"),
                tuple((page, t.first, t.new_tab, t.again) for page, t in pages.items()),
            ),
            Table(
                "map", ("gesture", "frames/s", "slowest frame ms"),
                tuple((name, each.per_second, each.slowest_ms) for name, each in gestures.items()),
            ),
        ),
        (
            report.at_most(
                "slowest page, again, ms", max(pages[page].again for page in PAGES), PAGE_MS_MAX
            ),
            report.at_most("the map's first picture, ms", pages[address].new_tab, MAP_MS_MAX),
            report.at_least(
                "frames/s", min(each.per_second for each in gestures.values()), FRAMES_MIN
            ),
        ),
    )  # fmt: skip


def _fill(data: Path, rows: int) -> None:
    engine = EmbeddedEngine.open(data)
    engine.create_index(_ADDRESS, IndexConfig(DIMENSIONS, Metric.COSINE), None)
    engine.append(_ADDRESS, CreateMetadataIndex(MetadataIndex("group", IndexType.STRING))).result()
    random = np.random.default_rng(SEED)
    centers = random.standard_normal((_GROUPS, DIMENSIONS)) * 2
    for first in range(0, rows, _BATCH):
        numbers = range(first, min(first + _BATCH, rows))
        groups = random.integers(0, _GROUPS, len(numbers))
        noise = random.standard_normal((len(numbers), DIMENSIONS))
        values: Floats = (centers[groups] + noise).astype(np.float32)
        batch = VectorBatch(
            [f"v{number}" for number in numbers],
            values,
            [""] * len(numbers),
            [
                json.dumps({"title": f"Number {number}", "group": f"g{group}"}).encode()
                for number, group in zip(numbers, groups, strict=True)
            ],
        )
        engine.append(_ADDRESS, Upsert(batch), wait_s=600).result()
    engine.compact(_ADDRESS)
    engine.close()


def _warm(server: Server) -> None:
    """Have the server open the index, as one that is in use has."""
    with Client(server.port) as client:
        body = json.dumps({"vector": [1.0] * DIMENSIONS}).encode()
        client.result("POST", f"{INDEX}/query", body)


@contextmanager
def _chromium() -> Iterator["Browser"]:
    program = chromium()
    if program is None:
        raise Failed(
            "chromium is missing; install it with: apt-get install chromium-headless-shell"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_CHROMIUM)
        yield browser
        browser.close()


def _shown(
    browser: "Browser", server: Server, address: str | None, selector: str, rounds: int
) -> Shown:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(_WITHIN_MS)
    context.add_init_script(f"({_WATCH})({json.dumps(selector)})")
    new_tab, again = [], []
    for _ in range(1 + rounds):
        page = context.new_page()
        _open(page, server, address, selector)
        new_tab.append(float(page.evaluate(_SHOWN)))
        page.reload(wait_until="commit")
        page.locator(selector).first.wait_for(state="attached")
        again.append(float(page.evaluate(_SHOWN)))
        page.close()
    context.close()
    return Shown(new_tab[0], statistics.median(new_tab[1:]), statistics.median(again[1:]))


def _open(page: "Page", server: Server, address: str | None, selector: str) -> None:
    path = "healthz" if address is None else f"ui/#/{address}"
    page.goto(f"{server.origin}/{path}", wait_until="commit")
    page.locator(selector).first.wait_for(state="attached")


def _gestures(
    browser: "Browser", server: Server, address: str, selector: str, seconds: float
) -> dict[str, Frames]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    _open(page, server, address, selector)
    box: Any = page.locator(selector).bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)

    def pan(step: int) -> None:
        across = 150 * np.array([np.cos(step / 9), np.sin(step / 9)])
        page.mouse.move(middle[0] + across[0], middle[1] + across[1])

    page.mouse.down()
    panned = _counted(page, pan, seconds)
    page.mouse.up()
    page.evaluate(_ZOOM, [selector, *middle])
    zoomed = _counted(page, lambda step: page.wait_for_timeout(100), seconds, each_frame=True)
    page.evaluate(_STOP)
    context.close()
    return {"pan": panned, "zoom": zoomed}


def _counted(
    page: "Page", move: Callable[[int], None], seconds: float, *, each_frame: bool = False
) -> Frames:
    """Count what is drawn while `move` moves without a pause, or something else in each frame."""
    page.evaluate(_COUNT)
    start, step = time.monotonic(), 0
    while time.monotonic() < start + seconds or step < 3:
        move(step)
        step += 1
    taken = time.monotonic() - start
    times: list[float] = page.evaluate(_COUNTED)
    gaps = np.diff(times)
    # A frame in which nothing moved is not one of the gesture.
    count = len(times) if each_frame else min(len(times), step)
    return Frames(count / taken, float(gaps.max(initial=0.0)))
