"""The tables of the shared engine, how they are made, and which versions they are of.

    cluster         one row: the format, the key that signs cursors, how often the catalog changed,
                    whether there has ever been a token
    catalog         every index: whose it is, its name, what is fixed about it
    dropped         indexes that are gone, until their rows are removed
    head            of each index the end of its log; changed by `ledger` alone
    mutation        the log: a record for each mutation, by seqno, without gaps
    part            records over `log_records.PART_BYTES`, cut; under negative seqnos what is being
                    uploaded
    upload          uploads under way (`uploads`), by their negative seqno
    metadata_index  declared when the mutation that creates one is logged
    namespace       every namespace that vectors have had, and maybe some that none has any more
    folded          of each index how far its rows have come; changed by `rows` alone
    vector          the rows: each vector as it is after `folded.seqno`
    gone            ids that were deleted, for listings that began before
    node, copy      which nodes live, and how far their copies are; lost in a crash, to no harm
    token           tokens of the API (`vicinal.tokens`)

Ids, namespaces and metadata are bytes: text refuses U+0000, which they may hold, and bytes sort as
code points do. Values are bytes, too: three times as fast to read as an array of ``real``, and
without a bound on dimensions. There are no foreign keys: what an index leaves behind is removed a
few rows at a time. Plain PostgreSQL from 15 on, no extension, no DDL but at the first start of a
version.

The tables are those of format 1, changed by `MIGRATIONS` one after the other, each in a
transaction of its own under a lock that nodes share. Nodes of the version before go on meanwhile
and afterwards, so nodes are upgraded one by one: a migration that an earlier version cannot bear
says so (`Migration.format_min`), and is not done while such a node lives.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from vicinal.engine.shared.database import SERVER_VERSION_MIN, PostgresDatabase, Use
from vicinal.engine.shared.session import Session, quoted
from vicinal.errors import Unavailable

NODE_ALIVE_S = 30.0  # a node that was seen within this time may still write; ours
MIGRATE_WITHIN_S = 60.0  # ours


@dataclass(frozen=True, slots=True)
class Migration:
    """One change of the tables.

    Attributes:
        format: The format that they have afterwards: one more than before.
        format_min: The least format that a node must know to work with them.
        sql: Its statements.
    """

    format: int
    format_min: int
    sql: str


MIGRATIONS: Sequence[Migration] = (
    Migration(
        2,
        1,
        """
ALTER TABLE vicinal.cluster ADD COLUMN format_min int NOT NULL DEFAULT 1,
  ADD COLUMN format_min_of int NOT NULL DEFAULT 1;
ALTER TABLE vicinal.node ADD COLUMN format int NOT NULL DEFAULT 1
""",
    ),
    Migration(
        3,
        1,
        """
CREATE TABLE vicinal.upload (
  index_id uuid NOT NULL, seqno bigint NOT NULL, node_id uuid NOT NULL, at timestamptz NOT NULL,
  PRIMARY KEY (index_id, seqno))
""",
    ),
    Migration(
        4,
        1,
        # So that two rows of up to 950 dimensions share a page: cut up beside the table, as longer
        # ones are, they take half as much of the database's CPU again, and a tenth more WAL.
        "ALTER TABLE vicinal.vector SET (toast_tuple_target = 4000)",
    ),
)
"""All migrations, in order. One that has been released never changes."""

FORMAT = 4
"""The format that this version knows: that of the last migration."""

_LOCK = 0x7669_6369_6E61_6C  # "vicinal": nodes that start at once make the tables one by one

_TABLES = """
CREATE TABLE vicinal.cluster (
  one int PRIMARY KEY CHECK (one = 1), format int NOT NULL, secret bytea NOT NULL,
  catalog_version bigint NOT NULL, index_count bigint NOT NULL, needs_token boolean NOT NULL);
CREATE TABLE vicinal.catalog (
  index_id uuid PRIMARY KEY, place bigint GENERATED ALWAYS AS IDENTITY,
  account text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL,
  document bytea NOT NULL, UNIQUE (account, name));
CREATE TABLE vicinal.dropped (
  index_id uuid PRIMARY KEY, catalog_version bigint NOT NULL, at timestamptz NOT NULL,
  is_removed boolean NOT NULL);
