"""In process and at equal recall, what CPU time does a query cost, beside the products a
user would pick instead?

768 dimensions, cosine, top 10, no filter; rows have metadata, ids and scores are returned.
Each contender runs in a process of its own, over the same rows, at the cheapest of its
settings that reaches the recall.
"""

from contextlib import ExitStack

from benchmarks import data, report
from benchmarks.contender import PEERS, VICINAL, Measured, Task
from benchmarks.filters import FIELDS
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.side import Side, best_peer, nearly, scratch
from benchmarks.texts import SEED

RECALLS = (0.99, 0.999)
"""Recall that is promised above 100,000 rows, and up to there."""

_COLUMNS = (
    "contender", "setting", "recall@10", "CPU ms", "to best peer", "p50 ms", "p99 ms",
    "queries/s", "queries/s, 2 threads", "p99 ms, 2 threads", "load s", "private bytes/vector",
)  # fmt: skip


def run(*, is_quick: bool) -> Report:
    """Measure at 50,000 and 100,000 rows."""
    sizes = (2_000,) if is_quick else (50_000, 100_000)
    tables, marks, notes = [], [], []
    description = ""
    for size in sizes:
        vectors = data.real(768, size, is_quick=is_quick)
        description = vectors.description
        task = Task(vectors, data.nearest(vectors))
        with scratch() as folder, ExitStack() as running:
            side = Side(folder, running)
            for contender in (VICINAL, *PEERS):
                side.load(
                    contender,
                    vectors,
                    FIELDS,
                    data.metadata(vectors),
                    kept=contender in PEERS and not is_quick,
                )
            for recall in RECALLS:
                table, mark = _at_recall(side, task, recall, is_quick=is_quick)
                tables.append(table)
                marks += mark
        notes += [f"{size:,} rows: {note}" for note in side.notes]
    return Report(
        "query",
        report.question(__doc__),
        is_quick,
        report.setup(
            data=description,
            seed=str(SEED),
            method=f"{data.QUERIES:,} held-out queries, 20 to warm up, rounds in turn over all "
            "contenders, the median one by CPU time; CPU of the whole process; settings are the "
            "cheapest that reach the recall",
        ),
        tuple(tables),
        tuple(marks),
        tuple(notes),
    )


def _at_recall(
    side: Side, task: Task, recall: float, *, is_quick: bool
) -> tuple[Table, list[Mark]]:
    size = len(task.vectors.values)
    settings = side.tune(task, recall)
    rounds, count, budget_s = (1, 200, 5.0) if is_quick else (3, 1_000, 8.0)
    one = side.measure(task, settings, rounds=rounds, count=count, budget_s=budget_s)
    two = side.measure(task, settings, rounds=1, count=count, budget_s=budget_s, threads=2)
    best = best_peer(one, recall)
    ours = one.get(VICINAL.name)
    ratio = ours.timing.cpu_ms / best[1].timing.cpu_ms if ours and best else None
    rival = best[0] if best else "none"
    label = f"{size:,} rows, recall {recall}"
    table = Table(f"{size:,} x 768 at recall {recall}", _COLUMNS, _rows(side, one, two, best, size))
    return table, [
        report.at_most(f"CPU per query, to the best peer's ({rival}), {label}", ratio, 0.7),
        report.at_least(f"recall@10, {label}", ours.recall if ours else None, nearly(recall)),
    ]


def _rows(
    side: Side,
    one: dict[str, Measured],
    two: dict[str, Measured],
    best: tuple[str, Measured] | None,
    size: int,
) -> tuple[tuple[Cell, ...], ...]:
    rows = []
    for loaded in side.loaded:
        measured, timing = one[loaded.name], one[loaded.name].timing
        rows.append(
            (
                loaded.name,
                report.options_text({**loaded.process.contender.options, **measured.setting}),
                measured.recall,
                timing.cpu_ms,
                timing.cpu_ms / best[1].timing.cpu_ms if best else None,
                timing.p50_ms,
                timing.p99_ms,
                timing.per_second,
                two[loaded.name].timing.per_second,
                two[loaded.name].timing.p99_ms,
                loaded.insert.seconds + loaded.build.seconds,
                loaded.private_bytes / size,
            )
        )
    return tuple(rows)
