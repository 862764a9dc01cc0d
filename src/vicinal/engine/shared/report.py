"""A look at a database from outside: for ``vicinal doctor``, before and while servers use it.

Nothing is changed, and no table is made.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.session import Session


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """The state of a database.

    Attributes:
        version: As PostgreSQL writes it.
        round_trip_s: Seconds of one statement.
        clock_ahead_s: Seconds that its clock is ahead of this machine's.
        is_synced: Whether what COMMIT has acknowledged survives a loss of power.
        standby_count: Standbys that COMMIT waits for.
        format: Of the tables; None when there are none yet.
        may_create: Whether the user may make tables.
        index_count: Indexes of all accounts.
        node_ages: Seconds since each node of the last hour was seen, by its name and id.
        unfolded_bytes: Bytes of the log that are not in the rows, of all indexes.
    """

    version: str
    round_trip_s: float
    clock_ahead_s: float
    is_synced: bool
    standby_count: int
    format: int | None
    may_create: bool
    index_count: int
    node_ages: Mapping[str, float]
    unfolded_bytes: int


def examine(dsn: str, schema: str) -> DatabaseReport:
    """Look at a database.

    Raises:
        Unavailable: it cannot be used; the message says why.
    """
    database = PostgresDatabase(dsn, schema)
    try:
        return database.run_coroutine(_examine(database))
    finally:
        database.close()


async def _examine(database: PostgresDatabase) -> DatabaseReport:
    async with database.session(Use.READ) as session:
        await session.fetchrow("SELECT 1")
        started, before = time.monotonic(), time.time()
        (now,) = await session.fetchrow("SELECT extract(epoch FROM clock_timestamp())::float8")
        round_trip_s = time.monotonic() - started
        row = await session.fetchrow(_SERVER, database.schema, session.sql("vicinal.cluster"))
        node_ages: Mapping[str, float] = {}
        format_, index_count, unfolded = None, 0, 0
        if row["cluster"] is not None:
            format_, index_count, unfolded = await session.fetchrow(_TABLES)
            node_ages = await _node_ages(session)
    return DatabaseReport(
        version=row["version"],
        round_trip_s=round_trip_s,
        clock_ahead_s=now - before - round_trip_s / 2,
        is_synced=row["fsync"] == "on" and row["full_page_writes"] == "on",
        standby_count=row["standby_count"],
        format=format_,
        may_create=row["may_create"],
        index_count=index_count,
        node_ages=node_ages,
        unfolded_bytes=int(unfolded),
    )


async def _node_ages(session: Session) -> Mapping[str, float]:
    rows = await session.fetch(
        "SELECT name, node_id, extract(epoch FROM now() - seen_at)::float8 AS age"
        " FROM vicinal.node WHERE seen_at > now() - interval '1 hour' ORDER BY name"
    )
    return {f"{row['name']} ({str(row['node_id'])[:8]})": row["age"] for row in rows}


_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
    AS standby_count,
  to_regclass($2)::text AS cluster,
  coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1),
    has_database_privilege(current_database(), 'CREATE')) AS may_create
"""

_TABLES = """
SELECT format, index_count, coalesce((
  SELECT sum(head.logged_bytes - folded.logged_bytes)
  FROM vicinal.head AS head JOIN vicinal.folded AS folded USING (index_id)), 0)
FROM vicinal.cluster
"""
