"""At a million vectors: how fast are queries in process and over HTTP, how long does it take
to open the index cold, how much memory does it hold, and what do queries feel of a merge?

1,000,000 rows of 768 dimensions with metadata, of which 94 % are jittered ones. Cold means
that none of the index's files are in the page cache. For the merge, 300,000 rows are
written again with the same values, so that the truth stays what it is, and the index is
tidied while the queries go on in the same process.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import data, report, serving
from benchmarks.contender import VICINAL, Measured, Process, Task, Work
from benchmarks.data import SELECTIVE
from benchmarks.http_query import COLUMNS, Runs, add_vicinal
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.side import scratch
from benchmarks.texts import SEED

FAIR = 0.97
_FIELDS = (*SELECTIVE, "cluster")
_QUERY_COLUMNS = (
    "query", "effort", "recall@10", "CPU ms", "p50 ms", "p99 ms", "queries/s, 1 thread",
    "queries/s, 2 threads",
)  # fmt: skip
_STANDARD = {"effort": "standard"}
_COLD_OPENS = 3  # of which the median counts: disks of shared machines are moody


def run(*, is_quick: bool) -> Report:
    """Load, query, merge, open cold, serve."""
    vectors = data.real(768, 4_000 if is_quick else 1_000_000, is_quick=is_quick)
    task = Task(vectors, data.nearest(vectors))
    count = 100 if is_quick else 1_000
    with scratch() as folder:
        database = folder / "data"
        facts, rows, runs_of = _in_process(folder, database, task, count)
        opened_s = median(_cold_open(folder, database, task) for _ in range(_COLD_OPENS))
        facts.append(("cold: open and first query, s", opened_s))
        runs = Runs(task, folder, 1 if is_quick else 10, count)
        with serving.vicinal(database) as server:
            add_vicinal(runs, server)
            facts.append(("server: private bytes, MB", server.memory().private / 1e6))
            facts.append(("server: resident with mapped files, MB", server.memory().resident / 1e6))
    size = f"{len(vectors.values):,} x 768"
    return Report(
        "scale", report.question(__doc__), is_quick,
        report.setup(
            data=vectors.description, seed=str(SEED),
            method="in process: held-out queries, 20 to warm up; over HTTP: as http_query",
        ),
        (
            Table(f"{size}: what it takes", ("what", "value"), tuple(facts)),
            Table(f"{size}: in process", _QUERY_COLUMNS, tuple(rows)),
            Table(f"{size}: over HTTP", COLUMNS, tuple(runs.rows)),
        ),
        tuple(_marks(facts, runs_of, runs)),
    )  # fmt: skip


def _in_process(
    folder: Path, database: Path, task: Task, count: int
) -> tuple[list[tuple[Cell, ...]], list[tuple[Cell, ...]], dict[str, Measured]]:
    """Return facts, rows of the table of queries, and the runs by name."""
    vectors, size = task.vectors, len(task.vectors.values)
    rows: list[tuple[Cell, ...]] = []
    named: dict[str, Measured] = {}
    with Process(VICINAL, folder / "log.txt") as process:
        process.open(database, vectors, _FIELDS)
        empty = process.memory().private
        metadata = data.metadata(vectors)
        insert, build = process.insert(vectors, 0, size, metadata), process.build()
        facts = _loading(insert, build, size)
        facts.append(("private bytes/vector", (process.memory().private - empty) / size))
        rows += [_row(process, "all rows", task, setting, count) for setting in VICINAL.settings]
        for where in data.conditions(vectors):
            filtered = replace(task, nearest=data.nearest(vectors, where), where=where, fetch=True)
            label = f"{where.name}: {where.share:.1%} of rows"
            rows.append(_row(process, label, filtered, _STANDARD, count))
        named["idle"] = process.query(task, _STANDARD, count=count)
        process.insert(vectors, 0, int(size * 0.3), metadata)
        named["merging"] = process.query(
            task, _STANDARD, count=count, budget_s=1_200, during_build=True
        )
        for name, run_ in named.items():
            timing = run_.timing
            rows.append(
                (f"all rows, {name}", "standard", run_.recall, timing.cpu_ms, timing.p50_ms,
                 timing.p99_ms, timing.per_second, None)
            )  # fmt: skip
        process.close()
    return facts, rows, named


def _loading(insert: Work, build: Work, size: int) -> list[tuple[Cell, ...]]:
    return [
        ("insert, s", insert.seconds),
        ("index, s", build.seconds),
        ("vectors/s, until indexed", size / (insert.seconds + build.seconds)),
        ("CPU µs/vector", (insert.cpu_seconds + build.cpu_seconds) / size * 1e6),
    ]


def _row(
    process: Process, label: str, task: Task, setting: Mapping[str, str], count: int
) -> tuple[Cell, ...]:
    one = process.query(task, setting, count=count)
    two = process.query(task, setting, count=count, threads=2)
    timing = one.timing
    return (
        label, setting["effort"], one.recall, timing.cpu_ms, timing.p50_ms, timing.p99_ms,
        timing.per_second, two.timing.per_second,
    )  # fmt: skip


def _forget_pages(folder: Path) -> None:
    """Write all files of a folder to disk and drop them from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _cold_open(folder: Path, database: Path, task: Task) -> float:
    """Return the seconds from opening the folder to the answer of the second query."""
    _forget_pages(database)
    with Process(VICINAL, folder / "log.txt") as process:
        process.wait_until_ready()
        start = time.perf_counter()
        process.open(database, task.vectors, _FIELDS)
        process.query(task, _STANDARD, count=1)
        seconds = time.perf_counter() - start
        process.close()
    return seconds


def _marks(facts: list[tuple[Cell, ...]], named: Mapping[str, Measured], runs: Runs) -> list[Mark]:
    values = {str(name): float(value) for name, value in facts if isinstance(value, float)}
    ratio = named["merging"].timing.p99_ms / named["idle"].timing.p99_ms
    return [
        report.at_least(
            f"queries/s over HTTP at recall {FAIR}", runs.best_rate("vicinal", FAIR), 250
        ),
        report.at_most("cold open, s", values["cold: open and first query, s"], 2.0),
        report.at_most("server's private MB", values["server: private bytes, MB"], 400),
        report.at_most("private bytes per vector", values["private bytes/vector"], 200),
        report.at_most("query p99 while merging, to idle", ratio, 5.0),
        report.at_least("recall@10 while merging", named["merging"].recall, FAIR),
    ]  # fmt: skip
