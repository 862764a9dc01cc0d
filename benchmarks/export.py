"""How long does an export of a whole index take, and does an import of it give the same?

300,000 random vectors of 50 dimensions, with metadata, behind a server. `vicinal export` writes
them to a file, three times; the last file is imported into an index that the import makes, and that
is exported again. The lines of both files are compared, and the definitions beside them.
"""

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import report, serving
from benchmarks.contender import Failed
from benchmarks.measure import Floats
from benchmarks.report import Cell, Report, Table
from benchmarks.serving import INDEX, Client, Server
from benchmarks.side import scratch
from benchmarks.texts import SEED
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import (
    CreateMetadataIndex,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Upsert,
    VectorBatch,
)

ADDRESS = IndexAddress("local", "benchmark")
DIMENSIONS = 50
ROWS = 300_000
ROWS_QUICK = 20_000
RUNS = 3
SECONDS_MAX = 10.0
_BATCH = 5_000
_COLUMNS = ("what", "seconds", "vectors/s", "MB", "MB/s", "server CPU s")


def run(*, is_quick: bool) -> Report:
    """Measure exports, an import and the export of that."""
    return measure(ROWS_QUICK if is_quick else ROWS, is_quick=is_quick)


def measure(rows: int, *, is_quick: bool) -> Report:
    """Measure with a number of vectors."""
    lines: list[tuple[Cell, ...]] = []
    with scratch() as folder:
        _fill(folder / "data", rows)
        first, second = folder / "first.ndjson", folder / "second.ndjson"
        with serving.vicinal(folder / "data") as server, Client(server.port) as client:
            client.result("GET", f"{INDEX}/info")  # opens it
            exports = []
            for number in range(RUNS):
                exports.append(_timed(server, "export", "benchmark", str(first)))
                lines.append(_row(f"export {number + 1}", rows, first, exports[-1]))
            imported = _timed(server, "import", str(first), "again", "--wait")
            lines.append(_row("import", rows, first, imported))
            again = _timed(server, "export", "again", str(second))
            lines.append(_row("export of the import", rows, second, again))
        differing = _differing(first, second)
        definitions = [
            path.with_name(f"{path.name}.index.json").read_bytes() for path in (first, second)
        ]
    seconds = sorted(seconds for seconds, _ in exports)[RUNS // 2]
    return Report(
        "export",
        report.question(__doc__),
        is_quick,
        report.setup(
            data="random float32 values, metadata of a string and a number",
            seed=str(SEED),
            method="the command line as a process of its own beside the server, with its start; "
            f"the median of {RUNS} exports counts",
        ),
        (Table(f"{rows:,} x {DIMENSIONS}", _COLUMNS, tuple(lines)),),
        (
            report.at_most(f"seconds of an export of {rows:,}", seconds, SECONDS_MAX),
            report.at_most("lines that differ after a round trip", float(differing), 0),
            report.at_most("definitions that differ", float(len(set(definitions)) - 1), 0),
        ),
    )


def _timed(server: Server, *words: str) -> tuple[float, float]:
    """Run a command; return its seconds, and those of the server's CPU."""
    cpu, start = server.cpu_seconds(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "vicinal", *words, "--url", server.origin],
        capture_output=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise Failed(f"vicinal {' '.join(words)}: {done.stderr.decode(errors='replace')[-500:]}")
    return seconds, server.cpu_seconds() - cpu


def _row(name: str, rows: int, file: Path, took: tuple[float, float]) -> tuple[Cell, ...]:
    seconds, cpu = took
    size = file.stat().st_size / 1e6
    return name, seconds, rows / seconds, size, size / seconds, cpu


def _fill(data: Path, rows: int) -> None:
    engine = EmbeddedEngine.open(data)
    engine.create_index(ADDRESS, IndexConfig(DIMENSIONS, Metric.COSINE), "for an export")
    for name, index_type in (("group", IndexType.STRING), ("number", IndexType.NUMBER)):
        engine.append(ADDRESS, CreateMetadataIndex(MetadataIndex(name, index_type))).result()
    random = np.random.default_rng(SEED)
    for first in range(0, rows, _BATCH):
        numbers = range(first, min(first + _BATCH, rows))
        values: Floats = random.standard_normal((len(numbers), DIMENSIONS), np.float32)
        metadata = [
            msgspec.json.encode({"group": f"g{number % 100}", "number": number})
            for number in numbers
        ]
        names = [f"v{number}" for number in numbers]
        batch = VectorBatch(names, values, ["n"] * len(numbers), metadata)
        engine.append(ADDRESS, Upsert(batch), wait_s=600).result()
    engine.compact(ADDRESS)
    engine.close()


def _differing(first: Path, second: Path) -> int:
    """Return how many lines are in one file alone; their order is the engine's."""
    return len(set(_lines(first)) ^ set(_lines(second)))


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")
