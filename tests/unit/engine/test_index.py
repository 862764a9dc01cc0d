"""An open index acknowledges what is durable, never stands still, and stops when it must."""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.engines import (
    DOCS,
    Record,
    apply,
    batch,
    create,
    found,
    insert,
    put,
    received,
    upsert,
    vector,
    written,
)
from tests.support.inline import open_inline
from vicinal.engine import compactor
from vicinal.engine import compactor as compactor_module
from vicinal.engine import writer as writer_module
from vicinal.engine.blob_files import FILE_BYTES_MIN, BlobWriter
from vicinal.engine.compaction import Compaction
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.index import OpenIndex
from vicinal.engine.log import Draft, Entry, Log
from vicinal.engine.records import LogRecord
from vicinal.errors import (
    BodyTooLarge,
    Corruption,
    IndexNotFound,
    LimitExceeded,
    MetadataIndexNotFound,
    Overloaded,
    ResourceExhausted,
    Unavailable,
)
from vicinal.limits import Limits
from vicinal.model import (
    Accepted,
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexAddress,
    IndexType,
    Insert,
    MetadataIndex,
    Query,
    Upsert,
    VectorBatch,
)
from vicinal.segment import build
from vicinal.storage import files

OTHER = IndexAddress("acme", "other")
Open = Callable[..., EmbeddedEngine]


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Open]:
    """Open the engine of a test, or the same folder again after closing it."""
    opened: list[EmbeddedEngine] = []

    def open_(options: EngineOptions | None = None, *, inline: bool = False) -> EmbeddedEngine:
        for each in opened:
            each.close()
        open_it = open_inline if inline else EmbeddedEngine.open
        opened.append(open_it(tmp_path, options))
        if not opened[-1].list_indexes("acme"):
            create(opened[-1])
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.mark.parametrize("at_once", [0, 1 << 20])
def test_much_that_is_not_verified_waits_until_nothing_is_written(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(files, "VERIFIED_AT_OPEN_BYTES_MAX", 0)
    monkeypatch.setattr(compactor, "VERIFIED_AT_ONCE_BYTES_MAX", at_once)
    engine = open_engine(inline=True)
    upsert(engine, Record("a", [1, 0]))
    engine.compact(DOCS)
    read: list[int] = []
    verify = Compaction.verify

    def watched(self: Compaction, should_stop: Callable[[], bool]) -> None:
        read.append(self.unverified_bytes)
        verify(self, should_stop)

    monkeypatch.setattr(Compaction, "verify", watched)
    engine = open_engine(inline=True)
    assert found(engine, Query(top_k=1, vector=vector(1, 0))) == ["a"]
    assert any(read) is (at_once > 0)

    engine.compact(DOCS)  # as an index that nothing is written to is tidied

    assert any(read)
    assert read[-1] == 0 or len(read) == 1


def one(name: str, *values: float) -> Upsert:
    return Upsert(batch(Record(name, values or (1.0, 1.0))))


def segments(folder: Path) -> int:
    return len(list(folder.glob("indexes/*/segments/*")))


def logged(folder: Path) -> int:
    """Return how many mutations the log of the only index holds; its engine is closed."""
    (path,) = folder.glob("indexes/*/index.db")
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM mutation").fetchone()
    connection.close()
    return int(count)


# Sealing


def test_deletes_and_ignored_inserts_do_not_lengthen_the_log_for_ever(
    open_engine: Open, tmp_path: Path
) -> None:
    """A memtable is sealed when it is full. Mutations that add no row to it never filled it, so
    the log kept all of them, and each opening applied all of them again."""
    engine = open_engine(EngineOptions(memtable_rows_max=10), inline=True)
    insert(engine, Record("a", [1, 1]))

    for _ in range(50):
        insert(engine, Record("a", [2, 2]))
        apply(engine, Delete(["never"]))
    engine.close()

    assert logged(tmp_path) < 10
    again = open_engine()
    assert [each.values.tolist() for each in again.get(DOCS, ["a"])] == [[1, 1]]
    assert again.status(DOCS).applied_seqno == 101


def test_large_batches_that_change_nothing_are_sealed_by_their_bytes(
    open_engine: Open, tmp_path: Path
) -> None:
    engine = open_engine(EngineOptions(memtable_bytes_max=10_000), inline=True)
    records = [Record(f"v{n}", [n, 0], metadata={"text": "x" * 200}) for n in range(5)]

    for _ in range(100):
        insert(engine, *records)
    engine.close()

    assert logged(tmp_path) < 10


@pytest.mark.parametrize(
    "options", [EngineOptions(memtable_rows_max=100), EngineOptions(memtable_bytes_max=800)]
)
def test_a_memtable_is_sealed_at_its_rows_or_bytes_and_not_before(
    open_engine: Open, tmp_path: Path, options: EngineOptions
) -> None:
    engine = open_engine(options, inline=True)
    upsert(engine, *(Record(f"v{n}", [n, 0]) for n in range(20)))
    assert segments(tmp_path) == 0

    upsert(engine, *(Record(f"w{n}", [n, 0]) for n in range(80)))

    assert segments(tmp_path) == 1


def test_a_long_log_is_sealed_as_soon_as_the_index_opens(open_engine: Open, tmp_path: Path) -> None:
    engine = open_engine(inline=True)
    upsert(engine, *(Record(f"v{n}", [n, 0]) for n in range(20)))
    assert segments(tmp_path) == 0

    engine = open_engine(EngineOptions(memtable_rows_max=20), inline=True)

    assert engine.status(DOCS).vector_count == 20
    assert segments(tmp_path) == 1


# Refusing


def test_a_mutation_that_the_log_cannot_hold_is_refused_and_the_index_goes_on(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite holds no row of more than 10**9 bytes; such a mutation stopped the index."""
    monkeypatch.setattr(writer_module, "RECORD_BYTES_MAX", 1000)
    engine = open_engine()

    with pytest.raises(BodyTooLarge, match=r"\d{4} bytes, the maximum is 1000"):
        engine.append(DOCS, Upsert(batch(*(Record(f"v{n}", [n, 0]) for n in range(200)))))

    upsert(engine, Record("a", [1, 1]))
    assert found(engine, Query(top_k=5, vector=vector(0, 0))) == ["a"]


class StuckWriter:
    """Makes a log wait before it writes, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.let_go = threading.Event(), threading.Event()
        self._real = Log.append
        monkeypatch.setattr(Log, "append", self._append)

    @property
    def _append(self) -> Callable[[Log, Sequence[Draft], int], list[Entry]]:
        def append(log: Log, drafts: Sequence[Draft], accepted_at: int) -> list[Entry]:
            self.entered.set()
            assert self.let_go.wait(60)
            return self._real(log, drafts, accepted_at)

        return append


def test_more_than_the_queue_may_hold_is_refused_and_room_comes_back(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(EngineOptions(queue_bytes_max=400))
    create(engine, OTHER)
    stuck = StuckWriter(monkeypatch)
    first = engine.append(DOCS, Delete(["x" * 300]))

    with pytest.raises(Overloaded, match="400 are allowed") as caught:
        engine.append(OTHER, Delete(["y" * 300]))
    assert caught.value.retry_after

    stuck.let_go.set()
    assert engine.wait_applied(DOCS, first.result(60).seqno, 30)
    engine.append(OTHER, Delete(["y" * 300]), wait_s=60).result(60)


def test_one_mutation_larger_than_the_queue_passes_alone(open_engine: Open) -> None:
    engine = open_engine(EngineOptions(queue_bytes_max=10))

    apply(engine, Delete(["x" * 300]))
    engine.append(DOCS, Delete(["x" * 300]), wait_s=60).result(60)  # once the first has left


def test_writers_wait_while_memtables_cannot_be_sealed_fast_enough(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(EngineOptions(memtable_rows_max=2, memtables_max=2))
    sealing, go_on = threading.Event(), threading.Event()
    real = Compaction.seal

    def slow(compaction: Compaction) -> None:
        sealing.set()
        assert go_on.wait(60)
        real(compaction)

    monkeypatch.setattr(Compaction, "seal", slow)
    upsert(engine, Record("a", [1, 1]), Record("b", [1, 1]))
    assert sealing.wait(60)
    upsert(engine, Record("c", [1, 1]), Record("d", [1, 1]))

    with pytest.raises(Overloaded, match="faster than it can seal"):
        engine.append(DOCS, one("e"))
    go_on.set()
    engine.compact(DOCS)

    upsert(engine, Record("e", [1, 1]))
    assert engine.status(DOCS).vector_count == 5


def test_what_is_refused_takes_no_room_in_the_queue(open_engine: Open) -> None:
    engine = open_engine(EngineOptions(Limits(vectors_per_index_max=1), queue_bytes_max=300))
    upsert(engine, Record("a", [1, 1]))

    for _ in range(20):
        with pytest.raises(LimitExceeded):
            engine.append(DOCS, Insert(batch(Record("b" * 50, [1, 1]))))

    apply(engine, Delete(["c" * 200]))


# What is received over time


def part_files(folder: Path) -> list[Path]:
    return list(folder.glob("indexes/*/blobs/*.part"))


def many() -> VectorBatch:
    count = 150_000
    values = np.column_stack([np.arange(count), np.ones(count)]).astype(np.float32)
    ids = [f"v{number}" for number in range(count)]
    return VectorBatch(ids, values, [""] * count, [b""] * count)


def test_a_mutation_that_is_refused_leaves_no_file_of_what_was_received(
    open_engine: Open, tmp_path: Path
) -> None:
    engine = open_engine(EngineOptions(Limits(vectors_per_index_max=1)))

    with closing(engine.open_batch(DOCS)) as writer:
        mutation = Upsert(written(writer, many()))
        assert len(part_files(tmp_path)) == 1
        with pytest.raises(LimitExceeded):
            engine.append(DOCS, mutation)

    assert part_files(tmp_path) == []
    upsert(engine, Record("a", [1, 1]))


def test_a_full_queue_leaves_no_file_of_what_was_received(
    open_engine: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(EngineOptions(queue_bytes_max=10))
    stuck = StuckWriter(monkeypatch)
    first = engine.append(DOCS, Delete(["x"]))

    with pytest.raises(Overloaded):
        received(engine, Upsert, many())

    assert part_files(tmp_path) == []
    stuck.let_go.set()
    first.result(60)
    with closing(engine.open_batch(DOCS)) as writer:
        after = engine.append(DOCS, Upsert(written(writer, many())), wait_s=60)
    after.result(60)


def test_a_mutation_whose_sender_has_given_it_up_is_not_logged(
    open_engine: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(EngineOptions(queue_bytes_max=4_000_000))
    mutation = Upsert(written(engine.open_batch(DOCS), many()))
    finish = BlobWriter.finish

    def finished_too_late(writer: BlobWriter, record: LogRecord) -> bool:
        is_finished = finish(writer, record)
        writer.close()
        return is_finished

    monkeypatch.setattr(BlobWriter, "finish", finished_too_late)
    with pytest.raises(Unavailable, match="given it up"):
        engine.append(DOCS, mutation)
    monkeypatch.undo()

    assert part_files(tmp_path) == []
    upsert(engine, Record("a", [1, 1]))
    assert engine.status(DOCS).vector_count == 1
    received(engine, Upsert, many()).result(60)  # there is room for it in the queue


def test_what_was_received_for_an_index_that_was_closed_for_another_is_logged(
    tmp_path: Path,
) -> None:
    with closing(EmbeddedEngine.open(tmp_path, EngineOptions(open_indexes_max=1))) as engine:
        create(engine)
        create(engine, OTHER)
        with closing(engine.open_batch(DOCS)) as writer:
            put(writer, many().values)
            insert(engine, Record("a", [1, 1]), address=OTHER)
            mutation = Upsert(writer.batch(many().ids, many().namespaces, many().metadata))
            accepted = engine.append(DOCS, mutation).result(60)

        assert engine.wait_applied(DOCS, accepted.seqno, 30)
        assert engine.status(DOCS).vector_count == 150_000


def test_values_that_were_damaged_in_their_file_are_not_sealed(
    open_engine: Open, tmp_path: Path
) -> None:
    engine = open_engine(EngineOptions(memtable_rows_max=1_000_000))
    apply(engine, Upsert(many()))
    (path,) = tmp_path.glob("indexes/*/blobs/*")
    with path.open("r+b") as file:
        file.seek(500_000)
        byte = file.read(1)
        file.seek(500_000)
        file.write(bytes((byte[0] ^ 1,)))

    with pytest.raises(Corruption, match="blobs/00000001 is damaged between bytes"):
        engine.compact(DOCS)
    with pytest.raises(Corruption, match="damaged"):
        engine.get(DOCS, ["v1"])
    with pytest.raises(Corruption, match="damaged"):
        open_engine().get(DOCS, ["v1"])


# Never standing still


def test_a_future_that_its_owner_tries_to_cancel_is_resolved_all_the_same(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that goes away may cancel its future. One that had been cancelled could not
    be resolved, which ended the writing thread, and the index stood still for ever."""
    engine = open_engine()
    stuck = StuckWriter(monkeypatch)
    first = engine.append(DOCS, one("a"))
    assert stuck.entered.wait(60)

    second = engine.append(DOCS, one("b"))
    assert not second.cancel()
    assert not first.cancel()
    stuck.let_go.set()

    assert [first.result(60).seqno, second.result(60).seqno] == [1, 2]
    upsert(engine, Record("c", [1, 1]))


def test_a_callback_that_raises_stops_nothing(
    open_engine: Open, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine()

    def broken(_: Future[Accepted]) -> None:
        raise ZeroDivisionError("in the callback")

    engine.append(DOCS, one("a")).add_done_callback(broken)
    upsert(engine, Record("b", [1, 1]))

    assert engine.status(DOCS).vector_count == 2
    assert "in the callback" in caplog.text


# Stopping


ERRORS: list[Exception] = [
    sqlite3.OperationalError("database or disk is full"),
    OSError(28, "No space left on device"),
    MemoryError("no memory"),
    ValueError("a mistake"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("place", ["log", "state"])
def test_an_index_that_cannot_go_on_says_so_to_writers_is_read_and_leaves_the_others_alone(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    engine = open_engine(EngineOptions(queue_bytes_max=500))
    create(engine, OTHER)
    upsert(engine, Record("kept", [1, 1]))

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        target = "vicinal.engine.log.Log.append" if place == "log" else (
            "vicinal.engine.state.State.apply")  # fmt: skip
        patch.setattr(target, fail)
        future = engine.append(DOCS, Delete(["x" * 400]))
        if place == "log":
            with pytest.raises(Unavailable):
                future.result(60)
        else:
            future.result(60)
            with pytest.raises(Unavailable):
                engine.wait_applied(DOCS, future.result().seqno, 30)

    writers: list[Callable[[], object]] = [
        lambda: engine.append(DOCS, one("a")),
        lambda: engine.open_batch(DOCS),
        lambda: engine.compact(DOCS),
    ]
    for write in writers:
        with pytest.raises(Unavailable, match=str(error.args[-1])):
            write()
    assert found(engine, Query(top_k=1, vector=vector(1, 1))) == ["kept"]
    assert [each.id for each in engine.get(DOCS, ["kept"])] == ["kept"]
    assert list(engine.list(DOCS, 1, None).ids) == ["kept"]
    assert engine.status(DOCS).vector_count == 1
    # Its place in the queue is free again.
    engine.append(OTHER, Delete(["y" * 400]), wait_s=60).result(60)

    again = open_engine()
    assert again.status(DOCS).vector_count == 1
    upsert(again, Record("b", [1, 1]))
    assert again.status(DOCS).applied_seqno == (2 if place == "log" else 3)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "place", ["log.transaction", "blob_files.sync_directory", "blob_files.BlobFiles.write"]
)
def test_a_write_that_a_full_disk_refuses_leaves_nothing_and_the_next_is_taken(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    engine = open_engine()
    upsert(engine, Record("kept", [1, 1]))
    long = Upsert(batch(*(Record(f"v{n}", [n, 1]) for n in range(FILE_BYTES_MIN // 8))))

    with monkeypatch.context() as patch:
        patch.setattr(f"vicinal.engine.{place}", full)
        with pytest.raises(ResourceExhausted, match="No space left"):
            engine.append(DOCS, long).result(60)

    assert list(tmp_path.glob("indexes/*/blobs/*")) == []
    apply(engine, long)
    assert engine.status(DOCS).applied_seqno == 2
    assert open_engine().status(DOCS).vector_count == len(long.batch) + 1


def test_a_metadata_index_that_a_full_disk_refused_is_not_remembered(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(EngineOptions(Limits(metadata_indexes_max=1, vectors_per_index_max=2)))
    color = MetadataIndex("color", IndexType.STRING)
    assert engine.status(DOCS).vector_count == 0
    with monkeypatch.context() as patch:
        patch.setattr("vicinal.engine.log.transaction", full)
        for refused in (CreateMetadataIndex(color), one("a"), one("b"), one("c")):
            with pytest.raises(ResourceExhausted):
                engine.append(DOCS, refused).result(60)

    with pytest.raises(MetadataIndexNotFound):
        engine.append(DOCS, DeleteMetadataIndex("color"))
    apply(engine, CreateMetadataIndex(MetadataIndex("size", IndexType.NUMBER)))
    apply(engine, one("d"))
    apply(engine, one("e"))
    with pytest.raises(LimitExceeded):
        engine.append(DOCS, one("f"))


EXHAUSTED = [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE]


@pytest.mark.parametrize("code", EXHAUSTED, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", ["build.seal_memtable", "compaction.Segment", "log.transaction"])
def test_a_memtable_that_cannot_be_sealed_for_want_of_room_or_files_is_sealed_later(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, place: str
) -> None:
    monkeypatch.setattr(compactor, "AGAIN_S", 60.0)  # only when it is asked to
    engine = open_engine(EngineOptions(memtable_rows_max=1_000))
    records = [Record(f"v{n}", [n, 1]) for n in range(20)]
    upsert(engine, *records)
    sealed = tmp_path.glob("indexes/*/segments/*")

    def fail(*_: object) -> None:
        raise OSError(code, "it has run out")

    where = f"vicinal.{'segment' if place.startswith('build') else 'engine'}.{place}"
    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(ResourceExhausted, match="it has run out"):
            engine.compact(DOCS)
        assert list(sealed) == []
        assert len(found(engine, Query(top_k=100, vector=vector(0, 0)))) == 20
        if place != "log.transaction":
            upsert(engine, Record("v3", [3, 7]), Record("late", [9, 9]))
            apply(engine, Delete(["v4"]))
            with pytest.raises(ResourceExhausted):
                engine.compact(DOCS)

    engine.compact(DOCS)
    upsert(engine, Record("v3", [3, 7]), Record("late", [9, 9]))
    apply(engine, Delete(["v4"]))
    engine.compact(DOCS)

    expected = {each.id for each in records} - {"v4"} | {"late"}
    for _ in range(2):
        assert set(found(engine, Query(top_k=100, vector=vector(0, 0)))) == expected
        (moved,) = engine.get(DOCS, ["v3"])
        assert moved.values.tolist() == [3, 7]
        engine = open_engine()


def test_a_memtable_that_could_not_be_sealed_is_tried_again_without_being_asked(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "AGAIN_S", 0.01)
    engine = open_engine(EngineOptions(memtable_rows_max=10, merges=False))
    real, calls, is_sealed = build.seal_memtable, [0], threading.Event()

    def seal_memtable(*args: Any) -> object:
        calls[0] += 1
        if calls[0] < 4:
            raise OSError(errno.EMFILE, "Too many open files")
        result = real(*args)
        is_sealed.set()
        return result

    monkeypatch.setattr(build, "seal_memtable", seal_memtable)
    upsert(engine, *(Record(f"v{n}", [n, 1]) for n in range(20)))

    assert is_sealed.wait(60)
    assert len(found(engine, Query(top_k=100, vector=vector(0, 0)))) == 20


def test_an_attempt_to_seal_that_fails_after_an_index_was_deleted_is_repeated_at_once(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "AGAIN_S", 3_600.0)
    engine = open_engine(EngineOptions(memtable_rows_max=10, memtables_max=1, merges=False))
    create(engine, OTHER)
    real, begun, may_fail = build.seal_memtable, threading.Event(), threading.Event()

    def full_at_first(*args: Any) -> object:
        if begun.is_set():
            return real(*args)
        begun.set()
        assert may_fail.wait(60)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "seal_memtable", full_at_first)
    upsert(engine, *(Record(f"v{n}", [n, 1]) for n in range(10)))
    assert begun.wait(60)
    engine.delete_index(OTHER)
    may_fail.set()

    for n in range(10, 40):
        accepted = engine.append(DOCS, one(f"v{n}"), wait_s=60).result(60)
    assert engine.wait_applied(DOCS, accepted.seqno, 60)
    assert len(found(engine, Query(top_k=100, vector=vector(0, 0)))) == 40


def test_deleting_an_index_has_others_sealed_that_had_no_room_and_writers_wait_for_that(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "AGAIN_S", 60.0)
    engine = open_engine(EngineOptions(memtable_rows_max=10, memtables_max=1, merges=False))
    create(engine, OTHER)
    with monkeypatch.context() as patch:
        patch.setattr(build, "seal_memtable", full)
        upsert(engine, *(Record(f"v{n}", [n, 1]) for n in range(10)))
        with pytest.raises(ResourceExhausted, match="cannot be sealed"):
            engine.compact(DOCS)
        upsert(engine, *(Record(f"w{n}", [n, 1]) for n in range(10)))  # beside the frozen ones
        with pytest.raises(ResourceExhausted, match="cannot be sealed"):
            engine.append(DOCS, one("late"), wait_s=60)

    engine.delete_index(OTHER)

    engine.append(DOCS, one("late"), wait_s=60).result(60)


@pytest.mark.parametrize("file", ["segments/*/values", "blobs/*"])
def test_a_file_that_is_cut_short_while_it_is_mapped_stops_its_index_and_not_the_process(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str
) -> None:
    is_noticed, real = threading.Event(), OpenIndex.compact_idle

    def compact_idle(opened: OpenIndex) -> None:
        real(opened)
        if opened.index.name == DOCS.name:
            is_noticed.set()

    engine = open_engine(EngineOptions(idle_s=0.02, memtable_rows_max=100_000, merges=False))
    create(engine, OTHER)
    upsert(engine, Record("o", [1, 1]), address=OTHER)
    upsert(engine, *(Record(f"v{n}", [n, 1]) for n in range(2_000)))
    engine.compact(DOCS)
    monkeypatch.setattr(
        compactor_module, "IDLE_SEAL_ROWS_MIN", 10**9
    )  # what is in the memtable stays there
    upsert(engine, *(Record(f"w{n}", [n, 1]) for n in range(FILE_BYTES_MIN // 8)))
    (values,) = tmp_path.glob(f"indexes/*/{file}")
    os.truncate(values, 4096)
    monkeypatch.setattr(OpenIndex, "compact_idle", compact_idle)

    assert is_noticed.wait(60)
    with pytest.raises(Corruption, match=f"{values} has 4096 bytes"):
        engine.status(DOCS)
    assert [each.id for each in engine.get(OTHER, ["o"])] == ["o"]


def test_damage_found_by_a_query_stops_the_index(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()

    def damaged(*_: object) -> None:
        raise Corruption("a file is damaged")

    with monkeypatch.context() as patch:
        patch.setattr("vicinal.engine.search.prepare", damaged)
        with pytest.raises(Corruption):
            engine.query(DOCS, Query(top_k=1, vector=vector(1, 1)))

    with pytest.raises(Corruption, match="a file is damaged"):
        engine.append(DOCS, one("a"))


def test_damage_found_when_a_query_is_finished_stops_the_index(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    upsert(engine, Record("a", [1, 1]))
    prepared = engine.prepare(DOCS, Query(top_k=1, vector=vector(1, 1)))

    def damaged(*_: object) -> None:
        raise Corruption("a file is damaged")

    with monkeypatch.context() as patch:
        patch.setattr("vicinal.engine.search.distances", damaged)
        with pytest.raises(Corruption):
            prepared.run()

    with pytest.raises(Corruption, match="a file is damaged"):
        engine.append(DOCS, one("a"))


def test_a_prepared_query_is_finished_on_its_snapshot_and_a_new_one_finds_the_index_gone(
    open_engine: Open,
) -> None:
    engine = open_engine()
    upsert(engine, Record("a", [1, 1]))
    alone, query = DOCS.of(engine.get_index(DOCS)), Query(top_k=1, vector=vector(1, 1))
    prepared = engine.prepare(alone, query)
    upsert(engine, Record("b", [1, 1]))
    engine.delete_index(DOCS)
    create(engine)
    upsert(engine, Record("c", [1, 1]))

    assert [match.id for match in prepared.run().matches] == ["a"]
    with pytest.raises(IndexNotFound):
        engine.prepare(alone, query)
    assert [match.id for match in engine.query(DOCS, query).matches] == ["c"]


def test_the_error_of_a_stopped_index_does_not_grow_with_every_request(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", lambda *_: 1 / 0)
        with pytest.raises(Unavailable):
            engine.append(DOCS, one("a")).result(60)

    depths = []
    for _ in range(5):
        with pytest.raises(Unavailable) as caught:
            engine.append(DOCS, one("a"))
        depths.append(len(caught.traceback))

    assert len(set(depths)) == 1


def test_waiting_for_a_mutation_ends_when_the_index_is_dropped(open_engine: Open) -> None:
    engine = open_engine(EngineOptions(visibility_delay_s=1000.0))
    accepted = engine.append(DOCS, one("a")).result(60)
    ended = threading.Event()

    def wait() -> None:
        try:
            engine.wait_applied(DOCS, accepted.seqno, 1000.0)
        except Exception:
            ended.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    engine.delete_index(DOCS)

    waiting.join(60)
    assert ended.is_set()


# A delay of visibility


def test_with_a_delay_a_write_is_durable_before_it_is_visible(open_engine: Open) -> None:
    engine = open_engine(EngineOptions(visibility_delay_s=1000.0))

    accepted = engine.append(DOCS, one("a")).result(60)

    assert engine.status(DOCS).vector_count == 0
    assert not engine.wait_applied(DOCS, accepted.seqno, 0.01)
    assert open_engine().status(DOCS).vector_count == 1


def test_after_the_delay_writes_are_visible_in_their_order(open_engine: Open) -> None:
    engine = open_engine(EngineOptions(visibility_delay_s=0.01))

    for value in range(20):
        last = engine.append(DOCS, one("a", value, 0)).result(60)

    assert engine.wait_applied(DOCS, last.seqno, 30)
    assert engine.get(DOCS, ["a"])[0].values.tolist() == [19, 0]


def test_an_index_dropped_with_delayed_writes_gives_their_room_back(open_engine: Open) -> None:
    engine = open_engine(EngineOptions(visibility_delay_s=1000.0, queue_bytes_max=500))
    create(engine, OTHER)
    engine.append(DOCS, Delete(["x" * 400])).result(60)
    with pytest.raises(Overloaded):
        engine.append(OTHER, Delete(["y" * 400]))

    engine.delete_index(DOCS)

    engine.append(OTHER, Delete(["y" * 400])).result(60)


# Limits, in the order of calls


@pytest.mark.parametrize("delay_s", [0.0, 1000.0])
def test_the_vectors_of_queued_mutations_count_towards_the_limit(
    open_engine: Open, delay_s: float
) -> None:
    limits = Limits(vectors_per_index_max=10)
    engine = open_engine(EngineOptions(limits, visibility_delay_s=delay_s))

    for n in range(10):
        engine.append(DOCS, one(f"v{n}"))
    for n in range(10, 15):
        with pytest.raises(LimitExceeded, match="the maximum of 10"):
            engine.append(DOCS, one(f"v{n}"))

    engine.append(DOCS, one("v3")).result(60)


def test_a_metadata_index_is_known_to_the_next_call_before_it_is_visible(
    open_engine: Open,
) -> None:
    engine = open_engine(EngineOptions(Limits(metadata_indexes_max=1), visibility_delay_s=1000.0))
    engine.append(DOCS, CreateMetadataIndex(MetadataIndex("a", IndexType.STRING))).result(60)

    with pytest.raises(LimitExceeded, match="has 1 metadata indexes, the maximum is 1"):
        engine.append(DOCS, CreateMetadataIndex(MetadataIndex("b", IndexType.STRING)))
