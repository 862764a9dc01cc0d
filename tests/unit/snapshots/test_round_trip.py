"""What is restored from a snapshot is all of a server, each index as of one moment of its log."""

import errno
import os
import shutil
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import DOCS, apply, create, upsert, vector
from tests.support.inline import open_inline
from tests.support.snapshots import contents, points, restore, restored, take, words
from vicinal.d1 import Databases
from vicinal.d1.messages import Statement
from vicinal.engine import blob_files
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.errors import AlreadyExists, Corruption, InvalidInput
from vicinal.filters.nodes import Operator, Predicate
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    Effort,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Query,
)
from vicinal.snapshots.restoring import RestoredIndex, restore_indexes
from vicinal.snapshots.store import D1, Store
from vicinal.snapshots.verifying import verify_snapshots
from vicinal.snapshots.work import InlineWork
from vicinal.tokens import REQUIRED_FILE, Permission, Tokens

OTHER = IndexAddress("umbrella", "faq")
COLOR = MetadataIndex("color", IndexType.STRING)
BODY = MetadataIndex("body", IndexType.TEXT, "english")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A server's folder: segments with dead rows, a log with files, a database, tokens."""
    folder = tmp_path / "data"
    with closing(open_inline(folder, EngineOptions(memtable_rows_max=20))) as engine:
        create(engine)
        config = IndexConfig(dimensions=2, metric=Metric.DOT_PRODUCT, effort=Effort.HIGH)
        engine.create_index(OTHER, config, "questions")
        apply(engine, CreateMetadataIndex(COLOR))
        upsert(engine, *points(0, 40))
        apply(engine, CreateMetadataIndex(BODY, backfill=True))
        apply(engine, Delete(["v0001", "v0021"]))
        engine.compact(DOCS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blob_files, "FILE_BYTES_MIN", 300)
            upsert(engine, *points(30, 45, "blue"))
        upsert(engine, *points(0, 3), address=OTHER)
        apply(engine, Delete(["v0002"]))
    databases = Databases(folder / "d1")
    statements = [Statement("CREATE TABLE t(x)"), Statement("INSERT INTO t VALUES ('kept')")]
    databases.execute("acme", "texts", statements)
    databases.stop()
    with closing(Tokens(folder / "tokens.db")) as tokens:
        tokens.create("laptop", Permission.WRITE)
    return folder


def engine_of(data: Path) -> "closing[EmbeddedEngine]":
    return closing(open_inline(data, EngineOptions(memtable_rows_max=20)))


def test_everything_of_a_server_comes_back(data: Path, tmp_path: Path) -> None:
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")
        docs, faq, found = contents(engine), contents(engine, OTHER), words(engine)
        was = {entry.address: entry.index for entry in engine.entries()}
        status = engine.status(DOCS)

    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
        assert contents(engine) == docs
        assert words(engine) == found
        assert all(found.values())
        assert contents(engine, OTHER) == faq
        assert engine.status(DOCS).applied_mutation == status.applied_mutation
        assert engine.status(DOCS).applied_seqno == status.applied_seqno
        assert list(engine.list_metadata_indexes(DOCS)) == [COLOR, BODY]
        filter_ = (Predicate("color", Operator.EQ, ("blue",)),)
        blue = engine.query(DOCS, Query(top_k=50, vector=vector(1.0, 0.0), filter=filter_))
        assert {match.id for match in blue.matches} == {f"v{n:04}" for n in range(30, 45)}
        for address, index in was.items():
            now = engine.get_index(IndexAddress(address.account, address.name))
            assert (now.config, now.description, now.created_at) == (
                index.config, index.description, index.created_at)  # fmt: skip
            assert now.id != index.id
        databases = Databases(tmp_path / "new" / "d1")
        (result,) = databases.execute("acme", "texts", [Statement("SELECT x FROM t")])
        databases.stop()
        assert result.rows == [("kept",)]
        with closing(Tokens(tmp_path / "new" / "tokens.db")) as tokens:
            assert [token.name for token in tokens.list()] == ["laptop"]
            assert tokens.are_needed()
        assert stat.S_IMODE((tmp_path / "new" / "tokens.db").stat().st_mode) == 0o600


