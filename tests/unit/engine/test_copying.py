"""A copy: filled, replayed into, closed at any moment, opened again, damaged."""

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from tests.support.crash import Disk, fingerprint, watching, write_image
from tests.support.engines import Record, batch, vector
from tests.support.waiting import wait_until
from vicinal.engine import copying, records
from vicinal.engine.copying import CopiedIndex, CopyPosition
from vicinal.engine.cursors import Cursors
from vicinal.engine.log import Entry
from vicinal.engine.options import EngineOptions
from vicinal.engine.resources import Resources
from vicinal.errors import Corruption, Unavailable
from vicinal.filters.nodes import Operator, Predicate
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    Index,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Mutation,
    Query,
    Seqno,
    Upsert,
)

INDEX = Index("an id", "docs", None, IndexConfig(2, Metric.EUCLIDEAN), datetime.now(UTC))
POSITION = CopyPosition(Seqno(41), str(uuid4()))
OPTIONS = EngineOptions(idle_s=0.01)
WITHIN_S = 60.0
Open = Callable[..., CopiedIndex]


@pytest.fixture
def resources() -> Iterator[Resources]:
    resources = Resources.start(1 << 30)
    yield resources
    resources.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"


@pytest.fixture
def open_copy(folder: Path, resources: Resources) -> Iterator[Open]:
    opened: list[CopiedIndex] = []

    def open_(options: EngineOptions = OPTIONS, where: Path = folder) -> CopiedIndex:
        opened.append(CopiedIndex(where, INDEX, options, resources, Cursors(900.0)))
        return opened[-1]

    yield open_
    for copy in opened:
        copy.close(Unavailable("the test is over"))


@dataclass(slots=True)
class Source:
    """Fills a copy with these mutations."""

    content: Iterable[Mutation]
    vector_count: int
    position: CopyPosition

    def mutations(self) -> Iterator[Mutation]:
        yield from self.content

    def finish(self, vector_count: int) -> CopyPosition:
        return self.position


def fill(
    folder: Path,
    mutations: Iterable[Mutation],
    vector_count: int = 0,
    position: CopyPosition = POSITION,
    options: EngineOptions = OPTIONS,
) -> None:
    copying.fill(folder, INDEX, options, Source(mutations, vector_count, position))


def upserts(*ids: str, metadata: dict[str, object] | None = None) -> Upsert:
    return Upsert(batch(*(Record(each, [len(each), 1], "", metadata) for each in ids)))


def entries(first: int, *mutations: Mutation) -> Sequence[tuple[Entry, Mutation]]:
    return [
        (Entry(Seqno(seqno), f"id of {seqno}", 0, records.encode(mutation)), mutation)
        for seqno, mutation in enumerate(mutations, first)
    ]


def found(copy: CopiedIndex, *predicates: Predicate) -> list[str]:
    query = Query(top_k=1_000, vector=vector(0, 1), filter=predicates)
    return sorted(match.id for match in copy.reader.prepare(query).run().matches)


def test_a_filled_copy_is_at_its_place_with_all_that_it_was_given(
    folder: Path, open_copy: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "FILL_ROWS_MAX", 3)  # several segments, and a rest
    color = MetadataIndex("color", IndexType.STRING)
    red: dict[str, object] = {"color": "red"}
    mutations: list[Mutation] = [
        upserts("a", "bb", metadata=red), upserts("ccc", "dddd", metadata=red),
        CreateMetadataIndex(color), upserts("eeeee", metadata=red),
    ]  # fmt: skip

    fill(folder, mutations, 5)
    copy = open_copy()

    assert copying.is_filled(folder)
    assert copy.position == POSITION
    assert found(copy) == ["a", "bb", "ccc", "dddd", "eeeee"]
    assert found(copy, Predicate("color", Operator.EQ, ("red",))) == ["eeeee"]
    assert copy.reader.current().metadata_indexes == (color,)


