"""Notices between nodes that an index has moved, by NOTIFY: hints, which nothing depends on.

    a node logs something  -> one notice soon after, not in the transaction that logs
    another, at rest       -> polls at once instead of when its pause is over (`follower`)

A node that polls as fast as it can needs none, so the notices of one index are `EVERY_S` apart. All
that is due goes in one statement, and these have pauses that grow with the number of nodes, as
every notice wakes every node's connection in the server. A NOTIFY takes a lock of all databases
until its transaction has ended: that of a notice waits for no disk and no standby.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection
from uuid import UUID, uuid4

from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.errors import Unavailable

logger = logging.getLogger(__name__)

EVERY_S = 0.5  # of one index; shorter than a node goes on polling after something has moved; ours
PAUSE_S = 0.005  # between two statements; ours
PAUSE_FOR_NODE_S = 0.001  # at least, for every node that lives; ours
AGAIN_AFTER_S = 0.5  # before a lost connection is made again; ours
INDEXES_MAX = 200  # in one notice, which has 8,000 bytes at most; more are said to be any
REMEMBERED_MAX = 10_000


class Notices:
    """Sends and receives notices, for one node. For the database's thread.

    Args:
        database: The one that carries them.
        count_nodes: Returns how many nodes live.
        on_moved: Called with the indexes of a notice of another node, None for any of them.

    Attributes:
        is_listening: Whether notices arrive.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        count_nodes: Callable[[], int],
        on_moved: Callable[[Collection[UUID] | None], None],
    ) -> None:
        self._database = database
        self._count_nodes = count_nodes
        self._on_moved = on_moved
        digest = hashlib.sha256(database.schema.encode()).hexdigest()
        self._channel = f"vicinal_{digest[:32]}"
        self._sender = uuid4().hex
        self._sent_at: dict[UUID, float] = {}
        self._due: set[UUID] = set()
        self._is_due = asyncio.Event()
        self._receiving: asyncio.Task[None] | None = None
        self.is_listening = False

    def send(self, index_id: UUID, *, is_last: bool = False) -> None:
        """Have other nodes told soon that an index has moved, unless they just were.

        Args:
            index_id: Of the index.
            is_last: Whether it is gone, which they are told in any case.
        """
        now = time.monotonic()
        if not is_last and now - self._sent_at.get(index_id, -EVERY_S) < EVERY_S:
            return
        if len(self._sent_at) >= REMEMBERED_MAX:
            self._sent_at.clear()
        self._sent_at[index_id] = now
        self._due.add(index_id)
        self._is_due.set()

    async def exchange(self) -> None:
        """Send and receive until cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._send_due())
                    tasks.create_task(self._receive())
            except Exception:  # a mistake of ours must not end the notices for good
                logger.exception("notices have stopped, and begin again")
            await asyncio.sleep(AGAIN_AFTER_S)

    def reconnect(self) -> None:
        """Receive by another connection: this one may be to a server that is lost."""
        if self._receiving is not None:
            self._receiving.cancel()

    async def _send_due(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            due, self._due = self._due, set()
            names = [index_id.hex for index_id in due] if len(due) <= INDEXES_MAX else []
            notice = " ".join([self._sender, *names])
            try:
                async with self._database.transaction(Use.NOTIFY, is_durable=False) as session:
                    await session.fetchrow("SELECT pg_notify($1, $2)", self._channel, notice)
            except Unavailable as error:
                logger.info("a notice was not sent: %s", error)  # others poll
            await asyncio.sleep(max(PAUSE_S, PAUSE_FOR_NODE_S * self._count_nodes()))

    async def _receive(self) -> None:
        while True:
            self._receiving = asyncio.get_running_loop().create_task(self._listen())
            try:
                # Not awaited itself: only what waits for it is cancelled when this ends.
                await asyncio.wait([self._receiving])
            finally:
                self._receiving.cancel()
                self.is_listening = False
            await asyncio.sleep(AGAIN_AFTER_S)

    async def _listen(self) -> None:
        try:
            async with self._database.session(Use.LISTEN) as session:
                await session.listen(self._channel, self._handle)
                self.is_listening = True
                self._on_moved(None)  # what was said before
                await session.wait_until_lost()
        except Unavailable as error:
            logger.info("notices are not received for now: %s", error)

    def _handle(self, notice: str) -> None:
        sender, *names = notice.split(" ")
        if sender != self._sender:
            self._on_moved([UUID(name) for name in names] or None)
