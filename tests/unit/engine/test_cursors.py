"""Pages of one listing come from one snapshot, for as long as it is kept and no longer."""

import base64
import gc
import itertools
import struct
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engines import DOCS, Record, batch, create, upsert
from vicinal.engine import cursors as cursors_module
from vicinal.engine.cursors import LIFETIME_FRACTION_MIN, Cursors, cursor_bytes, cursor_text
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadCursor, Overloaded
from vicinal.model import IndexAddress, Metric, Scan, Scope, Seqno
from vicinal.segment.base import View
from vicinal.segment.memtable import Memtable


def view(ids: Sequence[str], dead: Sequence[str] = ()) -> View:
    memtable = Memtable(1, Metric.EUCLIDEAN, string_bytes_max=64)
    memtable.append(batch(*(Record(each, [0]) for each in ids)))
    memtable.kill(dead)
    return memtable.view()


_seqnos = itertools.count(1)


def snapshot(*views: View) -> Snapshot:
    """Return a state of the index that no other is."""
    return Snapshot(views, (), Seqno(next(_seqnos)), "a mutation", None)


def numbered(count: int) -> Snapshot:
    return snapshot(view([f"v{n}" for n in range(count)]))


EMPTY = snapshot()


def all_pages(cursors: Cursors, first: Snapshot, count: int) -> list[list[str]]:
    """Read all pages; the index is empty as soon as the first has been read."""
    page = cursors.page("docs", first, count, None)
    pages = [list(page.ids)]
    while page.next_cursor is not None:
        assert page.expires_at is not None
        page = cursors.page("docs", EMPTY, count, page.next_cursor)
        pages.append(list(page.ids))
    return pages


PARTS = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), max_size=5)


@given(PARTS, st.integers(1, 7))
def test_every_live_id_is_on_one_page_and_every_page_but_the_last_is_full(
    parts: list[list[bool]], count: int
) -> None:
    views = []
    expected = []
    for place, rows in enumerate(parts):
        ids = [f"{place}-{row}" for row in range(len(rows))]
        views.append(view(ids, [each for each, dead in zip(ids, rows, strict=True) if dead]))
        expected += [each for each, dead in zip(ids, rows, strict=True) if not dead]

    pages = all_pages(Cursors(900.0), snapshot(*views), count)

    assert [each for page in pages for each in page] == expected
    assert all(len(page) == count for page in pages[:-1])
    assert pages[-1] or len(pages) == 1


def test_a_page_counts_the_vectors_of_its_own_snapshot() -> None:
    cursors = Cursors(900.0)
    first = cursors.page("docs", numbered(5), 2, None)

    assert first.total_count == 5
    assert cursors.page("docs", EMPTY, 2, first.next_cursor).total_count == 5


def test_a_listing_that_paused_too_long_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cursors = Cursors(60.0)
    first = cursors.page("docs", numbered(9), 2, None)
    now += 59.0
    second = cursors.page("docs", EMPTY, 2, first.next_cursor)
    now += 59.0

    third = cursors.page("docs", EMPTY, 2, second.next_cursor)

    assert list(third.ids) == ["v4", "v5"]
    now += 61.0
    with pytest.raises(BadCursor, match="has expired"):
        cursors.page("docs", EMPTY, 2, third.next_cursor)


def unfinished(cursors: Cursors, count: int, rows: int = 9) -> list[str]:
    """Begin listings of one state each; return their cursors."""
    found = []
    for _ in range(count):
        page = cursors.page("docs", numbered(rows), 2, None)
        assert page.next_cursor is not None
        found.append(page.next_cursor)
    return found


def test_a_listing_goes_on_however_many_have_begun_since() -> None:
    cursors = Cursors(900.0)
    started = unfinished(cursors, 200)

    for cursor in started:
        assert list(cursors.page("docs", EMPTY, 2, cursor).ids) == ["v2", "v3"]


def test_a_cursor_is_no_option_of_a_command_line() -> None:
    cursors = Cursors(900.0)

    assert {cursor[0] for cursor in unfinished(cursors, 500)} == {"c"}


