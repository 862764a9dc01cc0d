"""The catalog in the database, and what nodes remember of it."""

from collections.abc import Iterator

import pytest

from tests.support.ledgers import Writer, another
from vicinal.engine.shared.database import PostgresDatabase, Use
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
