"""The marks of `large` beside the peers are of runs that find as much."""

from benchmarks import large
from benchmarks.contender import Measured
from benchmarks.measure import Timing


def run(recall: float, cpu_ms: float) -> Measured:
    return Measured({}, recall, Timing(1, cpu_ms, cpu_ms, cpu_ms, 1.0))


def is_met(ours: Measured, peer: Measured) -> bool | None:
    """Return whether ours takes half of what the peer does, None where that is not asked."""
    mark = large.beside_peers({"vicinal": ours, "qdrant-edge": peer}, 0.99, "CPU", 0.5)
    return None if mark is None else mark.is_met


def test_our_share_is_of_the_cpu_of_a_peer_that_finds_as_much() -> None:
    assert is_met(run(0.99, 1.0), run(0.99, 2.0)) is True
    assert is_met(run(0.99, 1.1), run(0.99, 2.0)) is False


def test_where_ours_finds_less_the_mark_is_missed() -> None:
    assert is_met(run(0.98, 0.1), run(0.99, 2.0)) is False
    assert is_met(run(0.98, 0.1), run(0.98, 2.0)) is False


def test_where_the_peer_finds_less_nothing_is_compared() -> None:
    assert is_met(run(0.99, 9.0), run(0.98, 0.1)) is None


def test_the_best_peer_is_the_cheapest_that_finds_as_much_and_is_named() -> None:
    ours, dear, cheap = run(0.99, 1.0), run(0.99, 4.0), run(0.98, 2.0)

    marks = [
        large.beside_peers({"vicinal": ours, "qdrant-edge": dear, "zvec": cheap}, recall, "CPU", 1)
        for recall in (0.98, 0.99)
    ]
    assert [(mark.claim, mark.measured) for mark in marks if mark] == [
        ("CPU (zvec)", 0.5),
        ("CPU (qdrant-edge)", 0.25),
    ]
