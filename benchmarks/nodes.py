"""How do servers over one PostgreSQL do beside one over a folder: queries a second, alone and three
at once; when is a write visible on another; how fast do they take vectors in and fill a copy; what
does a database that hangs do to them; and what do queries and rows cost beside pgvector?

Everything runs on the same cores: PostgreSQL, which syncs, the servers, and wrk. Servers are
processes of their own; where CPU is counted the database's is in it.
"""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from http.client import OK
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import cluster, data, http_ingest, measure, pgvector, report, serving
from benchmarks.cluster import ADDRESS, WITHIN_S
from benchmarks.contender import Failed, Task, recall_of
from benchmarks.data import Vectors
from benchmarks.measure import percentile
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.serving import INDEX, NDJSON, Client, Load, Server
from benchmarks.side import scratch
from benchmarks.texts import SEED
from tests.support.postgres import Postgres
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.engine.shared.engine import SharedEngine
from vicinal.limits import PROFILES
from vicinal.model import IndexConfig, Metric, Query, Upsert

K = 10
BATCH = 5_000
TURNS = 2  # of what is compared
_SETTLE_S = 25.0  # a copy is merged once nothing has come for 10 s
_REST_S = 1.6  # more than a node goes on polling after a write
_ALONE_CONNECTIONS = (1, 8)

Marks = list[Mark]


def run(*, is_quick: bool) -> Report:
    """Measure each part, one after the other."""
    serving.require_wrk()
    count = 4_000 if is_quick else 100_000
    vectors = data.real(768, count, is_quick=is_quick)
    short = data.real(384, 4_000 if is_quick else 200_000, is_quick=is_quick)
    task = Task(vectors, data.nearest(vectors), K)
    tables: list[Table] = []
    marks: Marks = []
    notes: list[str] = []
    with scratch() as folder, cluster.database() as database:
        _queries(folder, database, vectors, 2 if is_quick else 10, tables, marks)
        _visibility(folder, database, 5 if is_quick else 60, tables, marks)
        _hanging(folder, database, 1.0 if is_quick else 8.0, tables, marks)
    with scratch() as folder, cluster.database() as database:
        _ingest(folder, database, short, tables, marks)
    with scratch() as folder, cluster.database() as database:
        _http_ingest(folder, database, short, tables, marks)
    with scratch() as folder, cluster.database() as database:
        try:
            _beside_pgvector(folder, database, task, 100 if is_quick else 1_000, tables)
        except Failed as error:
            notes.append(f"pgvector was left out: {error}")
    return Report(
        "nodes", report.question(__doc__), is_quick,
        report.setup(
            data=f"{vectors.description}; {short.description}", seed=str(SEED),
            method="PostgreSQL with fsync on the same disk and cores; servers under the open "
            f"limits; what is compared is measured in {TURNS} turns",
        ),
        tuple(tables), tuple(marks), tuple(notes),
    )  # fmt: skip


def _queries(
    folder: Path, database: Postgres, vectors: Vectors, seconds: int, tables: list[Table],
    marks: Marks,
) -> None:  # fmt: skip
    """Compare a node with the embedded server, and three at once with one at the same share."""
    _fill_embedded(folder / "embedded0", vectors)
    with cluster.node(database.dsn, folder / "writer") as writer:
        _create(writer, vectors)
        cluster.upsert(writer, list(cluster.batches(vectors, BATCH)))
        writer.list(ADDRESS, 1, None)  # which brings the rows up to the log
    for number in (1, 2):
        shutil.copytree(folder / "embedded0", folder / f"embedded{number}")
    bodies = [
        msgspec.json.encode({"vector": query, "topK": K})
        for query in serving.numbers(vectors.queries)
    ]
    lines = serving.write_lines(folder / "bodies", bodies)
    ask = partial(serving.wrk, path=f"{INDEX}/query", bodies=lines, seconds=seconds)
    with ExitStack() as running:
        embedded = [
            running.enter_context(serving.vicinal(folder / f"embedded{number}"))
            for number in range(3)
        ]
        nodes = [
            running.enter_context(serving.vicinal(folder / f"node{number}", *_flags(database)))
            for number in range(3)
        ]
        for server in (*embedded, *nodes):
            _answer(server, bodies)
        time.sleep(_SETTLE_S)
        for connections in _ALONE_CONNECTIONS:
            _alone(embedded[0], nodes[0], partial(ask, connections=connections), connections,
                   tables, marks)  # fmt: skip
        _three(embedded, nodes, partial(ask, connections=2), tables, marks)


