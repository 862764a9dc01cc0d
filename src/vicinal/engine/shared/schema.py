"""The tables of the shared engine, how they are made, and which versions they are of.

    cluster         one row: the format, the key that signs cursors, how often the catalog changed,
                    whether there has ever been a token
    catalog         every index: whose it is, its name, what is fixed about it
    dropped         indexes that are gone, until their rows are removed
    head            of each index the end of its log; changed by `ledger` alone
    mutation        the log: a record for each mutation, by seqno, without gaps
    part            records over `ledger.PART_BYTES`, cut
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
few rows at a time. Plain PostgreSQL from 15 on, no extension, no DDL but at the first start.
"""

from typing import Any

from vicinal.engine.shared.database import SERVER_VERSION_MIN, PostgresDatabase, Use
from vicinal.engine.shared.session import Session, quoted
from vicinal.errors import Unavailable

FORMAT = 1
"""Raised when an older version could not work with what a newer one writes."""

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
  VALUES (1, {format}, decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  'hex'), 0, 0, false)
"""


def prepare(database: PostgresDatabase) -> bytes:
    """Make the tables when they are not there; return the key that signs cursors.

    Raises:
        Unavailable: the database cannot be reached, is too old, takes no writes, does not let us
            make tables, or has those of a newer version.
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
        if cluster is None:
            await session.fetchrow("SELECT pg_advisory_xact_lock($1)", _LOCK)
            cluster = await _cluster(session)  # another node was faster
        if cluster is None:
            schema = await session.fetchrow(
                "SELECT 1 FROM pg_namespace WHERE nspname = $1", database.schema
            )
            if schema is None:
                await session.execute(f"CREATE SCHEMA {quoted(database.schema)}")
            await session.execute(_TABLES.format(format=FORMAT))
            cluster = await _cluster(session)
    table_format, secret = cluster
    if table_format > FORMAT:
        raise Unavailable(
            f"the tables in schema {database.schema!r} are of format {table_format}, made by a "
            f"newer version; this one knows up to {FORMAT}"
        )
    return bytes(secret)


async def _cluster(session: Session) -> Any:
    there = await session.fetchrow("SELECT to_regclass($1)", session.sql("vicinal.cluster"))
    if there[0] is None:
        return None
    return await session.fetchrow("SELECT format, secret FROM vicinal.cluster")


def _shown(version: int) -> str:
    return f"{version // 10_000}.{version % 10_000}"
