"""Which nodes live, and whom a write that is to be visible waits for."""

import time
from collections.abc import Collection, Mapping
from uuid import UUID, uuid4

import pytest

from tests.support.ledgers import another
from vicinal.engine.shared import nodes as module
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.nodes import Nodes
from vicinal.model import Seqno

INDEX = uuid4()


@pytest.fixture(autouse=True)
def _always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    monkeypatch.setattr(module, "PLACES_S", 0.0)


def beat(
    database: PostgresDatabase,
    nodes: Nodes,
    places: Mapping[UUID, int],
    kept: Collection[UUID] = (),
) -> None:
    async def beat() -> None:
        async with database.session(Use.POLL) as session:
            seqnos = {index_id: Seqno(seqno) for index_id, seqno in places.items()}
            await nodes.beat(session, seqnos, lambda: {*places, *kept})

    database.run_coroutine(beat())


def others_have(database: PostgresDatabase, nodes: Nodes, seqno: int) -> bool:
    return database.run_coroutine(nodes.wait_for_others(INDEX, Seqno(seqno), time.monotonic()))


def test_nodes_count_each_other_until_they_leave_or_are_silent(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another(database)
    here, there = Nodes(database), Nodes(other)

    beat(database, here, {})
    assert here.count == 1
    beat(other, there, {})
    beat(database, here, {})
    assert (here.count, there.count) == (2, 2)
    monkeypatch.setattr(module, "LIVE_S", 0.0)
    beat(database, here, {})
    assert here.count == 1
    monkeypatch.setattr(module, "LIVE_S", 60.0)
    other.run_coroutine(there.leave())
    beat(database, here, {})
    assert here.count == 1
    other.close()


def test_a_mutation_is_waited_for_where_there_are_copies_and_nowhere_else(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another(database)
    here, there = Nodes(database), Nodes(other)
    beat(database, here, {INDEX: 1})  # this node's own copy is not asked about
    beat(other, there, {uuid4(): 1})
    assert others_have(database, here, 5)

    beat(other, there, {INDEX: 4})
    assert not others_have(database, here, 5)
    beat(other, there, {INDEX: 5})
    assert others_have(database, here, 5)
    beat(other, there, {INDEX: 5})
    assert not others_have(database, here, 6)
    beat(other, there, {})  # it was closed
    assert others_have(database, here, 6)
    other.close()


def test_a_copy_that_was_announced_is_waited_for_although_no_poll_has_seen_it(
    database: PostgresDatabase,
) -> None:
    other = another(database)
    here, there = Nodes(database), Nodes(other)

    beat(database, here, {})
    other.run_coroutine(there.announce(INDEX, Seqno(3)))
    assert not others_have(database, here, 4)
    # A poll that began before the copy opened does not know how far it is.
    beat(other, there, {}, kept=[INDEX])
    assert not others_have(database, here, 4)
    beat(other, there, {INDEX: 4})
    assert others_have(database, here, 4)
    other.close()


def test_a_node_alone_reports_its_copies_but_not_each_step_of_theirs(
    database: PostgresDatabase,
) -> None:
    here = Nodes(database)

    beat(database, here, {INDEX: 1})
    beat(database, here, {INDEX: 2})

    async def reported() -> int:
        async with database.session(Use.READ) as session:
            seqno: int = (await session.fetchrow("SELECT seqno FROM vicinal.copy"))[0]
            return seqno

    assert database.run_coroutine(reported()) == 1
    other = another(database)
    beat(other, Nodes(other), {})
    beat(database, here, {INDEX: 2})
    assert database.run_coroutine(reported()) == 2
    other.close()
