"""At a million vectors: what do building, queries at each effort, filters, the first queries after
opening and queries over HTTP cost, beside the fastest peers and beside 100,000 vectors?

1,000,000 rows of 384 and of 768 dimensions: text embeddings and rows grown between near ones, with
queries held out. One size where `growth` has three, two peers, all settings of ours as they are.
The first queries come right after opening, so that each reads and verifies rows.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import data, over_sizes, report, serving
from benchmarks.contender import PEERS, VICINAL, Measured, Process, Task, Work
from benchmarks.data import SELECTIVE
from benchmarks.http_query import COLUMNS, Runs, add_vicinal
from benchmarks.over_sizes import Built
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.side import Loaded, Side, best_peer, nearly, scratch
from benchmarks.texts import SEED

ROWS = 1_000_000
DIMENSIONS = (384, 768)
RECALLS = (0.97, 0.99, 0.999)
FILTERED_RECALL = 0.97
GROWTH_ROWS, GROWTH_RECALL = 100_000, 0.99
GROWTH_MAX = 2.5
LOAD_CPU_S_MAX = 150.0  # of 384 dimensions
BUILDING_MB_MAX = 600.0  # of 384 dimensions, all that the process holds
PRIVATE_BYTES_MAX = 100.0
PEER_SHARE_MAX = 0.5
FILTERED_SHARE_MAX = 1.0
FIRST_P99_MS_MAX = 60.0
RATE_MIN, P50_MS_MAX = 1_500.0, 2.0  # of 768 dimensions
ROUNDS = 3
_BUDGET_S = 15.0

_FIELDS = (*SELECTIVE, "cluster")
_PEERS = tuple(peer for peer in PEERS if peer.name in {"qdrant-edge", "zvec"})
"""The databases that take the least CPU in `growth`."""

_QUERY_COLUMNS = ("contender", "query", "setting", "recall@10", "CPU ms", "p50 ms", "p99 ms")


@dataclass(frozen=True, slots=True)
class _Taken:
    """What loading and indexing all rows took.

    Attributes:
        size: Rows.
        insert: Until all were acknowledged.
        build: Until all were indexed after that.
        peak_bytes: Of private memory meanwhile, the most.
        private_bytes: Of memory after that, less what the empty database held.
    """

    size: int
    insert: Work
    build: Work
    peak_bytes: int
    private_bytes: int

    @property
    def cpu_seconds(self) -> float:
        return self.insert.cpu_seconds + self.build.cpu_seconds

    @property
    def private_bytes_a_vector(self) -> float:
        return self.private_bytes / self.size

    def rows(self) -> tuple[tuple[Cell, ...], ...]:
        return (
            ("insert, s", self.insert.seconds),
            ("index, s", self.build.seconds),
            ("load and index, CPU s", self.cpu_seconds),
            ("most private memory meanwhile, MB", self.peak_bytes / 1e6),
            ("private bytes/vector", self.private_bytes_a_vector),
        )


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
            "CPU of the whole process; beside the peers the median by CPU time of "
            f"{ROUNDS} rounds in turn, all at the cheapest setting that reaches the recall, and "
            f"likewise of {over_sizes.ROUNDS} beside fewer rows; over HTTP as http_query",
        ),
        tuple(gathered.tables), tuple(gathered.marks), tuple(gathered.notes),
    )  # fmt: skip


def _measure(folder: Path, task: Task, count: int, gathered: _Gathered, is_quick: bool) -> None:
    """Measure one number of dimensions."""
    dimensions = task.vectors.values.shape[1]
    label = _size(task)
    filtered = [
        replace(task, nearest=data.nearest(task.vectors, where), where=where)
        for where in data.conditions(task.vectors)
    ]
    taken = _loaded(folder, task)
    first = _first(folder, task, count)
    rows = [_row(first, "first after opening")]
    for each in (task, *filtered):
        rows += [_row(run_, _label(each)) for run_ in _queries(folder, each, count)]
    marks = [
        report.at_most(
            f"{label}: p99 of the first queries after opening, ms", first.timing.p99_ms,
            FIRST_P99_MS_MAX,
        ),
        report.at_most(
            f"{label}: private bytes a vector", taken.private_bytes_a_vector, PRIVATE_BYTES_MAX
        ),
    ]  # fmt: skip
    if dimensions == DIMENSIONS[0]:
        what = f"{label}: most private memory while loading and indexing, MB"
        marks += [
            report.at_most(f"{label}: load and index, CPU s", taken.cpu_seconds, LOAD_CPU_S_MAX),
            report.at_most(what, taken.peak_bytes / 1e6, BUILDING_MB_MAX),
        ]
    marks.append(_growth_mark(folder, task, count, gathered, is_quick=is_quick))
    if is_quick:
        gathered.notes.append("The peers are left out of a quick run.")
    else:
        _beside_peers(folder, (task, *filtered), count, taken, rows, marks, gathered.notes)
    served = Runs(task, folder, 1 if is_quick else 10, count)
    with serving.vicinal(_database(folder)) as server:
        add_vicinal(served, server)
    if dimensions == DIMENSIONS[-1]:
        rate = served.best_rate(VICINAL.name, 0.99, P50_MS_MAX)
        what = f"{label}: requests/s at recall 0.99, p50 {P50_MS_MAX:g} ms or less"
        marks.append(report.at_least(what, rate, RATE_MIN))
    gathered.marks += marks
    gathered.tables += [
        Table(f"{label}: what it takes", ("what", "value"), taken.rows()),
        Table(f"{label}: in process", _QUERY_COLUMNS, tuple(rows)),
        Table(f"{label}: over HTTP", COLUMNS, tuple(served.rows)),
    ]


def _database(folder: Path) -> Path:
    return folder / "data"


def _loaded(folder: Path, task: Task) -> _Taken:
    """Load and index all rows."""
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
    return _Taken(size, insert, build, peak.private, private)


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
    folder: Path, task: Task, count: int, gathered: _Gathered, *, is_quick: bool
) -> Mark:
    """Build an index of a tenth of the rows, and measure both in turn."""
    dimensions = task.vectors.values.shape[1]
    vectors = data.grown(1_000 if is_quick else GROWTH_ROWS, dimensions, is_quick=is_quick)
    less = Built(folder / "less", Task(vectors, data.nearest(vectors)))
    log = folder / "log.txt"
    with Process(VICINAL, log) as process:
        process.open(less.folder, vectors)
        process.insert(vectors, 0, len(vectors.values))
        process.build()
        process.close()
    both = (less, Built(_database(folder), task))
    runs = over_sizes.measured(both, GROWTH_RECALL, log, count=count)
    gathered.tables.append(
        Table(
            f"{dimensions} dimensions: sizes in turn",
            ("rows", *_QUERY_COLUMNS[2:]),
            tuple((f"{size:,}", *_row(run_, "")[2:]) for size, run_ in runs.items()),
        )
    )
    return report.at_most(
        f"{_size(task)}: CPU per query, to that of {len(vectors.values):,} rows, "
        f"recall {GROWTH_RECALL}",
        over_sizes.growth(runs, GROWTH_RECALL), GROWTH_MAX,
    )  # fmt: skip


def _size(task: Task) -> str:
    size, dimensions = task.vectors.values.shape
    return f"{size:,} x {dimensions}"


def _label(task: Task) -> str:
    return "all rows" if task.where is None else f"{task.where.name}: {task.where.share:.1%}"


def _row(measured: Measured, label: str, name: str = VICINAL.name) -> tuple[Cell, ...]:
    timing = measured.timing
    return (
        name, label, report.options_text(measured.setting), measured.recall, timing.cpu_ms,
        timing.p50_ms, timing.p99_ms,
    )  # fmt: skip


def _beside_peers(
    folder: Path, tasks: Sequence[Task], count: int, taken: _Taken,
    rows: list[tuple[Cell, ...]], marks: list[Mark], notes: list[str],
) -> None:  # fmt: skip
    """Measure ours and the peers in turn, without a filter and with each, and compare."""
    vectors = tasks[0].vectors
    with ExitStack() as running:
        side = Side(folder, running)
        for peer in _PEERS:
            side.load(peer, vectors, _FIELDS, data.metadata(vectors), kept=True)
        process = running.enter_context(Process(VICINAL, folder / "log.txt"))
        database = _database(folder)
        process.open(database, vectors, _FIELDS)
        process.query(tasks[0], VICINAL.settings[-1], count=count)
        ours = Loaded(process, database, taken.insert, taken.build, taken.private_bytes)
        side.loaded.append(ours)
        for task in tasks:
            recalls = RECALLS if task.where is None else (FILTERED_RECALL,)
            share_max = PEER_SHARE_MAX if task.where is None else FILTERED_SHARE_MAX
            for recall in recalls:
                settings = side.tune(task, recall)
                measured = side.measure(
                    task, settings, rounds=ROUNDS, count=count, budget_s=_BUDGET_S
                )
                for name, run_ in measured.items():
                    rows.append(_row(run_, f"{_label(task)}, for {recall}", name))
                what = f"{_size(task)}, {_label(task)}: CPU to the best peer's"
                mark = beside_peers(measured, recall, f"{what}, recall {recall}", share_max)
                if mark is None:
                    notes.append(f"{what}: none reaches {recall}.")
                else:
                    marks.append(mark)
        notes += side.notes


def beside_peers(
    measured: Mapping[str, Measured], recall: float, what: str, share_max: float
) -> Mark | None:
    """Return what our share of the best peer's CPU must be, None where only ours finds as much."""
    ours, best = measured.get(VICINAL.name), best_peer(measured, recall)
    if ours is None or ours.recall < nearly(recall):
        return report.at_most(what, None, share_max)
    if best is None:
        return None
    name, run_ = best
    return report.at_most(f"{what} ({name})", ours.timing.cpu_ms / run_.timing.cpu_ms, share_max)
