"""An export as one stream: what a listing of the server holds, from one moment of the index.

A listing begins with a page of one vector, which says how many there are and gives a cursor; the
rest is streamed from there. A stream that breaks off is taken up after the last whole line, as
long as the server keeps the listing. Servers behind a balancer keep listings of their own: then
there is one stream without a cursor, which cannot be taken up.

Lines are written as they come. The last one is held back until it is known to be a vector: a
stream that fails on the server ends with a line that says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import click
import httpx
import msgspec

from vicinal.cli.client import ApiError, Client, failure_of
from vicinal.cli.progress import Rate, Report, part_of
from vicinal.cli.resume import ResumePoint
from vicinal.cli.scopes import ScopeOptions
from vicinal.errors import reason_of

BAD_CURSOR = 40052

_SAVE_BYTES = 64 << 20  # ours: written between two resume points
_FIRST = {"count": 1, "returnValues": True, "returnMetadata": True}


class _FirstPage(msgspec.Struct, rename="camel"):
    total_count: int
    next_cursor: str | None
    vectors: list[msgspec.Raw]


class LineSink:
    """Writes a stream of lines to a file, but for the last line until `finish`.

    Attributes:
        size: Bytes written.
        count: Lines written.
    """

    def __init__(self, file: BinaryIO, size: int = 0, count: int = 0) -> None:
        self.size = size
        self.count = count
        self._file = file
        self._held = b""

    @property
    def received(self) -> int:
        """Lines written, and the one that is held back if it is whole."""
        return self.count + (b"\n" in self._held)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        data = self._held + piece if self._held else piece
        end = data.rfind(b"\n")
        before = data.rfind(b"\n", 0, max(end, 0)) + 1
        if end < 0 or not before:
            self._held = data
            return
        self._held = data[before:]
        self._write(memoryview(data)[:before], data.count(b"\n", 0, before))

    def finish(self) -> None:
        """Write the last line.

        Raises:
            ApiError: it says why the server could not go on.
            click.ClickException: it is not whole.
        """
        self._check_failure()
        if self._held and not self._held.endswith(b"\n"):
            raise click.ClickException("the server's answer ends within a line")
        held, self._held = self._held, b""
        self._write(memoryview(held), 1 if held else 0)

    def break_off(self) -> None:
        """Write the last line if it is whole, and forget one that is not.

        Raises:
            ApiError: it says why the server could not go on.
        """
        self._check_failure()
        line, end, _ = self._held.partition(b"\n")
        self._held = b""
        if end:
            self._write(memoryview(line + end), 1)

    def _check_failure(self) -> None:
        line, end, _ = self._held.partition(b"\n")
        failure = failure_of(line) if end else None
        if failure is not None:
            self._held = b""
            raise failure

    def _write(self, data: memoryview, count: int) -> None:
        self._file.write(data)
        self.size += len(data)
        self.count += count


@dataclass(slots=True)
class StreamedExport:
    """One export of an index to a file.

    Attributes:
        client: Of the server.
        name: Of the index.
        scope: Which vectors.
        file: Where lines go.
        point: How far it has come.
        save: Called with resume points.
        report: Shows progress.
    """

    client: Client
    name: str
    scope: ScopeOptions
    file: BinaryIO
    point: ResumePoint
    save: Callable[[ResumePoint], None]
    report: Report

    def write_all(self) -> ResumePoint:
        """Write what is not written yet; return the point at the end.

        Raises:
            ApiError: the server refuses it; of code `BAD_CURSOR` when the listing of an earlier
                run has ended.
            click.ClickException: it broke off, and cannot be taken up now.
        """
        rate = Rate(self.point.vectors)
        sink = LineSink(self.file, self.point.offset, self.point.vectors)
        is_new = self.point.cursor is None
        if is_new:
            self._begin(sink)
        self._tell(sink, rate)
        try:
            if self.point.cursor is not None:
                self._stream_rest(sink, rate)
            else:
                sink.finish()
        except ApiError as refused:
            self._note(sink)
            if BAD_CURSOR not in refused.codes or not is_new or sink.count:
                raise
            self._stream_anew(rate)
            return self.point
        except KeyboardInterrupt:
            self._note(sink)
            raise
        self._note(sink)
        if sink.count != self.point.items:
            raise click.ClickException(
                f"the server sent {sink.count:,} of {self.point.items:,} vectors"
            )
        return self.point

    def _begin(self, sink: LineSink) -> None:
        """Begin a listing: its first vector, how many there are, and the cursor of the others.

        The vector is held back, so that nothing is written if the cursor turns out to be unknown.
        """
        path = self.client.indexes(self.name, "vectors", "list")
        page = self.client.post(path, _FIRST | self.scope.members()).decode(_FirstPage)
        for vector in page.vectors:
            sink.feed(bytes(vector) + b"\n")
        self.point = ResumePoint(self.point.job, 0, page.total_count, 0, page.next_cursor)

    def _stream_rest(self, sink: LineSink, rate: Rate) -> None:
        """Stream what follows in the listing, again and again while it comes further."""
        while True:
            before = sink.received
            body: dict[str, object] = {"cursor": self.point.cursor, "skip": sink.received - 1}
            try:
                self._stream(body, sink, rate)
                return
            except httpx.TransportError as error:
                sink.break_off()
                self._note(sink)
                if sink.received == before:
                    raise self._broken(error) from error

    def _stream_anew(self, rate: Rate) -> None:
        """Stream without a listing; nothing is written yet."""
        sink = LineSink(self.file)
        try:
            self._stream(dict(self.scope.members()), sink, rate)
        except httpx.TransportError as error:
            sink.break_off()
            raise self._broken(error) from error
        self.point = ResumePoint(self.point.job, sink.size, sink.count, sink.count, None)
        self._note(sink)

    def _stream(self, body: dict[str, object], sink: LineSink, rate: Rate) -> None:
        saved = sink.size
        path = self.client.indexes(self.name, "vectors", "export")
        with self.client.stream(path, body) as pieces:
            for piece in pieces:
                sink.feed(piece)
                self._tell(sink, rate)
                if sink.size - saved >= _SAVE_BYTES:
                    saved = sink.size
                    self._note(sink)
        sink.finish()
        self._tell(sink, rate)

    def _note(self, sink: LineSink) -> None:
        """Save how far it has come."""
        point = self.point
        self.point = ResumePoint(point.job, sink.size, point.items, sink.count, point.cursor)
        self.save(self.point)

    def _tell(self, sink: LineSink, rate: Rate) -> None:
        text = f"{rate.text(sink.count)} of {self.point.items:,}"
        self.report(part_of(sink.count, self.point.items), text)

    def _broken(self, error: httpx.TransportError) -> click.ClickException:
        reason = reason_of(error)
        return click.ClickException(
            f"the stream broke off after {self.point.vectors:,} vectors: {reason}"
        )
