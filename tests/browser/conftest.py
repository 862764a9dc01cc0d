"""One headless Chromium for a module of tests, which shows the pages of attackers.

Not for the session: Playwright leaves its event loop running in this thread until it ends, and
other tests run loops of their own.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.browser.dashboard import Served, Watched
from tests.support.chromium import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REBOUND = "evil.example"
"""A name whose address is this machine's, as after DNS rebinding."""

ARGUMENTS = (
    "--no-sandbox",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",  # goes round it for all but WebGL, in half the time
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs PyPI's playwright, which is not installed"
    )
    program = chromium()
    if program is None:
        pytest.skip("needs chromium, which is not on the PATH")
    with playwright.sync_playwright() as running:
        launched: Browser = running.chromium.launch(
            executable_path=program, headless=True, args=ARGUMENTS
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def tab(server: Served, browser: "Browser") -> Iterator[Watched]:
    with closing(Watched(browser, server.origin)) as watched:
        yield watched


@pytest.fixture
def watched(tab: Watched) -> Watched:
    """Return a tab of the module's server in which nothing of the test before is shown."""
    # An address of the same document changes only what differs, when its answer is there: a test
    # would find the map and the opened code of the one before it.
    tab.page.goto("about:blank")
    return tab
