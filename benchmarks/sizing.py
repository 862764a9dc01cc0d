"""What do a vector, a write, an index and an open copy cost a database and its servers: bytes of
WAL, of tables and of disk, memory, and CPU?

``python -m benchmarks.sizing [--quick]`` prints the report; docs/scale-out.md
reckons with it.

Counts of bytes are the same on any machine. CPU is that of PostgreSQL and of the node, in seconds
of each, so that other load on the machine hardly matters.
"""

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import cluster, report
from benchmarks.cluster import ADDRESS, WITHIN_S
from benchmarks.report import Cell, Report, Table
from benchmarks.side import scratch
from benchmarks.texts import SEED
from tests.support.postgres import Postgres
from vicinal.engine.shared import follower
from vicinal.engine.shared.engine import SharedEngine
from vicinal.model import IndexAddress, IndexConfig, Metric, Upsert, VectorBatch

BATCH = 5_000
_SIZES = (384, 768, 1_536)
_METADATA = b'{"title":"' + b"x" * 180 + b'"}'
_GROUPS = (1, 10, 100, 1_000)
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vicinal'"


def run(*, is_quick: bool) -> Report:
    """Measure each part with a database of its own."""
    count = 2_000 if is_quick else 50_000
    tables = [
        _vectors(count),
        _writes(20 if is_quick else 400),
        _indexes(50 if is_quick else 2_000),
        _polls((1, 8) if is_quick else (1, 16, 256), 2.0 if is_quick else 10.0),
    ]
    return Report(
        "sizing", report.question(__doc__), is_quick,
        report.setup(
            data=f"random vectors, ids of 12 bytes; {count:,} of each length", seed=str(SEED),
            method="a PostgreSQL that syncs, and nodes in this process under the open limits; WAL "
            "without the full pages that follow a checkpoint",
        ),
        tuple(tables),
    )  # fmt: skip


def _vectors(count: int) -> Table:
    """Bytes of a vector, in every place that has it."""
    rows: list[tuple[Cell, ...]] = []
    for width, metadata in [*((width, b"") for width in _SIZES), (768, _METADATA)]:
        with scratch() as folder, cluster.database() as database:
            with _folding_by_hand(), cluster.node(database.dsn, folder / "node") as node:
                _create(node, ADDRESS, width)
                before = _wal(database)
                _upsert(node, width, count, BATCH, metadata)
                logged = _wal(database)
                log_bytes = _table_bytes(database, "mutation", "part")
                node.list(ADDRESS, 1, None)  # which brings the rows up to the log
                folded = _wal(database)
                row_bytes = _table_bytes(database, "vector", "gone")
                node.status(ADDRESS)
                node.compact(ADDRESS)
            copy_bytes = sum(
                path.stat().st_size for path in (folder / "node").rglob("*") if path.is_file()
            )
        rows.append(
            (
                width, len(metadata), 4 * width, (logged - before) / count,
                (folded - logged) / count, log_bytes / count, row_bytes / count,
                copy_bytes / count,
            )
        )  # fmt: skip
    columns = (
        "dimensions", "metadata", "values", "WAL of the log", "WAL of the rows",
        "log, while it is kept", "rows with their indexes", "a copy on a server",
    )  # fmt: skip
    return Table(
        f"bytes of a vector, of {count:,} written {BATCH:,} at a time", columns, tuple(rows)
    )


