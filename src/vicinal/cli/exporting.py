"""``vicinal export``: every vector of an index to a file of NDJSON, resumable.

All vectors are of one moment of the index (`export_stream`); a server that is not ours is read
page by page (`export_pages`). Lines go to ``FILE.part``; from time to time, and when the export is
interrupted, a resume point holds the length of the good part and the position in the listing, and
at the end the file gets its name in one step. A listing expires; an export that is continued too
late begins again. Beside the file goes the definition of the index (`index_definition`).
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from vicinal.cli import index_definition, progress, resume, show
from vicinal.cli.client import ApiError, Client, IndexResponse, Target, target_options
from vicinal.cli.completion import index_argument
from vicinal.cli.export_pages import write_pages
from vicinal.cli.export_stream import BAD_CURSOR, StreamedExport
from vicinal.cli.resume import ResumePoint
from vicinal.cli.scopes import ScopeOptions, scope_options

PATIENCE_S = 120.0

_NO_ROUTE = {7000, 7001, 7003}


@click.command("export")
@index_argument
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@scope_options
@click.option("--restart", is_flag=True, help="Begin anew whatever was done before.")
@target_options
def command(target: Target, index: str, file: Path, scope: ScopeOptions, restart: bool) -> None:
    """Write every vector of INDEX, or those that options choose, to FILE.

    FILE is NDJSON; - is standard output. Values, namespaces and metadata are included, and
    FILE.index.json says what the index is, so that `vicinal import` of the file gives the same
    vectors, in an index that it makes if there is none. Run the same command again after an
    interruption and it continues.
    """
    began_s = time.monotonic()
    with target.connect(patience_s=PATIENCE_S) as client:
        described = client.get(client.indexes(index)).decode(IndexResponse)
        definition = index_definition.definition_of(client, described)
        export = _Export(client, index, scope)
        if str(file) == "-":
            start = ResumePoint.start("")
            done = export.write(start, sys.stdout.buffer, lambda _: None)
            sys.stdout.buffer.flush()
        else:
            job = f"{index} of {described.created_on} at {target.url} {target.account} {scope!r}"
            start = ResumePoint.start(job) if restart else _resume_point(file, job)
            done = _export_to_file(export, file, start)
            _save_definition(file, definition)
    deleted = done.items - done.vectors
    left_out = f"; {deleted:,} were deleted meanwhile" if deleted else ""
    seconds = time.monotonic() - began_s
    rate = (done.vectors - start.vectors) / max(seconds, 1e-3)
    show.note(
        f"{done.vectors:,} vectors of {index}{left_out} in {seconds:.1f} s ({rate:,.0f}/s). "
        f"To make an index for them:\n{definition.command(index)}"
    )


@dataclass(frozen=True, slots=True)
class _Export:
    """The vectors to export."""

    client: Client
    name: str
    scope: ScopeOptions

    def write(
        self, start: ResumePoint, file: BinaryIO, save: Callable[[ResumePoint], None]
    ) -> ResumePoint:
        """Write the vectors from `start` on; return the last resume point."""
        with progress.bar(f"from {self.name}", progress.WHOLE) as report:
            try:
                return StreamedExport(
                    self.client, self.name, self.scope, file, start, save, report
                ).write_all()
            except ApiError as refused:
                if not refused.codes & _NO_ROUTE:
                    raise
            if not self.scope.is_all:
                raise click.ClickException(
                    "this server exports all vectors of an index alone; leave out --filter, "
                    "--namespace and --prefix"
                )
            return write_pages(self.client, self.name, file, start, save, report)


def _export_to_file(export: _Export, file: Path, start: ResumePoint) -> ResumePoint:
    part, saved = _part_files(file)
    try:
        done = _write_part(export, start, part, saved)
    except ApiError as refused:
        if BAD_CURSOR not in refused.codes:
            raise
        # Its time is over, or the server has been started again.
        show.note("the listing has expired: beginning again")
        done = _write_part(export, ResumePoint.start(start.job), part, saved)
    part.replace(file)
    saved.unlink(missing_ok=True)
    return done


def _write_part(export: _Export, start: ResumePoint, part: Path, saved: Path) -> ResumePoint:
    try:
        with part.open("r+b" if start.offset else "wb") as file:
            file.seek(start.offset)
            file.truncate()

            def save(point: ResumePoint) -> None:
                file.flush()
                os.fsync(file.fileno())
                resume.save(saved, point)

            return export.write(start, file, save)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or part} cannot be written: {error.strerror}"
        ) from error
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the same command goes on from there") from None


def _part_files(file: Path) -> tuple[Path, Path]:
    """Return where the lines and the resume point of an unfinished export are."""
    return file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part.json")


def _resume_point(file: Path, job: str) -> ResumePoint:
    """Return the saved resume point if it is this job's and the part is whole up to there."""
    part, saved = _part_files(file)
    point = resume.load(saved)
    length = part.stat().st_size if part.exists() else 0
    if point is None or point.job != job or length < point.offset or point.cursor is None:
        return ResumePoint.start(job)
    show.note(f"continuing after {point.vectors:,} vectors")
    return point


def _save_definition(file: Path, definition: index_definition.IndexDefinition) -> None:
    path = index_definition.definition_file(file)
    try:
        index_definition.save(path, definition)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
