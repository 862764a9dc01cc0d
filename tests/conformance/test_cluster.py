"""What two and three nodes of the shared engine promise over one database.

Each is an engine of its own with a folder of its own; they know of each other by the database
alone, as they would on machines of their own.
"""

import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.engines import (
    APPLIED_WITHIN_S,
    DOCS,
    Record,
    apply,
    batch,
    create,
    found,
    insert,
    open_shared,
    shared_schema,
    upsert,
    vector,
)
from tests.support.model_engine import ModelEngine
from tests.support.postgres import server
from tests.support.waiting import wait_until
from vicinal.engine.copying import CopiedIndex
from vicinal.engine.shared import copies, follower, notices, rows
from vicinal.engine.shared.engine import SharedEngine
from vicinal.errors import BadCursor, IndexExists, IndexNotFound, LimitExceeded
from vicinal.filters.nodes import Operator, Predicate
from vicinal.limits import Limits
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexAddress,
    IndexType,
    Insert,
    MetadataIndex,
    Mutation,
    Query,
    Scan,
    Seqno,
    Upsert,
)

OpenNode = Callable[..., SharedEngine]

SIZE = MetadataIndex("size", IndexType.NUMBER)
ALL = Query(top_k=100, vector=vector(0, 0))


@pytest.fixture
def open_node(tmp_path: Path) -> Iterator[OpenNode]:
    """Open one more node; one of a name that was open before finds its folder again."""
    opened: list[SharedEngine] = []

    def open_(name: str = "", limits: Limits | None = None, **options: object) -> SharedEngine:
        node = tmp_path / (name or f"node{len(opened)}")
        engine = open_shared(tmp_path, limits or Limits(), node, **options)
        opened.append(engine)
        return engine

    yield open_
    for engine in opened:
        engine.close()


def sql(folder: Path, statement: str) -> str:
    """Run SQL in the schema of the nodes of a test."""
    return server().sql(f"SET search_path = {shared_schema(folder)};{statement}").split("\n")[-1]


def is_running(function: Callable[..., object]) -> bool:
    """Tell whether any thread is in a function."""
    stacks = sys._current_frames().values()  # noqa: SLF001 (there is no public way)
    code = getattr(function, "__code__", None)
    return any(frame.f_code is code for stack in stacks for frame, _ in traceback.walk_stack(stack))


def sees(engine: SharedEngine, *ids: str) -> bool:
    return sorted(found(engine, ALL)) == sorted(ids)


def test_what_one_node_makes_and_writes_every_other_serves(open_node: OpenNode) -> None:
    nodes = [open_node() for _ in range(3)]
    create(nodes[0])

    apply(nodes[1], CreateMetadataIndex(SIZE))
    insert(nodes[2], Record("a", [1, 2], "n", {"size": 3}))

    for node in nodes:
        assert node.get_index(DOCS) == nodes[0].get_index(DOCS)
        assert list(node.list_metadata_indexes(DOCS)) == [SIZE]
        query = Query(
            top_k=5, vector=vector(1, 2), filter=(Predicate("size", Operator.EQ, (3.0,)),)
        )
        assert found(node, query) == ["a"]
        assert node.list(DOCS, 10, None).ids == ["a"]
        assert node.usage().index_count == 1


def test_waiting_for_a_mutation_waits_for_the_copies_of_all_nodes(open_node: OpenNode) -> None:
    nodes = [open_node() for _ in range(3)]
    create(nodes[0])
    for node in nodes:
        node.status(DOCS)  # has a copy from here on

    for number in range(30):
        writer = nodes[number % 3]
        upsert(writer, Record("a", [number, 0]))

        for node in nodes:
            (a,) = node.get(DOCS, ["a"])
            assert a.values.tolist() == [number, 0]


