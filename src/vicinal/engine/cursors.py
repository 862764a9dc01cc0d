"""Cursors: positions in listings, which are kept until a promised time.

All pages of a listing are of one snapshot, taken with the first page. A mask of its rows and their
ids are kept in memory. A listing of ids keeps no values and metadata, so it pins neither the
memtable's arrays nor the large files of segments that have been merged away. A listing of vectors
(`scan`) pins both, and the arrays count as its memory.

A returned timestamp is a promise, which no other listing, write, merge or close shortens. So memory
is bounded by new promises: listings of one state of an index share arrays; from half of
`KEPT_BYTES_MAX` in use, new promises are shorter in proportion to the rest; and without any rest a
listing of several pages cannot begin until a promise has ended.
Cursors do not outlive the process.
"""

import base64
import heapq
import secrets
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from vicinal.engine import scan
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadCursor, Overloaded
from vicinal.model import Floats, Mask, Ordinals, Page, Scan, Scope, Seqno, VectorPage
from vicinal.segment.base import View
from vicinal.segment.ids import IdTable

KEPT_BYTES_MAX = 256 << 20  # of all listings under way, over all indexes; ours
LIFETIME_FRACTION_MIN = 1 / 60  # promised in any case: 15 of 900 seconds; ours

_Buffer = Mask | Floats | Sequence[str]

_POSITION = struct.Struct("<16sIQ")
_LETTER = "c"  # of every cursor
_ENTRY_BYTES = 1_024  # of a listing without its arrays, rounded up
_ID_BYTES = 150  # of a string of 64 bytes of UTF-8 and a pointer to it, rounded up
_ROWS_AT_ONCE = 1 << 16  # searched for live rows at one time


@dataclass(frozen=True, slots=True)
class _ListedView:
    """A mask of the listed rows of a view, and the ids of all its rows; the view itself where
    vectors are listed."""

    live: Mask
    ids: IdTable | Sequence[str]
    view: View | None = None

    def take(self, rows: Ordinals) -> list[str]:
        if isinstance(self.ids, IdTable):
            return self.ids.take(rows)
        return [self.ids[row] for row in rows.tolist()]

    def buffers(self) -> Iterator[_Buffer]:
        """Yield the array and the list that the view keeps in memory."""
        yield self.live.base if isinstance(self.live.base, np.ndarray) else self.live
        # Ids of a segment are in a file, which takes disk until the listing ends.
        if not isinstance(self.ids, IdTable):
            yield self.ids
        if self.view is not None:
            yield from self.view.buffers()


@dataclass(frozen=True, slots=True)
class _Listing:
    """The ids of a snapshot, in a fixed order."""

    parts: tuple[_ListedView, ...]
    vector_count: int
    has_vectors: bool = False

    @classmethod
    def of(cls, snapshot: Snapshot) -> "_Listing":
        parts = tuple(_ListedView(view.live, view.id_source) for view in snapshot.views)
        return cls(parts, snapshot.vector_count)

    @classmethod
    def of_vectors(cls, snapshot: Snapshot, scope: Scope) -> "_Listing":
        parts = []
        for view, rows in scan.select(snapshot, scope):
            mask = np.zeros(len(view.live), np.bool_)
            mask[rows] = True
            parts.append((_ListedView(mask, view.id_source, view), len(rows)))
        return cls(
            tuple(part for part, _ in parts), sum(count for _, count in parts), has_vectors=True
        )

    def has(self, part: int, row: int) -> bool:
        """Tell whether a position is in the listing."""
        return part < len(self.parts) and row <= len(self.parts[part].live)

    def ids_from(self, part: int, row: int, count: int) -> tuple[list[str], int, int]:
        """Return up to `count` ids, and the part and row of the next position."""
        rows, part, row = self.rows_from(part, row, count)
        return [id for view, some in rows for id in view.take(some)], part, row

    def rows_from(
        self, part: int, row: int, count: int
    ) -> tuple[list[tuple[_ListedView, Ordinals]], int, int]:
        """Return up to `count` rows, and the part and row of the next position."""
        listed: list[tuple[_ListedView, Ordinals]] = []
        for current in range(part, len(self.parts)):
            view = self.parts[current]
            start = row if current == part else 0
            for first in range(start, len(view.live), _ROWS_AT_ONCE):
                alive = np.flatnonzero(view.live[first : first + _ROWS_AT_ONCE])
                rows = alive[:count] + first
                listed.append((view, rows))
                count -= len(rows)
                if not count:
                    return listed, current, int(rows[-1]) + 1
        return listed, len(self.parts), 0


