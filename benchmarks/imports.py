"""How many vectors of a file does ``vicinal import`` bring in a second until they are acknowledged,
beside what Chroma, Qdrant's client and LanceDB need for the same file?

The same embeddings of 384 dimensions as ``.npy``, parquet, NDJSON and CSV. Each file is imported by
the command, whose own start is in its time, into a new index of a server; command and server share
two cores. A peer reads the file in its own process and stores it by its client; its start is not
in its time.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow
import pyarrow.parquet

from benchmarks import data, report, serving
from benchmarks.contender import Contender, Failed, python_of
from benchmarks.data import Vectors
from benchmarks.measure import Floats
from benchmarks.report import ROOT, Cell, Report, Table
from benchmarks.serving import INDEX, Client
from benchmarks.side import scratch
from benchmarks.texts import SEED

CORES = 2
RATE_MIN = 100_000.0  # vectors a second, of arrays
CLIENTS = Contender(
    "clients",
    "importing",
    ("chromadb==1.5.9", "qdrant-client==1.20.0", "lancedb==0.40.0", "pyarrow>=22,<27",
     "orjson>=3.10,<4", "numpy>=2,<3"),
)  # fmt: skip
PEERS = {
    "chromadb": "HNSW, as rows are added",
    "qdrant-client": "local mode: arrays and SQLite, no index",
    "lancedb": "a table without an index",
}
_ROUNDS = 3
_CHUNK = 10_000
_LAST_WORDS = 2_000
_COLUMNS = (
    "form", "vectors", "MB", "seconds", "vectors/s", "command CPU µs/vector",
    "server CPU µs/vector",
)  # fmt: skip
_PEER_COLUMNS = ("form", "product", "what it makes", "vectors", "seconds", "vectors/s", "times")


@dataclass(frozen=True, slots=True)
class Imported:
    """One import by the command: its seconds, and the CPU seconds of command and server."""

    seconds: float
    command_cpu: float
    server_cpu: float


def run(*, is_quick: bool) -> Report:
    """Write the files, import each, and have the peers read them."""
    _use_cores()
    counts = _counts(is_quick=is_quick)
    vectors = data.real(384, max(counts.values()), is_quick=is_quick)
    budget_s = 5.0 if is_quick else 60.0
    rates: dict[str, float] = {}
    ours: list[tuple[Cell, ...]] = []
    theirs: list[tuple[Cell, ...]] = []
    notes: list[str] = []
    for form, count in counts.items():
        with scratch() as folder:
            path = folder / f"vectors.{form}"
            FORMS[form](path, np.asarray(vectors.values[:count]))
            rounds = [
                _imported(folder / f"run-{number}", path, vectors, count)
                for number in range(1 if is_quick else _ROUNDS)
            ]
            ran = sorted(rounds, key=lambda each: each.seconds)[(len(rounds) - 1) // 2]
            rates[form] = count / ran.seconds
            ours.append(
                (
                    form, count, path.stat().st_size / 1e6, ran.seconds, rates[form],
                    ran.command_cpu / count * 1e6, ran.server_cpu / count * 1e6,
                )
            )  # fmt: skip
            for product, made in PEERS.items():
                try:
                    stored, seconds = _stored(product, form, path, folder / product, budget_s)
                except Failed as error:
                    notes.append(f"{product} failed with {form}: {error}")
                    continue
                rate = stored / seconds
                theirs.append((form, product, made, stored, seconds, rate, rates[form] / rate))
    size = f"{max(counts.values()):,} x 384"
    return Report(
        "imports", report.question(__doc__), is_quick,
        report.setup(
            data=vectors.description, seed=str(SEED), cores=str(len(os.sched_getaffinity(0))),
            method=f"the median of {_ROUNDS} imports, each into a new server; files are in the "
            f"page cache; of a peer that takes more than {budget_s:.0f} s the rate of what it had "
            "stored; `times` is our rate over a peer's",
        ),
        (
            Table(f"{size}: vicinal import", _COLUMNS, tuple(ours)),
            Table(f"{size}: by the products' own clients", _PEER_COLUMNS, tuple(theirs)),
        ),
        tuple(
            report.at_least(f"vectors/s of {form}, acknowledged", rates[form], RATE_MIN)
            for form in ("npy", "parquet")
        ),
        tuple(notes),
    )  # fmt: skip


def _counts(*, is_quick: bool) -> dict[str, int]:
    """Return the rows of each form: text takes ten times the room, and as long to write."""
    arrays, texts = (3_000, 1_000) if is_quick else (500_000, 100_000)
    return {"npy": arrays, "parquet": arrays, "ndjson": texts, "csv": texts}


def _use_cores() -> None:
    """Stay on two cores, and have all that is started from here stay there."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:CORES])


