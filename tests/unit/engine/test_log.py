"""The log gives back every acknowledged mutation as it was, or says what is wrong; never less."""

import math
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from vicinal.engine import log as log_module
from vicinal.engine import records
from vicinal.engine.blob_files import FILE_BYTES_MIN, FOLDER
from vicinal.engine.log import FILE_NAME, WATERMARK_NAME, Draft, Entry, Log
from vicinal.engine.manifest import Manifest
from vicinal.engine.pins import Pins
from vicinal.engine.records import LogRecord
from vicinal.errors import Corruption, Unavailable
from vicinal.model import Delete, IndexType, MetadataIndex, Seqno, Upsert, VectorBatch
from vicinal.segment.arena import FILE_OFFSET
from vicinal.segment.format import NumberedIndex, SegmentRecord
from vicinal.storage import files
from vicinal.storage import sqlite as storage
from vicinal.storage.files import Seal

LENGTH_BYTES = 4  # before a header
ACCEPTED_AT = 1_000_000


def entry(seqno: int, size: int = 1) -> Entry:
    record = records.encode(Delete([f"vector-{seqno}"] * size))
    return Entry(Seqno(seqno), f"mutation-{seqno:04}", ACCEPTED_AT, record)


def long_entry(seqno: int) -> Entry:
    values = np.sin(np.arange(100_000.0) + seqno).reshape(-1, 100).astype(np.float32)
    ids = [str(each) for each in range(len(values))]
    batch = VectorBatch(ids, values, [""] * len(ids), [b""] * len(ids))
    return replace(entry(seqno), record=records.encode(Upsert(batch)))


def entries(first: int, last: int) -> list[Entry]:
    return [entry(seqno) for seqno in range(first, last + 1)]


def append(log: Log, entries: Sequence[Entry]) -> list[Entry]:
    """Append what becomes these entries; return what became of it."""
    return log.append([Draft(each.mutation_id, each.record) for each in entries], ACCEPTED_AT)


def segment(number: int, rows: int = 10) -> SegmentRecord:
    return SegmentRecord(number, rows, {"values": Seal(1000 + number, 7)})


