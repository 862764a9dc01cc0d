"""An export of a server that knows the platform's own routes alone: page after page.

The ids come from a listing, which describes the index as it was when the export began; the vectors
are read later, page by page, so one that was deleted meanwhile is left out.
"""

from collections.abc import Callable
from typing import BinaryIO

from vicinal.cli import id_batches
from vicinal.cli.client import Client
from vicinal.cli.progress import Rate, Report, part_of
from vicinal.cli.resume import ResumePoint
from vicinal.wire.schemas import VectorListSchema

_PAGE_IDS = 1_000


def write_pages(
    client: Client,
    name: str,
    file: BinaryIO,
    start: ResumePoint,
    save: Callable[[ResumePoint], None],
    report: Report,
) -> ResumePoint:
    """Write all pages from `start` on; return the last resume point."""
    done, batches, rate = start, id_batches.gets(), Rate(start.vectors)
    while True:
        page = _list_page(client, name, done.cursor)
        ids = [listed.id for listed in page.vectors]
        vectors = id_batches.get_vectors(client, name, ids, batches)
        size = sum(file.write(bytes(vector) + b"\n") for vector in vectors)
        done = ResumePoint(
            job=done.job,
            offset=done.offset + size,
            items=done.items + len(ids),
            vectors=done.vectors + len(vectors),
            cursor=page.next_cursor,
        )
        save(done)
        text = f"{rate.text(done.vectors)} of {page.total_count:,}"
        report(part_of(done.items, page.total_count), text)
        if page.next_cursor is None:
            return done


def _list_page(client: Client, index: str, cursor: str | None) -> VectorListSchema:
    parameters: dict[str, str | int] = {"count": _PAGE_IDS}
    if cursor is not None:
        parameters["cursor"] = cursor
    return client.get(client.indexes(index, "list"), parameters).decode(VectorListSchema)
