"""What does this checkout cost beside another one of the project, at what recall?

``python -m benchmarks.versions PATH [--quick]``: PATH is the other checkout, set up with
``make``. Queries, filters, HTTP queries, ingest and durable writes over the same rows, in
turns, so that what slows the machine down slows both; a ratio is that of the medians, this
checkout's over the other's. Background work has ended before anything is measured.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import data, durable_writes, http_ingest, report, serving
from benchmarks.contender import VICINAL, Contender, Process, Setting, Task
from benchmarks.data import SELECTIVE, Vectors
from benchmarks.measure import warm_memory
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.serving import INDEX, Client, Server
from benchmarks.side import Side, scratch
from benchmarks.texts import SEED

K = 10
RESULTS = report.RESULTS / "versions"
RATIO_MAX = 1.05
"""Source: ours; runs of one and the same checkout differ by up to this on a shared machine."""

_COLUMNS = ("what", "other", "this", "ratio", "recall, other", "recall, this", "rounds")
_EFFORTS = ("low", "standard", "high")
_CONNECTIONS = (1, 8)
_FIELDS = (*SELECTIVE, "cluster")

Pair = tuple[Contender, Contender]
Rows = list[tuple[Cell, ...]]


def run(other: Path, *, is_quick: bool) -> Report:
    """Measure both checkouts."""
    serving.require_wrk()
    pair = (replace(VICINAL, name="other", checkout=other), replace(VICINAL, name="this"))
    count, rounds = (2_000, 2) if is_quick else (50_000, 7)
    small = data.real(384, count, is_quick=is_quick)
    large = data.real(768, count, is_quick=is_quick)
    rows: Rows = []
    with scratch() as folder, ExitStack() as running:
        rows += _queries(pair, small, folder, running, rounds)
    with scratch() as folder, ExitStack() as running:
        rows += _http_queries(pair, large, folder, running, rounds, 1 if is_quick else 4)
    rows += _ingest(pair, large, 2 * rounds + 1)  # of half a second each
    rows += _durable_writes(pair, large, rounds, seconds=2 if is_quick else 4)
    return Report(
        "versions", report.question(__doc__), is_quick,
        report.setup(data=small.description, seed=str(SEED), method="medians of rounds in turn"),
        (Table(f"{count:,} rows, in turns", _COLUMNS, tuple(rows)),), tuple(marks(rows)),
    )  # fmt: skip


def row(label: str, runs: Sequence[Sequence[float]], recalls: Sequence[float | None]) -> Rows:
    """Return the table's line of a measure: `runs` are the numbers of the other, then of this."""
    other, this = (statistics.median(numbers) for numbers in runs)
    return [(label, other, this, this / other, *recalls, len(runs[0]))]


def marks(rows: Rows) -> list[Mark]:
    """Hold each ratio to the bound: a cost's as it is, a rate's turned over."""
    held = []
    for label, _, _, ratio, *_ in rows:
        assert isinstance(ratio, float)
        is_rate = str(label).endswith("/s")
        held.append(report.at_most(f"{label}: how much worse", 1 / ratio if is_rate else ratio,
                                    RATIO_MAX))  # fmt: skip
    return held


def _queries(
    pair: Pair, vectors: Vectors, folder: Path, running: ExitStack, rounds: int
) -> Rows:  # fmt: skip
    """Measure queries in process: at each effort, and under each condition."""
    side = Side(folder, running)
    for contender in pair:
        side.load(contender, vectors, _FIELDS, data.metadata(vectors))
    tasks: list[tuple[str, Task, Setting]] = [
        (f"{effort} effort", Task(vectors, data.nearest(vectors), K), {"effort": effort})
        for effort in _EFFORTS
    ]
    tasks += [
        (
            f"filter {where.name}",
            Task(vectors, data.nearest(vectors, where), K, where=where, fetch=True),
            {"effort": "standard"},
        )
        for where in data.conditions(vectors)
    ]
    rows: Rows = []
    for name, task, setting in tasks:
        runs: list[list[float]] = [[], []]
        recalls: list[float | None] = [None, None]
        for turn in range(rounds):
            for side_index in (0, 1) if turn % 2 else (1, 0):
                with side.alone(side.loaded[side_index]):
                    process: Process = side.loaded[side_index].process
                    measured = process.query(task, setting, count=1_000, budget_s=20)
                runs[side_index].append(measured.timing.cpu_ms * 1e3)
                recalls[side_index] = measured.recall
        rows += row(f"query, {name}, CPU µs", runs, recalls)
    return rows


