"""The primary is lost, and a standby takes its place.

With a synchronous standby nothing acknowledged is lost and nothing is there twice; with one that
lags, copies notice that the log went back. Servers are killed, not stopped; they sync.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.engines import DOCS, Record, batch, create, found, insert, vector
from tests.support.postgres import Postgres
from tests.support.waiting import wait_until
from vicinal.engine.shared import follower
from vicinal.engine.shared.engine import SharedEngine, SharedOptions
from vicinal.engine.shared.report import examine
from vicinal.errors import Unavailable
from vicinal.model import Accepted, Delete, Query, Upsert

WITHIN_S = 60.0
ALL = Query(top_k=100, vector=vector(0, 0))
OpenNode = Callable[..., SharedEngine]


class Pair:
    """A primary and a standby of it."""

    def __init__(self) -> None:
        self.primary = Postgres(is_durable=True)
        self.standby = Postgres(is_durable=True)

    def start(self) -> None:
        self.primary.initialise()
        self.primary.start()
        self.standby.follow(self.primary, name="second")

    @property
    def dsn(self) -> str:
        ports = (self.primary.port, self.standby.port)
        return (
            "postgresql://vicinal@"
            + ",".join(f"127.0.0.1:{port}" for port in ports)
            + ("/postgres")
        )

    def wait_for_standby(self) -> None:
        """Have every COMMIT wait until the standby has it, from now on."""
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'second'")
        self.primary.sql("SELECT pg_reload_conf()")
        wait_until(lambda: self.primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync")

    def disconnect(self) -> None:
        """Have the standby get nothing more."""
        self.standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.sql("SELECT pg_reload_conf()")
        wait_until(lambda: self.primary.sql("SELECT count(*) FROM pg_stat_replication") == "0")

    def promote(self) -> None:
        self.standby.promote()

    def close(self) -> None:
        self.standby.close()
        self.primary.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    try:
        pair.start()
        yield pair
    finally:
        pair.close()


@pytest.fixture
def open_node(pair: Pair, tmp_path: Path) -> Iterator[OpenNode]:
    """Open a node with a folder of its own."""
    opened: list[SharedEngine] = []

    def open_(write_deadline_s: float = WITHIN_S) -> SharedEngine:
        options = SharedOptions(pair.dsn, write_deadline_s=write_deadline_s, open_wait_s=WITHIN_S)
        opened.append(SharedEngine.open(tmp_path / f"node{len(opened)}", options))
        return opened[-1]

    yield open_
    for engine in opened:
        engine.close()


def test_nothing_acknowledged_is_lost_or_there_twice_when_the_primary_is_killed(
    pair: Pair, open_node: OpenNode
) -> None:
    pair.wait_for_standby()
    engine, reader = open_node(), open_node()
    create(engine)
    insert(engine, Record("a", [0, 0]))
    assert found(reader, ALL) == ["a"]
    accepted: list[tuple[str, Accepted]] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            id_ = f"w{writer}-{number}"
            upsert = Upsert(batch(Record(id_, [writer, number])))
            accepted.append((id_, engine.append(DOCS, upsert).result(WITHIN_S)))
            number += 1

    def read() -> int:
        count = 0
        while not stop.is_set():
            assert "a" in found(reader, Query(top_k=1, vector=vector(0, 0)))
            count += 1
        return count

    with ThreadPoolExecutor(5) as threads:
        writers = [threads.submit(write, number) for number in range(4)]
        reads = threads.submit(read)
        try:
            wait_until(lambda: len(accepted) > 200)
            pair.primary.kill()
            pair.promote()
            count = len(accepted)
            wait_until(lambda: len(accepted) > count + 200, WITHIN_S)
        finally:
            stop.set()
        for each in writers:
            each.result(WITHIN_S)
        assert reads.result(WITHIN_S) > 0
    # Both are told of writes again, by the new primary.
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
    wait_until(lambda: pair.standby.sql(listening) == "2")

    rows = pair.standby.sql("SELECT seqno, mutation_id FROM vicinal.mutation ORDER BY seqno")
    log = {int(seqno): id_ for seqno, id_ in (line.split("\t") for line in rows.splitlines())}
    assert sorted(log) == list(range(1, len(log) + 1))
    assert len(set(log.values())) == len(log)
    assert all(log[each.seqno] == each.mutation_id for _, each in accepted)
    last = max(each.seqno for _, each in accepted)
    for node in (engine, reader):
        assert node.wait_applied(DOCS, last, WITHIN_S)
        assert len(node.get(DOCS, [id_ for id_, _ in accepted])) == len(accepted)


def test_a_write_that_its_standby_does_not_have_is_not_acknowledged(
    pair: Pair, open_node: OpenNode
) -> None:
    """Also when somebody cancels the wait for the standby: it is on the primary alone then."""
    pair.wait_for_standby()
    engine = open_node()
    create(engine)
    insert(engine, Record("a", [0, 0]))
    pair.standby.pause()

    waiting: Future[Accepted] = engine.append(DOCS, Upsert(batch(Record("b", [1, 1]))))
    in_wait = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    wait_until(lambda: pair.primary.sql(f"SELECT count(*) {in_wait}") == "1")
    assert pair.primary.sql(f"SELECT pg_cancel_backend(pid) {in_wait}") == "t"
    # It is tried again, is found in the log, and waits for the standby again.
    wait_until(
        lambda: (
            pair.primary.sql("SELECT max(seqno) FROM vicinal.mutation") == "2"
            and pair.primary.sql(f"SELECT count(*) {in_wait}") == "1"
        )
    )
    assert not waiting.done()
    pair.standby.resume()

    assert waiting.result(WITHIN_S).seqno == 2
    assert pair.primary.sql("SELECT count(*) FROM vicinal.mutation") == "2"


def test_a_write_without_its_standby_is_refused_at_the_deadline_with_its_outcome_unknown(
    pair: Pair, open_node: OpenNode
) -> None:
    pair.wait_for_standby()
    report = examine(pair.dsn, "vicinal")
    assert (report.is_synced, report.standby_names, report.standby_count) == (True, "second", 1)
    with pytest.raises(Unavailable, match="takes no writes"):
        examine(pair.standby.dsn, "vicinal")
    writer, engine = open_node(), open_node(write_deadline_s=1.0)
    create(writer)
    assert found(engine, ALL) == []
    pair.standby.pause()

    with pytest.raises(Unavailable, match="is not known"):
        engine.append(DOCS, Delete(["a"])).result(WITHIN_S)

    pair.standby.resume()
    insert(writer, Record("b", [1, 1]))
    wait_until(lambda: found(engine, ALL) == ["b"])


def test_copies_notice_that_an_asynchronous_standby_lacked_the_end_of_the_log(
    pair: Pair, open_node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "CHECKPOINT_AFTER_S", 0.05)
    engine, other = open_node(), open_node()
    create(engine)
    insert(engine, Record("a", [1, 1]))
    assert found(other, ALL) == ["a"]
    wait_until(lambda: pair.standby.sql("SELECT seqno FROM vicinal.folded") == "1")
    pair.disconnect()
    lost = insert(engine, Record("lost", [2, 2]))
    assert found(engine, ALL) == ["a", "lost"]
    cursor = engine.list(DOCS, 1, None).next_cursor
    assert cursor is not None
    pair.primary.kill()
    pair.promote()

    taken = engine.append(DOCS, Upsert(batch(Record("kept", [3, 3])))).result(WITHIN_S)

    assert taken.seqno == lost.seqno
    for node in (engine, other):
        wait_until(lambda node=node: found(node, ALL) == ["a", "kept"])  # type: ignore[misc]
        assert node.status(DOCS).applied_mutation == taken.mutation_id
        assert node.list(DOCS, 9, None).ids == ["a", "kept"]


def test_a_database_that_is_killed_and_started_again_has_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    with ExitStack() as opened:
        database = Postgres(is_durable=True)
        opened.callback(database.close)
        database.initialise()
        database.start()
        options = SharedOptions(database.dsn, write_deadline_s=WITHIN_S, open_wait_s=WITHIN_S)
        engine = SharedEngine.open(tmp_path, options)
        opened.callback(engine.close)
        create(engine)
        assert found(engine, ALL) == []
        for round_ in range(3):
            futures = [
                engine.append(DOCS, Upsert(batch(Record(f"v{round_}-{number}", [number, 1]))))
                for number in range(50)
            ]
            futures[20].result(WITHIN_S)
            database.kill()
            assert engine.query(DOCS, ALL).matches is not None
            database.start()
            seqnos = [each.result(WITHIN_S).seqno for each in futures]
            assert seqnos == list(range(50 * round_ + 1, 50 * round_ + 51))
        assert engine.wait_applied(DOCS, seqnos[-1], WITHIN_S)
        assert engine.status(DOCS).vector_count == 150