@pytest.mark.parametrize("row_count", [1, 9, 10, 11, 19, 20, 21, 30])
def test_segments_of_a_filled_copy_are_of_one_size_and_merged_when_nothing_comes(
    folder: Path, open_copy: Open, monkeypatch: pytest.MonkeyPatch, row_count: int
) -> None:
    monkeypatch.setattr(copying, "FILL_ROWS_MAX", 10)
    ids = ["x" * length for length in range(1, row_count + 1)]
    fill(folder, [upserts(each) for each in ids], row_count)
    copy = open_copy()
    counts = [len(view.live) for view in copy.reader.snapshot.views]
    assert len(counts) == -(-row_count // 10)
    assert max(counts) - min(counts) < len(counts)

    for _ in range(copying.IDLE_COUNT):
        copy.compact_idle()

    wait_until(lambda: len(copy.reader.snapshot.views) == 1)
    assert found(copy) == ids


def test_segments_of_a_filled_copy_have_values_of_no_more_than_so_many_bytes(
    folder: Path, open_copy: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_bytes = 2 * 4
    monkeypatch.setattr(copying, "FILL_BYTES_MAX", 5 * row_bytes + 1)

    fill(folder, [upserts("x" * length) for length in range(1, 13)], 12)

    assert [len(view.live) for view in open_copy().reader.snapshot.views] == [4, 4, 4]


def test_a_power_cut_while_a_copy_is_filled_leaves_a_whole_one_or_none(
    memory_path: Path, open_copy: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "FILL_ROWS_MAX", 1)
    (memory_path / "disk" / "copies").mkdir(parents=True)
    images: dict[str, Path] = {}
    last: set[str] = set()

    def photograph(disk: Disk, _: str) -> None:
        last.clear()
        for loss, image in disk.images().items():
            digest = fingerprint(image)
            last.add(digest)
            if digest not in images:
                to = memory_path / f"{len(images)}-{loss.name}"
                images[digest] = write_image(image, to) / "copies" / "copy"

    with watching(memory_path / "disk", photograph) as disk:
        fill(memory_path / "disk" / "copies" / "copy", [upserts("a"), upserts("bb")], 2)
        disk.step("filled")

    filled = {digest for digest, image in images.items() if copying.is_filled(image)}
    assert last <= filled < images.keys()
    for digest in filled:
        assert found(open_copy(OPTIONS, images[digest])) == ["a", "bb"]


def test_an_empty_copy_begins_before_any_mutation(folder: Path, open_copy: Open) -> None:
    fill(folder, [], position=CopyPosition())

    copy = open_copy()
    copy.replay(entries(1, upserts("a")))

    assert copy.position == CopyPosition(Seqno(1), "id of 1")
    assert found(copy) == ["a"]


def test_what_fails_while_it_is_filled_is_no_copy_and_is_begun_anew(
    folder: Path, open_copy: Open
) -> None:
    def broken() -> Iterator[Mutation]:
        yield upserts("old")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill(folder, broken())
    assert not copying.is_filled(folder)
    fill(folder, [upserts("new")])

    assert found(open_copy()) == ["new"]


def test_replaying_goes_on_where_segments_end_after_a_kill(
    folder: Path, open_copy: Open, tmp_path: Path
) -> None:
    fill(folder, [upserts("a", "bb")])
    copy = open_copy()
    copy.replay(entries(42, Delete(["a"]), upserts("ccc")))
    copy.compact()
    copy.replay(entries(44, upserts("dddd"), Delete(["bb"])))
    assert copy.position.seqno == 45
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)

    again = open_copy(OPTIONS, killed)

    assert again.position == CopyPosition(Seqno(43), "id of 43")
    assert found(again) == ["bb", "ccc"]
    again.replay(entries(44, upserts("dddd"), Delete(["bb"])))
    assert found(again) == found(copy) == ["ccc", "dddd"]


def test_a_query_sees_all_that_was_replayed_together_or_none(folder: Path, open_copy: Open) -> None:
    options = replace(OPTIONS, memtable_rows_max=50)
    fill(folder, [], position=CopyPosition(), options=options)
    copy = open_copy(options)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            snapshot = copy.reader.current()
            assert snapshot.vector_count == 2 * snapshot.applied_seqno

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        try:
            for seqno in range(1, 200):
                copy.replay(entries(seqno, upserts(f"x{seqno}", f"y{seqno}")))
        finally:
            stop.set()
        reading.result(WITHIN_S)


def test_replaying_faster_than_sealing_waits_and_is_never_refused(
    folder: Path, open_copy: Open
) -> None:
    options = replace(OPTIONS, memtable_rows_max=100, memtables_max=2)
    fill(folder, [], position=CopyPosition(), options=options)
    copy = open_copy(options)

    for seqno in range(1, 60):
        ids = [f"v{seqno}-{number}" for number in range(100)]
        copy.replay(entries(seqno, upserts(*ids)))

    assert copy.wait_applied(Seqno(59), WITHIN_S)
    assert copy.reader.current().vector_count == 5_900


def test_vectors_are_pending_only_while_they_are_replayed(folder: Path, open_copy: Open) -> None:
    fill(folder, [])
    copy = open_copy()

    copy.replay(entries(42, upserts("a", "bb")))

    usage = copy.usage(IndexAddress("acme", "docs"))
    assert (usage.vector_count, usage.pending_count) == (2, 0)


def test_many_mutations_without_vectors_are_sealed_as_well(
    folder: Path, open_copy: Open, resources: Resources
) -> None:
    """Else a copy would have to replay all of them again, and logs do not have them for ever."""
    options = replace(OPTIONS, memtable_rows_max=10)
    fill(folder, [], options=options)
    copy = open_copy(options)

    copy.replay(entries(42, *(Delete(["none"]) for _ in range(10))))
    wait_until(lambda: sum(resources.times.seals.current().counts) > 0)
    copy.close(Unavailable("over"))

    assert open_copy(options).position.seqno == 51


def test_waiting_ends_when_the_mutation_comes_or_the_time_or_the_copy_ends(
    folder: Path, open_copy: Open
) -> None:
    fill(folder, [], position=CopyPosition())
    copy = open_copy()
    assert not copy.wait_applied(Seqno(1), 0.0)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(copy.wait_applied, Seqno(1), WITHIN_S)
        never = threads.submit(copy.wait_applied, Seqno(9), WITHIN_S)
        copy.replay(entries(1, upserts("a")))
        assert first.result(WITHIN_S)
        copy.close(Unavailable("over"))
        with pytest.raises(Unavailable, match="over"):
            never.result(WITHIN_S)
    with pytest.raises(Unavailable, match="over"):
        copy.replay(entries(2, upserts("b")))
    with pytest.raises(Unavailable, match="over"):
        copy.reader.get(["a"])


def test_a_mutation_that_is_not_the_next_one_ends_the_copy(folder: Path, open_copy: Open) -> None:
    fill(folder, [upserts("a")])
    copy = open_copy()

    with pytest.raises(Unavailable, match="has ended"):
        copy.replay(entries(44, upserts("b")))

    assert copy.failure is not None
    with pytest.raises(Unavailable, match="has ended"):
        copy.reader.get(["a"])


def test_a_damaged_copy_says_so_when_it_is_opened_or_read(folder: Path, open_copy: Open) -> None:
    values = np.random.default_rng(1).standard_normal((500, 2)).tolist()
    records_ = [Record(f"v{number}", each) for number, each in enumerate(values)]
    fill(folder, [Upsert(batch(*records_))])
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 64:
            raw = path.read_bytes()
            path.write_bytes(raw[: len(raw) // 2] + b"\xff" * (len(raw) - len(raw) // 2))

    with pytest.raises(Corruption):
        open_copy().reader.get(["v1", "v499"])


def test_what_is_left_in_memory_is_sealed_when_nothing_comes(
    folder: Path, open_copy: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "IDLE_COUNT_SHORT", 3)
    fill(folder, [])
    copy = open_copy()
    copy.replay(entries(42, upserts("a")))

    for _ in range(3):
        copy.compact_idle()
    wait_until(lambda: any((folder / "segments").iterdir()))
    copy.close(Unavailable("over"))  # which lets it finish

    again = open_copy()
    assert again.position == CopyPosition(Seqno(42), "id of 42")
    assert found(again) == ["a"]