def _alone(
    embedded: Server, node: Server, ask: Callable[[Server], Load], connections: int,
    tables: list[Table], marks: Marks,
) -> None:  # fmt: skip
    loads: dict[str, list[Load]] = {"embedded": [], "a node": []}
    for _ in range(TURNS):
        loads["embedded"].append(ask(embedded))
        loads["a node"].append(ask(node))
    rates = {name: _rate(found) for name, found in loads.items()}
    columns = ("server", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "errors")
    rows = [
        (
            name, rates[name], float(np.median([load.p50_ms for load in found])),
            max(load.p99_ms for load in found),
            float(np.mean([load.cpu_us for load in found])), sum(load.errors for load in found),
        )
        for name, found in loads.items()
    ]  # fmt: skip
    tables.append(Table(f"queries over {connections} connections", columns, tuple(rows)))
    if connections > 1:
        share = rates["a node"] / rates["embedded"]
        marks.append(report.at_least("queries/s of a node, to the embedded's", share, 0.9))


def _three(
    embedded: Sequence[Server], nodes: Sequence[Server], ask: Callable[[Server], Load],
    tables: list[Table], marks: Marks,
) -> None:  # fmt: skip
    """Load three servers at once: three nodes, or one node beside two embedded ones."""
    together: list[Load] = []
    beside: list[Load] = []
    with ThreadPoolExecutor(3) as threads:
        for _ in range(TURNS):
            one, *_ = threads.map(ask, [nodes[0], *embedded[1:]])
            beside.append(one)
            together += threads.map(ask, nodes)
    share = _rate(together) / _rate(beside)
    rows = (
        ("one node, beside two servers over folders", _rate(beside)),
        ("each of three nodes", _rate(together)),
    )
    tables.append(
        Table("three servers at once, 2 connections each", ("server", "requests/s"), rows)
    )
    marks.append(report.at_least("each of three nodes, to one at the same share", share, 0.9))


def _visibility(
    folder: Path, database: Postgres, count: int, tables: list[Table], marks: Marks
) -> None:
    """Write to one node, a process, and see when another, this process, has it."""
    rows: list[tuple[Cell, ...]] = []
    with (
        serving.vicinal(folder / "node0", *_flags(database)) as server,
        Client(server.port) as client,
        cluster.node(database.dsn, folder / "reader") as reader,
    ):
        width = client.result("GET", INDEX)["config"]["dimensions"]
        reader.status(ADDRESS)
        for name, rest_s, writes in (("at rest", _REST_S, count), ("moving", 0.02, 5 * count)):
            acknowledged, visible = [], []
            for number in range(writes):
                time.sleep(rest_s)
                line = msgspec.json.encode({"id": f"new{number}", "values": [0.5] * width})
                started = time.perf_counter()
                mutation = client.result("POST", f"{INDEX}/upsert", line, NDJSON)["mutationId"]
                answered = time.perf_counter()
                _wait_for(reader, mutation)
                visible.append(max(0.0, time.perf_counter() - answered))
                acknowledged.append(answered - started)
            rows.append(
                (name, writes, *(percentile(np.array(laps), share) * 1e3
                                 for laps in (acknowledged, visible) for share in (50, 95)))
            )  # fmt: skip
    columns = (
        "the other node is", "writes", "acknowledged p50 ms", "p95 ms", "then visible p50 ms",
        "p95 ms ",
    )  # fmt: skip
    tables.append(Table("a single upsert until another node sees it", columns, tuple(rows)))
    for row in rows:
        marks.append(report.at_most(f"visible on another node that is {row[0]}, p50 ms",
                                    float(row[4] or 0), 10.0))  # fmt: skip


def _wait_for(reader: SharedEngine, mutation_id: str) -> None:
    end = time.monotonic() + WITHIN_S
    while reader.status(ADDRESS).applied_mutation != mutation_id:
        if time.monotonic() > end:
            raise Failed("a write was not seen by another node")
        time.sleep(0.0002)


