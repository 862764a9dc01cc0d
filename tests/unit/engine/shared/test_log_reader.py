"""Reading the log, of which a node keeps the newest records for a while."""

import threading
from collections.abc import Iterator
from uuid import UUID

import numpy as np
import pytest

from tests.support.holding import HELD_S_MAX
from tests.support.ledgers import Writer
from tests.support.waiting import wait_until
from vicinal.engine.shared import log_reader, log_records
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.log_reader import LogReader
from vicinal.errors import Corruption
from vicinal.model import Delete, Seqno, Upsert, VectorBatch
from vicinal.storage import private

WIDTH = 100


@pytest.fixture
def writer(database: PostgresDatabase) -> Iterator[Writer]:
    writer = Writer(database)
    yield writer
    writer.close()


def upsert(id_: str, count: int = 200) -> Upsert:
    """A mutation that is long enough to be kept."""
    values = np.full((count, WIDTH), 1.5, np.float32)
    ids = [f"{id_}{number}" for number in range(count)]
    return Upsert(VectorBatch(ids, values, [""] * count, [b""] * count))


def fetched(writer: Writer, reader: LogReader, index_id: UUID) -> list[object]:
    """The mutations of a log."""
    return writer.database.run_coroutine(mutations(writer, reader, index_id))


async def mutations(writer: Writer, reader: LogReader, index_id: UUID) -> list[object]:
    async with writer.database.session(Use.READ) as session:
        rows = await reader.fetch(session, index_id, Seqno(1), 1 << 30, 1_000)
        return [row.decode().mutation for row in rows]


def spoil(writer: Writer, seqno: int) -> None:
    """Change a record in the database: who asks it for that finds damage."""
    writer.fetch(
        "UPDATE vicinal.mutation SET record = set_byte(record, 9, 255) WHERE seqno = $1"
        " RETURNING seqno",
        seqno,
    )


def ids(mutation: object) -> str:
    return mutation.batch.ids[0] if isinstance(mutation, Upsert) else "deleted"


def test_the_database_is_not_asked_for_what_was_logged_here_a_moment_ago(writer: Writer) -> None:
    index_id = writer.create(dimensions=WIDTH)
    writer.log(index_id, upsert("a"), Delete(["x"]), upsert("b"))
    spoil(writer, 1)

    found = fetched(writer, writer.log_reader, index_id)

    assert [ids(each) for each in found] == ["a0", "deleted", "b0"]
    with pytest.raises(Corruption):
        fetched(writer, LogReader(writer.folder), index_id)


def test_nor_for_what_was_read_a_moment_ago(writer: Writer) -> None:
    index_id = writer.create(dimensions=WIDTH)
    writer.log(index_id, upsert("a"))
    other = LogReader(writer.folder)
    fetched(writer, other, index_id)
    spoil(writer, 1)

    assert [ids(each) for each in fetched(writer, other, index_id)] == ["a0"]


def test_a_record_that_is_kept_counts_only_where_the_log_has_its_mutation(writer: Writer) -> None:
    """As after a failover that has lost it."""
    index_id = writer.create(dimensions=WIDTH)
    writer.log(index_id, upsert("a"), upsert("b"))
    writer.fetch("DELETE FROM vicinal.mutation WHERE seqno = 2 RETURNING seqno")

    assert [ids(each) for each in fetched(writer, writer.log_reader, index_id)] == ["a0"]


def test_records_of_two_indexes_are_not_mixed_up(writer: Writer) -> None:
    first, second = writer.create("one", WIDTH), writer.create("two", WIDTH)
    writer.log(first, upsert("a"))
    writer.log(second, upsert("b"))

    assert [ids(each) for each in fetched(writer, writer.log_reader, first)] == ["a0"]
    assert [ids(each) for each in fetched(writer, writer.log_reader, second)] == ["b0"]


def test_what_is_kept_is_bounded_in_bytes_and_in_time(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "KEPT_BYTES_MAX", 250_000)  # three of them
    index_id = writer.create(dimensions=WIDTH)
    writer.log(index_id, *(upsert(name) for name in "abcde"))
    for seqno in (3, 4, 5):
        spoil(writer, seqno)
    assert [ids(each) for each in fetched(writer, writer.log_reader, index_id)] == [
        f"{name}0" for name in "abcde"
    ]

    monkeypatch.setattr(log_reader, "KEPT_S", 0.0)
    writer.log_reader.evict()

    with pytest.raises(Corruption):
        fetched(writer, writer.log_reader, index_id)


def test_short_records_are_not_kept(writer: Writer) -> None:
    index_id = writer.create(dimensions=WIDTH)
    writer.log(index_id, upsert("a", count=3))
    spoil(writer, 1)

    with pytest.raises(Corruption):
        fetched(writer, writer.log_reader, index_id)


def test_a_fetch_that_is_given_up_leaves_no_file_though_one_is_being_opened(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a node is closed while it reads: the thread that opens the file is not stopped."""
    monkeypatch.setattr(log_records, "PART_BYTES", 10_000)
    index_id = writer.create(dimensions=WIDTH)
    writer.log(index_id, upsert("a"))
    begun, given_up, opened = threading.Event(), threading.Event(), threading.Event()
    real = private.opener

    def opener(path: str, flags: int) -> int:
        begun.set()
        assert given_up.wait(HELD_S_MAX)
        descriptor = real(path, flags)
        opened.set()
        return descriptor

    async def fetch() -> None:
        try:
            await mutations(writer, LogReader(writer.folder), index_id)
        finally:
            given_up.set()

    monkeypatch.setattr(private, "opener", opener)
    fetching = writer.database.submit(fetch())
    assert begun.wait(HELD_S_MAX)
    fetching.cancel()

    assert opened.wait(HELD_S_MAX)
    wait_until(lambda: not list(writer.folder.iterdir()))
