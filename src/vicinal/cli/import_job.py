"""One import: files to an index, batch by batch, that can be continued.

Batches are written one after the other, so that of a repeated id the last one wins as it does in
the file; while two are on their way the next is read. After each acknowledged batch a resume point
is saved next to the first file; it holds for these very files (size, time, inode), this very index
(its name can have been given to a new one) and the same options. A repeated batch is harmless: an
upsert replaces, an insert keeps.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from vicinal.cli import resume, show
from vicinal.cli.client import Client
from vicinal.cli.import_ids import IdCounter
from vicinal.cli.import_sending import SentBatch, VectorSender
from vicinal.cli.progress import Rate, Report
from vicinal.cli.resume import ResumePoint
from vicinal.daemon_threads import DaemonThreads
from vicinal.errors import BadFile
from vicinal.readers.base import FileReader, Position, RejectedRow, RowBatch
from vicinal.readers.opening import FileSource

WAIT_S = 60.0
_INTERRUPT_S = 10.0  # ours: how long a batch on its way may take after Ctrl-C
_ON_THEIR_WAY = 2  # batches: one is made durable while the next is received
_NAMED_MAX = 20  # ours: bad rows that are named on the terminal


@dataclass(slots=True)
class RejectedRows:
    """The rows that are left out: named, counted and written to a file if there is one.

    Attributes:
        path: NDJSON with file, place, id, rule and record of every row; None for no file.
        skips: Whether rows are left out; else the first ends the import.
        count: Rows left out, by earlier runs too.
    """

    path: Path | None
    skips: bool
    count: int = 0
    _file: BinaryIO | None = None
    _named_count: int = 0

    def add(self, label: str, rejected: Sequence[RejectedRow]) -> None:
        """Leave rows out, or refuse the first.

        Raises:
            click.ClickException: rows are not left out, or the file cannot be written.
        """
        if rejected and not self.skips:
            raise click.ClickException(
                f"{label}, {rejected[0].complaint}. Neither its batch nor what comes after is "
                "imported; --skip-bad leaves bad rows out"
            )
        for row in rejected:
            self._named_count += 1
            if self._named_count <= _NAMED_MAX:
                show.note(f"left out: {label}, {row.complaint}")
            elif self._named_count == _NAMED_MAX + 1:
                show.note("more are left out and not named here; --rejects FILE has all of them")
        if rejected and self.path is not None:
            self._write(self.path, label, rejected)
        self.count += len(rejected)

    def begin(self) -> None:
        """Empty the file of an earlier import, unless its rows have been counted.

        Raises:
            click.ClickException: it cannot be written.
        """
        if not self.count and self.path is not None and self.path.is_file():
            self._write(self.path, "", ())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _opened(self, path: Path) -> BinaryIO:
        """Open the file behind the rows that have been counted: those after them come again."""
        if not self.count or not path.exists():
            return path.open("wb")
        if not path.is_file():
            return path.open("ab")
        file = path.open("r+b")
        for _ in range(self.count):
            if not file.readline():
                break
        file.truncate(file.tell())
        return file

    def _write(self, path: Path, label: str, rejected: Sequence[RejectedRow]) -> None:
        try:
            if self._file is None:
                self._file = self._opened(path)
            for row in rejected:
                document = {
                    "file": label, "place": row.location, "id": row.id, "rule": row.rule,
                    "record": msgspec.Raw(row.record),
                }  # fmt: skip
                self._file.write(msgspec.json.encode(document) + b"\n")
            self._file.flush()
        except OSError as error:
            raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file, or texts that are read as one: how it is opened for reading.

    Attributes:
        label: The name in messages.
        size: In bytes, None where it is not known; for progress.
        identity: Text that changes when the file does.
        open: Opens it; the source is closed by the job.
        path: None where it is no single file.
    """

    label: str
    size: int | None
    identity: str
    open: Callable[[], tuple[FileSource | None, FileReader]]
    path: Path | None = None

    def check_unchanged(self) -> None:
        """Notice that the file has been written to since the import began.

        Raises:
            click.ClickException: it is another file now.
        """
        if self.path is None or self.size is None:
            return
        try:
            size, is_same = self.path.stat().st_size, identity(self.path) == self.identity
        except OSError as error:
            raise click.ClickException(f"{self.label}: it is gone: {error.strerror}") from error
        if size != self.size:
            verb = "grown" if size > self.size else "shrunk"
            raise click.ClickException(
                f"{self.label}: it has {verb} from {self.size:,} to {size:,} bytes while it was "
                "read; import it again"
            )
        if not is_same:
            raise click.ClickException(
                f"{self.label}: it was written to while it was read; import it again"
            )


