"""Verification of a data folder, at rest or while a server serves it.

    catalog.db       each row, and that the folder of each index is there
    indexes/         each index: its log, blob files and segments (`index`)
    copies/          those of a node of the shared engine, likewise; the catalog is the database's
    tokens.db        SQLite's integrity check, and each row
    d1/              SQLite's integrity check of each database

Nothing is changed and nothing is locked. Files that change are read as of one moment (`moments`).
"""

from contextlib import closing
from pathlib import Path

from vicinal.d1.files import database_files, problems
from vicinal.engine import catalog
from vicinal.engine.catalog import Catalog, CatalogEntry, Unreadable
from vicinal.engine.copying import FILLED
from vicinal.errors import Corruption, Error
from vicinal.settings import TOKENS_FILE
from vicinal.storage import folder_lock
from vicinal.storage.sqlite import integrity_problem
from vicinal.tokens import Tokens
from vicinal.verify.index import IndexVerification
from vicinal.verify.moments import at_one_moment
from vicinal.verify.report import Report

COPIES = "copies"  # as in `engine.shared.copies`, which needs a driver
_INDEXES = "indexes"
_D1 = "d1"


def is_data_folder(folder: Path) -> bool:
    """Tell whether a folder is one that a server has had for its data."""
    names = (catalog.FILE_NAME, TOKENS_FILE, _INDEXES, COPIES, _D1)
    return any((folder / name).exists() for name in names)


def verify_data_folder(folder: Path) -> Report:
    """Read every checksum of a data folder."""
    report = Report(folder)
    if folder_lock.is_held(folder):
        report.notes.append(
            f"a server has {folder} open: each database was read as of one moment, and segments "
            "that were merged meanwhile were skipped for those that they are in now"
        )
    _verify_indexes(report, folder)
    _verify_copies(report, folder)
    _verify_tokens(report, folder)
    _verify_databases(report, folder)
    return report


def _verify_indexes(report: Report, folder: Path) -> None:
    path = folder / catalog.FILE_NAME
    indexes = folder / _INDEXES
    has_indexes = indexes.is_dir() and any(path.is_dir() for path in indexes.iterdir())
    if not path.exists() and not has_indexes:
        return
    subject = report.begin("catalog")
    report.note_file(subject, path)
    try:
        entries, unreadable = at_one_moment(path, _catalog_rows)
    except Error as error:
        report.note_damage(subject, path, str(error))
        return
    for row in unreadable:
        report.note_damage(subject, path, row.damage)
    for entry in entries:
        index_subject = report.begin(f"index {entry.account}/{entry.index.name}")
        index_folder = indexes / entry.folder
        IndexVerification(report, index_subject, index_folder, entry.index.config).verify()
        if index_subject.damage_count and not index_folder.exists():
            _remove_if_deleted(report, path, entry)


def _remove_if_deleted(report: Report, path: Path, entry: CatalogEntry) -> None:
    """Take the damage of an index back that was deleted while it was read."""
    entries, _ = at_one_moment(path, _catalog_rows)
    if entry not in entries:
        subject = report.subjects[-1]
        report.damages = [damage for damage in report.damages if damage.subject != subject.name]
        subject.damage_count, subject.note = 0, "deleted meanwhile"


def _catalog_rows(copied: Path) -> tuple[list[CatalogEntry], list[Unreadable]]:
    with closing(Catalog(copied.parent)) as opened:
        return list(opened.all()), list(opened.unreadable())


def _verify_copies(report: Report, folder: Path) -> None:
    if not (folder / COPIES).is_dir():
        return
    for path in sorted((folder / COPIES).iterdir()):
        if path.is_dir() and (path / FILLED).exists():
            subject = report.begin(f"copy {path.name}")
            IndexVerification(report, subject, path, None).verify()
            if subject.damage_count:
                subject.note = "a node fills damaged copies again by itself"


def _verify_tokens(report: Report, folder: Path) -> None:
    path = folder / TOKENS_FILE
    if not path.exists():
        return
    subject = report.begin("tokens")
    report.note_file(subject, path)
    try:
        at_one_moment(path, _read_tokens)
    except Error as error:
        report.note_damage(subject, path, str(error))


def _read_tokens(copied: Path) -> None:
    problem = integrity_problem(copied)
    if problem:
        raise Corruption(problem)
    with closing(Tokens(copied)) as tokens:
        tokens.list()


def _verify_databases(report: Report, folder: Path) -> None:
    for database in database_files(folder / _D1):
        subject = report.begin(f"database {database.account}/{database.id}")
        report.note_file(subject, database.path)
        try:
            messages = problems(database.path)
            if messages:
                messages = problems(database.path)  # else it was written to for the first time
        except Error as error:
            messages = [str(error)]
        for problem in messages:
            report.note_damage(subject, database.path, problem)