def test_listings_of_one_state_share_what_is_kept() -> None:
    cursors = Cursors(900.0)
    state = numbered(5_000)
    first = cursors.page("docs", state, 2, None)
    once = cursors.kept_bytes

    rest = [cursors.page("docs", state, 3, None) for _ in range(1_000)]

    assert cursors.kept_bytes == once > 5_000
    assert list(cursors.page("docs", EMPTY, 2, first.next_cursor).ids) == ["v2", "v3"]
    assert list(cursors.page("docs", EMPTY, 2, rest[-1].next_cursor).ids) == ["v3", "v4"]


def test_the_same_ids_in_other_rows_go_on_from_where_they_were() -> None:
    """What was sealed or merged since has the seqno that it had."""
    cursors = Cursors(900.0)
    before = numbered(9)
    started = cursors.page("docs", before, 2, None).next_cursor
    after = Snapshot((view(["v0", "v1"]), view([f"v{n}" for n in range(8, 1, -1)])), (),
                     before.applied_seqno, "a mutation", None)  # fmt: skip

    again = cursors.page("docs", after, 5, None)

    ids = [*again.ids, *cursors.page("docs", after, 9, again.next_cursor).ids]
    assert sorted(ids) == [f"v{n}" for n in range(9)]
    assert list(cursors.page("docs", after, 2, started).ids) == ["v2", "v3"]


def test_two_listings_that_begin_at_once_go_on_each_in_its_own_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither finds the other's, and the same ids are in other rows of each."""
    cursors = Cursors(900.0)
    before = numbered(9)
    after = replace(before, views=(view([f"v{n}" for n in range(8, -1, -1)]),))
    monkeypatch.setattr(Cursors, "_of", lambda *_: None)

    first, second = (cursors.page("docs", each, 3, None) for each in (before, after))

    for page, rest in ((first, range(3, 9)), (second, range(5, -1, -1))):
        ids = cursors.page("docs", EMPTY, 9, page.next_cursor).ids
        assert list(ids) == [f"v{n}" for n in rest]


def test_a_listing_of_one_page_is_not_kept() -> None:
    cursors = Cursors(900.0)

    for _ in range(100):
        cursors.page("docs", numbered(2), 2, None)

    assert cursors.kept_bytes == 0


