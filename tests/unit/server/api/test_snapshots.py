"""The routes of snapshots: ours, for a token that may do everything, to no path of a caller."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, cast

import httpx
import pytest

from tests.support.asgi import Received, application, call
from tests.support.engines import DOCS, create, upsert
from tests.support.server import in_thread
from tests.support.snapshots import contents, points, restored
from tests.support.waiting import wait_until
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import IndexAddress
from vicinal.server.app import App
from vicinal.snapshots import taking
from vicinal.snapshots.receiving import receive
from vicinal.snapshots.service import SENT_MAX, Schedule, Snapshots
from vicinal.snapshots.store import Store
from vicinal.snapshots.work import InlineWork
from vicinal.tokens import Permission, Tokens

SNAPSHOTS = "/client/v4/vicinal/snapshots"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    with closing(EmbeddedEngine.open(tmp_path / "data")) as engine:
        create(engine)
        upsert(engine, *points(0, 30))
        yield engine


@pytest.fixture
def app(engine: EmbeddedEngine, tmp_path: Path) -> App:
    snapshots = Snapshots(engine, tmp_path / "data", tmp_path / "store", "1.2.3")
    return application(tmp_path / "data", engine=engine, snapshots=snapshots)


def test_a_snapshot_is_made_listed_described_verified_and_deleted(app: App) -> None:
    made = call(app, "POST", SNAPSHOTS).result

    assert made["version"] == "1.2.3"
    assert [(index["account"], index["name"]) for index in made["indexes"]] == [("acme", "docs")]
    assert made["missing"] == []
    assert call(app, "GET", SNAPSHOTS).result == [made]
    assert call(app, "GET", f"{SNAPSHOTS}/{made['id']}").result == made
    report = call(app, "POST", f"{SNAPSHOTS}/{made['id']}/verify").result
    assert report["damages"] == []
    assert report["byte_count"] > 0
    assert call(app, "DELETE", f"{SNAPSHOTS}/{made['id']}").result["freed_bytes"] > 0
    assert call(app, "GET", SNAPSHOTS).result == []
    assert call(app, "GET", f"{SNAPSHOTS}/{made['id']}").error[0] == 404


def test_damage_is_told(app: App, tmp_path: Path) -> None:
    made = call(app, "POST", SNAPSHOTS, {"copy": True}).result
    path = next((tmp_path / "store" / "snapshots" / made["id"]).glob("*-*.db"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    (damage,) = call(app, "POST", f"{SNAPSHOTS}/{made['id']}/verify").result["damages"]

    assert damage["subject"].endswith("index acme/docs")
    assert damage["file"].endswith(path.name)


def test_indexes_are_restored_beside_those_that_are_served(
    app: App, engine: EmbeddedEngine
) -> None:
    made = call(app, "POST", SNAPSHOTS).result
    before = contents(engine)
    upsert(engine, *points(0, 40, "blue"))

    answer = call(app, "POST", f"{SNAPSHOTS}/{made['id']}/restore", {"suffix": "-old"})

    assert answer.result == [{"account": "acme", "name": "docs-old"}]
    assert contents(engine, IndexAddress("acme", "docs-old")) == before
    assert len(contents(engine)) == 40
    again = call(app, "POST", f"{SNAPSHOTS}/{made['id']}/restore", {"suffix": "-old"})
    assert again.error[:2] == (400, 3002)
    chosen = {"suffix": "-2", "indexes": [{"account": "acme", "name": "docs"}]}
    assert call(app, "POST", f"{SNAPSHOTS}/{made['id']}/restore", chosen).result == [
        {"account": "acme", "name": "docs-2"}
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"suffix": ""}, "suffix: ''"),
        ({"suffix": "a/b"}, "suffix: 'a/b'"),
        ({"suffix": "x" * 33}, "suffix:"),
        ({}, "suffix"),
        ({"suffix": "-a", "folder": "/etc"}, "folder"),
        ({"suffix": "-a", "indexes": [{"account": "acme", "name": "none"}]}, "acme/none"),
    ],
)
def test_a_restore_that_cannot_be_is_refused(app: App, body: dict[str, Any], text: str) -> None:
    made = call(app, "POST", SNAPSHOTS).result

    status, _, message = call(app, "POST", f"{SNAPSHOTS}/{made['id']}/restore", body).error

    assert status in (400, 404)
    assert text in message


def test_a_name_that_would_be_too_long_is_refused(app: App, engine: EmbeddedEngine) -> None:
    create(engine, IndexAddress("acme", "n" * 60))
    made = call(app, "POST", SNAPSHOTS).result

    answer = call(app, "POST", f"{SNAPSHOTS}/{made['id']}/restore", {"suffix": "-restored"})

    assert answer.error[0] == 400
    assert "64 bytes" in answer.error[2]
    assert len(engine.list_indexes("acme")) == 2


@pytest.mark.parametrize("name", ["none", "..%2F..%2Fetc", "20260101-000000-00000g", "%00"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_leads_nowhere_else(app: App, name: str, method: str) -> None:
    call(app, "POST", SNAPSHOTS)

    assert call(app, method, f"{SNAPSHOTS}/{name}").error[0] == 404


def test_a_server_without_a_folder_says_what_to_set(tmp_path: Path, engine: EmbeddedEngine) -> None:
    snapshots = Snapshots(engine, tmp_path / "data", None, "0")
    app = application(tmp_path / "data", engine=engine, snapshots=snapshots)

    status, _, message = call(app, "POST", SNAPSHOTS).error

    assert status == 400
    assert "--snapshot-folder FOLDER" in message
    assert "snapshot create FILE.tar.zst" in message


def test_servers_that_share_a_database_name_its_own_backup(tmp_path: Path) -> None:
    app = application(tmp_path)

    for method, path in (("POST", SNAPSHOTS), ("GET", SNAPSHOTS), ("POST", f"{SNAPSHOTS}/stream")):
        status, _, message = call(app, method, path).error
        assert status == 400
        assert "pg_basebackup" in message


@pytest.mark.parametrize(
    ("permission", "account", "expected"),
    [(Permission.WRITE, None, 200), (Permission.READ, None, 403), (Permission.WRITE, "acme", 403)],
)
def test_only_a_token_that_may_do_everything_is_good(
    tmp_path: Path,
    engine: EmbeddedEngine,
    permission: Permission,
    account: str | None,
    expected: int,
) -> None:
    snapshots = Snapshots(engine, tmp_path / "data", tmp_path / "store", "0")
    with closing(Tokens(tmp_path / "data" / "tokens.db")) as tokens:
        _, secret = tokens.create("a", permission, account)
    app = application(tmp_path / "data", engine=engine, snapshots=snapshots)
    headers = {"authorization": f"Bearer {secret}"}

    for method, path in (("POST", SNAPSHOTS), ("GET", SNAPSHOTS)):
        assert call(app, method, path, headers=headers).status == expected
        assert call(app, method, path).status == 401
    if expected == 403:
        assert call(app, "POST", f"{SNAPSHOTS}/stream", headers=headers).status == 403
        assert not (tmp_path / "store").exists()


def test_pages_of_other_sites_and_foreign_hosts_are_refused(app: App, tmp_path: Path) -> None:
    foreign = {"host": "localhost", "origin": "https://evil.example"}
    rebound = {"host": "evil.example"}

    for method, path in (("POST", SNAPSHOTS), ("POST", f"{SNAPSHOTS}/stream")):
        assert call(app, method, path, headers=foreign).error[:2] == (403, 40088)
        assert call(app, method, path, headers=rebound).error[:2] == (403, 40087)
    assert not (tmp_path / "store").exists()


def test_a_stream_is_received_while_writes_are_answered(
    app: App, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    store = Store.create(tmp_path / "mine")
    with in_thread(app) as server, store.locked(writes=True):
        answer = httpx.post(f"{server.origin}{SNAPSHOTS}/stream", timeout=60)
        assert answer.headers["content-type"] == "application/zstd"
        snapshot = receive(io.BytesIO(answer.content), store)
        known = [f"shared/{path.parent.name}/{path.name}" for path in store.shared.glob("*/*")]
        again = httpx.post(f"{server.origin}{SNAPSHOTS}/stream", json={"known": known}, timeout=60)
        assert receive(io.BytesIO(again.content), store).id != snapshot.id

    with restored(store.folder, snapshot.id, tmp_path / "new") as other:
        assert contents(other) == contents(engine)


def ticket_of(app: App, headers: dict[str, str] | None = None) -> str:
    answer = call(app, "POST", f"{SNAPSHOTS}/tickets", headers=headers or {})
    assert answer.result["valid_s"] == 30
    return str(answer.result["ticket"])


def fetched(app: App, ticket: str, method: str = "GET", **headers: str) -> Received:
    return call(app, method, f"{SNAPSHOTS}/stream?ticket={ticket}", headers=headers)


def test_a_ticket_fetches_a_snapshot_once_as_a_file(app: App, tmp_path: Path) -> None:
    ticket = ticket_of(app)

    looked = fetched(app, ticket, "HEAD")
    answer = fetched(app, ticket)
    again = fetched(app, ticket)

    assert looked.status == 405
    assert looked.headers["allow"] == "GET, OPTIONS, POST"
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/zstd"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["cache-control"] == "no-store"
    store = Store.create(tmp_path / "fetched")
    with store.locked(writes=True):
        assert len(receive(io.BytesIO(answer.body), store).indexes) == 1
    assert again.error[0] == 401
    assert "good once, for 30 seconds" in again.error[2]


@pytest.mark.parametrize("ticket", ["", "x", "%00", "a" * 5_000, "../..", "None"])
def test_what_is_no_ticket_fetches_nothing(app: App, ticket: str) -> None:
    ticket_of(app)

    assert fetched(app, ticket).error[0] == 401
    assert call(app, "GET", f"{SNAPSHOTS}/stream").error[0] == 401


def test_a_ticket_is_worth_what_its_token_is(tmp_path: Path, engine: EmbeddedEngine) -> None:
    snapshots = Snapshots(engine, tmp_path / "data", tmp_path / "store", "0")
    app = application(tmp_path / "data", engine=engine, snapshots=snapshots)
    tokens = app.services.tokens
    owner, secret = tokens.create("owner", Permission.WRITE)
    others = [
        tokens.create("reader", Permission.READ)[1],
        tokens.create("of-acme", Permission.WRITE, "acme")[1],
    ]
    ticket = ticket_of(app, {"authorization": f"Bearer {secret}"})

    for other in others:
        headers = {"authorization": f"Bearer {other}"}
        assert call(app, "POST", f"{SNAPSHOTS}/tickets", headers=headers).status == 403
        assert call(app, "GET", f"{SNAPSHOTS}/stream", headers=headers).status == 401
    assert call(app, "POST", f"{SNAPSHOTS}/tickets").status == 401
    tokens.revoke(owner.id)
    assert fetched(app, ticket).error[0] == 401


def test_pages_of_other_sites_are_given_no_ticket_and_use_none(app: App) -> None:
    foreign = {"host": "localhost", "origin": "https://evil.example"}
    rebound = {"host": "evil.example"}
    embedded = {"host": "localhost", "sec-fetch-site": "cross-site"}
    ticket = ticket_of(app)

    for stranger in (foreign, rebound, embedded):
        assert call(app, "POST", f"{SNAPSHOTS}/tickets", headers=stranger).status == 403
        assert fetched(app, ticket, **stranger).status == 403
    assert fetched(app, ticket).status == 200


def test_a_listed_snapshot_is_fetched_as_it_was_taken(
    app: App, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    taken = call(app, "POST", SNAPSHOTS, {}).result
    before = contents(engine)
    engine.delete_index(DOCS)
    path = f"{SNAPSHOTS}/{taken['id']}/stream"

    answer = call(app, "GET", f"{path}?ticket={ticket_of(app)}")
    posted = call(app, "POST", path, {})

    assert answer.status == posted.status == 200
    name = f'attachment; filename="vicinal-snapshot-{taken["id"]}.tar.zst"'
    assert answer.headers["content-disposition"] == name
    assert answer.headers["cache-control"] == "no-store"
    for number, body in enumerate((answer.body, posted.body)):
        store = Store.create(tmp_path / f"fetched{number}")
        with store.locked(writes=True):
            assert receive(io.BytesIO(body), store).id == taken["id"]
        with restored(store.folder, taken["id"], tmp_path / f"new{number}") as other:
            assert contents(other) == before


@pytest.mark.parametrize("snapshot_id", ["20260101-000000-abcdef", "..%2f..%2fdata", "x", "%00"])
def test_a_snapshot_that_the_store_has_not_is_fetched_by_nobody(app: App, snapshot_id: str) -> None:
    call(app, "POST", SNAPSHOTS, {})

    answer = call(app, "GET", f"{SNAPSHOTS}/{snapshot_id}/stream?ticket={ticket_of(app)}")

    assert answer.status == 404
    assert call(app, "GET", f"{SNAPSHOTS}/{snapshot_id}/stream").status in (401, 404)


def test_a_listed_snapshot_that_is_damaged_or_gone_is_never_sent_whole(
    app: App, tmp_path: Path
) -> None:
    taken = call(app, "POST", SNAPSHOTS, {}).result
    path = f"{SNAPSHOTS}/{taken['id']}/stream"
    own = tmp_path / "store" / "snapshots" / taken["id"]
    log = next(file for file in own.iterdir() if file.name != "manifest")
    log.write_bytes(log.read_bytes()[:-1] + b"\0\1")

    damaged = call(app, "POST", path, {})
    log.unlink()
    missing = call(app, "POST", path, {})

    status, _, message = damaged.error
    assert status == 500
    assert f"{log} is damaged" in message
    status, _, message = missing.error
    assert status == 500
    assert f"{log} is missing" in message


def test_a_client_that_goes_ends_its_stream(
    app: App, engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()
    real = taking.take_snapshot

    def endless(server: taking.Server, sink: Any, snapshot_id: str, **options: Any) -> Any:
        try:
            while True:
                sink.compressed.write(time.monotonic_ns().to_bytes(8, "big") * 100_000)
        finally:
            is_over.set()
        return real(server, sink, snapshot_id, **options)

    monkeypatch.setattr("vicinal.snapshots.service.take_snapshot", endless)
    with in_thread(app) as server, httpx.Client(timeout=60) as client:
        with client.stream("POST", f"{server.origin}{SNAPSHOTS}/stream") as response:
            assert next(response.iter_raw(1_000))

        assert is_over.wait(60)


def test_one_snapshot_is_made_at_a_time(app: App, tmp_path: Path) -> None:
    with Store.create(tmp_path / "store").locked(writes=True):
        status, _, message = call(app, "POST", SNAPSHOTS).error

    assert status == 503
    assert "in use" in message


def test_snapshots_are_listed_while_one_is_made(app: App, tmp_path: Path) -> None:
    made = call(app, "POST", SNAPSHOTS).result

    with Store(tmp_path / "store").locked(writes=True):
        assert call(app, "GET", SNAPSHOTS).result == [made]


def test_the_schedule_makes_snapshots_and_keeps_the_newest_of_its_own(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    schedule = Schedule(interval_s=0.01, kept_count=2)
    snapshots = Snapshots(engine, tmp_path / "data", tmp_path / "store", "0", schedule)
    asked_for = [snapshots.create().id for _ in range(3)]  # more than the schedule keeps
    snapshots.start()
    seen: set[str] = set()

    def has_made_enough() -> bool:
        seen.update(Store(tmp_path / "store").ids())
        return len(seen) >= 7

    wait_until(has_made_enough)
    snapshots.stop()

    there = [snapshot.id for snapshot in snapshots.list()]
    assert there[:3] == asked_for
    assert there[3:] == sorted({*seen, *there})[-2:]


def test_a_schedule_that_fails_is_counted_and_goes_on(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    schedule = Schedule(interval_s=0.01, kept_count=1)
    snapshots = Snapshots(engine, tmp_path / "data", tmp_path / "store", "0", schedule)
    store = Store.create(tmp_path / "store")
    with store.locked(writes=True):
        snapshots.start()
        wait_until(lambda: snapshots.failure_count >= 2)

    wait_until(lambda: snapshots.newest() is not None)
    snapshots.stop()


def test_a_schedule_that_cannot_delete_makes_no_more_until_it_can(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    schedule = Schedule(interval_s=0.01, kept_count=1)
    snapshots = Snapshots(engine, tmp_path / "data", tmp_path / "store", "0", schedule)
    first = snapshots.create(is_scheduled=True).id
    store = Store(tmp_path / "store")
    in_the_way = store.unfinished(first)  # a file, where the folder is moved to
    in_the_way.write_text("")
    snapshots.start()
    wait_until(lambda: snapshots.failure_count >= 3)

    assert len(store.ids()) == 2
    assert first in store.ids()

    in_the_way.unlink()
    wait_until(lambda: first not in store.ids())
    snapshots.stop()


def test_metrics_have_the_age_of_the_newest(app: App) -> None:
    before = call(app, "GET", "/metrics").body.decode().splitlines()
    assert not [line for line in before if line.startswith("vicinal_snapshot_age_seconds")]

    call(app, "POST", SNAPSHOTS)

    text = call(app, "GET", "/metrics").body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith("vicinal_snapshot_age")]
    assert 0 <= float(line.split()[1]) < 3_600
    assert "vicinal_snapshot_failures_total 0.0" in text
    assert DOCS.name in text


def test_the_routes_say_that_they_are_ours(app: App) -> None:
    document = call(app, "GET", "/openapi.json").json

    paths = {path: item for path, item in document["paths"].items() if "/vicinal/" in path}
    assert len(paths) == 10
    for item in paths.values():
        for operation in item.values():
            assert "extension of Vicinal" in operation["summary"]


class Unread:
    """A stream whose reader takes nothing until it is let go."""

    def __init__(self) -> None:
        self.is_begun, self.may_go_on = threading.Event(), threading.Event()

    def write(self, data: bytes) -> int:
        self.is_begun.set()
        assert self.may_go_on.wait(120)
        return len(data)

    def flush(self) -> None:
        """Do nothing."""


def test_so_many_listed_snapshots_are_sent_at_one_time_and_no_more(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is read by a process of its own, for as long as its reader takes."""
    taken = call(app, "POST", SNAPSHOTS, {}).result
    monkeypatch.setattr("vicinal.snapshots.service.ProcessWork", InlineWork)
    unread = [Unread() for _ in range(SENT_MAX)]

    def send(stream: Unread) -> None:
        app.services.snapshots.write_stored(cast(IO[bytes], stream), taken["id"], frozenset())

    threads = [threading.Thread(target=send, args=(each,)) for each in unread]
    for thread in threads:
        thread.start()
    assert all(each.is_begun.wait(120) for each in unread)

    refused = call(app, "POST", f"{SNAPSHOTS}/{taken['id']}/stream", {})

    for each in unread:
        each.may_go_on.set()
    for thread in threads:
        thread.join()
    assert refused.error[:2] == (429, 40041)
    assert "4 snapshots are being sent" in refused.error[2]
    assert 'cause="overloaded_snapshots"' in call(app, "GET", "/metrics").body.decode()
    assert call(app, "POST", f"{SNAPSHOTS}/{taken['id']}/stream", {}).status == 200
