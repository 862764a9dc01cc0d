"""Readers get whole, present answers whatever is written, sealed, merged or dropped meanwhile.

Memtables are of a few rows, so that seals and merges go on under the reads, and threads take
turns far more often than usual. Nothing is random and nothing waits for time to pass: a
writer does a fixed number of rounds and has readers read a few times in each of them.
"""

import itertools
import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.support.engines import APPLIED_WITHIN_S, DOCS, Record, apply, batch, create, upsert
from tests.support.engines import vector as at
from vicinal import metadata
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.errors import IndexNotFound
from vicinal.filters.nodes import Operator, Predicate
from vicinal.model import (
    Accepted,
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexType,
    MetadataIndex,
    MetadataLevel,
    Page,
    Query,
    QueryResult,
    Upsert,
)

ALL = 10_000  # more vectors than any of these tests has
TURN_S = 0.0002  # how long a thread runs before the next takes its turn


@pytest.fixture(autouse=True)
def _short_turns() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine.open(tmp_path, EngineOptions(memtable_rows_max=16, memtables_max=1_000))
    create(engine)
    yield engine
    engine.close()


class Crowd:
    """Threads that each do one act as often as they are urged to, and what went wrong in them.

    An act that could be repeated without end would take the time of those it waits for.
    """

    def __init__(self, acts: Sequence[Callable[[], object]]) -> None:
        self._changed = threading.Condition()
        self._urged = 0
        self._rounds = [0] * len(acts)
        self._errors: list[BaseException] = []
        self._is_over = False
        self._threads = [
            threading.Thread(target=self._repeat, args=(place, act))
            for place, act in enumerate(acts)
        ]
        for each in self._threads:
            each.start()

    def urge(self, times: int = 3) -> None:
        """Have each act done so many times more, from now on, and do not wait for it."""
        with self._changed:
            self._urged += times
            self._changed.notify_all()

    def let_all_act(self) -> None:
        """Wait until each act has been begun and ended after now; raise what acts raised."""
        self.urge(1)
        with self._changed:
            is_done = self._changed.wait_for(
                lambda: self._errors or min(self._rounds) >= self._urged, APPLIED_WITHIN_S
            )
        self._raise()
        assert is_done, "a thread stands still"

    def go_home(self) -> None:
        """Let every thread end; raise what acts raised."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for each in self._threads:
            each.join()
        self._raise()

    def _repeat(self, place: int, act: Callable[[], object]) -> None:
        try:
            while self._is_urged(place):
                act()
                with self._changed:
                    self._rounds[place] += 1
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._errors.append(error)
                self._is_over = True
                self._changed.notify_all()

    def _is_urged(self, place: int) -> bool:
        """Wait for the next round; return whether there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._rounds[place] < self._urged)
            return not self._is_over

    def _raise(self) -> None:
        if self._errors:
            raise BaseExceptionGroup("errors in threads", self._errors)


@contextmanager
def crowd(*acts: Callable[[], object]) -> Iterator[Crowd]:
    """Have threads, one for each act, that act when urged while the block runs."""
    crowd = Crowd(acts)
    try:
        yield crowd
    finally:
        crowd.go_home()


# A query never sees half a batch.

MARKED = [f"v{n:02}" for n in range(12)]  # replaced by every batch
ADDED = 3  # new vectors of every batch, which fill the segments that are merged
MARK = MetadataIndex("mark", IndexType.NUMBER)
IS_MARKED = (Predicate("mark", Operator.GTE, (0.0,)),)


def generation(mark: int) -> list[Record]:
    """Return the batch in which everything has this mark."""
    marked = [Record(each, [mark, n], "marked", {"mark": mark}) for n, each in enumerate(MARKED)]
    return marked + [Record(each, [mark, 0], "added") for each in added_ids(mark)]


def added_ids(mark: int) -> list[str]:
    return [f"w{mark:03}-{n}" for n in range(ADDED)]


def check_marked(result: QueryResult) -> None:
    """Check that these are the marked vectors of one generation, by values and metadata."""
    assert sorted(each.id for each in result.matches) == MARKED
    by_metadata = {metadata.decode(each.metadata or b"")["mark"] for each in result.matches}
    by_values = {float(each.values[0]) for each in result.matches if each.values is not None}
    assert len(by_metadata) == 1
    assert by_values == by_metadata


