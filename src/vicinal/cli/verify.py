"""``vicinal verify``: is every byte of a folder as it was written?

A data folder may be at rest or served; nothing is changed. Damage is named by account, index, file
and bytes, and then the exit status is 1.
"""

from pathlib import Path

import click
import msgspec

from vicinal.cli import show
from vicinal.verify.folder import is_data_folder, verify_data_folder
from vicinal.verify.report import Report


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print what was read, as JSON.")
def command(path: Path, *, as_json: bool) -> None:
    """Read every checksum of PATH, a data folder, and name what is damaged.

    A server may have the folder open. The exit status is 1 if anything is damaged.
    """
    if not path.is_dir() or not is_data_folder(path):
        raise click.ClickException(f"{path} is no data folder")
    show_report(verify_data_folder(path), as_json=as_json)


def show_report(report: Report, *, as_json: bool) -> None:
    """Print a report; raise `click.ClickException` if it names damage."""
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
        raise click.ClickException(f"{report.root}: {count} blocks or rows are damaged")
