"""Neither a kill nor a full disk nor a damaged byte makes half a snapshot that verifies.

A process is killed at the calls that make, link, sync, rename and remove files; a disk is really
full, or seems so at any write; a byte of any file of a snapshot is flipped.
"""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import apply, create, upsert
from tests.support.inline import open_inline
from tests.support.snapshots import Contents, contents, points, restore, restored, take
from vicinal.d1 import Databases
from vicinal.d1.messages import Statement
from vicinal.engine import blob_files
from vicinal.engine.embedded import EngineOptions
from vicinal.errors import Corruption, InvalidInput, ResourceExhausted
from vicinal.model import CreateMetadataIndex, Delete, IndexType, MetadataIndex
from vicinal.snapshots.store import Store
from vicinal.snapshots.verifying import verify_snapshots
from vicinal.tokens import Permission, Tokens

OPTIONS = EngineOptions(memtable_rows_max=20)
FIRST = "20260101-000000-000001"
SEED = 20261128


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """A folder with a data folder and a store with one older snapshot, and what is in the data."""
    folder = tmp_path_factory.mktemp("made")
    data = folder / "data"
    with closing(open_inline(data, OPTIONS)) as engine:
        create(engine)
        apply(engine, CreateMetadataIndex(MetadataIndex("color", IndexType.STRING)))
        upsert(engine, *points(0, 40))
        databases = Databases(data / "d1")
        databases.execute("acme", "texts", [Statement("CREATE TABLE t(x)")])
        databases.stop()
        with closing(Tokens(data / "tokens.db")) as tokens:
            tokens.create("laptop", Permission.WRITE)
        take(engine, data, folder / "store", FIRST, copies=True)
        apply(engine, Delete(["v0003"]))
        upsert(engine, *points(40, 60, "blue"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blob_files, "FILE_BYTES_MIN", 300)
            upsert(engine, *points(60, 75))
        expected = contents(engine)
    return folder, expected


@pytest.fixture
def folder(made: tuple[Path, Contents], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


def run(folder: Path, kill_at: int, *words: str) -> subprocess.CompletedProcess[str]:
    module = "tests.support.snapshot_worker"
    command = [sys.executable, "-m", module, str(folder / "data"), str(folder / "store")]
    return subprocess.run(
        [*command, str(kill_at), *words], capture_output=True, text=True, check=False, timeout=300
    )


def problems_of(store: Store) -> list[str]:
    with store.locked():
        report = verify_snapshots(store, store.ids())
    return [str(damage) for damage in report.damages]


def check_all_verify(store: Store, made: tuple[Path, Contents], at: int, new: Path) -> None:
    """Whatever is called a snapshot is a whole one, and the next one removes what is left over."""
    assert problems_of(store) == [], at
    assert set(store.ids()) <= {FIRST, "20300101-000000-00000f"}, at
    assert FIRST in store.ids(), at
    data = store.folder.parent / "data"
    with closing(open_inline(data, OPTIONS)) as engine:
        assert contents(engine) == made[1]
        last = take(engine, data, store.folder, "20310101-000000-00000f")
    assert not list(store.snapshots.glob("*.part")), at
    assert not list(store.folder.rglob("*.tmp")), at
    with restored(store.folder, last.id, new) as engine:
        assert contents(engine) == made[1]


@pytest.mark.parametrize("share", [0.3, 0.8, 0.97])
def test_a_kill_at_a_point_of_a_snapshot(
    made: tuple[Path, Contents], folder: Path, tmp_path: Path, share: float
) -> None:
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    count = int(run(whole, 0).stdout)

    ended = run(folder, max(1, int(share * count)))

    assert ended.returncode == -signal.SIGKILL, ended.stderr
    check_all_verify(Store(folder / "store"), made, int(share * count), tmp_path / "new")


@pytest.mark.slow
def test_a_kill_at_every_point_of_a_snapshot(made: tuple[Path, Contents], tmp_path: Path) -> None:
    for at in range(1, 10_000):
        folder = Path(shutil.copytree(made[0], tmp_path / "copy"))
        ended = run(folder, at)
        if ended.returncode == 0:
            break
        check_all_verify(Store(folder / "store"), made, at, tmp_path / "new")
        shutil.rmtree(folder)
    assert at > 20


@pytest.mark.parametrize("at", [1, 4])
def test_a_kill_while_a_snapshot_is_deleted_leaves_the_others(
    made: tuple[Path, Contents], folder: Path, at: int
) -> None:
    store = Store(folder / "store")
    with closing(open_inline(folder / "data", OPTIONS)) as engine:
        second = take(engine, folder / "data", store.folder, "20260101-000000-000002")

    assert run(folder, at, FIRST).returncode == -signal.SIGKILL

    assert problems_of(store) == []
    assert second.id in store.ids()
    with restored(store.folder, second.id, folder / "new") as engine:
        assert contents(engine) == made[1]


@pytest.mark.parametrize("share", [0.2, 0.6, 0.86, 0.93, 0.99])
def test_a_kill_at_a_point_of_a_restore_leaves_no_half_of_a_server(
    made: tuple[Path, Contents], folder: Path, share: float
) -> None:
    with closing(open_inline(folder / "data", OPTIONS)) as engine:
        snapshot = take(engine, folder / "data", folder / "store")
    target = folder / "new"
    count = int(run(folder, 0, snapshot.id, str(folder / "whole")).stdout)

    ended = run(folder, int(share * count), snapshot.id, str(target))

    assert ended.returncode == -signal.SIGKILL, ended.stderr
    names = {path.name for path in target.iterdir()}
    if "catalog.db" in names:
        with closing(open_inline(target, OPTIONS)) as engine:
            assert contents(engine) == made[1]
        return
    with pytest.raises(Corruption, match="restore that was not finished"):
        open_inline(target, OPTIONS)
    assert {path.name for path in target.iterdir()} == names
    if names == {"restoring"}:
        with restored(folder / "store", snapshot.id, target) as again:
            assert contents(again) == made[1]
    else:
        with pytest.raises(InvalidInput, match="not empty"):
            restore(folder / "store", snapshot.id, target)


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_at_any_sync_leaves_nothing(
    made: tuple[Path, Contents],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    for_good: bool,
    code: int,
) -> None:
    store = Store(folder / "store")
    before = {path for path in store.folder.rglob("*") if path.is_file()}
    real, count = os.fsync, 0

    def fail(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == at or (for_good and count > at):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    with closing(open_inline(folder / "data", OPTIONS)) as engine:
        for at in range(1, 1_000):
            count = 0
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", fail)
                try:
                    take(engine, folder / "data", store.folder, copies=True)
                except ResourceExhausted:
                    pass
                else:
                    break
            names = set(store.ids())
            if names != {FIRST}:  # it had its name when its folder could not be synced
                break
            assert {path for path in store.folder.rglob("*") if path.is_file()} == before, at
        assert at > 5
        assert problems_of(store) == []
        assert contents(engine) == made[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    made = mount and subprocess.run(command, capture_output=True, check=False)
    if not made or made.returncode:
        pytest.skip("NO DISK CAN BE MOUNTED HERE, WHICH TAKES LINUX AND ITS ROOT USER")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_disk_that_is_really_full_refuses_the_snapshot_and_the_next_one_succeeds(
    made: tuple[Path, Contents], folder: Path, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    store = Store.create(small_disk / "store")
    with closing(open_inline(folder / "data", OPTIONS)) as engine:
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(free - 40_000))
        with pytest.raises(ResourceExhausted):
            take(engine, folder / "data", store.folder)
        assert list(store.ids()) == []
        assert not list(store.snapshots.iterdir())
        upsert(engine, *points(0, 1))  # the server's own disk is another one

        ballast.unlink()
        snapshot = take(engine, folder / "data", store.folder)
        expected = contents(engine)

    assert snapshot.linked_bytes == 0  # another file system
    assert problems_of(store) == []
    with restored(store.folder, snapshot.id, folder / "new") as engine:
        assert contents(engine) == expected


def test_one_damaged_byte_anywhere_is_named(folder: Path) -> None:
    store = Store(folder / "store")
    with closing(open_inline(folder / "data", OPTIONS)) as engine:
        take(engine, folder / "data", store.folder, copies=True)
    assert problems_of(store) == []
    random_ = random.Random(SEED)
    paths = [path for path in (*store.snapshots.rglob("*"), *store.shared.rglob("*"))
             if path.is_file()]  # fmt: skip
    assert len(paths) > 15
    for path in paths:
        raw = path.read_bytes()
        for at in {0, len(raw) - 1, *random_.sample(range(len(raw)), 3)}:
            damaged = bytearray(raw)
            damaged[at] ^= 1 << random_.randrange(8)
            path.write_bytes(damaged)

            messages = problems_of(store)

            name = str(path.relative_to(store.folder))
            assert any(name in message for message in messages), (SEED, name, at)
            if "shared/" in name and "/d1/" not in name:
                assert any("index acme/docs" in message for message in messages)
        path.write_bytes(raw)
    for path in paths:
        path.rename(path.with_name("away"))
        assert problems_of(store), path
        path.with_name("away").rename(path)


def test_a_damaged_manifest_keeps_shared_files_from_being_removed(folder: Path) -> None:
    store = Store(folder / "store")
    path = store.own(FIRST) / "manifest"
    raw = path.read_bytes()
    path.write_bytes(raw[:-20] + b"?" + raw[-19:])
    before = {each for each in store.shared.rglob("*") if each.is_file()}

    with pytest.raises(Corruption):
        store.manifest(FIRST)
    with closing(open_inline(folder / "data", OPTIONS)) as engine:
        upsert(engine, *points(0, 1))
        take(engine, folder / "data", store.folder)

    assert before <= {each for each in store.shared.rglob("*") if each.is_file()}
