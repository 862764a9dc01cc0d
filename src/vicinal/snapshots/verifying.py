"""Verification of snapshots: every byte of every file that a manifest names.

Files that snapshots share are read once; damage is named for every snapshot that has them.
"""

from collections.abc import Sequence
from pathlib import Path

from vicinal.errors import Corruption
from vicinal.snapshots.files import described
from vicinal.snapshots.manifest import OwnFile, ServerSnapshot, index_label
from vicinal.snapshots.store import D1, Store
from vicinal.storage.files import Seal
from vicinal.verify.report import Report, Subject, verify_component


def verify_snapshots(store: Store, ids: Sequence[str]) -> Report:
    """Read all of some snapshots of a store, which the caller has locked."""
    report = Report(store.folder)
    verification = _Verification(store, report)
    for snapshot_id in ids:
        verification.verify(snapshot_id)
    return report


class _Verification:
    def __init__(self, store: Store, report: Report) -> None:
        self._store = store
        self._report = report
        self._problems: dict[Path, list[str]] = {}
        """The damage of each shared file that has been read."""

    def verify(self, snapshot_id: str) -> None:
        report, store = self._report, self._store
        subject = report.begin(f"snapshot {snapshot_id}")
        path = store.own(snapshot_id) / "manifest"
        report.note_file(subject, path)
        try:
            snapshot = store.manifest(snapshot_id)
        except Corruption as error:
            report.note_damage(subject, path, str(error))
            return
        for part in snapshot.missing:
            report.notes.append(f"snapshot {snapshot_id} is without {part.name}: {part.reason}")
        self._verify_parts(snapshot)

    def _verify_parts(self, snapshot: ServerSnapshot) -> None:
        report, store = self._report, self._store
        label, own = f"snapshot {snapshot.id}", store.own(snapshot.id)
        for index in snapshot.indexes:
            subject = report.begin(f"{label} index {index_label(index)}")
            self._verify_content(subject, own / index.log.name, index.log)
            for file in index.files:
                path = store.shared / index.id / file.name
                self._verify_shared(subject, path, file.kind, file.seal)
        for database in snapshot.databases:
            subject = report.begin(f"{label} database {database.account}/{database.id}")
            self._verify_content(subject, store.shared / D1 / database.file.name, database.file)
        if snapshot.tokens is not None:
            subject = report.begin(f"{label} tokens")
            self._verify_content(subject, own / snapshot.tokens.name, snapshot.tokens)

    def _verify_shared(self, subject: Subject, path: Path, kind: str, seal: Seal) -> None:
        if path in self._problems:
            self._report.note_file(subject, path)
            for problem in self._problems[path]:
                self._report.note_damage(subject, path, problem)
            return
        before = len(self._report.damages)
        verify_component(self._report, subject, path, kind, seal)
        self._problems[path] = [damage.problem for damage in self._report.damages[before:]]

    def _verify_content(self, subject: Subject, path: Path, file: OwnFile) -> None:
        self._report.note_file(subject, path)
        if not path.exists():
            self._report.note_damage(subject, path, "is missing")
            return
        seen = described(path, file.name)
        if seen.size != file.size:
            problem = f"has {seen.size} bytes, but {file.size} were written"
            self._report.note_damage(subject, path, problem)
        elif seen != file:
            self._report.note_damage(
                subject, path, f"is damaged between bytes 0 and {file.size}: its digest differs"
            )
