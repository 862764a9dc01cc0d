"""The dashboard's files: what a browser gets, what it may keep, and that nothing else is read."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import vicinal
from tests.support.asgi import INDEXES, Received, application, call
from vicinal.server.api import pages
from vicinal.server.app import App
from vicinal.server.workers.sessions import Bindings
from vicinal.tokens import Permission

UI = Path(vicinal.__file__).parent / "ui"
HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
SOURCES = sorted(path for path in UI.rglob("*.js") if path.parent.name != "vendor")


def first_page(app: App) -> Received:
    answer = call(app, "GET", "/ui/", headers=HTML)
    assert answer.status == 200
    return answer


def names(page: str) -> Iterator[str]:
    class Links(HTMLParser):
        names: list[str] = []  # noqa: RUF012 of this call alone

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            self.names += [value or "" for name, value in attributes if name in ("href", "src")]

    parser = Links()
    parser.feed(page)
    yield from parser.names


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_browser_at_the_root_is_led_to_the_dashboard(app: App, method: str) -> None:
    answer = call(app, method, "/", headers=HTML)

    assert (answer.status, answer.headers["location"]) == (302, "ui/")
    assert answer.headers["vary"] == "Accept"
    assert answer.body == b""


@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("GET", {"accept": "*/*"}), ("GET", {"accept": "application/json"}),
     ("POST", HTML), ("PUT", HTML), ("OPTIONS", HTML)],
)  # fmt: skip
def test_others_at_the_root_get_what_they_always_did(
    app: App, method: str, headers: dict[str, str]
) -> None:
    status, code, _ = call(app, method, "/", headers=headers).error

    assert (status, code) == (404, 7003)


def test_a_request_wrapped_in_one_to_the_root_is_not_taken_for_a_browsers(app: App) -> None:
    session = app.services.sessions.add(Bindings("acme", None, {"V": "docs"}))
    headers = {"cf-workers-preview-token": session, "mf-binding": "V", "mf-url": "http://x/info"}

    answer = call(app, "GET", "/", headers={**HTML, **headers})

    assert answer.status == 200
    assert b"vectorCount" in answer.body


@pytest.mark.parametrize("headers", [{}, HTML])
def test_without_its_slash_the_dashboard_is_found_too(app: App, headers: dict[str, str]) -> None:
    answer = call(app, "GET", "/ui", headers=headers)

    assert (answer.status, answer.headers["location"]) == (302, "ui/")


@pytest.mark.parametrize(
    ("path", "address"), [("/docs", "ui/#/api"), ("/docs/", "../ui/#/api")]
)  # relative to the folder that the browser takes itself to be in
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [{}, HTML])
def test_the_usual_address_of_a_description_leads_to_the_page_of_the_api(
    app: App, path: str, address: str, method: str, headers: dict[str, str]
) -> None:
    answer = call(app, method, path, headers=headers)

    assert (answer.status, answer.headers["location"]) == (302, address)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.body == b""


@pytest.mark.parametrize("path", ["/docs/x", "/docs//", "/DOCS", "/docs%2f"])
def test_nothing_is_below_that_address(app: App, path: str) -> None:
    assert call(app, "GET", path, headers=HTML).status == 404


def test_the_first_page_names_the_modules_that_all_pages_need_and_no_others(app: App) -> None:
    page = first_page(app)
    modules = {name.partition("/")[2] for name in names(page.body.decode()) if name.endswith(".js")}

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert {"main.js", "core/html.js", "core/session.js", "vendor/preact.js"} <= modules
    assert not {name for name in modules if name.startswith(("pages/", "map/", "vendor/uplot"))}
    assert modules <= {path.relative_to(UI).as_posix() for path in UI.rglob("*.js")}


def test_every_file_is_there_and_may_be_kept(app: App) -> None:
    named = list(names(first_page(app).body.decode()))
    version = named[0].partition("/")[0]
    modules = {path.relative_to(UI).as_posix() for path in UI.rglob("*.js")}

    for name in {*named, *(f"{version}/{module}" for module in modules)}:
        answer = call(app, "GET", f"/ui/{name}")
        assert answer.status == 200, name
        assert answer.body == (UI / name.partition("/")[2]).read_bytes()
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "script-src 'self';" in answer.headers["content-security-policy"]


def test_a_page_that_is_known_is_not_sent_again(app: App) -> None:
    etag = first_page(app).headers["etag"]

    for sent in (etag, f'"other", W/{etag}'):
        answer = call(app, "GET", "/ui/", headers={"if-none-match": sent})
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
        assert "content-length" not in answer.headers
    assert call(app, "GET", "/ui/", headers={"if-none-match": '"other"'}).status == 200


def test_the_policy_allows_nothing_inline_and_no_other_origin(app: App) -> None:
    policy = first_page(app).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js", "index.html", "../settings.py", "..%2fsettings.py", "%2e%2e/settings.py",
        "{version}/../../settings.py", "{version}/%2e%2e/%2e%2e/settings.py",
        "{version}/..%2f..%2fsettings.py", "{version}//etc/passwd", "/etc/passwd",
        "{version}/main.js%00", "{version}/core", "{version}/core/", "{version}/main.js/x",
        "{version}/vendor/LICENSES.txt", "{version}/vendor/manifest.json",
        "{version}/jsconfig.json", "{version}/vendor/preact.d.ts", "0000000000000000/main.js",
        "{version}/MAIN.JS", "main.js", "%ff", "C:%5cWindows",
    ],
)  # fmt: skip
def test_no_other_name_is_answered(app: App, name: str) -> None:
    match = re.search(r'src="([0-9a-f]{16})/main\.js"', first_page(app).body.decode())
    assert match is not None

    answer = call(app, "GET", f"/ui/{name.replace('{version}', match[1])}")

    assert answer.status == 404


@pytest.mark.parametrize("path", ["/ui/", "/docs"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_files_are_read_and_nothing_else(app: App, method: str, path: str) -> None:
    assert call(app, method, path).status == 405


def test_where_tokens_are_needed_the_page_is_public_and_what_it_shows_is_not(
    tmp_path: Path,
) -> None:
    app = application(tmp_path)
    app.services.tokens.create("reader", Permission.READ)

    assert call(app, "GET", "/", headers=HTML).status == 302
    assert call(app, "GET", "/docs").status == 302
    assert call(app, "GET", "/ui/").status == 200
    assert call(app, "GET", INDEXES).status == 401
    assert call(app, "GET", "/client/v4/user/permission").status == 401


@pytest.mark.parametrize(
    "stranger",
    [
        {"host": "evil.example"},
        {"host": "localhost", "origin": "http://evil.example"},
        {"host": "localhost", "sec-fetch-site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/ui", "/ui/", "/docs"])
def test_other_sites_are_refused(app: App, path: str, stranger: dict[str, str]) -> None:
    assert call(app, "GET", path, headers={**HTML, **stranger}).status == 403


def test_the_files_are_small_enough_for_the_package() -> None:
    served = [page.body for page in pages.page_files().values()]

    assert sum(map(len, served)) < 300_000
    assert sum(path.stat().st_size for path in UI.rglob("*") if path.is_file()) < 350_000


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(UI).as_posix())
def test_modules_are_short_say_what_they_are_for_and_name_no_other_origin(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()

    assert len(lines) < 500
    assert text.startswith("/**\n * ")
    assert "https://" not in text
    assert "http://" not in text
    assert not re.search(r"\beval\(|new Function|innerHTML|dangerouslySetInnerHTML", text)
    begun: int | None = None
    for number, line in enumerate(lines):
        if re.match(r"(export )?(async )?function|(export )?class", line):
            begun = number
        if line == "}" and begun is not None:
            is_class = "class " in lines[begun]
            assert is_class or number - begun < 70, lines[begun]
            begun = None


def test_any_page_that_is_there_is_known_to_who_knows_all(app: App) -> None:
    assert call(app, "GET", "/ui/", headers={"if-none-match": "*"}).status == 304
    assert call(app, "GET", "/ui/none.js", headers={"if-none-match": "*"}).status == 404


@pytest.mark.parametrize("path", ["/ui//", "/ui//index.html", "//ui/", "/ui/%2f", "/ui/%2F/"])
def test_the_first_page_is_at_one_address_as_it_would_not_find_its_files_below_others(
    app: App, path: str
) -> None:
    assert call(app, "GET", path, headers=HTML).status == 404
