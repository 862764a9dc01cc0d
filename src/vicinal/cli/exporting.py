"""``vicinal export``: every vector of an index to a file of NDJSON, resumable.

The ids come from a listing, which describes the index as it was when the export began; the
vectors are read as they are when their turn comes, so one that was deleted meanwhile is
left out. Pages go to ``FILE.part``; after each a checkpoint says how long the good part is
and which page comes next, and at the end the file gets its name in one step. A listing
expires; an export that is continued too late begins again.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from vicinal.cli import progress, show
from vicinal.cli.client import (
    ApiError,
    Client,
    IndexResponse,
    MetadataIndexesResponse,
    PageResponse,
    Target,
    target_options,
)

PATIENCE_S = 120.0

_PAGE_IDS = 1_000
_TOO_MANY_IDS = 40007
_BAD_CURSOR = 40052
_BOUND = re.compile(r"max id count is (\d+)")


class Checkpoint(msgspec.Struct, frozen=True):
    """How far an export is: the good bytes of the part, and the page that comes next."""

    job: str
    offset: int = 0
    vectors: int = 0
    listed: int = 0
    cursor: str | None = None


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
        about = client.get(client.indexes(index)).read(IndexResponse)
        if str(file) == "-":
            done = _run(client, about, Checkpoint(""), sys.stdout.buffer, lambda _: None)
        else:
            done = _to_file(target, client, about, file, restart=restart)
        recipe = _recipe(client, about)
    gone = done.listed - done.vectors
    left_out = f"; {gone:,} were deleted meanwhile" if gone else ""
    show.note(
        f"{done.vectors:,} vectors of {index}{left_out}. To make an index for them:\n{recipe}"
    )


def _to_file(
    target: Target, client: Client, about: IndexResponse, file: Path, *, restart: bool
) -> Checkpoint:
    part, saved = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part.json")
    start = Checkpoint(f"{about.name} of {about.created_on} at {target.url} {target.account}")
    if not restart:
        start = _resumed(saved, part, start)
    try:
        done = _into_part(client, about, start, part, saved)
    except ApiError as refused:
        if _BAD_CURSOR not in refused.codes or start.cursor is None:
            raise
        show.note("the listing has expired: beginning again")
        done = _into_part(client, about, Checkpoint(start.job), part, saved)
    part.replace(file)
    saved.unlink(missing_ok=True)
    return done


def _into_part(
    client: Client, about: IndexResponse, start: Checkpoint, part: Path, saved: Path
) -> Checkpoint:
    try:
        sink = part.open("r+b" if start.offset else "wb")
    except OSError as error:
        raise click.ClickException(f"{part} cannot be written: {error.strerror}") from error
    with sink:
        sink.seek(start.offset)
        sink.truncate()

        def save(checkpoint: Checkpoint) -> None:
            sink.flush()
            os.fsync(sink.fileno())
            fresh = saved.with_name(f"{saved.name}.new")
            fresh.write_bytes(msgspec.json.encode(checkpoint))
            fresh.replace(saved)

        return _run(client, about, start, sink, save)


def _run(
    client: Client,
    about: IndexResponse,
    start: Checkpoint,
    sink: BinaryIO,
    save: Callable[[Checkpoint], None],
) -> Checkpoint:
    """Write pages until there are none; return what is done then."""
    done, ids_max = start, _PAGE_IDS
    with progress.bar(f"from {about.name}", None) as report:
        while True:
            page = _page(client, about.name, done.cursor)
            ids = [listed.id for listed in page.vectors]
            vectors, ids_max = _vectors(client, about.name, ids, ids_max)
            size = sum(sink.write(bytes(vector) + b"\n") for vector in vectors)
            done = Checkpoint(
                job=done.job,
                offset=done.offset + size,
                vectors=done.vectors + len(vectors),
                listed=done.listed + len(ids),
                cursor=page.next_cursor,
            )
            save(done)
            report(done.listed, f"{done.listed:,} of {page.total_count:,}")
            if page.next_cursor is None:
                sink.flush()
                return done


def _page(client: Client, index: str, cursor: str | None) -> PageResponse:
    parameters: dict[str, str | int] = {"count": _PAGE_IDS}
    if cursor is not None:
        parameters["cursor"] = cursor
    return client.get(client.indexes(index, "list"), parameters).read(PageResponse)


def _vectors(
    client: Client, index: str, ids: Sequence[str], ids_max: int
) -> tuple[list[msgspec.Raw], int]:
    """Return vectors as JSON, and how many ids a call may name.

    That bound is the server's to choose, and nowhere to be read but in its refusal.
    """
    path = client.indexes(index, "get_by_ids")
    found: list[msgspec.Raw] = []
    start = 0
    while start < len(ids):
        try:
            answer = client.post(path, {"ids": ids[start : start + ids_max]})
        except ApiError as refused:
            bound = _BOUND.search(refused.message)
            if _TOO_MANY_IDS not in refused.codes or bound is None or int(bound[1]) >= ids_max:
                raise
            ids_max = int(bound[1])
        else:
            found += answer.read(list[msgspec.Raw])
            start += ids_max
    return found, ids_max


def _resumed(saved: Path, part: Path, start: Checkpoint) -> Checkpoint:
    try:
        found = msgspec.json.decode(saved.read_bytes(), type=Checkpoint)
        length = part.stat().st_size
    except (OSError, msgspec.MsgspecError):
        return start
    if found.job != start.job or length < found.offset or found.cursor is None:
        return start
    show.note(f"continuing after {found.listed:,} vectors")
    return found


def _recipe(client: Client, about: IndexResponse) -> str:
    """Return the command that creates an index like this one."""
    config = about.config
    parts = ["vicinal", "index", "create", about.name]
    if config.preset:
        parts += ["--preset", config.preset]
    else:
        parts += ["--dimensions", str(config.dimensions), "--metric", config.metric]
    if config.effort != "standard":
        parts += ["--effort", config.effort]
    if about.description:
        parts += ["--description", about.description]
    listed = client.get(client.indexes(about.name, "metadata_index", "list")).read(
        MetadataIndexesResponse
    )
    for each in listed.metadata_indexes:
        parts += ["--metadata-index", f"{each.property_name}:{each.index_type}"]
    return shlex.join(parts)
