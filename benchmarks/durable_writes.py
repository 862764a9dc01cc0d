"""How many single-vector upserts a second are acknowledged as durable, and after how long?

One vector of 768 dimensions a request, another id each time, over 1 and 16 connections,
driven by wrk on the same cores. Acknowledged means committed with fsync; how many writes
share a commit is read from the log afterwards, and every acknowledged write is looked for.
Beside it the disk's own rate: appending as many bytes and fdatasync, one after the other.
"""

import os
import sqlite3
import time
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import data, report, serving
from benchmarks.contender import VICINAL, Contender
from benchmarks.data import Vectors
from benchmarks.measure import percentile
from benchmarks.report import Cell, Report, Table
from benchmarks.serving import INDEX, Client, Load
from benchmarks.side import scratch
from benchmarks.texts import SEED

_CONNECTIONS = (1, 16)
_PREFIX = '{"id":"write-%d'
_RECORD_BYTES = 4 * 768 + 64
_COLUMNS = (
    "what", "connections", "acknowledged/s", "p50 ms", "p99 ms", "writes/commit", "commits/s",
    "CPU µs/write", "acknowledged", "of those missing", "errors",
)  # fmt: skip


def run(*, is_quick: bool) -> Report:
    """Measure the disk and each number of connections."""
    serving.require_wrk()
    vectors = data.real(768, 2_000, is_quick=is_quick)
    rows, loads, missing = [], {}, 0
    with scratch() as folder:
        rows.append(_disk_row(folder / "floor", 1.0 if is_quick else 5.0))
    for connections in _CONNECTIONS:
        with scratch() as folder:
            load, kept, grouped = writes(folder, vectors, connections, 2 if is_quick else 30)
        lost = max(0, load.requests - kept)
        missing += lost
        loads[connections] = load
        rows.append(
            (
                "vicinal", connections, load.per_second, load.p50_ms, load.p99_ms, grouped,
                load.per_second / grouped, load.cpu_us, load.requests, lost, load.errors,
            )
        )  # fmt: skip
    return Report(
        "durable_writes", report.question(__doc__), is_quick,
        report.setup(
            data=vectors.description, seed=str(SEED),
            method="wrk, one thread, no warm-up; a new server and index for each line; writes "
            "per commit are of the writes still in the log at the end",
        ),
        (Table("single-vector upserts of 768 dimensions", _COLUMNS, tuple(rows)),),
        (
            report.at_least("acknowledged/s from 16 connections", loads[16].per_second, 1_000),
            report.at_most("acknowledged writes that are missing", float(missing), 0),
        ),
    )  # fmt: skip


def writes(
    folder: Path, vectors: Vectors, connections: int, seconds: int,
    contender: Contender = VICINAL,
) -> tuple[Load, int, float]:  # fmt: skip
    """Return the load, how many vectors there are afterwards, and writes per commit."""
    rests = [
        b'","values":' + msgspec.json.encode(values) + b"}"
        for values in serving.numbers(np.asarray(vectors.values[:1_000]))
    ]
    lines = serving.write_lines(folder / "bodies", rests)
    database = folder / "data"
    with serving.vicinal(database, contender=contender) as server, Client(server.port) as client:
        serving.create_index(client, vectors.values.shape[1], vectors.metric)
        load = serving.wrk(
            server, f"{INDEX}/upsert", lines, connections=connections, seconds=seconds,
            prefix=_PREFIX,
        )  # fmt: skip
        probe = msgspec.json.encode({"id": "last", "values": [0.0] * vectors.values.shape[1]})
        last = client.result("POST", f"{INDEX}/upsert", probe)["mutationId"]
        serving.wait_until_visible(client, last)
        kept = client.result("GET", f"{INDEX}/info")["vectorCount"] - 1
    return load, kept, _writes_per_commit(next(database.glob("indexes/*/index.db")))


def _writes_per_commit(log: Path) -> float:
    """Return how many mutations share a transaction; those of one have one time."""
    connection = sqlite3.connect(log)
    try:
        count, commits = connection.execute(
            "SELECT count(*), count(DISTINCT accepted_at) FROM mutation"
        ).fetchone()
    finally:
        connection.close()
    return float(count / commits)


def _disk_row(path: Path, seconds: float) -> tuple[Cell, ...]:
    """Return how fast the disk takes records one by one."""
    record = b"\0" * _RECORD_BYTES
    laps = []
    with path.open("wb", buffering=0) as file:
        start = now = time.perf_counter()
        while now - start < seconds:
            file.write(record)
            os.fdatasync(file.fileno())
            laps.append(time.perf_counter() - now)
            now = time.perf_counter()
    wall = np.array(laps)
    return (
        "floor: append and fdatasync", 1, len(laps) / (now - start), percentile(wall, 50) * 1e3,
        percentile(wall, 99) * 1e3, 1.0, len(laps) / (now - start), None, None, None, None,
    )  # fmt: skip
