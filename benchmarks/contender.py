"""Engines side by side: each in a process and an environment of its own.

A contender is a module of `benchmarks.peers`, what pip installs for it, how it is built,
and settings of its search from cheap to dear. `Process` runs one and speaks to it
(`peers.worker` has the protocol); `side` puts them side by side.

Environments are in ``.make/peers`` and made on first use, versions pinned. One that
cannot be made, or a contender that fails, raises `Failed`: benchmarks report it as such.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.data import Vectors, Where
from benchmarks.measure import Memory, Timing, Wide, memory, recall
from benchmarks.report import ROOT

ENVIRONMENTS = ROOT / ".make" / "peers"

Setting = Mapping[str, Any]

_NUMPY = "numpy>=2,<3"
_EF = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_GRAPH = {"m": 16, "ef_construction": 100}
_LAST_WORDS = 2_000
_SAMPLED_S = 0.25  # between two looks at a process's memory


class Failed(Exception):
    """A contender could not be installed, or did not do what it was told."""


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine to measure.

    Attributes:
        name: As it is printed.
        module: In `benchmarks.peers`.
        requirements: Packages that pip installs; none for what runs in this environment.
        options: How it is built.
        settings: How it searches, cheapest first.
        is_database: Whether it keeps ids and metadata, and filters by them.
        rows_max: Largest number of rows; the contender is too slow to load more.
        checkout: Of the project: its code and its environment, where not this one's.
    """

    name: str
    module: str
    requirements: tuple[str, ...] = ()
    options: Setting = field(default_factory=dict)
    settings: tuple[Setting, ...] = ({},)
    is_database: bool = True
    rows_max: int | None = None
    checkout: Path = ROOT


VICINAL = Contender(
    "vicinal",
    "vicinal",
    settings=tuple({"effort": effort} for effort in ("low", "standard", "high")),
)

PEERS = (
    Contender(
        "qdrant-edge", "qdrant_edge", ("qdrant-edge-py==0.9.0", _NUMPY),
        {**_GRAPH, "quantization": "int8"},
        tuple({"ef": ef, "oversampling": 2} for ef in _EF),
    ),
    Contender(
        "zvec", "zvec", ("zvec==0.8.0", _NUMPY),
        {**_GRAPH, "index": "hnsw"}, tuple({"ef": ef} for ef in _EF),
    ),
    Contender(
        "zvec rabitq", "zvec", ("zvec==0.8.0", _NUMPY),
        {**_GRAPH, "index": "hnsw_rabitq"}, tuple({"ef": ef} for ef in _EF),
    ),
    Contender(
        "chromadb", "chroma", ("chromadb==1.5.9", _NUMPY),
        _GRAPH, tuple({"ef": ef} for ef in _EF),
    ),
    Contender(
        "lancedb", "lancedb", ("lancedb==0.40.0", _NUMPY),
        _GRAPH, tuple({"ef": ef, "refine_factor": 5} for ef in _EF[3:]),
    ),
    Contender(
        "sqlite-vec", "sqlite_vec", ("sqlite-vec==0.1.9", "apsw==3.54.1.0", _NUMPY),
        rows_max=200_000,
    ),
    Contender(
        "hnswlib", "hnswlib", ("hnswlib==0.8.0", _NUMPY),
        _GRAPH, tuple({"ef": ef} for ef in _EF), is_database=False,
    ),
    Contender(
        "faiss hnsw", "faiss", ("faiss-cpu==1.15.1", _NUMPY),
        {**_GRAPH, "index": "hnsw"}, tuple({"ef": ef} for ef in _EF), is_database=False,
    ),
    Contender(
        "faiss ivf", "faiss", ("faiss-cpu==1.15.1", _NUMPY),
        {"index": "ivf"},
        tuple({"nprobe": lists, "k_factor": 40} for lists in (4, 8, 16, 32, 64, 128, 256, 512)),
        is_database=False,
    ),
)  # fmt: skip
"""Products that a user would pick instead, and hnswlib and faiss as the bare indexes beneath many.

qdrant-edge has int8 vectors and rescoring, without which it is slower at every recall."""


