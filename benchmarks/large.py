"""At a million vectors: what do building, queries at each effort, filters, the first queries after
opening and queries over HTTP cost, beside the fastest peer and beside 100,000 vectors?

1,000,000 rows of 384 and of 768 dimensions: text embeddings and rows grown between near ones, with
queries held out. A shorter run than `growth`: one size, one peer, all settings of ours as they are.
The first queries come right after opening, so that each reads and verifies rows.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import data, report, serving
from benchmarks.contender import PEERS, VICINAL, Measured, Process, Task
from benchmarks.data import SELECTIVE
from benchmarks.http_query import COLUMNS, Runs, add_vicinal
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.side import Side, best_peer, nearly, scratch
from benchmarks.texts import SEED

ROWS = 1_000_000
DIMENSIONS = (384, 768)
RECALLS = (0.97, 0.99, 0.999)
FILTERED_RECALL = 0.97
GROWTH_ROWS = 100_000
GROWTH_MAX = 2.5
LOAD_CPU_S_MAX = 150.0  # of 384 dimensions
BUILDING_MB_MAX = 600.0  # of 384 dimensions, all that the process holds
PRIVATE_BYTES_MAX = 100.0
PEER_SHARE_MAX = 0.5
FILTERED_SHARE_MAX = 1.0
FIRST_P99_MS_MAX = 60.0
RATE_MIN, P50_MS_MAX = 1_500.0, 2.0  # of 768 dimensions

_FIELDS = (*SELECTIVE, "cluster")
_PEER = next(peer for peer in PEERS if peer.name == "qdrant-edge")
_QUERY_COLUMNS = ("contender", "query", "setting", "recall@10", "CPU ms", "p50 ms", "p99 ms")


@dataclass(slots=True)
class _Gathered:
    """Tables, marks and notes of all dimensions."""

    tables: list[Table] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run(*, is_quick: bool) -> Report:
    """Load, query, filter, open again, serve."""
    serving.require_wrk()
    gathered = _Gathered()
    count = 100 if is_quick else 1_000
    description = ""
    for dimensions in DIMENSIONS[:1] if is_quick else DIMENSIONS:
        vectors = data.grown(2_000 if is_quick else ROWS, dimensions, is_quick=is_quick)
        description = description or vectors.description
        with scratch() as folder:
            _measure(folder, Task(vectors, data.nearest(vectors)), count, gathered, is_quick)
    return Report(
        "large", report.question(__doc__), is_quick,
        report.setup(
            data=description, seed=str(SEED),
            method=f"{count:,} held-out queries, 20 to warm up, also before those after opening; "
            "CPU of the whole process; the peer at the cheapest setting that reaches the recall; "
            "over HTTP as http_query",
        ),
        tuple(gathered.tables), tuple(gathered.marks), tuple(gathered.notes),
    )  # fmt: skip


def _measure(folder: Path, task: Task, count: int, gathered: _Gathered, is_quick: bool) -> None:
    """Measure one number of dimensions."""
    size, dimensions = task.vectors.values.shape
    label = f"{size:,} x {dimensions}"
    filtered = [
        replace(task, nearest=data.nearest(task.vectors, where), where=where)
        for where in data.conditions(task.vectors)
    ]
    facts = _loaded(folder, task)
    first = _first(folder, task, count)
    ours = [_queries(folder, each, count) for each in (task, *filtered)]
    rows = [_row(first, "first after opening")]
    for each, runs in zip((task, *filtered), ours, strict=True):
        rows += [_row(run_, _label(each)) for run_ in runs]
    marks = [
        report.at_most(
            f"{label}: p99 of the first queries after opening, ms", first.timing.p99_ms,
            FIRST_P99_MS_MAX,
        ),
        report.at_most(
            f"{label}: private bytes a vector", facts["private bytes/vector"], PRIVATE_BYTES_MAX
        ),
    ]  # fmt: skip
    if dimensions == DIMENSIONS[0]:
        cpu_s = facts["load and index, CPU s"]
        marks.append(report.at_most(f"{label}: load and index, CPU s", cpu_s, LOAD_CPU_S_MAX))
        peak = facts["most private memory meanwhile, MB"]
        what = f"{label}: most private memory while loading and indexing, MB"
        marks.append(report.at_most(what, peak, BUILDING_MB_MAX))
        marks.append(_growth_mark(folder, ours[0], count, label, is_quick=is_quick))
    if is_quick:
        gathered.notes.append("The peer is left out of a quick run.")
    else:
        _beside_peer(folder, (task, *filtered), count, ours, rows, marks, gathered.notes)
    served = Runs(task, folder, 1 if is_quick else 10, count)
    with serving.vicinal(_database(folder)) as server:
        add_vicinal(served, server)
    if dimensions == DIMENSIONS[-1]:
        rate = served.best_rate(VICINAL.name, 0.99, P50_MS_MAX)
        what = f"{label}: requests/s at recall 0.99, p50 {P50_MS_MAX:g} ms or less"
        marks.append(report.at_least(what, rate, RATE_MIN))
    gathered.marks += marks
    gathered.tables += [
        Table(f"{label}: what it takes", ("what", "value"), tuple(facts.items())),
        Table(f"{label}: in process", _QUERY_COLUMNS, tuple(rows)),
        Table(f"{label}: over HTTP", COLUMNS, tuple(served.rows)),
    ]


def _database(folder: Path) -> Path:
    return folder / "data"


def _loaded(folder: Path, task: Task) -> dict[str, float]:
    """Load and index all rows; return what it took."""
    vectors = task.vectors
    size = len(vectors.values)
    with Process(VICINAL, folder / "log.txt") as process:
        process.open(_database(folder), vectors, _FIELDS)
        empty = process.memory().private
        with process.watched() as peak:
            insert = process.insert(vectors, 0, size, data.metadata(vectors))
            build = process.build()
        private = process.memory().private - empty
        process.close()
    return {
        "insert, s": insert.seconds,
        "index, s": build.seconds,
        "load and index, CPU s": insert.cpu_seconds + build.cpu_seconds,
        "most private memory meanwhile, MB": peak.private / 1e6,
        "private bytes/vector": private / size,
    }


def _first(folder: Path, task: Task, count: int) -> Measured:
    """Open the index and search at once."""
    with Process(VICINAL, folder / "log.txt") as process:
        process.open(_database(folder), task.vectors, _FIELDS)
        return process.query(task, {"effort": "standard"}, count=count)


def _queries(folder: Path, task: Task, count: int) -> list[Measured]:
    """Return a run of each effort, once the rows that queries read are verified."""
    with Process(VICINAL, folder / "log.txt") as process:
        process.open(_database(folder), task.vectors, _FIELDS)
        process.query(task, {"effort": "high"}, count=count)
        return [process.query(task, setting, count=count) for setting in VICINAL.settings]


def _growth_mark(
    folder: Path, runs: Sequence[Measured], count: int, label: str, *, is_quick: bool
) -> Mark:
    """Compare with the same number of queries of a tenth of the rows."""
    vectors = data.grown(1_000 if is_quick else GROWTH_ROWS, is_quick=is_quick)
    task = Task(vectors, data.nearest(vectors))
    less = folder / "less"
    less.mkdir()
    with Process(VICINAL, folder / "log.txt") as process:
        process.open(less / "data", vectors, ())
        process.insert(vectors, 0, len(vectors.values), None)
        process.build()
        process.query(task, {"effort": "high"}, count=count)
        before = [process.query(task, setting, count=count) for setting in VICINAL.settings]
    ours, least = (_cheapest(each, 0.99) for each in (runs, before))
    growth = ours / least if ours and least else None
    return report.at_most(
        f"{label}: CPU per query, to that of {len(vectors.values):,} rows, recall 0.99",
        growth, GROWTH_MAX,
    )  # fmt: skip


def _cheapest(runs: Sequence[Measured], recall: float) -> float | None:
    """Return the CPU ms of the cheapest run that reaches a recall."""
    able = [run_.timing.cpu_ms for run_ in runs if run_.recall >= nearly(recall)]
    return min(able, default=None)


def _label(task: Task) -> str:
    return "all rows" if task.where is None else f"{task.where.name}: {task.where.share:.1%}"


def _row(measured: Measured, label: str, name: str = VICINAL.name) -> tuple[Cell, ...]:
    timing = measured.timing
    return (
        name, label, report.options_text(measured.setting), measured.recall, timing.cpu_ms,
        timing.p50_ms, timing.p99_ms,
    )  # fmt: skip


def _beside_peer(
    folder: Path, tasks: Sequence[Task], count: int, ours: Sequence[Sequence[Measured]],
    rows: list[tuple[Cell, ...]], marks: list[Mark], notes: list[str],
) -> None:  # fmt: skip
    """Measure the peer without a filter and with each, and compare."""
    vectors = tasks[0].vectors
    size, dimensions = vectors.values.shape
    with ExitStack() as running:
        side = Side(folder, running)
        side.load(_PEER, vectors, _FIELDS, data.metadata(vectors), kept=True)
        for task, runs in zip(tasks, ours, strict=True):
            recalls = RECALLS if task.where is None else (FILTERED_RECALL,)
            share_max = PEER_SHARE_MAX if task.where is None else FILTERED_SHARE_MAX
            for recall in recalls:
                settings = side.tune(task, recall)
                measured = side.measure(task, settings, rounds=1, count=count, budget_s=15.0)
                for name, run_ in measured.items():
                    rows.append(_row(run_, f"{_label(task)}, for {recall}", name))
                best, least = best_peer(measured, recall), _cheapest(runs, recall)
                share = least / best[1].timing.cpu_ms if least and best else None
                what = f"{size:,} x {dimensions}, {_label(task)}: CPU to {_PEER.name}'s"
                if best is None and least:
                    notes.append(f"{what}: it does not reach {recall}.")
                    continue
                marks.append(report.at_most(f"{what}, recall {recall}", share, share_max))
        notes += side.notes
