"""Which segments to merge: a pure function from their sizes.

Size-tiered: segments whose live rows are within a factor of four of each other are of one
tier, and four of a tier become one of the next, so a row is rewritten once a tier:
log4(n / tail) times in all. A segment of which a fifth is dead is rewritten alone, which
gives its space back, and so is one whose codes were damaged. Segments that would make one
of more than `ROWS_MAX` rows stay apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FAN_IN = 4
DEAD_SHARE_MAX = 0.2
ROWS_MAX = 4_000_000  # a merge's ids and metadata are held in memory; ours


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """What the policy looks at."""

    number: int
    row_count: int
    live_count: int
    needs_rewrite: bool = False


def candidates(segments: Sequence[SegmentSize]) -> tuple[int, ...]:
    """Return the numbers of the segments to merge next, in their order; empty for none."""
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
    return ()


def _tier(live_count: int) -> int:
    return (max(live_count, 1).bit_length() - 1) // 2