@dataclass(frozen=True, slots=True)
class Task:
    """Queries and their true answers.

    Attributes:
        vectors: Vectors that are searched, with the queries.
        nearest: ``(q, m)``: true distances, ascending (`data.nearest`).
        k: How many are asked for.
        where: A condition, or None.
        fetch: Whether all metadata is returned, too.
    """

    vectors: Vectors
    nearest: Wide
    k: int = 10
    where: Where | None = None
    fetch: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: under which setting, how near the truth, how fast."""

    setting: Setting
    recall: float
    timing: Timing


@dataclass(frozen=True, slots=True)
class Work:
    """Time that something took, and the CPU time of the process meanwhile."""

    seconds: float
    cpu_seconds: float


def python_of(contender: Contender) -> Path:
    """Return the interpreter of a contender's environment, making it when it is not there.

    Raises:
        Failed: pip could not install what it needs; says what pip said last.
    """
    if contender.checkout != ROOT:
        return contender.checkout / ".venv" / "bin" / "python"
    if not contender.requirements:
        return Path(sys.executable)
    folder = ENVIRONMENTS / contender.module
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(contender.requirements)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"installing {', '.join(contender.requirements)} into {folder}", file=sys.stderr)
    try:
        venv.create(folder)
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", python, "install", "--quiet",
             "--disable-pip-version-check", *contender.requirements],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        output = (error.stderr or "").strip()[-_LAST_WORDS:]
        raise Failed(f"{contender.name} cannot be installed: {output}") from error
    stamp.write_text(wanted, encoding="utf-8")
    return python


@dataclass(slots=True)
class Peak:
    """The most private memory that a process was seen to hold, in bytes."""

    private: int = 0


class Process:
    """A contender that runs. Use it in a ``with`` block: leaving it ends the process.

    Raises:
        Failed: from any method: the process ended, or could not be started.
    """

    def __init__(self, contender: Contender, log: Path) -> None:
        self.contender = contender
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python_of(contender), "-P", "-m", f"benchmarks.peers.{contender.module}"],
                cwd=log.parent,
                env={**os.environ, "PYTHONPATH": str(contender.checkout)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_until_ready(self) -> None:
        """Wait until the process has imported what it needs."""
        self._call("ready")

    def open(self, folder: Path, vectors: Vectors, fields: Sequence[str] = ()) -> None:
        """Open a database in a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._call(
            "open", folder=str(folder), dimensions=int(vectors.values.shape[1]),
            metric=vectors.metric, options=dict(self.contender.options), fields=list(fields),
        )  # fmt: skip

    def insert(
        self, vectors: Vectors, first: int, count: int, metadata: Path | None = None
    ) -> Work:
        """Insert `count` rows from `first` on, with their metadata if there is a file of it."""
        return Work(
            **self._call(
                "insert", values=str(vectors.path), first=first, count=count,
                metadata=None if metadata is None else str(metadata),
            )
        )  # fmt: skip

    def build(self) -> Work:
        """Make searching fast."""
        return Work(**self._call("build"))

    def query(
        self,
        task: Task,
        setting: Setting,
        *,
        count: int,
        threads: int = 1,
        budget_s: float = 60.0,
        during_build: bool = False,
    ) -> Measured:
        """Run the first `count` queries of a task, or as many as the seconds allow.

        Args:
            task: Queries and their true answers.
            setting: How.
            count: How many queries.
            threads: How many ask at once.
            budget_s: No query begins after this.
            during_build: Build meanwhile, and go on for as long as that takes.
        """
        with tempfile.TemporaryDirectory() as scratch:
            answers, wanted = Path(scratch) / "found.npy", Path(scratch) / "wanted.npy"
            where = None
            if task.where is not None:
                np.save(wanted, task.where.wanted)
                where = {"name": task.where.name, "wanted": str(wanted)}
            numbers = self._call(
                "query", queries=str(task.vectors.queries_path), k=task.k,
                setting=dict(setting), where=where, fetch=task.fetch, threads=threads,
                budget_s=budget_s, count=count, during_build=during_build, answers=str(answers),
            )  # fmt: skip
            rows = np.load(answers)
        return Measured(setting, recall_of(rows, task), Timing(**numbers))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold the process up, its threads in the background included."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def memory(self) -> Memory:
        """Return the memory the process holds now."""
        return memory(self.pid)

    @contextmanager
    def watched(self) -> Iterator["Peak"]:
        """Watch the memory of the process until the end of the block."""
        peak, is_over = Peak(), threading.Event()

        def watch() -> None:
            while True:
                try:
                    peak.private = max(peak.private, self.memory().private)
                except OSError:  # ended, as its next answer will tell
                    return
                if is_over.wait(_SAMPLED_S):
                    return

        watcher = threading.Thread(target=watch, name="memory")
        watcher.start()
        try:
            yield peak
        finally:
            is_over.set()
            watcher.join()

    def close(self) -> None:
        """Close the database and end the process in peace."""
        self._call("close")
        self._process.communicate()

    def _call(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            output = self._log.read_text(encoding="utf-8", errors="replace").strip()
            raise Failed(f"{self.contender.name} ended during {do}: {output[-_LAST_WORDS:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def recall_of(rows: np.ndarray[Any, Any], task: Task) -> float:
    """Return the recall of found rows, ``(q, k)``, -1 for none; forbidden rows do not count."""
    kept_rows = []
    for number, row in enumerate(rows):
        kept = row[row >= 0]
        if task.where is not None:
            kept = kept[task.where.labels[kept] == task.where.wanted[number]]
        kept_rows.append(kept)
    return recall(
        kept_rows, task.vectors.values, task.vectors.queries, task.nearest[:, : task.k],
        task.vectors.metric,
    )  # fmt: skip
