"""``vicinal import``: a file of NDJSON to an index, in batches, resumable.

Batches go one after the other, so that of a repeated id the last one wins as it does in the
file. After each acknowledged batch a resume point is saved next to the file; it holds for this
very file (size, time, inode) and this very index (its name can have been given to a new one). A
repeated batch is harmless: an upsert replaces, an insert keeps.

Lines are not parsed here. When the server refuses a batch, and only then, its lines are
read one by one with the server's own reader to name the bad ones by their number.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from vicinal import errors
from vicinal.cli import progress, resume, show
from vicinal.cli.client import ApiError, ApiResponse, Client, IndexResponse, Target, target_options
from vicinal.cli.resume import ResumePoint
from vicinal.limits import Limits
from vicinal.wire import vectors

BATCH_BYTES_MAX = 32 * 1024 * 1024
PATIENCE_S = 120.0
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of a file, with their numbers; `end` is the offset after the last."""

    lines: tuple[tuple[int, bytes], ...]
    end: int
    last_number: int


@dataclass(frozen=True, slots=True)
class Importer:
    """Sends batches to one index."""

    client: Client
    index: IndexResponse
    operation: str
    label: str
    skips_bad: bool

    def send(self, batch: Batch, *, wait_s: float) -> int:
        """Send a batch; return the number of vectors that were written, once that is durable.

        Waits `wait_s` seconds for the batch to be visible as well; 0 does not wait.

        Raises:
            click.ClickException: the batch is refused, or not visible in time; names the bad
                line if the server's own reader finds one.
        """
        lines = batch.lines
        try:
            answer = self._write(lines, wait_s)
        except ApiError as refused:
            bad = self._bad(lines) if refused.status == 400 else {}
            if not bad:
                label = f"{self.label}, lines {lines[0][0]} to {lines[-1][0]}"
                raise click.ClickException(f"{label}: {refused.message}") from refused
            if not self.skips_bad:
                raise click.ClickException(next(iter(bad.values()))) from refused
            for complaint in bad.values():
                show.note(f"left out: {complaint}")
            lines = tuple((number, line) for number, line in lines if number not in bad)
            if not lines:
                return 0
            answer = self._write(lines, wait_s)
        if wait_s and not answer.is_visible:
            raise click.ClickException(
                f"all of it is written, but not visible after {wait_s:g} seconds"
            )
        return len(lines)

    def _write(self, lines: tuple[tuple[int, bytes], ...], wait_s: float) -> ApiResponse:
        path = self.client.indexes(self.index.name, self.operation)
        return self.client.write(path, b"".join(line for _, line in lines), wait_s=wait_s)

    def _bad(self, lines: tuple[tuple[int, bytes], ...]) -> dict[int, str]:
        """Return complaints about bad lines, by number of the line."""
        return {
            number: f"{self.label}, line {number}: {complaint}"
            for number, line in lines
            if (complaint := self._complaint(number, line)) is not None
        }

    def _complaint(self, number: int, line: bytes) -> str | None:
        dimensions = self.index.config.dimensions
        with contextlib.suppress(errors.InvalidInput):
            vectors.read(line, "application/x-ndjson", dimensions, Limits())
            return None
        try:
            # With as many lines before it as in the file, the reader names the right one.
            body = b"\n" * (number - 1) + line
            vectors.read(body, "application/x-ndjson", dimensions, Limits())
        except errors.InvalidInput as error:
            return str(error)
        return None


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.argument("index")
@click.option("--insert", is_flag=True, help="Keep vectors that are there instead of replacing.")
@click.option("--batch-size", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
@click.option("--skip-bad", is_flag=True, help="Leave bad lines out, naming each.")
@click.option("--wait", is_flag=True, help="Return when queries see every vector.")
@click.option("--restart", is_flag=True, help="Begin at the first line whatever was done before.")
@target_options
def command(
    target: Target,
    file: Path,
    index: str,
    insert: bool,
    batch_size: int,
    skip_bad: bool,
    wait: bool,
    restart: bool,
) -> None:
    """Upsert the vectors of FILE (NDJSON; - is standard input) into INDEX.

    Run the same command again after an interruption and it continues where it was.
    """
    began_s = time.monotonic()
    operation = "insert" if insert else "upsert"
    is_file = str(file) != "-"
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_opened(file)) if is_file else sys.stdin.buffer
        client = stack.enter_context(target.connect(patience_s=PATIENCE_S))
        description = client.get(client.indexes(index)).decode(IndexResponse)
        importer = Importer(
            client, description, operation, str(file) if is_file else "stdin", skip_bad
        )
        path = file.with_name(f".{file.name}.{index}.import") if is_file else None
        start = ResumePoint.start(_job(target, description, operation, file) if is_file else "")
        if path is not None and not restart:
            start = _resume(path, start, source)
        size = file.stat().st_size if is_file else None
        report = stack.enter_context(progress.bar(f"into {index}", size, done=start.offset))
        count = start.vectors
        for batch, is_last in _with_last(batches(source, start, batch_size)):
            count += importer.send(batch, wait_s=WAIT_S if wait and is_last else 0.0)
            report(batch.end, f"{count:,} vectors")
            if path is not None:
                point = ResumePoint(start.job, batch.end, batch.last_number, count, None)
                _save(path, point)
    if path is not None:
        path.unlink(missing_ok=True)
    seconds = max(time.monotonic() - began_s, 1e-3)
    rate = (count - start.vectors) / seconds
    click.echo(f"{count:,} vectors into {index} in {seconds:.1f} s ({rate:,.0f}/s)")


