"""Which nodes live, and how far the copies of every node have come.

Heartbeats in tables that are not logged: a crash of the database empties them, and the next beat
fills them again. They decide nothing but whom `Prefer: wait` waits for. All times are the
database's.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Mapping
from uuid import UUID, uuid4

from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.schema import FORMAT
from vicinal.engine.shared.session import Session
from vicinal.model import Seqno

BEAT_S = 1.0  # ours
LIVE_S = 5.0  # a node unseen for so long is not waited for; ours
PLACES_S = 0.05  # between two reports of how far copies have come; ours
WAIT_POLL_S = 0.01  # ours


class Nodes:
    """This node among the others. For the database's thread.

    Attributes:
        count: Nodes that live, this one with them, as of the last beat.
    """

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.node_id = uuid4()
        self._name = f"{socket.gethostname()}"[:200]
        self.count = 1
        self._beat_at = 0.0
        self._reported_at = 0.0
        self._reported: dict[UUID, Seqno] = {}
        self._reporting = asyncio.Lock()  # or what is announced could be deleted as closed

    async def beat(
        self,
        session: Session,
        places: Mapping[UUID, Seqno],
        kept: Callable[[], Collection[UUID]],
    ) -> None:
        """Say that this node lives, and how far its copies are, each when it is due.

        Args:
            session: A connection.
            places: How far each copy is.
            kept: Returns of which indexes there are copies at this moment, those included that are
                being opened and may have been announced.
        """
        now = time.monotonic()
        if now - self._beat_at >= BEAT_S:
            row = await session.fetchrow(_BEAT, self.node_id, self._name, LIVE_S, FORMAT)
            self.count, self._beat_at = row[0], now
        if now - self._reported_at < PLACES_S:
            return
        async with self._reporting:
            copies = kept()
            closed = [index_id for index_id in self._reported if index_id not in copies]
            # Alone, only which copies there are: the first other one has to find them.
            moved = {
                index_id: seqno
                for index_id, seqno in places.items()
                if index_id in copies
                and (
                    index_id not in self._reported
                    or (self.count > 1 and self._reported[index_id] < seqno)
                )
            }
            if moved or closed:
                await session.execute(
                    _REPORT, self.node_id, list(moved), list(moved.values()), closed
                )
                self._reported |= moved
                for index_id in closed:
                    del self._reported[index_id]
                self._reported_at = now

    async def announce(self, index_id: UUID, seqno: Seqno) -> None:
        """Say that this node is about to answer from a copy of an index.

        A caller that waits for a mutation that is logged after this waits for this copy, too.
        """
        async with self._database.session(Use.READ) as session:
            row = await session.fetchrow(_BEAT, self.node_id, self._name, LIVE_S, FORMAT)
            self.count, self._beat_at = row[0], time.monotonic()
            async with self._reporting:
                await session.execute(_REPORT, self.node_id, [index_id], [seqno], [])
                self._reported[index_id] = seqno

    async def leave(self) -> None:
        """Say that this node is gone."""
        async with self._database.session(Use.READ) as session:
            await session.execute("DELETE FROM vicinal.copy WHERE node_id = $1", self.node_id)
            await session.execute("DELETE FROM vicinal.node WHERE node_id = $1", self.node_id)

    async def wait_for_others(self, index_id: UUID, seqno: Seqno, until: float) -> bool:
        """Wait until the copies of all live nodes have a mutation; return whether they do.

        Args:
            index_id: Of the index.
            seqno: Of the mutation.
            until: When to stop, in monotonic seconds.
        """
        while True:
            async with self._database.session(Use.READ) as session:
                (behind,) = await session.fetchrow(_BEHIND, index_id, seqno, self.node_id, LIVE_S)
            if not behind:
                return True
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(WAIT_POLL_S)


_BEAT = """
WITH beat AS (
  INSERT INTO vicinal.node (node_id, name, seen_at, format) VALUES ($1, $2, now(), $4)
  ON CONFLICT (node_id) DO UPDATE SET seen_at = now()),
old AS (
  DELETE FROM vicinal.copy WHERE node_id IN (
    SELECT node_id FROM vicinal.node WHERE seen_at < now() - interval '1 hour')),
gone AS (
  DELETE FROM vicinal.node WHERE seen_at < now() - interval '1 hour')
SELECT count(*) + 1 FROM vicinal.node
WHERE node_id <> $1 AND seen_at > now() - make_interval(secs => $3)
"""

_REPORT = """
WITH moved AS (
  INSERT INTO vicinal.copy SELECT unnest($2::uuid[]), $1, unnest($3::bigint[])
  ON CONFLICT (index_id, node_id) DO UPDATE SET seqno = excluded.seqno)
DELETE FROM vicinal.copy WHERE node_id = $1 AND index_id = ANY($4)
"""

_BEHIND = """
SELECT count(*) FROM vicinal.copy AS copy JOIN vicinal.node AS node USING (node_id)
WHERE copy.index_id = $1 AND copy.seqno < $2 AND node_id <> $3
  AND node.seen_at > now() - make_interval(secs => $4)
"""
