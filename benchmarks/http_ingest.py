"""How many vectors a second go in over HTTP until queries see them, what does one cost, and
how much memory does it take, beside a server that only parses, and beside what peers take
to insert and index the same rows?

50,000 rows of 768 dimensions as NDJSON, in batches of 1,000 and 5,000, over 1, 2 and 4
connections; the client runs on the same cores, with its bodies made beforehand. Rows are
visible when ``info`` counts them; memory is read when the server has nothing more to do.
Peers get arrays in process: no HTTP and no parsing is in their times.
"""

import http.client
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import data, report, serving
from benchmarks.contender import PEERS, VICINAL, Failed
from benchmarks.data import Vectors
from benchmarks.measure import warm_memory
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.serving import INDEX, NDJSON, Client, Server
from benchmarks.side import Loaded, Side, scratch
from benchmarks.texts import SEED

_SHAPES = (  # vectors a request, connections
    (1_000, 1), (1_000, 2), (1_000, 4), (5_000, 1), (5_000, 2), (5_000, 4),
)  # fmt: skip
_RETRY_S = 0.05
_POLL_S = 0.005
_COLUMNS = (
    "server", "vectors/request", "connections", "vectors/s acknowledged", "vectors/s visible",
    "MB/s", "CPU µs/vector", "CPU µs/vector, settled", "private bytes/vector", "retries",
)  # fmt: skip
_PEER_COLUMNS = (
    "contender", "options", "insert s", "index s", "vectors/s", "CPU µs/vector",
    "private bytes/vector",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Sent:
    """How sending all bodies went."""

    seconds: float
    retries: int


def run(*, is_quick: bool) -> Report:
    """Measure each shape of request, the floor, and the peers."""
    vectors = data.real(768, 2_000 if is_quick else 50_000, is_quick=is_quick)
    lines = lines_of(vectors)
    shapes = ((500, 1), (500, 2)) if is_quick else _SHAPES
    rows = []
    for batch, connections in shapes:
        bodies = [b"\n".join(lines[start : start + batch]) for start in range(0, len(lines), batch)]
        with scratch() as folder:
            rows.append(_floor_row(folder, bodies, batch, connections, len(lines)))
        with scratch() as folder:
            rows.append(_vicinal_row(folder, bodies, batch, connections, vectors))
    with scratch() as folder, ExitStack() as running:
        side = Side(folder, running)
        for contender in (VICINAL, *PEERS):
            side.load(contender, vectors)
        peers = tuple(_peer_row(loaded, len(lines)) for loaded in side.loaded)
    size = f"{len(lines):,} x 768"
    return Report(
        "http_ingest", report.question(__doc__), is_quick,
        report.setup(
            data=vectors.description, seed=str(SEED),
            method="a new server and index for each line, all of them begun with a gigabyte of "
            "memory that was just in use; CPU of the server process alone; "
            f"settled: less than {serving.QUIET_SHARE:.0%} of a core for {serving.QUIET_S:g} s",
        ),
        (
            Table(f"{size} as NDJSON, {sum(map(len, lines)) / 1e6:,.0f} MB", _COLUMNS, tuple(rows)),
            Table(f"{size} in process, until indexed", _PEER_COLUMNS, peers),
        ),
        tuple(_marks(rows, side.loaded, len(lines))), tuple(side.notes),
    )  # fmt: skip


def lines_of(vectors: Vectors) -> list[bytes]:
    """Return a line of NDJSON for each row."""
    lines = []
    for start in range(0, len(vectors.values), 1_000):
        chunk = serving.numbers(np.asarray(vectors.values[start : start + 1_000]))
        lines += [
            msgspec.json.encode({"id": str(row), "values": values})
            for row, values in enumerate(chunk, start)
        ]
    return lines


def _floor_row(
    folder: Path, bodies: Sequence[bytes], batch: int, connections: int, count: int
) -> tuple[Cell, ...]:
    with serving.floor(folder) as server:
        warm_memory()
        before = server.cpu_seconds()
        sent = send(server, "/upsert", bodies, connections)
        cpu_us = (server.cpu_seconds() - before) / count * 1e6
    rate = count / sent.seconds
    megabytes = sum(map(len, bodies)) / 1e6 / sent.seconds
    return ("floor: parse", batch, connections, rate, None, megabytes, cpu_us, None, None, 0)


def _vicinal_row(
    folder: Path, bodies: Sequence[bytes], batch: int, connections: int, vectors: Vectors
) -> tuple[Cell, ...]:
    count, dimensions = vectors.values.shape
    with serving.vicinal(folder / "data") as server, Client(server.port) as client:
        serving.create_index(client, dimensions, vectors.metric)
        warm_memory()
        empty, before = server.memory().private, server.cpu_seconds()
        start = time.perf_counter()
        sent = send(server, f"{INDEX}/upsert", bodies, connections)
        while client.result("GET", f"{INDEX}/info")["vectorCount"] < count:
            time.sleep(_POLL_S)
        visible_s = time.perf_counter() - start
        visible_cpu = server.cpu_seconds() - before
        serving.settle(server)
        settled_cpu = server.cpu_seconds() - before
        private = server.memory().private - empty
    return (
        "vicinal", batch, connections, count / sent.seconds, count / visible_s,
        sum(map(len, bodies)) / 1e6 / visible_s, visible_cpu / count * 1e6,
        settled_cpu / count * 1e6, private / count, sent.retries,
    )  # fmt: skip


def send(server: Server, path: str, bodies: Sequence[bytes], connections: int) -> _Sent:
    """Post all bodies; one that is refused as too much is sent again.

    Raises:
        Failed: one was refused for another reason.
    """
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    retries: list[int] = []
    refused: list[str] = []

    def post() -> None:
        with Client(server.port) as client:
            while not refused:
                try:
                    body = waiting.get_nowait()
                except queue.Empty:
                    return
                status, answer = client.ask("POST", path, body, NDJSON)
                if status == http.client.TOO_MANY_REQUESTS:
                    waiting.put(body)
                    retries.append(status)
                    time.sleep(_RETRY_S)
                elif status != http.client.OK:
                    refused.append(f"{path} was answered {status}: {answer}")

    start = time.perf_counter()
    threads = [threading.Thread(target=post) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise Failed(refused[0])
    return _Sent(time.perf_counter() - start, len(retries))


def _peer_row(loaded: Loaded, count: int) -> tuple[Cell, ...]:
    seconds = loaded.insert.seconds + loaded.build.seconds
    cpu = loaded.insert.cpu_seconds + loaded.build.cpu_seconds
    return (
        loaded.name, report.options_text(loaded.process.contender.options), loaded.insert.seconds,
        loaded.build.seconds, count / seconds, cpu / count * 1e6, loaded.private_bytes / count,
    )  # fmt: skip


def _marks(rows: Sequence[Sequence[Cell]], loaded: Sequence[Loaded], count: int) -> list[Mark]:
    ours = [row for row in rows if row[0] == "vicinal"]
    visible = max(float(row[4] or 0) for row in ours)
    memory = max(float(row[8] or 0) for row in ours)
    # Only those that build an index: keeping rows to scan them later is another thing.
    peers = [
        (count / (database.insert.seconds + database.build.seconds), database.name)
        for database in loaded
        if database.process.contender in PEERS
        and database.process.contender.is_database
        and database.process.contender.options
    ]
    rate, name = max(peers, default=(0.0, "none"))
    return [
        report.at_least("vectors/s over HTTP until visible", visible, 5_000),
        report.at_least(f"that, to the best peer's insert-and-index ({name})",
                        visible / rate if rate else None, 10.0),
        report.at_most(f"private bytes per vector at {count:,}, settled", memory, 200),
    ]  # fmt: skip
