"""A ledger, a catalog and rows over one database, without copies: a node's writing half."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

from tests.support.postgres import server
from vicinal.engine import records
from vicinal.engine.shared.catalog import SharedCatalog
from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.drafts import SharedDraft
from vicinal.engine.shared.ledger import Ledger
from vicinal.engine.shared.log_reader import LogReader
from vicinal.engine.shared.permits import Permits
from vicinal.engine.shared.rows import Rows
from vicinal.limits import Limits
from vicinal.model import Accepted, IndexAddress, IndexConfig, Metric, Mutation, Seqno

WITHIN_S = 60.0


def another(database: PostgresDatabase) -> PostgresDatabase:
    """Open the same database as another node does."""
    return PostgresDatabase(server().dsn, database.schema)


class Writer:
    """What one node has for writing."""

    def __init__(
        self,
        database: PostgresDatabase,
        limits: Limits | None = None,
        *,
        write_deadline_s: float = 30.0,
    ) -> None:
        self.database = database
        self.dropped: list[UUID] = []
        self.settled: list[tuple[UUID, int]] = []
        self.catalog = SharedCatalog(
            database, write_deadline_s, lambda index_id, _name: self.dropped.append(index_id)
        )
        self.workers = ThreadPoolExecutor(2)
        self.folder = Path(tempfile.mkdtemp(prefix="vicinal-ledger-"))
        self.log_reader = LogReader(self.folder)
        self.rows = Rows(database, self.workers, 3600.0, self.log_reader)
        permits = Permits(limits or Limits(), self._checkpoint_until)
        self.ledger = Ledger(
            database, permits, self.log_reader, write_deadline_s,
            lambda *settled: self.settled.append(settled),
        )  # fmt: skip

    def create(self, name: str = "docs", dimensions: int = 2) -> UUID:
        index = self.catalog.add(
            IndexAddress("acme", name), IndexConfig(dimensions, Metric.EUCLIDEAN), None, None
        )
        return UUID(index.id)

    def append(self, index_id: UUID, mutation: Mutation, wait_s: float = 0.0) -> Future[Accepted]:
        until = time.monotonic() + wait_s
        draft = SharedDraft.of(mutation, records.encode(mutation))
        return self.ledger.append(index_id, "docs", draft, draft.record.size, until)

    def log(self, index_id: UUID, *mutations: Mutation) -> list[Accepted]:
        """Append and wait."""
        return [each.result(WITHIN_S) for each in [self.append(index_id, m) for m in mutations]]

    def fold(self, index_id: UUID, seqno: int) -> int:
        until = time.monotonic() + WITHIN_S
        return self.database.run_coroutine(
            self.rows.checkpoint_until(index_id, Seqno(seqno), until)
        )

    def fetch(self, sql: str, *arguments: object) -> Sequence[tuple[object, ...]]:
        async def fetch() -> Sequence[tuple[object, ...]]:
            async with self.database.session(Use.READ) as session:
                return [tuple(row) for row in await session.fetch(sql, *arguments)]

        return self.database.run_coroutine(fetch())

    def close(self) -> None:
        self.ledger.close()
        self.workers.shutdown()
        shutil.rmtree(self.folder)

    async def _checkpoint_until(self, index_id: UUID, seqno: Seqno) -> int:
        return await self.rows.checkpoint_until(index_id, seqno, time.monotonic() + WITHIN_S)