def file_names(folder: Path) -> list[str]:
    return sorted(each.name for each in (folder / FOLDER).iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Log.create(tmp_path)
    return tmp_path


@contextmanager
def opened(folder: Path) -> Iterator[Log]:
    log = Log(folder)
    try:
        yield log
    except BaseException:
        log.close(is_clean=False)
        raise
    log.close()


def seqnos(log: Log) -> list[int]:
    return [each.seqno for each in log.entries()]


def execute(folder: Path, statement: str, fields: Sequence[object] = ()) -> None:
    """Change a closed log behind its back."""
    connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    changed = connection.execute(statement, fields).rowcount
    connection.close()
    assert changed


def test_entries_come_back_as_they_were_in_order(folder: Path) -> None:
    with opened(folder) as log:
        assert (log.last_seqno, list(log.entries())) == (0, [])
        append(log, entries(1, 3))
        append(log, [entry(4)])

    with opened(folder) as log:
        assert log.last_seqno == 4
        assert list(log.entries()) == entries(1, 4)
        assert next(each.mutation for each in log.entries()) == Delete(["vector-1"])


def test_a_long_mutation_comes_back_as_it_was(folder: Path) -> None:
    written = [long_entry(1), entry(2), long_entry(3)]
    with opened(folder) as log:
        append(log, written)

    with opened(folder) as log:
        found = list(log.entries())
    assert [(each.seqno, each.mutation_id, bytes(each.record)) for each in found] == [
        (each.seqno, each.mutation_id, bytes(each.record)) for each in written
    ]


@pytest.mark.parametrize(("size", "count"), [(FILE_BYTES_MIN - 1, 0), (FILE_BYTES_MIN, 1)])
def test_only_a_long_mutation_has_a_file_of_its_own(folder: Path, size: int, count: int) -> None:
    written = Entry(Seqno(1), "m", 1, LogRecord(bytes(size - LENGTH_BYTES)))
    with opened(folder) as log:
        append(log, [written])

    assert len(list((folder / FOLDER).iterdir())) == count
    assert ((folder / FILE_NAME).stat().st_size > size) == (count == 0)
    with opened(folder) as log:
        (found,) = log.entries()
        assert found.record == written.record


def test_values_of_a_long_mutation_are_read_where_its_file_has_them(folder: Path) -> None:
    with opened(folder) as log:
        append(log, [long_entry(1)])

    with opened(folder) as log:
        (mutation,) = (each.mutation for each in log.entries())
        assert isinstance(mutation, Upsert)
        assert not mutation.batch.values.flags.owndata
        assert np.array_equal(
            mutation.batch.values[-1, -2:], np.sin([99_999.0, 100_000.0], dtype="f4")
        )


def test_an_entry_knows_the_file_of_a_long_mutation(folder: Path) -> None:
    written = [long_entry(1), entry(2), entry(3, size=100_000)]
    assert written[2].record.size > FILE_BYTES_MIN
    with opened(folder) as log:
        appended = append(log, written)
    with opened(folder) as log:
        for found in (appended, list(log.entries())):
            first, second, third = (each.file for each in found)
            assert first is not None
            values = np.fromfile(first, "<f4", 100_000, offset=FILE_OFFSET)
            assert np.array_equal(values, written[0].record.values)
            assert second is None
            assert third == first.with_name("00000003")


def test_files_that_no_row_names_are_removed_when_it_is_opened(folder: Path) -> None:
    # As after a crash between a file and its row, and between the removals of a row and its file.
    with opened(folder) as log:
        append(log, [long_entry(1), entry(2), long_entry(3)])
    for name in ("00000000", "00000004", "anything"):
        (folder / FOLDER / name).write_bytes(b"x")

    with opened(folder) as log:
        assert len(list(log.entries())) == 3
        log.remove_orphans()
        assert file_names(folder) == ["00000001", "00000003"]
        append(log, [long_entry(4)])
        assert [bytes(each.record) for each in log.entries()] == [
            bytes(each.record) for each in (long_entry(1), entry(2), long_entry(3), long_entry(4))
        ]


def test_trimming_removes_files_of_what_is_sealed_and_leaves_those_on_their_way(
    folder: Path,
) -> None:
    with opened(folder) as log:
        append(log, [long_entry(1), entry(2), long_entry(3)])
        # Another thread's: the row that names it may be committed, and not be counted yet.
        (folder / FOLDER / "00000004").write_bytes(b"x")
        (folder / FOLDER / "being-received").write_bytes(b"x")
        log.commit(Manifest(sealed_seqno=Seqno(2)), {})
        log.truncate()
        assert file_names(folder) == ["00000003", "00000004", "being-received"]
        assert [bytes(each.record) for each in log.entries()] == [bytes(long_entry(3).record)]


def test_the_manifest_comes_back_as_it_was(folder: Path) -> None:
    manifest = Manifest(
        segments=(segment(1), segment(5, 3)),
        next_segment=6,
        metadata_indexes=(NumberedIndex(2, MetadataIndex("a.b", IndexType.NUMBER)),),
        next_metadata_index=3,
        sealed_seqno=Seqno(2),
        sealed_mutation="mutation-0002",
        sealed_at=1_700_000_000_123_456,
    )
    live = np.array([True, False, True])
    with opened(folder) as log:
        append(log, entries(1, 3))
        log.commit(manifest, {1: np.ones(10, np.bool_), 5: live})

    with opened(folder) as log:
        expected = replace(manifest, dead_counts={5: 1}, logged_seqno=Seqno(3))
        assert log.manifest == expected
        assert log.live_rows(segment(5, 3)).tolist() == live.tolist()
        assert log.live_rows(segment(1)).all()
        assert seqnos(log) == [3]


def test_a_commit_replaces_all_tombstones(folder: Path) -> None:
    some = np.arange(10) > 2
    manifest = Manifest(segments=(segment(1), segment(2)))
    with opened(folder) as log:
        log.commit(manifest, {1: some, 2: some})
        log.commit(manifest, {1: ~some, 2: np.ones(10, np.bool_)})

    with opened(folder) as log:
        assert log.live_rows(segment(1)).tolist() == (~some).tolist()
        assert log.live_rows(segment(2)).all()
        assert log.manifest.dead_counts == {1: 7}


@pytest.mark.parametrize("rows", [1, 8, 9, 1000])
def test_tombstones_come_back_for_any_number_of_rows(folder: Path, rows: int) -> None:
    live = np.random.default_rng(rows).random(rows) < 0.5
    record = segment(1, rows)
    with opened(folder) as log:
        log.commit(Manifest(segments=(record,)), {1: live})

    with opened(folder) as log:
        assert log.live_rows(record).tolist() == live.tolist()


def test_sealed_mutations_are_not_replayed_and_are_trimmed_in_steps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_TRUNCATED_BYTES_MAX", 100)
    with opened(folder) as log:
        append(log, [entry(seqno, size=5) for seqno in range(1, 21)])
        append(log, [long_entry(21), long_entry(22)])
        log.commit(Manifest(sealed_seqno=Seqno(21)), {})
        assert seqnos(log) == [22]
        log.truncate()

    connection = sqlite3.connect(folder / FILE_NAME)
    count = "SELECT count(*), min(seqno) FROM mutation"
    assert connection.execute(count).fetchone() == (1, 22)
    assert [each.name for each in (folder / FOLDER).iterdir()] == ["00000022"]
    connection.close()


def test_mutations_are_appended_between_the_steps_of_trimming(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_TRUNCATED_BYTES_MAX", 1)
    pauses: list[float] = []
    with opened(folder) as log:
        append(log, entries(1, 9))
        log.commit(Manifest(sealed_seqno=Seqno(8)), {})

        def write_meanwhile(pause_s: float) -> None:
            pauses.append(pause_s)
            append(log, [entry(log.last_seqno + 1)])

        monkeypatch.setattr("vicinal.engine.log.time.sleep", write_meanwhile)
        log.truncate()

        # Without a pause this thread has the lock again before a writer that waits is awake.
        assert len(pauses) == 8
        assert min(pauses) > 0
        assert seqnos(log) == [9, *range(10, 18)]


def test_few_mutations_are_removed_in_one_step_without_a_pause(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[None] = []

    @contextmanager
    def counted(connection: sqlite3.Connection) -> Iterator[None]:
        steps.append(None)
        with storage.transaction(connection):
            yield

    with opened(folder) as log:
        append(log, entries(1, 9))
        log.commit(Manifest(sealed_seqno=Seqno(8)), {})
        with monkeypatch.context() as patch:
            patch.setattr(log_module, "transaction", counted)
            patch.setattr("vicinal.engine.log.time.sleep", lambda _: pytest.fail("it slept"))
            log.truncate()

    assert len(steps) == 1
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        assert connection.execute("SELECT seqno FROM mutation").fetchall() == [(9,)]


def test_trimming_that_was_cut_short_goes_on_when_asked_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_TRUNCATED_BYTES_MAX", 1)
    steps = iter([True, True])

    @contextmanager
    def two_steps_only(connection: sqlite3.Connection) -> Iterator[None]:
        if not next(steps, False):
            raise sqlite3.OperationalError("disk I/O error")
        with storage.transaction(connection):
            yield

    log = Log(folder)
    append(log, entries(1, 9))
    log.commit(Manifest(sealed_seqno=Seqno(8)), {})
    with monkeypatch.context() as patch:
        patch.setattr(log_module, "transaction", two_steps_only)
        with pytest.raises(Unavailable, match="disk I/O error"):
            log.truncate()
    log.close(is_clean=False)

    with opened(folder) as log:
        assert (log.last_seqno, seqnos(log)) == (9, [9])
        log.truncate()
        append(log, [entry(10)])
        assert seqnos(log) == [9, 10]


def test_a_log_that_is_wholly_sealed_goes_on_where_it_was(folder: Path) -> None:
    with opened(folder) as log:
        append(log, entries(1, 4))
        log.commit(Manifest(sealed_seqno=Seqno(4)), {})
        log.truncate()

    with opened(folder) as log:
        assert (log.last_seqno, seqnos(log)) == (4, [])
        append(log, [entry(5)])
        assert seqnos(log) == [5]


def test_seqnos_go_on_without_gaps_in_the_order_of_the_mutations(folder: Path) -> None:
    with opened(folder) as log:
        for mutation_ids, expected in (("ab", [1, 2]), ("c", [3])):
            drafts = [Draft(each, entry(1).record) for each in mutation_ids]
            found = log.append(drafts, ACCEPTED_AT)
            assert [each.seqno for each in found] == expected
            assert [each.mutation_id for each in found] == list(mutation_ids)


def test_an_append_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(folder)
    append(log, [entry(1)])

    nameless = replace(entry(3), mutation_id=cast(str, None))
    with pytest.raises(Corruption, match="NOT NULL"):
        append(log, [entry(2), nameless])

    assert log.last_seqno == 1
    assert seqnos(log) == [1]
    log.close(is_clean=False)


# Damage


COPIED_FROM_THE_NEXT = (
    "REPLACE INTO mutation SELECT 2, mutation_id, accepted_at, size, payload, file_size,"
    " file_checksum, checksum FROM mutation WHERE seqno = 3"
)
DAMAGE_TO_A_MUTATION = [
    "UPDATE mutation SET seqno = 9 WHERE seqno = 3",
    COPIED_FROM_THE_NEXT,
    "UPDATE mutation SET mutation_id = 'mutation-0009' WHERE seqno = 2",
    "UPDATE mutation SET mutation_id = CAST(x'ff' AS TEXT) WHERE seqno = 2",
    "UPDATE mutation SET mutation_id = CAST(mutation_id AS BLOB) WHERE seqno = 2",
    "UPDATE mutation SET accepted_at = accepted_at + 1 WHERE seqno = 2",
    "UPDATE mutation SET size = size + 1 WHERE seqno = 2",
    "UPDATE mutation SET payload = payload || x'00' WHERE seqno = 2",
    "UPDATE mutation SET payload = x'' WHERE seqno = 2",
    "UPDATE mutation SET checksum = checksum + 1 WHERE seqno = 2",
    "UPDATE mutation SET payload = (SELECT payload FROM mutation WHERE seqno = 1) WHERE seqno = 2",
]


@pytest.mark.parametrize("statement", DAMAGE_TO_A_MUTATION)
def test_a_change_to_any_field_of_a_mutation_is_noticed(folder: Path, statement: str) -> None:
    with opened(folder) as log:
        append(log, entries(1, 3))
    execute(folder, statement)

    with pytest.raises(Corruption, match=r"index\.db"), opened(folder) as log:
        list(log.entries())


DAMAGE_TO_A_SEAL = [
    "UPDATE mutation SET file_size = file_size + 1 WHERE seqno = 1",
    "UPDATE mutation SET file_checksum = file_checksum + 1 WHERE seqno = 1",
    "UPDATE mutation SET file_size = NULL, file_checksum = NULL WHERE seqno = 1",
    "UPDATE mutation SET file_size = 'x' WHERE seqno = 1",
    "UPDATE mutation SET payload = x'' WHERE seqno = 1",
    "UPDATE mutation SET size = size - 1 WHERE seqno = 1",
]


@pytest.mark.parametrize("statement", DAMAGE_TO_A_SEAL)
def test_a_change_to_what_vouches_for_a_file_is_noticed(folder: Path, statement: str) -> None:
    with opened(folder) as log:
        append(log, [long_entry(1), entry(2)])
    execute(folder, statement)

    with pytest.raises(Corruption, match=r"mutation 1 in .*index\.db"), opened(folder) as log:
        list(log.entries())


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "another's"])
def test_damage_to_the_file_of_a_mutation_is_noticed(folder: Path, damage: str) -> None:
    with opened(folder) as log:
        append(log, [long_entry(1), long_entry(2)])
    path = folder / FOLDER / "00000001"
    raw = bytearray(path.read_bytes())
    raw[-100_000] ^= 1
    other = (folder / FOLDER / "00000002").read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"empty": b"", "cut": bytes(raw[:-1]), "flipped": bytes(raw), "another's": other}[
                damage
            ]
        )

    with pytest.raises(Corruption, match=r"blobs.00000001"), opened(folder) as log:
        list(log.entries())


