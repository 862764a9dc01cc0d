"""Notices between nodes: who gets which, how often, and that a lost connection is made again."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from uuid import UUID, uuid4

import pytest

from tests.support.ledgers import another
from tests.support.postgres import server
from tests.support.waiting import wait_until
from vicinal.engine.shared import notices as module
from vicinal.engine.shared.database import PostgresDatabase
from vicinal.engine.shared.notices import Notices


class Node:
    """One node's notices, over connections of its own."""

    def __init__(self, database: PostgresDatabase, node_count: int) -> None:
        self.database = another(database)
        self.moved: list[Collection[UUID] | None] = []
        self.notices = Notices(self.database, lambda: node_count, self.moved.append)
        self.running = self.database.submit(self.notices.exchange())
        wait_until(lambda: self.moved == [None])  # what was said before it listened
        self.moved.clear()

    def send(self, *index_ids: UUID) -> None:
        """Send at one moment."""

        def send() -> None:
            for index_id in index_ids:
                self.notices.send(index_id)

        self.database.post(send)


Open = Callable[..., Node]


@pytest.fixture
def open_node(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setattr(module, "AGAIN_AFTER_S", 0.01)
    with ExitStack() as opened:

        def open_(node_count: int = 2) -> Node:
            node = Node(database, node_count)
            opened.callback(node.database.close)
            return node

        yield open_


def test_a_notice_reaches_every_other_node_of_its_schema_and_not_its_sender(
    open_node: Open,
) -> None:
    sender, one, two = open_node(), open_node(), open_node()
    index_id = uuid4()

    sender.send(index_id)

    for node in (one, two):
        wait_until(lambda node=node: node.moved == [[index_id]])  # type: ignore[misc]
    one.send(index_id)  # comes after what the sender could have had of its own
    wait_until(lambda: sender.moved == [[index_id]])


def test_an_index_that_goes_on_moving_is_named_once_in_a_while(
    open_node: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 3_600.0)
    sender, other = open_node(), open_node()
    first, second = uuid4(), uuid4()

    for _ in range(50):
        sender.send(first)
    sender.send(second)

    def named() -> list[UUID]:
        return [index_id for notice in other.moved for index_id in notice or ()]

    wait_until(lambda: second in named())
    assert sorted(named()) == sorted([first, second])
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    sender.send(first)
    wait_until(lambda: len(named()) == 3)


def test_what_is_due_goes_in_one_notice_and_too_many_are_all(
    open_node: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INDEXES_MAX", 3)
    sender, other = open_node(), open_node()
    few, many = [uuid4() for _ in range(3)], [uuid4() for _ in range(4)]

    sender.send(*few)
    wait_until(lambda: len(other.moved) == 1)
    assert sorted(other.moved[0] or ()) == sorted(few)
    sender.send(*many)
    wait_until(lambda: other.moved[1:] == [None])


def test_as_many_indexes_as_one_notice_names_fit_into_it(open_node: Open) -> None:
    sender, other = open_node(), open_node()
    index_ids = [uuid4() for _ in range(module.INDEXES_MAX)]

    sender.send(*index_ids)

    wait_until(lambda: len(other.moved) == 1)
    assert sorted(other.moved[0] or ()) == sorted(index_ids)


def test_a_connection_that_is_lost_is_made_again_and_all_indexes_may_have_moved(
    open_node: Open,
) -> None:
    sender, other = open_node(), open_node()
    channel = other.notices._channel  # noqa: SLF001 - the sessions of other tests listen as well

    server().sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE query LIKE 'LISTEN%{channel}%'"
    )

    wait_until(lambda: other.moved == [None] and sender.moved == [None])
    index_id = uuid4()
    sender.send(index_id)
    wait_until(lambda: other.moved == [None, [index_id]])


def test_a_node_listens_at_another_connection_when_told_to(open_node: Open) -> None:
    node, sender = open_node(), open_node()

    node.database.post(node.notices.reconnect)

    wait_until(lambda: node.moved == [None])
    assert node.notices.is_listening
    index_id = uuid4()
    sender.send(index_id)
    wait_until(lambda: node.moved == [None, [index_id]])
