"""Listings of the rows and their cursors."""

import time
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest

from tests.support.engines import Record, batch
from tests.support.ledgers import Writer
from vicinal.engine.shared.database import PostgresDatabase
from vicinal.engine.shared.listing import Listings, ListPosition, SharedCursors
from vicinal.errors import BadCursor
from vicinal.model import Delete, Page, Upsert


@pytest.fixture
def writer(database: PostgresDatabase) -> Iterator[Writer]:
    writer = Writer(database)
    yield writer
    writer.close()


def listings(writer: Writer, lifetime_s: float = 900.0) -> Listings:
    return Listings(writer.database, SharedCursors(b"k" * 32), lifetime_s)


def put(writer: Writer, index_id: UUID, *ids: str) -> None:
    upsert = Upsert(batch(*(Record(each, [1, 2]) for each in ids)))
    writer.fold(index_id, writer.log(index_id, upsert)[-1].seqno)


def delete(writer: Writer, index_id: UUID, *ids: str) -> None:
    writer.fold(index_id, writer.log(index_id, Delete(ids))[-1].seqno)


def first(writer: Writer, index_id: UUID, count: int) -> Page:
    return writer.database.run_coroutine(listings(writer).first(index_id, "docs", count))


def rest(writer: Writer, index_id: UUID, page: Page) -> Sequence[str]:
    """Read the rest of a listing, each page by a node of its own."""
    ids: list[str] = []
    while page.next_cursor is not None:
        found, _ = writer.database.run_coroutine(
            listings(writer).next(index_id, 3, page.next_cursor)
        )
        assert found is not None
        assert found.total_count == page.total_count
        page = found
        ids += page.ids
    return ids


def test_pages_on_any_node_describe_the_rows_as_the_first_did(writer: Writer) -> None:
    index_id = writer.create()
    ids = [f"v{number:02}" for number in range(20)]
    put(writer, index_id, *ids)

    page = first(writer, index_id, 3)
    delete(writer, index_id, "v05", "v10", "v19")
    put(writer, index_id, "v10", "v07", "a", "v055", "z")
    delete(writer, index_id, "v07", "v10", "a")

    assert [*page.ids, *rest(writer, index_id, page)] == ids
    again = first(writer, index_id, 100)
    assert list(again.ids) == sorted({*ids, "v055", "z"} - {"v05", "v10", "v19", "v07"})
    assert again.total_count == len(again.ids)


def test_a_cursor_that_nobody_gave_out_or_of_another_index_is_refused(writer: Writer) -> None:
    index_id, other = writer.create(), writer.create("other")
    put(writer, index_id, "a", "b", "c")
    put(writer, other, "a", "b", "c")
    cursor = first(writer, index_id, 1).next_cursor
    assert cursor is not None
    position = ListPosition(index_id.bytes, 1, b"", 3, b"a", time.time(), time.time() + 99)
    forged = SharedCursors(b"other").encode(position)

    for index, bad in [
        (other, cursor), (index_id, forged), (index_id, ""), (index_id, "%%"), (index_id, "AAAA"),
        (index_id, cursor[:-4]), (uuid4(), cursor),
    ]:  # fmt: skip
        with pytest.raises(BadCursor):
            writer.database.run_coroutine(listings(writer).next(index, 1, bad))


def test_a_cursor_expires_by_the_databases_clock(writer: Writer) -> None:
    index_id = writer.create()
    put(writer, index_id, "a", "b", "c")
    short = listings(writer, lifetime_s=-1.0)
    cursor = writer.database.run_coroutine(short.first(index_id, "docs", 1)).next_cursor
    assert cursor is not None

    with pytest.raises(BadCursor, match="expired"):
        writer.database.run_coroutine(short.next(index_id, 1, cursor))


def test_a_state_that_a_failover_took_back_is_not_listed_further(writer: Writer) -> None:
    index_id = writer.create()
    put(writer, index_id, "a", "b", "c")
    cursor = first(writer, index_id, 1).next_cursor
    assert cursor is not None
    writer.fetch("UPDATE vicinal.mutation SET mutation_id = gen_random_uuid() RETURNING seqno")

    with pytest.raises(BadCursor):
        writer.database.run_coroutine(listings(writer).next(index_id, 1, cursor))


def test_rows_that_a_crash_took_back_are_waited_for(writer: Writer) -> None:
    index_id = writer.create()
    put(writer, index_id, "a", "b", "c")
    cursor = first(writer, index_id, 1).next_cursor
    assert cursor is not None
    writer.fetch("UPDATE vicinal.folded SET seqno = 0 RETURNING seqno")

    found, seqno = writer.database.run_coroutine(listings(writer).next(index_id, 1, cursor))

    assert (found, seqno) == (None, 1)
