"""A data folder opens for one process, loses no index, and closes whatever goes wrong."""

import gc
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import DOCS, Record, create, found, insert, vector
from tests.support.waiting import wait_until
from vicinal.engine import embedded as embedded_module
from vicinal.engine.catalog import Catalog, CatalogEntry
from vicinal.engine.compaction import Compaction
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.index import OpenIndex
from vicinal.engine.log import Log
from vicinal.errors import Corruption, Error, IndexExists, IndexNotFound, Unavailable
from vicinal.limits import Limits
from vicinal.model import Delete, IndexAddress, IndexConfig, Metric, Query, Seqno
from vicinal.segment.segment import SegmentView
from vicinal.storage import files
from vicinal.storage.sqlite import checksum

OTHER = IndexAddress("acme", "other")


@contextmanager
def opened(folder: Path, options: EngineOptions | None = None) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine.open(folder, options)
    try:
        yield engine
    finally:
        engine.close()


def with_a_vector(folder: Path, *addresses: IndexAddress) -> None:
    """Leave a closed data folder with these indexes, a vector in each."""
    with opened(folder) as engine:
        for address in addresses:
            create(engine, address)
            insert(engine, Record("a", [1, 2]), address=address)


def folder_of(folder: Path, address: IndexAddress) -> Path:
    catalog = Catalog(folder)
    catalog.close()
    return folder / "indexes" / catalog.get(address).folder


# Opening


def test_a_folder_is_made_with_those_above_it_and_every_name_is_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(files, "sync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    folder = tmp_path / "some" / "where"

    with opened(folder):
        parents = [tmp_path, tmp_path / "some", folder]
        assert {each.stat().st_ino for each in parents} <= synced


def test_a_folder_that_another_engine_has_open_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Unavailable, match="in use by another process"):
        EmbeddedEngine.open(tmp_path)