def _writes(count: int) -> Table:
    """Bytes and CPU of a write by its length: what each takes beside its vectors."""
    rows: list[tuple[Cell, ...]] = []
    with (
        scratch() as folder,
        cluster.database() as database,
        cluster.node(database.dsn, folder / "node") as node,
    ):
        for group in _GROUPS:
            address = IndexAddress("local", f"by-{group}")
            _create(node, address, 384)
            node.status(address)  # has a copy, which follows
            writes = max(count // group, 5)
            wal, cpu = _wal(database), cluster.server_cpu_seconds(database)
            own = time.process_time()
            _upsert(node, 384, writes * group, group, b"", address)
            node.list(address, 1, None)
            wal, cpu = _wal(database) - wal, cluster.server_cpu_seconds(database) - cpu
            own = time.process_time() - own
            rows.append((group, writes, wal / writes, cpu / writes * 1e3, own / writes * 1e3))
    columns = (
        "vectors", "writes", "WAL bytes", "CPU ms of the database", "CPU ms of the server",
    )  # fmt: skip
    return Table(
        "a write of vectors of 384 dimensions, until it is in the rows", columns, tuple(rows)
    )


def _indexes(count: int) -> Table:
    """Bytes and CPU of an index that nothing is in and nobody asks for."""
    with (
        scratch() as folder,
        cluster.database() as database,
        cluster.node(database.dsn, folder / "node") as node,
    ):
        _create(node, ADDRESS, 384)
        names = ("catalog", "head", "folded")
        wal, cpu = _wal(database), cluster.server_cpu_seconds(database)
        size = _table_bytes(database, *names)
        for number in range(count):
            _create(node, IndexAddress("local", f"index-{number:06}"), 384)
        wal, cpu = _wal(database) - wal, cluster.server_cpu_seconds(database) - cpu
        size = _table_bytes(database, *names) - size
    row = (count, size / count, wal / count, cpu / count * 1e3)
    columns = ("indexes", "bytes of tables", "WAL bytes", "CPU ms of the database")
    return Table("an index that is made, and not used", columns, (row,))


def _polls(counts: tuple[int, ...], seconds: float) -> Table:
    """CPU of the database for a server that only follows, at rest and while an index moves."""
    rows: list[tuple[Cell, ...]] = []
    with (
        scratch() as folder,
        cluster.database() as database,
        cluster.node(database.dsn, folder / "writer") as writer,
        cluster.node(database.dsn, folder / "reader") as reader,
    ):
        addresses = [IndexAddress("local", f"open-{number:03}") for number in range(counts[-1])]
        for address in addresses:
            _create(writer, address, 384)
        _upsert(writer, 384, 1, 1, b"", addresses[0])
        opened = 0
        for count in counts:
            memory = _anonymous_bytes()
            for address in addresses[opened:count]:
                reader.status(address)
            memory, fresh = _anonymous_bytes() - memory, count - opened
            opened = count
            time.sleep(2.0)  # nothing moves any more
            for is_moving in (False, True):
                cpu, asked = cluster.server_cpu_seconds(database), _polls_of(reader)
                started = time.monotonic()
                for number in itertools.count():
                    took_s = time.monotonic() - started
                    if took_s >= seconds:
                        break
                    if is_moving and number % 5 == 0:
                        _upsert(writer, 384, 1, 1, b"", addresses[0])
                    time.sleep(0.1)
                cpu = cluster.server_cpu_seconds(database) - cpu
                polls = _polls_of(reader) - asked
                rows.append(
                    (
                        count, "moves" if is_moving else "rests", polls / took_s,
                        cpu / took_s * 1e3, None if is_moving else memory / fresh / 1024,
                        float(database.sql(_CONNECTIONS)) / 2,
                    )
                )  # fmt: skip
    columns = (
        "open indexes", "one of them", "statements/s of the server",
        "CPU ms/s of the database", "KiB of memory for an open copy", "connections of a server",
    )  # fmt: skip
    title = "two servers that follow, one of them with open copies, the other one writing"
    return Table(title, columns, tuple(rows))


@contextmanager
def _folding_by_hand() -> Iterator[None]:
    """Have the rows follow the log when they are asked for alone, to tell the WAL of both apart."""
    names = ("CHECKPOINT_AFTER_S", "CHECKPOINT_BYTES")
    before = {name: getattr(follower, name) for name in names}
    for name in names:
        setattr(follower, name, 1 << 50)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(follower, name, value)


def _create(node: SharedEngine, address: IndexAddress, width: int) -> None:
    node.create_index(address, IndexConfig(width, Metric.COSINE), None)


def _upsert(
    node: SharedEngine, width: int, count: int, size: int, metadata: bytes,
    address: IndexAddress = ADDRESS,
) -> None:  # fmt: skip
    """Write vectors, one mutation after the other, and have the last one seen here."""
    random = np.random.RandomState(SEED)
    for start in range(0, count, size):
        ids = [f"id {number:09}" for number in range(start, min(start + size, count))]
        values = random.standard_normal((len(ids), width)).astype(np.float32)
        batch = VectorBatch(ids, values, [""] * len(ids), [metadata] * len(ids))
        last = node.append(address, Upsert(batch), wait_s=WITHIN_S).result(WITHIN_S)
    node.wait_applied(address, last.seqno, WITHIN_S)


def _wal(database: Postgres) -> float:
    return float(database.sql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))


def _table_bytes(database: Postgres, *names: str) -> float:
    """Return the bytes of tables with their indexes and what is stored beside their rows."""
    total = 0.0
    for name in names:
        database.sql(f"VACUUM vicinal.{name}")
        total += float(database.sql(f"SELECT pg_total_relation_size('vicinal.{name}')"))
    return total


def _polls_of(node: SharedEngine) -> int:
    usage = node.usage().node
    assert usage is not None
    return usage.statement_count


def _anonymous_bytes() -> int:
    """Return the memory of this process that is not of files, on Linux."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    print(report.text(run(is_quick="--quick" in sys.argv)))
