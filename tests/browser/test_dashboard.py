"""The dashboard in a real browser: every page, on a small index, without a request to elsewhere."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.browser.dashboard import COUNT, INDEXES, Served, Watched, ask, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Locator, Page, Request, Route

DOCS = f"{INDEXES}/docs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("dashboard")) as running:
        yield running


def expect(locator: "Locator") -> None:
    locator.first.wait_for()


def rows(page: "Page", label: str) -> "Locator":
    return page.get_by_role("region", name=label).locator("tbody tr")


def shows(page: "Page", text: str | re.Pattern[str]) -> None:
    expect(page.get_by_text(text))


def test_a_browser_finds_its_way_from_the_root(watched: Watched) -> None:
    answer = watched.page.goto(f"{watched.origin}/")

    assert answer is not None
    assert answer.url == f"{watched.origin}/ui/"
    shows(watched.page, "2 with 240 vectors")


def test_the_usual_address_of_a_description_shows_the_api(watched: Watched) -> None:
    answer = watched.page.goto(f"{watched.origin}/docs")

    assert answer is not None
    assert answer.status == 200
    expect(watched.page.get_by_role("heading", name="API", exact=True))


def test_indexes_are_sorted_made_and_deleted(watched: Watched, server: Served) -> None:
    page = watched.open("indexes")
    expect(rows(page, "Indexes").get_by_text("240"))

    page.get_by_role("button", name="index", exact=True).click()
    page.get_by_role("button", name="index", exact=True).click()
    assert "sort=-index" in page.url
    assert rows(page, "Indexes").first.inner_text().startswith("empty")
    page.get_by_role("button", name="Create index").click()
    page.get_by_role("textbox", name="Name letters").fill("made-here")
    page.get_by_label("Dimensions").fill("3")
    page.get_by_role("dialog").get_by_text("as code").click()
    page.get_by_role("button", name="wrangler").click()
    shows(page, "vectorize create made-here --dimensions=3 --metric=cosine")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(rows(page, "Indexes").get_by_text("made-here"))
    assert ask(server.origin, f"{INDEXES}/made-here")["config"]["dimensions"] == 3

    page.get_by_role("button", name="Delete made-here").click()
    delete = page.get_by_role("button", name="Delete", exact=True)
    assert delete.is_disabled()
    page.get_by_label("Type made-here to go on").fill("made-her")
    assert delete.is_disabled()
    page.get_by_label("Type made-here to go on").fill("made-here")
    delete.click()
    rows(page, "Indexes").get_by_text("made-here").wait_for(state="detached")
    assert len(ask(server.origin, INDEXES)) == 2


def test_a_refusal_of_the_server_is_shown_where_it_matters(watched: Watched) -> None:
    page = watched.open("indexes")
    page.get_by_role("button", name="Create index").click()
    page.get_by_role("textbox", name="Name letters").fill("docs")
    page.get_by_role("button", name="Create", exact=True).click()

    expect(page.get_by_role("alert").get_by_text("duplicate_name"))
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


def test_vectors_are_browsed_by_prefix_namespace_and_filter(watched: Watched) -> None:
    page = watched.open("browse/docs")
    shows(page, "240 of 240 vectors")
    shows(page, "Number 1 of rivers")

    page.get_by_role("button", name="100 shown, more").click()
    expect(page.get_by_role("button", name="200 shown, more"))
    page.get_by_label("Namespace").fill("new")
    page.get_by_label("Namespace").press("Enter")
    shows(page, "120 of 240 vectors")
    page.get_by_label("Prefix of ids").fill("doc-00")
    page.get_by_label("Prefix of ids").press("Enter")
    shows(page, "5 of 240 vectors")
    page.get_by_role("button", name="+ filter").click()
    page.get_by_label("Value", exact=True).fill("engines")
    page.get_by_label("Value", exact=True).press("Enter")
    shows(page, "1 of 240 vectors")
    shows(page, "Number 5 of engines")

    again = page.url
    page.goto("about:blank")
    page.goto(again)
    shows(page, "1 of 240 vectors")
    assert page.get_by_label("Value", exact=True).input_value() == "engines"


def test_values_are_counted_and_lead_to_a_filter(watched: Watched) -> None:
    page = watched.open("browse/docs")
    values = page.get_by_role("complementary", name="Values")
    values.get_by_role("button", name=re.compile("rivers.*80")).click()

    shows(page, "80 of 240 vectors")
    assert '"topic":{"$eq":"rivers"}' in re.sub("%22|%7B|%7D|%3A|%24", decoded, page.url)


def decoded(match: "re.Match[str]") -> str:
    return bytes.fromhex(match[0][1:]).decode()


def test_a_metadata_index_says_what_it_covers_and_is_backfilled(
    watched: Watched, server: Served
) -> None:
    page = watched.open("browse/docs")
    shows(page, re.compile("covers 90 of 240 vectors"))

    page.get_by_role("button", name="Backfill").click()

    page.get_by_role("button", name="Backfill").wait_for(state="detached")
    assert "partialIndexes" not in ask(server.origin, f"{DOCS}/info")


def test_a_row_shows_its_neighbours_and_its_metadata_is_edited(
    watched: Watched, server: Served
) -> None:
    page = watched.open("row/docs/doc-004")
    shows(page, "Number 4 of rivers")
    expect(page.locator(".matches li"))
    assert page.locator(".matches li").count() == 12
    assert "rivers" in page.locator(".matches li").first.inner_text()
    shows(page, re.compile("4 values, length"))

    page.get_by_label("Metadata").fill('{"title": "New name", "topic": "rivers", "deep": {"a": 1}}')
    shows(page, 'patch: {"title":"New name","year":null,"deep":{"a":1}}')
    page.get_by_role("button", name="Save").click()

    expect(page.get_by_role("heading", name="New name"))
    (vector,) = ask(server.origin, f"{DOCS}/get_by_ids", {"ids": ["doc-004"]})
    assert vector["metadata"] == {"title": "New name", "topic": "rivers", "deep": {"a": 1}}


def test_a_search_by_text_id_and_vector_shows_scores_and_its_plan(watched: Watched) -> None:
    page = watched.open("search/docs")
    page.get_by_label("Text to search for").fill("abcde")  # of length 5: the axis of rivers
    page.get_by_label("Text to search for").press("Enter")
    expect(rows(page, "Matches"))
    assert "of rivers" in rows(page, "Matches").first.inner_text()
    assert rows(page, "Matches").count() == 10

    by = page.get_by_role("group", name="Search by")
    by.get_by_role("button", name="vector").click()
    page.get_by_label("Vector as JSON").fill("[1, 0, 0, 0]")
    page.get_by_label("Vector as JSON").press("Enter")
    expect(rows(page, "Matches").get_by_text("of plants"))
    by.get_by_role("button", name="id").click()
    page.get_by_label("Id of a stored vector").fill("doc-002")
    page.get_by_label("Id of a stored vector").press("Enter")
    expect(rows(page, "Matches").get_by_text("doc-002"))
    assert "1.00000" in rows(page, "Matches").first.inner_text()

    plan = page.get_by_role("complementary", name="How it was found")
    expect(plan.get_by_text(re.compile("vectors → .* selected")))
    page.get_by_role("button", name="Compare with exact").click()
    expect(plan.get_by_text("1.000", exact=True))
    page.get_by_text("as code").click()
    shows(page, re.compile("--data '.*doc-002"))


def test_words_are_searched_for_alone_and_beside_a_vector(watched: Watched, server: Served) -> None:
    body = {"propertyName": "title", "indexType": "text", "backfill": True}
    ask(server.origin, f"{DOCS}/metadata_index/create", body)
    page = watched.open(f"search/docs?by=words&text={quote('engines 17')}")
    page.reload()  # the index was not the same when the page asked last

    expect(rows(page, "Matches").get_by_text("Number 17 of engines"))
    assert "Number 17 of engines" in rows(page, "Matches").first.inner_text()
    page.get_by_role("button", name="text and words").click()
    expect(page.get_by_role("button", name="by vector"))
    expect(rows(page, "Matches").get_by_text("#1", exact=False))
    watched.open("browse/docs")
    expect(rows(page, "Vectors"))
    assert page.get_by_label("Property to count").locator("option").count() == 2


def test_a_search_that_cannot_be_says_why(watched: Watched) -> None:
    page = watched.open(f"search/docs?by=vector&vector={quote('[1, 2]')}")

    expect(page.get_by_role("alert").get_by_text("expected 4 dimensions"))


def test_the_map_shows_points_a_query_and_what_is_below_the_pointer(watched: Watched) -> None:
    page = watched.open("map/docs?color=topic&by=id&id=doc-000")
    canvas = page.locator("[data-map][data-drawn='240']")
    expect(canvas)
    shows(page, re.compile("plants"))
    assert page.locator(".swatches li").count() == 3
    coloured = canvas.screenshot()

    box = canvas.bounding_box()
    assert box is not None
    hovered = page.locator("[data-hovered]")
    for step in range(40):  # across the middle, until there is a point
        page.mouse.move(box["x"] + box["width"] * step / 40, box["y"] + box["height"] * 0.5)
        if hovered.count():
            break
    else:
        page.mouse.move(*point_on(page, box, hovered))
    expect(hovered.get_by_role("heading", name=re.compile("Number|New name")))

    page.get_by_label("Colour").select_option("")
    page.locator(".swatches").wait_for(state="detached")
    page.mouse.move(0, 0)
    assert canvas.screenshot() != coloured


def point_on(page: "Page", box: "FloatRect", hovered: "Locator") -> tuple[float, float]:
    """Return where the pointer is above a point, looking everywhere."""
    for row in range(1, 30):
        for column in range(1, 60):
            place = (box["x"] + box["width"] * column / 60, box["y"] + box["height"] * row / 30)
            page.mouse.move(*place)
            if hovered.count():
                return place
    raise AssertionError("nothing is below the pointer anywhere")


def test_the_map_by_neighbours_is_lassoed_into_a_table_and_deleted(
    watched: Watched, server: Served
) -> None:
    page = watched.open("map/docs?layout=neighbors&points=1000")
    canvas = page.locator("[data-map][data-drawn='240']")
    expect(canvas)
    shows(page, re.compile("drawn to the 15 nearest"))
    box = canvas.bounding_box()
    assert box is not None

    page.get_by_role("button", name="lasso").click()
    corners = [(0.02, 0.12), (0.98, 0.12), (0.98, 0.98), (0.02, 0.98)]
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()
    selection = page.get_by_role("group", name="Selection")
    expect(selection.get_by_text("selected"))
    count = int(selection.locator("b").first.inner_text())
    assert COUNT // 2 < count <= COUNT
    expect(rows(page, "Selected vectors"))
    assert rows(page, "Selected vectors").count() == 100

    selection.get_by_role("button", name="Patch").click()
    page.get_by_role("dialog").get_by_role("button", name="Patch", exact=True).click()
    page.get_by_role("dialog").wait_for(state="detached")
    expect(page.locator("[data-map][data-drawn='240']"))
    listed = ask(server.origin, f"{DOCS}/vectors/list", {"count": 300, "returnMetadata": True})
    patched = [each for each in listed["vectors"] if each["metadata"].get("reviewed") is True]
    assert len(patched) == count


def test_what_the_server_does_is_charted(watched: Watched) -> None:
    page = watched.open("operations")
    expect(page.get_by_role("img", name=re.compile("Requests a second: answered [0-9]")))
    expect(page.get_by_role("img", name=re.compile("Memory: [0-9]+")))
    expect(rows(page, "Open indexes").get_by_text("local/docs"))
    expect(rows(page, "Operations").get_by_text("create_index", exact=True))
    shows(page, "free on disk")


def test_slow_queries_are_shown_with_their_explanation(watched: Watched, server: Served) -> None:
    body = {"vectorId": "doc-001", "filter": {"topic": "plants"}}
    ask(server.origin, f"{DOCS}/query", body)

    page = watched.open("operations?show=slow")

    expect(rows(page, "Slow queries").filter(has_text="topic"))
    explanation = page.get_by_role("complementary", name="Explanation")
    expect(explanation.get_by_text(re.compile("vectors → .* selected")))
    assert "plants" not in rows(page, "Slow queries").first.inner_text()


def test_the_parts_of_an_index_are_shown_with_their_bytes(watched: Watched) -> None:
    page = watched.open("indexes")
    page.get_by_role("link", name=re.compile("iB$")).first.click()

    parts = rows(page, "Parts")
    expect(parts)
    shows(page, re.compile("240 vectors in .* [KM]iB"))
    assert re.search("memtable|segment", parts.first.inner_text())


def test_a_snapshot_is_taken_verified_restored_and_downloaded(
    watched: Watched, server: Served
) -> None:
    page = watched.open("operations?show=snapshots")
    shows(page, "No snapshot yet.")

    page.get_by_role("button", name="Take snapshot").click()
    expect(rows(page, "Snapshots"))
    page.get_by_role("button", name="verify").click()
    shows(page, re.compile("no damage"))
    page.get_by_role("button", name="restore").click()
    page.get_by_label("Behind their names").fill("-again")
    page.get_by_role("checkbox").last.uncheck()
    page.get_by_role("button", name="Restore", exact=True).click()
    page.get_by_role("dialog").wait_for(state="detached")
    assert ask(server.origin, f"{INDEXES}/docs-again/info")["vectorCount"] == COUNT
    with page.expect_download() as download:
        page.get_by_role("button", name="Download one now").click()
    assert download.value.suggested_filename == "vicinal-snapshot.tar.zst"
    assert download.value.url.startswith(f"{server.origin}/")  # streamed, not kept in memory
    assert download.value.path().read_bytes()[:4] == b"\x28\xb5\x2f\xfd"  # zstd
    with page.expect_download() as download:
        page.get_by_role("button", name="download", exact=True).click()
    assert re.fullmatch(r"vicinal-snapshot-[0-9a-f-]+\.tar\.zst", download.value.suggested_filename)
    assert download.value.path().read_bytes()[:4] == b"\x28\xb5\x2f\xfd"


def test_a_file_is_imported_and_refused_lines_are_named(
    watched: Watched, server: Served, tmp_path: Path
) -> None:
    good = [json.dumps({"id": f"new-{n}", "values": [n, 1, 0, 0]}) for n in range(30)]
    bad = [
        "{", '{"id": 1, "values": [0, 0, 0, 0]}', '{"id": "x", "values": [1]}',
        json.dumps({"id": "y" * 65, "values": [0, 0, 0, 1]}),
    ]  # fmt: skip
    file = tmp_path / "vectors.ndjson"
    file.write_text("\n".join([*good[:10], *bad, "", *good[10:]]))
    page = watched.open("operations?show=import&index=empty")
    shows(page, re.compile("0 vectors of 4 dimensions"))

    page.get_by_label(re.compile("Drop a file")).set_input_files(file)

    expect(page.get_by_role("status").filter(has_text="30 vectors stored, 4 lines refused"))
    table = rows(page, "Refused lines")
    texts = table.all_inner_texts()
    assert [text.split()[0] for text in texts] == ["11", "12", "13", "14"]
    assert "not JSON" in texts[0]
    assert "expected 4 numbers, got 1" in texts[2]
    assert "64 bytes" in texts[3]
    assert ask(server.origin, f"{INDEXES}/empty/info")["vectorCount"] == 30


def test_an_operation_of_the_api_is_tried(watched: Watched) -> None:
    page = watched.open("api?search=facets")
    card = page.locator("details.operation")
    expect(card.get_by_text("Count the most frequent values"))
    assert card.count() == 1

    card.locator("summary").first.click()
    page.get_by_label("index_name").fill("docs")
    page.get_by_label("Body").fill('{"propertyName": "topic"}')
    page.get_by_role("button", name="Send").click()

    expect(card.get_by_text("200", exact=True).first)
    shows(page, re.compile('"distinctCount": 3'))


def test_pages_and_tables_are_reached_by_keys(watched: Watched) -> None:
    page = watched.open("indexes")
    expect(rows(page, "Indexes"))

    page.keyboard.press("g")
    page.keyboard.press("b")
    expect(page.get_by_role("heading", name="Browse"))
    expect(rows(page, "Vectors"))
    page.keyboard.press("/")
    assert page.get_by_label("Prefix of ids").evaluate("node => node === document.activeElement")
    rows(page, "Vectors").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="More like this"))
    page.locator("body").press("?")
    expect(page.get_by_role("dialog", name="Keys"))
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


def test_light_and_dark_are_chosen_and_kept(watched: Watched) -> None:
    page = watched.open("indexes")
    expect(rows(page, "Indexes"))
    before = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")

    page.get_by_role("button", name="Light or dark").click()

    after = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
    assert before != after
    page.get_by_role("button", name="Light or dark").click()


@pytest.mark.parametrize(
    ("address", "there"),
    [
        ("indexes", "[aria-label=Indexes] tbody tr"),
        ("browse/docs", "[aria-label=Vectors] tbody tr"),
        ("row/docs/doc-001", ".matches li"),
        ("search/docs?by=id&id=doc-001", "[aria-label=Matches] tbody tr"),
        ("map/docs", "[data-drawn]"),
        ("operations", ".chart"),
        ("api?open=count_vectors", "details[open] form"),
    ],
)
def test_a_narrow_page_is_no_wider_than_its_screen(
    server: Served, browser: "Browser", address: str, there: str
) -> None:
    with closing(Watched(browser, server.origin)) as watched:
        watched.page.set_viewport_size({"width": 400, "height": 800})
        page = watched.open(address)
        page.locator(there).first.wait_for()

        assert page.evaluate("document.documentElement.scrollWidth") == 400
        nav = page.get_by_role("navigation", name="Pages")
        assert nav.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_a_server_that_takes_long_is_waited_for_and_not_asked_again(
    server: Served, browser: "Browser"
) -> None:
    """Its answers were given up for the next ones every three seconds, and so never seen."""
    listed: list[str] = []
    held: list[Route] = []

    def note(request: "Request") -> None:
        if request.url.endswith(INDEXES):
            listed.append(request.url)

    def hold(route: "Route") -> None:
        held.append(route)

    with closing(Watched(browser, server.origin)) as watched:
        page = watched.page
        page.clock.install()
        page.on("request", note)
        page.route("**/info?detail=true", hold)
        with page.expect_request("**/info?detail=true"):
            watched.open("indexes")
        page.clock.run_for(60_000)
        assert (len(listed), len(held)) == (1, len(ask(server.origin, INDEXES)))

        page.unroute("**/info?detail=true")  # which lets go on what is held
        expect(rows(page, "Indexes").get_by_text("240"))
