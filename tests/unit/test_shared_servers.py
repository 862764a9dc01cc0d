"""Servers that share a database, put together by `app.create` from settings."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, Received, call
from tests.support.postgres import fresh_schema, server
from tests.support.waiting import wait_until
from vicinal.app import Application, create, open_tokens
from vicinal.cli import doctor
from vicinal.engine.shared import database as database_module
from vicinal.engine.shared import tokens as tokens_module
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.errors import Error, InvalidInput, Unavailable
from vicinal.server.api import ops
from vicinal.settings import Settings
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
        metrics = ask(application, "GET", "/metrics").body.decode()

    assert answer.status == 200
    assert answer.json["database"].startswith("silent for ")
    lines = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[:1] != "#")
    assert float(lines["vicinal_database_silent_seconds"]) >= 0.5
    assert lines["vicinal_nodes"] == "1.0"
    assert float(lines["vicinal_database_statement_seconds_count"]) > 5
    assert "vicinal_copy_fills_total" in lines


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
    values = {"database": server().dsn, **settings}
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


def nodes(found: dict[str, tuple[str, str]]) -> list[str]:
    return [subject for subject in found if subject.startswith("node ")]


def test_the_doctor_names_what_is_wrong_with_a_database(tmp_path: Path) -> None:
    absent = f"postgresql://vicinal@127.0.0.1:{server().port}/absent"

    verdict, seen = seen_by_doctor(data=tmp_path / "data", database=absent)["database"]

    assert verdict == "problem"
    assert "does not exist" in seen
