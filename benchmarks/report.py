"""Results: what a benchmark hands back, as JSON and as text to read.

A `Report` is data only. It carries what is needed to judge it: the question, the machine
and versions, the data and seed, and each mark that was set beside what was measured.
"""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

Cell = str | int | float | None


class Table(msgspec.Struct, frozen=True):
    """Rows under columns; None is "does not apply"."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Mark(msgspec.Struct, frozen=True):
    """Something to reach.

    Attributes:
        claim: Name of the measure, with its unit.
        measured: None when it could not be.
        bound: Bound of the value.
        is_most: Whether the bound is the most it may be, rather than the least.
    """

    claim: str
    measured: float | None
    bound: float
    is_most: bool

    @property
    def is_met(self) -> bool:
        """Whether it was measured and holds."""
        if self.measured is None:
            return False
        return self.measured <= self.bound if self.is_most else self.measured >= self.bound


class Report(msgspec.Struct, frozen=True):
    """Results of one benchmark.

    Attributes:
        name: Of the benchmark.
        question: Question of the benchmark, in a sentence.
        is_quick: Run at small sizes: shows that it works, proves no speed.
        setup: Under which circumstances, by name.
        tables: The numbers.
        marks: Bounds that were to be reached.
        notes: Facts that a reader of the numbers must know.
    """

    name: str
    question: str
    is_quick: bool
    setup: dict[str, str]
    tables: tuple[Table, ...]
    marks: tuple[Mark, ...] = ()
    notes: tuple[str, ...] = ()


class Row(msgspec.Struct, frozen=True):
    """A row of a table, whose cells are found by column."""

    columns: tuple[str, ...]
    cells: tuple[Cell, ...]

    def __getitem__(self, column: str) -> Cell:
        """Return a cell.

        Raises:
            KeyError: there is no such column.
        """
        if column not in self.columns:
            raise KeyError(f"{column!r} is not among the columns {', '.join(self.columns)}")
        return self.cells[self.columns.index(column)]

    def number(self, column: str) -> float:
        """Return a cell that holds a number.

        Raises:
            TypeError: it does not.
        """
        cell = self[column]
        if not isinstance(cell, int | float):
            raise TypeError(f"{column!r} of {self.cells[0]!r} is {cell!r}, not a number")
        return float(cell)

    def text(self, column: str) -> str:
        """Return a cell as a reader wants it (`shown`)."""
        return shown(self[column])


def rows_of(report: Report, title: str) -> tuple[Row, ...]:
    """Return the rows of one of a report's tables.

    Raises:
        KeyError: it has no table of that title.
    """
    for table in report.tables:
        if table.title == title:
            return tuple(Row(table.columns, cells) for cells in table.rows)
    raise KeyError(f"{report.name} has no table {title!r}")


def at_most(claim: str, measured: float | None, bound: float) -> Mark:
    """Return a mark that may not be exceeded."""
    return Mark(claim, measured, bound, is_most=True)


def at_least(claim: str, measured: float | None, bound: float) -> Mark:
    """Return a mark that must be reached."""
    return Mark(claim, measured, bound, is_most=False)


def question(docstring: str | None) -> str:
    """Return the question of a benchmark: the first paragraph of its module's docstring."""
    assert docstring is not None
    return " ".join(docstring.split("\n\n")[0].split())


def setup(**more: str) -> dict[str, str]:
    """Return the circumstances that every report states, and `more`."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cpu_model()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}"]
            + [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
        ),
        "commit": _commit(),
        **more,
    }


_PACKAGES = ("vicinal", "numpy", "faiss-cpu", "uvicorn")


@dataclass(frozen=True, slots=True)
class Start:
    """What is known before a benchmark runs.

    Attributes:
        load: Mean number of processes that ran or waited to, in the minute before.
        adding_ms: See `adding_ms`.
    """

    load: float
    adding_ms: float

    @staticmethod
    def now() -> "Start":
        """Return what holds now."""
        return Start(os.getloadavg()[0], adding_ms())


def started(ran: Report, start: Start) -> Report:
    """Return a report that has just been made with what was known when its benchmark began."""
    speed = f"{start.adding_ms:.1f} ms at the start, {adding_ms():.1f} at the end"
    setup = {**ran.setup, "load at start": f"{start.load:.2f}", "300,000 additions": speed}
    return msgspec.structs.replace(ran, setup=setup)


def adding_ms() -> float:
    """Return the ms that 300,000 additions in Python take, the least of 5: on a shared machine as
    much as 1.7 times what it was a few seconds before, like sorting and counting bits. (SHA-256,
    which waits for itself, takes as long in either moment.)"""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        total = 0
        for number in range(300_000):
            total += number
        times.append(time.perf_counter() - begun)
    return 1_000 * min(times)


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, with its family and model where these are told: a virtual
    machine's name may be that of processors of which one takes half the time of another."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {
        key.strip(): value.strip() for key, _, value in (each.partition(":") for each in lines)
    }
    name = facts.get("model name") or platform.machine()
    if "cpu family" in facts and "model" in facts:
        name += f" (family {facts['cpu family']}, model {facts['model']})"
    return name


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _commit() -> str:
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return run.stdout.strip() or "unknown"


def save(report: Report, folder: Path = RESULTS) -> Path:
    """Write a report as JSON; a later run of the same benchmark replaces it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name}{'.quick' if report.is_quick else ''}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return path


def load(path: Path) -> Report:
    """Read a report back."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def text(report: Report) -> str:
    """Return a report as it is printed."""
    lines = [f"{report.name}: {report.question}", ""]
    for name, value in report.setup.items():
        lines.append(f"  {name}: {value}")
    for table in report.tables:
        lines += ["", f"  {table.title}", *_aligned(table.columns, table.rows)]
    if report.notes:
        lines += ["", *(f"  {note}" for note in report.notes)]
    if report.marks:
        lines += ["", *marks_text([report])]
    return "\n".join(lines) + "\n"


def marks_text(reports: Sequence[Report]) -> list[str]:
    """Return one table of everything that was to be reached."""
    return _aligned(_MARK_COLUMNS, _mark_rows(reports))


def shown(cell: Cell) -> str:
    """Return a cell as a reader wants it: four digits are enough."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        if cell == 0 or not -1e15 < cell < 1e15:
            return f"{cell:g}"
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


_MARK_COLUMNS = ("benchmark", "what", "measured", "must be", "met")


def _mark_rows(reports: Sequence[Report]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            report.name,
            mark.claim,
            mark.measured,
            f"{'≤' if mark.is_most else '≥'} {shown(mark.bound)}",
            "yes" if mark.is_met else "NO",
        )
        for report in reports
        for mark in report.marks
    )


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    texts = [list(columns), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(columns))]
    is_number = [
        all(isinstance(row[column], int | float | None) for row in rows)
        for column in range(len(columns))
    ]
    return [
        "  "
        + "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in texts
    ]


def options_text(options: Mapping[str, object]) -> str:
    """Return settings as they are printed in a cell."""
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "as it comes"
