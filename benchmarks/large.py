"""At a million vectors: what do building, queries at each effort, filters, the first queries after
opening and queries over HTTP cost, beside the fastest peer?

1,000,000 rows of 384 dimensions: text embeddings and rows grown between near ones, with queries
held out. A shorter run than `growth`: one size, one peer, all settings of ours as they are. The
first queries come right after opening, so that each reads and verifies rows.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import data, report, serving
from benchmarks.contender import PEERS, VICINAL, Measured, Process, Task
from benchmarks.data import SELECTIVE
from benchmarks.http_query import COLUMNS, Runs, add_vicinal
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.side import Side, best_peer, scratch
from benchmarks.texts import SEED

ROWS = 1_000_000
RECALLS = (0.97, 0.99)
LOAD_CPU_S_MAX = 150.0
PRIVATE_BYTES_MAX = 100.0
PEER_SHARE_MAX = 0.5
FIRST_P99_MS_MAX = 60.0

_FIELDS = (*SELECTIVE, "cluster")
_FILTERS = ("half", "tenth", "thousandth", "cluster")  # each takes a minute to have the truth of
_PEER = next(peer for peer in PEERS if peer.name == "qdrant-edge")
_QUERY_COLUMNS = ("contender", "query", "setting", "recall@10", "CPU ms", "p50 ms", "p99 ms")


def run(*, is_quick: bool) -> Report:
    """Load, query, filter, open again, serve."""
    vectors = data.grown(2_000 if is_quick else ROWS, is_quick=is_quick)
    size, count = len(vectors.values), 100 if is_quick else 1_000
    task = Task(vectors, data.nearest(vectors))
    rows: list[tuple[Cell, ...]] = []
    with scratch() as folder:
        facts = _loaded(folder, task)
        rows.append(_row(_first(folder, task, count), "first after opening"))
        rows += _queries(folder, task, count)
        marks = [*_loading_marks(facts), _first_mark(rows[0])]
        notes = _beside_peer(folder, task, count, rows, marks, is_quick=is_quick)
        runs = Runs(task, folder, 1 if is_quick else 10, count)
        with serving.vicinal(_database(folder)) as server:
            add_vicinal(runs, server)
    return Report(
        "large", report.question(__doc__), is_quick,
        report.setup(
            data=vectors.description, seed=str(SEED),
            method=f"{count:,} held-out queries, 20 to warm up, also before those after opening; "
            "CPU of the whole process; the peer at the cheapest setting that reaches the recall; "
            "over HTTP as http_query",
        ),
        (
            Table(f"{size:,} x 384: what it takes", ("what", "value"), tuple(facts.items())),
            Table(f"{size:,} x 384: in process", _QUERY_COLUMNS, tuple(rows)),
            Table(f"{size:,} x 384: over HTTP", COLUMNS, tuple(runs.rows)),
        ),
        tuple(marks), tuple(notes),
    )  # fmt: skip


def _database(folder: Path) -> Path:
    return folder / "data"


def _loaded(folder: Path, task: Task) -> dict[str, float]:
    """Load and index all rows; return what it took."""
    vectors = task.vectors
    size = len(vectors.values)
    with Process(VICINAL, folder / "log.txt") as process:
        process.open(_database(folder), vectors, _FIELDS)
        empty = process.memory().private
        insert = process.insert(vectors, 0, size, data.metadata(vectors))
        build = process.build()
        private = process.memory().private - empty
        process.close()
    return {
        "insert, s": insert.seconds,
        "index, s": build.seconds,
        "load and index, CPU s": insert.cpu_seconds + build.cpu_seconds,
        "private bytes/vector": private / size,
    }


def _first(folder: Path, task: Task, count: int) -> Measured:
    """Open the index and search at once."""
    with Process(VICINAL, folder / "log.txt") as process:
        process.open(_database(folder), task.vectors, _FIELDS)
        return process.query(task, {"effort": "standard"}, count=count)


def _queries(folder: Path, task: Task, count: int) -> list[tuple[Cell, ...]]:
    """Return the rows of all efforts, without a filter and with each."""
    filtered = [
        replace(task, nearest=data.nearest(task.vectors, where), where=where)
        for where in data.conditions(task.vectors)
        if where.name in _FILTERS
    ]
    with Process(VICINAL, folder / "log.txt") as process:
        process.open(_database(folder), task.vectors, _FIELDS)
        process.query(task, {"effort": "high"}, count=count)
        return [
            _row(process.query(each, setting, count=count), _label(each))
            for each in (task, *filtered)
            for setting in VICINAL.settings
        ]


def _label(task: Task) -> str:
    return "all rows" if task.where is None else f"{task.where.name}: {task.where.share:.1%}"


def _row(measured: Measured, label: str, name: str = VICINAL.name) -> tuple[Cell, ...]:
    timing = measured.timing
    return (
        name, label, report.options_text(measured.setting), measured.recall, timing.cpu_ms,
        timing.p50_ms, timing.p99_ms,
    )  # fmt: skip


def _beside_peer(
    folder: Path, task: Task, count: int, rows: list[tuple[Cell, ...]], marks: list[Mark], *,
    is_quick: bool,
) -> list[str]:  # fmt: skip
    """Measure the peer without a filter, and ours beside it; return notes."""
    if is_quick:
        return ["The peer is left out of a quick run."]
    with ExitStack() as running:
        side = Side(folder, running)
        side.load(_PEER, task.vectors, kept=True)
        ours = running.enter_context(Process(VICINAL, folder / "log.txt"))
        ours.open(_database(folder), task.vectors, _FIELDS)
        ours.query(task, {"effort": "high"}, count=count)  # reads and verifies rows
        runs = [ours.query(task, setting, count=count) for setting in VICINAL.settings]
        for recall in RECALLS:
            measured = side.measure(
                task, side.tune(task, recall), rounds=1, count=count, budget_s=30.0
            )
            for name, run_ in measured.items():
                rows.append(_row(run_, f"all rows, for {recall}", name))
            best = best_peer(measured, recall)
            able = [run_.timing.cpu_ms for run_ in runs if run_.recall >= recall]
            marks.append(
                report.at_most(
                    f"CPU per query, to {_PEER.name}'s, recall {recall}",
                    min(able) / best[1].timing.cpu_ms if able and best else None,
                    PEER_SHARE_MAX,
                )
            )
        return side.notes


def _loading_marks(facts: dict[str, float]) -> list[Mark]:
    return [
        report.at_most("load and index, CPU s", facts["load and index, CPU s"], LOAD_CPU_S_MAX),
        report.at_most("private bytes a vector", facts["private bytes/vector"], PRIVATE_BYTES_MAX),
    ]


def _first_mark(row: tuple[Cell, ...]) -> Mark:
    p99 = row[-1]
    assert isinstance(p99, float)
    return report.at_most("p99 of the first queries after opening, ms", p99, FIRST_P99_MS_MAX)
