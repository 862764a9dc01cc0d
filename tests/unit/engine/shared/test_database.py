"""Connections to the database: where they go, and that every call ends."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import asyncpg
import pytest

from tests.support.ledgers import WITHIN_S, another
from tests.support.postgres import server
from tests.support.waiting import wait_until
from vicinal.engine.shared import database as module
from vicinal.engine.shared.database import PostgresDatabase, Use, hosts
from vicinal.engine.shared.failures import Lost
from vicinal.engine.shared.session import Session, Timeouts
from vicinal.errors import Unavailable

BOUND_S = 0.5  # of a statement that takes longer than that


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://u:p@one/db", [("one", 5432)]),
        ("postgres://one:1/db", [("one", 1)]),
        ("postgresql://u:p@one:1,two,three:3/db", [("one", 1), ("two", 5432), ("three", 3)]),
        ("postgresql://u@[::1]:7/db", [("::1", 7)]),
        ("postgresql:///db?host=/run/x&port=7", [("/run/x", 7)]),
        ("postgresql:///db?host=a,b&port=1,2", [("a", 1), ("b", 2)]),
        ("postgresql:///db?host=a,b&port=9", [("a", 9), ("b", 9)]),
        ("postgresql://%2Frun%2Fx/db", [("/run/x", 5432)]),
        ("postgresql:///db", [(None, 5432)]),
    ],
)
def test_the_hosts_of_a_url_are_tried_in_its_order(
    dsn: str, expected: list[tuple[str | None, int]]
) -> None:
    assert hosts(dsn) == expected


@pytest.mark.parametrize("dsn", ["", "x", "mysql://u:hush@h/d", "postgresql://u:hush@h:port/d"])
def test_what_is_no_url_of_postgresql_is_refused_without_repeating_it(dsn: str) -> None:
    with pytest.raises(Unavailable, match="is no PostgreSQL URL") as caught:
        hosts(dsn)

    assert "hush" not in str(caught.value)


def fetch(database: PostgresDatabase, sql: str) -> object:
    async def work(session: Session) -> object:
        return (await session.fetchrow(sql))[0]

    return database.run_coroutine(database.read(work))


def test_the_host_that_takes_writes_is_found_and_kept(database: PostgresDatabase) -> None:
    port = server().port
    dsn = f"postgresql://vicinal@127.0.0.1:9,127.0.0.1:{port}/postgres"
    several = PostgresDatabase(dsn, database.schema)

    assert fetch(several, "SELECT 7") == 7
    assert several._hosts[0] == ("127.0.0.1", port)  # noqa: SLF001 - nothing else shows it
    several.close()


def test_a_statement_that_takes_too_long_is_cut_off_and_the_next_is_not(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "READ_TIMEOUT_S", BOUND_S)
        with pytest.raises(Lost, match=r"did not answer within 0\.5 s"):
            fetch(database, f"SELECT pg_sleep({10 * WITHIN_S})::text")

    assert fetch(database, "SELECT 7") == 7


def test_a_connection_that_the_driver_takes_for_busy_is_lost_and_another_made(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a server shuts down: it says so on idle connections, and ends them a moment later."""
    pid = fetch(database, "SELECT pg_backend_pid()")
    with monkeypatch.context() as patch:
        fetchrow = asyncpg.Connection.fetchrow

        async def refuse_once(*_: object) -> None:
            patch.setattr(asyncpg.Connection, "fetchrow", fetchrow)
            raise asyncpg.InternalClientError("cannot switch to state 12")

        patch.setattr(asyncpg.Connection, "fetchrow", refuse_once)
        assert fetch(database, "SELECT pg_backend_pid()") != pid


def test_a_transaction_that_the_server_rolled_back_is_not_taken_for_committed(
    database: PostgresDatabase,
) -> None:
    async def fail() -> None:
        async with database.transaction(Use.APPEND) as session:
            with suppress(Unavailable):  # and goes on, as nothing of ours does
                await session.execute("SELECT 1 / 0")

    with pytest.raises(Lost, match="answered COMMIT with ROLLBACK"):
        database.run_coroutine(fail())


def test_locks_of_another_node_are_waited_for_no_longer_than_said(
    database: PostgresDatabase,
) -> None:
    other = another(database)

    async def lock(session: Session) -> None:
        await session.execute("SELECT * FROM vicinal.cluster FOR UPDATE")

    async def hold_and_ask() -> None:
        async with database.transaction(Use.APPEND) as session:
            await lock(session)
            async with database.transaction(
                Use.CHECKPOINT, timeouts=Timeouts(lock_s=0.1)
            ) as waiting:
                await lock(waiting)

    with pytest.raises(Lost, match="lock timeout"):
        database.run_coroutine(hold_and_ask())
    assert fetch(other, "SELECT count(*) FROM vicinal.cluster") == 1
    other.close()


def test_closing_ends_every_call_and_refuses_later_ones(database: PostgresDatabase) -> None:
    async def sleep() -> None:
        async with database.session(Use.READ, 60.0) as session:
            await session.execute("SELECT pg_sleep(60)")

    sleeping = database.submit(sleep())
    fetch(database, "SELECT 1")

    database.close()

    assert sleeping.done()
    with pytest.raises(Unavailable, match="closed"):
        fetch(database, "SELECT 1")


def test_closing_ends_although_a_call_does_not_and_tells_who_waits_for_it(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_WITHIN_S", 0.1)
    has_begun = threading.Event()

    async def go_on() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                has_begun.set()
                await asyncio.sleep(3_600)

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(database.run_coroutine, go_on())
        assert has_begun.wait(WITHIN_S)

        database.close()

        with pytest.raises(Unavailable, match="the engine is closed"):
            waiting.result(WITHIN_S)


def test_a_connection_whose_use_ends_while_the_database_is_being_closed_is_closed(
    database: PostgresDatabase,
) -> None:
    """After closing has begun and before it is the turn of those connections that are in use."""
    has_begun, may_end = threading.Event(), threading.Event()
    watching = PostgresDatabase(server().dsn, database.schema)

    async def use() -> object:
        async with database.session(Use.READ) as session:
            pid = (await session.fetchrow("SELECT pg_backend_pid()"))[0]
            has_begun.set()
            assert may_end.wait(WITHIN_S)  # holds the loop, and all that is to be done in it
            kept.append(session)  # else it may be closed as garbage
            return pid

    kept: list[Session] = []
    using = database.submit(use())
    assert has_begun.wait(WITHIN_S)
    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(database.close)
        wait_until(lambda: is_closed(database))
        may_end.set()
        closing.result(WITHIN_S)

    count = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {using.result()}"
    wait_until(lambda: fetch(watching, count) == 0)
    watching.close()


def is_closed(database: PostgresDatabase) -> bool:
    """Tell whether it refuses calls."""
    try:
        database.submit(asyncio.sleep(0))
    except Unavailable:
        return True
    return False
