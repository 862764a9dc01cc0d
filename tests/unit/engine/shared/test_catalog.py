"""The catalog in the database, and what nodes remember of it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from tests.support.ledgers import WITHIN_S, Writer, another
from vicinal.engine.shared import catalog as catalog_module
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.session import Session
from vicinal.errors import IndexExists, IndexNotFound, LimitExceeded
from vicinal.model import IndexAddress, IndexConfig, Metric

DOCS = IndexAddress("acme", "docs")
CONFIG = IndexConfig(2, Metric.COSINE)


@pytest.fixture
def nodes(database: PostgresDatabase) -> Iterator[list[Writer]]:
    other = another(database)
    nodes = [Writer(database), Writer(other)]
    yield nodes
    for node in nodes:
        node.close()
    other.close()


def follow(node: Writer) -> None:
    async def follow() -> None:
        async with node.database.session(Use.POLL) as session:
            row = await session.fetchrow("SELECT catalog_version, index_count FROM vicinal.cluster")
        await node.catalog.follow(*row)

    node.database.run_coroutine(follow())


def test_what_one_node_makes_the_other_finds(nodes: list[Writer]) -> None:
    made = nodes[0].catalog.add(DOCS, CONFIG, "what it is", None)

    assert nodes[1].catalog.get(DOCS).index == made
    assert list(nodes[1].catalog.of_account("acme")) == [made]
    assert nodes[1].catalog.remembered(DOCS) is not None
    with pytest.raises(IndexExists):
        nodes[1].catalog.add(DOCS, CONFIG, None, None)


def test_a_drop_is_heard_of_and_the_successor_is_another(nodes: list[Writer]) -> None:
    first = nodes[0].catalog.add(DOCS, CONFIG, None, None)
    assert nodes[1].catalog.get(DOCS).index == first
    follow(nodes[1])
    nodes[0].catalog.remove(DOCS)
    second = nodes[0].catalog.add(DOCS, CONFIG, None, None)

    follow(nodes[1])

    assert [str(each) for each in nodes[1].dropped] == [first.id]
    assert nodes[1].catalog.get(DOCS).index == second
    with pytest.raises(IndexNotFound):
        nodes[1].catalog.get(DOCS.of(first))
    assert nodes[1].catalog.index_count == 1


def test_dropping_by_name_what_another_node_has_replaced_drops_what_has_the_name(
    nodes: list[Writer],
) -> None:
    first = nodes[0].catalog.add(DOCS, CONFIG, None, None)
    nodes[1].catalog.get(DOCS)
    nodes[0].catalog.remove(DOCS)
    nodes[0].catalog.add(DOCS, CONFIG, None, None)

    with pytest.raises(IndexNotFound):
        nodes[1].catalog.remove(DOCS.of(first))
    nodes[1].catalog.get(DOCS)
    nodes[1].catalog.remove(DOCS)

    assert list(nodes[0].catalog.of_account("acme")) == []


def test_an_account_holds_what_it_may_over_all_nodes(nodes: list[Writer]) -> None:
    for number, node in enumerate(nodes):
        node.catalog.add(IndexAddress("acme", f"i{number}"), CONFIG, None, 2)

    for node in nodes:
        with pytest.raises(LimitExceeded, match="has 2 indexes, the maximum is 2"):
            node.catalog.add(DOCS, CONFIG, None, 2)
    assert nodes[1].catalog.index_count == 2


def test_a_catalog_that_went_back_in_a_failover_is_read_whole(nodes: list[Writer]) -> None:
    first = nodes[0].catalog.add(DOCS, CONFIG, None, None)
    nodes[1].catalog.get(DOCS)
    follow(nodes[1])

    async def lose() -> None:
        async with nodes[0].database.transaction(Use.APPEND) as session:
            await session.execute("DELETE FROM vicinal.catalog")
            await session.execute("UPDATE vicinal.cluster SET catalog_version = 0")

    nodes[0].database.run_coroutine(lose())
    follow(nodes[1])

    assert [str(each) for each in nodes[1].dropped] == [first.id]
    with pytest.raises(IndexNotFound):
        nodes[1].catalog.get(DOCS)


def test_the_id_of_a_dropped_index_finds_no_successor_of_its_name_on_a_node_that_knows_neither(
    nodes: list[Writer],
) -> None:
    first = nodes[0].catalog.add(DOCS, CONFIG, None, None)
    nodes[0].catalog.remove(DOCS)
    nodes[0].catalog.add(DOCS, CONFIG, None, None)

    with pytest.raises(IndexNotFound):
        nodes[1].catalog.get(DOCS.of(first))


def test_an_index_whose_making_is_tried_again_is_counted_once(
    nodes: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt has the id of the first, whose answer was lost."""
    monkeypatch.setattr(catalog_module, "uuid4", lambda: UUID(int=7))
    nodes[0].catalog.add(DOCS, CONFIG, None, 1)

    nodes[0].catalog.add(DOCS, CONFIG, None, 1)

    assert len(nodes[1].catalog.of_account("acme")) == 1
    follow(nodes[1])
    assert nodes[0].catalog.index_count == nodes[1].catalog.index_count == 1


