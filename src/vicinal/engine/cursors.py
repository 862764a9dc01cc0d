"""Cursors: a snapshot kept for a while, and a place in it.

All pages of one listing come from the snapshot of its first, which is kept in memory for
`lifetime_s` after the last page was read. Keeping one costs little, as snapshots share
segments, but it holds on to merged-away segments, so their number is bounded: the one
unused longest gives way. Cursors do not outlive the process.
"""

import base64
import binascii
import secrets
import struct
import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadCursor
from vicinal.model import Page

KEPT_MAX = 64  # listings under way at once, of one index; ours
_PLACE = struct.Struct("<16sIQ")


class Cursors:
    """The listings under way of one index. Thread-safe."""

    def __init__(self, lifetime_s: float) -> None:
        self._lifetime_s = lifetime_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[Snapshot, float]] = OrderedDict()

    def page(self, newest: Snapshot, count: int, cursor: str | None) -> Page:
        """Return a page: the first of `newest`, or where a cursor points to.

        Raises:
            BadCursor: the cursor is not one of ours, or has expired.
        """
        if cursor is None:
            token, snapshot, view, row = secrets.token_bytes(16), newest, 0, 0
        else:
            token, view, row = _decode(cursor)
            snapshot = self._find(token, cursor)
            if view >= len(snapshot.views) or row > len(snapshot.views[view].live):
                raise BadCursor(f"{cursor!r} is not a cursor that a listing has returned")
        ids, view, row = snapshot.ids_from(view, row, count)
        if not snapshot.ids_from(view, row, 1)[0]:
            return Page(ids, snapshot.vector_count, None, None)
        expires_at = datetime.now(UTC) + timedelta(seconds=self._lifetime_s)
        self._keep(token, snapshot)
        return Page(ids, snapshot.vector_count, _encode(token, view, row), expires_at)

    def _keep(self, token: bytes, snapshot: Snapshot) -> None:
        with self._lock:
            self._drop_expired()
            self._kept[token] = (snapshot, time.monotonic() + self._lifetime_s)
            self._kept.move_to_end(token)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)

    def _find(self, token: bytes, cursor: str) -> Snapshot:
        with self._lock:
            self._drop_expired()
            if token not in self._kept:
                raise BadCursor(
                    f"cursor {cursor!r} has expired or belongs to another index; "
                    "list again without a cursor"
                )
            return self._kept[token][0]

    def _drop_expired(self) -> None:
        now = time.monotonic()
        while self._kept and next(iter(self._kept.values()))[1] <= now:
            self._kept.popitem(last=False)


def _encode(token: bytes, view: int, row: int) -> str:
    return base64.urlsafe_b64encode(_PLACE.pack(token, view, row)).decode().rstrip("=")


def _decode(cursor: str) -> tuple[bytes, int, int]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return _PLACE.unpack(raw)
    except (binascii.Error, ValueError, struct.error) as error:
        raise BadCursor(f"{cursor!r} is not a cursor that a listing has returned") from error
