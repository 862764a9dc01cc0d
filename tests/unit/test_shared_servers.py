"""Servers that share a database, put together by `app.create` from settings."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import INDEXES, Received, call
from tests.support.ports import free_port
from tests.support.postgres import fresh_schema, server
from tests.support.waiting import wait_until
from vicinal import app
from vicinal.app import Application, create
from vicinal.cli import doctor
from vicinal.engine.shared import database as database_module
from vicinal.engine.shared import follower
from vicinal.engine.shared import tokens as tokens_module
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.report import DatabaseReport, NodeReport
from vicinal.errors import Error, InvalidInput, Unavailable
from vicinal.server.api import ops
from vicinal.settings import Settings
from vicinal.stores import open_tokens
from vicinal.tokens import Permission

Create = Callable[..., Application]
CONFIG = {"name": "docs", "config": {"dimensions": 2, "metric": "euclidean"}}
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture
def schema() -> str:
    return fresh_schema()


@pytest.fixture
def make(tmp_path: Path, schema: str) -> Iterator[Create]:
    """Make a server of settings; each has a data folder of its own."""
    made: list[Application] = []

    def make(**settings: object) -> Application:
        values = {"database": server().dsn, "database_schema": schema, "allowed_hosts": ("x",)}
        folder = tmp_path / f"data{len(made)}"
        made.append(create(Settings(data=folder, **{**values, **settings})))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for application in made:
        application.close()


def ask(
    application: Application, method: str, path: str, body: object = b"", **headers: str
) -> Received:
    return call(application.asgi, method, path, body, headers={"host": "localhost", **headers})


def test_what_one_server_stores_another_finds(make: Create) -> None:
    first, second = make(), make(consistency="strong")
    ask(first, "POST", INDEXES.replace("acme", "local"), CONFIG)
    docs = f"{INDEXES.replace('acme', 'local')}/docs"

    stored = ask(first, "POST", f"{docs}/upsert", b'{"id":"a","values":[1,2]}\n', **NDJSON)
    found = ask(second, "POST", f"{docs}/query", {"vector": [1, 2]})

    assert stored.status == 200
    assert [match["id"] for match in found.result["matches"]] == ["a"]


def test_a_token_is_good_for_all_servers_and_revoked_for_all(
    make: Create, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "REFRESH_S", 0.05)
    first, second = make(), make()
    assert ask(second, "GET", INDEXES).status == 200  # none is needed yet
    store = open_tokens(Settings(database=server().dsn, database_schema=schema))
    token, secret = store.create("ci", Permission.READ)

    def status(application: Application) -> int | None:
        bearer = {"authorization": f"Bearer {secret}"}
        return ask(application, "GET", INDEXES, **bearer).status

    for application in (first, second):
        wait_until(lambda it=application: ask(it, "GET", INDEXES).status == 401)  # type: ignore[misc]
        assert status(application) == 200
        bearer = {"authorization": f"Bearer {secret}"}
        assert ask(application, "POST", INDEXES, CONFIG, **bearer).status == 403
    assert [each.name for each in store.list()] == ["ci"]
    store.revoke(token.id)
    for application in (first, second):
        wait_until(lambda it=application: status(it) == 401)  # type: ignore[misc]
    assert make().needs_token  # there has been one
    store.disable()
    store.close()
    assert not make().needs_token


def test_a_server_beyond_loopback_needs_a_token_in_the_database(make: Create) -> None:
    with pytest.raises(InvalidInput, match="no token exists"):
        make(host="0.0.0.0")

    assert make(host="0.0.0.0", token=("secret",)).needs_token


def test_sql_databases_are_refused_with_the_reason(make: Create) -> None:
    application = make()

    for method, path, body in [
        ("POST", "/client/v4/accounts/local/d1/database/db/query", {"sql": "SELECT 1"}),
        ("GET", "/client/v4/accounts/local/d1/database", b""),
        ("GET", "/client/v4/accounts/local/d1/database/db", b""),
    ]:
        status, _, text = ask(application, method, path, body).error
        assert status == 503
        assert "SQL databases are files of one server" in text


def test_a_database_that_is_silent_leaves_a_server_ready_and_is_named(
    make: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "DATABASE_SILENT_S", 0.5)
    monkeypatch.setattr(database_module, "READ_TIMEOUT_S", 0.5)
    application = make()
    ask(application, "POST", INDEXES, CONFIG)
    wait_until(lambda: ask(application, "GET", "/readyz").json == {"status": "ok"})
    with server().hanging():
        wait_until(lambda: "silent" in ask(application, "GET", "/readyz").body.decode())
        answer = ask(application, "GET", "/readyz")
        lines = metrics(application)

    assert answer.status == 200
    assert answer.json["database"].startswith("silent for ")
    assert lines["vicinal_database_silent_seconds"] >= 0.5
    assert lines["vicinal_nodes"] == 1
    assert lines["vicinal_database_statement_seconds_count"] > 5
    assert "vicinal_copy_fills_total" in lines


def test_copies_that_are_far_behind_are_told_without_the_names_of_their_indexes(
    make: Create, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "LAG_S", 0.2)
    writer, behind = make(), make(visibility_delay_s=3_600.0)
    indexes = INDEXES.replace("acme", "local")
    ask(writer, "POST", indexes, CONFIG)
    query = {"vector": [1, 2]}
    wait_until(lambda: ask(behind, "POST", f"{indexes}/docs/query", query).status == 200)

    ask(writer, "POST", f"{indexes}/docs/upsert", b'{"id":"a","values":[1,2]}\n', **NDJSON)

    wait_until(lambda: "copies" in ask(behind, "GET", "/readyz").json)
    answer = ask(behind, "GET", "/readyz")
    assert answer.status == 200
    assert re.fullmatch(r"up to \d+ s and 1 mutations behind", answer.json["copies"])
    lines = metrics(behind)
    assert lines['vicinal_index_lag_mutations{account="local",index="docs"}'] == 1
    assert lines['vicinal_index_lag_seconds{account="local",index="docs"}'] >= 0.2
    wait_until(lambda: ask(writer, "GET", "/readyz").json == {"status": "ok"})


def test_the_work_of_a_node_is_counted(make: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "CHECKPOINT_AFTER_S", 0.01)
    application = make()
    indexes = INDEXES.replace("acme", "local")
    ask(application, "POST", indexes, CONFIG)
    body = b'{"id":"a","values":[1,2]}\n'
    ask(application, "POST", f"{indexes}/docs/upsert", body, **NDJSON, prefer="wait=60")

    # The follower notes where it is a moment after what it applied is visible.
    lag = 'vicinal_index_lag_mutations{account="local",index="docs"}'
    wait_until(lambda: metrics(application)["vicinal_checkpoints_total"] >= 1)
    wait_until(lambda: metrics(application).get(lag) == 0)

    lines = metrics(application)
    assert lines["vicinal_copy_fills_total"] == 1
    assert lines["vicinal_copy_fill_seconds_total"] > 0
    assert lines["vicinal_checkpoint_seconds_total"] > 0
    assert lines["vicinal_database_round_trip_seconds"] > 0
    assert lines['vicinal_index_lag_seconds{account="local",index="docs"}'] == 0


def metrics(application: Application) -> dict[str, float]:
    text = ask(application, "GET", "/metrics").body.decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#"]
    return {name: float(value) for name, value in lines}


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("mysql://hush@x/y", "is no PostgreSQL URL"),
        ("postgresql://vicinal@127.0.0.1:{port}/absent", "does not exist"),
        ("postgresql://nobody:hush@127.0.0.1:{port}/postgres", "refuses the user or password"),
        ("postgresql://vicinal@127.0.0.1:9/postgres", "cannot be reached"),
        ("postgresql://weak@127.0.0.1:{port}/postgres", "lacks a right"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_in_one_sentence(
    make: Create, dsn: str, message: str
) -> None:
    if "weak" in dsn:
        server().sql("DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN")

    with pytest.raises(Error, match=message) as caught:
        make(database=dsn.format(port=server().port))

    assert "hush" not in str(caught.value)


def test_tables_of_a_newer_version_are_left_alone(make: Create, schema: str) -> None:
    make()
    database = PostgresDatabase(server().dsn, schema)

    async def upgrade() -> None:
        async with database.session(Use.READ) as session:
            await session.execute("UPDATE vicinal.cluster SET format = 99")

    database.run_coroutine(upgrade())
    database.close()

    with pytest.raises(Unavailable, match="of format 99, made by a newer version"):
        make()


def test_a_server_without_the_driver_says_what_to_install(
    make: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("vicinal.engine.shared"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(InvalidInput, match=r"pip install 'vicinal\[postgres\]'"):
        make()


def seen_by_doctor(**settings: object) -> dict[str, tuple[str, str]]:
    values = {"database": server().dsn, "port": free_port(), **settings}
    found = doctor.examine(Settings(**values))  # type: ignore[arg-type]
    return {each.subject: (each.verdict.value, each.seen) for each in found}


def test_the_doctor_says_what_a_database_promises(
    make: Create, schema: str, tmp_path: Path
) -> None:
    data = tmp_path / "doctor"

    before = seen_by_doctor(data=data, database_schema=schema)
    make()
    ask(make(), "POST", INDEXES, CONFIG)
    wait_until(lambda: len(nodes(seen_by_doctor(data=data, database_schema=schema))) == 2)
    after = seen_by_doctor(data=data, database_schema=schema)

    assert before["database"][0] == "ok"
    assert "its tables will be made" in before["database"][1]
    assert "1 indexes" in after["database"][1]
    verdict, seen = after["durability"]
    assert (verdict, "fsync" in seen) == ("warning", True)  # as the tests' server has it
    assert after["clock"][0] == "ok"
    assert all("copies, at most" in after[subject][1] for subject in nodes(after))


def nodes(found: dict[str, tuple[str, str]]) -> list[str]:
    return [subject for subject in found if subject.startswith("node ")]


def test_the_doctor_names_what_is_wrong_with_a_database(tmp_path: Path) -> None:
    absent = f"postgresql://vicinal@127.0.0.1:{server().port}/absent"

    verdict, seen = seen_by_doctor(data=tmp_path / "data", database=absent)["database"]

    assert verdict == "problem"
    assert "does not exist" in seen


HEALTHY = DatabaseReport(
    version="15.4",
    round_trip_s=0.001,
    clock_ahead_s=0.0,
    is_synced=True,
    standby_names="ANY 1 (a, b)",
    standby_count=2,
    format=1,
    may_create=True,
    missing_rights=(),
    index_count=3,
    nodes=(NodeReport("one (1234)", 0.5, 2, 0), NodeReport("two (5678)", 0.5, 2, 7)),
    unfolded_bytes=0,
)


def test_the_doctor_has_nothing_against_a_healthy_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(tmp_path, monkeypatch)

    assert found["durability"] == ("ok", "writes are confirmed by 3 servers or a quorum of them")
    assert found["node two (5678)"] == (
        "ok",
        "seen 0 s ago, 2 copies, at most 7 mutations behind",
    )
    assert {found[subject][0] for subject in ("database", "clock", *nodes(found))} == {"ok"}
    assert "rows" not in found


@pytest.mark.parametrize(
    ("changes", "subject", "verdict", "text"),
    [
        ({"format": None, "may_create": False}, "database", "problem", "tables cannot be made"),
        (
            {"missing_rights": ["INSERT on head", "UPDATE on head", "a", "b"]},
            "database", "problem", "lacks INSERT on head, UPDATE on head, a and 1 more",
        ),
        ({"standby_names": "", "standby_count": 0}, "durability", "warning", "confirmed by 1 serv"),
        ({"standby_names": "", "standby_count": None}, "durability", "warning", "by 1 server"),
        ({"standby_count": 0}, "durability", "warning", "none of these is connected"),
        ({"standby_count": None}, "durability", "ok", "only a member of pg_read_all_stats sees"),
        ({"is_synced": False}, "durability", "warning", "fsync or full_page_writes is off"),
        ({"clock_ahead_s": -9.0}, "clock", "warning", "differs by 9.0 s"),
        ({"nodes": [NodeReport("a", 0.5, 1, 10_000), NodeReport("b", 0.5, 1, 0)]}, "node a",
         "warning", "10,000 mutations behind"),
        ({"nodes": [NodeReport("a", 60.0, 1, 9)]}, "node a", "ok", "60 s ago; it has stopped"),
        ({"nodes": [NodeReport("a", 0.5, 1, 99_999)]}, "node a", "ok", "0 s ago, 1 copies"),
        ({"unfolded_bytes": 2 << 30}, "rows", "warning", "2,048 MiB of the log are not in the"),
    ],
)  # fmt: skip
def test_the_doctor_says_what_a_database_lacks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    subject: str,
    verdict: str,
    text: str,
) -> None:
    seen = judged(tmp_path, monkeypatch, **changes)[subject]

    assert (seen[0], text in seen[1]) == (verdict, True), seen[1]


def judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> dict[str, tuple[str, str]]:
    report = replace(HEALTHY, **changes)
    monkeypatch.setattr(app, "database_report", lambda _settings: report)
    return seen_by_doctor(data=tmp_path / "data")


def test_the_doctor_names_rights_to_the_tables_that_the_user_lacks(
    make: Create, schema: str, tmp_path: Path
) -> None:
    make()
    server().sql(
        "DROP ROLE IF EXISTS onlooker; CREATE ROLE onlooker LOGIN;"
        f"GRANT USAGE ON SCHEMA {schema} TO onlooker;"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO onlooker"
    )
    dsn = server().dsn.replace("vicinal@", "onlooker@")

    found = seen_by_doctor(data=tmp_path / "doctor", database=dsn, database_schema=schema)

    assert found["database"][0] == "problem"
    assert "the user lacks DELETE on catalog, INSERT on catalog" in found["database"][1]
    server().sql("DROP OWNED BY onlooker")
