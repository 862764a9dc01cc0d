"""What the pages of a real browser can do to a server on loopback: nothing, unless allowed."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from tests.browser.conftest import REBOUND
from tests.support.asgi import INDEXES
from tests.support.server import Running, in_thread
from vicinal.app import create
from vicinal.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

D1 = "/client/v4/accounts/acme/d1/database/texts/query"
DELETE = f"{INDEXES}/docs/delete_by_ids"
TOKEN = "a-token-of-the-settings"

SEND = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return answer.type === "opaque" ? "opaque" : `${answer.status} ${await answer.text()}`;
    } catch (error) {
        return `${error}`;
    }
}"""


class _Blank(BaseHTTPRequestHandler):
    """An attacker's site: an empty page wherever one looks."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>page</title>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The origin of a site on another port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Running]:
    with (
        closing(create(Settings(data=folder / "data", **settings))) as application,
        in_thread(application.asgi, token=TOKEN) as running,
    ):
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A server that needs no token, with a vector, and a table with a row."""
    with serving(tmp_path) as running:
        ask(running, INDEXES, {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}})
        ask(running, f"{INDEXES}/docs/upsert", {"vectors": [{"id": "a", "values": [1, 2]}]})
        ask(running, D1, {"sql": "create table t (x); insert into t values ('secret')"})
        yield running


@pytest.fixture
def page(browser: "Browser", site: str) -> Iterator["Page"]:
    """A page of another site."""
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(site)
    yield opened
    context.close()


def ask(server: Running, path: str, body: object = None) -> Any:
    """Ask as a program does, and return the result."""
    request = Request(
        f"{server.origin}{path}",
        None if body is None else json.dumps(body).encode(),
        {"authorization": f"Bearer {server.token}", "prefer": "wait=30"},
    )
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)["result"]


def is_untouched(server: Running) -> bool:
    vectors = ask(server, f"{INDEXES}/docs/get_by_ids", {"ids": ["a"]})
    (rows,) = ask(server, D1, {"sql": "select x from t"})
    names = [index["name"] for index in ask(server, INDEXES)]
    return len(vectors) == 1 and rows["results"] == [{"x": "secret"}] and names == ["docs"]


def fetch(page: "Page", url: str, **options: object) -> str:
    """Have a page fetch, and return what it gets to know."""
    return str(page.evaluate(SEND, [url, options]))


@pytest.mark.parametrize(
    ("path", "body"), [(DELETE, '{"ids":["a"]}'), (D1, '{"sql":"drop table t"}')]
)
def test_what_a_page_may_send_without_asking_changes_nothing(
    server: Running, page: "Page", path: str, body: str
) -> None:
    got = fetch(page, f"{server.origin}{path}", method="POST", mode="no-cors", body=body)
    sent = page.evaluate(
        "([url, body]) => navigator.sendBeacon(url, body)", [f"{server.origin}{path}", body]
    )

    assert got == "opaque"
    assert sent is True
    assert is_untouched(server)
    # The same from a program does what it says, so the page's was refused for being a page's.
    ask(server, path, json.loads(body))
    with pytest.raises((AssertionError, OSError)):
        assert is_untouched(server)


def test_the_page_of_a_null_origin_changes_nothing(server: Running, page: "Page") -> None:
    page.set_content('<iframe sandbox="allow-scripts" srcdoc="<p>hidden"></iframe>')
    frame = page.frames[1]
    frame.wait_for_load_state()

    got = frame.evaluate(
        SEND,
        [
            f"{server.origin}{DELETE}",
            {"method": "POST", "mode": "no-cors", "body": '{"ids":["a"]}'},
        ],
    )

    assert got == "opaque"
    assert is_untouched(server)


def test_a_form_that_sends_json_is_refused_in_words(server: Running, page: "Page") -> None:
    page.set_content(
        f'<form method="post" enctype="text/plain" action="{server.origin}{DELETE}">'
        """<input name='{"ids":["a"],"x":"' value='"}'></form>"""
    )
    with page.expect_navigation() as navigation:
        page.evaluate("document.forms[0].submit()")

    assert navigation.value is not None
    assert navigation.value.status == 403
    assert "allowed_origins" in page.content()
    assert is_untouched(server)


@pytest.mark.parametrize("tag", ["img", "script"])
def test_what_a_page_embeds_is_refused(server: Running, page: "Page", tag: str) -> None:
    event = page.evaluate(
        "([tag, src]) => new Promise(done => {"
        " const element = document.createElement(tag);"
        " element.onload = element.onerror = event => done(event.type);"
        " document.head.append(Object.assign(element, { src })); })",
        [tag, f"{server.origin}{INDEXES}"],
    )

    assert event == "error"
    with urlopen(f"{server.origin}/metrics", timeout=60) as answer:
        counted = answer.read().decode()
    assert 'operation="list_indexes",status="403"' in counted