def test_promises_get_shorter_as_memory_runs_out_and_all_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each promise is held against the clock on which it was given; neither clock runs here."""
    now, moment = 1000.0, datetime(2026, 1, 1, tzinfo=UTC)

    class Still(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(moment.timestamp(), tz)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(cursors_module, "datetime", Still)
    cursors = Cursors(900.0, bytes_max=100_000)
    promised: list[tuple[str, float]] = []

    def promise_until_there_is_no_room() -> None:
        while True:
            page = cursors.page("docs", numbered(9), 2, None)
            assert page.next_cursor is not None
            assert page.expires_at is not None
            left = page.expires_at - moment
            promised.append((page.next_cursor, left.total_seconds()))

    with pytest.raises(Overloaded, match=r"have not been finished .* 100000 are allowed") as full:
        promise_until_there_is_no_room()

    assert cursors.kept_bytes <= 100_000
    assert len(promised) > 30
    lengths = [round(each) for _, each in promised]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[: len(lengths) // 2 - 1] == [900] * (len(lengths) // 2 - 1)
    assert 900 * LIFETIME_FRACTION_MIN - 2 <= lengths[-1] < 100
    assert full.value.retry_after == pytest.approx(lengths[-1], abs=5)
    for cursor, promise in sorted(promised, key=lambda each: each[1]):
        now = 1000.0 + promise - 5
        assert list(cursors.page("docs", EMPTY, 2, cursor).ids) == ["v2", "v3"]


def test_a_promise_is_not_shortened_by_a_later_one_of_the_same_listing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cursors = Cursors(900.0, bytes_max=100_000)
    state = numbered(9)
    first = cursors.page("docs", state, 2, None)
    now = 1100.0
    second = cursors.page("docs", EMPTY, 2, first.next_cursor)  # promised until 2000
    now = 1890.0
    with pytest.raises(Overloaded):
        unfinished(cursors, 100)
    cursors.page("docs", state, 2, None)  # promised for seconds, as little memory is left

    now = 1990.0

    assert list(cursors.page("docs", EMPTY, 2, second.next_cursor).ids) == ["v4", "v5"]


def test_room_comes_back_when_a_promise_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cursors = Cursors(900.0, bytes_max=10_000)
    with pytest.raises(Overloaded) as refused:
        unfinished(cursors, 100)
    assert refused.value.retry_after is not None

    now += refused.value.retry_after + 0.001
    unfinished(cursors, 1)
    now += 901.0

    assert cursors.kept_bytes == 0


def test_one_listing_may_be_larger_than_the_bound() -> None:
    cursors = Cursors(900.0, bytes_max=1_000)

    (cursor,) = unfinished(cursors, 1, rows=5_000)

    assert list(cursors.page("docs", EMPTY, 2, cursor).ids) == ["v2", "v3"]
    with pytest.raises(Overloaded):
        unfinished(cursors, 1)
    assert len(cursors.page("docs", numbered(9), 9, None).ids) == 9


def test_ids_that_a_memtable_takes_later_count() -> None:
    cursors = Cursors(900.0)
    memtable = Memtable(1, Metric.EUCLIDEAN, string_bytes_max=64)
    memtable.append(batch(*(Record(f"a{n}", [0]) for n in range(5))))
    cursors.page("docs", snapshot(memtable.view()), 2, None)
    before = cursors.kept_bytes

    memtable.append(batch(*(Record(f"b{n}", [0]) for n in range(1_000))))

    assert cursors.kept_bytes >= before + 100 * 1_000


def test_a_listing_keeps_ids_and_lets_go_of_values() -> None:
    cursors = Cursors(900.0)
    memtable = Memtable(1, Metric.EUCLIDEAN, string_bytes_max=64)
    memtable.append(batch(*(Record(f"v{n}", [0]) for n in range(9))))
    cursor = cursors.page("docs", snapshot(memtable.view()), 2, None).next_cursor
    gone = weakref.ref(memtable)

    del memtable
    gc.collect()

    assert gone() is None
    assert list(cursors.page("docs", EMPTY, 2, cursor).ids) == ["v2", "v3"]


def test_a_cursor_of_another_index_or_of_one_that_is_gone_is_refused() -> None:
    cursors = Cursors(900.0)
    (cursor,) = unfinished(cursors, 1)

    with pytest.raises(BadCursor, match="belongs to another index"):
        cursors.page("other", EMPTY, 2, cursor)
    cursors.remove("docs")

    with pytest.raises(BadCursor, match="belongs to another index"):
        cursors.page("docs", EMPTY, 2, cursor)
    assert cursors.kept_bytes == 0


def test_a_listing_goes_on_under_writes_seals_and_merges(tmp_path: Path) -> None:
    engine = EmbeddedEngine.open(tmp_path, EngineOptions(memtable_rows_max=16, memtables_max=1_000))
    create(engine)
    ids = [f"v{n:04}" for n in range(100)]
    upsert(engine, *(Record(each, [1, 1]) for each in ids))
    first = engine.list(DOCS, 10, None)

    for number in range(200):  # each a state of its own, of which the listing is not finished
        upsert(engine, Record(f"new{number}", [0, 0]), Record(ids[number % 100], [2, 2]))
        assert engine.list(DOCS, 10, None).next_cursor is not None
    engine.compact(DOCS)
    listed = [*first.ids]
    cursor = first.next_cursor
    while cursor is not None:
        page = engine.list(DOCS, 7, cursor)
        listed += page.ids
        cursor = page.next_cursor

    engine.close()
    assert sorted(listed) == ids


def test_a_listing_goes_on_when_its_index_was_closed_to_evict_unused(tmp_path: Path) -> None:
    engine = EmbeddedEngine.open(tmp_path, EngineOptions(open_indexes_max=1))
    create(engine)
    ids = [f"v{n}" for n in range(9)]
    upsert(engine, *(Record(each, [1, 1]) for each in ids))
    first = engine.list(DOCS, 4, None)
    other = IndexAddress("acme", "other")
    create(engine, other)
    engine.compact(DOCS)  # nothing is under way, so that it may be closed

    upsert(engine, Record("a", [1, 1]), address=other)
    assert [each.address for each in engine.usage().open_indexes] == [other]
    second = engine.list(DOCS, 9, first.next_cursor)

    engine.close()
    assert sorted([*first.ids, *second.ids]) == ids


def test_a_cursor_of_ids_is_none_of_vectors_and_the_other_way_round() -> None:
    cursors = Cursors(900.0)
    state = numbered(9)
    of_ids = cursors.page("docs", state, 2, None).next_cursor
    of_vectors = cursors.vectors("docs", state, Scan(), 2, None).next_cursor

    with pytest.raises(BadCursor, match="not a cursor that a listing has returned"):
        cursors.vectors("docs", EMPTY, Scan(), 2, of_ids)
    with pytest.raises(BadCursor, match="not a cursor that a listing has returned"):
        cursors.page("docs", EMPTY, 2, of_vectors)


def forged(cursor: str, view: int, row: int) -> str:
    """Return a cursor of the same listing that points elsewhere."""
    token = cursor_bytes(cursor)[:16]
    return cursor_text(struct.pack("<16sIQ", token, view, row))


def test_a_cursor_that_points_outside_the_snapshot_is_refused() -> None:
    """Its numbers are the client's to change; a row beyond int64 was an OverflowError."""
    cursors = Cursors(900.0)
    cursor = cursors.page("docs", numbered(9), 2, None).next_cursor
    assert cursor is not None

    for place, row in [(0, 10), (0, 2**63), (0, 2**64 - 1), (1, 0), (2**32 - 1, 2**64 - 1)]:
        with pytest.raises(BadCursor, match="not a cursor that a listing has returned"):
            cursors.page("docs", EMPTY, 2, forged(cursor, place, row))
    assert list(cursors.page("docs", EMPTY, 2, forged(cursor, 0, 8)).ids) == ["v8"]


