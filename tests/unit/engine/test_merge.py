"""The merge policy ends, keeps segments few, and rewrites no row more often than it pays."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicinal.engine import merge
from vicinal.engine.merge import AT_ONCE_ROWS_MAX, FAN_IN, ROWS_MAX, SegmentSize, candidates

COUNTS = st.one_of(
    st.integers(0, 5), st.integers(0, 100_000), st.integers(ROWS_MAX // 8, 2 * ROWS_MAX)
)


@st.composite
def sizes(draw: st.DrawFn) -> list[SegmentSize]:
    segments = []
    for number in range(draw(st.integers(0, 20))):
        rows = draw(COUNTS)
        live = draw(st.sampled_from([rows, rows - rows // 10, rows // 2, 0]))
        segments.append(SegmentSize(number, rows, live, draw(st.booleans())))
    return segments


def merged(segments: list[SegmentSize], chosen: tuple[int, ...], number: int) -> list[SegmentSize]:
    """Return the segments after a merge, as `engine.compaction` leaves them."""
    live = sum(each.live_count for each in segments if each.number in chosen)
    rest = [each for each in segments if each.number not in chosen]
    return [*rest, SegmentSize(number, live, live)] if live else rest


def settle(
    segments: list[SegmentSize], *, is_idle: bool = False
) -> tuple[list[SegmentSize], list[tuple[int, ...]]]:
    """Merge until the policy wants nothing more."""
    done = []
    while chosen := candidates(segments, is_idle=is_idle):
        done.append(chosen)
        assert len(done) <= 10 * (len(segments) + 20), "merges without end"
        segments = merged(segments, chosen, 1000 + len(done))
    return segments, done


@given(sizes(), st.booleans())
def test_merging_ends_and_loses_no_row(segments: list[SegmentSize], is_idle: bool) -> None:
    settled, _ = settle(segments, is_idle=is_idle)

    assert sum(each.live_count for each in settled) == sum(each.live_count for each in segments)


@given(sizes(), st.booleans())
def test_what_is_chosen_exists_once_and_makes_no_segment_too_large(
    segments: list[SegmentSize], is_idle: bool
) -> None:
    chosen = candidates(segments, is_idle=is_idle)

    numbers = [each.number for each in segments]
    assert list(chosen) == [each for each in numbers if each in chosen]
    live = sum(each.live_count for each in segments if each.number in chosen)
    assert len(chosen) <= 1 or live <= ROWS_MAX


@given(sizes())
def test_what_is_left_is_few_segments_without_much_that_is_dead(
    segments: list[SegmentSize],
) -> None:
    settled, _ = settle(segments)

    mergeable = [each for each in settled if each.live_count <= ROWS_MAX // FAN_IN]
    tiers = 1 + math.ceil(math.log(ROWS_MAX, FAN_IN))
    assert len(mergeable) < FAN_IN * tiers
    assert all(each.row_count - each.live_count <= each.row_count / 5 for each in settled)
    assert not any(each.needs_rewrite for each in settled if len(settled) == len(segments))


@given(sizes())
def test_of_an_idle_index_each_segment_outweighs_all_smaller_ones(
    segments: list[SegmentSize],
) -> None:
    settled, _ = settle(segments, is_idle=True)

    by_size = sorted((each.live_count for each in settled), reverse=True)
    for place, largest in enumerate(by_size[:-1]):
        smaller = sum(by_size[place + 1 :])
        assert smaller < largest / 4 or largest + smaller > ROWS_MAX


def test_four_of_a_size_become_one_and_a_row_is_rewritten_once_a_tier_at_most() -> None:
    segments: list[SegmentSize] = []
    rewritten = 0
    count = 4**4
    for number in range(count):
        segments = [*segments, SegmentSize(number, 1000, 1000)]
        before = {each.number: each.live_count for each in segments}
        segments, done = settle(segments)
        sizes_ = dict(before)
        for step, chosen in enumerate(done):
            sizes_[1001 + step] = sum(sizes_[each] for each in chosen)
            rewritten += sizes_[1001 + step]
        segments = [
            SegmentSize(10_000 + 100 * number + place, each.row_count, each.live_count)
            for place, each in enumerate(segments)
        ]
        assert len(segments) <= 3 * 5

    assert [each.live_count for each in segments] == [1000 * count]
    one_at_a_time = 4 * 1000 * count
    assert rewritten <= one_at_a_time


def test_merges_that_would_follow_one_another_are_made_as_one() -> None:
    segments = [SegmentSize(number, 1000, 1000) for number in range(4**3 + 20)]

    assert candidates(segments[: 4**2]) == tuple(range(4**2))
    assert candidates(segments) == tuple(range(4**3))
    rest = [*segments[4**3 : 4**3 + 7], SegmentSize(100, 64_000, 64_000)]
    assert candidates(rest) == tuple(range(4**3, 4**3 + 4))
    assert candidates(segments, is_idle=True) == tuple(range(4**3 + 20))


@given(sizes(), st.booleans())
def test_what_a_merge_has_made_is_not_merged_again_at_once(
    segments: list[SegmentSize], is_idle: bool
) -> None:
    chosen = candidates(segments, is_idle=is_idle)

    left = merged(segments, chosen, 1000)
    again = candidates(left, is_idle=is_idle)
    live = sum(each.live_count for each in left if each.number in again)
    assert 1000 not in again or live > AT_ONCE_ROWS_MAX


def test_segments_whose_rows_are_all_dead_make_none_that_is_merged_on() -> None:
    dead = [SegmentSize(number, 10, 0) for number in range(4)]
    alive = [SegmentSize(number, 1, 1) for number in range(4, 7)]

    assert candidates([*dead, *alive]) == (0, 1, 2, 3)


def test_small_segments_do_not_wait_for_a_large_merge() -> None:
    large = [SegmentSize(number, 3_000_000, 3_000_000) for number in range(3)]
    small = [SegmentSize(number, 20_000, 20_000) for number in range(3, 3 + 4**3)]

    assert candidates([*large, *small]) == tuple(range(3, 3 + 4**3))
    assert candidates([*large, *small], is_idle=True) == tuple(range(3, 3 + 4**3))
    one = SegmentSize(100, 4**3 * 20_000, 4**3 * 20_000)
    assert candidates([*large, one]) == (0, 1, 2, 100)


def test_large_segments_of_an_idle_index_are_merged_at_once_after_small_ones() -> None:
    small = [SegmentSize(number, 80_000, 80_000) for number in range(5 * 16 + 3)]
    large = [SegmentSize(number, 1_280_000, 1_280_000) for number in range(100, 105)]

    assert settle(small, is_idle=True)[1] == [
        *(tuple(range(first, first + 16)) for first in range(0, 5 * 16, 16)),
        (80, 81, 82, *range(1001, 1006)),
    ]
    assert candidates(large) == (100, 101, 102, 103)
    assert candidates(large, is_idle=True) == (100, 101, 102, 103, 104)
    many = [SegmentSize(number, 900_000, 900_000) for number in range(16)]
    assert candidates(many) == (0, 1, 2, 3)
    assert candidates(many, is_idle=True) == tuple(range(16))


@pytest.mark.parametrize(("rows", "expected"), [(0, (0, 1, 2, 3)), (1, (0, 1, 2, 3, 4))])
def test_segments_of_an_idle_index_that_make_a_small_one_are_merged_first(
    rows: int, expected: tuple[int, ...]
) -> None:
    rows += AT_ONCE_ROWS_MAX // FAN_IN
    segments = [SegmentSize(number, rows, rows) for number in range(FAN_IN)]

    assert candidates([*segments, SegmentSize(4, 3_000_000, 3_000_000)], is_idle=True) == expected


def test_a_large_segment_gives_its_space_back_before_it_is_merged() -> None:
    half_dead = SegmentSize(0, 10_000_000, 5_000_000)
    large = [SegmentSize(number, 1_280_000, 1_280_000) for number in range(1, 5)]

    assert settle([half_dead, *large[:3]], is_idle=True)[1] == [(0,), (1, 2, 3, 1001)]
    assert settle([half_dead, *large], is_idle=True)[1] == [(1, 2, 3, 4), (0,), (1001, 1002)]


@pytest.mark.parametrize(("dead", "expected"), [(200, ()), (201, (7,)), (1000, (7,))])
def test_a_segment_of_which_over_a_fifth_is_dead_is_rewritten_alone(
    dead: int, expected: tuple[int, ...]
) -> None:
    segments = [SegmentSize(6, 50_000, 50_000), SegmentSize(7, 1000, 1000 - dead)]

    assert candidates(segments) == expected


def test_the_smallest_segments_are_merged_first_oldest_first() -> None:
    large = [SegmentSize(number, 100_000, 100_000) for number in range(4)]
    small = [SegmentSize(number, 10, 10) for number in range(4, 10)]

    assert candidates([*large, *small]) == (4, 5, 6, 7)
    assert candidates([*large, *small[:3]]) == (0, 1, 2, 3)


def test_nothing_is_merged_into_more_rows_than_a_merge_can_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merge, "ROWS_MAX", 100)
    fours = [SegmentSize(number, 25, 25) for number in range(4)]

    assert candidates(fours) == (0, 1, 2, 3)
    assert candidates([*fours[:3], SegmentSize(9, 26, 26)]) == ()


def test_a_segment_that_needs_it_is_rewritten() -> None:
    segments = [SegmentSize(1, 10, 10), SegmentSize(2, 10, 10, needs_rewrite=True)]

    assert candidates(segments) == (2,)