def test_a_log_without_its_folder_of_blobs_is_refused(folder: Path) -> None:
    (folder / FOLDER).rmdir()

    with pytest.raises(Corruption, match="blobs is missing"):
        Log(folder)


def test_a_file_that_cannot_be_written_leaves_no_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    log = Log(folder)
    append(log, [entry(1)])
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", full)
        with pytest.raises(Unavailable, match="No space left"):
            append(log, [entry(2), long_entry(3)])
    log.close(is_clean=False)

    with opened(folder) as log:
        assert seqnos(log) == [1]
        log.truncate()
        append(log, [long_entry(2)])
        assert seqnos(log) == [1, 2]


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_a_mutation_that_is_missing_is_noticed_wherever_it_was(folder: Path, lost: int) -> None:
    # The last one too: a log that was closed knows where it ended.
    with opened(folder) as log:
        append(log, entries(1, 4))
    execute(folder, "DELETE FROM mutation WHERE seqno = ?", (lost,))

    with pytest.raises(Corruption, match=r"index\.db lacks mutations: it has 3 from"):
        Log(folder)


def test_a_log_that_ends_before_what_the_manifest_saw_is_refused(folder: Path) -> None:
    # As when a crashed log has lost its newest commits.
    log = Log(folder)
    append(log, entries(1, 4))
    log.commit(Manifest(sealed_seqno=Seqno(2)), {})
    log.close(is_clean=False)
    execute(folder, "DELETE FROM mutation WHERE seqno = 4")

    with pytest.raises(Corruption, match="and to 4 or more"):
        Log(folder)


