"""A folder of snapshots may be made and read by several at the same moment."""

import threading
from functools import partial
from pathlib import Path

import pytest

from tests.support.inline import open_inline
from tests.support.snapshots import take
from vicinal.daemon_threads import DaemonThreads
from vicinal.errors import Corruption, InvalidInput
from vicinal.snapshots import manifest
from vicinal.snapshots.store import MARKER, SnapshotNotFound, Store

MAKERS = 4
STORES = 50  # of these some are made at the same moment
FIRST, SECOND = "20260101-000000-000001", "20260101-000000-000002"


@pytest.fixture
def store(data: Path, tmp_path: Path) -> Store:
    """A store of two snapshots."""
    engine = open_inline(data)
    for snapshot_id in (FIRST, SECOND):
        take(engine, data, tmp_path / "store", snapshot_id)
    engine.close()
    return Store(tmp_path / "store")


def test_a_store_that_several_make_at_the_same_moment_is_made_once(tmp_path: Path) -> None:
    are_there = threading.Barrier(MAKERS)

    def make(number: int) -> Store:
        are_there.wait()
        return Store.create(tmp_path / f"{number}")

    with DaemonThreads(MAKERS, "makes") as threads:
        for number in range(STORES):
            made = [threads.submit(partial(make, number)) for _ in range(MAKERS)]
            assert {store.result().folder for store in made} == {tmp_path / f"{number}"}
            assert [path.name for path in (tmp_path / f"{number}").iterdir()] == [MARKER]


def test_what_a_crash_left_of_a_marker_is_no_other_thing_and_removed_by_a_writer(
    tmp_path: Path,
) -> None:
    (tmp_path / f"{MARKER}.0123456789abcdef.tmp").touch()
    (tmp_path / f"{MARKER}.tmp").touch()  # of an older version

    store = Store.create(tmp_path)
    with store.locked(writes=True):
        store.begin(FIRST)

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["lock", "shared", "snapshots", MARKER]


def test_a_folder_with_other_things_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "letter").touch()

    with pytest.raises(InvalidInput, match="holds other things, such as 'letter'"):
        Store.create(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_a_snapshot_is_made_and_one_deleted_while_they_are_listed(store: Store, data: Path) -> None:
    damages: list[Corruption] = []
    listed = store.manifests(damages.append)
    first = next(listed)
    engine = open_inline(data)
    third = take(engine, data, store.folder, "20260101-000000-000003")
    engine.close()
    with store.locked(writes=True):
        store.delete(SECOND)

    assert [first.id, *(snapshot.id for snapshot in listed)] == [FIRST]
    assert [snapshot.id for snapshot in store.manifests(damages.append)] == [FIRST, third.id]
    assert damages == []


def test_a_manifest_that_is_missing_is_damage_and_one_of_no_snapshot_is_not(store: Store) -> None:
    damages: list[Corruption] = []
    (store.own(FIRST) / manifest.FILE_NAME).unlink()

    assert [snapshot.id for snapshot in store.manifests(damages.append)] == [SECOND]
    assert [str(damage) for damage in damages] == [
        f"{store.own(FIRST) / manifest.FILE_NAME} is missing"
    ]
    with pytest.raises(SnapshotNotFound, match="has no snapshot '20260101-000000-000003'"):
        store.manifest("20260101-000000-000003")