def test_a_page_that_has_to_ask_first_gets_no_leave(server: Running, page: "Page") -> None:
    body = '{"name": "theirs", "config": {"dimensions": 2, "metric": "cosine"}}'

    as_json = fetch(page, f"{server.origin}{INDEXES}", method="POST", body=body,
        headers={"content-type": "application/json"})  # fmt: skip
    deleting = fetch(page, f"{server.origin}{INDEXES}/docs", method="DELETE")
    reading = fetch(page, f"{server.origin}{INDEXES}")

    assert as_json.startswith("TypeError")
    assert deleting.startswith("TypeError")
    assert reading.startswith("TypeError")
    assert is_untouched(server)


def test_a_page_opens_no_websocket(server: Running, page: "Page") -> None:
    url = f"ws://127.0.0.1:{server.port}/miniflare/acme?index.V=docs"

    event = page.evaluate(
        "url => new Promise(done => { const s = new WebSocket(url);"
        " s.onopen = () => done('open'); s.onerror = () => done('error'); })",
        url,
    )

    assert event == "error"


def test_a_name_that_is_rebound_to_this_machine_reads_and_writes_nothing(
    server: Running, browser: "Browser"
) -> None:
    origin = f"http://{REBOUND}:{server.port}"
    with closing(browser.new_context()) as context:
        page = context.new_page()
        # Whatever is shown has the attacker's origin, and what it fetches is the same site's.
        shown = page.goto(f"{origin}/healthz")
        assert shown is not None
        assert shown.status == 403

        reads = [fetch(page, f"{origin}{path}") for path in (INDEXES, "/metrics", "/openapi.json")]
        reads.append(fetch(page, f"{origin}{D1}", method="POST", body='{"sql":"select x from t"}'))
        writes = [
            fetch(page, f"{origin}{DELETE}", method="POST", body='{"ids":["a"]}'),
            fetch(page, f"{origin}{INDEXES}/docs", method="DELETE"),
            fetch(page, f"{origin}/deleteByIds", method="POST", body='{"ids":["a"]}',
                headers={"X-Vectorize-Index": "docs", "X-Vectorize-Account": "acme"}),
        ]  # fmt: skip

    for got in (*reads, *writes):
        assert got.startswith("403 ")
        assert "allowed_hosts" in got
        assert "secret" not in got
    assert is_untouched(server)


def test_the_servers_own_pages_can_use_it(server: Running, browser: "Browser") -> None:
    origin = f"http://localhost:{server.port}"
    with closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(f"{origin}/healthz")

        got = fetch(page, f"{origin}{DELETE}", method="POST", body='{"ids":["a"]}')

    assert got.startswith("200 ")


@pytest.mark.parametrize("needs_token", [False, True])
def test_a_page_of_an_allowed_origin_reads_writes_and_sees_errors(
    tmp_path: Path, page: "Page", site: str, needs_token: bool
) -> None:
    token = (TOKEN,) if needs_token else ()
    with serving(tmp_path, allowed_origins=(site,), token=token) as server:
        url = f"{server.origin}{INDEXES}"
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        body = '{"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}}'

        made = fetch(page, url, method="POST", headers=headers, body=body)
        upserted = fetch(page, f"{url}/docs/upsert", method="POST",
            headers=headers | {"Prefer": "wait=30"}, body='{"id":"a","values":[1,2]}')  # fmt: skip
        missing = fetch(page, f"{url}/missing", headers=headers)
        lost = fetch(page, f"{server.origin}/nothing", method="DELETE", headers=headers)
        anonymous = fetch(page, url)

        assert made.startswith("200 ")
        assert upserted.startswith("200 ")
        assert missing.startswith("404 ")
        assert lost.startswith("404 ")
        assert anonymous.startswith("401 " if needs_token else "200 ")
        assert ask(server, f"{INDEXES}/docs/info")["vectorCount"] == 1


def test_where_a_token_is_needed_another_sites_page_does_nothing_without_and_reads_nothing_with_one(
    tmp_path: Path, page: "Page"
) -> None:
    with serving(tmp_path, allowed_origins=("https://app.example",), token=(TOKEN,)) as server:
        url = f"{server.origin}{INDEXES}"
        body = '{"name": "theirs", "config": {"dimensions": 2, "metric": "cosine"}}'

        blind = fetch(page, url, method="POST", mode="no-cors", body=body)
        asking = fetch(page, url, headers={"authorization": f"Bearer {TOKEN}"})

        assert blind == "opaque"
        assert asking.startswith("TypeError")
        assert ask(server, INDEXES) == []
