"""In process and at equal recall, how does the CPU time of a query grow from 100,000 vectors to a
million, beside the products that have a graph and the bare indexes of faiss?

384 dimensions, cosine, top 10, no filter: text embeddings and rows grown between near ones, with
queries held out. Each contender runs in a process of its own, over the same rows, at the cheapest
of its settings that reaches the recall; what building took is beside it.
"""

from collections.abc import Mapping
from contextlib import ExitStack

from benchmarks import data, over_sizes, report
from benchmarks.contender import PEERS, VICINAL, Measured, Task
from benchmarks.over_sizes import Built
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.side import Side, best_peer, nearly, scratch
from benchmarks.texts import SEED

RECALLS = (0.97, 0.99, 0.999)
SIZES = (100_000, 300_000, 1_000_000)
GROWTH_MAX = 2.5
"""Times the CPU of a query at the least of `SIZES`, at the largest."""

PEER_SHARE_MAX = 0.5
"""Of the best peer's CPU, at the largest of `SIZES`."""

_NAMES = ("qdrant-edge", "zvec", "lancedb", "faiss hnsw", "faiss ivf")
_COLUMNS = (
    "contender", "setting", "recall@10", "CPU ms", "to best peer", "to the least size", "p50 ms",
    "p99 ms", "load CPU s", "private bytes/vector",
)  # fmt: skip

_BySize = dict[int, dict[str, Measured]]


def run(*, is_quick: bool) -> Report:
    """Measure at each size and recall, and ours at all sizes in turn."""
    sizes = (1_000, 2_000) if is_quick else SIZES
    recalls = RECALLS[:1] if is_quick else RECALLS
    contenders = (VICINAL, *(peer for peer in PEERS if peer.name in _NAMES and not is_quick))
    tables: list[Table] = []
    notes: list[str] = []
    runs: dict[float, _BySize] = {recall: {} for recall in recalls}
    built: list[Built] = []
    with scratch() as folder:
        for size in sizes:
            vectors = data.grown(size, is_quick=is_quick)
            task = Task(vectors, data.nearest(vectors))
            with ExitStack() as running:
                side = Side(folder / str(size), running)
                for contender in contenders:
                    side.load(contender, vectors, kept=contender is not VICINAL)
                for recall in recalls:
                    runs[recall][size] = _at_recall(side, task, recall, is_quick=is_quick)
                    tables.append(_table(side, runs[recall], size, recall))
            notes += [f"{size:,} rows: {note}" for note in side.notes]
            ours = next(each for each in side.loaded if each.name == VICINAL.name)
            built.append(Built(ours.database, task))
        in_turn = {
            recall: over_sizes.measured(
                built, recall, folder / "log.txt", count=50 if is_quick else data.QUERIES
            )
            for recall in recalls
        }
    return Report(
        "growth", report.question(__doc__), is_quick,
        report.setup(
            data=built[0].task.vectors.description, seed=str(SEED),
            method=f"{data.QUERIES:,} held-out queries, 20 to warm up, rounds in turn over all "
            "contenders, the median one by CPU time; CPU of the whole process; settings are the "
            "cheapest that reach the recall; the last table has all sizes in turn",
        ),
        (*tables, _in_turn(in_turn)),
        tuple(m for recall in recalls for m in marks_of(runs[recall], in_turn[recall], recall)),
        tuple(notes),
    )  # fmt: skip


def _at_recall(side: Side, task: Task, recall: float, *, is_quick: bool) -> dict[str, Measured]:
    settings = side.tune(task, recall)
    rounds, count, budget_s = (1, 50, 2.0) if is_quick else (3, 1_000, 8.0)
    return side.measure(task, settings, rounds=rounds, count=count, budget_s=budget_s)


def _table(side: Side, runs: _BySize, size: int, recall: float) -> Table:
    measured, least = runs[size], runs[min(runs)]
    best = best_peer(measured, recall)
    rows: list[tuple[Cell, ...]] = []
    for loaded in side.loaded:
        run_ = measured[loaded.name]
        before = least.get(loaded.name)
        rows.append(
            (
                loaded.name,
                report.options_text({**loaded.process.contender.options, **run_.setting}),
                run_.recall,
                run_.timing.cpu_ms,
                run_.timing.cpu_ms / best[1].timing.cpu_ms if best else None,
                run_.timing.cpu_ms / before.timing.cpu_ms if before else None,
                run_.timing.p50_ms,
                run_.timing.p99_ms,
                loaded.insert.cpu_seconds + loaded.build.cpu_seconds,
                loaded.private_bytes / size,
            )
        )
    return Table(f"{size:,} x 384 at recall {recall}", _COLUMNS, tuple(rows))


def _in_turn(runs: Mapping[float, Mapping[int, Measured]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for recall, by_size in runs.items():
        least = by_size[min(by_size)].timing.cpu_ms
        rows += [
            (
                recall, f"{size:,}", report.options_text(run_.setting), run_.recall,
                run_.timing.cpu_ms, run_.timing.cpu_ms / least,
            )
            for size, run_ in by_size.items()
        ]  # fmt: skip
    columns = ("wanted", "rows", "setting", "recall@10", "CPU ms", "to the least size")
    return Table(f"{VICINAL.name}: sizes in turn", columns, tuple(rows))


def marks_of(runs: _BySize, in_turn: Mapping[int, Measured], recall: float) -> list[Mark]:
    """Return what must be reached; beside the peers only where one of them finds as much.

    Args:
        runs: Of all contenders at each size, one size after another.
        in_turn: Ours at each size.
        recall: That was wanted.
    """
    least, largest = min(in_turn), max(in_turn)
    best = best_peer(runs[largest], recall)
    found = runs[largest].get(VICINAL.name)
    marks = [
        report.at_most(
            f"CPU per query at {largest:,}, to that at {least:,}, recall {recall}",
            over_sizes.growth(in_turn, recall), GROWTH_MAX,
        ),
        report.at_least(
            f"recall@10, {largest:,} rows, recall {recall}",
            found.recall if found else None, nearly(recall),
        ),
    ]  # fmt: skip
    if best:
        name, run_ = best
        what = f"CPU per query, to the best peer's ({name}), {largest:,} rows, recall {recall}"
        share = found.timing.cpu_ms / run_.timing.cpu_ms if found else None
        marks.append(report.at_most(what, share, PEER_SHARE_MAX))
    return marks