def _hanging(
    folder: Path, database: Postgres, seconds: float, tables: list[Table], marks: Marks
) -> None:
    """Ask a node for its health, and for neighbours, while writes hang with the database."""
    laps: dict[str, list[float]] = {"healthz": [], "query": []}
    with serving.vicinal(folder / "node0", *_flags(database)) as server:
        with Client(server.port) as client:
            width = client.result("GET", INDEX)["config"]["dimensions"]
            query = msgspec.json.encode({"vector": [0.5] * width, "topK": K})
            client.result("POST", f"{INDEX}/query", query)
        line = msgspec.json.encode({"id": "hangs", "values": [0.5] * width})
        is_over = threading.Event()

        def write() -> None:
            with Client(server.port) as client:
                while not is_over.is_set():
                    client.ask("POST", f"{INDEX}/upsert", line, NDJSON)

        def sample(name: str, method: str, path: str, body: bytes | None) -> None:
            with Client(server.port) as client:
                while not is_over.is_set():
                    started = time.perf_counter()
                    status, answer = client.ask(method, path, body)
                    laps[name].append(time.perf_counter() - started)
                    if status != OK:
                        raise Failed(f"{path} was answered {status}: {answer}")
                    time.sleep(0.005)

        with ThreadPoolExecutor(6) as threads, database.hanging():
            work = [threads.submit(write) for _ in range(4)]
            work.append(threads.submit(sample, "healthz", "GET", "/healthz", None))
            work.append(threads.submit(sample, "query", "POST", f"{INDEX}/query", query))
            time.sleep(seconds)
            is_over.set()
            database.resume()  # or what hangs would be waited for
            for each in work:
                each.result(WITHIN_S)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, len(found), *(percentile(np.array(found), share) * 1e3 for share in (50, 99, 100)))
        for name, found in laps.items()
    )
    columns = ("request", "asked", "p50 ms", "p99 ms", "most ms")
    tables.append(Table("while the database hangs, under four writers", columns, rows))
    p99 = percentile(np.array(laps["healthz"]), 99) * 1e3
    marks.append(report.at_most("/healthz while the database hangs, p99 ms", p99, 20.0))


