"""At each selectivity of a filter and at equal recall, what CPU time does a query cost,
beside the products a user would pick instead?

100,000 rows of 768 dimensions, top 10, all metadata of the matches returned: evaluating
the condition, mapping ids and fetching are part of the time. The condition is that an
integer attribute equals a value, another one for each query: random attributes of 2, 10,
100 and 1,000 values, and a cluster of the vectors that is the 50th nearest of 100 to the
query, so that what passes the filter lies far from what is near.
"""

from contextlib import ExitStack

from benchmarks import data, report
from benchmarks.contender import PEERS, VICINAL, Measured, Task
from benchmarks.data import SELECTIVE, Vectors, Where
from benchmarks.report import Mark, Report, Table
from benchmarks.side import Side, best_peer, scratch
from benchmarks.texts import SEED

RECALL = 0.99
FIELDS = (*SELECTIVE, "cluster")
_COLUMNS = ("contender", "setting", "recall@10", "CPU ms", "to best peer", "p50 ms", "p99 ms")


def run(*, is_quick: bool) -> Report:
    """Measure each condition over all contenders that filter."""
    vectors = data.real(768, 2_000 if is_quick else 100_000, is_quick=is_quick)
    tables, marks = [], []
    with scratch() as folder, ExitStack() as running:
        side = Side(folder, running)
        for contender in (VICINAL, *PEERS):
            if contender.is_database:
                side.load(
                    contender,
                    vectors,
                    FIELDS,
                    data.metadata(vectors),
                    kept=contender in PEERS and not is_quick,
                )
        for where in data.conditions(vectors):
            table, mark = _condition(side, vectors, where, is_quick=is_quick)
            tables.append(table)
            marks += mark
    return Report(
        "filters",
        report.question(__doc__),
        is_quick,
        report.setup(
            data=vectors.description,
            seed=str(SEED),
            method="held-out queries, 20 to warm up, rounds in turn over all contenders, the "
            "median one by CPU time; CPU of the whole process; settings are the cheapest that "
            f"reach recall {RECALL} under that filter",
        ),
        tuple(tables),
        tuple(marks),
        tuple(side.notes),
    )


def _condition(
    side: Side, vectors: Vectors, where: Where, *, is_quick: bool
) -> tuple[Table, list[Mark]]:
    """Measure one condition."""
    task = Task(vectors, data.nearest(vectors, where), where=where, fetch=True)
    settings = side.tune(task, RECALL)
    rounds, count, budget_s = (1, 100, 5.0) if is_quick else (3, 500, 4.0)
    measured = side.measure(task, settings, rounds=rounds, count=count, budget_s=budget_s)
    best = best_peer(measured, RECALL)
    label = f"{where.share:.1%} of rows" + (", far away" if where.name == "cluster" else "")
    rows = tuple(
        (
            name,
            report.options_text(run.setting),
            run.recall,
            run.timing.cpu_ms,
            run.timing.cpu_ms / best[1].timing.cpu_ms if best else None,
            run.timing.p50_ms,
            run.timing.p99_ms,
        )
        for name, run in measured.items()
    )
    ours: Measured | None = measured.get(VICINAL.name)
    ratio = ours.timing.cpu_ms / best[1].timing.cpu_ms if ours and best else None
    rival = best[0] if best else "none"
    return Table(f"{where.name}: {label}", _COLUMNS, rows), [
        report.at_most(f"CPU per query, to the best peer's ({rival}), {label}", ratio, 1.0),
        report.at_least(f"recall@10, {label}", ours.recall if ours else None, RECALL),
    ]
