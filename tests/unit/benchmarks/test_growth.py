"""The marks of `growth` hold our cost to that at the least size in turn, and to the peers'."""

from benchmarks import growth
from benchmarks.contender import Measured
from benchmarks.measure import Timing


def run(recall: float, cpu_ms: float) -> Measured:
    return Measured({}, recall, Timing(1, cpu_ms, cpu_ms, cpu_ms, 1.0))


def met(ours: Measured, peer: Measured) -> list[bool]:
    """Return which marks are met with these runs at a million rows: of growth, recall and share."""
    runs = {100_000: {"vicinal": run(1.0, 0.1)}, 1_000_000: {"vicinal": ours, "zvec": peer}}
    in_turn = {100_000: run(1.0, 1.0), 1_000_000: ours}
    return [mark.is_met for mark in growth.marks_of(runs, in_turn, 0.99)]


def test_a_peer_that_finds_as_much_is_what_our_cost_is_held_to() -> None:
    assert met(run(0.99, 2.5), run(0.99, 5.0)) == [True, True, True]
    assert met(run(0.99, 2.5), run(0.99, 4.9)) == [True, True, False]
    assert met(run(0.99, 2.6), run(0.99, 9.0)) == [False, True, True]
    assert met(run(0.98, 1.0), run(0.99, 9.0)) == [False, False, True]


def test_where_no_peer_finds_as_much_there_is_no_mark_beside_them() -> None:
    assert met(run(0.99, 2.5), run(0.98, 0.1)) == [True, True]
