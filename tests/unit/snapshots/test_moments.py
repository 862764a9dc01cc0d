"""A snapshot is one moment of each index's log, while others write, seal and merge."""

import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import DOCS, apply, batch, create, upsert
from tests.support.inline import open_inline
from tests.support.snapshots import Contents, contents, points, restored, take
from vicinal.engine import blob_files
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.pins import Pins
from vicinal.errors import Unavailable
from vicinal.model import Delete, IndexAddress, Mutation, Seqno, Upsert
from vicinal.snapshots import sinks
from vicinal.snapshots.store import Store
from vicinal.storage.files import Seal

WRITERS = 3
INDEXES = (DOCS, IndexAddress("umbrella", "faq"))


class History:
    """What was acknowledged of each index, by seqno."""

    def __init__(self) -> None:
        self.mutations: dict[IndexAddress, dict[int, Mutation]] = {each: {} for each in INDEXES}

    def note(self, address: IndexAddress, seqno: int, mutation: Mutation) -> None:
        self.mutations[address][seqno] = mutation

    def acknowledged(self, address: IndexAddress) -> int:
        return max(self.mutations[address], default=0)

    def state_at(self, address: IndexAddress, last: int) -> dict[str, tuple[list[float], bytes]]:
        """Replay all mutations up to one."""
        state: dict[str, tuple[list[float], bytes]] = {}
        for seqno in range(1, last + 1):
            mutation = self.mutations[address][seqno]
            if isinstance(mutation, Delete):
                for name in mutation.ids:
                    state.pop(name, None)
            else:
                assert isinstance(mutation, Upsert)
                rows = mutation.batch
                for name, values, metadata in zip(
                    rows.ids, rows.values, rows.metadata, strict=True
                ):
                    state[name] = values.tolist(), metadata
        return state


def write(engine: EmbeddedEngine, history: History, writer: int, is_over: threading.Event) -> None:
    number = 0
    while not is_over.is_set():
        address = INDEXES[(writer + number) % len(INDEXES)]
        first = 37 * number % 300
        mutation: Mutation = Upsert(batch(*points(first, first + 13, f"{writer}-{number}")))
        if number % 5 == 4:
            mutation = Delete([f"v{n:04}" for n in range(first, first + 20, 3)])
        accepted = engine.append(address, mutation, wait_s=60).result()
        history.note(address, accepted.seqno, mutation)
        number += 1


@pytest.mark.parametrize("file_bytes_min", [300, 1 << 20])
def test_a_snapshot_under_writers_equals_one_moment_of_each_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_bytes_min: int
) -> None:
    monkeypatch.setattr(blob_files, "FILE_BYTES_MIN", file_bytes_min)
    options = EngineOptions(memtable_rows_max=120, memtables_max=100, idle_s=0.05)
    history, snapshots = History(), []
    with closing(EmbeddedEngine.open(tmp_path / "data", options)) as engine:
        for address in INDEXES:
            create(engine, address)
        is_over = threading.Event()
        writers = [
            threading.Thread(target=write, args=(engine, history, writer, is_over))
            for writer in range(WRITERS)
        ]
        for thread in writers:
            thread.start()
        try:
            for _ in range(4):
                before = {address: history.acknowledged(address) for address in INDEXES}
                snapshots.append((before, take(engine, tmp_path / "data", tmp_path / "store")))
        finally:
            is_over.set()
            for thread in writers:
                thread.join()

    for before, snapshot in snapshots:
        assert not snapshot.missing
        with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
            for part, address in zip(snapshot.indexes, INDEXES, strict=True):
                status = engine.status(address)
                assert status.applied_mutation == part.mutation_id
                assert status.applied_seqno == part.seqno
                assert part.seqno >= before[address]
                found = contents(engine, address)
                assert {name: (row[0], row[2]) for name, row in found.items()} == (
                    history.state_at(address, part.seqno)
                )


