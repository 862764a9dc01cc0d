"""What actions of the dashboard do at once, and how they are written as code."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.browser.dashboard import COUNT, INDEXES, Served, Watched, ask, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

FLAGS = f"{INDEXES}/flags"
EFFORT = {"vicinal-effort": "exact"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Served]:
    """Serve an index `flags` beside the others: 10 vectors, of which 3 are `good`."""
    with serving(tmp_path_factory.mktemp("dashboard")) as running:
        origin = running.origin
        config = {"dimensions": 2, "metric": "euclidean"}
        ask(origin, INDEXES, {"name": "flags", "config": config})
        for name, kind in (("good", "boolean"), ("number", "number")):
            wanted = {"propertyName": name, "indexType": kind}
            ask(origin, f"{FLAGS}/metadata_index/create", wanted)
        lines = [
            {"id": f"f{n}", "values": [n, 1], "metadata": {"good": n < 3, "number": n}}
            for n in range(10)
        ]
        ask(origin, f"{FLAGS}/upsert", "\n".join(map(json.dumps, lines)).encode())
        yield running


def imported(page: "Page", module: str, expression: str) -> Any:
    """Return what an expression over the names of a module of the dashboard is."""
    return page.evaluate(
        f"""async () => {{
            const first = document.querySelector("script[type=module]").src;
            const all = await import(new URL("{module}", first));
            return (({expression}))(all);
        }}"""
    )


def forms(page: "Page", action: str) -> dict[str, str]:
    return dict(imported(page, "core/commands.js", f"(all) => all.forms(all.{action}, 'a')"))


def test_code_that_makes_an_index_has_its_description(watched: Watched) -> None:
    body = '{name: "n", description: "what it\'s for", config: {dimensions: 2, metric: "cosine"}}'

    made = forms(watched.open("indexes"), f"createIndex('a', {body})")

    for form in ("curl", "Python", "npm", "wrangler"):
        assert "what it" in made[form], form
    assert "--description=what it's for" in shlex.split(made["wrangler"])
    assert 'description="what it\'s for")' in made["Python"]


def test_code_of_a_query_has_its_effort_namespace_and_metadata(watched: Watched) -> None:
    body = '{vectorId: "x", topK: 3, namespace: "n s", returnMetadata: "all"}'

    made = forms(watched.open("indexes"), f"query('a', 'docs', {body}, {json.dumps(EFFORT)})")

    python = made["Python"].partition("cast_to=object, options=")[2].removesuffix(")")
    assert json.loads(python) == {"headers": EFFORT}
    assert made["npm"].endswith(', { headers: {"vicinal-effort":"exact"} });')
    note, _, command = made["wrangler"].partition("\n")
    assert "names no effort" in note
    words = shlex.split(command)
    assert {"--namespace=n s", "--return-metadata=all", "--top-k=3"} <= set(words)


def test_a_search_for_words_is_no_command_of_wrangler(watched: Watched) -> None:
    made = forms(watched.open("indexes"), "query('a', 'docs', {text: 'words', topK: 3}, {})")

    assert made["wrangler"].startswith("# wrangler has no command")
    assert '"text": "words"' in made["Python"]


def test_a_backfill_shows_itself_as_code(watched: Watched) -> None:
    page = watched.open("browse/docs")
    notice = page.locator(".coverage", has_text="year")
    notice.get_by_text("as code").click()

    assert '"backfill":true' in notice.locator("pre").inner_text()
    notice.get_by_role("button", name="wrangler").click()
    assert notice.locator("pre").inner_text().startswith("# wrangler makes no backfill")


def test_an_import_shows_itself_as_code(watched: Watched) -> None:
    page = watched.open("operations?show=import&index=docs")
    page.get_by_text("as code").click()
    code = page.locator("details.code pre")
    assert "--data-binary @vectors.ndjson" in code.inner_text()

    page.get_by_role("button", name="wrangler").click()
    assert "vectorize upsert docs --file=vectors.ndjson" in code.inner_text()
    page.get_by_label("Mode").select_option("insert")
    page.get_by_text("vectorize insert docs --file=vectors.ndjson").wait_for()


def test_an_export_shows_itself_as_code(watched: Watched) -> None:
    page = watched.open("browse/docs?namespace=new")
    page.get_by_text("export as code").click()

    shown = page.locator("details.code", has_text="export as code").locator("pre").inner_text()
    assert "/vectors/export" in shown
    assert '{"namespace":"new"}' in shown


def test_a_search_by_text_shows_how_the_vector_is_made(watched: Watched) -> None:
    page = watched.open("search/docs?text=abcde")
    page.get_by_text("the vector of the text as code").click()

    code = page.locator("details.code", has_text="the vector of the text").locator("pre")
    assert "/ai/run/" in code.inner_text()
    assert '"text":["abcde"]' in code.inner_text()


def test_the_legend_of_distances_has_the_nearest_at_the_bright_end(watched: Watched) -> None:
    page = watched.open("map/flags?by=id&id=f0&color=score%20to%20the%20query")

    ends = page.locator("[data-range] span")
    ends.first.wait_for()
    assert ends.all_inner_texts() == ["9", "0"]


def test_a_condition_that_is_chosen_filters_at_once(watched: Watched) -> None:
    page = watched.open("browse/flags")
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()

    page.get_by_role("button", name="+ filter").click()
    page.get_by_text("3 of 10 vectors", exact=True).wait_for()
    assert page.get_by_label("Value", exact=True).input_value() == "true"

    page.get_by_role("button", name="Remove the condition on good").click()
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()
    page.get_by_role("button", name="+ filter").click()
    page.get_by_label("Property", exact=True).select_option("number")
    page.get_by_label("Value", exact=True).fill("4")
    page.get_by_label("Value", exact=True).press("Enter")
    page.get_by_text("1 of 10 vectors", exact=True).wait_for()
    page.get_by_label("Property", exact=True).select_option("good")
    page.get_by_text("3 of 10 vectors", exact=True).wait_for()


@pytest.mark.parametrize(
    ("address", "label", "typed"),
    [
        ("browse/flags?filter=%7B%22number%22%3A4%7D", "Value", "5"),
        ("browse/flags", "Namespace", "n"),
        ("browse/flags", "Account", "other"),
        ("row/flags/f0", "Metadata", '{"good": 1}'),
    ],
)
def test_what_is_typed_stays_when_the_page_is_drawn_anew_meanwhile(
    watched: Watched, address: str, label: str, typed: str
) -> None:
    page = watched.open(address)
    field = page.get_by_label(label, exact=True)
    before = field.input_value()
    field.fill(typed)

    page.evaluate(
        """async () => {
            dispatchEvent(new HashChangeEvent("hashchange"));
            for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
        }"""
    )

    assert field.input_value() == typed
    field.fill(before)  # else it counts once the next test leaves the page


def test_a_condition_that_is_changed_at_once_is_not_taken_back(watched: Watched) -> None:
    page = watched.open("browse/flags")
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()

    # In one go, before any frame is painted: effects that wait for one come after it.
    page.evaluate(
        """async () => {
            const turn = () => new Promise((done) => setTimeout(done));
            const labelled = (label) => document.querySelector(`[aria-label="${label}"]`);
            [...document.querySelectorAll("button")]
                .find((each) => each.textContent === "+ filter").click();
            while (!labelled("Property")) await turn();
            labelled("Property").value = "number";
            labelled("Property").dispatchEvent(new Event("change", { bubbles: true }));
            for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
        }"""
    )

    assert page.get_by_label("Property", exact=True).input_value() == "number"


def test_a_condition_without_a_value_looks_unset_and_filters_nothing(watched: Watched) -> None:
    page = watched.open("browse/flags")
    page.reload()  # without what another test has begun there
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()
    page.get_by_role("button", name="+ filter").click()
    page.get_by_label("Property", exact=True).select_option("number")
    value = page.get_by_label("Value", exact=True)
    assert value.input_value() == ""
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()

    page.get_by_role("button", name="+ filter").click()  # on `good`, while the first is unset
    page.get_by_text("3 of 10 vectors", exact=True).wait_for()
    assert value.first.input_value() == ""
    value.first.fill("1")
    value.first.press("Enter")
    page.get_by_text("1 of 10 vectors", exact=True).wait_for()
    value.first.fill("")
    value.first.press("Enter")
    page.get_by_text("3 of 10 vectors", exact=True).wait_for()


def test_a_list_with_what_is_no_number_is_marked_and_filters_nothing(watched: Watched) -> None:
    wanted = quote('{"number":{"$in":[1,2]}}')
    page = watched.open(f"browse/flags?filter={wanted}")
    page.get_by_text("2 of 10 vectors", exact=True).wait_for()
    value = page.get_by_label("Value", exact=True)

    value.fill("1, two")
    value.press("Enter")
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()
    assert value.get_attribute("aria-invalid") == "true"
    value.fill("1, 2, 3,")
    value.press("Enter")
    page.get_by_text("3 of 10 vectors", exact=True).wait_for()
    assert value.get_attribute("aria-invalid") == "false"


def test_fields_follow_a_link_to_the_page_without_what_was_typed(watched: Watched) -> None:
    page = watched.open("browse/flags")
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()
    field = page.get_by_label("Namespace", exact=True)
    field.fill("elsewhere")
    field.press("Enter")
    page.get_by_text("0 of 10 vectors", exact=True).wait_for()

    page.evaluate("location.hash = '#/browse/flags'")

    page.get_by_text("10 of 10 vectors", exact=True).wait_for()
    assert field.input_value() == ""


def test_an_operator_that_another_condition_has_cannot_be_chosen_again(watched: Watched) -> None:
    wanted = quote('{"number":{"$gt":2,"$lt":5}}')
    page = watched.open(f"browse/flags?filter={wanted}")
    page.get_by_text("2 of 10 vectors", exact=True).wait_for()

    first = page.get_by_label("Operator").first.locator("option")

    assert first.evaluate_all("all => all.map(({ value }) => value)") == [
        "$eq", "$ne", "$in", "$nin", "$exists", "$lte", "$gt", "$gte",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "filtered",
    [
        {"topic": None},
        {"topic": {"$in": ["a, b", "c"]}},
        {"topic": {"$in": [" a"]}},
        {"topic": {"$in": []}},
        {"topic": ""},
        {"topic": {"$in": ["a", ""]}},
        {"topic": {"$eq": ["a"]}},
        {"topic": {"$in": ["a", None]}},
    ],
)
def test_a_filter_that_the_builder_would_change_stays_json(watched: Watched, filtered: Any) -> None:
    expression = f"(all) => all.conditionsOf({json.dumps(filtered)})"

    assert imported(watched.open("indexes"), "parts/filter.js", expression) is None


def test_a_filter_that_rows_cannot_say_is_shown_when_it_comes_by_a_link(watched: Watched) -> None:
    page = watched.open("browse/flags")
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()

    written = '{"$or":[{"good":true},{"number":9}]}'
    page.evaluate(f"location.hash = '#/browse/flags?filter={quote(written)}'")

    page.get_by_text("4 of 10 vectors", exact=True).wait_for()
    field = page.get_by_label("Filter as JSON")
    assert field.input_value() == written
    field.fill("")  # it may be written anew there
    field.press("Enter")
    page.get_by_text("10 of 10 vectors", exact=True).wait_for()
    assert field.is_visible()


def test_what_is_in_view_of_a_map_is_selected_and_patched_by_keys(
    watched: Watched, server: Served
) -> None:
    page = watched.open("map/flags")
    canvas = page.locator("[data-map][data-drawn='10']")
    canvas.focus()
    page.keyboard.press("Enter")
    selection = page.get_by_role("group", name="Selection")
    selection.get_by_text("10", exact=True).wait_for()

    selection.get_by_role("button", name="Patch").press("Enter")
    dialog = page.get_by_role("dialog")
    patch = dialog.get_by_role("button", name="Patch", exact=True)
    page.get_by_label("Patch", exact=True).and_(page.locator("textarea")).fill('{"seen": 1')
    dialog.get_by_text("not a JSON object").wait_for()
    assert patch.is_disabled()
    page.locator("dialog textarea").fill('{"seen": 1}')
    dialog.get_by_text("as code").click()
    assert '"metadata":{"seen":1}' in dialog.locator("pre").inner_text()
    patch.press("Enter")
    dialog.wait_for(state="detached")

    listed = ask(server.origin, f"{FLAGS}/vectors/list", {"returnMetadata": True})["vectors"]
    assert [vector["metadata"]["seen"] for vector in listed] == [1] * 10


def test_the_export_of_a_selection_shows_itself_as_code(watched: Watched) -> None:
    page = watched.open("map/docs")
    page.locator(f"[data-map][data-drawn='{COUNT}']").focus()
    page.keyboard.press("Enter")
    page.get_by_text(f"export as code, for the first 20 of {COUNT}").click()

    code = page.get_by_role("group", name="Selection").locator("details.code pre")
    assert "/docs/get_by_ids" in code.inner_text()
    page.get_by_role("group", name="Selection").get_by_role("button", name="wrangler").click()
    assert re.search("get-vectors docs --ids( doc-[0-9]+){20}$", code.inner_text())


def test_code_of_a_map_has_the_vector_that_is_drawn_in(watched: Watched) -> None:
    page = watched.open("map/docs?text=abcde")
    page.locator(f"[data-map][data-drawn='{COUNT}']").wait_for()
    code = page.locator("details.code")
    code.get_by_text("as code", exact=True).click()

    assert re.search(r'"vector":\[[-0-9., e]+\]', code.first.locator("pre").inner_text())
    code.get_by_text("the vector of the text as code").click()
    assert '"text":["abcde"]' in code.last.locator("pre").inner_text()


def test_code_of_many_vectors_says_that_it_is_of_the_first(watched: Watched) -> None:
    page = watched.open("map/docs")
    page.locator(f"[data-map][data-drawn='{COUNT}']").focus()
    page.keyboard.press("Enter")
    page.get_by_role("group", name="Selection").get_by_role("button", name="Delete").click()

    page.get_by_text(re.compile(f"as code, for the first 100 of {COUNT}")).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


def test_code_of_snapshots_verifies_and_downloads_them(
    watched: Watched, server: Served, tmp_path: Path
) -> None:
    page = watched.open("operations?show=snapshots")
    page.get_by_role("button", name="Take snapshot").click()
    page.get_by_text("verify the newest as code").click()
    newest = ask(server.origin, "/client/v4/vicinal/snapshots")[-1]["id"]
    codes = page.locator("details.code", has_text="verify the newest").locator("pre")
    report = json.loads(ran(codes.inner_text(), tmp_path))["result"]
    assert report["damages"] == []

    for label, name in (
        ("download one now", "vicinal-snapshot"),
        ("download the newest", f"vicinal-snapshot-{newest}"),
    ):
        shown = page.locator("details.code", has_text=f"{label} as code")
        shown.locator("summary").click()
        ran(shown.locator("pre").inner_text(), tmp_path)
        kept = tmp_path / f"{name}.tar.zst"
        assert kept.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"  # zstd
        kept.unlink()
        shown.get_by_role("button", name="Python").click()
        written = shown.locator("pre").inner_text()
        subprocess.run([sys.executable, "-c", written], cwd=tmp_path, check=True)
        assert kept.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"


def ran(command: str, folder: Path) -> str:
    """Run a command as the shell does that it was pasted into."""
    environment = {**os.environ, "TOKEN": "any"}
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, check=True, capture_output=True
    )
    return done.stdout.decode()


def test_a_snapshot_is_left_alone_while_another_is_made(watched: Watched) -> None:
    page = watched.open("operations?show=snapshots")
    page.get_by_role("button", name="Take snapshot").click()
    restore = page.get_by_role("button", name="restore").first
    restore.wait_for()
    held: list[Route] = []
    page.route(
        "**/vicinal/snapshots",
        lambda route: held.append(route) if route.request.method == "POST" else route.continue_(),
    )

    page.get_by_role("button", name="Take snapshot").click()
    page.get_by_text("working…", exact=True).wait_for()

    for name in ("verify", "download", "restore", "delete"):
        assert page.get_by_role("button", name=name, exact=True).first.is_disabled()
    held[0].continue_()
    page.get_by_role("button", name="restore", disabled=False).first.wait_for()
    page.unroute_all()


def test_a_restored_index_is_named(watched: Watched) -> None:
    page = watched.open("operations?show=snapshots")
    page.get_by_role("button", name="Take snapshot").click()
    page.get_by_role("button", name="restore").first.click()
    page.get_by_role("checkbox").first.wait_for()
    for checkbox in page.get_by_role("checkbox").all():
        checkbox.uncheck()
    page.get_by_role("checkbox", name=re.compile("flags")).check()
    page.get_by_role("button", name="Restore", exact=True).click()

    page.get_by_text("restored flags-restored", exact=True).wait_for()
