"""A snapshot's tasks end alike here and in a process of their own, which may die at any time."""

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.support.engines import create, upsert
from tests.support.inline import open_inline
from tests.support.snapshots import contents, points, restored, take
from tests.support.waiting import wait_until
from vicinal.engine.embedded import EngineOptions
from vicinal.errors import Corruption, Unavailable
from vicinal.snapshots import process
from vicinal.snapshots.process import ProcessWork
from vicinal.snapshots.service import Snapshots
from vicinal.snapshots.store import Store
from vicinal.snapshots.work import (
    AddRows,
    BeginLog,
    CopyDatabase,
    Done,
    InlineWork,
    PlaceFile,
    Task,
    VerifyFile,
    Work,
    WorkFailed,
)
from vicinal.storage import files

KINDS: list[Callable[[], Work]] = [InlineWork, ProcessWork]


@pytest.fixture(params=KINDS, ids=["here", "in a process"])
def work(request: pytest.FixtureRequest) -> Iterator[Work]:
    with closing(request.param()) as work:
        yield work


def component(path: Path) -> files.Seal:
    return files.write(path, "kind", {"array": np.arange(10_000)})


def test_a_file_is_linked_or_copied_and_verified(work: Work, tmp_path: Path) -> None:
    seal = component(tmp_path / "a")

    def place(target: str, *, copies: bool) -> Task:
        source, path = str(tmp_path / "a"), str(tmp_path / target)
        return PlaceFile(source, path, "kind", seal.size, seal.checksum, copies)

    assert work.perform(place("linked", copies=False)) == Done(is_linked=True)
    assert work.perform(place("copied", copies=True)) == Done(is_linked=False)
    assert (tmp_path / "linked").samefile(tmp_path / "a")
    assert (tmp_path / "copied").read_bytes() == (tmp_path / "a").read_bytes()


def test_each_failure_keeps_its_kind_and_the_next_task_is_done(work: Work, tmp_path: Path) -> None:
    seal = component(tmp_path / "a")
    raw = bytearray((tmp_path / "a").read_bytes())
    raw[40_000] ^= 1
    (tmp_path / "damaged").write_bytes(raw)

    with pytest.raises(Corruption, match=r"damaged between bytes 32768 and 49152"):
        work.perform(VerifyFile(str(tmp_path / "damaged"), "kind", seal.size, seal.checksum))
    with pytest.raises(FileNotFoundError):
        work.perform(
            PlaceFile(str(tmp_path / "no"), str(tmp_path / "b"), "kind", 1, 1, copies=True)
        )
    (tmp_path / "text").write_text("no database at all, and long enough to be told from one" * 9)
    with pytest.raises(Corruption):
        work.perform(CopyDatabase(str(tmp_path / "text"), str(tmp_path / "copied")))
    with pytest.raises(Unavailable):
        work.perform(BeginLog(str(tmp_path / "no" / "log"), "x"))
    assert work.perform(VerifyFile(str(tmp_path / "a"), "kind", seal.size, seal.checksum)) == Done()


def test_a_damaged_row_is_named(work: Work, tmp_path: Path) -> None:
    work.perform(BeginLog(str(tmp_path / "log"), "the log of docs"))

    with pytest.raises(Corruption, match="mutation 7 in the log of docs"):
        work.perform(AddRows([(7, "id", 1, 1, b"", None, None, 5)]))


def test_a_server_s_snapshot_is_made_by_a_process(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with closing(open_inline(data, EngineOptions(memtable_rows_max=20))) as engine:
        create(engine)
        upsert(engine, *points(0, 50))
        with closing(ProcessWork()) as work:
            snapshot = take(engine, data, tmp_path / "store", work=work)
        expected = contents(engine)

    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine_:
        assert contents(engine_) == expected


def test_a_process_that_is_killed_ends_the_snapshot_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    real = ProcessWork.perform

    def kill_at_log(work: ProcessWork, task: Task) -> Done:
        if isinstance(task, AddRows):
            pid = work.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        return real(work, task)

    monkeypatch.setattr(ProcessWork, "perform", kill_at_log)
    with closing(open_inline(data, EngineOptions(memtable_rows_max=20))) as engine:
        create(engine)
        upsert(engine, *points(0, 50))
        upsert(engine, *points(0, 3))
        with closing(ProcessWork()) as work, pytest.raises(WorkFailed, match="ended with status"):
            take(engine, data, tmp_path / "store", work=work)

    assert list(Store(tmp_path / "store").ids()) == []
    assert not [path for path in (tmp_path / "store" / "shared").rglob("*") if path.is_file()]


def test_a_process_ends_with_its_pipe(tmp_path: Path) -> None:
    seal = component(tmp_path / "a")
    with closing(ProcessWork()) as work:
        work.perform(VerifyFile(str(tmp_path / "a"), "kind", seal.size, seal.checksum))
        pid = work.pid
    assert pid is not None

    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(is_gone)


@pytest.mark.skipif(sys.platform == "win32", reason="has no niceness")
def test_the_process_is_of_low_priority_before_it_imports_anything(tmp_path: Path) -> None:
    folder = tmp_path / "vicinal" / "snapshots"
    folder.mkdir(parents=True)
    (folder / "process.py").write_text(
        "import os\ndef main(): pass\nprint(os.nice(0))\n", encoding="utf-8"
    )
    command = [sys.executable, "-s", "-c", process.START, str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert int(done.stdout) == min(os.nice(0) + process.NICENESS, 19)


def test_the_process_leaves_the_disk_to_others_half_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[bool] = []
    monkeypatch.setattr(process, "InlineWork", lambda *, gives_way=False: made.append(gives_way))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))

    process.main()

    assert made == [True]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="NOT LOOKED AT: needs /proc")
def test_the_process_has_no_secret_of_the_servers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICINAL_TOKEN", "a secret")
    seal = component(tmp_path / "a")
    with closing(ProcessWork()) as work:
        work.perform(VerifyFile(str(tmp_path / "a"), "kind", seal.size, seal.checksum))
        environment = Path(f"/proc/{work.pid}/environ").read_bytes()

    assert b"VICINAL" not in environment


def test_a_server_that_stops_gives_up_the_snapshot_that_is_made_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = tmp_path / "data", tmp_path / "store"
    real, begun = ProcessWork.perform, threading.Event()

    def hold_at_log(work: ProcessWork, task: Task) -> Done:
        if isinstance(task, AddRows):
            assert work.pid is not None
            os.kill(work.pid, signal.SIGSTOP)  # as on a disk that does not answer
            begun.set()
        return real(work, task)

    monkeypatch.setattr(ProcessWork, "perform", hold_at_log)
    with (
        closing(open_inline(data, EngineOptions(memtable_rows_max=20))) as engine,
        ThreadPoolExecutor(1) as threads,
    ):
        create(engine)
        upsert(engine, *points(0, 50))
        upsert(engine, *points(0, 3))
        snapshots = Snapshots(engine, data, folder, "1")
        made = threads.submit(snapshots.create)
        assert begun.wait(60)
        snapshots.stop()

        with pytest.raises(WorkFailed, match="ended with status"):
            made.result(60)
        with pytest.raises(WorkFailed, match="ended with status"):
            snapshots.create()

    assert list(Store(folder).ids()) == []
    assert not [path for path in (folder / "shared").rglob("*") if path.is_file()]
