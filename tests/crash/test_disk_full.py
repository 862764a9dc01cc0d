"""A disk that is full or fails at any moment stops the writing of one index at most, and loses
nothing acknowledged.

The n-th commit, sync, rename, write or the like fails, for every n. Whatever was being done
ends with success or `Unavailable`, never with another error. The index is read as before, and
so is the other one, which serves all the while. Where the disk was full it is written to as soon
as there is room; where it failed otherwise, perhaps not until it is opened again.
"""

import errno
import io
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.crash import Disk, applied_seqno, read_all, watching
from tests.support.engines import DOCS, Record, apply, batch, create, found, upsert, vector
from tests.support.inline import InlineEngine, open_inline
from tests.support.waiting import wait_until
from tests.support.works import OTHER, PROBES, WORKS, Work, modelled, state_of, works_on
from vicinal.engine import blob_files
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.errors import Error, IndexNotFound, ResourceExhausted, Unavailable
from vicinal.model import Delete, IndexAddress, Query, Upsert


class Fault:
    """Fails the n-th time, and with `for_good` ever after.

    Args:
        at: Which call fails.
        for_good: Whether those after it do, too.
        is_full: Whether it is for want of space; else the disk does not answer.
    """

    def __init__(self, at: int, *, for_good: bool, is_full: bool) -> None:
        self._at, self._for_good, self._is_full = at, for_good, is_full
        self.count = 0
        self.is_over = False

    def __call__(self, name: str) -> None:
        if self.is_over:
            return
        self.count += 1
        if self.count == self._at or (self._for_good and self.count > self._at):
            if "commit" in name:
                error = sqlite3.OperationalError("failed")
                code = sqlite3.SQLITE_FULL if self._is_full else sqlite3.SQLITE_IOERR
                error.sqlite_errorcode = code
                raise error
            code = errno.ENOSPC if self._is_full else errno.EIO
            raise OSError(code, os.strerror(code))

    @property
    def has_struck(self) -> bool:
        return self.count >= self._at


def at_step(fault: Fault) -> Callable[[Disk, str], None]:
    def step(_: Disk, name: str) -> None:
        # A call fails instead of happening. Of a commit that fails, nobody knows whether it
        # has happened.
        if name.startswith("before") or name == "after commit":
            fault(name)

    return step


