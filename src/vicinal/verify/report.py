"""The report of a verification: the files that were read, and the damage in them.

A report is filled while files are read: one subject for each index, each SQL database and each
other file. Nothing here reads files but `verify_component`, whose messages name the bytes.
"""

from dataclasses import dataclass, field
from pathlib import Path

from vicinal.errors import Corruption
from vicinal.storage.files import ComponentFile, Seal

BLOCKS_NAMED_MAX = 20  # ours: of one file; more damaged blocks are counted


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage of one file: the account and index (or other subject) that it costs, and the bytes."""

    subject: str
    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.file}: {self.problem}"


@dataclass(slots=True)
class Subject:
    """One thing that was verified.

    Attributes:
        name: Kind and name, such as ``index acme/docs``.
        file_count, byte_count: Files and bytes that were read.
        damage_count: Damage that was met.
        note: A remark for a reader.
    """

    name: str
    file_count: int = 0
    byte_count: int = 0
    damage_count: int = 0
    note: str = ""


@dataclass(slots=True)
class Report:
    """All that was read and met, in order. Files are named relative to `root`."""

    root: Path
    subjects: list[Subject] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def begin(self, name: str) -> Subject:
        """Begin a subject."""
        subject = Subject(name)
        self.subjects.append(subject)
        return subject

    def note_damage(self, subject: Subject, path: Path, problem: str) -> None:
        """Note damage of a file; the problem may name its path in full."""
        subject.damage_count += 1
        problem = problem.removeprefix(f"{path} ")
        self.damages.append(Damage(subject.name, self._name(path), problem))

    def note_file(self, subject: Subject, path: Path) -> None:
        """Count a file that is read, with the bytes that it has now."""
        subject.file_count += 1
        if path.exists():
            subject.byte_count += path.stat().st_size

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def verify_component(report: Report, subject: Subject, path: Path, kind: str, seal: Seal) -> bool:
    """Read all of a component file; note each damaged block; tell whether there is none."""
    report.note_file(subject, path)
    before = subject.damage_count
    try:
        file = ComponentFile(path, kind, seal, verifies=False)
        for number, (start, end) in enumerate(file.damaged_blocks()):
            if number < BLOCKS_NAMED_MAX:
                report.note_damage(subject, path, f"is damaged between bytes {start} and {end}")
            else:
                subject.damage_count += 1
    except Corruption as error:
        report.note_damage(subject, path, str(error))
    else:
        more = subject.damage_count - before - BLOCKS_NAMED_MAX
        if more > 0:
            report.note_damage(subject, path, f"has {more} more damaged blocks")
    return subject.damage_count == before
