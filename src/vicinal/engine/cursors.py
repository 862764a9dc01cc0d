"""Cursors: a listing kept for a while, and a place in it.

All pages of one listing describe the index as it was when the first was read. What that takes
is kept in memory: which rows were alive, and the ids. Values and metadata are not, so a listing
pins neither the memtable's arrays nor the large files of segments that have been merged away.

A timestamp that was given out is a promise, and is kept whatever else is listed, written, merged
or closed meanwhile. So memory is bounded on the other side: listings of one state of an index
share what is kept; once half of `KEPT_BYTES_MAX` is in use, new promises are shorter, the more
so the less is left; and when nothing is, a listing of several pages cannot begin until one of the
promises has ended.
Cursors do not outlive the process.
"""

import base64
import binascii
import heapq
import secrets
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadCursor, Overloaded
from vicinal.model import Mask, Ordinals, Page, Seqno
from vicinal.segment.ids import IdTable

KEPT_BYTES_MAX = 256 << 20  # of all listings under way, over all indexes; ours
SHORTEST_PART = 1 / 60  # of the lifetime is promised in any case: 15 of 900 seconds; ours

_PLACE = struct.Struct("<16sIQ")
_ENTRY_BYTES = 1_024  # what a listing takes besides its arrays, rounded up
_ID_BYTES = 150  # what 64 bytes of UTF-8 take as a string, with the pointer to it, rounded up
_ROWS_AT_ONCE = 1 << 16  # looked at for the ids of a page


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of a view that are alive, and the ids of all its rows."""

    live: Mask
    ids: IdTable | Sequence[str]

    def take(self, rows: Ordinals) -> list[str]:
        if isinstance(self.ids, IdTable):
            return self.ids.take(rows)
        return [self.ids[row] for row in rows.tolist()]

    def holdings(self) -> Iterator[Mask | Sequence[str]]:
        """Yield what is held in memory."""
        yield self.live.base if isinstance(self.live.base, np.ndarray) else self.live
        # Those of a segment are in a file, and take disk until this is let go of.
        if not isinstance(self.ids, IdTable):
            yield self.ids


@dataclass(frozen=True, slots=True)
class _Listing:
    """The ids of a snapshot, in a fixed order."""

    parts: tuple[_Part, ...]
    vector_count: int

    @classmethod
    def of(cls, snapshot: Snapshot) -> "_Listing":
        parts = tuple(_Part(view.live, view.id_source) for view in snapshot.views)
        return cls(parts, snapshot.vector_count)

    def has(self, part: int, row: int) -> bool:
        """Return whether there is such a place."""
        return part < len(self.parts) and row <= len(self.parts[part].live)

    def ids_from(self, part: int, row: int, count: int) -> tuple[list[str], int, int]:
        """Return up to `count` ids, and the part and row to go on from."""
        ids: list[str] = []
        for place in range(part, len(self.parts)):
            each = self.parts[place]
            start = row if place == part else 0
            for first in range(start, len(each.live), _ROWS_AT_ONCE):
                alive = np.flatnonzero(each.live[first : first + _ROWS_AT_ONCE])
                rows = alive[: count - len(ids)] + first
                ids += each.take(rows)
                if len(ids) == count:
                    return ids, place, int(rows[-1]) + 1
        return ids, len(self.parts), 0


@dataclass(slots=True)
class _Kept:
    """A listing of one state of an index, for as long as it has been promised."""

    owner: str
    seqno: Seqno
    listing: _Listing
    ends_at: float  # monotonic seconds


@dataclass(slots=True)
class _Held:
    """An array or a list, and how many listings have it."""

    what: Mask | Sequence[str]
    holders: int = 0


class Cursors:
    """The listings under way of all indexes. Thread-safe.

    Args:
        lifetime_s: How long a listing may pause between two pages while memory is free.
        bytes_max: How much memory all may take.
    """

    def __init__(self, lifetime_s: float, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._lifetime_s = lifetime_s
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._kept: dict[bytes, _Kept] = {}
        self._tokens: dict[tuple[str, Seqno], bytes] = {}
        self._ends: list[tuple[float, bytes]] = []  # a heap; an end may have moved since
        self._held: dict[int, _Held] = {}  # by identity

    @property
    def kept_bytes(self) -> int:
        """How much memory the listings under way take."""
        with self._lock:
            self._drop_ended(time.monotonic())
            return self._count()

    def page(self, owner: str, newest: Snapshot, count: int, cursor: str | None) -> Page:
        """Return a page: the first of `newest`, or where a cursor points to.

        Args:
            owner: Which index; no other ever has it.
            newest: What it holds.
            count: How many ids at most.
            cursor: Where to go on.

        Raises:
            BadCursor: the cursor is not one of ours, or has expired.
            Overloaded: there is no memory to keep one more listing.
        """
        if cursor is None:
            # Another state of the same seqno has the same ids, if in other rows.
            kept = self._of(owner, newest.applied_seqno)
            listing, part, row = kept or _Listing.of(newest), 0, 0
        else:
            token, part, row = _decode(cursor)
            listing = self._find(owner, token, cursor)
            if not listing.has(part, row):
                raise BadCursor(f"{cursor!r} is not a cursor that a listing has returned")
        ids, part, row = listing.ids_from(part, row, count)
        if not listing.ids_from(part, row, 1)[0]:
            return Page(ids, listing.vector_count, None, None)
        if cursor is None:
            token, expires_at = self._keep(owner, newest.applied_seqno, listing)
        else:
            expires_at = self._renew(token, cursor)
        return Page(ids, listing.vector_count, _encode(token, part, row), expires_at)

    def forget(self, owner: str) -> None:
        """Let go of the listings of an index that is gone."""
        with self._lock:
            for token in [token for token, each in self._kept.items() if each.owner == owner]:
                self._drop(token)

    def _of(self, owner: str, seqno: Seqno) -> _Listing | None:
        with self._lock:
            self._drop_ended(time.monotonic())
            token = self._tokens.get((owner, seqno))
            return None if token is None else self._kept[token].listing

    def _find(self, owner: str, token: bytes, cursor: str) -> _Listing:
        with self._lock:
            self._drop_ended(time.monotonic())
            kept = self._kept.get(token)
            if kept is None or kept.owner != owner:
                raise _expired(cursor)
            return kept.listing

    def _keep(self, owner: str, seqno: Seqno, listing: _Listing) -> tuple[bytes, datetime]:
        """Keep a listing, of which a page has been read, and promise how long."""
        with self._lock:
            now = time.monotonic()
            self._drop_ended(now)
            token = self._tokens.get((owner, seqno))
            if token is not None and self._kept[token].listing is not listing:
                # Two began at once. The places of this one are in rows of its own.
                token = None
            if token is None:
                token = secrets.token_bytes(16)
                self._hold(listing, now)
                self._kept[token] = _Kept(owner, seqno, listing, now)
                self._tokens[owner, seqno] = token
                heapq.heappush(self._ends, (now, token))
            return token, self._promise(self._kept[token], now)

    def _renew(self, token: bytes, cursor: str) -> datetime:
        with self._lock:
            kept = self._kept.get(token)
            if kept is None:  # it ended, or the index did, while the page was read
                raise _expired(cursor)
            return self._promise(kept, time.monotonic())

    def _promise(self, kept: _Kept, now: float) -> datetime:
        """Return until when a listing is kept, and keep it so long at least."""
        left = 2.0 * (1.0 - self._count() / self._bytes_max)
        seconds = self._lifetime_s * min(max(left, SHORTEST_PART), 1.0)
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        kept.ends_at = max(kept.ends_at, now + seconds)
        return expires_at

    def _hold(self, listing: _Listing, now: float) -> None:
        holdings = _holdings(listing)
        new = _ENTRY_BYTES + sum(
            _size(each) for key, each in holdings.items() if key not in self._held
        )
        held = self._count()
        if self._kept and held + new > self._bytes_max:
            raise Overloaded(
                f"listings that have not been finished hold {held} bytes, one more takes {new}, "
                f"{self._bytes_max} are allowed",
                retry_after=max(min(each.ends_at for each in self._kept.values()) - now, 1.0),
            )
        for key, each in holdings.items():
            self._held.setdefault(key, _Held(each)).holders += 1

    def _drop(self, token: bytes) -> None:
        kept = self._kept.pop(token)
        if self._tokens.get((kept.owner, kept.seqno)) == token:
            del self._tokens[kept.owner, kept.seqno]
        for key in _holdings(kept.listing):
            held = self._held[key]
            held.holders -= 1
            if not held.holders:
                del self._held[key]

    def _count(self) -> int:
        # Again each time: the ids of a memtable become more while it is one.
        return _ENTRY_BYTES * len(self._kept) + sum(
            _size(each.what) for each in self._held.values()
        )

    def _drop_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, token = heapq.heappop(self._ends)
            kept = self._kept.get(token)
            if kept is None:
                continue
            if kept.ends_at > now:
                heapq.heappush(self._ends, (kept.ends_at, token))
            else:
                self._drop(token)


def _holdings(listing: _Listing) -> dict[int, Mask | Sequence[str]]:
    return {id(each): each for part in listing.parts for each in part.holdings()}


def _size(what: Mask | Sequence[str]) -> int:
    return what.nbytes if isinstance(what, np.ndarray) else _ID_BYTES * len(what)


def _expired(cursor: str) -> BadCursor:
    return BadCursor(
        f"cursor {cursor!r} has expired or belongs to another index; list again without a cursor"
    )


def _encode(token: bytes, part: int, row: int) -> str:
    return base64.urlsafe_b64encode(_PLACE.pack(token, part, row)).decode().rstrip("=")


def _decode(cursor: str) -> tuple[bytes, int, int]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return _PLACE.unpack(raw)
    except (binascii.Error, ValueError, struct.error) as error:
        raise BadCursor(f"{cursor!r} is not a cursor that a listing has returned") from error
