"""How long do a patch of metadata and a deletion by filter take that change a tenth of an index?

1,000,000 random vectors of 384 dimensions with a number from 0 to 9 as metadata, which is indexed.
One request patches all that have one of these numbers, another deletes all that have another, three
times each; between them the server comes to rest. A write is acknowledged when it is durable, and
visible when a count of what it changed says so.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import report, serving
from benchmarks.contender import Failed
from benchmarks.measure import Floats
from benchmarks.report import Cell, Report, Table
from benchmarks.serving import INDEX, Client, Server
from benchmarks.side import scratch
from benchmarks.texts import SEED
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import (
    CreateMetadataIndex,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Upsert,
    VectorBatch,
)

ADDRESS = IndexAddress("local", "benchmark")
DIMENSIONS = 384
SECONDS_MAX = 2.0
PARTS = 10
_BATCH = 5_000
_ROUNDS = ((1, 2), (3, 4), (5, 6))  # the numbers that are patched and deleted
_COLUMNS = ("change", "vectors", "acknowledged, s", "visible, s", "server CPU s")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of many vectors, as its client and the server's CPU saw it."""

    count: int
    acknowledged_s: float
    visible_s: float
    cpu_s: float


def run(*, is_quick: bool) -> Report:
    """Fill an index, change it, and say how long that took."""
    rows = 20_000 if is_quick else 1_000_000
    changes: dict[str, list[Change]] = {"patch": [], "delete": []}
    with scratch() as folder:
        fill(folder / "data", rows)
        with serving.vicinal(folder / "data") as server, Client(server.port) as client:
            client.result("GET", f"{INDEX}/info")  # opens it
            for patched, deleted in _ROUNDS[: 1 if is_quick else None]:
                changes["patch"].append(_patch(server, client, patched))
                changes["delete"].append(_delete(server, client, deleted))
            left = client.result("GET", f"{INDEX}/info")["vectorCount"]
    gone = sum(change.count for change in changes["delete"])
    if left != rows - gone:
        raise Failed(f"{left:,} vectors are left of {rows:,} of which {gone:,} were deleted")
    lines: list[tuple[Cell, ...]] = [
        (name, change.count, change.acknowledged_s, change.visible_s, change.cpu_s)
        for name, made in changes.items()
        for change in made
    ]
    part = rows // PARTS
    return Report(
        "changes", report.question(__doc__), is_quick,
        report.setup(
            data="random float32 values", seed=str(SEED),
            method="one client; the server does nothing else when a change begins",
        ),
        (Table(f"{part:,} of {rows:,} x {DIMENSIONS}", _COLUMNS, tuple(lines)),),
        tuple(
            report.at_most(
                f"seconds of a {name} of {part:,} vectors, acknowledged (the median)",
                statistics.median(change.acknowledged_s for change in made),
                SECONDS_MAX,
            )
            for name, made in changes.items()
        ),
    )  # fmt: skip


def fill(data: Path, rows: int) -> None:
    """Make an index of random vectors, with their row modulo `PARTS` as metadata."""
    engine = EmbeddedEngine.open(data)
    engine.create_index(ADDRESS, IndexConfig(DIMENSIONS, Metric.COSINE), None)
    for name, index_type in (("part", IndexType.NUMBER), ("seen", IndexType.BOOLEAN)):
        created = CreateMetadataIndex(MetadataIndex(name, index_type))
        engine.append(ADDRESS, created).result()
    random = np.random.default_rng(SEED)
    for first in range(0, rows, _BATCH):
        count = min(_BATCH, rows - first)
        values: Floats = random.standard_normal((count, DIMENSIONS), np.float32)
        names = [f"v{row}" for row in range(first, first + count)]
        documents = [b'{"part":%d}' % (row % PARTS) for row in range(first, first + count)]
        batch = VectorBatch(names, values, [""] * count, documents)
        engine.append(ADDRESS, Upsert(batch), wait_s=600).result()
    engine.compact(ADDRESS)
    engine.close()


def _patch(server: Server, client: Client, part: int) -> Change:
    body = {"filter": {"part": part}, "metadata": {"seen": True}}
    seen = {"part": part, "seen": True}
    return _changed(server, client, "patch", body, lambda count: _count(client, seen) == count)


def _delete(server: Server, client: Client, part: int) -> Change:
    gone = {"part": part}
    return _changed(
        server, client, "delete", {"filter": gone}, lambda _count_: _count(client, gone) == 0
    )


def _count(client: Client, wanted: Mapping[str, object]) -> int:
    body = msgspec.json.encode({"filter": wanted})
    counted: int = client.result("POST", f"{INDEX}/vectors/count", body)["count"]
    return counted


def _changed(
    server: Server,
    client: Client,
    name: str,
    body: dict[str, object],
    is_visible: Callable[[int], bool],
) -> Change:
    serving.settle(server)
    cpu, start = server.cpu_seconds(), time.perf_counter()
    answer = client.result("POST", f"{INDEX}/vectors/{name}", msgspec.json.encode(body))
    acknowledged_s = time.perf_counter() - start
    while not is_visible(answer["count"]):
        time.sleep(0.005)
    visible_s = time.perf_counter() - start
    return Change(answer["count"], acknowledged_s, visible_s, server.cpu_seconds() - cpu)
