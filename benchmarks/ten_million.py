"""What do ten million vectors on one machine take: loading over HTTP, indexing, opening, the first
queries, those once warm, and those after 30 % of the vectors were replaced?

10,000,000 rows of 384 dimensions, 15 GB of values: text embeddings and rows grown between near
ones, made and imported a million at a time, with queries held out. Queries come over one
connection. Recall is by the scores of the answers of 300 queries against exact search. Takes about
an hour and 40 GB of disk.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import data, report, serving
from benchmarks.contender import Failed
from benchmarks.measure import Floats, Rows, Wide, percentile
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.serving import INDEX, Client, Server
from benchmarks.side import scratch
from benchmarks.texts import SEED

ROWS = 10_000_000
PART_ROWS = 1_000_000
REPLACED_OF_TEN = 3
RECALL_MIN = 0.98
RECALL_QUERIES = 300
K = 10
EFFORTS = ("low", "standard", "high")
_SCORE_ERROR = 2e-6  # of a score in an answer, and of float32 products
_LAST_WORDS = 500
_SETTLED_S = 7_200.0
_COLUMNS = ("queries", "effort", "recall@10", "CPU ms", "p50 ms", "p99 ms")

Chunks = Callable[[int, int], Iterator[Floats]]


@dataclass(slots=True)
class Loading:
    """What loading took; grows part by part.

    Attributes:
        import_s: Seconds of the commands.
        settled_s: Seconds after them, until the server had nothing more to do.
        peak_bytes: The most private memory of the server that was seen.
    """

    import_s: float = 0.0
    settled_s: float = 0.0
    peak_bytes: int = 0


@dataclass(slots=True)
class Truth:
    """The exact distances of the nearest rows of queries, of rows that come one after another."""

    queries: Floats
    nearest: Wide = field(init=False)

    def __post_init__(self) -> None:
        self.nearest = np.full((len(self.queries), K), np.inf)

    def add(self, values: Floats) -> None:
        """Compare more rows."""
        found = data.exact(values, self.queries, K, "cosine")
        self.nearest = np.sort(np.concatenate([self.nearest, found], axis=1), axis=1)[:, :K]

    def so_far(self) -> "Truth":
        """Return what is true of the rows that have come, whichever come after them."""
        copied = Truth(self.queries)
        copied.nearest = self.nearest
        return copied

    def recall(self, scores: list[list[float]]) -> float:
        """Return the share of answers' rows that are as near as the k-th nearest."""
        found = [
            sum(1 - score <= limit + _SCORE_ERROR for score in each)
            for each, limit in zip(scores, self.nearest[:, -1], strict=False)
        ]
        return float(sum(found)) / (K * len(found))


def run(*, is_quick: bool) -> Report:
    """Load, query, open again, replace, query."""
    count, part = (4_000, 1_000) if is_quick else (ROWS, PART_ROWS)
    queries, chunks = data.growing(data.QUICK_TEXTS if is_quick else None)
    queries = queries[: 100 if is_quick else 1_000]
    compared = queries[:RECALL_QUERIES]
    before, after, loading = Truth(compared), Truth(compared), Loading()
    rows: list[tuple[Cell, ...]] = []
    with scratch() as folder:
        with serving.vicinal(folder / "data") as server:
            with Client(server.port) as client:
                serving.create_index(client, 384, "cosine")
            for start in range(0, count, part):
                values = np.concatenate(list(chunks(start, start + part)))
                _import(server, folder, loading, np.arange(start, start + part), values)
                before.add(values)
                kept = np.arange(start, start + part) % 10 >= REPLACED_OF_TEN
                after.add(values[kept])
            _settle(server, loading, count)
        opened = time.perf_counter()
        with serving.vicinal(folder / "data") as server:
            open_s = time.perf_counter() - opened
            rows.append(_asked(server, queries, before, "first after opening", "standard"))
            rows += [_asked(server, queries, before, "warm", effort) for effort in EFFORTS]
            replacing = Loading()
            _replace(server, folder, replacing, chunks, after, count, part)
            rows += [_asked(server, queries, after, "30 % replaced", effort) for effort in EFFORTS]
            private = server.memory().private
    facts = {
        "loaded, s": loading.import_s,
        "indexed after that, s": loading.settled_s,
        "opened, s": open_s,
        "most private memory, MB": loading.peak_bytes / 1e6,
        "private bytes/vector": private / count,
        "30 % replaced and indexed, s": replacing.import_s + replacing.settled_s,
    }
    return Report(
        "ten_million", report.question(__doc__), is_quick,
        report.setup(
            data="text embeddings and rows grown between near ones", seed=str(SEED),
            method=f"{len(queries):,} held-out queries, one connection; CPU of the server",
        ),
        (
            Table(f"{count:,} x 384: what it takes", ("what", "value"), tuple(facts.items())),
            Table(f"{count:,} x 384: over HTTP", _COLUMNS, tuple(rows)),
        ),
        tuple(_marks(facts, rows)),
    )  # fmt: skip


