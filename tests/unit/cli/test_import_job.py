"""An import acknowledges each batch once and in order, and goes on after the last one it has."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
import numpy as np
import pytest

from vicinal.cli import import_job, resume
from vicinal.cli.client import Client, IndexConfigResponse, IndexResponse
from vicinal.cli.import_job import ImportedFile, ImportJob, RejectedRows
from vicinal.cli.import_sending import VectorSender
from vicinal.daemon_threads import DaemonThreads
from vicinal.model import VectorBatch
from vicinal.readers.base import NumberedPlaces, Position, RejectedRow, RowBatch

INDEX = IndexResponse("docs", IndexConfigResponse(2, "cosine"), "2026-01-01")
WITHIN_S = 60.0

Hook = Callable[[], object]


class Server(httpx.BaseTransport):
    """Takes batches of one vector.

    Attributes:
        written: The ids, in the order in which their bodies ended.
        before: Id -> called before its batch is written.
        refused: Ids whose batches are refused.
    """

    def __init__(self) -> None:
        self.written: list[str] = []
        self.before: dict[str, Hook] = {}
        self.refused: set[str] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = msgspec.json.decode(request.read().partition(b"\n")[0])["ids"][0]
        self.before.get(name, lambda: None)()
        if name in self.refused:
            problem = {"code": 40041, "message": "the disk is full"}
            return httpx.Response(500, json={"success": False, "errors": [problem]})
        self.written.append(name)
        return httpx.Response(200, json={"success": True, "result": {"mutationId": "m"}})


class Reader:
    """Reads batches of one vector, each the end of a document; `before` is called before each."""

    unit = "row"

    def __init__(self, rejected: Sequence[int], count: int, before: dict[int, Hook]) -> None:
        self._rejected = rejected
        self._count = count
        self._before = before

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        for number in range(start.number, self._count):
            self._before.get(number, lambda: None)()
            name = f"v{number}"
            vectors = VectorBatch([name], np.ones((1, 2), np.float32), [""], [b""])
            refused = (
                RejectedRow(f"row {number}", "bad", b"1") if number in self._rejected else None
            )
            yield RowBatch(
                vectors,
                (),
                NumberedPlaces("row", [number]),
                () if refused is None else (refused,),
                Position(0, number + 1),
                1.0,
                documents=((name, 1),),
            )


class Imports:
    """Runs of one import, one after the other.

    Attributes:
        finished: The documents that were told, of all runs.
        on_finished: Document -> called when it is told.
        before: Number of a batch -> called before it is read.
        count: Batches of the file.
        rejected: Numbers of batches with a row that is left out.
    """

    def __init__(self, folder: Path, server: Server) -> None:
        self.resume_path = folder / "resume"
        self.rejects_path = folder / "rejects.ndjson"
        self.finished: list[str] = []
        self.on_finished: dict[str, Hook] = {}
        self.before: dict[int, Hook] = {}
        self.count = 7
        self.rejected: Sequence[int] = ()
        self._server = server

    def run(self) -> ImportJob:
        """Import to the end; return the job."""
        reader = Reader(self.rejected, self.count, self.before)
        with httpx.Client(transport=self._server, base_url="http://test") as http:
            client = Client(http, "acme")
            job = ImportJob(
                client=client,
                files=[ImportedFile("in", None, "", lambda: (None, reader))],
                job="job",
                resume_path=self.resume_path,
                sender=VectorSender(client, INDEX, "upsert", skips_bad=True),
                embed=None,
                rejected=RejectedRows(self.rejects_path, skips=True),
                rows_max=1,
                waits=False,
                report=lambda _done, _text: None,
                finished=self._tell,
            )
            job.import_all(restart=False)
        return job

    def fail(self) -> str:
        """Import until it fails; return the reason."""
        with pytest.raises(click.ClickException) as failure:
            self.run()
        return failure.value.message

    def acknowledged(self) -> tuple[int, int]:
        """Return the batches and vectors of the resume point that is saved."""
        point = resume.load(self.resume_path)
        return (0, 0) if point is None else (point.items, point.vectors)

    def _tell(self, documents: Sequence[tuple[str, int]]) -> bool:
        for name, _ in documents:
            self.finished.append(name)
            self.on_finished.get(name, lambda: None)()
        return False


class Threads(DaemonThreads):
    """Threads whose calls have the outcomes that a test makes of them, by their number."""

    def __init__(self, count: int, name: str) -> None:
        super().__init__(count, name)
        self._count = 0

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        self._count += 1
        return self.made(self._count - 1, super().submit(call))

    def made(self, number: int, outcome: Future[Any]) -> Future[Any]:
        raise NotImplementedError


class Interrupted(Future[Any]):
    """The outcome of another future; who first waits for it is interrupted instead."""

    def __init__(self, other: Future[Any], on_interrupt: Hook) -> None:
        super().__init__()
        self._on_interrupt: Hook | None = on_interrupt
        self._interrupted = threading.get_ident()
        other.add_done_callback(lambda done: self.set_result(done.result()))

    def result(self, timeout: float | None = None) -> Any:
        if self._on_interrupt is not None and threading.get_ident() == self._interrupted:
            call, self._on_interrupt = self._on_interrupt, None
            call()
            raise KeyboardInterrupt
        return super().result(timeout)


def interrupt() -> None:
    raise KeyboardInterrupt


def fail() -> None:
    raise click.ClickException("it cannot be deleted")


def names(first: int, last: int) -> list[str]:
    return [f"v{number}" for number in range(first, last)]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def imports(tmp_path: Path, server: Server) -> Imports:
    return Imports(tmp_path, server)


def test_nothing_is_skipped_or_written_twice_when_three_batches_wait_at_an_interruption(
    imports: Imports, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are on their way and one waits for them, none of which has been written."""
    released = threading.Event()
    server.before["v2"] = lambda: released.wait(WITHIN_S)
    seen: list[object] = []

    def on_interrupt() -> None:
        seen.append((list(server.written), imports.acknowledged()))
        released.set()

    class Some(Threads):
        def made(self, number: int, outcome: Future[Any]) -> Future[Any]:
            return Interrupted(outcome, on_interrupt) if number == 2 else outcome

    with monkeypatch.context() as patch:
        patch.setattr(import_job, "DaemonThreads", Some)
        complaint = imports.fail()

    assert seen == [(names(0, 2), (2, 2))]
    assert complaint.startswith("interrupted. 5 vectors are written; the same command goes on")
    assert imports.acknowledged() == (5, 5)
    job = imports.run()
    assert server.written == imports.finished == names(0, 7)
    assert job.point.vectors == 7


