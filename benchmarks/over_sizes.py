"""Vicinal's cost at several sizes, measured in turn.

How a query's cost grows is a ratio of times, so they have to be of one moment: a machine may take
nearly twice as long in one hour as in another. The databases are built before; `side` compares
contenders over the same rows.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import side
from benchmarks.contender import VICINAL, Measured, Process, Setting, Task

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Built:
    """A database that holds all rows, and what is asked of it.

    Attributes:
        folder: Of the database, which no process has open.
        task: Queries and their true answers.
    """

    folder: Path
    task: Task


def measured(
    built: Sequence[Built], recall: float, log: Path, *, count: int
) -> Mapping[int, Measured]:
    """Return by number of rows the median, by CPU, of rounds in turn over all databases.

    Each is asked at the least effort that reaches the recall, or at the greatest where none does.
    """
    runs: dict[int, list[Measured]] = {len(each.task.vectors.values): [] for each in built}
    with ExitStack() as running:
        opened: list[tuple[Built, Process, Setting]] = []
        for each in built:
            process = running.enter_context(Process(VICINAL, log))
            process.open(each.folder, each.task.vectors)
            # Rows are read and verified before they are timed, by the effort that reads the most.
            process.query(each.task, VICINAL.settings[-1], count=count)
            setting = side.tuned(process, each.task, recall) or VICINAL.settings[-1]
            opened.append((each, process, setting))
        for _ in range(ROUNDS):
            for each, process, setting in opened:
                run = process.query(each.task, setting, count=count)
                runs[len(each.task.vectors.values)].append(run)
    return {size: side.median(each) for size, each in runs.items()}


def growth(runs: Mapping[int, Measured], recall: float) -> float | None:
    """Return the CPU of a query at the most rows to that at the fewest, if both find enough."""
    fewest, most = runs[min(runs)], runs[max(runs)]
    if min(fewest.recall, most.recall) < side.nearly(recall):
        return None
    return most.timing.cpu_ms / fewest.timing.cpu_ms
