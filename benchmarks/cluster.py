"""A PostgreSQL to measure with, and nodes of the shared engine over it, in process.

The server syncs; it, its clients and the load share the cores, and what it uses is counted with
what its clients use.
"""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.contender import Failed
from benchmarks.data import Vectors
from benchmarks.measure import cpu_seconds, parse_cpu_seconds
from tests.support.postgres import Postgres, children, programs
from vicinal.engine.options import EngineOptions
from vicinal.engine.shared.engine import SharedEngine, SharedOptions
from vicinal.limits import PROFILES
from vicinal.model import Accepted, IndexAddress, Upsert, VectorBatch

ADDRESS = IndexAddress("local", "benchmark")
WITHIN_S = 600.0
SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "maintenance_work_mem": "2GB",
    "autovacuum_naptime": "60s",
}
_UNDER_WAY = 4  # mutations


@contextmanager
def database(folder: Path | None = None) -> Iterator[Postgres]:
    """Run a PostgreSQL that syncs; `folder` is that of its programs, None for this machine's.

    Raises:
        Failed: there is none.
    """
    if folder is None and programs() is None:
        raise Failed("PostgreSQL is missing; install it with: apt-get install postgresql")
    server = Postgres(is_durable=True, settings=SETTINGS, folder=folder)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.close()


def server_cpu_seconds(server: Postgres) -> float:
    """Return the CPU time of a server and all its processes, those that have ended included."""
    seconds = cpu_seconds(server.pid) + _waited_for(server.pid)
    for child in children(server.pid):
        with suppress(OSError):
            seconds += cpu_seconds(child)
    return seconds


def _waited_for(pid: int) -> float:
    """Return the CPU time of the ended children of a process."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    head, fields = stat[: stat.rindex(")") + 2], stat[stat.rindex(")") + 2 :].split()
    return parse_cpu_seconds(head + " ".join([*fields[:11], *fields[13:15]]))


@contextmanager
def node(dsn: str, folder: Path) -> Iterator[SharedEngine]:
    """Open a node in this process."""
    index = EngineOptions(limits=PROFILES["open"])
    engine = SharedEngine.open(folder, SharedOptions(dsn, open_wait_s=WITHIN_S, index=index))
    try:
        yield engine
    finally:
        engine.close()


def batches(vectors: Vectors, size: int) -> Iterator[VectorBatch]:
    """Return all rows in batches; an id is the row's number."""
    for start in range(0, len(vectors.values), size):
        values = np.asarray(vectors.values[start : start + size])
        ids = [str(row) for row in range(start, start + len(values))]
        yield VectorBatch(ids, values, [""] * len(ids), [b""] * len(ids))


def upsert(engine: SharedEngine, made: Sequence[VectorBatch]) -> Accepted:
    """Write batches, a few under way at a time; return when all are acknowledged."""
    waiting: list[Future[Accepted]] = []
    for batch in made:
        if len(waiting) >= _UNDER_WAY:
            waiting.pop(0).result(WITHIN_S)
        waiting.append(engine.append(ADDRESS, Upsert(batch), wait_s=WITHIN_S))
    return [each.result(WITHIN_S) for each in waiting][-1]


def readable_copy(folder: Path, target: Path) -> Path:
    """Copy a folder to where the user of a PostgreSQL can read it."""
    shutil.copytree(folder, target, symlinks=True)
    for path in [target, *target.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
    return target
