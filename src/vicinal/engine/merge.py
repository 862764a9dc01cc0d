"""The choice of segments to merge: a pure function of their sizes.

Size-tiered: segments whose live rows are within a factor of four of each other are of one
tier, and four of a tier become one of the next, so a row is rewritten once a tier:
log4(n / memtable rows) times in all. A segment of which a fifth is dead is rewritten alone, which
gives its space back, and so is one whose codes were damaged. Segments that would make one
of more than `ROWS_MAX` rows stay apart.

An idle index is compacted further: a query spends some time on every segment, so a segment is
merged with all smaller ones when together they are a quarter of it. A row is then rewritten for
at most four new ones.

Merges that would follow one another are made as one, up to `AT_ONCE_ROWS_MAX`: where more segments
wait than a merge takes, as while many rows are loaded, the one that would be made at last is made
at once, and what would have been between is neither written nor indexed. Those of an idle index
are made as one of any size once merges of small segments have been made: what waits is indexed.
A large segment is still rewritten alone before it is merged: on a disk that has no space for all,
the dead rows of one may be what gives it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FAN_IN = 4
DEAD_SHARE_MAX = 0.2
IDLE_SHARE = 0.25
ROWS_MAX = 16_000_000  # a merge holds 300 bytes a row in memory; ours
AT_ONCE_ROWS_MAX = 1_500_000
"""Small segments do not wait for a larger merge than this, which takes two minutes of CPU: all of
their codes are compared by each query. Ours."""


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """A segment as the policy sees it; counts are rows."""

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
    first = _step(segments, is_idle=is_idle)
    if not first:
        return ()
    is_of_small = _live_count(segments, first) <= AT_ONCE_ROWS_MAX
    is_of_any_size = is_idle and not is_of_small and len(first) > 1
    # Merge sizes alone until nothing more is to merge; parts are of segments, old or new ones.
    parts: dict[int, tuple[int, ...]] = {segment.number: (segment.number,) for segment in segments}
    left, chosen, number = list(segments), first, max(parts)
    while chosen:
        live_count = _live_count(left, chosen)
        may_be_large = is_of_any_size and len(chosen) > 1
        if chosen != first and live_count > (ROWS_MAX if may_be_large else AT_ONCE_ROWS_MAX):
            break
        number += 1
        parts[number] = sum((parts.pop(old) for old in chosen), ())
        left = [segment for segment in left if segment.number not in chosen]
        if live_count:
            left.append(SegmentSize(number, live_count, live_count))
        chosen = _step(left, is_idle=is_idle)
    (merged,) = (numbers for numbers in parts.values() if first[0] in numbers)
    return tuple(segment.number for segment in segments if segment.number in merged)


def _live_count(segments: Sequence[SegmentSize], chosen: Sequence[int]) -> int:
    return sum(segment.live_count for segment in segments if segment.number in chosen)


def _step(segments: Sequence[SegmentSize], *, is_idle: bool) -> tuple[int, ...]:
    """Return the numbers of the segments to merge, if what they make is not merged at once."""
    tiers: dict[int, list[SegmentSize]] = {}
    for segment in segments:
        tiers.setdefault(_tier(segment.live_count), []).append(segment)
    for _, members in sorted(tiers.items()):
        chosen = members[:FAN_IN]
        if len(chosen) == FAN_IN and sum(segment.live_count for segment in chosen) <= ROWS_MAX:
            return tuple(segment.number for segment in chosen)
    for segment in segments:
        dead_count = segment.row_count - segment.live_count
        if segment.needs_rewrite or dead_count > DEAD_SHARE_MAX * segment.row_count:
            return (segment.number,)
    return _idle_candidates(segments) if is_idle else ()


def _idle_candidates(segments: Sequence[SegmentSize]) -> tuple[int, ...]:
    """Return the largest segment that is worth rewriting and all that are smaller."""
    by_size = sorted(segments, key=lambda segment: -segment.live_count)
    for rank, largest in enumerate(by_size[:-1]):
        smaller = sum(segment.live_count for segment in by_size[rank + 1 :])
        is_worth = smaller >= IDLE_SHARE * largest.live_count
        if is_worth and largest.live_count + smaller <= ROWS_MAX:
            chosen = {segment.number for segment in by_size[rank:]}
            return tuple(segment.number for segment in segments if segment.number in chosen)
    return ()


def _tier(live_count: int) -> int:
    return (max(live_count, 1).bit_length() - 1) // 2
