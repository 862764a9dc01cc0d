"""A look at a database from outside: for ``vicinal doctor``, before and while servers use it.

Nothing is changed, and no table is made.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from vicinal.engine.shared.database import PostgresDatabase, Use
from vicinal.engine.shared.session import Session


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node of the last hour, by what the database has of it.

    Attributes:
        name: Of its machine, with the beginning of its id.
        silent_s: Seconds since it was seen.
        copy_count: Indexes that it has copies of.
        behind_count: Mutations that the copy lacks which is farthest behind.
    """

    name: str
    silent_s: float
    copy_count: int
    behind_count: int


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """The state of a database.

    Attributes:
        version: As PostgreSQL writes it.
        round_trip_s: Seconds of one statement.
        clock_ahead_s: Seconds that its clock is ahead of this machine's.
        is_synced: Whether what COMMIT has acknowledged survives a loss of power.
        standby_names: Which standbys COMMIT waits for: the server's setting.
        standby_count: How many of these are connected; None when the user may not see it.
        format: Of the tables; None when there are none yet.
        may_create: Whether the user may make tables.
        missing_rights: Rights to the tables that the user lacks.
        index_count: Indexes of all accounts.
        nodes: Nodes that were seen in the last hour.
        unfolded_bytes: Bytes of the log that are not in the rows, of all indexes.
    """

    version: str
    round_trip_s: float
    clock_ahead_s: float
    is_synced: bool
    standby_names: str
    standby_count: int | None
    format: int | None
    may_create: bool
    missing_rights: Sequence[str]
    index_count: int
    nodes: Sequence[NodeReport]
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
        missing_rights: Sequence[str] = ()
        nodes: Sequence[NodeReport] = ()
        format_, index_count, unfolded = None, 0, 0
        if row["cluster"] is not None:
            missing = await session.fetch(_MISSING_RIGHTS, database.schema)
            missing_rights = [f"{row['right']} on {row['table']}" for row in missing]
            if not missing_rights:
                format_, index_count, unfolded = await session.fetchrow(_TABLES)
                nodes = await _nodes(session)
    return DatabaseReport(
        version=row["version"],
        round_trip_s=round_trip_s,
        clock_ahead_s=now - before - round_trip_s / 2,
        is_synced=row["fsync"] == "on" and row["full_page_writes"] == "on",
        standby_names=row["standby_names"],
        standby_count=row["standby_count"] if row["may_see_standbys"] else None,
        format=format_,
        may_create=row["may_create"],
        missing_rights=missing_rights,
        index_count=index_count,
        nodes=nodes,
        unfolded_bytes=int(unfolded),
    )


async def _nodes(session: Session) -> Sequence[NodeReport]:
    rows = await session.fetch(
        "SELECT node.name, node.node_id, extract(epoch FROM now() - seen_at)::float8 AS silent_s,"
        " count(copy.index_id) AS copies,"
        " coalesce(max(head.logged_seqno - copy.seqno), 0) AS behind"
        " FROM vicinal.node AS node LEFT JOIN (vicinal.copy AS copy JOIN vicinal.head AS head"
        " USING (index_id)) USING (node_id)"
        " WHERE seen_at > now() - interval '1 hour' GROUP BY node.node_id ORDER BY name"
    )
    return [
        NodeReport(
            f"{row['name']} ({str(row['node_id'])[:8]})", row["silent_s"], row["copies"],
            max(0, row["behind"]),
        )
        for row in rows
    ]  # fmt: skip


_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('synchronous_standby_names') AS standby_names,
  (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
    AS standby_count,
  pg_has_role('pg_read_all_stats', 'USAGE') AS may_see_standbys,
  to_regclass($2)::text AS cluster,
  coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1),
    has_database_privilege(current_database(), 'CREATE')) AS may_create
"""

_MISSING_RIGHTS = """
SELECT relname AS table, "right" FROM pg_class,
  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS "right"
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND relkind = 'r'
  AND NOT has_table_privilege(pg_class.oid, "right")
ORDER BY relname, "right"
"""

_TABLES = """
SELECT format, index_count, coalesce((
  SELECT sum(head.logged_bytes - folded.logged_bytes)
  FROM vicinal.head AS head JOIN vicinal.folded AS folded USING (index_id)), 0)
FROM vicinal.cluster
"""
