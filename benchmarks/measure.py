"""Measures: recall, CPU and wall time, memory of a process.

Recall is by distance, not by name: a found row counts when it is as near as the k-th
nearest one, so rows that tie are not misses. CPU is that of the whole process, all its
threads: what a machine that does nothing else has to give. Wall times are per query.

Only numpy is imported, as this runs in the environments of the peers too.
"""

import itertools
import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Rows = NDArray[np.int64]

T = TypeVar("T")

TIE = 1e-6
"""Relative difference of distances below which two rows are equally near. Contenders sum in
float32, where 768 products are off by about this much."""

_KIB = 1024
_WARMED_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one run of queries.

    Attributes:
        count: Queries that were run.
        cpu_ms: CPU time of the process per query.
        p50_ms: Median wall time.
        p99_ms: 99th percentile of the wall times.
        per_second: Queries per second of wall time, all threads together.
    """

    count: int
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    per_second: float

    def as_json(self) -> dict[str, float]:
        """Return the numbers by name; ``Timing(**...)`` takes them back."""
        return asdict(self)


def warm_memory() -> None:
    """Have a gigabyte of memory at hand for the next contender.

    To a virtual machine that has not used its memory lately, its host gives each page only when
    it is first touched: 2 ms a megabyte on the machine that this was written on, which is twenty
    times what clearing it costs, and comes and goes with what ran before.
    """
    with mmap.mmap(-1, _WARMED_BYTES) as memory:
        for page in range(0, _WARMED_BYTES, mmap.PAGESIZE):
            memory[page] = 1


def run(
    searches: Sequence[Callable[[], T]],
    *,
    threads: int = 1,
    budget_s: float = 60.0,
    is_over: Callable[[], bool] | None = None,
) -> tuple[Timing, list[T]]:
    """Run each search once, and return the times and what they found.

    Args:
        searches: Called in order; with more threads, thread i of n takes every n-th.
        threads: How many call at once.
        budget_s: No more searches are begun after this many seconds, but one a thread is
            run in any case. What was found is that of the first searches, for recall.
        is_over: Given this, the searches are run over and over until it returns True.
    """
    laps: list[list[tuple[int, float]]] = [[] for _ in range(threads)]
    results: dict[int, T] = {}
    end = time.perf_counter() + budget_s

    def work(thread: int) -> None:
        for lap in itertools.count():
            turn = thread + lap * threads
            is_done = turn >= len(searches) if is_over is None else is_over()
            start = time.perf_counter()
            if lap > 0 and (is_done or start > end):
                return
            number = turn % len(searches)
            result = searches[number]()
            laps[thread].append((number, time.perf_counter() - start))
            results[number] = result

    cpu, begun = time.process_time(), time.perf_counter()
    if threads == 1:
        work(0)
    else:
        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - begun
    wall = np.array([lap for thread in laps for _, lap in thread])
    timing = Timing(
        count=len(wall),
        cpu_ms=cpu / len(wall) * 1e3,
        p50_ms=percentile(wall, 50) * 1e3,
        p99_ms=percentile(wall, 99) * 1e3,
        per_second=len(wall) / seconds,
    )
    first = next(number for number in itertools.count() if number not in results)
    return timing, [results[number] for number in range(first)]


def percentile(values: NDArray[Any], percent: float) -> float:
    """Return the smallest value that at least `percent` of all values do not exceed."""
    return float(np.percentile(values, percent, method="inverted_cdf"))


def distances_to(rows: Floats, queries: Floats, metric: str) -> Wide:
    """Return how far rows are, in float64: smaller is nearer, by every metric.

    Args:
        rows: ``(q, m, d)``: the rows to measure for each query.
        queries: ``(q, d)``.
        metric: ``cosine``, ``euclidean`` or ``dot-product``.

    Returns:
        ``(q, m)``: 1 - cosine, the distance, or minus the dot product.
    """
    wide, wanted = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "euclidean":
        return np.asarray(np.linalg.norm(wide - wanted[:, None, :], axis=2))
    dots = np.einsum("qmd,qd->qm", wide, wanted)
    if metric == "dot-product":
        return np.asarray(-dots)
    norms = np.linalg.norm(wide, axis=2) * np.linalg.norm(wanted, axis=1)[:, None]
    return np.asarray(1.0 - np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0))


def recall(
    found_rows: Sequence[Sequence[int]],
    vectors: Floats,
    queries: Floats,
    nearest: Wide,
    metric: str,
) -> float:
    """Return the share of the nearest rows that were found, ties counted as found.

    Args:
        found: Row numbers for each of the first queries; a repeated row counts once.
        vectors: ``(n, d)``: what was searched.
        queries: ``(q, d)``.
        nearest: ``(q, k)``: the k smallest true distances, ascending, infinite where there
            are no more rows.
        metric: See `distances_to`.
    """
    hits = expected = 0
    for rows, query, near in zip(found_rows, queries, nearest, strict=False):
        count = int(np.isfinite(near).sum())
        expected += count
        if count and len(rows):
            distinct = np.unique(np.asarray(rows, np.int64))
            far = distances_to(vectors[distinct][None], query[None], metric)[0]
            bound = near[count - 1] + TIE * max(abs(near[count - 1]), TIE)
            hits += min(int((far <= bound).sum()), count)
    return hits / expected if expected else 1.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process's memory.

    Attributes:
        private: Belongs to no file: what cannot be dropped and read again.
        resident: All that is in memory, pages of mapped files included.
    """

    private: int
    resident: int


def memory(pid: int) -> Memory:
    """Return the memory of a process (Linux)."""
    return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))


def parse_memory(rollup: str) -> Memory:
    """Read the text of ``smaps_rollup``."""
    kib = {
        line.split(":")[0]: int(line.split()[1])
        for line in rollup.splitlines()[1:]
        if line.endswith("kB")
    }
    return Memory(kib["Anonymous"] * _KIB, kib["Rss"] * _KIB)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, user and system, to 10 ms (Linux)."""
    return parse_cpu_seconds(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"))


def parse_cpu_seconds(stat: str) -> float:
    """Read the text of ``stat``; the second field is a name and may hold anything."""
    fields = stat[stat.rindex(")") + 2 :].split()
    user, system = fields[11], fields[12]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
