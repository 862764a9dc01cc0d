"""Pages of one listing come from one snapshot, for as long as it is kept and no longer."""

import base64
import struct
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engines import Record, batch
from vicinal.engine.cursors import KEPT_MAX, Cursors
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadCursor
from vicinal.model import Metric, Seqno
from vicinal.segment.base import View
from vicinal.segment.tail import Tail


def view(ids: Sequence[str], dead: Sequence[str] = ()) -> View:
    tail = Tail(1, Metric.EUCLIDEAN, string_bytes_max=64)
    tail.append(batch(*(Record(each, [0]) for each in ids)))
    tail.kill(dead)
    return tail.view()


def snapshot(*views: View) -> Snapshot:
    return Snapshot(views, (), Seqno(1), "a mutation", None)


def numbered(count: int) -> Snapshot:
    return snapshot(view([f"v{n}" for n in range(count)]))


EMPTY = snapshot()


def all_pages(cursors: Cursors, first: Snapshot, count: int) -> list[list[str]]:
    """Read all pages; the index is empty as soon as the first has been read."""
    page = cursors.page(first, count, None)
    pages = [list(page.ids)]
    while page.next_cursor is not None:
        assert page.expires_at is not None
        page = cursors.page(EMPTY, count, page.next_cursor)
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
    first = cursors.page(numbered(5), 2, None)

    assert first.total_count == 5
    assert cursors.page(EMPTY, 2, first.next_cursor).total_count == 5


def test_a_listing_that_paused_too_long_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cursors = Cursors(60.0)
    first = cursors.page(numbered(9), 2, None)
    now += 59.0
    second = cursors.page(EMPTY, 2, first.next_cursor)
    now += 59.0

    third = cursors.page(EMPTY, 2, second.next_cursor)

    assert list(third.ids) == ["v4", "v5"]
    now += 61.0
    with pytest.raises(BadCursor, match="has expired"):
        cursors.page(EMPTY, 2, third.next_cursor)


def test_of_too_many_listings_the_one_unused_longest_gives_way() -> None:
    cursors = Cursors(900.0)
    started = [cursors.page(numbered(9), 2, None).next_cursor for _ in range(KEPT_MAX)]
    cursors.page(EMPTY, 2, started[0])

    cursors.page(numbered(9), 2, None)

    assert list(cursors.page(EMPTY, 2, started[0]).ids) == ["v2", "v3"]
    with pytest.raises(BadCursor, match="expired or belongs to another index"):
        cursors.page(EMPTY, 2, started[1])


def test_a_listing_of_one_page_is_not_kept() -> None:
    cursors = Cursors(900.0)
    started = cursors.page(numbered(9), 2, None).next_cursor

    for _ in range(2 * KEPT_MAX):
        cursors.page(numbered(2), 2, None)

    assert list(cursors.page(EMPTY, 2, started).ids) == ["v2", "v3"]


def forged(cursor: str, view: int, row: int) -> str:
    """Return a cursor of the same listing that points elsewhere."""
    token = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[:16]
    return base64.urlsafe_b64encode(struct.pack("<16sIQ", token, view, row)).decode().rstrip("=")


def test_a_cursor_that_points_outside_the_snapshot_is_refused() -> None:
    """Its numbers are the client's to change; a row beyond int64 was an OverflowError."""
    cursors = Cursors(900.0)
    cursor = cursors.page(numbered(9), 2, None).next_cursor
    assert cursor is not None

    for place, row in [(0, 10), (0, 2**63), (0, 2**64 - 1), (1, 0), (2**32 - 1, 2**64 - 1)]:
        with pytest.raises(BadCursor, match="not a cursor that a listing has returned"):
            cursors.page(EMPTY, 2, forged(cursor, place, row))
    assert list(cursors.page(EMPTY, 2, forged(cursor, 0, 8)).ids) == ["v8"]


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_not_a_cursor(text: str) -> None:
    cursors = Cursors(900.0)
    cursors.page(numbered(9), 2, None)

    with pytest.raises(BadCursor):
        cursors.page(EMPTY, 2, text)


def test_a_cursor_is_safe_in_a_url() -> None:
    cursors = Cursors(900.0)

    for _ in range(50):
        cursor = cursors.page(numbered(9), 2, None).next_cursor
        assert cursor is not None
        assert cursor.replace("-", "").replace("_", "").isalnum()