def test_a_folder_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match=f"cannot use {tmp_path / 'file' / 'data'}"):
        EmbeddedEngine.open(tmp_path / "file" / "data")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_indexes_whose_catalog_is_gone_are_not_swept_away(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """A folder without an entry in the catalog is a stray of a crash and is removed on
    opening. When the catalog itself was missing, a new and empty one was made, and every
    index was such a stray."""
    with_a_vector(tmp_path, DOCS)
    catalog = (tmp_path / "catalog.db").read_bytes()
    damage(tmp_path / "catalog.db")

    for _ in range(2):
        with pytest.raises(Corruption, match=r"catalog\.db is missing or empty"):
            EmbeddedEngine.open(tmp_path)

    (tmp_path / "catalog.db").write_bytes(catalog)
    with opened(tmp_path) as engine:
        assert [each.id for each in engine.get(DOCS, ["a"])] == ["a"]


def test_an_engine_that_did_not_open_lets_go_of_the_folder(tmp_path: Path) -> None:
    with_a_vector(tmp_path, DOCS)
    raw = (tmp_path / "catalog.db").read_bytes()
    (tmp_path / "catalog.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(Corruption, match=r"catalog\.db"):
        EmbeddedEngine.open(tmp_path)

    (tmp_path / "catalog.db").write_bytes(raw)

    opened(tmp_path).__enter__().close()


def test_strays_of_a_crash_are_swept_and_foreign_files_are_left(tmp_path: Path) -> None:
    with_a_vector(tmp_path, DOCS)
    stray = tmp_path / "indexes" / "00000000-stray"
    shutil.copytree(folder_of(tmp_path, DOCS), stray)
    (tmp_path / "indexes" / ".DS_Store").touch()

    with opened(tmp_path) as engine:
        assert not stray.exists()
        assert (tmp_path / "indexes" / ".DS_Store").exists()
        assert engine.status(DOCS).vector_count == 1


@pytest.mark.parametrize("missing", ["", "index.db", "segments"])
def test_an_index_of_which_a_part_is_missing_stops_alone_and_can_be_dropped(
    tmp_path: Path, missing: str
) -> None:
    with_a_vector(tmp_path, DOCS, OTHER)
    folder = folder_of(tmp_path, DOCS)
    broken = folder / missing
    shutil.rmtree(broken) if broken.is_dir() else broken.unlink()

    with opened(tmp_path) as engine:
        for _ in range(2):
            with pytest.raises(Corruption, match=str(folder)):
                engine.status(DOCS)
        assert engine.status(OTHER).vector_count == 1
        assert engine.get_index(DOCS).name == "docs"
        engine.delete_index(DOCS)
        create(engine)
        assert engine.status(DOCS).vector_count == 0


MANIFESTS: list[Callable[[dict[str, Any]], object]] = [
    lambda manifest: manifest.update(sealed_seqno=10**30),
    lambda manifest: manifest.update(sealed_at=10**30),
    lambda manifest: manifest.update(sealed_at=-(10**18)),
    lambda manifest: manifest["segments"][0].update(components={}),
]


@pytest.mark.parametrize("change", MANIFESTS)
def test_a_manifest_that_passes_its_checksum_and_cannot_be_costs_its_index_alone(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    with_a_vector(tmp_path, DOCS, OTHER)
    with opened(tmp_path) as engine:
        engine.compact(DOCS)
    with closing(sqlite3.connect(folder_of(tmp_path, DOCS) / "index.db")) as connection, connection:
        manifest = json.loads(connection.execute("SELECT document FROM manifest").fetchone()[0])
        change(manifest)
        written = json.dumps(manifest).encode()
        connection.execute(
            "UPDATE manifest SET document = ?, checksum = ?", (written, checksum(written))
        )

    with opened(tmp_path) as engine:
        for _ in range(2):
            with pytest.raises(Corruption, match=r"index\.db|holds what no index can"):
                engine.status(DOCS)
        assert engine.status(OTHER).vector_count == 1
        engine.delete_index(DOCS)


FIELDS: list[tuple[str, object]] = [
    ("accepted_at", 2**62),
    ("accepted_at", -(2**62)),
    ("accepted_at", "now"),
    ("accepted_at", b"now"),
    ("payload", 1.5),
    ("payload", "text"),
]


@pytest.mark.parametrize(("column", "written"), FIELDS)
def test_a_logged_mutation_that_passes_its_checksum_and_cannot_be_costs_its_index_alone(
    tmp_path: Path, column: str, written: object
) -> None:
    with_a_vector(tmp_path, DOCS, OTHER)
    with closing(sqlite3.connect(folder_of(tmp_path, DOCS) / "index.db")) as connection, connection:
        connection.execute(f"UPDATE mutation SET {column} = ?", (written,))
        *fields, _ = connection.execute("SELECT * FROM mutation").fetchone()
        connection.execute("UPDATE mutation SET checksum = ?", (checksum(*fields),))

    with opened(tmp_path) as engine:
        for _ in range(2):
            with pytest.raises(Corruption, match=r"index\.db|holds what no index can"):
                engine.status(DOCS)
        assert engine.status(OTHER).vector_count == 1
        engine.delete_index(DOCS)


def test_an_index_whose_files_cannot_be_read_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_vector(tmp_path, DOCS)

    def too_many_files(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with opened(tmp_path) as engine, monkeypatch.context() as patch:
        patch.setattr(embedded_module, "OpenIndex", too_many_files)
        with pytest.raises(Unavailable, match="Too many open files"):
            engine.status(DOCS)


def test_an_error_that_is_raised_again_and_again_does_not_grow(tmp_path: Path) -> None:
    with_a_vector(tmp_path, DOCS)
    (folder_of(tmp_path, DOCS) / "index.db").unlink()
    with opened(tmp_path) as engine:
        depths = []
        for _ in range(5):
            with pytest.raises(Corruption) as caught:
                engine.status(DOCS)
            depths.append(len(caught.traceback))

    assert len(set(depths[1:])) == 1


def test_many_threads_that_ask_for_an_index_at_once_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_vector(tmp_path, DOCS)
    built: list[object] = []

    def build(*args: object) -> OpenIndex:
        built.append(args)
        return OpenIndex(*args)  # type: ignore[arg-type]  # passes on what it is given

    monkeypatch.setattr(embedded_module, "OpenIndex", build)
    with opened(tmp_path) as engine:
        start = threading.Barrier(8)
        counts: list[int] = []

        def ask() -> None:
            start.wait()
            counts.append(engine.status(DOCS).vector_count)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert counts == [1] * 8
    assert len(built) == 1


# Creating and dropping


def test_a_name_that_is_taken_is_named_rather_than_a_limit(tmp_path: Path) -> None:
    with opened(tmp_path, EngineOptions(Limits(indexes_per_account_max=1))) as engine:
        create(engine)

        with pytest.raises(IndexExists):
            create(engine)


def test_of_two_that_create_one_name_at_once_one_does_and_the_other_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as engine:
        real = Log.create
        with monkeypatch.context() as patch:

            def overtaken(folder: Path) -> None:
                patch.undo()
                create(engine)
                real(folder)

            patch.setattr(Log, "create", overtaken)
            with pytest.raises(IndexExists):
                create(engine, dimensions=5)

        assert engine.get_index(DOCS).config.dimensions == 2
        assert len(list((tmp_path / "indexes").iterdir())) == 1


def test_an_index_that_cannot_be_made_leaves_the_engine_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(Log, "create", full)
            with pytest.raises(Unavailable, match="No space left"):
                create(engine)

        assert engine.list_indexes("acme") == []
        create(engine)
    with opened(tmp_path) as engine:
        assert engine.status(DOCS).vector_count == 0
        assert len(list((tmp_path / "indexes").iterdir())) == 1


def test_dropping_removes_the_folder_and_what_cannot_be_removed_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_vector(tmp_path, DOCS, OTHER)
    docs, other = folder_of(tmp_path, DOCS), folder_of(tmp_path, OTHER)
    with opened(tmp_path) as engine:
        engine.delete_index(DOCS)
        assert not docs.exists()

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", lambda *_args, **_options: None)
            engine.delete_index(OTHER)
        assert other.exists()
        with pytest.raises(IndexNotFound):
            engine.status(OTHER)

    with opened(tmp_path):
        assert not other.exists()


def test_an_index_that_may_or_may_not_be_dropped_acknowledges_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The commit failed, but what it wrote may be found on opening: then the index is gone.
    with_a_vector(tmp_path, DOCS, OTHER)

    def failing(_: Catalog, __: IndexAddress) -> CatalogEntry:
        raise Unavailable("disk full")

    with opened(tmp_path) as engine:
        assert engine.status(DOCS).vector_count == 1
        with monkeypatch.context() as patch:
            patch.setattr(Catalog, "remove", failing)
            with pytest.raises(Unavailable, match="disk full"):
                engine.delete_index(DOCS)

        with pytest.raises(Unavailable, match="disk full"):
            engine.append(DOCS, Delete(["a"]))
        assert engine.status(OTHER).vector_count == 1
    with opened(tmp_path) as engine:
        assert engine.status(DOCS).vector_count == 1


def during_the_first_lookup(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Run `act` when the next entry has been looked up, before it is used."""
    real = Catalog.get

    def get(catalog: Catalog, address: IndexAddress) -> CatalogEntry:
        monkeypatch.setattr(Catalog, "get", real)
        entry = real(catalog, address)
        act()
        return entry

    monkeypatch.setattr(Catalog, "get", get)


def test_an_index_dropped_while_it_is_looked_up_is_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_vector(tmp_path, DOCS)
    with opened(tmp_path) as engine:
        during_the_first_lookup(monkeypatch, lambda: engine.delete_index(DOCS))

        with pytest.raises(IndexNotFound, match="'docs'"):
            engine.append(DOCS, Delete(["a"]))

        assert list((tmp_path / "indexes").iterdir()) == []


def test_a_request_for_an_index_that_is_dropped_and_made_again_meanwhile_finds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_vector(tmp_path, DOCS)
    with opened(tmp_path) as engine:

        def replace() -> None:
            engine.delete_index(DOCS)
            create(engine)

        during_the_first_lookup(monkeypatch, replace)
        with pytest.raises(IndexNotFound):
            engine.append(DOCS, Delete(["a"]))

        assert engine.status(DOCS).applied_seqno == 0


def test_an_index_is_dropped_after_it_has_been_opened_by_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_vector(tmp_path, DOCS)
    opening, go_on = threading.Event(), threading.Event()

    def slowly(*args: object) -> OpenIndex:
        opening.set()
        assert go_on.wait(60)
        return OpenIndex(*args)  # type: ignore[arg-type]  # passes on what it is given

    monkeypatch.setattr(embedded_module, "OpenIndex", slowly)
    answers: list[object] = []
    with opened(tmp_path) as engine:

        def ask() -> None:
            try:
                answers.append(engine.status(DOCS).vector_count)
            except Error as error:
                answers.append(type(error))

        asking = threading.Thread(target=ask)
        dropping = threading.Thread(target=lambda: engine.delete_index(DOCS))
        asking.start()
        assert opening.wait(60)
        dropping.start()
        go_on.set()
        asking.join()
        dropping.join()

        assert answers in ([1], [IndexNotFound])
        assert list((tmp_path / "indexes").iterdir()) == []
        with pytest.raises(IndexNotFound):
            engine.status(DOCS)


def test_whoever_holds_a_dropped_index_is_told_that_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_vector(tmp_path, DOCS)
    held: list[OpenIndex] = []

    def build(*args: object) -> OpenIndex:
        held.append(OpenIndex(*args))  # type: ignore[arg-type]  # passes on what it is given
        return held[0]

    monkeypatch.setattr(embedded_module, "OpenIndex", build)
    with opened(tmp_path) as engine:
        engine.status(DOCS)
        (index,) = held

        engine.delete_index(DOCS)

        calls: list[Callable[[], object]] = [
            lambda: index.writer.append(Delete(["a"])),
            lambda: index.reader.get(["a"]),
            lambda: index.reader.prepare(Query(top_k=1, vector=vector(1, 1))),
            lambda: index.reader.list(1, None),
            lambda: index.applier.wait(Seqno(99), 30.0),
            index.reader.current,
            index.compact,
        ]
        for call in calls:
            with pytest.raises(IndexNotFound, match="'docs'"):
                call()


def test_an_id_finds_no_open_index_of_another_account_or_name(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        create(engine)
        insert(engine, Record("a", [1, 1]))
        alone, query = DOCS.of(engine.get_index(DOCS)), Query(top_k=1, vector=vector(1, 1))
        assert engine.query(alone, query).matches

        for other in (replace(alone, account="other"), replace(alone, name="other")):
            with pytest.raises(IndexNotFound):
                engine.query(other, query)


# Closing


def test_a_closed_engine_says_so_and_closing_again_does_nothing(tmp_path: Path) -> None:
    engine = EmbeddedEngine.open(tmp_path)
    create(engine)
    create(engine, OTHER)
    engine.status(DOCS)
    engine.close()
    engine.close()

    calls: list[Callable[[], object]] = [
        lambda: create(engine, IndexAddress("acme", "new")),
        lambda: engine.delete_index(DOCS),
        lambda: engine.append(DOCS, Delete(["a"])),
        lambda: engine.query(DOCS, Query(top_k=1, vector=vector(1, 1))),
        lambda: engine.status(OTHER),
        lambda: engine.compact(DOCS),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="closed"):
            call()
    with opened(tmp_path) as engine:
        assert len(engine.list_indexes("acme")) == 2


def test_an_index_looked_up_while_the_engine_closes_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_vector(tmp_path, DOCS)
    engine = EmbeddedEngine.open(tmp_path)
    during_the_first_lookup(monkeypatch, engine.close)

    with pytest.raises(Unavailable, match="closed"):
        engine.status(DOCS)

    with opened(tmp_path) as engine:
        assert found(engine, Query(top_k=1, vector=vector(1, 1))) == ["a"]


def test_an_index_that_cannot_be_closed_does_not_keep_the_others_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_a_vector(tmp_path, DOCS, OTHER)
    docs = folder_of(tmp_path, DOCS)
    real = Log.close

    def failing(log: Log, *, is_clean: bool = True) -> None:
        real(log, is_clean=is_clean)
        if log.path.parent == docs:
            raise OSError(28, "No space left on device")

    engine = EmbeddedEngine.open(tmp_path)
    assert engine.status(DOCS).vector_count == engine.status(OTHER).vector_count == 1
    with monkeypatch.context() as patch:
        patch.setattr(Log, "close", failing)
        engine.close()

    assert "index 'docs' was not closed cleanly" in caplog.text
    with opened(tmp_path) as engine:
        assert engine.status(DOCS).vector_count == engine.status(OTHER).vector_count == 1


def test_the_config_of_an_index_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        made = engine.create_index(DOCS, IndexConfig(7, Metric.DOT_PRODUCT, "p"), "a text")

    with opened(tmp_path) as engine:
        assert engine.get_index(DOCS) == made
        assert engine.status(DOCS).dimensions == 7


# What a dropped index leaves


def is_released(folder: Path) -> bool:
    return held(folder) == []


def held(folder: Path) -> list[str]:
    """Return the files of a folder that this process has open or mapped, removed ones too."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    mapped = [line.split(maxsplit=5)[-1] for line in maps]
    handles = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            handles.append(str(each.readlink()))
    return [each for each in (*mapped, *handles) if each.startswith(str(folder))]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_a_dropped_index_holds_no_file_of_it_so_that_the_disk_has_its_space_back(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, EngineOptions(idle_s=0.02)) as engine:
        create(engine, OTHER)
        insert(engine, Record("kept", [1, 1]), address=OTHER)
        gc.collect()
        gc.disable()  # what only a collection frees may stay for hours
        try:
            for kind in ("sealed", "in the memtable", "both"):
                create(engine)
                many = [Record(f"v{n}", [n, 1]) for n in range(40_000)]
                insert(engine, *many[:20_000])
                if kind != "in the memtable":
                    engine.compact(DOCS)
                if kind != "sealed":
                    insert(engine, *many)
                assert found(engine, Query(top_k=1, vector=vector(7, 1))) == ["v7"]
                assert engine.list(DOCS, 10, None).next_cursor is not None
                folder = tmp_path / "indexes" / engine.get_index(DOCS).id
                assert held(folder)

                engine.delete_index(DOCS)

                # What its background work has in hand is closed when that is done.
                wait_until(partial(is_released, folder))
        finally:
            gc.enable()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_an_index_that_is_dropped_while_its_files_are_looked_at_holds_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at, goes_on = threading.Event(), threading.Event()
    real = Compaction._views  # noqa: SLF001 - what it looks at is nowhere else

    def held_views(compaction: Compaction) -> Sequence[SegmentView]:
        views = real(compaction)
        if threading.current_thread().name == "vicinal-housekeeper" and views:
            looked_at.set()
            goes_on.wait(60)
        return views

    many = [Record(f"v{n}", [n, 1]) for n in range(40_000)]
    with opened(tmp_path, EngineOptions(idle_s=0.02, memtable_rows_max=100_000)) as engine:
        create(engine)
        insert(engine, *many[:1_000])
        engine.compact(DOCS)
        folder = tmp_path / "indexes" / engine.get_index(DOCS).id
        gc.collect()
        gc.disable()
        try:
            monkeypatch.setattr(Compaction, "_views", held_views)
            assert looked_at.wait(60)
            insert(engine, *many)
            assert list((folder / "blobs").iterdir())  # a file of the log, and of no segment yet
            engine.delete_index(DOCS)
            goes_on.set()

            wait_until(partial(is_released, folder))
        finally:
            goes_on.set()
            gc.enable()