def _ingest(
    folder: Path, database: Postgres, vectors: Vectors, tables: list[Table], marks: Marks
) -> None:
    """Write all rows to a node in this process; then fill another."""
    made, count = list(cluster.batches(vectors, BATCH)), len(vectors.values)
    rows: list[tuple[Cell, ...]] = []
    with cluster.node(database.dsn, folder / "writer") as writer:
        _create(writer, vectors)
        writer.status(ADDRESS)  # has a copy, which follows
        measure.warm_memory()
        cpu = time.process_time() + cluster.server_cpu_seconds(database)
        started = time.perf_counter()
        last = cluster.upsert(writer, made)
        acknowledged_s = time.perf_counter() - started
        writer.wait_applied(ADDRESS, last.seqno, WITHIN_S)
        visible_s = time.perf_counter() - started
        writer.list(ADDRESS, 1, None)
        rows_s = time.perf_counter() - started
        cpu = time.process_time() + cluster.server_cpu_seconds(database) - cpu
        for name, seconds in (
            ("acknowledged", acknowledged_s), ("visible here", visible_s), ("in the rows", rows_s),
        ):  # fmt: skip
            rows.append((name, count / seconds, cpu / count * 1e6 if seconds == rows_s else None))
        with cluster.node(database.dsn, folder / "filled") as filled:
            cpu = time.process_time() + cluster.server_cpu_seconds(database)
            filled.status(ADDRESS)
            cpu = time.process_time() + cluster.server_cpu_seconds(database) - cpu
            fill_s = filled.counts.fill_s
        rows.append(("a copy filled", count / fill_s, cpu / count * 1e6))
    wal = float(database.sql("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))
    wal -= 16 << 20  # where a new server begins
    size = float(database.sql("SELECT pg_database_size('postgres')"))
    width = vectors.values.shape[1]
    title = f"{count:,} x {width} in mutations of {BATCH:,}, in process"
    tables.append(
        Table(title, ("until", "vectors/s", "CPU µs/vector, database's included"), tuple(rows))
    )
    tables.append(
        Table(
            "bytes of the database for a vector",
            ("bytes of", "a vector's values", "WAL", "tables, with the log"),
            ((f"{width} dimensions", 4 * width, wal / count, size / count),),
        )
    )
    marks.append(report.at_least("vectors/s of 384 acknowledged", count / acknowledged_s, 30_000))
    marks.append(report.at_least("rows/s that a node is filled at", count / fill_s, 50_000))


def _http_ingest(
    folder: Path, database: Postgres, vectors: Vectors, tables: list[Table], marks: Marks
) -> None:
    """The same over HTTP, as NDJSON, beside a server over a folder."""
    lines = http_ingest.lines_of(vectors)[: len(vectors.values) // 4]
    bodies = [b"\n".join(lines[start : start + BATCH]) for start in range(0, len(lines), BATCH)]
    rows = []
    for name, flags in (("embedded", []), ("a node", _flags(database))):
        data_folder = folder / name.replace(" ", "-")
        with serving.vicinal(data_folder, *flags) as server, Client(server.port) as client:
            serving.create_index(client, vectors.values.shape[1], vectors.metric)
            before = server.cpu_seconds()
            sent = http_ingest.send(server, f"{INDEX}/upsert", bodies, 2)
            cpu_us = (server.cpu_seconds() - before) / len(lines) * 1e6
            rows.append((name, len(lines) / sent.seconds, cpu_us, sent.retries))
    columns = ("server", "vectors/s acknowledged", "CPU µs/vector", "retries")
    title = f"{len(lines):,} x {vectors.values.shape[1]} as NDJSON over 2 connections"
    tables.append(Table(title, columns, tuple(rows)))


def _beside_pgvector(
    folder: Path, database: Postgres, task: Task, query_count: int, tables: list[Table]
) -> None:
    """Query a node and pgvector over the same rows, one query at a time."""
    made, count = list(cluster.batches(task.vectors, BATCH)), len(task.vectors.values)
    rows: list[tuple[Cell, ...]] = []
    loads: list[tuple[Cell, ...]] = []
    with cluster.node(database.dsn, folder / "node") as node:
        _create(node, task.vectors)
        cpu = time.process_time() + cluster.server_cpu_seconds(database)
        started = time.perf_counter()
        last = cluster.upsert(node, made)
        node.wait_applied(ADDRESS, last.seqno, WITHIN_S)
        node.list(ADDRESS, 1, None)
        node.compact(ADDRESS)
        seconds = time.perf_counter() - started
        cpu = time.process_time() + cluster.server_cpu_seconds(database) - cpu
        loads.append(("a node", count / seconds, cpu / count * 1e6))
        searches = [
            partial(node.query, ADDRESS, Query(top_k=K, vector=query))
            for query in task.vectors.queries[:query_count]
        ]
        measure.run(searches[:50])
        timing, results = measure.run(searches)
        found = np.array(
            [[int(match.id) for match in result.matches] for result in results], np.int64
        )
        recall = recall_of(found, task)
        rows.append(("a node", "standard", recall, timing.cpu_ms, timing.p50_ms))
    other = pgvector.measure(task, query_count)
    loads.append(("pgvector", count / other.seconds, other.cpu_seconds / count * 1e6))
    rows += [
        ("pgvector", f"ef_search {each.ef}", each.recall, each.cpu_ms, each.p50_ms)
        for each in other.searches
    ]
    width = task.vectors.values.shape[1]
    graph = f"m {pgvector.M}, ef_construction {pgvector.EF_CONSTRUCTION}"
    tables += [
        Table(
            f"top {K} of {count:,} x {width}, beside pgvector (HNSW of halfvec, {graph})",
            ("what", "setting", "recall@10", "CPU ms/query", "p50 ms"), tuple(rows),
        ),
        Table(
            f"loading {count:,} x {width} until searched by its index",
            ("what", "vectors/s", "CPU µs/vector"), tuple(loads),
        ),
    ]  # fmt: skip


def _flags(database: Postgres) -> list[str]:
    return ["--database", database.dsn]


def _create(engine: SharedEngine, vectors: Vectors) -> None:
    config = IndexConfig(vectors.values.shape[1], Metric(vectors.metric))
    engine.create_index(ADDRESS, config, None)


def _fill_embedded(folder: Path, vectors: Vectors) -> None:
    engine = EmbeddedEngine.open(folder, EngineOptions(limits=PROFILES["open"]))
    config = IndexConfig(vectors.values.shape[1], Metric(vectors.metric))
    engine.create_index(ADDRESS, config, None)
    for batch in cluster.batches(vectors, BATCH):
        accepted = engine.append(ADDRESS, Upsert(batch), wait_s=WITHIN_S).result(WITHIN_S)
    engine.wait_applied(ADDRESS, accepted.seqno, WITHIN_S)
    engine.compact(ADDRESS)
    engine.close()


def _answer(server: Server, bodies: Sequence[bytes]) -> None:
    """Have a server open its index, or fill its copy, and read all of it once."""
    end = time.monotonic() + WITHIN_S
    with Client(server.port) as client:
        while client.ask("POST", f"{INDEX}/query", bodies[0])[0] != OK:
            if time.monotonic() > end:
                raise Failed("a server did not answer a query")
            time.sleep(0.05)
        for body in bodies[:200]:
            client.result("POST", f"{INDEX}/query", body)


def _rate(loads: Sequence[Load]) -> float:
    """Return requests a second over several runs."""
    return sum(load.requests for load in loads) / sum(load.seconds for load in loads)
