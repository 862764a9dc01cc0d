"""Bytes of a mutation that is resolved count as queued by its newest draft, until released."""

import pytest

from tests.support.engines import Record, batch
from vicinal.budget import Budget
from vicinal.engine.shared import resolving
from vicinal.engine.shared.drafts import SharedDraft
from vicinal.engine.shared.resolving import CopyResolver
from vicinal.errors import MetadataTooLarge, Overloaded
from vicinal.model import Seqno, Upsert

SHORT, LONG = (resolving.draft(Upsert(batch(Record("a", [1.0] * size)))) for size in (1, 100))


def resolver_of(queue: Budget, *outcomes: SharedDraft | Exception) -> CopyResolver:
    """Return a resolver whose calls have these outcomes in turn."""
    left = iter(outcomes)

    def resolve(seqno: Seqno) -> SharedDraft:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return CopyResolver(resolve, queue)


def test_a_mutation_that_is_resolved_again_counts_by_its_newest_draft() -> None:
    queue = Budget(1_000_000)
    resolver = resolver_of(queue, LONG, SHORT)

    resolver(Seqno(1))
    assert queue.used == LONG.record.size
    resolver(Seqno(2))

    assert queue.used == SHORT.record.size
    resolver.release()
    resolver.release()
    assert queue.used == 0


def test_nothing_counts_when_resolving_again_fails() -> None:
    queue = Budget(1_000_000)
    resolver = resolver_of(queue, LONG, MetadataTooLarge("too long"))
    resolver(Seqno(1))

    with pytest.raises(MetadataTooLarge):
        resolver(Seqno(2))

    assert queue.used == 0
    resolver.release()
    assert queue.used == 0


def test_nothing_more_counts_where_there_is_no_room() -> None:
    queue = Budget(LONG.record.size)
    assert queue.acquire(1)
    resolver = resolver_of(queue, LONG)

    with pytest.raises(Overloaded):
        resolver(Seqno(1))

    resolver.release()
    assert queue.used == 1