def test_segments_and_files_that_are_being_copied_outlive_a_merge_and_a_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_files, "FILE_BYTES_MIN", 300)
    data = tmp_path / "data"
    unmerged = EngineOptions(memtable_rows_max=20, merges=False)
    with closing(open_inline(data, unmerged)) as before:
        create(before)
        for first in range(0, 60, 20):
            upsert(before, *points(first, first + 20))
        upsert(before, *points(100, 115))
    real = sinks.StoreSink.add_component
    states: list[Contents] = []

    def merge_first(sink: sinks.StoreSink, name: str, source: Path, kind: str, seal: Seal) -> None:
        if not states:
            states.append(contents(engine))
            old = set((source.parents[1]).iterdir())
            apply(engine, Delete(["v0005"]))
            engine.compact(DOCS)
            assert old < set((source.parents[1]).iterdir())  # pinned, and a new one beside them
        real(sink, name, source, kind, seal)

    with closing(open_inline(data, EngineOptions(memtable_rows_max=20))) as engine:
        monkeypatch.setattr(sinks.StoreSink, "add_component", merge_first)
        snapshot = take(engine, data, tmp_path / "store")
        folder = data / "indexes" / engine.get_index(DOCS).id
        assert len(list((folder / "segments").iterdir())) == 1  # the others are gone by now

    assert not snapshot.missing
    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as after:
        assert contents(after) == states[0]


def test_an_index_that_is_deleted_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    real = sinks.StoreSink.add_component

    def delete_first(sink: sinks.StoreSink, name: str, source: Path, kind: str, seal: Seal) -> None:
        if DOCS.name in {index.name for index in engine.list_indexes(DOCS.account)}:
            engine.delete_index(DOCS)
        real(sink, name, source, kind, seal)

    with closing(open_inline(data, EngineOptions(memtable_rows_max=20))) as engine:
        for address in INDEXES:
            create(engine, address)
            upsert(engine, *points(0, 20), address=address)
        monkeypatch.setattr(sinks.StoreSink, "add_component", delete_first)
        snapshot = take(engine, data, tmp_path / "store")

    assert [index.name for index in snapshot.indexes] == ["faq"]
    assert not snapshot.missing


def test_a_pinned_index_is_not_closed_to_make_room_for_others(tmp_path: Path) -> None:
    with closing(open_inline(tmp_path, EngineOptions(open_indexes_max=1))) as engine:
        for address in INDEXES:
            create(engine, address)
        upsert(engine, *points(0, 3))

        with engine.pin(DOCS) as pinned:
            upsert(engine, *points(0, 3), address=INDEXES[1])
            assert sum(map(len, pinned.log_rows())) == 1

        assert pinned.moment.seqno == 1


def test_a_log_that_was_closed_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    engine = open_inline(tmp_path, EngineOptions())
    create(engine)
    upsert(engine, *points(0, 3))
    pinned = engine.pin(DOCS)
    engine.close()

    with pytest.raises(Unavailable, match="closed"):
        list(pinned.log_rows())


def test_a_segment_is_removed_with_the_last_pin_that_has_it() -> None:
    pins, removed = Pins(), []
    first, second = pins.add([1, 2], Seqno(5)), pins.add([2, 3], Seqno(7))

    for number in (1, 2, 4):
        pins.remove_segment(number, lambda number=number: removed.append(number))  # type: ignore[misc]
    assert removed == [4]
    assert pins.truncatable(Seqno(9)) == 5
    pins.release(first)
    assert removed == [4, 1]
    assert pins.truncatable(Seqno(9)) == 7
    pins.release(second)

    assert removed == [4, 1, 2]
    assert pins.truncatable(Seqno(9)) == 9
    assert pins.is_empty


def test_an_unfinished_snapshot_is_removed_by_the_next(tmp_path: Path) -> None:
    data, store = tmp_path / "data", Store.create(tmp_path / "store")
    with closing(open_inline(data, EngineOptions(memtable_rows_max=20))) as engine:
        create(engine)
        upsert(engine, *points(0, 20))
        first = take(engine, data, store.folder)
        shutil.copytree(store.own(first.id), store.unfinished("20200101-000000-000000"))
        orphan = store.shared / "00000000-0000-0000-0000-000000000000" / "segments.00000001.ids-9-f"
        orphan.parent.mkdir()
        orphan.write_bytes(b"123456789")
        second = take(engine, data, store.folder)

    assert not orphan.parent.exists()
    assert sorted(path.name for path in store.snapshots.iterdir()) == sorted([first.id, second.id])