def test_what_is_restored_goes_on_by_itself(data: Path, tmp_path: Path) -> None:
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")
        before = contents(engine)

    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
        upsert(engine, *points(100, 160))
        engine.compact(DOCS)
        assert len(contents(engine)) == len(before) + 60

    with restored(tmp_path / "store", snapshot.id, tmp_path / "again") as engine:
        assert contents(engine) == before
    with engine_of(data) as engine:
        assert contents(engine) == before


def test_the_second_snapshot_writes_no_segment_again(data: Path, tmp_path: Path) -> None:
    with engine_of(data) as engine:
        first = take(engine, data, tmp_path / "store", copies=True)
        upsert(engine, *points(200, 201))
        second = take(engine, data, tmp_path / "store", copies=True)

    logs = sum(index.log.size for index in second.indexes)
    assert second.tokens is not None
    assert second.written_bytes == logs + second.tokens.size
    assert second.written_bytes < first.written_bytes
    assert second.byte_count > second.written_bytes


def test_files_are_linked_where_they_can_be_and_copied_where_they_shall_be(
    data: Path, tmp_path: Path
) -> None:
    with engine_of(data) as engine:
        linked = take(engine, data, tmp_path / "linked")
        copied = take(engine, data, tmp_path / "copied", copies=True)

    sizes = sum(file.size for index in linked.indexes for file in index.files)
    assert (linked.linked_bytes, copied.linked_bytes) == (sizes, 0)
    numbers = {path.stat().st_ino for path in data.rglob("*")}
    for path in (tmp_path / "linked" / "shared").glob("*-*/*"):
        assert path.stat().st_ino in numbers
    for path in (tmp_path / "copied" / "shared").glob("*-*/*"):
        assert path.stat().st_ino not in numbers


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_where_links_are_refused_files_are_copied(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")
        expected = contents(engine)

    assert snapshot.linked_bytes == 0
    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
        assert contents(engine) == expected


def test_a_folder_that_is_not_empty_is_refused_by_what_it_holds(data: Path, tmp_path: Path) -> None:
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")
    target = tmp_path / "target"
    target.mkdir()
    (target / "thesis.tex").write_text("years")

    with pytest.raises(InvalidInput, match=r"not empty, it holds thesis\.tex"):
        restore(tmp_path / "store", snapshot.id, target)
    with pytest.raises(InvalidInput, match=r"holds catalog\.db, "):
        restore(tmp_path / "store", snapshot.id, data)

    assert [path.name for path in target.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_and_one_with_an_unfinished_restore_are_taken(
    data: Path, tmp_path: Path
) -> None:
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")
    target = tmp_path / "target"
    (target / "restoring" / "indexes").mkdir(parents=True)

    restore(tmp_path / "store", snapshot.id, target)

    assert not (target / "restoring").exists()
    with engine_of(target) as engine:
        assert contents(engine)


def test_damage_stops_a_restore_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store", copies=True)
    path = next((tmp_path / "store" / "shared").glob("*-*/*values*"))
    raw = bytearray(path.read_bytes())
    raw[70] ^= 1
    path.write_bytes(raw)

    with pytest.raises(Corruption, match="values"):
        restore(tmp_path / "store", snapshot.id, tmp_path / "new")

    assert list((tmp_path / "new").iterdir()) == []


def test_one_changed_bit_of_a_log_a_database_or_the_tokens_stops_a_restore(
    data: Path, tmp_path: Path
) -> None:
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")
    store = Store(tmp_path / "store")
    own = store.own(snapshot.id)
    assert snapshot.tokens is not None
    paths = [own / index.log.name for index in snapshot.indexes]
    paths += [store.shared / D1 / database.file.name for database in snapshot.databases]
    paths.append(own / snapshot.tokens.name)
    assert len(paths) == 4

    for path in paths:
        raw = path.read_bytes()
        at = len(raw) // 2
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(Corruption, match=f"{path.name} is damaged"):
            restore(store.folder, snapshot.id, tmp_path / "new")
        path.write_bytes(raw)
        assert list((tmp_path / "new").iterdir()) == []


def test_a_restored_server_needs_a_token_where_all_have_been_revoked(
    data: Path, tmp_path: Path
) -> None:
    with closing(Tokens(data / "tokens.db")) as tokens:
        for token in tokens.list():
            tokens.revoke(token.id)
    with engine_of(data) as engine:
        revoked = take(engine, data, tmp_path / "store")
        (data / "tokens.db").unlink()  # and where the database is lost
        lost = take(engine, data, tmp_path / "store")

    for snapshot, new in ((revoked, tmp_path / "revoked"), (lost, tmp_path / "lost")):
        restore(tmp_path / "store", snapshot.id, new)
        with closing(Tokens(new / "tokens.db", renews=True)) as tokens:
            assert tokens.list() == []
            assert tokens.are_needed()


def test_a_restored_server_needs_no_token_where_none_was_needed(data: Path, tmp_path: Path) -> None:
    (data / "tokens.db").unlink()
    (data / REQUIRED_FILE).unlink()
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")

    restore(tmp_path / "store", snapshot.id, tmp_path / "new")

    with closing(Tokens(tmp_path / "new" / "tokens.db")) as tokens:
        assert not tokens.are_needed()


@pytest.mark.parametrize("names", [("free", "docs"), ("free", "faq"), ("same", "same")])
def test_no_index_is_restored_where_one_of_the_names_is_taken(
    data: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    """The name of the second is that of an index in use, or of the first."""
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")
        before = {entry.address for entry in engine.entries()}
        account = OTHER.account if names[1] == OTHER.name else DOCS.account
        wanted = [
            RestoredIndex(part, IndexAddress(account, name))
            for part, name in zip(snapshot.indexes, names, strict=True)
        ]
        store = Store(tmp_path / "store")

        with store.locked(), pytest.raises(AlreadyExists, match=f"name '{names[1]}' is taken"):
            restore_indexes(store, snapshot, engine, wanted, InlineWork())

        assert {entry.address for entry in engine.entries()} == before


def test_one_changed_bit_of_any_file_is_named_when_a_snapshot_is_verified(
    data: Path, tmp_path: Path
) -> None:
    """Of a segment, a log, a database, the tokens and the manifest."""
    folder = tmp_path / "store"
    with engine_of(data) as engine:
        snapshot = take(engine, data, folder, copies=True)
    store = Store(folder)
    paths = [path for path in store.shared.glob("*/*") if path.is_file()]
    paths += [path for path in store.own(snapshot.id).iterdir() if path.is_file()]
    assert not verify_snapshots(store, [snapshot.id]).damages

    for path in paths:
        raw = path.read_bytes()
        at = len(raw) // 2
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        damages = verify_snapshots(store, [snapshot.id]).damages
        path.write_bytes(raw)
        assert {each.file for each in damages} == {str(path.relative_to(folder))}, path


def test_a_damaged_index_is_named_as_missing_and_the_others_are_kept(
    data: Path, tmp_path: Path
) -> None:
    with engine_of(data) as engine:
        docs = engine.get_index(DOCS)
    path = next((data / "indexes" / docs.id / "segments").glob("*/values"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")

    (missing,) = snapshot.missing
    assert missing.name == "index acme/docs"
    assert "values" in missing.reason
    assert [index.name for index in snapshot.indexes] == ["faq"]


def test_deleting_a_snapshot_keeps_the_files_that_another_has(data: Path, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    with engine_of(data) as engine:
        first = take(engine, data, store.folder, "20260101-000000-000001", copies=True)
        upsert(engine, *points(300, 345))
        engine.compact(DOCS)
        second = take(engine, data, store.folder, "20260101-000000-000002", copies=True)
        expected = contents(engine)

    with store.locked(writes=True):
        freed = store.delete(first.id)

    assert freed > 0
    assert list(store.ids()) == [second.id]
    with restored(store.folder, second.id, tmp_path / "new") as engine:
        assert contents(engine) == expected
    with store.locked(writes=True):
        store.delete(second.id)
    assert not [path for path in store.shared.rglob("*") if path.is_file()]


def test_a_folder_with_other_things_is_no_place_for_snapshots(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")

    with pytest.raises(InvalidInput, match=r"photo\.jpg"):
        Store.create(tmp_path)
    with pytest.raises(InvalidInput, match="no folder of snapshots"):
        Store(tmp_path)


def test_the_data_folder_may_be_gone(data: Path, tmp_path: Path) -> None:
    with engine_of(data) as engine:
        snapshot = take(engine, data, tmp_path / "store")
        expected = contents(engine)
    shutil.rmtree(data)

    with restored(tmp_path / "store", snapshot.id, tmp_path / "new") as engine:
        assert contents(engine) == expected