@pytest.mark.parametrize("wal", ["missing", "empty", "cut", "flipped"])
def test_acknowledged_mutations_that_a_killed_process_leaves_do_not_vanish_with_the_wal(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, wal: str
) -> None:
    """SQLite takes damage to the last commit in its write-ahead log for a write that was cut
    short, and a missing log for an empty one: what had been acknowledged was gone."""
    killed = tmp_path_factory.mktemp("killed")
    log = Log(folder)
    for seqno in range(1, 5):
        append(log, [entry(seqno)])
    shutil.copytree(folder, killed, dirs_exist_ok=True)
    log.close(is_clean=False)
    path = killed / f"{FILE_NAME}-wal"
    raw = bytearray(path.read_bytes())
    path.unlink()
    if wal != "missing":
        raw[-100] ^= 1
        path.write_bytes(bytes({"empty": raw[:0], "cut": raw[:-1000], "flipped": raw}[wal]))

    with pytest.raises(Corruption, match=r"index\.db.*(lacks mutations.* to 4 or more|damaged)"):
        Log(killed)


def test_without_its_mark_a_log_is_taken_as_it_is(folder: Path) -> None:
    with opened(folder) as log:
        append(log, entries(1, 3))
    (folder / WATERMARK_NAME).unlink()

    with opened(folder) as log:
        assert seqnos(log) == [1, 2, 3]


