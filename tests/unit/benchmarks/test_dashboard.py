"""The benchmark of the dashboard opens every page and moves the map, at a small size."""

import pytest

from benchmarks import dashboard
from tests.support.chromium import chromium


@pytest.mark.slow
def test_a_small_run_sees_every_page_and_draws_frames() -> None:
    pytest.importorskip("playwright.sync_api", reason="needs PyPI's playwright")
    if chromium() is None:
        pytest.skip("needs chromium, which is not on the PATH")

    ran = dashboard.run(is_quick=True)

    pages, gestures = ran.tables
    assert [row[0] for row in pages.rows[1:-1]] == list(dashboard.PAGES)
    for _, *times in pages.rows:
        assert all(isinstance(each, float) and 0 < each < 60_000 for each in times)
    assert [row[0] for row in gestures.rows] == ["pan", "zoom"]
    assert all(isinstance(row[1], float) and row[1] > 0 for row in gestures.rows)
    assert [mark.claim for mark in ran.marks] == [
        "slowest page, again, ms", "the map's first picture, ms", "frames/s",
    ]  # fmt: skip