class FullFile(io.FileIO):
    """A new file of which some write fails, after a part of it was written."""

    fault: Fault

    def write(self, data: Any) -> int:
        try:
            self.fault("write")
        except OSError:
            super().write(bytes(data)[: len(data) // 2])
            raise
        return super().write(data)


@contextmanager
def failing(folder: Path, fault: Fault) -> Iterator[None]:
    """Let something fail in the block: calls, commits, and writes to new files."""
    real = Path.open

    def open_(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if "x" not in mode:
            return real(path, mode, *args, **options)
        raw = FullFile(path, mode.replace("b", ""))
        raw.fault = fault
        return io.BufferedWriter(raw, 64)  # small, so that each array is a write or more

    with watching(folder, at_step(fault)), patch.object(Path, "open", open_):
        yield
    fault.is_over = True


def outcome(act: Callable[[], object]) -> Error | None:
    """Return the typed error that something ends with; any other fails the test."""
    try:
        act()
    except Error as error:
        return error
    return None


def check_it_is_read_and_written(engine: Engine, *, is_full: bool) -> None:
    """Readers are answered; writers are too, or all are told why not."""
    readers = [
        lambda: engine.get(DOCS, ["v1"]),
        lambda: engine.list(DOCS, 5, None),
        lambda: read_all(engine, DOCS, PROBES),
        lambda: engine.status(DOCS),
    ]
    writers = [
        lambda: engine.append(DOCS, Delete(["never"])).result(60),
        lambda: engine.compact(DOCS),
    ]
    told = {type(outcome(reader)) for reader in readers}
    refused = {type(outcome(writer)) for writer in writers}
    assert (told, refused) in (
        ({type(None)}, {type(None)}),
        ({IndexNotFound}, {IndexNotFound}),
        *(() if is_full else [({type(None)}, {Unavailable}), ({Unavailable}, {Unavailable})]),
    )


def check_other_index_serves(engine: Engine) -> None:
    upsert(engine, Record("p", [2, 2]), address=OTHER)
    assert {each.id for each in engine.get(OTHER, ["o", "p"])} == {"o", "p"}
    apply(engine, Delete(["p"]), OTHER)
    engine.compact(OTHER)


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "failing"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("work", WORKS, ids=lambda each: each.name)
def test_work_that_fails_at_any_moment_stops_one_index_at_most(
    memory_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Work,
    for_good: bool,
    is_full: bool,
) -> None:
    for name in ("FILE_BYTES_MIN", "CHUNK_BYTES"):
        monkeypatch.setattr(blob_files, name, 300)  # so that vectors are in files
    before, after = modelled(work.prepare), modelled(work.prepare, work.act)
    is_about_engine = work.name == "close"
    for at in range(1, 1000, 4 if for_good else 1):
        folder = memory_path / str(at)
        engine = open_inline(folder, work.options)
        work.prepare(engine)
        fault = Fault(at, for_good=for_good, is_full=is_full)
        with failing(folder, fault):
            error = outcome(lambda: work.act(engine))  # noqa: B023 called at once
        assert error is None or isinstance(error, Unavailable), f"failure {at}"
        if not is_about_engine:
            check_it_is_read_and_written(engine, is_full=is_full)
            check_other_index_serves(engine)
        engine.close()

        check_after_opening(folder, [after] if error is None else [before, after], at)
        if not fault.has_struck:
            assert error is None
            break
    assert at > 1, "nothing ever failed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("NO DISK CAN BE MOUNTED HERE, WHICH TAKES LINUX AND ITS ROOT USER")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_disk_that_is_full_is_read_from_and_written_to_again_once_there_is_room(
    small_disk: Path,
) -> None:
    options = EngineOptions(memtable_rows_max=2_000)
    data = small_disk / "data"

    def write(address: IndexAddress) -> None:
        first = kept[address]
        rows = [Record(f"v{n}", range(n, n + 64)) for n in range(first, first + 500)]
        accepted = engine.append(address, Upsert(batch(*rows)), wait_s=60).result(60)
        kept[address] += 500
        assert engine.wait_applied(address, accepted.seqno, 60)

    kept: dict[IndexAddress, int] = {DOCS: 0, OTHER: 0}
    with closing(EmbeddedEngine.open(data, options)) as engine:
        for address in kept:
            create(engine, address, dimensions=64)
        refused = None
        while refused is None:
            for address in kept:
                try:
                    write(address)
                except ResourceExhausted as error:
                    refused = error

        for address, count in kept.items():  # reading goes on
            assert engine.status(address).vector_count == count
            assert [each.id for each in engine.get(address, ["v7"])] == ["v7"]
            nearest = Query(top_k=1, vector=vector(*range(9, 73)))
            assert found(engine, nearest, address) == ["v9"]

        engine.delete_index(OTHER)  # which makes room, of which a merge may take some for a while
        goal = kept[DOCS] + 2_000

        def is_written() -> bool:
            with suppress(ResourceExhausted):
                write(DOCS)
            return kept[DOCS] == goal

        wait_until(is_written)
    with closing(EmbeddedEngine.open(data, options)) as engine:
        assert [each.name for each in engine.list_indexes(DOCS.account)] == [DOCS.name]
        assert engine.status(DOCS).vector_count == kept[DOCS]


def check_after_opening(folder: Path, allowed: list[Any], at: int) -> None:
    with closing(open_inline(folder)) as engine:
        found = state_of(engine)
        # The checks have written to both indexes.
        assert found.indexes in [each.indexes for each in allowed], f"failure {at}"
        assert works_on(engine), f"failure {at}"


def test_opening_that_fails_at_any_moment_harms_nothing(memory_path: Path) -> None:
    work = WORKS[0]
    expected = modelled(work.prepare)
    with closing(open_inline(memory_path, work.options)) as engine:
        work.prepare(engine)
    for at in range(1, 1000):
        fault = Fault(at, for_good=False, is_full=False)
        engines: list[InlineEngine] = []
        with failing(memory_path, fault):
            error = outcome(lambda: engines.append(open_inline(memory_path)))  # noqa: B023 called at once
            if engines:
                error = error or outcome(lambda: state_of(engines[0]))  # noqa: B023 called at once
        assert error is None or isinstance(error, Unavailable), f"failure {at}"
        for engine in engines:
            engine.close()

        with closing(open_inline(memory_path)) as engine:
            assert state_of(engine).indexes == expected.indexes, f"failure {at}"
            assert applied_seqno(engine, DOCS) == expected.seqno
        if not fault.has_struck:
            break
    assert at > 1, "nothing ever failed"
