"""Appending to the log in the database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import numpy as np
import pytest

from tests.support.engines import Record, batch
from tests.support.ledgers import WITHIN_S, Writer, another
from vicinal.engine import records
from vicinal.engine.shared import ledger as ledger_module
from vicinal.engine.shared import log_records
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.log_reader import LogReader
from vicinal.errors import (
    AlreadyExists,
    IndexNotFound,
    LimitExceeded,
    MetadataIndexNotFound,
    Overloaded,
    Unavailable,
)
from vicinal.limits import Limits
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexAddress,
    IndexType,
    Insert,
    MetadataIndex,
    Seqno,
    Upsert,
    VectorBatch,
)


@pytest.fixture
def writer(database: PostgresDatabase) -> Iterator[Writer]:
    writer = Writer(database)
    yield writer
    writer.close()


def one(id_: str, namespace: str = "") -> Upsert:
    return Upsert(batch(Record(id_, [1, 2], namespace, {"a": id_})))


def many(count: int, dimensions: int) -> VectorBatch:
    values = np.arange(count * dimensions, dtype=np.float32).reshape(count, dimensions)
    ids = [f"v{number}" for number in range(count)]
    return VectorBatch(ids, values, [""] * count, [b""] * count)


def logged(writer: Writer, index_id: UUID) -> list[log_records.LoggedMutation]:
    async def fetch() -> list[log_records.LoggedMutation]:
        async with writer.database.session(Use.READ) as session:
            rows = await LogReader(writer.folder).fetch(
                session, index_id, Seqno(1), 1 << 40, 1 << 20
            )
            return [row.decode() for row in rows]

    return writer.database.run_coroutine(fetch())


def test_seqnos_have_no_gaps_and_the_log_has_what_was_acknowledged(writer: Writer) -> None:
    index_id = writer.create()

    accepted = writer.log(index_id, one("a"), Delete(["a"]), one("b\0"), one("é" * 60))

    assert [each.seqno for each in accepted] == [1, 2, 3, 4]
    found = logged(writer, index_id)
    assert [str(each.mutation_id) for each in found] == [each.mutation_id for each in accepted]
    assert found[1].mutation == Delete(["a"])
    third = found[2].mutation
    assert isinstance(third, Upsert)
    assert third.batch.ids == ["b\0"]
    assert third.batch.values.tolist() == [[1, 2]]


def test_two_nodes_writing_at_once_share_one_order(database: PostgresDatabase) -> None:
    other = another(database)
    nodes = [Writer(database), Writer(other)]
    index_id = nodes[0].create()
    with ThreadPoolExecutor(8) as threads:
        futures = [
            threads.submit(nodes[number % 2].log, index_id, one(f"v{number}"))
            for number in range(60)
        ]
        accepted = [each.result(WITHIN_S)[0] for each in futures]

    found = {each.seqno: str(each.mutation_id) for each in logged(nodes[0], index_id)}
    assert found == {each.seqno: each.mutation_id for each in accepted}
    assert sorted(found) == list(range(1, 61))
    for node in nodes:
        node.close()
    other.close()


def test_a_long_record_is_cut_and_comes_back_whole(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_records, "PART_BYTES", 10_000)
    monkeypatch.setattr(ledger_module, "COPY_BYTES", 30_000)
    index_id = writer.create(dimensions=32)
    mutation = Upsert(many(2_000, 32))

    writer.log(index_id, mutation)

    sizes = writer.fetch("SELECT sum(length(bytes)), max(length(bytes)) FROM vicinal.part")
    assert sizes == [(records.encode(mutation).size, 10_000)]
    (found,) = logged(writer, index_id)
    assert found.record == records.encode(mutation)


def test_what_is_refused_is_not_logged_and_what_comes_with_it_is(writer: Writer) -> None:
    index_id = writer.create()
    color = MetadataIndex("co\0lor", IndexType.STRING)

    futures = [
        writer.append(index_id, DeleteMetadataIndex("co\0lor")),
        writer.append(index_id, CreateMetadataIndex(color)),
        writer.append(index_id, CreateMetadataIndex(color, backfill=True)),
        writer.append(index_id, CreateMetadataIndex(MetadataIndex("co\0lor", IndexType.NUMBER))),
        writer.append(index_id, DeleteMetadataIndex("co\0lor")),
        writer.append(index_id, DeleteMetadataIndex("co\0lor")),
    ]

    errors = [each.exception(WITHIN_S) for each in futures]
    assert [type(each) for each in errors] == [
        MetadataIndexNotFound, type(None), type(None), AlreadyExists, type(None),
        MetadataIndexNotFound,
    ]  # fmt: skip
    assert [futures[place].result().seqno for place in (1, 2, 4)] == [1, 2, 3]
    rows = writer.fetch("SELECT created_seqno, dropped_seqno FROM vicinal.metadata_index")
    assert rows == [(1, 2), (2, 3)]  # backfill of one that is there makes it anew


def test_limits_hold_over_nodes_and_count_what_is_there(database: PostgresDatabase) -> None:
    limits = Limits(vectors_per_index_max=3, namespaces_per_index_max=2)
    other = another(database)
    nodes = [Writer(database, limits), Writer(other, limits)]
    index_id = nodes[0].create()

    nodes[0].log(index_id, one("a", "one"), one("a", "one"))
    nodes[1].log(index_id, one("b", "two"), one("c"))
    for node in nodes:
        with pytest.raises(LimitExceeded, match="holds 3 vectors; 1 more"):
            node.log(index_id, one("d"))
        with pytest.raises(LimitExceeded, match="has 2 namespaces; 1 more"):
            node.log(index_id, one("a", "three"))
    nodes[0].log(index_id, Delete(["b"]))
    nodes[1].log(index_id, one("e", "three"))
    with pytest.raises(LimitExceeded, match="has 2 namespaces; 1 more"):
        nodes[0].log(index_id, one("e", "two"))

    assert nodes[0].fetch("SELECT count(*) FROM vicinal.mutation") == [(6,)]
    for node in nodes:
        node.close()
    other.close()


def test_an_index_that_is_gone_takes_nothing(writer: Writer) -> None:
    index_id = writer.create()
    writer.catalog.remove(IndexAddress("acme", "docs"))

    with pytest.raises(IndexNotFound, match="'docs'"):
        writer.log(index_id, one("a"))


def test_writers_wait_for_the_rows_and_are_refused_when_these_do_not_come(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_id = writer.create()
    writer.log(index_id, one("a"))
    monkeypatch.setattr(ledger_module, "UNFOLDED_BYTES_MAX", 10)

    with pytest.raises(Overloaded, match="10 are allowed"):
        writer.log(index_id, one("b"))
    waiting = writer.append(index_id, one("c"), wait_s=WITHIN_S)
    assert not waiting.done()
    writer.fold(index_id, 1)

    assert waiting.result(WITHIN_S).seqno == 2


def test_a_mistake_of_ours_is_told_to_who_waits_and_does_not_end_writing(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_id = writer.create()
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.Ledger, "_write", lambda *_: 1 / 0)
        failed = writer.append(index_id, one("a")).exception(WITHIN_S)

    assert isinstance(failed, Unavailable)
    assert "is not known" in str(failed)
    assert writer.append(index_id, one("b")).result(WITHIN_S).seqno == 1


def test_closing_answers_everybody(database: PostgresDatabase) -> None:
    writer = Writer(database)
    index_id = writer.create()
    futures = [writer.append(index_id, one(f"v{number}")) for number in range(100)]

    writer.close()

    assert [each.result(0).seqno for each in futures] == list(range(1, 101))
    with pytest.raises(Unavailable, match="closed"):
        writer.append(index_id, one("late"))


def test_insert_is_logged_as_it_came(writer: Writer) -> None:
    index_id = writer.create()

    writer.log(index_id, Insert(batch(Record("a", [1, 2]), Record("a", [3, 4]))))

    (found,) = logged(writer, index_id)
    assert isinstance(found.mutation, Insert)
    assert found.mutation.batch.values.tolist() == [[1, 2], [3, 4]]
