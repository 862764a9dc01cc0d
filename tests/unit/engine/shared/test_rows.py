"""Folding the log into rows, and what is removed of both."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.engines import DOCS, Record, batch, create
from tests.support.ledgers import WITHIN_S, Writer, another
from tests.support.model_engine import ModelEngine
from vicinal.engine.shared import rows as rows_module
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.model import Delete, IndexAddress, Insert, Mutation, Upsert


@pytest.fixture
def writer(database: PostgresDatabase) -> Iterator[Writer]:
    writer = Writer(database)
    yield writer
    writer.close()


def some_mutation(chance: random.Random) -> Mutation:
    ids = [f"v{chance.randrange(12)}" for _ in range(chance.randrange(4))]
    if chance.random() < 0.3:
        return Delete(ids)
    records = [Record(each, [chance.random(), 1], chance.choice(["", "n"]), {}) for each in ids]
    vectors = batch(*records)
    if not records:
        vectors.values.resize((0, 2), refcheck=False)
    return Insert(vectors) if chance.random() < 0.5 else Upsert(vectors)


@pytest.mark.parametrize("seed", range(5))
def test_the_rows_are_what_a_dict_would_hold_wherever_folds_are_cut(
    writer: Writer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    model = ModelEngine()
    create(model)
    index_id = writer.create()
    monkeypatch.setattr(rows_module, "COPY_ROWS", 3)
    monkeypatch.setattr(rows_module, "IDS_AT_ONCE", 5)
    for _ in range(12):
        mutations = [some_mutation(chance) for _ in range(chance.randrange(1, 6))]
        last = writer.log(index_id, *mutations)[-1]
        monkeypatch.setattr(rows_module, "CHECKPOINT_COUNT_MAX", chance.randrange(1, 4))
        for mutation in mutations:
            model.append(DOCS, mutation)

        count = writer.fold(index_id, last.seqno)

        found = {
            id_: (namespace, floats, metadata)
            for id_, namespace, floats, metadata in writer.fetch(
                "SELECT id, namespace, floats, metadata FROM vicinal.vector"
            )
        }
        ids = [f"v{number}" for number in range(12)]
        assert found == {
            each.id.encode(): (each.namespace.encode(), each.values.tobytes(), each.metadata)
            for each in model.get(DOCS, ids)
        }
        assert count == len(found) == model.status(DOCS).vector_count
    doubles = writer.fetch("SELECT id FROM vicinal.gone WHERE born >= died")
    assert doubles == []


def test_nodes_that_fold_at_once_apply_nothing_twice(database: PostgresDatabase) -> None:
    other = another(database)
    nodes = [Writer(database), Writer(other)]
    index_id = nodes[0].create()
    with ThreadPoolExecutor(4) as threads:
        for number in range(30):
            upsert = Upsert(batch(Record(f"v{number % 7}", [number, 1])))
            seqno = nodes[0].log(index_id, upsert, Delete([f"v{number % 5}"]))[-1].seqno
            folds = [threads.submit(node.fold, index_id, seqno) for node in nodes]
            counts = {each.result(WITHIN_S) for each in folds}
            assert counts == {nodes[0].fetch("SELECT count(*) FROM vicinal.vector")[0][0]}
    for node in nodes:
        node.close()
    other.close()


def test_the_log_loses_what_is_in_the_rows_and_old_but_never_its_last(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_id = writer.create()
    for number in range(5):
        writer.log(index_id, Upsert(batch(Record(f"v{number}", [1, 2]))))

    def seqnos_after_truncating() -> list[object]:
        writer.database.run_coroutine(writer.rows.truncate(index_id))
        return [row[0] for row in writer.fetch("SELECT seqno FROM vicinal.mutation ORDER BY seqno")]

    monkeypatch.setattr(rows_module, "TRUNCATE_BYTES", 0)
    monkeypatch.setattr(rows_module, "TRUNCATE_AGE_S", -60.0)
    monkeypatch.setattr(rows_module, "TRUNCATE_COUNT", 2)
    assert seqnos_after_truncating() == [1, 2, 3, 4, 5]  # none is in the rows
    monkeypatch.setattr(rows_module, "CHECKPOINT_COUNT_MAX", 3)
    writer.database.run_coroutine(writer.rows.checkpoint(index_id))
    assert seqnos_after_truncating() == [4, 5]
    writer.fold(index_id, 5)
    assert seqnos_after_truncating() == [5]

    monkeypatch.setattr(rows_module, "TRUNCATE_AGE_S", 600.0)
    writer.log(index_id, Delete(["v1"]))
    writer.fold(index_id, 6)
    assert seqnos_after_truncating() == [5, 6]  # they are young


def test_what_a_dropped_index_leaves_is_removed_and_nothing_else(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "REMOVE_COUNT", 2)
    dropped, kept = writer.create("docs"), writer.create("kept")
    for index_id in (dropped, kept):
        for number in range(5):
            writer.log(index_id, Upsert(batch(Record(f"v{number}", [1, 2], "n"))))
        writer.fold(index_id, 5)
    writer.catalog.remove(IndexAddress("acme", "docs"))

    rounds = 0
    while writer.database.run_coroutine(writer.rows.remove_dropped()):
        rounds += 1

    assert rounds > 3
    for table in ("mutation", "vector", "namespace", "folded", "head", "catalog"):
        found = writer.fetch(f"SELECT DISTINCT index_id FROM vicinal.{table}")
        assert found == [(kept,)], table
    assert writer.fetch("SELECT is_removed FROM vicinal.dropped") == [(True,)]


def test_what_fails_in_a_transaction_changes_nothing(writer: Writer) -> None:
    index_id = writer.create()
    writer.log(index_id, Upsert(batch(Record("a", [1, 2]))), Delete(["a"]))

    async def remove_and_fail() -> None:
        async with writer.database.transaction(Use.CHECKPOINT) as session:
            await session.execute("DELETE FROM vicinal.gone")
            raise ZeroDivisionError

    writer.fold(index_id, 2)
    with pytest.raises(ZeroDivisionError):
        writer.database.run_coroutine(remove_and_fail())

    assert writer.fold(index_id, 2) == 0
    assert writer.fetch("SELECT id, born, died FROM vicinal.gone") == [(b"a", 1, 2)]
