"""Tickets are good once, for a short time, and a bounded number of them is out."""

import pytest

from vicinal.errors import Overloaded, Unauthenticated
from vicinal.server.api.tickets import TICKETS_MAX, VALID_S, Tickets

HEADERS = {b"authorization": b"Bearer a"}


def test_a_ticket_gives_back_the_token_of_who_asked_for_it_once() -> None:
    tickets = Tickets()
    ticket = tickets.give(HEADERS)

    assert len(ticket) >= 43  # 32 random bytes
    assert tickets.redeem(ticket) == HEADERS
    with pytest.raises(Unauthenticated, match="good once, for 30 seconds"):
        tickets.redeem(ticket)


def test_a_ticket_ends_with_its_time() -> None:
    now = [100.0]
    tickets = Tickets(lambda: now[0])
    first, second = tickets.give({}), tickets.give({})

    now[0] += VALID_S - 0.001
    tickets.redeem(first)
    now[0] += 0.001
    with pytest.raises(Unauthenticated):
        tickets.redeem(second)


def test_so_many_are_out_and_no_more() -> None:
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    given = [tickets.give({}) for _ in range(TICKETS_MAX)]

    with pytest.raises(Overloaded, match="16 tickets are out") as refused:
        tickets.give({})
    assert refused.value.queue == "tickets"
    assert refused.value.retry_after == VALID_S
    tickets.redeem(given[0])
    tickets.give({})
    now[0] = VALID_S
    assert len({tickets.give({}) for _ in range(TICKETS_MAX)}) == TICKETS_MAX