def test_a_request_that_is_not_answered_does_not_hold_up_an_interruption(
    imports: Imports, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_job, "_INTERRUPT_S", 0.0)
    begun, released, is_over = threading.Event(), threading.Event(), threading.Event()

    def held() -> None:
        begun.set()
        released.wait(WITHIN_S)
        is_over.set()

    def interrupt_then() -> None:
        assert begun.wait(WITHIN_S)
        interrupt()

    server.before["v2"] = held
    imports.before[4] = interrupt_then

    complaint = imports.fail()

    assert not is_over.is_set()
    released.set()
    assert is_over.wait(WITHIN_S)  # before the next test
    assert complaint.startswith("interrupted. 2 vectors are written; the same command goes on")
    assert imports.acknowledged() == (2, 2)


def test_a_batch_whose_acknowledgement_fails_comes_again_with_all_behind_it(
    imports: Imports, server: Server
) -> None:
    imports.on_finished["v1"] = fail

    assert imports.fail().startswith("it cannot be deleted\n1 vectors are written")

    assert imports.finished == ["v0", "v1"]
    assert imports.acknowledged() == (1, 1)
    imports.on_finished.clear()
    job = imports.run()
    assert imports.finished == ["v0", *names(1, 2), *names(1, 7)]
    assert server.written[-6:] == names(1, 7)
    assert job.point.vectors == 7


def test_a_resume_point_is_saved_after_each_batch_and_not_in_the_end_alone(
    imports: Imports,
) -> None:
    """Two batches may be on their way while one is handed over and the next is read."""
    seen: list[int] = []

    def look(number: int) -> Hook:
        return lambda: seen.append(imports.acknowledged()[0] - (number - 3))

    imports.before = {number: look(number) for number in range(3, 7)}

    imports.run()

    assert len(seen) == 4
    assert min(seen) >= 0
    assert not imports.resume_path.exists()


def test_rows_left_out_are_counted_and_written_once_however_an_import_goes_on(
    imports: Imports, server: Server
) -> None:
    imports.rejected = (1, 2, 5)
    is_read = threading.Event()
    imports.before[3] = is_read.set
    server.before["v1"] = lambda: is_read.wait(WITHIN_S)  # so row 2 is known before it is written
    server.refused = {"v2"}

    assert "the disk is full" in imports.fail()

    assert imports.acknowledged() == (2, 2)
    server.refused.clear()
    job = imports.run()
    assert job.rejected.count == 3
    lines = imports.rejects_path.read_text().splitlines()
    assert [json.loads(line)["place"] for line in lines] == ["row 1", "row 2", "row 5"]


@pytest.mark.parametrize("is_named", [True, False])
def test_a_file_of_rejects_that_is_gone_or_new_gets_the_rows_of_this_run(
    imports: Imports, server: Server, is_named: bool
) -> None:
    imports.rejected = (0, 5)
    server.refused = {"v3"}
    imports.fail()
    server.refused.clear()
    if is_named:
        imports.rejects_path.write_text("")
    else:
        imports.rejects_path.unlink()

    assert imports.run().rejected.count == 2

    (line,) = imports.rejects_path.read_text().splitlines()
    assert json.loads(line)["place"] == "row 5"
