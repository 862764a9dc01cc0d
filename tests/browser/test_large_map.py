"""A map of 100,000 vectors is drawn, panned and pointed at."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser.dashboard import Served, Watched, serving
from vicinal.model import IndexAddress, IndexConfig, Metric, Upsert, VectorBatch

if TYPE_CHECKING:
    from playwright.sync_api import Browser

COUNT = 100_000
DIMENSIONS = 32

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("large")) as served:
        engine, address = served.app.services.engine, IndexAddress("local", "large")
        engine.create_index(address, IndexConfig(DIMENSIONS, Metric.COSINE), None)
        random = np.random.default_rng(2)
        centers = random.normal(size=(12, DIMENSIONS)) * 2
        for first in range(0, COUNT, 5_000):
            groups = random.integers(0, 12, 5_000)
            rows = centers[groups] + random.normal(size=(5_000, DIMENSIONS))
            batch = VectorBatch(
                [f"v{first + number}" for number in range(5_000)],
                rows.astype(np.float32),
                [""] * 5_000,
                [b'{"group":"g%d"}' % group for group in groups],
            )
            engine.append(address, Upsert(batch), wait_s=60).result()
        engine.compact(address)
        yield served


def test_a_hundred_thousand_points_are_drawn_and_zoomed(server: Served, browser: "Browser") -> None:
    with closing(Watched(browser, server.origin)) as watched:
        page = watched.open("map/large?points=100000&color=group")
        canvas = page.locator(f"[data-map][data-drawn='{COUNT}']")
        canvas.wait_for()
        assert page.locator(".swatches li").count() == 12
        box = canvas.bounding_box()
        assert box is not None

        before = canvas.screenshot()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.wheel(0, -800)
        page.get_by_role("status").get_by_text("100,000 vectors").wait_for()
        page.wait_for_url("**view=**")

        assert canvas.screenshot() != before