def test_a_node_at_rest_is_told_of_a_write_and_of_a_drop_at_another(
    open_node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not have to ask: its next poll would be in an hour."""
    for name in ("ACTIVE_POLL_S", "IDLE_POLL_S", "NOTICED_POLL_S"):
        monkeypatch.setattr(follower, name, 3_600.0)
    monkeypatch.setattr(notices, "EVERY_S", 0.0)  # or it would count on the polls after the first
    writer, reader = open_node(), open_node()
    create(writer)
    insert(writer, Record("a", [1, 1]))
    assert sees(reader, "a")  # opening asks as well

    writer.append(DOCS, Upsert(batch(Record("b", [2, 2])))).result(APPLIED_WITHIN_S)

    wait_until(lambda: sees(reader, "a", "b"))
    writer.delete_index(DOCS)
    wait_until(lambda: is_gone(reader))


def is_gone(node: SharedEngine) -> bool:
    try:
        node.get_index(DOCS)
    except IndexNotFound:
        return True
    return False


def test_a_node_that_has_gone_is_not_waited_for(open_node: OpenNode) -> None:
    nodes = [open_node() for _ in range(2)]
    create(nodes[0])
    for node in nodes:
        node.status(DOCS)
    nodes[1].close()

    accepted = nodes[0].append(DOCS, Delete(["a"])).result(APPLIED_WITHIN_S)

    assert nodes[0].wait_applied(DOCS, accepted.seqno, 30.0)  # less than a dead node is waited for


def test_a_strong_node_answers_with_all_that_was_acknowledged_anywhere(
    open_node: OpenNode,
) -> None:
    writer, reader = open_node(), open_node(is_strong=True)
    create(writer)
    for number in range(30):
        writer.append(DOCS, Upsert(batch(Record(f"v{number}", [1, 1])))).result(APPLIED_WITHIN_S)

        assert len(found(reader, ALL)) == number + 1


def test_writers_on_all_nodes_make_one_log_and_all_copies_agree_on_it(
    open_node: OpenNode,
) -> None:
    nodes = [open_node() for _ in range(3)]
    create(nodes[0])
    for node in nodes:
        node.status(DOCS)
    log: dict[int, Mutation] = {}

    def write(place: int) -> None:
        chance = random.Random(place)
        for _ in range(25):
            records = [
                Record(f"v{chance.randrange(9)}", [chance.random(), place]) for _ in range(3)
            ]
            kinds: list[Mutation] = [
                Insert(batch(*records)), Upsert(batch(*records)), Delete([records[0].id])
            ]  # fmt: skip
            mutation = chance.choice(kinds)
            accepted = nodes[place].append(DOCS, mutation).result(APPLIED_WITHIN_S)
            log[accepted.seqno] = mutation

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    model = ModelEngine()
    create(model)
    for seqno in sorted(log):
        model.append(DOCS, log[seqno])

    assert sorted(log) == list(range(1, 76))
    ids = [f"v{number}" for number in range(9)]
    expected = [(each.id, each.values.tolist()) for each in model.get(DOCS, ids)]
    nodes.append(open_node())  # filled from the rows, or replayed, as it comes
    for node in nodes:
        assert node.wait_applied(DOCS, max(log), APPLIED_WITHIN_S)  # type: ignore[arg-type]
        assert [(each.id, each.values.tolist()) for each in node.get(DOCS, ids)] == expected
        assert node.status(DOCS).applied_seqno == 75


def test_a_cursor_of_one_node_is_good_on_another_and_after_its_end(open_node: OpenNode) -> None:
    nodes = [open_node() for _ in range(2)]
    create(nodes[0])
    insert(nodes[0], *(Record(f"v{number}", [1, 1]) for number in range(6)))
    first = nodes[0].list(DOCS, 2, None)
    apply(nodes[1], Delete(["v3", "v5"]))
    second = nodes[1].list(DOCS, 2, first.next_cursor)
    for node in nodes:
        node.close()

    third = open_node().list(DOCS, 2, second.next_cursor)

    assert [*first.ids, *second.ids, *third.ids] == [f"v{number}" for number in range(6)]
    assert {first.total_count, second.total_count, third.total_count} == {6}
    assert third.next_cursor is None


def test_a_cursor_of_vectors_is_of_one_node_and_refused_as_such_by_another(
    open_node: OpenNode,
) -> None:
    one, other = open_node(), open_node()
    create(one)
    insert(one, *(Record(f"v{number}", [number, 1]) for number in range(3)))
    page = one.list_vectors(DOCS, Scan(), 2, None)

    with pytest.raises(BadCursor):
        other.list_vectors(DOCS, Scan(), 2, page.next_cursor)
    assert len(one.list_vectors(DOCS, Scan(), 2, page.next_cursor).vectors) == 1


def test_an_index_dropped_and_made_again_elsewhere_is_the_new_one_here(
    open_node: OpenNode,
) -> None:
    nodes = [open_node() for _ in range(2)]
    create(nodes[0])
    insert(nodes[1], Record("old", [1, 1]))
    old = DOCS.of(nodes[1].get_index(DOCS))
    cursor_source = nodes[1]
    insert(nodes[1], Record("older", [1, 1]))
    cursor = cursor_source.list(DOCS, 1, None).next_cursor

    nodes[0].delete_index(DOCS)
    create(nodes[0], dimensions=3)

    # At once: what it writes goes to the new one, or is refused, but is never lost in the old.
    accepted = nodes[1].append(DOCS, Delete(["x"]))
    error = accepted.exception(APPLIED_WITHIN_S)
    assert error is None or isinstance(error, IndexNotFound)
    wait_until(lambda: nodes[1].get_index(DOCS).config.dimensions == 3)
    upsert(nodes[1], Record("new", [1, 1, 1]))
    assert [each.id for each in nodes[0].get(DOCS, ["old", "new"])] == ["new"]
    with pytest.raises(IndexNotFound):
        nodes[1].query(old, ALL)
    with pytest.raises(IndexNotFound):
        nodes[1].append(old, Delete(["new"])).result(APPLIED_WITHIN_S)
    with pytest.raises(BadCursor):
        nodes[1].list(DOCS, 1, cursor)


def test_an_index_dropped_elsewhere_is_gone_here_with_its_folder(
    open_node: OpenNode, tmp_path: Path
) -> None:
    nodes = [open_node("one"), open_node("two")]
    create(nodes[0])
    insert(nodes[1], Record("a", [1, 1]))
    index_id = nodes[1].get_index(DOCS).id
    assert (tmp_path / "two" / "copies" / index_id).exists()

    nodes[0].delete_index(DOCS)

    def is_gone() -> bool:
        try:
            nodes[1].query(DOCS, ALL)
        except IndexNotFound:
            return True
        return False

    wait_until(is_gone)
    wait_until(lambda: not (tmp_path / "two" / "copies" / index_id).exists())
    assert list(nodes[1].list_indexes("acme")) == []
    wait_until(lambda: nodes[1].usage().index_count == 0)


def test_names_and_limits_hold_over_all_nodes(open_node: OpenNode) -> None:
    limits = Limits(vectors_per_index_max=4, indexes_per_account_max=2)
    nodes = [open_node(limits=limits) for _ in range(2)]
    create(nodes[0])
    create(nodes[1], IndexAddress("acme", "other"))
    for node in nodes:
        with pytest.raises(IndexExists):
            create(node)
        with pytest.raises(LimitExceeded, match="2"):
            create(node, IndexAddress("acme", "third"))

    def write(place: int) -> int:
        taken = 0
        for number in range(4):
            mutation = Upsert(batch(Record(f"n{place}-{number}", [1, 1])))
            error = nodes[place].append(DOCS, mutation).exception(APPLIED_WITHIN_S)
            assert error is None or isinstance(error, LimitExceeded)
            taken += error is None
        return taken

    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(write, range(2))) == 4


def test_a_metadata_index_is_as_retroactive_on_a_filled_node_as_on_one_that_followed(
    open_node: OpenNode,
) -> None:
    followed = open_node()
    create(followed)
    insert(followed, Record("before", [1, 1], "", {"size": 1, "color": "red"}))
    insert(followed, Record("rewritten", [1, 1], "", {"size": 1, "color": "red"}))
    apply(followed, CreateMetadataIndex(SIZE))
    apply(followed, CreateMetadataIndex(MetadataIndex("color", IndexType.STRING), backfill=True))
    insert(followed, Record("between", [1, 1], "", {"size": 1, "color": "red"}))
    apply(followed, DeleteMetadataIndex("size"))
    insert(followed, Record("without", [1, 1], "", {"size": 1, "color": "red"}))
    upsert(followed, Record("rewritten", [1, 1], "", {"size": 1, "color": "red"}))
    apply(followed, CreateMetadataIndex(SIZE))
    last = insert(followed, Record("after", [1, 1], "", {"size": 1, "color": "red"}))
    followed.list(DOCS, 1, None)  # all of it is in the rows now

    filled = open_node()

    assert filled.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
    for node in (followed, filled):
        by_size = Query(
            top_k=9, vector=vector(1, 1), filter=(Predicate("size", Operator.EQ, (1.0,)),)
        )
        by_color = Query(
            top_k=9, vector=vector(1, 1), filter=(Predicate("color", Operator.EQ, ("red",)),)
        )
        assert found(node, by_size) == ["after"]
        assert found(node, by_color) == ["after", "before", "between", "rewritten", "without"]
        assert [each.property_name for each in node.list_metadata_indexes(DOCS)] == [
            "color", "size",
        ]  # fmt: skip


def test_a_node_that_was_away_goes_on_where_it_was_without_filling(open_node: OpenNode) -> None:
    away = open_node("away")
    create(away)
    insert(away, Record("a", [1, 1]))
    away.close()
    other = open_node()
    last = insert(other, Record("b", [1, 1]))

    back = open_node("away")

    assert back.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
    assert sees(back, "a", "b")
    assert back.counts.fills == 0


def test_a_node_that_was_away_until_the_log_was_cut_is_filled(
    open_node: OpenNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rows, "TRUNCATE_BYTES", 0)
    monkeypatch.setattr(rows, "TRUNCATE_AGE_S", -60.0)
    monkeypatch.setattr(follower, "TRUNCATE_EVERY_S", 0.0)
    away = open_node("away")
    create(away)
    insert(away, Record("a", [1, 1]))
    away.close()
    other = open_node()
    last = insert(other, Record("b", [1, 1]), Record("c", [1, 1]))
    wait_until(lambda: sql(tmp_path, "SELECT min(seqno) FROM mutation") == "2")

    back = open_node("away")

    assert back.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
    assert sees(back, "a", "b", "c")
    assert back.counts.refills == {"log truncated": 1}


def test_a_copy_that_is_thrown_away_is_waited_for_in_the_one_that_replaces_it(
    open_node: OpenNode, tmp_path: Path
) -> None:
    node, other = open_node(), open_node()
    create(node)
    first = insert(node, Record("a", [1, 1]))
    assert other.wait_applied(DOCS, first.seqno, APPLIED_WITHIN_S)
    waiting = ThreadPoolExecutor(1)
    applied = waiting.submit(other.wait_applied, DOCS, Seqno(first.seqno + 1), APPLIED_WITHIN_S)
    wait_until(lambda: is_running(CopiedIndex.wait_applied))

    sql(tmp_path, "UPDATE mutation SET mutation_id = gen_random_uuid()")
    sql(tmp_path, "UPDATE head SET mutation_id = (SELECT mutation_id FROM mutation)")
    wait_until(lambda: other.counts.refills == {"log went back": 1})
    upsert(node, Record("a", [2, 2]))

    assert applied.result(APPLIED_WITHIN_S)
    waiting.shutdown()
    assert other.get(DOCS, ["a"])[0].values.tolist() == [2, 2]


def test_many_copies_that_cannot_go_on_are_filled_again_without_waiting_for_each_other(
    open_node: OpenNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "CAUGHT_UP_S", 3_600.0)  # none is had as it is
    away = open_node("away")
    addresses = [IndexAddress("acme", f"i{number}") for number in range(6)]
    for address in addresses:
        create(away, address)
        insert(away, Record("a", [1, 1]), address=address)
    away.close()
    other = open_node()
    for address in addresses:
        upsert(other, Record("a", [2, 2]), address=address)
        other.list(address, 1, None)  # which brings the rows up to the log
    sql(tmp_path, "UPDATE mutation SET mutation_id = gen_random_uuid() WHERE seqno = 1")
    sql(tmp_path, "DELETE FROM mutation WHERE seqno = 1")

    back = open_node("away")

    with ThreadPoolExecutor(6) as threads:
        opened = [threads.submit(back.get, address, ["a"]) for address in addresses]
        found_values = [each.result(60)[0].values.tolist() for each in opened]
    assert found_values == [[2, 2]] * 6


def test_a_spoilt_copy_is_thrown_away_and_filled_again(open_node: OpenNode, tmp_path: Path) -> None:
    node = open_node("one")
    create(node)
    last = insert(node, *(Record(f"v{number}", [number, 1]) for number in range(50)))
    node.compact(DOCS)
    node.close()
    spoilt = 0
    for path in (tmp_path / "one" / "copies").rglob("*"):
        if path.is_file() and path.stat().st_size > 64:
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2 :] = b"\xff" * (len(raw) - len(raw) // 2)
            path.write_bytes(raw)
            spoilt += 1
    assert spoilt > 2

    back = open_node("one")

    assert back.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
    assert len(found(back, ALL)) == 50


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_copy_that_the_log_does_not_have_is_filled_again(
    open_node: OpenNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_noticed: bool
) -> None:
    """A failover to a standby that lacked the last mutation: log a, c; copy a, b."""
    monkeypatch.setattr(follower, "CHECKPOINT_AFTER_S", 3600.0)
    node = open_node()
    create(node)
    insert(node, Record("a", [1, 1]))
    lost = insert(node, Record("b", [1, 1]))
    assert lost.seqno == 2

    sql(
        tmp_path,
        "BEGIN; DELETE FROM mutation WHERE seqno = 2; UPDATE head SET logged_seqno = 1,"
        " mutation_id = (SELECT mutation_id FROM mutation WHERE seqno = 1); COMMIT",
    )
    if is_noticed:
        wait_until(lambda: sees(node, "a"))
    taken = node.append(DOCS, Insert(batch(Record("c", [1, 1])))).result(APPLIED_WITHIN_S)

    assert taken.seqno == 2
    wait_until(lambda: sees(node, "a", "c"))
    assert node.status(DOCS).applied_mutation == taken.mutation_id


def test_copies_that_take_too_much_disk_go_and_come_back(
    open_node: OpenNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "HOUSEKEEPING_EVERY_S", 0.05)
    node = open_node("one", copies_bytes_max=1)
    addresses = [IndexAddress("acme", f"i{number}") for number in range(4)]
    for address in addresses:
        create(node, address)
        insert(node, Record("a", [1, 1]), address=address)

    wait_until(lambda: len(list((tmp_path / "one" / "copies").iterdir())) == 1)
    for address in addresses:
        assert found(node, ALL, address) == ["a"]


def test_many_nodes_filled_while_others_write_are_never_behind_what_they_say(
    open_node: OpenNode,
) -> None:
    writer = open_node()
    create(writer)
    stop = threading.Event()

    def write() -> int:
        number = 0
        while not stop.is_set():
            number += 1
            upsert = Upsert(batch(Record(f"v{number}", [number, 1])))
            writer.append(DOCS, upsert).result(APPLIED_WITHIN_S)
        return number

    with ThreadPoolExecutor(1) as threads:
        written = threads.submit(write)
        try:
            for _ in range(4):
                node = open_node()
                status = node.status(DOCS)
                assert status.vector_count == status.applied_seqno
                node.close()
        finally:
            stop.set()
        count = written.result(APPLIED_WITHIN_S)
    last = open_node()
    assert last.status(DOCS).vector_count == count
    values = [each.values[0] for each in last.get(DOCS, [f"v{n}" for n in range(1, count + 1)])]
    assert np.array_equal(values, np.arange(1, count + 1))


def test_a_namespace_that_a_failover_has_lost_counts_again_when_it_is_written(
    open_node: OpenNode, tmp_path: Path
) -> None:
    node = open_node(limits=Limits(namespaces_per_index_max=1))
    create(node)
    insert(node, Record("a", [1, 1], "lost"))
    sql(tmp_path, "DELETE FROM namespace; UPDATE head SET namespace_count = 0")
    server().sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vicinal'"
    )

    insert(node, Record("b", [2, 2], "lost"))

    assert sql(tmp_path, "SELECT count(*) FROM namespace") == "1"
    with pytest.raises(LimitExceeded):
        node.append(DOCS, Upsert(batch(Record("c", [3, 3], "other")))).result(APPLIED_WITHIN_S)
