"""``vicinal export``: every vector of an index to a file of NDJSON, resumable.

The ids come from a listing, which describes the index as it was when the export began; the
vectors are read later, page by page, so one that was deleted meanwhile is left out. Pages go to
``FILE.part``; after each page a resume point holds the length of the good part and the cursor of
the next page, and at the end the file gets its name in one step. A listing expires; an export
that is continued too late begins again.
"""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from vicinal.cli import progress, resume, show
from vicinal.cli.client import ApiError, Client, IndexResponse, Target, target_options
from vicinal.cli.resume import ResumePoint
from vicinal.limits import PROFILES
from vicinal.wire.schemas import MetadataIndexListSchema, VectorListSchema

PATIENCE_S = 120.0

_PAGE_IDS = 1_000
_IDS_OF_EVERY_PROFILE = min(limits.get_ids_max for limits in PROFILES.values())
_TOO_MANY_IDS = 40007
_BAD_CURSOR = 40052


@click.command("export")
@click.argument("index")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--restart", is_flag=True, help="Begin anew whatever was done before.")
@target_options
def command(target: Target, index: str, file: Path, restart: bool) -> None:
    """Write every vector of INDEX to FILE (NDJSON; - is standard output).

    Values, namespaces and metadata are included, so that `vicinal import` of the file gives
    the same vectors. Run the same command again after an interruption and it continues.
    """
    with target.connect(patience_s=PATIENCE_S) as client:
        description = client.get(client.indexes(index)).decode(IndexResponse)
        if str(file) == "-":
            start = ResumePoint.start("")
            done = _write_pages(client, description, start, sys.stdout.buffer, lambda _: None)
        else:
            done = _export_to_file(target, client, description, file, restart=restart)
        create_command = _create_command(client, description)
    deleted = done.items - done.vectors
    left_out = f"; {deleted:,} were deleted meanwhile" if deleted else ""
    show.note(
        f"{done.vectors:,} vectors of {index}{left_out}. To make an index for them:\n"
        f"{create_command}"
    )


def _export_to_file(
    target: Target, client: Client, index: IndexResponse, file: Path, *, restart: bool
) -> ResumePoint:
    part, saved = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part.json")
    job = f"{index.name} of {index.created_on} at {target.url} {target.account}"
    start = ResumePoint.start(job) if restart else _resume_point(saved, part, job)
    try:
        done = _write_part(client, index, start, part, saved)
    except ApiError as refused:
        if _BAD_CURSOR not in refused.codes or start.cursor is None:
            raise
        show.note("the listing has expired: beginning again")
        done = _write_part(client, index, ResumePoint.start(job), part, saved)
    part.replace(file)
    saved.unlink(missing_ok=True)
    return done


def _write_part(
    client: Client, index: IndexResponse, start: ResumePoint, part: Path, saved: Path
) -> ResumePoint:
    try:
        with part.open("r+b" if start.offset else "wb") as sink:
            sink.seek(start.offset)
            sink.truncate()

            def save(point: ResumePoint) -> None:
                sink.flush()
                os.fsync(sink.fileno())
                resume.save(saved, point)

            return _write_pages(client, index, start, sink, save)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or part} cannot be written: {error.strerror}"
        ) from error


def _write_pages(
    client: Client,
    index: IndexResponse,
    start: ResumePoint,
    sink: BinaryIO,
    save: Callable[[ResumePoint], None],
) -> ResumePoint:
    """Write all pages from `start` on; return the last resume point."""
    done, ids_max = start, _PAGE_IDS
    with progress.bar(f"from {index.name}", None) as report:
        while True:
            page = _list_page(client, index.name, done.cursor)
            ids = [listed.id for listed in page.vectors]
            vectors, ids_max = _get_vectors(client, index.name, ids, ids_max)
            size = sum(sink.write(bytes(vector) + b"\n") for vector in vectors)
            done = ResumePoint(
                job=done.job,
                offset=done.offset + size,
                items=done.items + len(ids),
                vectors=done.vectors + len(vectors),
                cursor=page.next_cursor,
            )
            save(done)
            report(done.items, f"{done.items:,} of {page.total_count:,}")
            if page.next_cursor is None:
                sink.flush()
                return done


def _list_page(client: Client, index: str, cursor: str | None) -> VectorListSchema:
    parameters: dict[str, str | int] = {"count": _PAGE_IDS}
    if cursor is not None:
        parameters["cursor"] = cursor
    return client.get(client.indexes(index, "list"), parameters).decode(VectorListSchema)


def _get_vectors(
    client: Client, index: str, ids: Sequence[str], ids_max: int
) -> tuple[list[msgspec.Raw], int]:
    """Return vectors as JSON, and the number of ids that a call may name.

    A server does not tell its profile of limits: after a refusal a call names no more ids than
    every profile allows.
    """
    path = client.indexes(index, "get_by_ids")
    vectors: list[msgspec.Raw] = []
    start = 0
    while start < len(ids):
        try:
            answer = client.post(path, {"ids": ids[start : start + ids_max]})
        except ApiError as refused:
            if _TOO_MANY_IDS not in refused.codes or ids_max <= _IDS_OF_EVERY_PROFILE:
                raise
            ids_max = _IDS_OF_EVERY_PROFILE
        else:
            vectors += answer.decode(list[msgspec.Raw])
            start += ids_max
    return vectors, ids_max


def _resume_point(saved: Path, part: Path, job: str) -> ResumePoint:
    """Return the saved resume point if it is this job's and the part is whole up to there."""
    point = resume.load(saved)
    length = part.stat().st_size if part.exists() else 0
    if point is None or point.job != job or length < point.offset or point.cursor is None:
        return ResumePoint.start(job)
    show.note(f"continuing after {point.items:,} vectors")
    return point


def _create_command(client: Client, index: IndexResponse) -> str:
    """Return the command that creates an index like this one."""
    config = index.config
    words = ["vicinal", "index", "create", index.name]
    if config.preset:
        words += ["--preset", config.preset]
    else:
        words += ["--dimensions", str(config.dimensions), "--metric", config.metric]
    if config.effort != "standard":
        words += ["--effort", config.effort]
    if config.model:
        words += ["--model", config.model]
    if index.description:
        words += ["--description", index.description]
    answer = client.get(client.indexes(index.name, "metadata_index", "list"))
    for row in answer.decode(MetadataIndexListSchema).metadata_indexes:
        words += ["--metadata-index", f"{row.property_name}:{row.index_type}"]
    return shlex.join(words)
