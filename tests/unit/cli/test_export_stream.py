"""A stream of lines that is cut anywhere loses no whole line and adds no half one."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, cast

import click
import httpx
import msgspec
import pytest

from vicinal.cli.client import ApiError, ApiResponse, Client
from vicinal.cli.export_stream import LineSink, StreamedExport
from vicinal.cli.resume import ResumePoint
from vicinal.cli.scopes import ScopeOptions
from vicinal.wire import envelope
from vicinal.wire.codes import ErrorResponse

LINES = [b'{"id":"%d","values":[%d.5]}\n' % (number, number) for number in range(7)]
TEXT = b"".join(LINES)
FAILURE = envelope.failure(ErrorResponse(503, 40097, "stopping")) + b"\n"


@pytest.mark.parametrize("size", [1, 2, 3, 10, 27, 28, 29, 1000])
def test_pieces_of_any_size_give_the_text(size: int) -> None:
    file = BytesIO()
    sink = LineSink(file)

    for first in range(0, len(TEXT), size):
        sink.feed(TEXT[first : first + size])
        assert file.getvalue() == TEXT[: sink.size]
        assert sink.count == TEXT[: sink.size].count(b"\n")
    sink.finish()

    assert (file.getvalue(), sink.size, sink.count) == (TEXT, len(TEXT), 7)


def test_a_stream_that_breaks_off_at_any_byte_leaves_its_whole_lines() -> None:
    for cut in range(len(TEXT) + 1):
        file = BytesIO()
        sink = LineSink(file)
        sink.feed(TEXT[:cut])
        assert sink.received == TEXT[:cut].count(b"\n")

        sink.break_off()

        whole = TEXT[: TEXT.rfind(b"\n", 0, cut) + 1]
        assert (file.getvalue(), sink.count) == (whole, whole.count(b"\n")), f"cut at {cut}"


@pytest.mark.parametrize("size", [1, 20, 1000])
@pytest.mark.parametrize("ends", ["finish", "break_off"])
def test_a_failure_at_the_end_is_raised_and_not_written(size: int, ends: str) -> None:
    file = BytesIO()
    sink = LineSink(file)
    text = TEXT + FAILURE
    for first in range(0, len(text), size):
        sink.feed(text[first : first + size])

    with pytest.raises(ApiError, match="stopping"):
        getattr(sink, ends)()

    assert file.getvalue() == TEXT


def test_an_end_within_a_line_is_no_end() -> None:
    sink = LineSink(BytesIO())
    sink.feed(TEXT + b'{"id"')

    with pytest.raises(click.ClickException, match="within a line"):
        sink.finish()


class CutServer:
    """Keeps a listing of `LINES` and breaks off each stream after so many bytes."""

    def __init__(self, *cuts: int, error: Exception | None = None) -> None:
        self.cuts = list(cuts)
        self.error = error or httpx.ReadError("reset")
        self.bodies: list[dict[str, Any]] = []

    def indexes(self, *path: str) -> str:
        return "/".join(path)

    def post(self, path: str, body: object) -> ApiResponse:
        vector = msgspec.Raw(LINES[0].rstrip())
        page = {"totalCount": len(LINES), "nextCursor": "c", "vectors": [vector]}
        return ApiResponse(msgspec.Raw(msgspec.json.encode(page)), (), is_visible=False)

    @contextmanager
    def stream(self, path: str, body: dict[str, Any]) -> Iterator[Iterator[bytes]]:
        self.bodies.append(body)
        text = b"".join(LINES[1 + body["skip"] :])
        yield self._pieces(text, self.cuts.pop(0) if self.cuts else len(text) + 1)

    def _pieces(self, text: bytes, cut: int) -> Iterator[bytes]:
        yield from (text[first : min(first + 9, cut)] for first in range(0, min(cut, len(text)), 9))
        if cut <= len(text):
            raise self.error


def export(server: CutServer, file: BytesIO, start: ResumePoint) -> tuple[Any, list[ResumePoint]]:
    saved: list[ResumePoint] = []
    client = cast(Client, server)
    streamed = StreamedExport(
        client, "docs", ScopeOptions(), file, start, saved.append, lambda _done, _text: None
    )
    return streamed, saved


def test_a_connection_that_breaks_at_any_byte_is_taken_up_after_the_last_whole_line() -> None:
    for cut in range(len(LINES[0]), len(TEXT) - len(LINES[0]) + 1):
        file, server = BytesIO(), CutServer(cut)
        streamed, saved = export(server, file, ResumePoint.start("job"))

        done = streamed.write_all()

        assert file.getvalue() == TEXT, f"cut at {cut}"
        assert (done.vectors, done.offset, done.items) == (7, len(TEXT), 7)
        assert server.bodies[1]["skip"] == TEXT[len(LINES[0]) :][:cut].count(b"\n")
        assert saved[-1] == done


def test_a_connection_that_brings_nothing_more_ends_the_export_with_a_point_to_go_on_from() -> None:
    file, server = BytesIO(), CutServer(60, 0)
    streamed, saved = export(server, file, ResumePoint.start("job"))

    with pytest.raises(click.ClickException, match="broke off after 3 vectors: reset"):
        streamed.write_all()

    assert file.getvalue() == b"".join(LINES[:3])
    assert (saved[-1].vectors, saved[-1].offset, saved[-1].cursor) == (3, file.tell(), "c")
    again, _ = export(CutServer(), file, saved[-1])
    again.write_all()
    assert file.getvalue() == TEXT


def test_an_interrupt_leaves_a_point_to_go_on_from() -> None:
    file = BytesIO()
    server = CutServer(60, error=KeyboardInterrupt())  # type: ignore[arg-type]  # as a signal raises it
    streamed, saved = export(server, file, ResumePoint.start("job"))

    with pytest.raises(KeyboardInterrupt):
        streamed.write_all()

    assert saved[-1].offset == len(b"".join(LINES[: saved[-1].vectors]))
    assert saved[-1].vectors >= 2
    file.seek(saved[-1].offset)
    file.truncate()
    again, _ = export(CutServer(), file, saved[-1])
    again.write_all()
    assert file.getvalue() == TEXT


def test_a_stream_of_fewer_vectors_than_were_listed_is_no_export() -> None:
    class Short(CutServer):
        def _pieces(self, text: bytes, cut: int) -> Iterator[bytes]:
            yield text[: -len(LINES[0])]

    streamed, _ = export(Short(), BytesIO(), ResumePoint.start("job"))

    with pytest.raises(click.ClickException, match="the server sent 6 of 7 vectors"):
        streamed.write_all()