def _http_queries(
    pair: Pair, vectors: Vectors, folder: Path, running: ExitStack, rounds: int, seconds: int
) -> Rows:  # fmt: skip
    """Measure both servers over the same rows, one loaded at a time."""
    bodies = [
        msgspec.json.encode({"vector": vector, "topK": K})
        for vector in serving.numbers(vectors.queries)
    ]
    lines = serving.write_lines(folder / "bodies", bodies)
    servers: list[Server] = []
    for contender in pair:
        database = folder / contender.name / "data"
        with Process(contender, folder / f"{contender.name}.log") as process:
            process.open(database, vectors)
            process.insert(vectors, 0, len(vectors.values))
            process.build()
            process.close()
        servers.append(running.enter_context(serving.vicinal(database, contender=contender)))
    rows: Rows = []
    for connections in _CONNECTIONS:
        rates: list[list[float]] = [[], []]
        costs: list[list[float]] = [[], []]
        for turn in range(rounds + 1):
            for number in (0, 1) if turn % 2 else (1, 0):
                load = serving.wrk(
                    servers[number], f"{INDEX}/query", lines, connections=connections,
                    seconds=seconds,
                )  # fmt: skip
                if turn:  # the first warms up
                    rates[number].append(load.per_second)
                    costs[number].append(load.cpu_us)
        rows += row(f"HTTP, {connections} connections, queries/s", rates, (None, None))
        rows += row(f"HTTP, {connections} connections, CPU µs/query", costs, (None, None))
    return rows


def _in_turns(
    pair: Pair, rounds: int, measure: Callable[[Contender], tuple[float, float]]
) -> tuple[list[list[float]], list[list[float]]]:
    """Return two measures of both contenders, each a list a contender of a number a round."""
    first: list[list[float]] = [[], []]
    second: list[list[float]] = [[], []]
    for turn in range(rounds):
        for number in (0, 1) if turn % 2 else (1, 0):
            one, two = measure(pair[number])
            first[number].append(one)
            second[number].append(two)
    return first, second


def _ingest(pair: Pair, vectors: Vectors, rounds: int) -> Rows:
    """Measure NDJSON in batches of 5,000 over two connections, until queries see it."""
    lines = http_ingest.lines_of(vectors)
    bodies = [b"\n".join(lines[start : start + 5_000]) for start in range(0, len(lines), 5_000)]
    count, dimensions = vectors.values.shape

    def measure(contender: Contender) -> tuple[float, float]:
        with (
            scratch() as folder,
            serving.vicinal(folder / "data", contender=contender) as server,
            Client(server.port) as client,
        ):
            serving.create_index(client, dimensions, vectors.metric)
            warm_memory()
            before, start = server.cpu_seconds(), time.perf_counter()
            http_ingest.send(server, f"{INDEX}/upsert", bodies, 2)
            while client.result("GET", f"{INDEX}/info")["vectorCount"] < count:
                time.sleep(0.005)
            seconds = time.perf_counter() - start
            return count / seconds, (server.cpu_seconds() - before) / count * 1e6

    rates, costs = _in_turns(pair, rounds, measure)
    return [
        *row("ingest, visible vectors/s", rates, (None, None)),
        *row("ingest, CPU µs/vector", costs, (None, None)),
    ]


def _durable_writes(pair: Pair, vectors: Vectors, rounds: int, seconds: int) -> Rows:
    """Measure single upserts over 16 connections."""

    def measure(contender: Contender) -> tuple[float, float]:
        with scratch() as folder:
            load, present, _ = durable_writes.writes(
                folder, vectors, 16, seconds, contender=contender
            )
        assert present >= load.requests, "an acknowledged write is missing"
        return load.per_second, load.cpu_us

    rates, costs = _in_turns(pair, rounds, measure)
    return [
        *row("durable writes/s", rates, (None, None)),
        *row("durable writes, CPU µs/write", costs, (None, None)),
    ]


def main() -> None:
    """Measure what the command line names, print the report and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__)
    parser.add_argument("other", type=Path, help="another checkout, set up")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works")
    arguments = parser.parse_args()
    np.seterr(all="raise")
    measured = run(arguments.other.resolve(), is_quick=arguments.quick)
    report.save(measured, RESULTS)
    print(report.text(measured))


if __name__ == "__main__":
    main()