@dataclass(slots=True)
class _Kept:
    """A listing of one state of an index, and the end of its promise."""

    owner: str
    seqno: Seqno
    listing: _Listing
    ends_at: float  # monotonic seconds


@dataclass(slots=True)
class _SharedBuffer:
    """An array or a list, with the number of listings that have it."""

    buffer: _Buffer
    holders: int = 0


class Cursors:
    """The listings under way of all indexes. Thread-safe.

    Args:
        lifetime_s: Time from one page to the next, promised while memory is free.
        bytes_max: Bound on the memory of all listings.
    """

    def __init__(self, lifetime_s: float, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._lifetime_s = lifetime_s
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._kept: dict[bytes, _Kept] = {}
        self._tokens: dict[tuple[str, Seqno], bytes] = {}
        self._ends: list[tuple[float, bytes]] = []  # a heap; an end may have moved since
        self._held: dict[int, _SharedBuffer] = {}  # by identity

    @property
    def kept_bytes(self) -> int:
        """Bytes of memory of the listings under way."""
        with self._lock:
            self._remove_ended(time.monotonic())
            return self._count()

    def page(self, owner: str, newest: Snapshot, count: int, cursor: str | None) -> Page:
        """Return a page: the first of `newest`, or the one at a cursor.

        Args:
            owner: Unique id of the index.
            newest: Its newest snapshot.
            count: Bound on the number of ids.
            cursor: Position of the page, None for the first.

        Raises:
            BadCursor: no listing has returned this cursor, or it has expired.
            Overloaded: there is no memory for one more listing.
        """
        if cursor is None:
            # Another snapshot of the same seqno has the same ids, perhaps in other rows.
            kept = self._of(owner, newest.applied_seqno)
            listing, part, row = kept or _Listing.of(newest), 0, 0
        else:
            token, listing, part, row = self._position(owner, cursor, has_vectors=False)
        ids, part, row = listing.ids_from(part, row, count)
        if not listing.ids_from(part, row, 1)[0]:
            return Page(ids, listing.vector_count, None, None)
        if cursor is None:
            token, expires_at = self._keep(owner, newest.applied_seqno, listing)
        else:
            expires_at = self._renew(token, cursor)
        return Page(ids, listing.vector_count, _encode(token, part, row), expires_at)

    def vectors(
        self, owner: str, newest: Snapshot, wanted: Scan, count: int, cursor: str | None
    ) -> VectorPage:
        """Return a page of vectors: the first of those in the scope, or the one at a cursor.

        Args:
            owner: Unique id of the index.
            newest: Its newest snapshot.
            wanted: The parts to return; of the first page also the scope.
            count: Bound on the number of vectors.
            cursor: Position of the page, None for the first.

        Raises:
            BadFilter: see `scan.select`.
            BadCursor, Overloaded: as `page`.
        """
        if cursor is None:
            listing, part, row = _Listing.of_vectors(newest, wanted.scope), 0, 0
        else:
            token, listing, part, row = self._position(owner, cursor, has_vectors=True)
        rows, part, row = listing.rows_from(part, row, count)
        vectors = [
            vector
            for listed, some in rows
            if listed.view is not None
            for vector in scan.load(listed.view, some, wanted)
        ]
        if not listing.ids_from(part, row, 1)[0]:
            return VectorPage(vectors, listing.vector_count, None, None)
        if cursor is None:
            token, expires_at = self._keep(owner, newest.applied_seqno, listing)
        else:
            expires_at = self._renew(token, cursor)
        return VectorPage(vectors, listing.vector_count, _encode(token, part, row), expires_at)

    def remove(self, owner: str) -> None:
        """Remove the listings of a deleted index."""
        with self._lock:
            for token in [token for token, kept in self._kept.items() if kept.owner == owner]:
                self._remove(token)

    def _of(self, owner: str, seqno: Seqno) -> _Listing | None:
        with self._lock:
            self._remove_ended(time.monotonic())
            token = self._tokens.get((owner, seqno))
            return None if token is None else self._kept[token].listing

    def _position(
        self, owner: str, cursor: str, *, has_vectors: bool
    ) -> tuple[bytes, _Listing, int, int]:
        """Return the token of a cursor, its listing, and the part and row in it."""
        token, part, row = _decode(cursor)
        listing = self._find(owner, token, cursor)
        if listing.has_vectors != has_vectors or not listing.has(part, row):
            raise BadCursor(f"{cursor!r} is not a cursor that a listing has returned")
        return token, listing, part, row

    def _find(self, owner: str, token: bytes, cursor: str) -> _Listing:
        with self._lock:
            self._remove_ended(time.monotonic())
            kept = self._kept.get(token)
            if kept is None or kept.owner != owner:
                raise _expired(cursor)
            return kept.listing

    def _keep(self, owner: str, seqno: Seqno, listing: _Listing) -> tuple[bytes, datetime]:
        """Keep a listing after its first page; return its token and the end of the promise."""
        with self._lock:
            now = time.monotonic()
            self._remove_ended(now)
            # Every listing of vectors has a scope of its own.
            token = None if listing.has_vectors else self._tokens.get((owner, seqno))
            if token is not None and self._kept[token].listing is not listing:
                # Two began at once, and positions of this one are rows of its own snapshot.
                token = None
            if token is None:
                token = secrets.token_bytes(16)
                self._hold(listing, now)
                self._kept[token] = _Kept(owner, seqno, listing, now)
                if not listing.has_vectors:
                    self._tokens[owner, seqno] = token
                heapq.heappush(self._ends, (now, token))
            return token, self._promise(self._kept[token], now)

    def _renew(self, token: bytes, cursor: str) -> datetime:
        with self._lock:
            kept = self._kept.get(token)
            if kept is None:  # the listing or its index ended while the page was read
                raise _expired(cursor)
            return self._promise(kept, time.monotonic())

    def _promise(self, kept: _Kept, now: float) -> datetime:
        """Extend the promise of a listing, and return its end."""
        left = 2.0 * (1.0 - self._count() / self._bytes_max)
        seconds = self._lifetime_s * min(max(left, LIFETIME_FRACTION_MIN), 1.0)
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        kept.ends_at = max(kept.ends_at, now + seconds)
        return expires_at

    def _hold(self, listing: _Listing, now: float) -> None:
        buffers = _buffers(listing)
        new = _ENTRY_BYTES + sum(
            _size(buffer) for key, buffer in buffers.items() if key not in self._held
        )
        held = self._count()
        if self._kept and held + new > self._bytes_max:
            raise Overloaded(
                f"listings that have not been finished hold {held} bytes, one more takes {new}, "
                f"{self._bytes_max} are allowed",
                retry_after=max(min(kept.ends_at for kept in self._kept.values()) - now, 1.0),
                queue="listings",
            )
        for key, buffer in buffers.items():
            self._held.setdefault(key, _SharedBuffer(buffer)).holders += 1

    def _remove(self, token: bytes) -> None:
        kept = self._kept.pop(token)
        if self._tokens.get((kept.owner, kept.seqno)) == token:
            del self._tokens[kept.owner, kept.seqno]
        for key in _buffers(kept.listing):
            shared = self._held[key]
            shared.holders -= 1
            if not shared.holders:
                del self._held[key]

    def _count(self) -> int:
        # Not stored, as the ids of a memtable grow.
        return _ENTRY_BYTES * len(self._kept) + sum(
            _size(shared.buffer) for shared in self._held.values()
        )

    def _remove_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, token = heapq.heappop(self._ends)
            kept = self._kept.get(token)
            if kept is None:
                continue
            if kept.ends_at > now:
                heapq.heappush(self._ends, (kept.ends_at, token))
            else:
                self._remove(token)


def _buffers(listing: _Listing) -> dict[int, _Buffer]:
    return {id(buffer): buffer for part in listing.parts for buffer in part.buffers()}


def _size(buffer: _Buffer) -> int:
    return buffer.nbytes if isinstance(buffer, np.ndarray) else _ID_BYTES * len(buffer)


def _expired(cursor: str) -> BadCursor:
    return BadCursor(
        f"cursor {cursor!r} has expired or belongs to another index; list again without a cursor"
    )


def cursor_text(raw: bytes) -> str:
    """Return bytes as a cursor, which begins with a letter: after a dash programs see an option."""
    return _LETTER + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def cursor_bytes(cursor: str) -> bytes:
    """Return the bytes of a cursor.

    Raises:
        ValueError: it is none.
    """
    text = cursor.removeprefix(_LETTER)
    if text == cursor:
        raise ValueError(f"a cursor begins with {_LETTER!r}")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _encode(token: bytes, part: int, row: int) -> str:
    return cursor_text(_POSITION.pack(token, part, row))


def _decode(cursor: str) -> tuple[bytes, int, int]:
    try:
        return _POSITION.unpack(cursor_bytes(cursor))
    except (ValueError, struct.error) as error:
        raise BadCursor(f"{cursor!r} is not a cursor that a listing has returned") from error
