"""Does a server answer as before while a snapshot of it is made, and what does the next one take?

1,000,000 random vectors of 384 dimensions, to which 500 single upserts a second are sent over 8
connections, at their times whether or not the ones before were answered. Snapshots are made while
nothing else differs: one into an empty folder, by copying; some more, each after seconds of
writes; and some by links into the folder, emptied before. Latencies are those of all snapshots of
a kind together, and of the pauses between them, as one that takes a second sees few. The vectors of
a restored copy are compared with the writes that can be in it.
"""

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import report, serving
from benchmarks.measure import Floats, percentile
from benchmarks.report import Cell, Report, Table
from benchmarks.serving import INDEX, Client, Server
from benchmarks.side import scratch
from benchmarks.texts import SEED
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import IndexAddress, IndexConfig, Metric, Upsert, VectorBatch
from vicinal.snapshots.restoring import restore_folder
from vicinal.snapshots.store import Store
from vicinal.snapshots.work import InlineWork

SNAPSHOTS = "/client/v4/vicinal/snapshots"
ADDRESS = IndexAddress("local", "benchmark")
DIMENSIONS = 384
RATE = 500.0  # upserts a second
CONNECTIONS = 8
SHORT_REPEATS = 24
"""Snapshots of each kind that takes a second: of six, a single wait of 60 ms decided the 99th
percentile, and one comes with each seal, every 40 seconds, snapshot or not."""

IDLE = "no snapshot"
FIRST = "first, copied"
SECOND = "another, copied"
LINKED = "first, linked"
_COPY = b'{"copy":true}'
_BATCH = 5_000
_COLUMNS = (
    "while", "times", "seconds", "bytes", "written", "linked", "upserts", "failed", "p50 ms",
    "p99 ms",
)  # fmt: skip


Span = tuple[float, float]
"""When something began and ended, in seconds of the performance counter."""


class _Made(msgspec.Struct):
    """The answer about a snapshot."""

    id: str
    byte_count: int
    written_bytes: int
    linked_bytes: int


@dataclass(frozen=True, slots=True)
class Write:
    """An acknowledged upsert: the first value of its vector, and when it was sent and answered."""

    value: float
    sent: float
    answered: float


