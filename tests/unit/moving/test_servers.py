"""Copies from and to servers, by the public API; and what the platform's service is known to do."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from tests.support.asgi import application
from tests.support.server import Running, in_thread
from tests.unit.moving.conftest import (
    BOOKS,
    Commands,
    apply,
    contents_of,
    filled_folder,
    folder_engine,
    rows,
)
from vicinal.engine.contents import HasContents
from vicinal.limits import PROFILES
from vicinal.model import Delete
from vicinal.moving import patience, servers
from vicinal.moving.base import SourceIndex
from vicinal.server.api.services import ServerConfig

STRICT = ServerConfig(limits=PROFILES["cloudflare"], allowed_hosts=("x",))
BOTH = ("--account", "acme", "--account", "other")


@contextmanager
def serving(folder: Path, engine: HasContents, *, strict: bool = False) -> Iterator[Running]:
    folder.mkdir(exist_ok=True)
    config = STRICT if strict else ServerConfig(limits=PROFILES["open"], allowed_hosts=("x",))
    app = application(folder, engine=engine, tokens=["secret"], config=config)
    with in_thread(app, token="secret") as running:
        yield running


@pytest.mark.parametrize("strict", [False, True])
def test_a_folder_goes_to_a_server_and_back_with_all_but_gaps_in_metadata_indexes(
    tmp_path: Path, copy: Commands, strict: bool
) -> None:
    expected = filled_folder(tmp_path / "first")
    token = ("--destination-token", "secret")

    with (
        folder_engine(tmp_path / "served") as engine,
        serving(tmp_path / "server", engine, strict=strict) as server,
    ):
        copy.ok(tmp_path / "first", server.origin, *token)
        served = contents_of(engine)
        copy.ok(server.origin, tmp_path / "second", *BOTH, "--source-token", "secret")

    assert served == expected, "the order of metadata indexes and vectors is kept"
    with folder_engine(tmp_path / "second") as engine:
        back = contents_of(engine)
    for name, index in expected.items():
        for part in ("config", "description", "vectors", "metadata indexes"):
            assert back[name][part] == index[part], (name, part)


def test_an_interrupted_reading_of_a_server_goes_on_with_its_listing(
    tmp_path: Path, copy: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PAGE_IDS", 50)
    expected = filled_folder(tmp_path / "first")
    with (
        folder_engine(tmp_path / "first") as engine,
        serving(tmp_path / "server", engine) as server,
    ):
        words = (server.origin, tmp_path / "second", *BOTH, "--source-token", "secret")
        pages = interrupted_after(3, monkeypatch)
        assert isinstance(copy.run(*words).exception, Interruption)
        printed = copy.ok(*words)

    assert "of them now" in printed
    assert pages[0] == 9  # eight pages of books, one of small: none was read twice
    with folder_engine(tmp_path / "second") as engine:
        assert contents_of(engine)["acme/books"]["vectors"] == expected["acme/books"]["vectors"]


def test_an_expired_listing_begins_the_index_anew_without_what_was_deleted(
    tmp_path: Path, copy: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PAGE_IDS", 50)
    filled_folder(tmp_path / "first")
    with (
        folder_engine(tmp_path / "first") as engine,
        serving(tmp_path / "server", engine) as server,
    ):
        words = (server.origin, tmp_path / "second", *BOTH, "--source-token", "secret")
        interrupted_after(3, monkeypatch)
        assert isinstance(copy.run(*words).exception, Interruption)
        apply(engine, BOOKS, Delete(list(engine.list(BOOKS, 120, None).ids)))
    with folder_engine(tmp_path / "first") as engine:  # cursors do not outlive a process
        expected = contents_of(engine)
        with serving(tmp_path / "server", engine) as again:
            kept = next(copy.state.rglob("*.db"))
            result = copy.run(
                again.origin, tmp_path / "second", *BOTH, "--source-token", "secret",
                "--journal", kept,
            )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "begun anew" in result.stderr
    with folder_engine(tmp_path / "second") as engine:
        assert contents_of(engine)["acme/books"]["vectors"] == expected["acme/books"]["vectors"]


class Interruption(Exception):
    pass


def interrupted_after(page: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the copy end at a page of vectors, once; return the number of pages that are read."""
    read, pages = servers.ListedContents._vectors, [0]  # noqa: SLF001 - between two pages

    def interrupting(contents: servers.ListedContents, ids: list[str]) -> object:
        if pages[0] == page:
            monkeypatch.setattr(servers.ListedContents, "_vectors", counting)
            raise Interruption
        return counting(contents, ids)

    def counting(contents: servers.ListedContents, ids: list[str]) -> object:
        if ids:
            pages[0] += 1
        return read(contents, ids)

    monkeypatch.setattr(servers.ListedContents, "_vectors", interrupting)
    return pages