def check_everything(ids: Sequence[str]) -> None:
    """Check that these are all vectors there were after some batch."""
    newest = (len(ids) - len(MARKED)) // ADDED
    expected = [*MARKED, *(each for mark in range(newest) for each in added_ids(mark))]
    assert sorted(ids) == expected


def generation_readers(engine: EmbeddedEngine) -> list[Callable[[], None]]:
    """Return one reader for each way to read."""
    marked = partial(
        Query, ALL, vector=at(0, 0), return_values=True, return_metadata=MetadataLevel.ALL
    )

    def query_filtered() -> None:
        check_marked(engine.query(DOCS, marked(filter=IS_MARKED)))

    def query_namespace() -> None:
        check_marked(engine.query(DOCS, marked(namespace="marked")))

    def query_everything() -> None:
        result = engine.query(DOCS, Query(ALL, vector=at(0, 0)))
        check_everything([each.id for each in result.matches])

    def get() -> None:
        vectors = engine.get(DOCS, MARKED)
        assert [each.id for each in vectors] == MARKED
        assert len({float(each.values[0]) for each in vectors}) == 1
        assert len({each.metadata for each in vectors}) == 1

    def list_and_count() -> None:
        page = engine.list(DOCS, ALL, None)
        check_everything(page.ids)
        assert page.total_count == len(page.ids)
        assert (engine.status(DOCS).vector_count - len(MARKED)) % ADDED == 0

    return [query_filtered, query_namespace, query_everything, get, list_and_count]


def test_no_reader_sees_half_a_batch_while_batches_are_written_sealed_and_merged(
    engine: EmbeddedEngine,
) -> None:
    apply(engine, CreateMetadataIndex(MARK))
    upsert(engine, *generation(0))

    with crowd(*generation_readers(engine)) as readers:
        for mark in range(1, 51):
            readers.urge()
            upsert(engine, *generation(mark))
            if mark % 10 == 0:
                readers.let_all_act()
                engine.compact(DOCS)

    assert engine.status(DOCS).vector_count == len(MARKED) + 51 * ADDED
    steps = engine.query(DOCS, Query(ALL, vector=at(0, 0), explain=True)).explanations
    numbers = [int(each.part.removeprefix("segment ")) for each in steps]
    assert max(numbers) >= 5, "a seal for each call of compact"
    assert len(numbers) < max(numbers), "segments have been merged"


# What readers see never goes back.


@dataclass(frozen=True, slots=True)
class Sighting:
    """A value that was read, and the newest mutation that could be read before and after."""

    vector_id: str
    value: int
    seqno_before: int
    seqno_after: int


class Watch:
    """Readers that write down what they see, each not to be behind another."""

    def __init__(self, engine: EmbeddedEngine, ids: Sequence[str]) -> None:
        self._engine = engine
        self._ids = ids
        self._lock = threading.Lock()
        self._newest = 0
        self.sightings: list[Sighting] = []

    def seqno(self) -> int:
        """Read the newest seqno; it is never below one that anybody has read before."""
        newest = self._newest
        seqno = self._engine.status(DOCS).applied_seqno
        assert seqno >= newest
        with self._lock:
            self._newest = max(self._newest, seqno)
        return seqno

    def look(self) -> None:
        """Read all vectors once, one by one."""
        for each in self._ids:
            before = self.seqno()
            value = int(self._engine.get(DOCS, [each])[0].values[0])
            self.sightings.append(Sighting(each, value, before, self.seqno()))


def test_what_can_be_read_never_goes_back_and_contains_what_was_waited_for(
    engine: EmbeddedEngine,
) -> None:
    ids = ["a", "b", "c"]
    start = upsert(engine, *(Record(each, [0, 0]) for each in ids))
    watch = Watch(engine, ids)

    def write(readers: Crowd, vector_id: str) -> list[int]:
        """Count up one vector, and return the seqno of each of its values."""
        seqnos: list[int] = [start.seqno]
        for value in range(1, 61):
            readers.urge(1)
            accepted = upsert(engine, Record(vector_id, [value, 0]))
            assert engine.get(DOCS, [vector_id])[0].values[0] == value
            assert watch.seqno() >= accepted.seqno
            seqnos.append(accepted.seqno)
        return seqnos

    with crowd(watch.look, watch.look, lambda: engine.compact(DOCS)) as readers:
        with ThreadPoolExecutor(len(ids)) as pool:
            seqnos = dict(zip(ids, pool.map(partial(write, readers), ids), strict=True))
        readers.let_all_act()

    assert len({each.seqno_before for each in watch.sightings}) > 1
    for each in watch.sightings:
        written = seqnos[each.vector_id]
        oldest = bisect_right(written, each.seqno_before) - 1
        newest = bisect_right(written, each.seqno_after) - 1
        assert oldest <= each.value <= newest


