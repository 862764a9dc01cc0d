"""In process, how does the CPU time of a query grow from a million vectors to ten million?

384 dimensions, cosine, top 10, no filter: text embeddings and rows grown between near ones, made
while they are inserted, with queries held out. One index, whose folder is copied once the first
million are indexed. Queries of both are measured in turn at the end, as a machine may take nearly
twice as long in one hour as in another. Recall is by the scores of the answers against exact
search. Takes most of an hour and 42 GB of disk.
"""

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import data, report
from benchmarks.measure import Floats, Timing
from benchmarks.measure import run as measured
from benchmarks.peers.vicinal import Vicinal
from benchmarks.peers.worker import Opening
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.side import nearly, scratch
from benchmarks.ten_million import Chunks, K, Truth
from benchmarks.texts import SEED

SIZES = (1_000_000, 10_000_000)
RECALL = 0.99
GROWTH_MAX = 2.5
"""Times the CPU of a query at the least of `SIZES`, at the largest."""

_EFFORTS = ("low", "standard")
ROUNDS = 5
WARM_UPS_MAX = 20
_WARM_SHARE = 0.95
"""A round is warm if it takes this share of the CPU of the one before or more: the first ones read
and verify what the others find in memory, 18 GB of files at ten million rows."""

_BATCH = 1_000
_COLUMNS = ("rows", "effort", "recall@10", "CPU ms", "to the fewest rows", "p50 ms", "p99 ms")

Found = tuple[float, Timing]
Search = Callable[[], list[float]]


def run(*, is_quick: bool) -> Report:
    """Insert, index and query at each size."""
    sizes = (10_000, 20_000) if is_quick else SIZES
    queries, chunks = data.growing(data.QUICK_TEXTS if is_quick else None)
    queries = queries[: 100 if is_quick else 1_000]
    truth = Truth(queries)
    facts: dict[str, float] = {}
    with scratch() as folder:
        folders: dict[int, Path] = {}
        truths: dict[int, Truth] = {}
        for size, before in zip(sizes, (0, *sizes), strict=False):
            with closing(_opened(folder / "growing", queries.shape[1])) as database:
                facts[f"{before:,} to {size:,} rows inserted, s"] = _insert(
                    database, truth, chunks, before, size
                )
                start = time.perf_counter()
                database.build()
                facts[f"{size:,} rows indexed after that, s"] = time.perf_counter() - start
            folders[size] = folder / "growing"
            if size < sizes[-1]:
                folders[size] = shutil.copytree(folder / "growing", folder / str(size))
            truths[size] = truth.so_far()
        with ExitStack() as running:
            opened = {}
            for size, each in folders.items():
                database = running.enter_context(closing(_opened(each, queries.shape[1])))
                opened[size] = database, truths[size]
            found = asked(opened)
    return Report(
        "tenfold", report.question(__doc__), is_quick,
        report.setup(
            data="text embeddings and rows grown between near ones", seed=str(SEED),
            method=f"{len(queries):,} held-out queries in rounds until they are warm, the median "
            f"of {ROUNDS} more by CPU time, of both sizes in turn; CPU of the whole process",
        ),
        (
            Table("what it takes", ("what", "value"), tuple(facts.items())),
            Table("queries", _COLUMNS, tuple(_rows(found))),
        ),
        tuple(marks_of(found)),
    )  # fmt: skip


def _insert(database: Vicinal, truth: Truth, chunks: Chunks, start: int, stop: int) -> float:
    """Insert rows; return the seconds, without those of making and comparing them."""
    seconds = 0.0
    for values in chunks(start, stop):
        begun = time.perf_counter()
        for at in range(0, len(values), _BATCH):
            database.insert(start + at, values[at : at + _BATCH], None)
        seconds += time.perf_counter() - begun
        start += len(values)
        truth.add(values)
        if start % SIZES[0] == 0:
            print(f"{start:,} rows after {seconds:.0f} s", file=sys.stderr)
    return seconds


def _opened(folder: Path, dimensions: int) -> Vicinal:
    return Vicinal(Opening(str(folder), dimensions, "cosine", {}, ()))


def asked(opened: Mapping[int, tuple[Vicinal, Truth]]) -> dict[int, dict[str, Found]]:
    """Ask every database all queries, one after another: in rounds until they are warm, and then
    `ROUNDS` times, the databases in turn. Return by size and effort the recall and the times of the
    median of these rounds by CPU."""
    found: dict[int, dict[str, Found]] = {size: {} for size in opened}
    for effort in _EFFORTS:
        searches = {}
        for size, (database, truth) in opened.items():
            database.tune({"effort": effort})
            searches[size] = [partial(_scores, database, query) for query in truth.queries]
            _warm(searches[size], f"{size:,} rows, {effort} effort")
        rounds = [{size: measured(each) for size, each in searches.items()} for _ in range(ROUNDS)]
        for size, (_, truth) in opened.items():
            ordered = sorted((each[size] for each in rounds), key=lambda each: each[0].cpu_ms)
            timing, scores = ordered[ROUNDS // 2]
            found[size][effort] = truth.recall(scores), timing
    return found


def _warm(searches: Sequence[Search], what: str) -> None:
    before = math.inf
    for _ in range(WARM_UPS_MAX):
        cpu_ms = measured(searches)[0].cpu_ms
        print(f"{what}, warming up: {cpu_ms:.3f} ms", file=sys.stderr)
        if cpu_ms >= _WARM_SHARE * before:
            return
        before = cpu_ms


def _scores(database: Vicinal, query: Floats) -> list[float]:
    found: Any = database.search(query, K, None, fetch=False)
    return [score for _, score in found]


def _rows(found: dict[int, dict[str, Found]]) -> list[tuple[Cell, ...]]:
    least = found[min(found)]
    return [
        (
            size, effort, recall, timing.cpu_ms, timing.cpu_ms / least[effort][1].cpu_ms,
            timing.p50_ms, timing.p99_ms,
        )
        for size, efforts in found.items()
        for effort, (recall, timing) in efforts.items()
    ]  # fmt: skip


def marks_of(found: dict[int, dict[str, Found]]) -> list[Mark]:
    """Return what must be reached, at the least effort that finds `RECALL` at each size."""
    chosen = {
        size: next((each for each in efforts.values() if each[0] >= nearly(RECALL)), None)
        for size, efforts in found.items()
    }
    least, largest = chosen[min(found)], chosen[max(found)]
    growth = largest[1].cpu_ms / least[1].cpu_ms if least and largest else None
    what = f"CPU per query at {max(found):,}, to that at {min(found):,}, recall {RECALL}"
    return [
        report.at_most(what, growth, GROWTH_MAX),
        report.at_least(
            f"recall@10, {max(found):,} rows", largest[0] if largest else None, nearly(RECALL)
        ),
    ]
