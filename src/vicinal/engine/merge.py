"""Which segments to merge: a pure function from their sizes.

Size-tiered: segments whose live rows are within a factor of four of each other are of one
tier, and four of a tier become one of the next, so a row is rewritten once a tier:
log4(n / memtable) times in all. A segment of which a fifth is dead is rewritten alone, which
gives its space back, and so is one whose codes were damaged. Segments that would make one
of more than `ROWS_MAX` rows stay apart.

An idle index is tidied: each segment costs a query some time of its own, so a segment is
merged with all smaller ones when together they are a quarter of it. A row is then
rewritten for at most four others that are new.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FAN_IN = 4
DEAD_SHARE_MAX = 0.2
TIDY_SHARE = 0.25
ROWS_MAX = 4_000_000  # a merge's ids and metadata are held in memory; ours


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """What the policy looks at."""

    number: int
    row_count: int
    live_count: int
    needs_rewrite: bool = False


def candidates(segments: Sequence[SegmentSize], *, is_idle: bool = False) -> tuple[int, ...]:
    """Return the numbers of the segments to merge next, in their order; empty for none.

    Args:
        segments: All segments, oldest first.
        is_idle: Nothing has been written for a while.
    """
    tiers: dict[int, list[SegmentSize]] = {}
    for each in segments:
        tiers.setdefault(_tier(each.live_count), []).append(each)
    for _, members in sorted(tiers.items()):
        chosen = members[:FAN_IN]
        if len(chosen) == FAN_IN and sum(each.live_count for each in chosen) <= ROWS_MAX:
            return tuple(each.number for each in chosen)
    for each in segments:
        dead_count = each.row_count - each.live_count
        if each.needs_rewrite or dead_count > DEAD_SHARE_MAX * each.row_count:
            return (each.number,)
    return _tidied(segments) if is_idle else ()


def _tidied(segments: Sequence[SegmentSize]) -> tuple[int, ...]:
    """Return the largest segment that is worth rewriting and all that are smaller."""
    by_size = sorted(segments, key=lambda each: -each.live_count)
    for place, largest in enumerate(by_size):
        smaller = sum(each.live_count for each in by_size[place + 1 :])
        is_worth = place + 1 < len(by_size) and smaller >= TIDY_SHARE * largest.live_count
        if is_worth and largest.live_count + smaller <= ROWS_MAX:
            chosen = {each.number for each in by_size[place:]}
            return tuple(each.number for each in segments if each.number in chosen)
    return ()


def _tier(live_count: int) -> int:
    return (max(live_count, 1).bit_length() - 1) // 2