@dataclass(frozen=True, slots=True)
class _BatchOnItsWay:
    """A batch of a file by its number, and what becomes of it."""

    number: int
    batch: RowBatch
    sent: Future[SentBatch]


@dataclass(slots=True)
class ImportJob:
    """The state of an import while it runs.

    Attributes:
        files: The files, in the order of the import.
        job: Text that is the same only for the same work.
        resume_path: Where resume points go; None where the import cannot be continued.
        sender: Sends vectors.
        embed: Makes vectors of the texts of a batch; None where there are vectors.
        rejected: The rows that are left out.
        rows_max: Rows of a batch.
        waits: Whether to wait for the last batch to be visible.
        report: Shows progress.
        finished: Called with documents that have been written whole, once or again; returns
            whether it has written anything.
    """

    client: Client
    files: Sequence[ImportedFile]
    job: str
    resume_path: Path | None
    sender: VectorSender
    embed: Callable[[RowBatch], RowBatch] | None
    rejected: RejectedRows
    rows_max: int
    waits: bool
    report: Report
    finished: Callable[[Sequence[tuple[str, int]]], bool] | None = None
    point: ResumePoint = field(default_factory=lambda: ResumePoint.start(""))
    ids: IdCounter = field(default_factory=IdCounter)
    rate: Rate = field(default_factory=Rate)
    _left_out: set[str] = field(default_factory=set)  # columns and members that have been named
    _is_visible: bool = True  # all that was written, as far as that is known

    def import_all(self, *, restart: bool) -> int:
        """Import what is not imported yet; return the number of vectors of this run.

        Raises:
            click.ClickException: what went wrong, and how to go on.
        """
        self.point = ResumePoint.start(self.job) if restart else self._start()
        self.rejected.count = self.point.rejected
        self.rejected.begin()
        before = self.point.vectors
        self.rate = Rate(before)
        self._report(self.point.file, self.point.offset)
        try:
            with DaemonThreads(_ON_THEIR_WAY, "send") as threads:
                self._import(threads)
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted. {self._how_to_go_on()}") from None
        except click.ClickException as error:
            if not self.point.vectors:
                raise
            raise click.ClickException(f"{error.message}\n{self._how_to_go_on()}") from error
        finally:
            self.rejected.close()
        if self.resume_path is not None:
            self.resume_path.unlink(missing_ok=True)
        for file in self.files:
            file.check_unchanged()
        return self.point.vectors - before

    def _import(self, threads: DaemonThreads) -> None:
        waiting: list[_BatchOnItsWay] = []  # to be acknowledged
        try:
            for number, batch, is_last in _with_last(self._batches()):
                # Rows that are left out may end the import: what fails before is named instead. And
                # no resume point counts those of a batch that comes again.
                while batch.rejected and waiting:
                    self._acknowledge_first(waiting)
                label = self.files[number].label
                if batch.rejected:  # which a file that has shrunk or was written to explains
                    self.files[number].check_unchanged()
                self.rejected.add(label, batch.rejected)
                self._note_left_out(label, batch.left_out)
                wait_s = WAIT_S if self.waits and is_last else 0.0
                behind = waiting[-1].sent if waiting else None
                sent = threads.submit(partial(self.sender.send, label, batch, wait_s, behind))
                waiting.append(_BatchOnItsWay(number, batch, sent))
                # One more than are on their way, so that there are as many while the next is read.
                while len(waiting) > _ON_THEIR_WAY or (waiting and waiting[0].sent.done()):
                    self._acknowledge_first(waiting)
            while waiting:
                self._acknowledge_first(waiting)
        except BaseException as error:
            # A batch on its way may arrive all the same, and then need not be sent again.
            is_interrupt = isinstance(error, KeyboardInterrupt)
            if is_interrupt:
                self.client.stop_waiting()
            with suppress(click.ClickException, TimeoutError):
                for left in waiting:
                    left.sent.result(timeout=_INTERRUPT_S if is_interrupt else None)
                    self._acknowledge(left)
            raise
        if self.waits and not self._is_visible and not self.sender.wait(WAIT_S):
            raise click.ClickException(
                f"all of it is written, but not visible after {WAIT_S:g} seconds"
            )

    def _batches(self) -> Iterator[tuple[int, RowBatch]]:
        """Yield the number of the file and the batch, of all files, made vectors of."""
        for number in range(self.point.file, len(self.files)):
            file = self.files[number]
            is_resumed = number == self.point.file
            start = Position(self.point.offset, self.point.items) if is_resumed else Position()
            source: FileSource | None = None
            try:
                source, reader = file.open()
                if start != Position():
                    show.note(f"continuing after {reader.unit} {start.number:,}")
                for batch in reader.batches(start, self.rows_max):
                    yield number, self._with_vectors(batch)
                if source is not None:
                    source.check_unchanged()
            except BadFile as bad:
                raise self._bad_file(file, source, bad) from bad
            finally:
                if source is not None:
                    source.close()

    def _with_vectors(self, batch: RowBatch) -> RowBatch:
        if self.embed is None or not batch.texts:
            return batch
        return self.embed(batch)

    def _bad_file(
        self, file: ImportedFile, source: FileSource | None, bad: BadFile
    ) -> click.ClickException:
        if source is not None:
            try:
                source.check_unchanged()
            except BadFile as changed:
                if str(changed) != str(bad):
                    return click.ClickException(f"{file.label}: {changed}; {bad}")
        message = str(bad)
        return click.ClickException(
            message if message.startswith(file.label) else f"{file.label}: {message}"
        )

    def _acknowledge_first(self, waiting: list[_BatchOnItsWay]) -> None:
        """Wait for the first batch and acknowledge it; if that fails, it comes again with all
        behind it, none of which is left in `waiting`."""
        waiting[0].sent.result()
        first, *rest = waiting
        waiting.clear()
        self._acknowledge(first)
        waiting += rest

    def _acknowledge(self, arrived: _BatchOnItsWay) -> None:
        number, batch, sent = arrived.number, arrived.batch, arrived.sent.result()
        label = self.files[number].label
        self.rejected.add(label, sent.rejected)
        if sent.count:
            self._is_visible = sent.is_visible
        if self.finished is not None and batch.documents and self.finished(batch.documents):
            self._is_visible = False
        point = self.point
        self.point = ResumePoint(
            self.job, batch.end.offset, batch.end.number, point.vectors + sent.count, None,
            number, self.rejected.count,
        )  # fmt: skip
        repeated = self.ids.add(batch.vectors.ids)
        if repeated is not None:
            show.note(
                f"note: {label}, {batch.places[repeated.row]}: id {repeated.id!r} has come before"
            )
        if self.resume_path is not None:
            _save(self.resume_path, self.point)
        self._report(number, int(batch.fraction * (self.files[number].size or 0)))

    def _report(self, number: int, size: int) -> None:
        """Show that the files before one, and some bytes of that, are imported."""
        done = sum(file.size or 0 for file in self.files[:number])
        self.report(done + size, self.rate.text(self.point.vectors))

    def _note_left_out(self, label: str, names: Sequence[str]) -> None:
        """Name what is not kept of the rows of a file, each of a number of names once."""
        free = max(_NAMED_MAX - len(self._left_out), 0)
        new = [name for name in dict.fromkeys(names) if name not in self._left_out][:free]
        if new:
            self._left_out.update(new)
            show.note(
                f"note: {label}: not kept, as --metadata does not name it: {', '.join(new)}; "
                f"`--ignore {','.join(new)}` leaves it out without a word"
            )

    def _start(self) -> ResumePoint:
        """Return the resume point of this job if there is one."""
        start = ResumePoint.start(self.job)
        point = None if self.resume_path is None else resume.load(self.resume_path)
        if point is None:
            return start
        if point.job != self.job:
            show.note("the file or the index has changed since the last run: beginning again")
            return start
        return point

    def _how_to_go_on(self) -> str:
        written = f"{self.point.vectors:,} vectors are written"
        if self.resume_path is None:
            return f"{written}; repeat the command: vectors that are written again do no harm"
        return f"{written}; the same command goes on from there"


def identity(path: Path) -> str:
    """Return a text that changes when a file does."""
    state = path.stat()
    return f"inode {state.st_ino} size {state.st_size} time {state.st_mtime_ns}"


def job_text(files: Sequence[ImportedFile], *others: str) -> str:
    """Return a text that is the same only for the same files and options."""
    identities = "\n".join(file.identity for file in files)
    if len(files) > 1:
        identities = hashlib.sha256(identities.encode()).hexdigest()
    return " ".join([identities, *others])


def _with_last(
    batches: Iterator[tuple[int, RowBatch]],
) -> Iterator[tuple[int, RowBatch, bool]]:
    """Yield batches, and whether it is the last one."""
    previous = next(batches, None)
    while previous is not None:
        try:
            following = next(batches, None)
        except (click.ClickException, KeyboardInterrupt):
            yield *previous, False
            raise
        yield *previous, following is None
        previous = following


def _save(path: Path, point: ResumePoint) -> None:
    try:
        resume.save(path, point)
    except OSError as error:
        raise click.ClickException(
            f"{path} cannot be written: {error.strerror}; to import from a folder that is "
            "read-only, pipe the file in and name it -"
        ) from error