def batches(source: BinaryIO, start: ResumePoint, lines_max: int) -> Iterator[Batch]:
    """Cut the rest of a file into batches; blank lines are counted and left out.

    Raises:
        click.ClickException: a line is longer than a batch may be.
    """
    lines: list[tuple[int, bytes]] = []
    size, offset, number = 0, start.offset, start.items
    while line := source.readline(BATCH_BYTES_MAX + 1):
        if len(line) > BATCH_BYTES_MAX:
            raise click.ClickException(
                f"line {number + 1} is longer than {BATCH_BYTES_MAX:,} bytes; is this NDJSON?"
            )
        if not lines:
            _check_line(number + 1, line)
        if lines and (len(lines) == lines_max or size + len(line) > BATCH_BYTES_MAX):
            yield Batch(tuple(lines), offset, number)
            lines, size = [], 0
        number += 1
        offset += len(line)
        if line.strip():
            lines.append((number, line))
            size += len(line)
    if lines:
        yield Batch(tuple(lines), offset, number)


def _check_line(number: int, line: bytes) -> None:
    """Refuse a line that a server would read as the beginning of one JSON document.

    A server tells the form of a body from its beginning, and a batch would be a part of the
    document.
    """
    text = line.removeprefix(b"\xef\xbb\xbf").strip()
    is_document = text[:1] in (b"[", b'"') or text == b"{"
    if not is_document and b'"vectors"' in text:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            is_document = "vectors" in members and "id" not in members
    if is_document:
        raise click.ClickException(
            f"line {number} begins a document of JSON, and import reads NDJSON: one vector a line. "
            "`jq -c '.[]'` makes lines of an array, `jq -c '.vectors[]'` of an object of vectors"
        )


def _with_last(batches: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Yield batches, and whether it is the last one."""
    previous = next(batches, None)
    while previous is not None:
        following = next(batches, None)
        yield previous, following is None
        previous = following


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from error


def _job(target: Target, index: IndexResponse, operation: str, file: Path) -> str:
    """Return a text that is the same only for the same file into the same index."""
    state = file.stat()
    return (
        f"{operation} inode {state.st_ino} size {state.st_size} time {state.st_mtime_ns} "
        f"into {index.name} of {index.created_on} at {target.url} {target.account}"
    )


def _resume(path: Path, start: ResumePoint, source: BinaryIO) -> ResumePoint:
    """Return the resume point of this job if there is one, and move the source there."""
    point = resume.load(path)
    if point is None:
        return start
    if point.job != start.job:
        show.note("the file or the index has changed since the last run: beginning again")
        return start
    show.note(f"continuing after line {point.items:,}")
    source.seek(point.offset)
    return point


def _save(path: Path, point: ResumePoint) -> None:
    try:
        resume.save(path, point)
    except OSError as error:
        raise click.ClickException(
            f"{path} cannot be written: {error.strerror}; to import from a folder that is "
            "read-only, pipe the file in and name it -"
        ) from error