def test_a_manifest_is_in_the_database_itself_once_it_is_committed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Were it lost with the write-ahead log, its segments would be strays, and removed.
    copy = tmp_path_factory.mktemp("copy")
    log = Log(folder)
    append(log, entries(1, 3))
    log.commit(Manifest(segments=(segment(1),), sealed_seqno=Seqno(3)), {})
    (copy / FILE_NAME).write_bytes((folder / FILE_NAME).read_bytes())
    (copy / FOLDER).mkdir()
    log.close(is_clean=False)

    with opened(copy) as log:
        assert [each.number for each in log.manifest.segments] == [1]


def test_mutations_between_the_sealed_ones_and_the_rest_must_be_there(folder: Path) -> None:
    with opened(folder) as log:
        append(log, entries(1, 4))
        log.commit(Manifest(sealed_seqno=Seqno(2)), {})
    execute(folder, "DELETE FROM mutation WHERE seqno = 3")

    with pytest.raises(Corruption, match="lacks mutations"):
        Log(folder)


DAMAGE_TO_THE_MANIFEST = [
    "DELETE FROM manifest",
    "UPDATE manifest SET document = replace(document, '\"next_segment\":1', '\"next_segment\":2')",
    "UPDATE manifest SET document = CAST(document AS TEXT)",
    "UPDATE manifest SET checksum = checksum - 1",
]


@pytest.mark.parametrize("statement", DAMAGE_TO_THE_MANIFEST)
def test_damage_to_the_manifest_is_noticed(folder: Path, statement: str) -> None:
    execute(folder, statement)

    with pytest.raises(Corruption, match=r"the manifest in .*index\.db is missing or damaged"):
        Log(folder)


DAMAGE_TO_TOMBSTONES = [
    "DELETE FROM tombstone WHERE segment = 1",
    "UPDATE tombstone SET segment = 3 WHERE segment = 1",
    "UPDATE tombstone SET bitmap = x'0300' WHERE segment = 1",
    "UPDATE tombstone SET bitmap = x'' WHERE segment = 1",
    "UPDATE tombstone SET bitmap = 'text' WHERE segment = 1",
    "UPDATE tombstone SET checksum = checksum + 1 WHERE segment = 1",
    "REPLACE INTO tombstone SELECT 1, bitmap, checksum FROM tombstone WHERE segment = 2",
]