@dataclass(slots=True)
class Stream:
    """Upserts that are sent at fixed times, and what came of them.

    Attributes:
        latencies: Seconds from when a write was due to its answer, by the time when it was due.
        acknowledged: Vector id -> its writes that were answered.
    """

    server: Server
    rows: int
    latencies: list[tuple[float, float]] = field(default_factory=list)
    failures: list[float] = field(default_factory=list)
    acknowledged: dict[str, list[Write]] = field(default_factory=dict)
    _is_over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send while the block runs."""
        start = time.perf_counter()
        threads = [
            threading.Thread(target=self._send, args=(number, start))
            for number in range(CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def during(self, spans: Sequence[Span]) -> tuple[int, int, float, float]:
        """Return how many writes were due in spans, how many failed, and p50 and p99 in ms."""
        wall = np.array([took for due, took in self.latencies if _is_in(due, spans)] or [0.0])
        failed = sum(_is_in(due, spans) for due in self.failures)
        return len(wall) + failed, failed, percentile(wall, 50) * 1e3, percentile(wall, 99) * 1e3

    def _send(self, number: int, start: float) -> None:
        random = np.random.RandomState(SEED + number)
        due = start + number / RATE
        with Client(self.server.port) as client:
            while not self._is_over.is_set():
                time.sleep(max(0.0, due - time.perf_counter()))
                values = random.standard_normal(DIMENSIONS).round(6)
                name = f"v{random.randint(self.rows)}"
                body = msgspec.json.encode({"id": name, "values": values.tolist()})
                sent = time.perf_counter()
                try:
                    status, _ = client.ask("POST", f"{INDEX}/upsert", body)
                except OSError:
                    status = 0
                if status == http.client.OK:
                    self.latencies.append((due, time.perf_counter() - due))
                    write = Write(float(values[0]), sent, time.perf_counter())
                    self.acknowledged.setdefault(name, []).append(write)
                else:
                    self.failures.append(due)
                due += CONNECTIONS / RATE


def run(*, is_quick: bool) -> Report:
    """Measure idle, then each kind of snapshot."""
    rows = 20_000 if is_quick else 1_000_000
    pause_s = 1.0 if is_quick else 2.0
    repeats = 1 if is_quick else SHORT_REPEATS
    kinds = [(FIRST, _COPY), *[(SECOND, _COPY)] * repeats, *[(LINKED, b"{}")] * repeats]
    taken: dict[str, _Made] = {}
    spans: dict[str, list[Span]] = {IDLE: []}
    with scratch() as folder:
        _fill(folder / "data", rows)
        store = folder / "store"
        with (
            serving.vicinal(folder / "data", "--snapshot-folder", str(store)) as server,
            Client(server.port) as client,
        ):
            client.result("GET", f"{INDEX}/info")  # opens it
            writes = Stream(server, rows)
            with writes.running():
                for label, body in kinds:
                    if label == LINKED:
                        _delete_all(client)
                    time.sleep(pause_s / 2)
                    spans[IDLE].append(_slept(pause_s))
                    start = time.perf_counter()
                    answer = client.result("POST", SNAPSHOTS, body)
                    spans.setdefault(label, []).append((start, time.perf_counter()))
                    taken[label] = msgspec.convert(answer, _Made)
                time.sleep(pause_s)
        wrong = _wrong(store, taken[LINKED].id, folder / "restored", writes, spans[LINKED][-1])
    seen = {label: writes.during(of_kind) for label, of_kind in spans.items()}
    seconds = {label: _mean_length(of_kind) for label, of_kind in spans.items()}
    lines: list[tuple[Cell, ...]] = []
    for label, of_kind in spans.items():
        made = taken.get(label)
        sizes = (made.byte_count, made.written_bytes, made.linked_bytes) if made else [None] * 3
        lines.append((label, len(of_kind), seconds[label], *sizes, *seen[label]))
    worst = max(seen[label][3] for label in taken)
    idle = seen[IDLE]
    failed = len(writes.failures)
    return Report(
        "snapshots", report.question(__doc__), is_quick,
        report.setup(
            data="random float32 values, no metadata", seed=str(SEED),
            method=f"{RATE:.0f} upserts a second from 8 threads of one process on the same cores; "
            "latency from when an upsert was due; the folder of snapshots is on the same disk",
        ),
        (Table(f"{rows:,} x {DIMENSIONS}, {RATE:.0f} upserts/s", _COLUMNS, tuple(lines)),),
        (
            report.at_most("requests that failed", float(failed), 0),
            report.at_most("p99 while a snapshot is made, over idle", worst / idle[3], 2),
            report.at_most("second over first: seconds", seconds[SECOND] / seconds[FIRST], 0.2),
            report.at_most(
                "second over first: bytes",
                taken[SECOND].written_bytes / taken[FIRST].written_bytes,
                0.2,
            ),
            report.at_most("vectors of the restored copy that differ", float(wrong), 0),
        ),
    )  # fmt: skip


def _fill(data: Path, rows: int) -> None:
    engine = EmbeddedEngine.open(data)
    engine.create_index(ADDRESS, IndexConfig(DIMENSIONS, Metric.COSINE), None)
    random = np.random.default_rng(SEED)
    for first in range(0, rows, _BATCH):
        count = min(_BATCH, rows - first)
        values: Floats = random.standard_normal((count, DIMENSIONS), np.float32)
        names = [f"v{row}" for row in range(first, first + count)]
        batch = VectorBatch(names, values, [""] * count, [b""] * count)
        engine.append(ADDRESS, Upsert(batch), wait_s=600).result()
    engine.compact(ADDRESS)
    engine.close()


def _is_in(moment: float, spans: Sequence[Span]) -> bool:
    return any(start <= moment < end for start, end in spans)


def _mean_length(spans: Sequence[Span]) -> float:
    return float(np.mean([end - start for start, end in spans]))


def _slept(seconds: float) -> tuple[float, float]:
    """Sleep; return when that began and ended."""
    start = time.perf_counter()
    time.sleep(seconds)
    return start, time.perf_counter()


def _delete_all(client: Client) -> None:
    for snapshot in client.result("GET", SNAPSHOTS):
        client.result("DELETE", f"{SNAPSHOTS}/{snapshot['id']}")


def _wrong(
    store: Path, snapshot_id: str, data: Path, writes: Stream, span: tuple[float, float]
) -> int:
    """Restore a snapshot; return how many vectors cannot be as they are at one moment of `span`."""
    opened = Store(store)
    with opened.locked():
        snapshot = opened.manifest(snapshot_id)
        restore_folder(opened, snapshot, data, InlineWork())
    with closing(EmbeddedEngine.open(data)) as engine:
        status = engine.status(ADDRESS)
        (part,) = snapshot.indexes
        assert status.applied_mutation == part.mutation_id, "another moment was restored"
        wrong = abs(status.vector_count - writes.rows)
        names = list(writes.acknowledged)
        for first in range(0, len(names), 1_000):
            for vector in engine.get(ADDRESS, names[first : first + 1_000]):
                wrong += not _is_possible(float(vector.values[0]), writes, vector.id, span)
    return wrong


def _is_possible(value: float, writes: Stream, name: str, span: tuple[float, float]) -> bool:
    """Tell whether a vector may begin with this value at a moment of a span.

    Some write of it does that was sent before the end; and if one was answered before the start,
    not the vector that it replaced.
    """
    start, end = span
    of_vector = writes.acknowledged[name]
    if any(np.float32(write.value) == value and write.sent < end for write in of_vector):
        return True
    is_original = value not in {float(np.float32(write.value)) for write in of_vector}
    return is_original and all(write.answered > start for write in of_vector)