def _import(server: Server, folder: Path, loading: Loading, numbers: Rows, values: Floats) -> None:
    path = folder / "part.npz"
    np.savez(path, ids=numbers.astype(str), values=values)
    start = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "vicinal", "import", str(path), INDEX.rpartition("/")[2],
         "--url", server.origin, "--account", "local", "--restart"],
        env=serving.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    loading.import_s += time.perf_counter() - start
    loading.peak_bytes = max(loading.peak_bytes, server.memory().private)
    path.unlink()
    if ran.returncode:
        raise Failed(f"vicinal import: {ran.stderr[-_LAST_WORDS:]}")
    print(f"{numbers[-1] + 1:,} rows after {loading.import_s:.0f} s", file=sys.stderr)


def _settle(server: Server, loading: Loading, count: int) -> None:
    """Wait until the server has indexed all, and check that all is there."""
    start, end = time.perf_counter(), time.perf_counter() + _SETTLED_S
    quiet = 0
    while quiet < 4 and time.perf_counter() < end:
        used = server.cpu_seconds()
        time.sleep(serving.QUIET_S)
        is_quiet = server.cpu_seconds() - used < serving.QUIET_SHARE * serving.QUIET_S
        quiet = quiet + 1 if is_quiet else 0
        loading.peak_bytes = max(loading.peak_bytes, server.memory().private)
    loading.settled_s += time.perf_counter() - start - quiet * serving.QUIET_S
    print(f"indexed after {loading.settled_s:.0f} s more", file=sys.stderr)
    with Client(server.port) as client:
        there = client.result("GET", f"{INDEX}/info")["vectorCount"]
    if there != count:
        raise Failed(f"{there:,} of {count:,} vectors are there")


def _replace(
    server: Server, folder: Path, loading: Loading, chunks: Chunks, truth: Truth, count: int,
    part: int,
) -> None:  # fmt: skip
    """Give three of ten ids values of rows that come after all others."""
    numbers = np.arange(count)
    numbers = numbers[numbers % 10 < REPLACED_OF_TEN]
    for start in range(0, len(numbers), part):
        ids = numbers[start : start + part]
        first = count + start
        values = np.concatenate(list(chunks(first, first + len(ids))))
        truth.add(values)
        _import(server, folder, loading, ids, values)
    _settle(server, loading, count)


def _asked(
    server: Server, queries: Floats, truth: Truth, label: str, effort: str
) -> tuple[Cell, ...]:
    """Ask all queries, one after another; return the row of a table."""
    bodies = [
        msgspec.json.encode({"vector": numbers, "topK": K}) for numbers in serving.numbers(queries)
    ]
    scores: list[list[float]] = []
    seconds: list[float] = []
    with Client(server.port) as client:
        used = server.cpu_seconds()
        for body in bodies:
            start = time.perf_counter()
            status, answer = client.ask(
                "POST", f"{INDEX}/query", body, headers={"Vicinal-Effort": effort}
            )
            seconds.append(time.perf_counter() - start)
            if status != 200:
                raise Failed(f"a query was answered {status}: {answer}")
            scores.append([match["score"] for match in answer["result"]["matches"]])
        used = server.cpu_seconds() - used
    row = (
        label, effort, truth.recall(scores), 1e3 * used / len(bodies),
        1e3 * percentile(np.array(seconds), 50), 1e3 * percentile(np.array(seconds), 99),
    )  # fmt: skip
    print(*row, file=sys.stderr)
    return row


def _marks(facts: dict[str, float], rows: list[tuple[Cell, ...]]) -> list[Mark]:
    def cell(label: str, column: str, effort: str) -> float:
        row = next(each for each in rows if each[0] == label and each[1] == effort)
        value = row[_COLUMNS.index(column)]
        assert isinstance(value, float)
        return value

    effort = next(
        (each for each in EFFORTS if cell("warm", "recall@10", each) >= RECALL_MIN), EFFORTS[-1]
    )
    lost = cell("warm", "recall@10", effort) - cell("30 % replaced", "recall@10", effort)
    first = cell("first after opening", "p99 ms", "standard")
    loaded_s = facts["loaded, s"] + facts["indexed after that, s"]
    return [
        report.at_most("load and index, s", loaded_s, 3_600),
        report.at_most("opening, s", facts["opened, s"], 3),
        report.at_least(
            f"recall@10, {effort} effort", cell("warm", "recall@10", effort), RECALL_MIN
        ),
        report.at_most(f"p50, {effort} effort, ms", cell("warm", "p50 ms", effort), 5),
        report.at_most(f"p99, {effort} effort, ms", cell("warm", "p99 ms", effort), 25),
        report.at_most("p99 of the first queries after opening, ms", first, 60),
        report.at_most("recall@10 lost as 30 % were replaced", lost, 0.005),
    ]