# An index that is dropped and created again.


class Lives:
    """An index that is created, filled and dropped again and again, each time with new ids.

    The newest life to have come so far with each; they change in this order.
    """

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self.created = self.filled = self.dropping = 0

    def begin(self) -> None:
        create(self._engine)
        self.created += 1
        upsert(self._engine, *(Record(each, [self.created, 0]) for each in ids_of(self.created)))
        self.filled += 1

    def end(self) -> None:
        self.dropping += 1
        self._engine.delete_index(DOCS)

    def check(self, read: Callable[[int], Sequence[str]]) -> None:
        """Check that the ids read are all of a life that was not over when reading began."""
        filled = self.filled
        created = self.created
        try:
            ids = read(created)
        except IndexNotFound:
            assert self.dropping >= created, "the index was there all the time"
            return
        is_full = self.dropping < filled
        life = int(ids[0].partition("-")[0]) if ids else 0
        assert sorted(ids) == (ids_of(life) if ids else [])
        assert not ids or life >= created
        assert not is_full or life == filled


def ids_of(life: int) -> list[str]:
    return [f"{life}-{n:02}" for n in range(20)]


def test_readers_of_an_index_dropped_and_created_again_see_one_of_the_two_or_that_it_is_gone(
    engine: EmbeddedEngine,
) -> None:
    lives = Lives(engine)

    def by_query(_created: int) -> list[str]:
        result = engine.query(DOCS, Query(ALL, vector=at(0, 0)))
        return [each.id for each in result.matches]

    def by_get(created: int) -> list[str]:
        wanted = [each for life in range(created - 1, created + 2) for each in ids_of(life)]
        return [each.id for each in engine.get(DOCS, wanted)]

    def by_list(_created: int) -> Sequence[str]:
        return engine.list(DOCS, ALL, None).ids

    engine.delete_index(DOCS)
    with crowd(*(partial(lives.check, each) for each in (by_query, by_get, by_list))) as readers:
        for life in range(1, 31):
            readers.urge(5)
            lives.begin()
            readers.urge(5)
            if life % 3 == 0:
                engine.compact(DOCS)
                readers.let_all_act()
            last = engine.append(DOCS, Delete(ids_of(life - 1)))
            lives.end()
            assert isinstance(last.exception(APPLIED_WITHIN_S), IndexNotFound | None)


# Pages of a listing.

ADDITION, DELETION = 5, 2  # ids; with these a number of vectors occurs once only


def belt_ids(first: int, end: int) -> list[str]:
    return [f"b{n:05}" for n in range(first, end)]


def ids_when(count: int) -> list[str]:
    """Return the ids of the belt when it had so many: 5, 3, then 8, 6, then 11, 9 and so on."""
    is_after_addition = count % (ADDITION - DELETION) == DELETION
    deletions = (count - ADDITION if is_after_addition else count) // (ADDITION - DELETION)
    additions = deletions + is_after_addition
    return belt_ids(DELETION * deletions, ADDITION * additions)


