"""Contenders side by side over the same rows, loaded, tuned and measured in turn.

Some peers take most of an hour to index 100,000 rows, so what a peer has built is kept in
``benchmarks/data/built`` and opened again by the next run that wants the same; queries are
always timed anew.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.contender import PEERS, Contender, Failed, Measured, Process, Setting, Task, Work
from benchmarks.data import Vectors
from benchmarks.measure import warm_memory
from benchmarks.texts import DATA

BUILT = DATA / "built"
_TUNING_QUERIES = 1_000  # a fifth of them found settings enough that the others showed were not
_TUNING_BUDGET_S = 8.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A contender that holds all rows and is ready to search, and what it took.

    `private_bytes` is the memory it took for the rows: what it holds now and belongs to no
    file, less what it held when it was empty. `database` is its folder.
    """

    process: Process
    database: Path
    insert: Work
    build: Work
    private_bytes: int

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.process.contender.name


class Side:
    """Contenders side by side over the same rows. Those that fail are left out and noted.

    Attributes:
        loaded: Contenders that have not failed.
        notes: Why the others are not, a sentence each.
    """

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.loaded: list[Loaded] = []
        self.notes: list[str] = []
        self._folder = folder
        self._running = running

    def load(
        self,
        contender: Contender,
        vectors: Vectors,
        fields: Sequence[str] = (),
        metadata: Path | None = None,
        *,
        kept: bool = False,
    ) -> None:
        """Start a contender and give it all rows.

        Args:
            contender: Contenders to start.
            vectors: The rows.
            fields: Metadata that filters will name.
            metadata: The file of the rows' metadata, if they have any.
            kept: Open what an earlier run has built, or keep what this one builds: for
                what does not change with this checkout. What building took is that of the
                run that built.
        """
        count = len(vectors.values)
        if contender.rows_max is not None and count > contender.rows_max:
            self.notes.append(f"{contender.name} was left out: too slow for {count:,} rows.")
            return
        try:
            if kept:
                self._open_kept(contender, vectors, fields, metadata)
            else:
                folder = self._folder / contender.name.replace(" ", "-")
                self.loaded.append(self._filled(contender, folder, vectors, fields, metadata))
        except Failed as error:
            self._failed(contender, error)

    def _filled(
        self,
        contender: Contender,
        folder: Path,
        vectors: Vectors,
        fields: Sequence[str],
        metadata: Path | None,
    ) -> Loaded:
        count = len(vectors.values)
        print(f"loading {count:,} rows into {contender.name}", file=sys.stderr)
        folder.mkdir(parents=True)
        process = self._running.enter_context(Process(contender, folder / "log.txt"))
        process.open(folder / "database", vectors, fields)
        empty = process.memory().private
        warm_memory()
        insert = process.insert(vectors, 0, count, metadata)
        build = process.build()
        private = process.memory().private - empty
        return Loaded(process, folder / "database", insert, build, private)

    def _open_kept(
        self,
        contender: Contender,
        vectors: Vectors,
        fields: Sequence[str],
        metadata: Path | None,
    ) -> None:
        folder = BUILT / _kept_name(contender, vectors, fields)
        record = folder / "built.json"
        if not record.exists():
            shutil.rmtree(folder, ignore_errors=True)
            loaded = self._filled(contender, folder, vectors, fields, metadata)
            loaded.process.close()
            numbers = {
                "insert": asdict(loaded.insert),
                "build": asdict(loaded.build),
                "private_bytes": loaded.private_bytes,
            }
            record.write_text(json.dumps(numbers), encoding="utf-8")
        stored = json.loads(record.read_text(encoding="utf-8"))
        process = self._running.enter_context(Process(contender, folder / "log.txt"))
        database = folder / "database"
        process.open(database, vectors, fields)
        insert, build = Work(**stored["insert"]), Work(**stored["build"])
        self.loaded.append(Loaded(process, database, insert, build, stored["private_bytes"]))

    def tune(self, task: Task, target: float) -> dict[str, Setting]:
        """Return by name the cheapest setting that reaches a recall.

        A contender that never reaches it gets its dearest setting, and a note.
        """
        settings = {}
        for loaded in list(self.loaded):
            try:
                with self.alone(loaded):
                    setting = tuned(loaded.process, task, target)
            except Failed as error:
                self._drop(loaded, error)
                continue
            if setting is None:
                setting = loaded.process.contender.settings[-1]
                condition = f" under {task.where.name}" if task.where else ""
                self.notes.append(f"{loaded.name} does not reach recall {target}{condition}.")
            settings[loaded.name] = setting
        return settings

    def measure(
        self,
        task: Task,
        settings: Mapping[str, Setting],
        *,
        rounds: int,
        count: int,
        budget_s: float,
        threads: int = 1,
    ) -> dict[str, Measured]:
        """Measure all in turn, several times over; return the median run of each by name.

        What slows the machine down for a while then slows all of them down. The median is
        by CPU time. All but the one whose turn it is are held up: some have threads that
        are busy even when nobody asks.
        """
        runs: dict[str, list[Measured]] = {}
        for _ in range(rounds):
            for loaded in list(self.loaded):
                try:
                    with self.alone(loaded):
                        run = loaded.process.query(
                            task,
                            settings[loaded.name],
                            count=count,
                            budget_s=budget_s,
                            threads=threads,
                        )
                except Failed as error:
                    self._drop(loaded, error)
                    continue
                runs.setdefault(loaded.name, []).append(run)
        names = [loaded.name for loaded in self.loaded]
        return {name: median(runs[name]) for name in names}

    @contextmanager
    def alone(self, loaded: Loaded) -> Iterator[None]:
        with ExitStack() as held_up:
            for other in self.loaded:
                if other is not loaded:
                    held_up.enter_context(other.process.paused())
            yield

    def _drop(self, loaded: Loaded, error: Failed) -> None:
        self.loaded.remove(loaded)
        self._failed(loaded.process.contender, error)

    def _failed(self, contender: Contender, error: Failed) -> None:
        print(f"{contender.name} failed: {error}", file=sys.stderr)
        last = str(error).strip().splitlines()[-1]
        self.notes.append(f"{contender.name} failed and is missing: {last}")