@given(
    st.text()
    | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    | st.binary().map(cursor_text)
)
def test_any_other_text_is_not_a_cursor(text: str) -> None:
    cursors = Cursors(900.0)
    cursors.page("docs", numbered(9), 2, None)

    with pytest.raises(BadCursor):
        cursors.page("docs", EMPTY, 2, text)


def test_a_cursor_without_its_letter_is_none() -> None:
    cursors = Cursors(900.0)
    (cursor,) = unfinished(cursors, 1)

    with pytest.raises(BadCursor, match="not a cursor that a listing has returned"):
        cursors.page("docs", EMPTY, 2, cursor.removeprefix("c"))


def test_a_cursor_is_safe_in_a_url() -> None:
    cursors = Cursors(900.0)

    for _ in range(50):
        cursor = cursors.page("docs", numbered(9), 2, None).next_cursor
        assert cursor is not None
        assert cursor.replace("-", "").replace("_", "").isalnum()


def test_nothing_is_kept_of_listings_that_could_not_begin() -> None:
    cursors = Cursors(900.0, bytes_max=10_000)
    for text in ("none", cursor_text(b"x" * 28)):
        with pytest.raises(BadCursor):
            cursors.page("docs", numbered(9), 2, text)
    assert cursors.kept_bytes == 0
    with pytest.raises(Overloaded):
        unfinished(cursors, 100)
    kept = cursors.kept_bytes

    for _ in range(3):
        with pytest.raises(Overloaded):
            unfinished(cursors, 1)
        with pytest.raises(Overloaded):
            cursors.vectors("docs", numbered(9), Scan(Scope(), True, True), 2, None)

    assert cursors.kept_bytes == kept
    cursors.remove("docs")
    assert cursors.kept_bytes == 0
