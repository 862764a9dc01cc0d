"""``vicinal verify``: is every byte of a folder as it was written?

A data folder may be at rest or served; nothing is changed. Damage is named by account, index, file
and bytes, and then the exit status is 1.
"""

import tempfile
from pathlib import Path
from typing import IO

import click
import msgspec

from vicinal.cli import show
from vicinal.errors import Corruption
from vicinal.snapshots.manifest import ID
from vicinal.snapshots.receiving import receive
from vicinal.snapshots.store import MARKER, Store
from vicinal.snapshots.verifying import verify_snapshots
from vicinal.verify.folder import is_data_folder, verify_data_folder
from vicinal.verify.report import Report


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print what was read, as JSON.")
def command(path: Path, *, as_json: bool) -> None:
    """Read every checksum of PATH, and name what is damaged.

    PATH is a data folder, which a server may have open, a folder of snapshots, or a .tar.zst file
    of one. The exit status is 1 if anything is damaged.
    """
    if path.is_dir() and is_data_folder(path):
        show_report(verify_data_folder(path), path, as_json=as_json)
    elif path.is_file() or (path / MARKER).exists() or _is_snapshot(path):
        show_report(verify_stored(path, None), path, as_json=as_json)
    else:
        raise click.ClickException(f"{path} is no data folder and no snapshot")


def verify_stored(source: Path, snapshot_id: str | None) -> Report:
    """Read every byte of a snapshot, of all snapshots of a store, or of a file with one."""
    if source.is_file():
        with (
            tempfile.TemporaryDirectory(prefix="vicinal-verify-") as name,
            source.open("rb") as file,
        ):
            return _verify_stream(source, file, Store.create(Path(name)), snapshot_id)
    if _is_snapshot(source):
        source, snapshot_id = source.absolute().parents[1], source.name
    store = Store(source)
    with store.locked():
        newest = store.resolve(snapshot_id)  # a folder without snapshots is no whole copy
        return verify_snapshots(store, store.ids() if snapshot_id is None else [newest])


def _verify_stream(path: Path, file: IO[bytes], store: Store, snapshot_id: str | None) -> Report:
    report = Report(path.absolute().parent)
    subject = report.begin(f"snapshot in {path.name}")
    report.note_file(subject, path)
    try:
        snapshot = receive(file, store)  # which verifies all of it
        if snapshot_id not in (None, snapshot.id):
            raise click.ClickException(f"{path} is snapshot {snapshot.id}")
    except Corruption as error:
        report.note_damage(subject, path.absolute(), str(error))
    return report


def _is_snapshot(path: Path) -> bool:
    return path.absolute().parent.name == "snapshots" and ID.fullmatch(path.name) is not None


def show_report(report: Report, source: Path, *, as_json: bool) -> None:
    """Print a report of `source`; raise `click.ClickException` if it names damage."""
    if as_json:
        document = {
            "subjects": report.subjects,
            "damages": report.damages,
            "notes": report.notes,
        }
        show.json(msgspec.json.encode(document))
    else:
        show.table(
            ("what", "files", "bytes", "verdict", "note"),
            [
                (
                    subject.name,
                    f"{subject.file_count:,}",
                    f"{subject.byte_count:,}",
                    f"{subject.damage_count} damaged" if subject.damage_count else "ok",
                    subject.note,
                )
                for subject in report.subjects
            ],
            right=("files", "bytes"),
        )
        for damage in report.damages:
            click.echo(str(damage))
    for note in report.notes:
        show.note(note)
    if report.damages:
        count = sum(subject.damage_count for subject in report.subjects)
        raise click.ClickException(f"{source}: {count} blocks or rows are damaged")
