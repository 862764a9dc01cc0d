"""Listings of ids, and their cursors: signed positions that any node can go on from, also after a
failover.

A listing is of the rows as they were at one seqno: a query for what was born by then and not gone.
A cursor says which index, at which seqno, after which id and until when. It is signed with the
cluster's key, so nobody can make one up or move it to another index. All times are the database's:
nodes' clocks need not agree.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from vicinal.engine.cursors import cursor_bytes, cursor_text
from vicinal.engine.shared.database import PostgresDatabase
from vicinal.errors import BadCursor, IndexNotFound
from vicinal.model import Page

_SIGNATURE_BYTES = 16


GONE_S = 6 * 3600.0  # how long ids that are deleted are kept for listings, at least; ours
_MARGIN_S = 600.0  # ids of one checkpoint are dated by its beginning


class ListPosition(msgspec.Struct, frozen=True, array_like=True):
    """A position in a listing.

    Attributes:
        index_id: Of the index, 16 bytes.
        seqno: Which state of it is listed.
        mutation_id: The mutation of that seqno, 16 bytes, empty before any: another one with the
            seqno means that a failover took this state back.
        total_count: How many ids it has.
        after: The last id listed.
        began_at: When the first page was read, seconds since the epoch.
        expires_at: Until when the next page may be asked for.
    """

    index_id: bytes
    seqno: int
    mutation_id: bytes
    total_count: int
    after: bytes
    began_at: float
    expires_at: float


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ListPosition)


@dataclass(frozen=True, slots=True)
class SharedCursors:
    """Writes and reads cursors with one key."""

    secret: bytes

    def encode(self, position: ListPosition) -> str:
        """Return a position as clients get it."""
        raw = _encoder.encode(position)
        return cursor_text(self._sign(raw) + raw)

    def decode(self, index_id: UUID, cursor: str) -> ListPosition:
        """Return the position that a cursor names.

        Raises:
            BadCursor: it was not made with this key, or for another index.
        """
        try:
            raw = cursor_bytes(cursor)
        except ValueError as error:
            raise _unknown(cursor) from error
        signature, raw = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(raw)):
            raise _unknown(cursor)
        position = _decoder.decode(raw)
        if position.index_id != index_id.bytes:
            raise expired(cursor)
        return position

    def _sign(self, raw: bytes) -> bytes:
        return hmac.digest(self.secret, raw, hashlib.sha256)[:_SIGNATURE_BYTES]


@dataclass(frozen=True, slots=True)
class Listings:
    """Reads pages of ids. For the database's thread.

    Args:
        database: Where the rows are.
        cursors: Of the cluster.
        lifetime_s: How long a listing may pause between two pages; all of it takes at most what
            is left of `gone_s`.
    """

    database: PostgresDatabase
    cursors: SharedCursors
    lifetime_s: float
    gone_s: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gone_s", max(GONE_S, 2 * self.lifetime_s + _MARGIN_S))

    async def first(self, index_id: UUID, name: str, count: int) -> Page:
        """Return the first page of the rows as they are.

        Raises:
            IndexNotFound: the index is gone.
        """
        row = await self.database.read(
            lambda session: session.fetchrow(_FIRST, index_id, count + 1)
        )
        if row is None:
            raise IndexNotFound(name)
        mutation_id = row["mutation_id"]
        position = ListPosition(
            index_id.bytes,
            row["seqno"],
            b"" if mutation_id is None else mutation_id.bytes,
            row["vector_count"],
            b"",
            row["now"],
            0.0,
        )
        return self._page(position, row["ids"], count, row["now"])

    async def next(self, index_id: UUID, count: int, cursor: str) -> tuple[Page | None, int]:
        """Return the page that a cursor names; none when the rows have yet to come to the seqno
        that is returned with it, as a crash may have taken them back.

        Raises:
            BadCursor: the cursor is unknown, of another index, or expired.
        """
        position = self.cursors.decode(index_id, cursor)
        row = await self.database.read(
            lambda session: session.fetchrow(
                _NEXT, index_id, position.seqno, position.after, count + 1
            )
        )
        if row is None or row["now"] > position.expires_at:
            raise expired(cursor)
        if row["mutation_id"] is not None and row["mutation_id"].bytes != position.mutation_id:
            raise expired(cursor)
        if row["logged_seqno"] < position.seqno:
            raise expired(cursor)
        if row["folded_seqno"] < position.seqno:
            return None, position.seqno
        return self._page(position, row["ids"], count, row["now"]), position.seqno

    def _page(self, position: ListPosition, ids: Sequence[bytes], count: int, now: float) -> Page:
        page = [id_.decode() for id_ in ids[:count]]
        if len(ids) <= count:
            return Page(page, position.total_count, None, None)
        end = position.began_at + self.gone_s - _MARGIN_S
        expires_at = min(now + self.lifetime_s, end)
        following = msgspec.structs.replace(position, after=ids[count - 1], expires_at=expires_at)
        return Page(
            page,
            position.total_count,
            self.cursors.encode(following),
            datetime.fromtimestamp(expires_at, UTC),
        )


_FIRST = """
SELECT seqno, mutation_id, vector_count, extract(epoch FROM now())::float8 AS now,
  ARRAY(SELECT id FROM vicinal.vector WHERE index_id = $1 ORDER BY id LIMIT $2) AS ids
FROM vicinal.folded WHERE index_id = $1
"""

_NEXT = """
SELECT folded.seqno AS folded_seqno, head.logged_seqno, extract(epoch FROM now())::float8 AS now,
  (SELECT mutation_id FROM vicinal.mutation WHERE index_id = $1 AND seqno = $2) AS mutation_id,
  ARRAY((SELECT id FROM vicinal.vector
      WHERE index_id = $1 AND born <= $2 AND id > $3 ORDER BY id LIMIT $4)
    UNION ALL (SELECT id FROM vicinal.gone
      WHERE index_id = $1 AND born <= $2 AND died > $2 AND id > $3 ORDER BY id LIMIT $4)
    ORDER BY id LIMIT $4) AS ids
FROM vicinal.folded AS folded JOIN vicinal.head AS head USING (index_id) WHERE index_id = $1
"""


def expired(cursor: str) -> BadCursor:
    """Return what is said of a cursor whose listing is no longer there."""
    return BadCursor(
        f"cursor {cursor!r} has expired or belongs to another index; list again without a cursor"
    )


def _unknown(cursor: str) -> BadCursor:
    return BadCursor(f"{cursor!r} is not a cursor that a listing has returned")