def write_npy(path: Path, values: Floats) -> None:
    """Write a matrix."""
    np.save(path, values)


def write_parquet(path: Path, values: Floats) -> None:
    """Write ids and vectors, as pyarrow does by itself but for what does not compress."""
    dimensions = values.shape[1]
    vector = pyarrow.list_(pyarrow.float32(), dimensions)
    schema = pyarrow.schema([("id", pyarrow.string()), ("values", vector)])
    with pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=["id"]) as writer:
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            flat = pyarrow.array(part.reshape(-1))
            column = pyarrow.FixedSizeListArray.from_arrays(flat, dimensions)
            ids = pyarrow.array(_ids(start, len(part)))
            writer.write_table(pyarrow.table([ids, column], schema=schema))


def write_ndjson(path: Path, values: Floats) -> None:
    """Write a record a line."""
    with path.open("wb") as file:
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            for id_, row in zip(_ids(start, len(part)), serving.numbers(part), strict=True):
                file.write(msgspec.json.encode({"id": id_, "values": row}) + b"\n")


def write_csv(path: Path, values: Floats) -> None:
    """Write a line of two cells for each row: id, and the vector as JSON."""
    with path.open("wb") as file:
        file.write(b"id,values\n")
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            for id_, row in zip(_ids(start, len(part)), serving.numbers(part), strict=True):
                file.write(b'%b,"%b"\n' % (id_.encode(), msgspec.json.encode(row)))


FORMS: dict[str, Callable[[Path, Floats], None]] = {
    "npy": write_npy, "parquet": write_parquet, "ndjson": write_ndjson, "csv": write_csv,
}  # fmt: skip


def _ids(start: int, count: int) -> Sequence[str]:
    return [str(row) for row in range(start, start + count)]


def _imported(folder: Path, path: Path, vectors: Vectors, count: int) -> Imported:
    """Import a file into a new server.

    Raises:
        Failed: the command failed, or not all vectors are there.
    """
    folder.mkdir()
    with serving.vicinal(folder / "data") as server, Client(server.port) as client:
        serving.create_index(client, vectors.values.shape[1], vectors.metric)
        _warm_command()
        server_cpu, command_cpu = server.cpu_seconds(), _children_cpu()
        start = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-m", "vicinal", "import", str(path), INDEX.rpartition("/")[2],
             "--url", server.origin, "--account", "local"],
            env=serving.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        server_cpu, command_cpu = (
            server.cpu_seconds() - server_cpu,
            _children_cpu() - command_cpu,
        )
        if ran.returncode:
            raise Failed(f"vicinal import: {ran.stderr[-_LAST_WORDS:]}")
        _wait_for(client, count)
    return Imported(seconds, command_cpu, server_cpu)


def _warm_command() -> None:
    """Have the command's modules compiled and in memory, as they are on its second use."""
    subprocess.run(
        [sys.executable, "-m", "vicinal", "import", "--help"], env=serving.environment(),
        stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def _wait_for(client: Client, count: int) -> None:
    end = time.monotonic() + 600
    while client.result("GET", f"{INDEX}/info")["vectorCount"] != count:
        if time.monotonic() > end:
            raise Failed(f"not all of {count:,} vectors that were imported can be seen")
        time.sleep(0.05)


def _children_cpu() -> float:
    """Return the CPU seconds of child processes that have ended: not of the server."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _stored(
    product: str, form: str, path: Path, folder: Path, budget_s: float
) -> tuple[int, float]:
    """Have a product's client store a file; return vectors and seconds.

    Raises:
        Failed: it did not; says its last words.
    """
    folder.mkdir()
    ran = subprocess.run(
        [python_of(CLIENTS), "-P", "-m", "benchmarks.peers.importing", product, form, str(path),
         str(folder), str(budget_s)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise Failed((ran.stderr.strip().splitlines() or ["without a word"])[-1])
    answer = json.loads(ran.stdout.splitlines()[-1])
    return answer["count"], answer["seconds"]