def test_a_node_remembers_no_more_indexes_than_it_may_those_asked_for_last(
    nodes: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "REMEMBERED_MAX", 2)
    addresses = [IndexAddress("acme", f"i{number}") for number in range(3)]
    made = [nodes[0].catalog.add(address, CONFIG, None, None) for address in addresses]

    for number in (0, 1, 0, 2):
        nodes[1].catalog.get(addresses[number])

    catalog = nodes[1].catalog
    assert [catalog.remembered(address) is not None for address in addresses] == [True, False, True]
    known = [catalog.address_of(UUID(index.id)) for index in made]
    assert known == [addresses[0], None, addresses[2]]


@contextmanager
def held_answer(
    monkeypatch: pytest.MonkeyPatch, method: str, sql: str
) -> Iterator[threading.Event]:
    """Hold the first answer to a statement back until the block ends; set once there is one."""
    real, answered, goes_on = getattr(Session, method), threading.Event(), threading.Event()

    async def held(session: Session, statement: str, *arguments: object) -> Any:
        answer = await real(session, statement, *arguments)
        if sql in statement and not answered.is_set():
            answered.set()
            await asyncio.to_thread(goes_on.wait, WITHIN_S)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Session, method, held)
        try:
            yield answered
        finally:
            goes_on.set()


def test_an_index_that_is_made_while_the_catalog_is_first_read_is_not_taken_for_dropped(
    nodes: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = nodes[1].catalog.add(IndexAddress("acme", "gone"), CONFIG, None, None)
    nodes[0].catalog.get(IndexAddress("acme", "gone"))
    nodes[1].catalog.remove(IndexAddress("acme", "gone"))
    with ThreadPoolExecutor(1) as threads:
        with held_answer(monkeypatch, "fetch", "SELECT index_id FROM vicinal.catalog") as answered:
            following = threads.submit(follow, nodes[0])
            assert answered.wait(WITHIN_S)
            made = nodes[0].catalog.add(DOCS, CONFIG, None, None)
        following.result(WITHIN_S)

    assert [str(each) for each in nodes[0].dropped] == [gone.id]
    entry = nodes[0].catalog.remembered(DOCS)
    assert entry is not None
    assert entry.index == made


def test_an_index_that_is_dropped_while_its_entry_is_read_is_not_remembered(
    nodes: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes[0].catalog.add(DOCS, CONFIG, None, None)
    follow(nodes[1])
    with ThreadPoolExecutor(1) as threads:
        with held_answer(monkeypatch, "fetchrow", "SELECT index_id, document") as answered:
            reading = threads.submit(nodes[1].catalog.get, DOCS)
            assert answered.wait(WITHIN_S)
            nodes[0].catalog.remove(DOCS)
            follow(nodes[1])
        with pytest.raises(IndexNotFound):
            reading.result(WITHIN_S)

    with pytest.raises(IndexNotFound):
        nodes[1].catalog.get(DOCS)


def test_an_index_whose_entry_is_read_while_another_is_made_is_remembered(
    nodes: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = nodes[0].catalog.add(DOCS, CONFIG, None, None)
    with ThreadPoolExecutor(1) as threads:
        with held_answer(monkeypatch, "fetchrow", "SELECT index_id, document") as answered:
            reading = threads.submit(nodes[1].catalog.get, DOCS)
            assert answered.wait(WITHIN_S)
            nodes[0].catalog.add(IndexAddress("acme", "other"), CONFIG, None, None)
            follow(nodes[1])
        reading.result(WITHIN_S)

    entry = nodes[1].catalog.remembered(DOCS)
    assert entry is not None
    assert entry.index == made