@pytest.mark.parametrize("statement", DAMAGE_TO_TOMBSTONES)
def test_damage_to_tombstones_is_noticed(folder: Path, statement: str) -> None:
    live = np.arange(10) != 0
    with opened(folder) as log:
        log.commit(Manifest(segments=(segment(1), segment(2))), {1: live, 2: live[::-1]})
    execute(folder, statement)

    with opened(folder) as log:
        assert log.live_rows(segment(2)).sum() == 9
        with pytest.raises(Corruption, match=r"tombstones of segment 1 in .*index\.db"):
            log.live_rows(segment(1))


def test_a_later_format_is_refused_by_its_number(folder: Path) -> None:
    with opened(folder) as log:
        log.commit(Manifest(format_version=3), {})

    with pytest.raises(Corruption, match="is of format 3, this version reads format 2"):
        Log(folder)


def test_a_folder_of_format_1_is_refused_by_its_number(folder: Path) -> None:
    with opened(folder) as log:
        log.commit(Manifest(format_version=1), {})
    (folder / FOLDER).rename(folder / "payloads")

    with pytest.raises(Corruption, match="is of format 1, this version reads format 2"):
        Log(folder)


def test_a_log_that_is_missing_or_empty_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(Corruption, match=r"index\.db is missing"):
        Log(tmp_path)
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(Corruption, match=r"index\.db is missing or empty"):
        Log(tmp_path)
    assert (tmp_path / FILE_NAME).stat().st_size == 0


def test_closing_a_failed_log_writes_nothing(folder: Path) -> None:
    log = Log(folder)
    append(log, [entry(1)])
    manifest = log.manifest
    log.close(is_clean=False)

    with opened(folder) as log:
        assert log.manifest == manifest
        assert seqnos(log) == [1]


@pytest.mark.parametrize("file_count", [1, 2])
def test_pinning_looks_at_no_more_rows_of_a_long_log_than_of_a_short_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file_count: int
) -> None:
    connections: list[sqlite3.Connection] = []
    steps: list[int] = [0]

    def open_database(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connections.append(storage.open_database(*arguments, **options))
        return connections[-1]

    def count() -> int:
        steps[-1] += 1
        return 0

    monkeypatch.setattr(log_module, "open_database", open_database)
    with opened(folder) as log:
        append(log, [long_entry(seqno) for seqno in range(1, file_count + 1)])
        for row_count in (10, 3_000):
            append(log, entries(log.last_seqno + 1, log.last_seqno + row_count))
            connections[0].set_progress_handler(count, 1)
            log.release(log.pin())
            log.file_seals(log.last_seqno)
            connections[0].set_progress_handler(None, 1)
            steps.append(0)

    assert 0 < steps[1] <= steps[0]  # the first time statements are read, too


def test_files_of_a_pinned_log_are_known_after_it_was_opened_and_when_some_are_sealed(
    folder: Path,
) -> None:
    with opened(folder) as log:
        append(log, [entry(1), long_entry(2), entry(3), long_entry(4)])
        written = log.pin().file_seals
    with opened(folder) as log:
        assert log.pin().file_seals == written
        assert [seqno for seqno, _ in written] == [2, 4]
        log.commit(replace(log.manifest, sealed_seqno=Seqno(2)), {})
        assert log.file_seals(Seqno(3)) == []
        log.pins = Pins()
        log.truncate()
        append(log, [long_entry(5)])
        assert log.pin().file_seals[0] == written[1]
        assert [seqno for seqno, _ in log.pin().file_seals] == [4, 5]


def test_commits_come_between_few_rows_of_a_log_that_is_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    between: list[int] = []
    with opened(folder) as log:
        append(log, [entry(seqno, size=1_000) for seqno in range(1, 201)])
        moment = log.pin()

        def commit(_: float) -> None:
            between.append(append(log, [entry(log.last_seqno + 1)])[0].seqno)

        monkeypatch.setattr("vicinal.engine.log.time.sleep", commit)
        parts = list(log.rows(moment))
        log.release(moment)

    assert [row[0] for part in parts for row in part] == list(range(1, 201))
    size = sum(cast(int, row[3]) for part in parts for row in part)
    assert len(parts) == math.ceil(size / (1 << 20))
    assert len(between) >= size // (128 << 10) - len(parts)
