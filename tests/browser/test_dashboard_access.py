"""The dashboard where a token is needed, below a path of a proxy, and for those who see less."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

from tests.browser.dashboard import INDEXES, Served, Watched, ask, serving
from tests.support import installed, programs
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from vicinal.server.app import App
from vicinal.tokens import Permission

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

OWNER = "a-token-of-the-settings"
PAGES = (
    "indexes", "browse/docs", "row/docs/doc-001", "search/docs?by=id&id=doc-001",
    "map/docs?color=topic", "operations", "operations?show=slow", "operations?show=snapshots",
    "operations?show=import", "operations?show=storage", "operations?show=tokens", "api?open=query",
)  # fmt: skip
PLACES = {"indexes": "Indexes", "browse": "Vectors", "search": "Matches"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Served]:
    """A server that needs a token."""
    with serving(tmp_path_factory.mktemp("access"), token=OWNER) as running:
        yield running


@pytest.fixture(scope="module")
def app(server: Served) -> App:
    return server.app


def made(app: App, permission: Permission, account: str | None = None) -> str:
    return app.services.tokens.create("made", permission, account)[1]


def sign_in(page: "Page", token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Open").click()


def shown(page: "Page", address: str) -> None:
    """Wait until a page has what it is about."""
    name = address.partition("/")[0].partition("?")[0]
    if name in PLACES:
        page.get_by_role("region", name=PLACES[name]).locator("tbody tr").first.wait_for()
    elif name == "row":
        page.locator(".matches li").first.wait_for()
    elif name == "map":
        page.locator("[data-map][data-drawn='240']").wait_for()
    elif name == "api":
        page.get_by_role("button", name="Send").wait_for()
    else:
        page.get_by_role("button", name="Live").wait_for()
        if "show" not in address:
            page.get_by_role("region", name="Open indexes").wait_for()


def test_a_token_is_asked_for_and_kept_for_the_tab_alone(
    server: Served, browser: "Browser"
) -> None:
    with closing(Watched(browser, server.origin)) as watched:
        page = watched.open("browse/docs")
        page.get_by_text("This server wants a token.").wait_for()
        sign_in(page, "nobody-knows-it")
        page.get_by_text("the token is not known").wait_for()
        assert page.get_by_role("region", name="Vectors").count() == 0

        sign_in(page, OWNER)
        shown(page, "browse/docs")
        page.reload()
        shown(page, "browse/docs")
        other = watched.context.new_page()
        other.goto(f"{server.origin}/ui/")
        other.get_by_text("This server wants a token.").wait_for()
        assert page.evaluate("Object.keys(localStorage)") == []

        page.get_by_role("button", name="sign out").click()
        page.get_by_text("This server wants a token.").wait_for()
        assert page.evaluate("sessionStorage.length") == 0


WRITES = re.compile(
    r"\b(Create|[Dd]elete|[Rr]evoke|Backfill|Save|Patch|metadata index|Take snapshot|restore|"
    r"Download one)\b"
)


def test_with_a_read_token_nothing_can_be_changed(
    server: Served, app: App, browser: "Browser"
) -> None:
    before = ask(server.origin, f"{INDEXES}/docs/info", token=OWNER)
    with closing(Watched(browser, server.origin)) as watched:
        page = watched.open("indexes")
        sign_in(page, made(app, Permission.READ))
        page.get_by_text("read only").wait_for()
        for address in PAGES:
            watched.open(address)
            shown(page, address)
            assert page.get_by_role("button", name=WRITES).count() == 0, address
            assert page.locator("textarea[aria-label=Metadata]").count() == 0
            assert page.locator("input[type=file]").count() == 0
        watched.open("api?open=delete_by_ids")
        send = page.get_by_role("button", name="Send")
        send.wait_for()
        assert send.is_disabled()
        methods = page.evaluate(
            """async () => {
                const token = sessionStorage.getItem("vicinal-token");
                const answers = [];
                for (const [method, path, body] of [
                    ["DELETE", "", undefined],
                    ["POST", "/delete_by_ids", '{"ids":["doc-001"]}'],
                    ["POST", "/vectors/patch", '{"all":true,"metadata":{}}'],
                ]) {
                    const url = `/client/v4/accounts/local/vectorize/v2/indexes/docs${path}`;
                    const headers = { authorization: `Bearer ${token}` };
                    answers.push((await fetch(url, { method, body, headers })).status);
                }
                return answers;
            }"""
        )
    assert methods == [403, 403, 403]
    assert ask(server.origin, f"{INDEXES}/docs/info", token=OWNER) == before


def test_a_token_for_an_account_sees_that_one_and_nothing_of_all(
    server: Served, app: App, browser: "Browser"
) -> None:
    with closing(Watched(browser, server.origin)) as watched:
        page = watched.open("indexes")
        sign_in(page, made(app, Permission.WRITE, "acme"))
        page.get_by_text("No index yet.").wait_for()
        assert page.get_by_text("acme", exact=True).is_visible()
        assert page.get_by_label("Account").count() == 0
        for part in ("live", "slow", "snapshots", "tokens"):
            watched.open(f"operations?show={part}")
            page.get_by_text("This is about all accounts.").wait_for()


def test_a_token_is_created_shown_once_and_revoked(server: Served, browser: "Browser") -> None:
    with closing(Watched(browser, server.origin)) as watched:
        page = watched.open("operations?show=tokens")
        sign_in(page, OWNER)
        page.get_by_role("button", name="Create token").click()
        page.get_by_role("textbox", name=re.compile("^Name")).fill("for a reader")
        page.get_by_role("textbox", name="Account empty: all accounts").fill("local")
        page.get_by_role("button", name="Create", exact=True).click()
        secret = page.get_by_label("Secret").inner_text()
        assert ask(server.origin, f"{INDEXES}/docs", token=secret)["name"] == "docs"
        page.get_by_role("button", name="Close").click()
        assert secret not in page.content()

        page.get_by_role("button", name="Revoke for a reader").click()
        page.get_by_label("Type for a reader to go on").fill("for a reader")
        page.get_by_role("button", name="Revoke", exact=True).click()
        page.get_by_role("button", name="Revoke for a reader").wait_for(state="detached")
        with pytest.raises(HTTPError):
            ask(server.origin, f"{INDEXES}/docs", token=secret)


NGINX = """daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def location(origin: str) -> str:
    """Return what operations.md says for nginx, for a server of this test."""
    match = re.search(r"```nginx\n(.*?)```", OPERATIONS.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    assert "location /vectors/" in match[1]
    return match[1].replace("http://127.0.0.1:8790", origin)


@pytest.fixture
def proxy(server: Served, tmp_path: Path) -> Iterator[str]:
    """The address of the server below a path of nginx."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("NEEDS NGINX (Debian: nginx)")
    port = free_port()
    path = tmp_path / "nginx.conf"
    path.write_text(NGINX.format(folder=tmp_path, port=port, location=location(server.origin)))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-p", str(tmp_path), "-c", str(path), "-e", "stderr"],
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}/vectors"
    try:
        wait_until(lambda: ask_ready(address))
        yield address
    finally:
        programs.end(process)


def ask_ready(address: str) -> bool:
    try:
        ask(address, INDEXES, token=OWNER)
    except OSError:
        return False
    return True


def test_below_a_path_of_a_proxy_every_page_works(proxy: str, browser: "Browser") -> None:
    with closing(Watched(browser, proxy)) as watched:
        page = watched.page
        page.goto(f"{proxy}/")
        assert page.url == f"{proxy}/ui/"
        sign_in(page, OWNER)
        for address in PAGES:
            watched.open(address)
            shown(page, address)
        watched.open("indexes")
        page.get_by_role("button", name="Create index").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("as code").click()
        dialog.get_by_text(f"{proxy}/client/v4/accounts/local").wait_for()
        page.get_by_role("textbox", name="Name letters").fill("below")
        page.get_by_role("button", name="Create", exact=True).click()
        page.get_by_role("link", name="below").wait_for()


AXE = "4.14.1"
"""Of MPL-2.0, so for tests alone: npm fetches it, and nothing of it is in the repository."""


@pytest.mark.node
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(server: Served, browser: "Browser", scheme: str) -> None:
    folder = installed.node_package("axe-core", AXE)
    source = (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    found: list[str] = []
    # The checker is put into the page, which the page's own policy forbids.
    with closing(Watched(browser, server.origin, bypass_csp=True, color_scheme=scheme)) as watched:
        page = watched.open("indexes")
        page.get_by_label("Token").wait_for()
        found += serious(page, source, "token")
        sign_in(page, OWNER)
        for address in PAGES:
            watched.open(address)
            shown(page, address)
            found += serious(page, source, address)
        watched.open("indexes")
        page.get_by_role("button", name="Create index").click()
        found += serious(page, source, "dialog")

    assert not found, "\n".join(found)


def serious(page: "Page", source: str, place: str) -> list[str]:
    page.evaluate(f"() => {{ if (!window.axe) {{ {source} }} }}")
    answer: Any = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{place}: {problem['id']}: {problem['nodes'][0]['html'][:200]}"
        for problem in answer["violations"]
        if problem["impact"] in ("serious", "critical")
    ]