class Listing:
    """A listing under way, in a given number of pages."""

    def __init__(self, engine: EmbeddedEngine, page_count: int) -> None:
        self._engine = engine
        count = engine.status(DOCS).vector_count
        self._page_size = -(-count // page_count)
        self.page: Page = engine.list(DOCS, self._page_size, None)
        self._ids = list(self.page.ids)
        self._total_count = self.page.total_count

    def turn(self) -> bool:
        """Read the next page; at the end, check them all and return False."""
        cursor = self.page.next_cursor
        if cursor is None:
            assert sorted(self._ids) == ids_when(self._total_count)
            return False
        self.page = self._engine.list(DOCS, self._page_size, cursor)
        assert self.page.total_count == self._total_count
        self._ids += self.page.ids
        return True


def test_pages_of_a_listing_stay_those_of_its_first_while_writes_and_merges_go_on(
    engine: EmbeddedEngine,
) -> None:
    rounds = itertools.count()

    def move_belt() -> None:
        """Add at one end, then delete at the other."""
        n = next(rounds)
        added = belt_ids(ADDITION * n, ADDITION * (n + 1))
        upsert(engine, *(Record(each, [n, 0]) for each in added))
        apply(engine, Delete(belt_ids(DELETION * n, DELETION * (n + 1))))
        if n % 3 == 0:
            engine.compact(DOCS)

    for _ in range(10):
        move_belt()
    with crowd(move_belt) as writers:
        listings: list[Listing] = []
        for _ in range(20):
            listings.append(Listing(engine, page_count=12))  # one is begun as others go on
            writers.let_all_act()
            writers.urge(1)
            listings = [each for each in listings if each.turn()]
        while listings:
            writers.let_all_act()
            writers.urge(1)
            listings = [each for each in listings if each.turn()]


# Metadata indexes that come and go.

COLOR = MetadataIndex("color", IndexType.STRING)
SIZE = MetadataIndex("size", IndexType.NUMBER)
IS_RED = Predicate("color", Operator.EQ, ("red",))
IS_LARGE = Predicate("size", Operator.GTE, (10.0,))


def painted(first: int, end: int) -> list[Record]:
    """Return vectors of which every third is red."""
    return [
        Record(f"v{n:02}", [n, 0], "", {"color": "blue" if n % 3 else "red", "size": n})
        for n in range(first, end)
    ]


def test_a_filter_finds_all_or_names_its_property_while_the_metadata_index_comes_and_goes(
    engine: EmbeddedEngine,
) -> None:
    red = [f"v{n:02}" for n in range(0, 30, 3)]
    large = [f"v{n:02}" for n in range(10, 30)]
    apply(engine, CreateMetadataIndex(SIZE))
    upsert(engine, *painted(0, 30))

    def ask(*predicates: Predicate) -> QueryResult:
        return engine.query(DOCS, Query(ALL, vector=at(0, 0), filter=predicates))

    def check(expected: Sequence[str], *predicates: Predicate) -> None:
        result = ask(*predicates)
        if result.unindexed:
            assert (result.unindexed, result.matches) == (("color",), ())
        else:
            assert [each.id for each in result.matches] == expected

    def check_other() -> None:
        assert [each.id for each in ask(IS_LARGE).matches] == large

    def rewrite() -> None:
        for first in (0, 10, 20):
            upsert(engine, *painted(first, first + 10))
        engine.compact(DOCS)

    readers = (
        lambda: check(red, IS_RED),
        lambda: check([each for each in red if each in large], IS_RED, IS_LARGE),
        check_other,
    )
    with crowd(*readers, rewrite) as others:
        for n in range(24):
            others.urge(1)
            apply(engine, CreateMetadataIndex(COLOR, backfill=True))
            assert [each.id for each in ask(IS_RED).matches] == red
            if n % 8 == 0:
                others.let_all_act()
            apply(engine, DeleteMetadataIndex(COLOR.property_name))
            assert ask(IS_RED) == QueryResult((), ("color",))
            if n % 8 == 4:
                others.let_all_act()


# Many writers.


def test_what_many_threads_have_had_acknowledged_is_all_there_and_counted(
    engine: EmbeddedEngine,
) -> None:
    writers, batches, size = 8, 40, 5
    numbers = {
        f"{writer}-{step}-{n}": writer * 1_000 + step * 10 + n
        for writer in range(writers)
        for step in range(batches)
        for n in range(size)
    }

    def write(others: Crowd, writer: int) -> list[Accepted]:
        accepted = []
        for step in range(batches):
            others.urge(1)
            ids = [f"{writer}-{step}-{n}" for n in range(size)]
            vectors = batch(*(Record(each, [numbers[each], 0]) for each in ids))
            accepted.append(engine.append(DOCS, Upsert(vectors)).result(APPLIED_WITHIN_S))
        return accepted

    with crowd(lambda: engine.compact(DOCS)) as others, ThreadPoolExecutor(writers) as pool:
        acknowledged = list(itertools.chain(*pool.map(partial(write, others), range(writers))))

    last = max(each.seqno for each in acknowledged)
    assert sorted(each.seqno for each in acknowledged) == list(range(1, writers * batches + 1))
    assert len({each.mutation_id for each in acknowledged}) == writers * batches
    assert engine.wait_applied(DOCS, last, APPLIED_WITHIN_S)
    for _ in range(2):  # once as it is, once with everything sealed and merged
        assert engine.status(DOCS).vector_count == len(numbers)
        assert sorted(engine.list(DOCS, ALL, None).ids) == sorted(numbers)
        found = engine.get(DOCS, list(numbers))
        assert {each.id: int(each.values[0]) for each in found} == numbers
        engine.compact(DOCS)
