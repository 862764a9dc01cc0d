"""What strangers have stored, or put into a link, is shown as text and does nothing."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.browser.dashboard import INDEXES, Served, Watched, ask, serving
from vicinal.server.routes import API_ROUTES
from vicinal.tokens import Permission

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ODD = f"{INDEXES}/odd"

IDS = {
    "markup": "<img src=x onerror=window.hit=1>",
    "a script": '"><script>window.hit=1</script>',
    "a template": "${window.hit=1}",
    "an address": "javascript:window.hit=1",
    "a turn": "\u202egnp.exe",
    "signs that are not seen": "a\tb\nc\x01\u200b",
    "spaces": " a ",
    "a command": "; touch hit $(touch hit) `touch hit` 'q\" \\",
    "a path": "../../x",
    "percents": "%2e%2e%2f%",
    "a flag": "--force",
}
"""What is odd -> an id, which is also the namespace, and in metadata a name and a value."""


def key_of(text: str) -> str:
    """Return a name for a member of metadata that is as odd as names may be."""
    return re.sub(r'^\$|[."]', "", f"k{text}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("strangers")) as running:
        config = {"dimensions": 4, "metric": "cosine"}
        ask(running.origin, INDEXES, {"name": "odd", "config": config})
        wanted = {"propertyName": "topic", "indexType": "string"}
        ask(running.origin, f"{ODD}/metadata_index/create", wanted)
        records = [
            {
                "id": text,
                "values": [1, number, 0, 0],
                "namespace": text,
                "metadata": {"title": text, "topic": text, key_of(text): text},
            }
            for number, text in enumerate(IDS.values())
        ]
        ask(running.origin, f"{ODD}/upsert", "\n".join(map(json.dumps, records)).encode())
        yield running


def row(text: str) -> str:
    return f"row/odd/{quote(text, safe='')}"


def is_unharmed(page: "Page") -> bool:
    found: bool = page.evaluate(
        "window.hit === undefined && !document.querySelector('main img, main script')"
    )
    return found


def shown(cell: "Locator") -> str:
    return str(cell.evaluate("node => node.textContent"))


def test_tables_show_text(watched: Watched) -> None:
    for address, label in (
        ("browse/odd", "Vectors"),
        (f"search/odd?by=vector&vector={quote('[1,0,0,0]')}&topK=20", "Matches"),
    ):
        page = watched.open(address)
        region = page.get_by_role("region", name=label)
        region.locator("tbody tr").nth(len(IDS) - 1).wait_for()

        links = {shown(link) for link in region.locator("tbody a").all()}
        assert links >= set(IDS.values())
        assert is_unharmed(page)


def test_values_of_a_property_and_the_legend_of_a_map_show_text(watched: Watched) -> None:
    page = watched.open("browse/odd")
    values = page.get_by_role("complementary", name="Values").locator("li span:first-child")
    values.nth(len(IDS) - 1).wait_for()
    assert {shown(each) for each in values.all()} >= set(IDS.values())

    watched.open("map/odd?color=topic&by=id&id=" + quote(IDS["markup"], safe=""))
    page.locator(f"[data-map][data-drawn='{len(IDS)}']").wait_for()
    legend = {shown(each) for each in page.locator(".swatches li span").all()}
    assert legend >= set(IDS.values())
    assert is_unharmed(page)


@pytest.mark.parametrize("name", IDS)
def test_a_row_shows_text(watched: Watched, name: str) -> None:
    page = watched.open(row(IDS[name]))
    page.locator(".matches li").first.wait_for()

    assert shown(page.locator("h1")) == IDS[name]
    assert shown(page.locator("bdi").first) == IDS[name]
    assert IDS[name] in json.loads(page.get_by_label("Metadata").input_value()).values()
    assert page.locator("main a[href^='javascript:']").count() == 0
    assert is_unharmed(page)
    page.get_by_role("link", name="search by this").click()
    best = page.get_by_role("region", name="Matches").locator("tbody a").first
    best.wait_for()
    assert shown(best) == IDS[name]


def test_what_turns_the_direction_of_writing_turns_itself_alone(watched: Watched) -> None:
    page = watched.open(row(IDS["a turn"]))
    page.locator(".matches li").first.wait_for()
    line = page.locator("p.mono").first

    def edges(part: "Locator") -> tuple[float, float]:
        box = part.bounding_box()
        assert box is not None
        return box["x"], box["x"] + box["width"]

    index, own, copy, namespace = (
        edges(line.locator(part).first) for part in ("a", "bdi", "button", "a:last-child")
    )
    assert index[1] < own[0]
    assert own[1] <= copy[0]
    assert copy[1] <= namespace[0]


def test_what_nobody_can_type_is_deleted_by_a_word(watched: Watched, server: Served) -> None:
    text = IDS["signs that are not seen"]
    vector = ask(server.origin, f"{ODD}/get_by_ids", {"ids": [text]})
    page = watched.open(row(text))
    page.get_by_role("button", name="delete", exact=True).click()
    assert page.get_by_role("button", name="Delete", exact=True).is_disabled()
    page.get_by_label("Type delete to go on").fill("delete")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("heading", name="Browse").wait_for()

    assert ask(server.origin, f"{ODD}/get_by_ids", {"ids": [text]}) == []
    ask(server.origin, f"{ODD}/upsert", json.dumps(vector[0]).encode())


def as_code(page: "Page", form: str) -> str:
    """Return an action as code, of those the last on the page."""
    details = page.locator("details.code").last
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    details.get_by_role("button", name=form, exact=True).click()
    return shown(details.locator("pre"))


@pytest.mark.parametrize("name", IDS)
def test_code_that_is_pasted_into_a_shell_has_an_id_as_one_word(
    watched: Watched, name: str
) -> None:
    page = watched.open(row(IDS[name]))
    page.locator(".matches li").first.wait_for()

    assert f"--vector-id={IDS[name]}" in shlex.split(as_code(page, "wrangler"))
    words = shlex.split(as_code(page, "curl"))
    assert json.loads(words[words.index("--data") + 1])["vectorId"] == IDS[name]
    python = as_code(page, "Python").rpartition("body=")[2].removesuffix(", cast_to=object)")
    assert json.loads(python)["vectorId"] == IDS[name]
    assert not re.search("[\u202e\u200b]", as_code(page, "npm") + as_code(page, "Python"))
    page.get_by_role("button", name="delete", exact=True).click()
    assert IDS[name] in shlex.split(as_code(page, "wrangler"))
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


def test_code_of_a_link_has_its_account_and_its_vector_as_words(watched: Watched) -> None:
    account, vector = "$(touch hit)", '["$(touch hit)"]'
    page = watched.open(f"indexes?account={quote(account)}")
    page.get_by_role("alert").wait_for()
    assert f"CLOUDFLARE_ACCOUNT_ID={account}" in shlex.split(as_code(page, "wrangler"))

    forms = page.evaluate(
        """async (vector) => {
            const first = document.querySelector("script[type=module]").src;
            const { forms, query } = await import(new URL("core/commands.js", first));
            return forms(query("a", "n", { vector: JSON.parse(vector), topK: 3 }, {}), "a");
        }""",
        vector,
    )
    assert json.loads(vector)[0] in shlex.split(dict(forms)["wrangler"])


CRAFTED = [
    *("constructor", "__proto__", "toString/x", "hasOwnProperty?x=1", "row", "row/docs"),
    *("row/docs/%", "%3Cscript%3E", "?", "//evil.example/x"),
    *("operations?show=constructor", "operations?show=__proto__", "operations?show=toString"),
    *("browse/..", "browse/%2e%2e", "browse/%2E", "browse/a%5c..%5cb", "search/..", "map/.."),
    *("indexes?account=..", "indexes?account=%3Cimg%20src%3Dx%20onerror%3Dwindow.hit%3D1%3E"),
    *(f"browse/docs?filter={quote(text)}" for text in (
        '{"a": {"constructor": 1}}', '{"__proto__": {"$eq": 1}}', "[1", "7", "null", '"x"', "[[1]]",
        '{"a": null}', "<img src=x onerror=window.hit=1>",
    )),
    *("browse/docs?facet=constructor", "browse/docs?prefix=%00&namespace=%F0%9F%9A%80"),
    *("search/docs?by=constructor&text=x", "search/docs?by=vector&vector=%7B"),
    *("search/docs?by=vector&vector=%22x%22", "search/docs?by=vector&vector=%5B1e999%5D"),
    *("search/docs?topK=x&by=id&id=doc-001", "search/docs?effort=__proto__&by=id&id=doc-001"),
    *("map/docs?view=NaN,1,1", "map/docs?view=1e308,1e308,1e-300", "map/docs?view=0,0,1e300"),
    *("map/docs?layout=constructor&points=1e9", "map/docs?color=__proto__"),
    "map/docs?by=vector&vector=%7B",
    *("api?open=constructor&search=%3Cscript%3E", "api?search=%5B("),
    "browse/docs?namespace=" + "x" * 20_000,
]  # fmt: skip


@pytest.mark.parametrize("address", CRAFTED, ids=lambda address: address[:40])
def test_a_link_that_somebody_made_up_shows_a_page_that_goes_on(
    watched: Watched, address: str
) -> None:
    elsewhere = "operations?show=import" if address.startswith("api") else "api?search=none"
    page = watched.open(elsewhere)
    heading = page.get_by_role(
        "heading", name="API" if "api" in elsewhere else "Operations", exact=True
    )
    heading.wait_for()
    page.evaluate("address => { location.hash = `#/${address}` }", address)
    heading.wait_for(state="detached")
    page.locator("main section.page").wait_for()

    page.get_by_role("link", name="Indexes", exact=True).click()
    page.get_by_role("heading", name="Indexes", exact=True).wait_for()
    assert is_unharmed(page)
    assert watched.problems == []


@pytest.mark.parametrize(
    "address",
    [
        "search/docs?text=x&model=../../../../vicinal/snapshots/tickets",
        "search/docs?text=x&model=%252e%252e/%2e%2e/..%5c../../vicinal/snapshots/tickets",
        "search/docs?text=x&model=@cf/../../../../../vicinal/snapshots",
        "map/docs?text=x&model=../../../../vicinal/snapshots/tickets",
        "browse/..?account=..",
        "search/docs?text=x&model=//evil.example/",
        "search/docs?text=x&account=../vicinal/tokens%3F",
    ],
)
def test_a_link_has_no_other_operation_done_with_the_tokens_leave(
    watched: Watched, address: str
) -> None:
    page = watched.open("api?search=none")
    page.get_by_role("heading", name="API", exact=True).wait_for()
    asked: list[str] = []

    def note(request: Any) -> None:
        asked.append(f"{request.method} {request.url.removeprefix(watched.origin)}")

    page.on("request", note)
    page.evaluate("address => { location.hash = `#/${address}` }", address)
    page.get_by_role("alert").first.wait_for()
    page.remove_listener("request", note)

    own = re.compile(r"GET /ui/|(GET|POST) /client/v4/accounts/[^/]+/(vectorize/v2/indexes|ai)\b")
    assert [each for each in asked if not own.match(each)] == []


def test_metadata_of_any_names_is_edited_by_its_patch(watched: Watched) -> None:
    cases: list[tuple[str, str, str]] = [
        ('{"toString": 1, "a": 2}', '{"a": 2}', '{"toString": null}'),
        ('{"a": 1}', '{"a": 1, "constructor": "x"}', '{"constructor": "x"}'),
        ('{"__proto__": {"a": 1}}', '{"__proto__": {"a": 2}}', '{"__proto__": {"a": 2}}'),
        ('{"__proto__": 1}', "{}", '{"__proto__": null}'),
        ('{"a": {"valueOf": 1}}', '{"a": {}}', '{"a": {"valueOf": null}}'),
        ('{"a": [1]}', '{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ('{"a": 1}', '{"a": 1}', "{}"),
    ]
    page = watched.open("row/docs/doc-001")
    page.locator(".matches li").first.wait_for()

    patches = page.evaluate(
        """async (cases) => {
            const first = document.querySelector("script[type=module]").src;
            const { mergePatch } = await import(new URL("pages/row.js", first));
            const read = JSON.parse;
            return cases.map(([a, b]) => JSON.stringify(mergePatch(read(a), read(b))));
        }""",
        cases,
    )

    assert [json.loads(patch) for patch in patches] == [json.loads(patch) for _, _, patch in cases]


def test_filters_and_columns_of_any_names_are_what_they_say(watched: Watched) -> None:
    page = watched.open("browse/docs")
    page.get_by_role("region", name="Vectors").locator("tbody tr").first.wait_for()

    built, found = page.evaluate(
        """async () => {
            const first = document.querySelector("script[type=module]").src;
            const { build } = await import(new URL("parts/filter.js", first));
            const { at } = await import(new URL("core/format.js", first));
            const names = ["__proto__", "constructor", "plain"];
            const conditions = names.map((property) => ({ property, operator: "$eq", value: "x" }));
            const made = JSON.parse('{"name": "four", "list": [1], "__proto__": {"a": 1}}');
            const found = ["name.length", "list.length", "toString", "__proto__.a", "name"]
                .map((path) => at(made, path) ?? null);
            return [JSON.stringify(build(conditions, [])), found];
        }"""
    )

    names = ("__proto__", "constructor", "plain")
    assert json.loads(built) == {name: {"$eq": "x"} for name in names}
    assert found == [None, None, None, 1, "four"]


def test_with_a_read_token_those_operations_can_be_tried_that_it_may(watched: Watched) -> None:
    page = watched.open("api?search=none")
    page.get_by_role("heading", name="API", exact=True).wait_for()
    routes = [(route.operation.method, route.operation.path) for route in API_ROUTES]

    tried = page.evaluate(
        """async (routes) => {
            const first = document.querySelector("script[type=module]").src;
            const { mayTry } = await import(new URL("pages/reference.js", first));
            return routes.map(([method, path]) => mayTry(method, path, false));
        }""",
        routes,
    )

    assert dict(zip(routes, tried, strict=True)) == {
        (route.operation.method, route.operation.path): route.permission is not Permission.WRITE
        for route in API_ROUTES
    }


def test_a_file_of_another_kind_is_refused_without_being_kept(
    watched: Watched, server: Served, tmp_path: Path
) -> None:
    file = tmp_path / "one-line.ndjson"
    good = json.dumps({"id": "after", "values": [1, 0, 0, 0]})
    file.write_text(f"{'x' * 2_500_000}\n{good}\n{'y' * 1_200_000}")
    page = watched.open("operations?show=import&index=empty")
    page.get_by_text("vectors of 4 dimensions").wait_for()

    page.get_by_label(re.compile("Drop a file")).set_input_files(file)

    page.get_by_role("status").filter(has_text="1 vector stored, 2 lines refused").wait_for()
    texts = page.get_by_role("region", name="Refused lines").locator("tbody tr").all_inner_texts()
    assert [text.split()[0] for text in texts] == ["1", "3"]
    assert all("longer than 1000000 characters" in text for text in texts)


def test_without_a_clipboard_there_is_nothing_to_press(server: Served, browser: "Browser") -> None:
    """Browsers give pages one over HTTPS and on loopback alone."""
    with closing(Watched(browser, server.origin)) as watched:
        watched.context.add_init_script(
            "Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })"
        )
        page = watched.open("row/docs/doc-001")
        page.locator(".matches li").first.wait_for()

        assert page.get_by_role("button", name="copy").count() == 0
