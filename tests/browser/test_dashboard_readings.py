"""What the dashboard says can be read: whole texts, right words, marks on axes, labels of menus."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.browser.dashboard import INDEXES, Served, Watched, ask, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ONE = f"{INDEXES}/one"

RECORD_MARKS = """
window.marks = {};
const chart = ({ canvas }) => canvas.closest(".chart")?.querySelector("h2").firstChild.textContent;
const { clearRect, fillText } = CanvasRenderingContext2D.prototype;
Object.assign(CanvasRenderingContext2D.prototype, {
  clearRect(...rest) {
    window.marks[chart(this)] = [];
    return clearRect.apply(this, rest);
  },
  fillText(...rest) {
    (window.marks[chart(this)] ??= []).push(rest[0]);
    return fillText.apply(this, rest);
  },
});
"""
"""Keeps what charts write beside their axes, which is pixels otherwise."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Served]:
    """Serve without a folder for snapshots; an index `one` has one vector of one dimension."""
    with serving(tmp_path_factory.mktemp("dashboard"), keeps_snapshots=False) as running:
        origin = running.origin
        ask(origin, INDEXES, {"name": "one", "config": {"dimensions": 1, "metric": "euclidean"}})
        wanted = {"propertyName": "kind", "indexType": "string"}
        ask(origin, f"{ONE}/metadata_index/create", wanted)
        line = b'{"id": "a", "values": [1], "metadata": {"kind": "only"}}'
        ask(origin, f"{ONE}/upsert", line)
        yield running


@pytest.fixture
def watched(server: Served, browser: "Browser") -> Iterator[Watched]:
    with closing(Watched(browser, server.origin)) as watched:
        yield watched


def test_a_server_without_a_folder_for_snapshots_offers_none_and_names_the_setting(
    watched: Watched,
) -> None:
    page = watched.open("operations?show=snapshots")
    page.get_by_text(re.compile("snapshot_folder .*--snapshot-folder")).first.wait_for()

    assert page.get_by_role("button", name="Take snapshot").is_disabled()
    assert page.get_by_role("alert").count() == 0
    with page.expect_download() as download:
        page.get_by_role("button", name="Download one now").click()
    assert download.value.path().read_bytes()[:4] == b"\x28\xb5\x2f\xfd"  # zstd


def test_a_plan_calls_the_memtable_as_all_else_does(watched: Watched) -> None:
    page = watched.open("search/docs?by=id&id=doc-001")
    plan = page.get_by_role("complementary", name="How it was found")
    plan.locator(".plan li b").first.wait_for()

    assert plan.locator(".plan li b").all_inner_texts() == ["memtable"]
    page = watched.open("operations?show=slow")
    explanation = page.get_by_role("complementary", name="Explanation")
    explanation.locator(".plan li b").first.wait_for()
    assert "tail" not in explanation.inner_text()


@pytest.mark.parametrize("width", [1024, 1280, 1440])
def test_charts_show_whole_texts_and_several_marks_of_each_axis(
    watched: Watched, width: int
) -> None:
    watched.page.set_viewport_size({"width": width, "height": 800})
    watched.page.add_init_script(RECORD_MARKS)
    page = watched.open("operations")
    page.get_by_role("img", name=re.compile("Requests a second: answered [0-9]")).wait_for()
    page.wait_for_function(
        "() => [...window.marks.Memory ?? []].some((text) => /[KM]iB/.test(text))"
    )

    cut = page.locator(".chart *").evaluate_all(
        "all => all.filter((each) => each.scrollWidth > each.clientWidth && each.clientWidth > 0)"
        ".map((each) => each.textContent)"
    )
    assert cut == []
    marks = page.evaluate(
        "() => [...window.marks.Memory].filter((text) => / [KMG]?i?B$/.test(text))"
    )
    assert len(marks) >= 3, marks
    assert all(re.fullmatch(r"(0|1|2|4|8|\d+[02468]) [KMG]?i?B", mark) for mark in marks), marks


@pytest.mark.parametrize("mebibytes", [115, 116, 231, 300, 400, 462, 464])
def test_a_chart_of_bytes_has_several_marks_whatever_the_largest_is(
    watched: Watched, mebibytes: int
) -> None:
    name = "process_resident_memory_bytes"
    real = watched.page.request.get(f"{watched.origin}/metrics").text()
    told = re.sub(rf"(?m)^{name} .*$", f"{name} {mebibytes << 20}", real)
    watched.page.add_init_script(RECORD_MARKS)
    watched.page.route("**/metrics", lambda route: route.fulfill(body=told))
    page = watched.open("operations")
    page.wait_for_function("() => [...window.marks.Memory ?? []].some((text) => /MiB/.test(text))")

    marks = page.evaluate("() => [...window.marks.Memory].filter((text) => /B$/.test(text))")
    assert 3 <= len(marks) <= 6, marks


PAGES = [
    ("indexes", "[aria-label=Indexes] tbody tr"),
    ("browse/one", ".facets li"),
    ("browse/one?namespace=none", ".empty"),
    ("row/one/a", "figcaption"),
    ("search/one?by=id&id=a", ".plan li"),
    ("map/one", "[data-drawn]"),
    ("operations?show=storage&index=one", "[aria-label=Parts] tbody tr"),
    ("operations?show=import&index=one", ".drop"),
]


@pytest.mark.parametrize(("address", "there"), PAGES)
def test_one_thing_is_not_told_as_several(watched: Watched, address: str, there: str) -> None:
    page = watched.open(address)
    page.locator(there).first.wait_for()
    if address.startswith("search"):
        page.get_by_role("button", name="Compare with exact").click()
        page.get_by_text("of the exact").wait_for()
    if address != "indexes":
        page.get_by_text(re.compile(r"\b1 (vector|value)\b")).first.wait_for()

    said = page.locator("main, .page").first.inner_text()
    labels = page.locator("[aria-label]").evaluate_all("all => all.map((each) => each.ariaLabel)")
    assert re.findall(r"(?<![\d.,])1 [a-z]+s\b", "\n".join([said, *labels])) == []


@pytest.mark.parametrize("dialog", ["Patch", "Delete"])
def test_a_selection_of_one_is_not_told_as_several(watched: Watched, dialog: str) -> None:
    page = watched.open("map/one")
    page.locator("[data-map][data-drawn]").focus()
    page.keyboard.press("Enter")
    selection = page.get_by_role("group", name="Selection")
    selection.get_by_role("button", name=dialog).click()

    page.get_by_role("dialog").get_by_text(re.compile(r"\b1 vector\b")).wait_for()


@pytest.mark.parametrize("address", [address for address, _ in PAGES if "/" in address])
def test_menus_have_labels_that_are_seen(watched: Watched, address: str) -> None:
    page = watched.open(address)
    menus = page.locator("main select, .page select")
    if not address.startswith("row"):
        menus.first.wait_for()

    for menu in menus.all():
        name = menu.get_attribute("aria-label")
        label = menu.locator("xpath=ancestor::label")
        assert label.count() == 1, name
        assert label.locator("span").first.inner_text() == name
        assert label.locator("span").first.is_visible()