def _kept_name(contender: Contender, vectors: Vectors, fields: Sequence[str]) -> str:
    """Name what a contender builds: another version, option or row, another name."""
    wanted = [contender.requirements, dict(contender.options), vectors.name, list(fields)]
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    return f"{contender.name.replace(' ', '-')}-{len(vectors.values)}-{digest[:12]}"


def nearly(target: float) -> float:
    """Return the recall over all queries that passes for a target.

    A setting is chosen by 200 queries; over all of them its recall may be a little less.
    """
    return target - 0.3 * (1 - target)


def tuned(process: Process, task: Task, target: float) -> Setting | None:
    """Return the cheapest setting that reaches the recall, or None when none does.

    Settings are in ascending order, and so is their recall.
    """

    def recall(setting: Setting) -> float:
        return process.query(task, setting, count=_TUNING_QUERIES, budget_s=_TUNING_BUDGET_S).recall

    settings = process.contender.settings
    number = bisect_left(settings, target, key=recall)
    return settings[number] if number < len(settings) else None


def median(runs: Sequence[Measured]) -> Measured:
    """Return the run in the middle by CPU time; of two, the cheaper."""
    return sorted(runs, key=lambda run: run.timing.cpu_ms)[(len(runs) - 1) // 2]


def best_peer(measured: Mapping[str, Measured], target: float) -> tuple[str, Measured] | None:
    """Return the cheapest other database that reaches the recall, by CPU time."""
    databases = {peer.name for peer in PEERS if peer.is_database}
    able = [
        (name, run)
        for name, run in measured.items()
        if name in databases and run.recall >= nearly(target)
    ]
    return min(able, key=lambda row: row[1].timing.cpu_ms, default=None)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for databases, on the disk of this checkout, and remove it afterwards."""
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DATA, prefix="run-") as folder:
        yield Path(folder)