CREATE INDEX ON vicinal.dropped (catalog_version);
CREATE TABLE vicinal.head (
  index_id uuid PRIMARY KEY, logged_seqno bigint NOT NULL, logged_bytes bigint NOT NULL,
  mutation_id uuid, vectors_at_most bigint NOT NULL, namespace_count bigint NOT NULL,
  namespace_epoch bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE vicinal.mutation (
  index_id uuid NOT NULL, seqno bigint NOT NULL, mutation_id uuid NOT NULL,
  accepted_at bigint NOT NULL, logged_bytes bigint NOT NULL, size bigint NOT NULL,
  checksum bigint NOT NULL, record bytea,
  PRIMARY KEY (index_id, seqno), UNIQUE (index_id, mutation_id));
ALTER TABLE vicinal.mutation ALTER record SET STORAGE EXTERNAL;
CREATE TABLE vicinal.part (
  index_id uuid NOT NULL, seqno bigint NOT NULL, number int NOT NULL, bytes bytea NOT NULL,
  PRIMARY KEY (index_id, seqno, number));
ALTER TABLE vicinal.part ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE vicinal.metadata_index (
  index_id uuid NOT NULL, created_seqno bigint NOT NULL, property_name bytea NOT NULL,
  type text NOT NULL, is_backfilled boolean NOT NULL, dropped_seqno bigint,
  PRIMARY KEY (index_id, created_seqno));
CREATE TABLE vicinal.namespace (
  index_id uuid NOT NULL, name bytea NOT NULL, PRIMARY KEY (index_id, name));
CREATE TABLE vicinal.folded (
  index_id uuid PRIMARY KEY, seqno bigint NOT NULL, mutation_id uuid, at timestamptz,
  logged_bytes bigint NOT NULL, vector_count bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE vicinal.vector (
  index_id uuid NOT NULL, id bytea NOT NULL, namespace bytea NOT NULL, born bigint NOT NULL,
  seqno bigint NOT NULL, floats bytea NOT NULL, metadata bytea NOT NULL,
  PRIMARY KEY (index_id, id));
ALTER TABLE vicinal.vector ALTER floats SET STORAGE EXTERNAL;
CREATE INDEX ON vicinal.vector (index_id, seqno);
CREATE TABLE vicinal.gone (
  index_id uuid NOT NULL, id bytea NOT NULL, born bigint NOT NULL, died bigint NOT NULL,
  at timestamptz NOT NULL, PRIMARY KEY (index_id, id, died));
CREATE INDEX ON vicinal.gone (index_id, at);
CREATE UNLOGGED TABLE vicinal.node (
  node_id uuid PRIMARY KEY, name text NOT NULL, seen_at timestamptz NOT NULL);
CREATE UNLOGGED TABLE vicinal.copy (
  index_id uuid NOT NULL, node_id uuid NOT NULL, seqno bigint NOT NULL,
  PRIMARY KEY (index_id, node_id)) WITH (fillfactor = 50);
CREATE TABLE vicinal.token (
  token_id text COLLATE "C" PRIMARY KEY, document bytea NOT NULL);
INSERT INTO vicinal.cluster
  VALUES (1, 1, decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  'hex'), 0, 0, false)
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The row of the table of this name, as far as it says what the tables are.

    Attributes:
        format: Of the tables.
        format_min: The least that a node must know; `format` where a version has not said it.
        secret: The key of cursors.
    """

    format: int
    format_min: int
    secret: bytes


def prepare(database: PostgresDatabase) -> bytes:
    """Make the tables, or those of an older version this version's; return the key of cursors.

    Raises:
        Unavailable: the database cannot be reached, is too old, takes no writes, does not let us
            make or change tables, has those of a newer version, or nodes still run that could not
            work with this version's.
    """
    return database.run_coroutine(_prepare(database))


async def _prepare(database: PostgresDatabase) -> bytes:
    async with database.transaction(Use.READ) as session:
        version = int((await session.fetchrow("SHOW server_version_num"))[0])
        if version < SERVER_VERSION_MIN:
            raise Unavailable(
                f"PostgreSQL is of version {_shown(version)}, the least is "
                f"{_shown(SERVER_VERSION_MIN)}"
            )
        cluster = await _cluster(session)
    until = time.monotonic() + MIGRATE_WITHIN_S
    while cluster is None or cluster.format < FORMAT:
        cluster = await database.persist(
            lambda session, _may_be_done: _advance(database, session), Use.READ, until
        )
    if cluster.format_min > FORMAT:
        raise Unavailable(
            f"the tables in schema {database.schema!r} are of format {cluster.format}, made by a "
            f"newer version; this one knows up to {FORMAT}, and {cluster.format_min} is the least"
        )
    return cluster.secret


async def _advance(database: PostgresDatabase, session: Session) -> Cluster | None:
    """Make the tables, or do the next migration, unless another node was faster."""
    await session.fetchrow("SELECT pg_advisory_xact_lock($1)", _LOCK)
    cluster = await _cluster(session)
    if cluster is None:
        schema = await session.fetchrow(
            "SELECT 1 FROM pg_namespace WHERE nspname = $1", database.schema
        )
        if schema is None:
            await session.execute(f"CREATE SCHEMA {quoted(database.schema)}")
        await session.execute(_TABLES)
        return await _cluster(session)
    migrations = [change for change in MIGRATIONS if change.format == cluster.format + 1]
    for migration in migrations:
        await _check_nodes(database, session, cluster, migration)
        await session.execute(migration.sql)
        await session.execute(
            "UPDATE vicinal.cluster SET format = $1, format_min = $2, format_min_of = $1",
            migration.format,
            migration.format_min,
        )
    return await _cluster(session)


async def _check_nodes(
    database: PostgresDatabase, session: Session, cluster: Cluster, migration: Migration
) -> None:
    """Refuse a migration that a node which lives could not work with."""
    if migration.format_min <= cluster.format_min:
        return
    rows = await session.fetch(
        "SELECT name FROM vicinal.node AS node WHERE seen_at > now() - make_interval(secs => $1)"
        " AND coalesce((to_jsonb(node) ->> 'format')::int, 1) < $2 ORDER BY name",
        NODE_ALIVE_S,
        migration.format_min,
    )
    if rows:
        raise Unavailable(
            f"the tables in schema {database.schema!r} are of format {cluster.format}, and servers "
            f"of an earlier version that could not work with format {migration.format} still run: "
            f"{', '.join(row['name'] for row in rows)}; stop them first"
        )


async def _cluster(session: Session) -> Cluster | None:
    there = await session.fetchrow("SELECT to_regclass($1)", session.sql("vicinal.cluster"))
    if there[0] is None:
        return None
    # Format 1 has no `format_min`; one that is of another format says nothing.
    row = await session.fetchrow(
        "SELECT format, secret, CASE WHEN (to_jsonb(cluster) ->> 'format_min_of')::int = format"
        " THEN (to_jsonb(cluster) ->> 'format_min')::int ELSE format END AS format_min"
        " FROM vicinal.cluster AS cluster"
    )
    return Cluster(row["format"], row["format_min"], bytes(row["secret"]))


def _shown(version: int) -> str:
    return f"{version // 10_000}.{version % 10_000}"