def test_a_token_that_is_not_good_is_refused(tmp_path: Path, copy: Commands) -> None:
    with (
        folder_engine(tmp_path / "first") as engine,
        serving(tmp_path / "server", engine) as server,
    ):
        said = copy.fails(server.origin, tmp_path / "second", "--source-token", "wrong")

    assert "is the token good for this account?" in said


def test_a_body_is_never_longer_than_the_strict_profile_lets_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servers, "BODY_BYTES_MAX", 2_000)

    bodies = list(servers._bodies(rows(0, 100).batch))  # noqa: SLF001 - its bound

    assert len(bodies) > 3
    assert all(len(body) <= 2_000 for body in bodies)
    ids = [json.loads(line)["id"] for body in bodies for line in body.splitlines()]
    assert ids == list(rows(0, 100).batch.ids)


class Slow(BaseHTTPRequestHandler):
    """Answers every other request with 429, and passes the others on to a Vicinal server."""

    protocol_version = "HTTP/1.1"
    behind: Running
    client: httpx.Client
    counts: ClassVar = {"asked": 0, "refused": 0}

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.counts["asked"] += 1
        if self.counts["asked"] % 2:
            self.counts["refused"] += 1
            text = b'{"success":false,"errors":[{"code":971,"message":"slow down"}],"result":null}'
            self.send_response(429)
            self.send_header("retry-after", "7")
        else:
            headers = {
                name: self.headers[name]
                for name in ("authorization", "content-type")
                if name in self.headers
            }
            answer = self.client.request(
                self.command, self.behind.origin + self.path, content=body, headers=headers
            )
            text = answer.content
            self.send_response(answer.status_code)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = pass_on  # noqa: N815 - named by the standard library

    def log_message(self, *_: object) -> None:
        pass


def test_the_platforms_429_is_waited_out_as_long_as_it_says(
    tmp_path: Path, copy: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(patience, "pause", pauses.append)
    expected = filled_folder(tmp_path / "first")
    with folder_engine(tmp_path / "served") as engine:
        with serving(tmp_path / "server", engine, strict=True) as server:
            Slow.behind, Slow.client = server, httpx.Client(timeout=60)
            slow = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
            thread = threading.Thread(target=slow.serve_forever)
            thread.start()
            try:
                url = f"http://127.0.0.1:{slow.server_port}"
                copy.ok(tmp_path / "first", url, "--destination-token", "secret")
                copy.ok(url, tmp_path / "second", *BOTH, "--source-token", "secret")
            finally:
                slow.shutdown()
                thread.join()
                slow.server_close()
                Slow.client.close()
        assert contents_of(engine) == expected
    assert Slow.counts["refused"] > 10
    assert pauses.count(7.0) == Slow.counts["refused"]
    with folder_engine(tmp_path / "second") as engine:
        assert contents_of(engine)["acme/books"]["vectors"] == expected["acme/books"]["vectors"]


def test_what_the_platform_does_not_know_is_named(tmp_path: Path, copy: Commands) -> None:
    filled_folder(tmp_path / "first")
    with folder_engine(tmp_path / "first") as engine:
        source = engine.get_index(BOOKS)
    store = servers.open_server("https://api.cloudflare.com/client/v4", "t", "a")
    things = store.homeless(SourceIndex(BOOKS, source.config, None, 1))
    store.close()

    assert things == [
        "its effort, high, which is an extension", "its model, @x/some, which is an extension",
    ]  # fmt: skip
