"""What every engine promises, promise by promise, in the order of `engine.base`.

Written against the seam alone and run over each implementation in `support.engines`.
"""

import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.support.engines import (
    APPLIED_WITHIN_S,
    BUILDERS,
    DOCS,
    Implementation,
    Record,
    apply,
    batch,
    create,
    found,
    insert,
    open_shared,
    put,
    received,
    upsert,
    vector,
    written,
)
from vicinal import metadata
from vicinal.engine.base import Engine
from vicinal.engine.blob_files import CHUNK_BYTES
from vicinal.engine.options import EngineOptions
from vicinal.engine.shared.engine import SharedEngine
from vicinal.errors import (
    AlreadyExists,
    BadCursor,
    BadFilter,
    BadQueryVector,
    Corruption,
    IndexExists,
    IndexNotFound,
    LimitExceeded,
    MetadataIndexNotFound,
    MetadataTooLarge,
    WrongDimensions,
)
from vicinal.filters.nodes import AnyOf, Not, Operator, Predicate
from vicinal.index_storage import MEMTABLE
from vicinal.limits import Limits
from vicinal.model import (
    Accepted,
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    DeleteScope,
    FacetValue,
    IndexAddress,
    IndexConfig,
    IndexType,
    Insert,
    MetadataIndex,
    MetadataLevel,
    Metric,
    PatchMetadata,
    Query,
    Scan,
    Scope,
    Seqno,
    Upsert,
    VectorBatch,
)

Open = Callable[..., Engine]

COLOR = MetadataIndex("color", IndexType.STRING)
SIZE = MetadataIndex("size", IndexType.NUMBER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test over each implementation; where opening anew is what differs, over one of them
    unless the test opens the engine itself."""
    if "implementation" not in metafunc.fixturenames:
        return
    is_opener = opens_itself(metafunc.function)
    builders = [each for each in BUILDERS if is_opener or not each.is_new_at_opening]
    metafunc.parametrize(
        "implementation", builders, ids=[each.name for each in builders], indirect=True
    )


def opens_itself(test: Callable[..., object]) -> bool:
    """Whether a test opens or closes its engine."""
    return "open_engine" in inspect.signature(test).parameters


@pytest.fixture
def implementation(request: pytest.FixtureRequest) -> Implementation:
    assert isinstance(request.param, Implementation)
    return request.param


@pytest.fixture
def open_engine(implementation: Implementation, memory_path: Path) -> Iterator[Open]:
    """Open the one engine of a test, or the same folder again after closing it."""
    opened: list[Engine] = []

    def open_(limits: Limits | None = None) -> Engine:
        engine = implementation.build(memory_path, limits or Limits())
        opened.append(engine)
        return engine

    yield open_
    for engine in opened:
        engine.close()


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedEngine]:
    """One for all tests that do not open any: to open one costs more than most of them."""
    with closing(open_shared(tmp_path_factory.mktemp("shared"), Limits())) as engine:
        yield engine


@pytest.fixture
def engine(request: pytest.FixtureRequest, implementation: Implementation) -> Iterator[Engine]:
    """An engine that holds the empty two-dimensional euclidean index `DOCS`."""
    if implementation.build is open_shared and not opens_itself(request.function):
        shared: SharedEngine = request.getfixturevalue("shared_engine")
        create(shared)
        yield shared
        for address in shared.addresses():
            shared.delete_index(address)
        return
    engine = request.getfixturevalue("open_engine")()
    create(engine)
    yield engine


def near(*values: float, top_k: int = 100) -> Query:
    return Query(top_k=top_k, vector=vector(*values))


def where(*predicates: Predicate, namespace: str = "") -> Query:
    return Query(top_k=100, vector=vector(0, 0), filter=predicates, namespace=namespace)


def size(operator: Operator, operand: str | float) -> Predicate:
    return Predicate("size", operator, (operand,))


def equals(property_name: str, operand: str | float | bool | None) -> Predicate:
    return Predicate(property_name, Operator.EQ, (operand,))


# Indexes


def test_a_created_index_is_found_as_it_was_given(engine: Engine) -> None:
    config = IndexConfig(3, Metric.COSINE, preset="a preset")

    made = engine.create_index(IndexAddress("acme", "faq"), config, "questions")

    assert made == engine.get_index(IndexAddress("acme", "faq"))
    assert (made.name, made.description, made.config) == ("faq", "questions", config)
    assert made.created_at.utcoffset() is not None


def test_indexes_are_listed_oldest_first_within_their_account_only(engine: Engine) -> None:
    for account, name in [("acme", "zebra"), ("acme", "ant"), ("other", "bee")]:
        create(engine, IndexAddress(account, name))

    assert [each.name for each in engine.list_indexes("acme")] == ["docs", "zebra", "ant"]
    assert [each.name for each in engine.list_indexes("other")] == ["bee"]
    assert list(engine.list_indexes("nobody")) == []


def test_the_same_name_in_another_account_is_another_index(engine: Engine) -> None:
    elsewhere = IndexAddress("other", "docs")
    create(engine, elsewhere)

    insert(engine, Record("a", [1, 1]), address=elsewhere)

    assert engine.status(DOCS).vector_count == 0
    assert engine.status(elsewhere).vector_count == 1


def test_usage_counts_indexes_of_all_accounts_and_what_the_open_ones_hold(engine: Engine) -> None:
    elsewhere = IndexAddress("other", "docs")
    create(engine, elsewhere)
    insert(engine, Record("a", [1, 1]), Record("b", [1, 2]))
    insert(engine, Record("c", [1, 1]), address=elsewhere)

    usage = engine.usage()

    assert usage.index_count == 2
    assert {each.address: each.vector_count for each in usage.open_indexes} == {
        DOCS: 2,
        elsewhere: 1,
    }
    assert {each.pending_count for each in usage.open_indexes} == {0}


def test_an_index_created_again_under_a_dropped_name_is_empty(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1]))
    apply(engine, CreateMetadataIndex(COLOR))

    engine.delete_index(DOCS)
    create(engine, dimensions=3)

    status = engine.status(DOCS)
    assert (status.dimensions, status.vector_count, status.applied_mutation) == (3, 0, None)
    assert list(engine.list_metadata_indexes(DOCS)) == []


# 1. Insert keeps what is there, upsert replaces whole; ids are unique across an index.


def test_insert_keeps_a_vector_that_is_there_and_adds_the_others(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1], "n", {"k": 1}))

    insert(engine, Record("a", [9, 9], "m", {"k": 2}), Record("b", [2, 2]))

    (a, b) = engine.get(DOCS, ["a", "b"])
    assert (a.values.tolist(), a.namespace, a.metadata) == ([1, 1], "n", b'{"k":1}')
    assert b.values.tolist() == [2, 2]


def test_upsert_replaces_values_namespace_and_metadata_and_merges_nothing(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1], "n", {"k": 1}))

    upsert(engine, Record("a", [9, 9]))

    (a,) = engine.get(DOCS, ["a"])
    assert (a.values.tolist(), a.namespace, a.metadata) == ([9, 9], "", b"")
    assert engine.status(DOCS).vector_count == 1


def test_an_id_is_one_vector_whatever_its_namespace(engine: Engine) -> None:
    upsert(engine, Record("a", [1, 1], "n"))

    upsert(engine, Record("a", [1, 1], "m"))

    assert found(engine, Query(top_k=5, vector=vector(1, 1), namespace="n")) == []
    assert found(engine, Query(top_k=5, vector=vector(1, 1), namespace="m")) == ["a"]


def test_within_a_batch_the_first_insert_and_the_last_upsert_of_an_id_wins(engine: Engine) -> None:
    insert(engine, Record("i", [1, 1]), Record("i", [2, 2]), Record("i", [3, 3]))
    upsert(engine, Record("u", [1, 1]), Record("u", [2, 2]), Record("u", [3, 3]))

    (i, u) = engine.get(DOCS, ["i", "u"])
    assert i.values.tolist() == [1, 1]
    assert u.values.tolist() == [3, 3]
    assert engine.status(DOCS).vector_count == 2


def test_a_batch_of_no_vectors_is_a_mutation_like_any_other(engine: Engine) -> None:
    nothing = VectorBatch([], np.empty((0, 2), np.float32), [], [])

    for mutation in (Insert(nothing), Upsert(nothing), Delete([])):
        accepted = apply(engine, mutation)
        assert engine.status(DOCS).applied_mutation == accepted.mutation_id

    assert engine.status(DOCS).vector_count == 0
    assert found(engine, near(0, 0)) == []


def test_delete_removes_the_ids_that_exist_and_ignores_the_others(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1]), Record("b", [2, 2]))

    apply(engine, Delete(["a", "never", "a"]))

    assert found(engine, near(0, 0)) == ["b"]
    assert engine.get(DOCS, ["a"]) == []
    assert engine.status(DOCS).vector_count == 1


def test_a_deleted_id_can_be_inserted_again(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1], "n", {"k": 1}))
    apply(engine, Delete(["a"]))

    insert(engine, Record("a", [2, 2]))

    (a,) = engine.get(DOCS, ["a"])
    assert (a.values.tolist(), a.namespace, a.metadata) == ([2, 2], "", b"")


def test_get_returns_each_vector_once_in_the_order_asked(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1]), Record("b", [2, 2]), Record("c", [3, 3]))

    got = engine.get(DOCS, ["c", "never", "a", "c"])

    assert [each.id for each in got] == ["c", "a"]


def test_values_come_back_as_they_were_given(engine: Engine) -> None:
    upsert(engine, Record("a", [58.8, -1e-30]))

    (a,) = engine.get(DOCS, ["a"])

    assert a.values.dtype == np.float32
    assert a.values.tobytes() == np.array([58.8, -1e-30], np.float32).tobytes()


WIDE = IndexAddress("acme", "wide")
WIDTH = 8
LONG_COUNT = 45_000
LONG = VectorBatch(
    ids=[f"v{number}" for number in range(LONG_COUNT)],
    values=np.arange(LONG_COUNT * WIDTH, dtype=np.float32).reshape(-1, WIDTH),
    namespaces=[""] * LONG_COUNT,
    metadata=[b""] * LONG_COUNT,
)
"""More bytes than stay in memory while they are received, and more rows than two memtables have."""


def test_what_is_received_over_time_is_long_enough_for_files_and_segments() -> None:
    assert LONG.values.nbytes > CHUNK_BYTES
    assert 2 * EngineOptions().memtable_rows_max < LONG_COUNT


@pytest.fixture
def wide(engine: Engine) -> Engine:
    """An engine that holds the empty index `WIDE`, of `WIDTH` dimensions."""
    create(engine, WIDE, dimensions=WIDTH)
    return engine


@pytest.mark.parametrize("count", [0, 1, LONG_COUNT])
def test_what_was_received_over_time_is_as_good_as_what_came_at_once(
    wide: Engine, count: int
) -> None:
    vectors = VectorBatch(
        LONG.ids[:count], LONG.values[:count], LONG.namespaces[:count], LONG.metadata[:count]
    )
    insert(wide, Record("v0", [7] * WIDTH), Record("other", [8] * WIDTH), address=WIDE)

    accepted = received(wide, Upsert, vectors, WIDE).result(APPLIED_WITHIN_S)

    assert wide.wait_applied(WIDE, accepted.seqno, APPLIED_WITHIN_S)
    assert wide.status(WIDE).vector_count == max(count, 1) + 1
    first, last = LONG.values[[0, -1]].tolist()
    found = wide.get(WIDE, ["v0", f"v{LONG_COUNT - 1}"])
    assert [each.values.tolist() for each in found] == {
        0: [[7] * WIDTH], 1: [first], LONG_COUNT: [first, last]
    }[count]  # fmt: skip


def test_ids_that_are_there_already_are_not_inserted_over_time(wide: Engine) -> None:
    insert(wide, Record("v1", [7] * WIDTH), address=WIDE)

    accepted = received(wide, Insert, LONG, WIDE).result(APPLIED_WITHIN_S)

    assert wide.wait_applied(WIDE, accepted.seqno, APPLIED_WITHIN_S)
    found = wide.get(WIDE, ["v0", "v1", "v2"])
    before, _, after = LONG.values[:3].tolist()
    assert [each.values.tolist() for each in found] == [before, [7] * WIDTH, after]
    assert wide.status(WIDE).vector_count == LONG_COUNT


def test_a_mutation_may_have_some_of_the_values_that_were_received(wide: Engine) -> None:
    with closing(wide.open_batch(WIDE)) as writer:
        kept = VectorBatch(["v9"], written(writer, LONG).values[9:10], [""], [b""])
        accepted = wide.append(WIDE, Upsert(kept)).result(APPLIED_WITHIN_S)

    assert wide.wait_applied(WIDE, accepted.seqno, APPLIED_WITHIN_S)
    (found,) = wide.get(WIDE, ["v9"])
    assert found.values.tolist() == LONG.values[9].tolist()


def test_what_was_received_for_an_index_dropped_meanwhile_goes_to_its_successor(
    wide: Engine,
) -> None:
    begun = LONG.values[: CHUNK_BYTES // LONG.values[0].nbytes + 1]
    with closing(wide.open_batch(WIDE)) as writer:
        put(writer, begun)
        wide.delete_index(WIDE)
        with pytest.raises(IndexNotFound):
            wide.open_batch(WIDE)
        create(wide, WIDE, dimensions=WIDTH)
        put(writer, LONG.values[len(begun) :])
        vectors = writer.batch(LONG.ids, LONG.namespaces, LONG.metadata)
        accepted = wide.append(WIDE, Upsert(vectors)).result(APPLIED_WITHIN_S)

    assert wide.wait_applied(WIDE, accepted.seqno, APPLIED_WITHIN_S)
    assert wide.status(WIDE).vector_count == LONG_COUNT


# 2. What `append` has acknowledged survives.


def test_what_was_received_over_time_survives(
    implementation: Implementation, open_engine: Open
) -> None:
    if not implementation.durable:
        pytest.skip("keeps nothing")
    engine = open_engine()
    create(engine, WIDE, dimensions=WIDTH)
    last = received(engine, Upsert, LONG, WIDE).result(APPLIED_WITHIN_S)
    engine.close()

    again = open_engine()

    assert again.wait_applied(WIDE, last.seqno, APPLIED_WITHIN_S)
    found = again.get(WIDE, LONG.ids)
    assert np.array_equal([each.values for each in found], LONG.values)


def test_what_was_acknowledged_is_there_when_the_engine_opens_again(
    implementation: Implementation, open_engine: Open
) -> None:
    if not implementation.durable:
        pytest.skip("keeps nothing")
    engine = open_engine()
    create(engine)
    apply(engine, CreateMetadataIndex(SIZE))
    upsert(engine, Record("a", [1, 1], "n", {"size": 3}), Record("b", [2, 2]))
    last = apply(engine, Delete(["b"]))
    before = engine.get_index(DOCS)
    engine.close()

    again = open_engine()

    assert again.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
    assert again.get_index(DOCS) == before
    assert list(again.list_metadata_indexes(DOCS)) == [SIZE]
    assert found(again, where(equals("size", 3.0), namespace="n")) == ["a"]
    assert again.status(DOCS).vector_count == 1
    assert again.status(DOCS).applied_mutation == last.mutation_id


# 3. Applying a mutation a second time changes nothing.


def test_replaying_the_log_on_every_opening_changes_nothing(
    implementation: Implementation, open_engine: Open
) -> None:
    if not implementation.durable:
        pytest.skip("keeps no log")
    engine = open_engine()
    create(engine)
    insert(engine, Record("a", [1, 1]))
    apply(engine, Delete(["a"]))
    insert(engine, Record("a", [2, 2]), Record("b", [3, 3]))
    last = upsert(engine, Record("b", [4, 4]))
    engine.close()

    for _ in range(3):
        again = open_engine()
        assert again.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
        assert [v.values.tolist() for v in again.get(DOCS, ["a", "b"])] == [[2, 2], [4, 4]]
        assert again.status(DOCS).applied_seqno == last.seqno
        assert again.status(DOCS).vector_count == 2
        again.close()


def test_the_same_upsert_twice_is_the_same_as_once(engine: Engine) -> None:
    record = Record("a", [1, 1], "n", {"k": 1})

    upsert(engine, record)
    once = engine.get(DOCS, ["a"])
    upsert(engine, record)

    assert str(engine.get(DOCS, ["a"])) == str(once)
    assert engine.status(DOCS).vector_count == 1


# 4. `applied_seqno` never goes back, and moves through mutations in order.


def test_an_index_begins_before_any_mutation(engine: Engine) -> None:
    status = engine.status(DOCS)

    assert (status.applied_seqno, status.applied_mutation, status.applied_at) == (0, None, None)
    assert engine.wait_applied(DOCS, status.applied_seqno, 0.0)


def test_the_parts_of_an_index_hold_its_vectors_and_take_bytes(engine: Engine) -> None:
    assert engine.storage(DOCS).parts == ()
    upsert(engine, *(Record(str(number), [number, 1]) for number in range(5)))

    storage = engine.storage(DOCS)

    [part] = storage.parts
    assert (part.vector_count, part.deleted_count) == (5, 0)
    # What seals at any moment may have done so: then its files are counted, not the numbers alone.
    assert part.byte_count == 40 if part.name == MEMTABLE else part.byte_count > 40
    assert storage.byte_count > 0
    with pytest.raises(IndexNotFound):
        engine.storage(IndexAddress(DOCS.account, "absent"))


def test_compacting_leaves_the_vectors_of_the_parts_as_they_are(engine: Engine) -> None:
    upsert(engine, *(Record(str(number), [number, 1]) for number in range(5)))
    engine.compact(DOCS)
    apply(engine, Delete(["0", "3"]))
    upsert(engine, Record("new", [1, 1]))

    parts = engine.storage(DOCS).parts

    assert sum(part.vector_count for part in parts) == engine.status(DOCS).vector_count == 4


def test_each_mutation_of_any_kind_takes_the_next_place_and_an_id_of_its_own(
    engine: Engine,
) -> None:
    accepted = [
        insert(engine, Record("a", [1, 1])),
        upsert(engine, Record("a", [1, 1])),
        apply(engine, CreateMetadataIndex(COLOR)),
        apply(engine, CreateMetadataIndex(COLOR)),
        apply(engine, DeleteMetadataIndex("color")),
        apply(engine, Delete(["a"])),
    ]

    assert [each.seqno for each in accepted] == [1, 2, 3, 4, 5, 6]
    assert len({each.mutation_id for each in accepted}) == 6
    assert all(len(each.mutation_id) == 36 for each in accepted)


def test_the_status_names_the_last_mutation_applied(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1]))
    last = insert(engine, Record("b", [1, 1]))

    status = engine.status(DOCS)

    assert (status.applied_seqno, status.applied_mutation) == (last.seqno, last.mutation_id)
    assert status.applied_at is not None
    assert status.applied_at.utcoffset() is not None


def test_waiting_for_a_mutation_that_was_never_logged_ends_at_the_timeout(engine: Engine) -> None:
    last = insert(engine, Record("a", [1, 1]))

    unlogged = type(last.seqno)(last.seqno + 1)

    assert not engine.wait_applied(DOCS, unlogged, 0.01)


def test_concurrent_writers_are_applied_in_the_order_of_their_seqnos(engine: Engine) -> None:
    seen: list[tuple[int, float]] = []
    lock = threading.Lock()

    def write(start: int) -> None:
        for step in range(20):
            value = float(start * 100 + step)
            accepted = engine.append(DOCS, Upsert(batch(Record("a", [value, 0])))).result(60)
            with lock:
                seen.append((accepted.seqno, value))

    threads = [threading.Thread(target=write, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    last_seqno, last_value = max(seen)
    assert sorted(seqno for seqno, _ in seen) == list(range(1, 81))
    assert engine.wait_applied(DOCS, type(engine.status(DOCS).applied_seqno)(last_seqno), 30)
    assert engine.get(DOCS, ["a"])[0].values[0] == last_value


# 5. A query sees all of a mutation or none of it.


def test_a_query_never_sees_half_a_batch(engine: Engine) -> None:
    ids = [f"v{number}" for number in range(50)]
    stop = threading.Event()

    def write() -> None:
        for generation in itertools.count(1):
            upsert(engine, *(Record(each, [generation, 0]) for each in ids))
            if stop.is_set():
                return

    upsert(engine, *(Record(each, [0, 0]) for each in ids))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            matches = engine.query(DOCS, near(0, 0)).matches
            assert len(matches) == 50
            assert len({match.score for match in matches}) == 1
    finally:
        stop.set()
        writer.join()


# 6. Filters mean what `filters.evaluate` says.


def test_a_filter_picks_the_vectors_it_holds_for(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(COLOR))
    apply(engine, CreateMetadataIndex(SIZE))
    insert(
        engine,
        Record("a", [1, 0], metadata={"color": "red", "size": 1}),
        Record("b", [2, 0], metadata={"color": "red", "size": 2}),
        Record("c", [3, 0], metadata={"color": "blue", "size": 2.5}),
        Record("d", [4, 0], metadata={"color": 5, "size": "2"}),
        Record("e", [5, 0]),
    )
    for filter_, expected in {
        (equals("color", "red"),): "ab",
        (Predicate("color", Operator.NE, ("red",)),): "cde",
        (Predicate("color", Operator.IN, ("blue", "red")),): "abc",
        (Predicate("color", Operator.IN, ()),): "",
        (Predicate("color", Operator.NIN, ("blue",)),): "abde",
        (equals("color", None),): "de",
        (Predicate("color", Operator.NE, (None,)),): "abc",
        (size(Operator.GT, 1.0),): "bc",
        (size(Operator.GTE, 2.0), size(Operator.LT, 2.5)): "b",
        (size(Operator.LTE, 2.0),): "ab",
        (size(Operator.GT, "1"),): "",
        (Predicate("color", Operator.GTE, ("b",)), Predicate("color", Operator.LT, ("c",))): "c",
        (equals("color", "red"), size(Operator.GT, 1.0)): "b",
        (equals("size", True),): "",
    }.items():
        assert "".join(found(engine, where(*filter_))) == expected, filter_


def test_a_property_of_a_nested_object_is_addressed_with_dots(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(MetadataIndex("a.b", IndexType.BOOLEAN)))
    insert(
        engine,
        Record("yes", [1, 0], metadata={"a": {"b": True}}),
        Record("no", [1, 0], metadata={"a": {"b": False}}),
        Record("flat", [1, 0], metadata={"a": True}),
    )

    assert found(engine, where(equals("a.b", True))) == ["yes"]
    assert found(engine, where(equals("a.b", None))) == ["flat"]


def test_a_string_is_indexed_by_its_first_bytes_on_a_character_boundary(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(COLOR))
    insert(
        engine,
        Record("a", [1, 0], metadata={"color": "x" * 64 + "tail"}),
        Record("b", [2, 0], metadata={"color": "x" * 63 + "é"}),
    )

    assert found(engine, where(equals("color", "x" * 64))) == ["a"]
    assert found(engine, where(equals("color", "x" * 63))) == ["b"]


def test_a_namespace_narrows_a_query_before_the_nearest_are_chosen(engine: Engine) -> None:
    insert(engine, *(Record(f"near{i}", [0, 0], "crowd") for i in range(20)))
    insert(engine, Record("far", [9, 9], "quiet"), Record("none", [8, 8]))

    assert found(engine, Query(top_k=1, vector=vector(0, 0), namespace="quiet")) == ["far"]
    assert found(engine, Query(top_k=5, vector=vector(0, 0), namespace="absent")) == []
    assert len(found(engine, Query(top_k=100, vector=vector(0, 0)))) == 22


def test_a_filter_on_a_property_without_an_index_matches_nothing_and_is_named(
    engine: Engine,
) -> None:
    apply(engine, CreateMetadataIndex(COLOR))
    insert(engine, Record("a", [1, 0], metadata={"color": "red", "size": 1}))

    result = engine.query(
        DOCS,
        where(
            equals("size", 1.0),
            Predicate("shape", Operator.NE, ("round",)),
            Predicate("size", Operator.LT, (3.0,)),
            equals("color", "red"),
        ),
    )

    assert result.matches == ()
    assert result.unindexed == ("size", "shape")


def test_a_metadata_index_holds_only_vectors_written_after_it(engine: Engine) -> None:
    insert(engine, Record("before", [1, 0], metadata={"color": "red"}))
    apply(engine, CreateMetadataIndex(COLOR))
    insert(engine, Record("after", [2, 0], metadata={"color": "red"}))
    insert(engine, Record("before", [1, 0], metadata={"color": "red"}))

    assert found(engine, where(equals("color", "red"))) == ["after"]
    upsert(engine, Record("before", [1, 0], metadata={"color": "red"}))
    assert found(engine, where(equals("color", "red"))) == ["before", "after"]


def test_a_metadata_index_with_backfill_holds_older_vectors_too(engine: Engine) -> None:
    insert(engine, Record("before", [1, 0], metadata={"color": "red"}))

    apply(engine, CreateMetadataIndex(COLOR, backfill=True))

    assert found(engine, where(equals("color", "red"))) == ["before"]


def test_a_metadata_index_dropped_and_created_again_starts_empty(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(COLOR))
    insert(engine, Record("a", [1, 0], metadata={"color": "red"}))

    apply(engine, DeleteMetadataIndex("color"))
    assert engine.query(DOCS, where(equals("color", "red"))).unindexed == ("color",)
    apply(engine, CreateMetadataIndex(COLOR))

    result = engine.query(DOCS, where(equals("color", "red")))
    assert (result.matches, result.unindexed) == ((), ())
    assert found(engine, where(equals("color", None))) == ["a"]


def test_creating_a_metadata_index_again_changes_nothing(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(COLOR))
    insert(engine, Record("a", [1, 0], metadata={"color": "red"}))

    apply(engine, CreateMetadataIndex(COLOR))

    assert found(engine, where(equals("color", "red"))) == ["a"]
    assert list(engine.list_metadata_indexes(DOCS)) == [COLOR]


def test_metadata_indexes_are_listed_oldest_first(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(SIZE))
    apply(engine, CreateMetadataIndex(COLOR))

    assert list(engine.list_metadata_indexes(DOCS)) == [SIZE, COLOR]


# 7. Scores are exact, from `distance`; ties are broken by id, as code points.


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric.COSINE, [("b", 1.0), ("a", 0.6), ("zero", 0.0), ("minus", -1.0)]),
        (Metric.EUCLIDEAN, [("zero", 2.0), ("a", 3.1622777), ("minus", 4.0), ("b", 8.0)]),
        (Metric.DOT_PRODUCT, [("b", -20.0), ("a", -6.0), ("zero", 0.0), ("minus", 4.0)]),
    ],
)
def test_scores_and_their_order_are_those_of_the_metric(
    open_engine: Open, metric: Metric, expected: list[tuple[str, float]]
) -> None:
    engine = open_engine()
    create(engine, metric=metric)
    insert(
        engine,
        Record("a", [3, 4] if metric is not Metric.EUCLIDEAN else [3, 3]),
        Record("b", [10, 0]),
        Record("minus", [-2, 0]),
        Record("zero", [0, 0]),
    )

    matches = engine.query(DOCS, near(2, 0)).matches

    assert [each.id for each in matches] == [id_ for id_, _ in expected]
    assert [each.score for each in matches] == pytest.approx([score for _, score in expected])


def test_equal_scores_are_ordered_by_id_as_code_points(engine: Engine) -> None:
    ids = ["b", "a10", "a9", "B", "é", "\U0001f600", "\uffff", "a"]
    for each in ids:
        insert(engine, Record(each, [1, 1]))

    assert found(engine, near(0, 0)) == sorted(ids)
    assert found(engine, near(0, 0, top_k=3)) == ["B", "a", "a10"]


def test_a_match_carries_only_what_was_asked_for(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(MetadataIndex("a.b", IndexType.NUMBER)))
    insert(engine, Record("a", [1, 1], "n", {"a": {"b": 3, "c": "x"}}), Record("b", [2, 2]))

    def first_two(
        *, values: bool = False, metadata: MetadataLevel = MetadataLevel.NONE
    ) -> list[tuple[object, bytes | None]]:
        query = Query(top_k=2, vector=vector(1, 1), return_values=values, return_metadata=metadata)
        return [
            (each.values if each.values is None else each.values.tolist(), each.metadata)
            for each in engine.query(DOCS, query).matches
        ]

    assert first_two() == [(None, None), (None, None)]
    assert first_two(values=True) == [([1, 1], None), ([2, 2], None)]
    assert first_two(metadata=MetadataLevel.ALL) == [
        (None, b'{"a":{"b":3,"c":"x"}}'),
        (None, b""),
    ]
    assert first_two(metadata=MetadataLevel.INDEXED) == [(None, b'{"a":{"b":3}}'), (None, b"")]
    assert [each.namespace for each in engine.query(DOCS, near(1, 1)).matches] == ["n", ""]


def test_a_query_by_id_is_a_query_by_that_vectors_values(engine: Engine) -> None:
    insert(engine, Record("a", [0, 0]), Record("b", [5, 0]), Record("c", [7, 0]))

    assert found(engine, Query(top_k=2, vector_id="c")) == ["c", "b"]
    assert found(engine, Query(top_k=2, vector_id="never")) == []


# 8. A query never returns fewer than `top_k` matches while more exist.


def test_a_query_under_a_narrow_filter_still_finds_all_there_is(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(COLOR))
    crowd = (Record(f"c{i}", [0, 0], metadata={"color": "grey"}) for i in range(500))
    rare = (Record(f"r{i}", [50, i], metadata={"color": "red"}) for i in range(7))
    insert(engine, *crowd, *rare)

    query = Query(top_k=5, vector=vector(0, 0), filter=(equals("color", "red"),))

    assert found(engine, query) == ["r0", "r1", "r2", "r3", "r4"]


def test_deleted_and_replaced_vectors_take_no_place_in_the_result(engine: Engine) -> None:
    insert(engine, *(Record(f"v{i:03}", [i, 0]) for i in range(200)))
    apply(engine, Delete([f"v{i:03}" for i in range(0, 200, 2)]))
    upsert(engine, *(Record(f"v{i:03}", [1000 + i, 0]) for i in range(1, 100, 2)))

    nearest = found(engine, near(0, 0, top_k=60))

    moved_away = [f"v{i:03}" for i in range(1, 21, 2)]
    assert nearest == [f"v{i:03}" for i in range(101, 200, 2)] + moved_away


def test_maintenance_changes_nothing_that_can_be_seen(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(SIZE))
    insert(engine, *(Record(f"v{i}", [i, 0], f"n{i % 2}", {"size": i}) for i in range(30)))
    apply(engine, Delete(["v3", "v4"]))
    query = Query(
        top_k=10,
        vector=vector(0, 0),
        namespace="n1",
        filter=(Predicate("size", Operator.GT, (2.0,)),),
        return_values=True,
        return_metadata=MetadataLevel.ALL,
    )
    before, status = str(engine.query(DOCS, query)), engine.status(DOCS)

    engine.compact(DOCS)

    assert str(engine.query(DOCS, query)) == before
    assert engine.status(DOCS) == status


# Listing


def pages(engine: Engine, count: int) -> Iterator[list[str]]:
    cursor = None
    while True:
        page = engine.list(DOCS, count, cursor)
        yield list(page.ids)
        if page.next_cursor is None:
            assert page.expires_at is None
            return
        assert page.expires_at is not None
        cursor = page.next_cursor


def test_pages_name_every_vector_once(engine: Engine) -> None:
    ids = {f"v{i}" for i in range(25)}
    insert(engine, *(Record(each, [1, 1]) for each in ids))

    listed = list(pages(engine, 10))

    assert [len(page) for page in listed] == [10, 10, 5]
    assert {id_ for page in listed for id_ in page} == ids
    assert engine.list(DOCS, 10, None).total_count == 25


def test_a_page_that_ends_with_the_last_vector_has_no_cursor(engine: Engine) -> None:
    assert engine.list(DOCS, 10, None).next_cursor is None
    insert(engine, *(Record(f"v{i}", [1, 1]) for i in range(10)))

    assert engine.list(DOCS, 10, None).next_cursor is None
    assert engine.list(DOCS, 9, None).next_cursor is not None


def test_all_pages_describe_the_index_as_the_first_one_did(engine: Engine) -> None:
    insert(engine, *(Record(f"v{i}", [1, 1]) for i in range(10)))
    first = engine.list(DOCS, 4, None)

    insert(engine, Record("v00", [1, 1]), Record("z", [1, 1]))
    apply(engine, Delete(["v5", "v9"]))
    second = engine.list(DOCS, 4, first.next_cursor)
    third = engine.list(DOCS, 4, second.next_cursor)

    listed = [*first.ids, *second.ids, *third.ids]
    assert sorted(listed) == [f"v{i}" for i in range(10)]
    assert (second.total_count, third.total_count) == (10, 10)
    assert engine.list(DOCS, 100, None).total_count == 10


def test_a_cursor_can_be_used_again(engine: Engine) -> None:
    insert(engine, *(Record(f"v{i}", [1, 1]) for i in range(10)))
    cursor = engine.list(DOCS, 4, None).next_cursor

    assert list(engine.list(DOCS, 4, cursor).ids) == list(engine.list(DOCS, 4, cursor).ids)


def test_a_cursor_that_is_unknown_or_of_another_index_is_refused(engine: Engine) -> None:
    other = IndexAddress("acme", "other")
    create(engine, other)
    insert(engine, Record("a", [1, 1]), Record("b", [1, 1]))
    cursor = engine.list(DOCS, 1, None).next_cursor

    for address, foreign in [(DOCS, "nonsense"), (DOCS, ""), (other, cursor)]:
        with pytest.raises(BadCursor):
            engine.list(address, 1, foreign)


# 9. Errors are those of `errors`, and what is refused leaves nothing behind.


def test_every_method_names_an_index_that_does_not_exist(engine: Engine) -> None:
    absent = IndexAddress("acme", "absent")
    calls: list[Callable[[], object]] = [
        lambda: engine.delete_index(absent),
        lambda: engine.get_index(absent),
        lambda: engine.list_metadata_indexes(absent),
        lambda: engine.append(absent, Delete(["a"])),
        lambda: engine.wait_applied(absent, engine.status(DOCS).applied_seqno, 0.0),
        lambda: engine.status(absent),
        lambda: engine.query(absent, near(0, 0)),
        lambda: engine.get(absent, ["a"]),
        lambda: engine.list(absent, 1, None),
        lambda: engine.compact(absent),
    ]

    for call in calls:
        with pytest.raises(IndexNotFound, match="'absent'"):
            call()


def test_a_name_that_is_taken_is_refused_and_the_index_stays(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1]))

    with pytest.raises(IndexExists, match="'docs'"):
        create(engine, dimensions=7)

    assert engine.status(DOCS).dimensions == 2
    assert engine.status(DOCS).vector_count == 1


def test_dropping_a_metadata_index_that_does_not_exist_is_refused(engine: Engine) -> None:
    with pytest.raises(MetadataIndexNotFound, match="'color'"):
        engine.append(DOCS, DeleteMetadataIndex("color")).result(APPLIED_WITHIN_S)

    assert engine.status(DOCS).applied_seqno == 0


def test_a_metadata_index_of_another_type_on_the_same_property_is_refused(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(COLOR))

    with pytest.raises(AlreadyExists, match=r"'color'.*string"):
        engine.append(DOCS, CreateMetadataIndex(MetadataIndex("color", IndexType.NUMBER))).result(
            APPLIED_WITHIN_S
        )

    assert list(engine.list_metadata_indexes(DOCS)) == [COLOR]


def test_an_account_holds_as_many_indexes_as_its_limit_and_no_more(open_engine: Open) -> None:
    engine = open_engine(Limits(indexes_per_account_max=2))
    create(engine, IndexAddress("acme", "one"))
    create(engine, IndexAddress("acme", "two"))
    create(engine, IndexAddress("other", "one"))

    with pytest.raises(LimitExceeded, match="2"):
        create(engine, IndexAddress("acme", "three"))

    engine.delete_index(IndexAddress("acme", "one"))
    create(engine, IndexAddress("acme", "three"))


def test_an_index_holds_as_many_vectors_as_its_limit_and_no_more(open_engine: Open) -> None:
    engine = open_engine(Limits(vectors_per_index_max=3))
    create(engine)
    insert(engine, Record("a", [1, 1]), Record("b", [1, 1]), Record("c", [1, 1]))
    upsert(engine, Record("a", [2, 2]), Record("c", [2, 2]))

    with pytest.raises(LimitExceeded, match="3"):
        engine.append(DOCS, Upsert(batch(Record("a", [9, 9]), Record("d", [9, 9])))).result(
            APPLIED_WITHIN_S
        )

    assert engine.get(DOCS, ["a"])[0].values.tolist() == [2, 2]
    assert engine.get(DOCS, ["d"]) == []


def test_an_index_holds_as_many_metadata_indexes_as_its_limit_and_no_more(
    open_engine: Open,
) -> None:
    engine = open_engine(Limits(metadata_indexes_max=1))
    create(engine)
    apply(engine, CreateMetadataIndex(COLOR))
    apply(engine, CreateMetadataIndex(COLOR))

    with pytest.raises(LimitExceeded, match="1"):
        engine.append(DOCS, CreateMetadataIndex(SIZE)).result(APPLIED_WITHIN_S)

    apply(engine, DeleteMetadataIndex("color"))
    apply(engine, CreateMetadataIndex(SIZE))
    assert list(engine.list_metadata_indexes(DOCS)) == [SIZE]


def test_an_index_holds_as_many_namespaces_as_its_limit_and_no_more(open_engine: Open) -> None:
    engine = open_engine(Limits(namespaces_per_index_max=2))
    create(engine)
    insert(engine, Record("a", [1, 1], "one"), Record("b", [1, 1], "two"), Record("c", [1, 1]))

    with pytest.raises(LimitExceeded, match="2"):
        engine.append(DOCS, Upsert(batch(Record("d", [1, 1], "three")))).result(APPLIED_WITHIN_S)

    upsert(engine, Record("d", [1, 1], "two"))
    assert engine.status(DOCS).vector_count == 4


# 10. One broken index leaves the others serving.


def test_a_broken_index_leaves_the_others_serving(
    implementation: Implementation, open_engine: Open, memory_path: Path
) -> None:
    if implementation.spoil is None:
        pytest.skip("keeps no files")
    engine = open_engine()
    create(engine)
    broken = IndexAddress("acme", "broken")
    create(engine, broken)
    last = insert(engine, Record("a", [1, 1]))
    insert(engine, Record("b", [1, 1]), address=broken)
    engine.close()
    implementation.spoil(memory_path, broken)

    again = open_engine()

    assert again.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
    assert found(again, near(0, 0)) == ["a"]
    if implementation.is_healed:
        assert found(again, near(0, 0), broken) == ["b"]
    else:
        with pytest.raises(Corruption):
            again.query(broken, near(0, 0))
    assert [each.name for each in again.list_indexes("acme")] == ["docs", "broken"]


# Identity


def written_to(engine: Engine, address: IndexAddress, kind: str) -> None:
    """Do one of the things that an address is for."""
    match kind:
        case "insert":
            insert(engine, Record("x", [1, 1]), address=address)
        case "upsert":
            upsert(engine, Record("x", [1, 1]), address=address)
        case "delete":
            apply(engine, Delete(["a"]), address)
        case "create a metadata index":
            apply(engine, CreateMetadataIndex(COLOR), address)
        case "drop a metadata index":
            apply(engine, DeleteMetadataIndex("size"), address)
        case "open a batch":
            engine.open_batch(address).close()
        case "query":
            engine.query(address, near(1, 1))
        case "get":
            engine.get(address, ["a"])
        case "list":
            engine.list(address, 10, None)
        case "status":
            engine.status(address)
        case "list metadata indexes":
            engine.list_metadata_indexes(address)
        case "wait":
            engine.wait_applied(address, Seqno(1), 0)
        case "compact":
            engine.compact(address)
        case "get the index":
            engine.get_index(address)
        case "drop":
            engine.delete_index(address)


KINDS = [
    "insert", "upsert", "delete", "create a metadata index", "drop a metadata index",
    "open a batch", "query", "get", "list", "status", "list metadata indexes", "wait", "compact",
    "get the index", "drop",
]  # fmt: skip


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_meant_for_a_dropped_index_never_reaches_one_that_took_its_name(
    engine: Engine, kind: str, dimensions: int
) -> None:
    address = DOCS.of(engine.get_index(DOCS))
    apply(engine, CreateMetadataIndex(SIZE), address)
    insert(engine, Record("a", [1, 2]), address=address)
    engine.delete_index(address)
    create(engine, dimensions=dimensions)
    apply(engine, CreateMetadataIndex(SIZE))
    insert(engine, Record("a", [1.0] * dimensions))
    before = engine.status(DOCS)

    with pytest.raises(IndexNotFound, match="'docs'"):
        written_to(engine, address, kind)

    assert engine.status(DOCS) == before
    assert list(engine.list_metadata_indexes(DOCS)) == [SIZE]


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_with_the_id_of_its_index_finds_it(engine: Engine, kind: str) -> None:
    address = DOCS.of(engine.get_index(DOCS))
    apply(engine, CreateMetadataIndex(SIZE), address)

    written_to(engine, address, kind)


def test_a_cursor_of_a_dropped_index_is_not_one_of_its_successor(engine: Engine) -> None:
    insert(engine, Record("a", [1, 1]), Record("b", [1, 2]))
    cursor = engine.list(DOCS, 1, None).next_cursor
    engine.delete_index(DOCS)
    create(engine)
    insert(engine, Record("a", [1, 1]), Record("b", [1, 2]))

    with pytest.raises(BadCursor):
        engine.list(DOCS, 1, cursor)


@pytest.mark.parametrize("kind", [Insert, Upsert])
@pytest.mark.parametrize("length", [1, 3, 768])
def test_vectors_of_other_dimensions_are_refused_and_not_logged(
    engine: Engine, kind: type[Insert | Upsert], length: int
) -> None:
    before = engine.status(DOCS)

    with pytest.raises(WrongDimensions):
        engine.append(DOCS, kind(batch(Record("a", [1.0] * length)))).result(APPLIED_WITHIN_S)
    with pytest.raises(BadQueryVector):
        engine.query(DOCS, near(*[1.0] * length))

    assert engine.status(DOCS) == before


# Scopes


SCOPED = (
    Record("doc/1", [0, 1], "n", {"color": "red", "size": 1}),
    Record("doc/2", [0, 2], "", {"color": ["red", "blue"], "size": 2}),
    Record("doc/ü", [0, 3], "n", {"color": "blue", "size": 2}),
    Record("img/1", [0, 4], "m", {"size": "2"}),
    Record("img/2", [0, 5]),
)
IDS_OF_SCOPED = [record.id for record in SCOPED]
RED = (Predicate("color", Operator.EQ, ("red",)),)


@pytest.fixture
def scoped(engine: Engine) -> Engine:
    """An engine whose `DOCS` has `SCOPED`, in a segment and in the memtable."""
    for index in (COLOR, SIZE):
        apply(engine, CreateMetadataIndex(index))
    insert(engine, *SCOPED[:3])
    engine.compact(DOCS)
    insert(engine, *SCOPED[3:])
    return engine


@pytest.mark.parametrize(
    ("scope", "ids"),
    [
        (Scope(), ["doc/1", "doc/2", "doc/ü", "img/1", "img/2"]),
        (Scope(namespace="n"), ["doc/1", "doc/ü"]),
        (Scope(id_prefix="doc/"), ["doc/1", "doc/2", "doc/ü"]),
        (Scope(id_prefix="doc/ü"), ["doc/ü"]),
        (Scope(id_prefix="doc/ü/longer"), []),
        (Scope(id_prefix="img/", namespace="m"), ["img/1"]),
        (Scope(filter=RED), ["doc/1"]),
        (Scope(filter=(Not(RED),)), ["doc/2", "doc/ü", "img/1", "img/2"]),
        (Scope(filter=(AnyOf((RED, (Predicate("size", Operator.EQ, (None,)),))),)),
         ["doc/1", "img/1", "img/2"]),
        (Scope(filter=(Predicate("color", Operator.CONTAINS, ("red",)),)), ["doc/2"]),
        (Scope(filter=(Predicate("color", Operator.EXISTS, (True,)),)),
         ["doc/1", "doc/2", "doc/ü"]),
        (Scope("n", (Predicate("size", Operator.GT, (1.0,)),), "doc"), ["doc/ü"]),
    ],
)  # fmt: skip
def test_a_scope_is_counted_listed_and_streamed(
    scoped: Engine, scope: Scope, ids: list[str]
) -> None:
    expected = {each.id: each for each in SCOPED if each.id in ids}
    full = Scan(scope, return_values=True, return_metadata=True)

    page = scoped.list_vectors(DOCS, full, 100, None)
    streamed = [each for part in scoped.stream_vectors(DOCS, full, 2) for each in part]
    bare = [each for part in scoped.stream_vectors(DOCS, Scan(scope), 100) for each in part]

    assert scoped.count(DOCS, scope) == len(ids)
    assert (page.total_count, page.next_cursor) == (len(ids), None)
    for listed in (page.vectors, streamed):
        assert sorted(each.id for each in listed) == sorted(ids)
        for each in listed:
            record = expected[each.id]
            assert each.namespace == record.namespace
            assert each.values is not None
            assert each.values.tolist() == record.values
            assert metadata.decode(each.metadata or b"") == (record.metadata or {})
    assert sorted(each.id for each in bare) == sorted(ids)
    assert all(each.values is None and each.metadata is None for each in bare)


def test_pages_of_vectors_are_of_the_snapshot_of_the_first(scoped: Engine) -> None:
    scan = Scan(Scope(id_prefix="doc/"), return_values=True, return_metadata=True)
    first = scoped.list_vectors(DOCS, scan, 2, None)
    apply(scoped, Delete(["doc/1", "doc/2", "doc/ü"]))
    upsert(scoped, Record("doc/2", [9, 9], "", {"color": "new"}), Record("doc/4", [9, 9]))
    scoped.compact(DOCS)

    assert first.next_cursor is not None
    rest = scoped.list_vectors(DOCS, Scan(return_metadata=True), 2, first.next_cursor)

    assert (first.total_count, rest.total_count, rest.next_cursor) == (3, 3, None)
    listed = [*first.vectors, *rest.vectors]
    assert sorted(each.id for each in listed) == ["doc/1", "doc/2", "doc/ü"]
    assert b"new" not in b"".join(each.metadata or b"" for each in listed)
    assert scoped.count(DOCS, scan.scope) == 2
    with pytest.raises(BadCursor):
        scoped.list(DOCS, 2, first.next_cursor)
    with pytest.raises(BadCursor):
        scoped.list_vectors(DOCS, scan, 2, "x")


def test_a_cursor_of_ids_lists_no_vectors(scoped: Engine) -> None:
    page = scoped.list(DOCS, 2, None)

    with pytest.raises(BadCursor):
        scoped.list_vectors(DOCS, Scan(), 2, page.next_cursor)


@pytest.mark.parametrize(
    "clause", [Predicate("x", Operator.NE, (1.0,)), Not((Predicate("x", Operator.EQ, ("a",)),))]
)
def test_a_scope_with_a_property_that_no_index_has_is_refused(
    scoped: Engine, clause: Predicate | Not
) -> None:
    scope = Scope(filter=(clause,))

    with pytest.raises(BadFilter, match="x"):
        scoped.count(DOCS, scope)
    with pytest.raises(BadFilter, match="x"):
        scoped.list_vectors(DOCS, Scan(scope), 1, None)
    with pytest.raises(BadFilter, match="x"):
        scoped.stream_vectors(DOCS, Scan(scope), 1)
    with pytest.raises(BadFilter, match="x"):
        scoped.facet(DOCS, "size", scope, 1)
    with pytest.raises(BadFilter, match="x"):
        scoped.sample_vectors(DOCS, scope, 1, 1)


@pytest.mark.parametrize(
    ("scope", "ids"),
    [
        (Scope(), ["doc/1", "doc/2", "doc/ü", "img/1", "img/2"]),
        (Scope(namespace="n", id_prefix="doc"), ["doc/1", "doc/ü"]),
        (Scope(filter=RED), ["doc/1"]),
        (Scope(namespace="none"), []),
    ],
)
@pytest.mark.parametrize("part_max", [1, 2, 100])
def test_a_sample_of_few_vectors_has_all_of_a_scope(
    scoped: Engine, scope: Scope, ids: list[str], part_max: int
) -> None:
    expected = {each.id: each for each in SCOPED}

    parts = list(scoped.sample_vectors(DOCS, scope, 5, part_max))

    assert sorted(id_ for part in parts for id_ in part.ids) == sorted(ids)
    for part in parts:
        assert 1 <= len(part) <= part_max
        for id_, values, namespace, raw in zip(
            part.ids, part.values, part.namespaces, part.metadata, strict=True
        ):
            record = expected[id_]
            assert (values.tolist(), namespace) == (record.values, record.namespace)
            assert metadata.decode(raw) == (record.metadata or {})


def test_a_sample_of_many_vectors_is_from_everywhere_and_the_same_again(scoped: Engine) -> None:
    insert(scoped, *[Record(f"v{number:03}", [number, 1]) for number in range(300)])
    scoped.compact(DOCS)
    insert(scoped, *[Record(f"w{number:03}", [number, 1]) for number in range(300)])

    def ids() -> list[str]:
        parts = scoped.sample_vectors(DOCS, Scope(), 60, 7)
        return [id_ for part in parts for id_ in part.ids]

    first = ids()

    assert 30 < len(first) <= 60
    assert len(set(first)) == len(first)
    assert all(5 < sum(id_.startswith(start) for id_ in first) < 55 for start in ("v", "w"))
    assert ids() == first


def test_facets_are_counted_over_segments_and_memtable(scoped: Engine) -> None:
    insert(scoped, Record("new", [0, 0], "", {"color": "red", "size": 1}))

    colors = scoped.facet(DOCS, "color", Scope(), 10)
    sizes = scoped.facet(DOCS, "size", Scope(namespace="n"), 1)

    assert colors.values == (FacetValue("red", 2), FacetValue("blue", 1))
    assert (colors.vector_count, colors.value_count, colors.distinct_count) == (6, 3, 2)
    assert sizes.values == (FacetValue(1.0, 1),)
    assert (sizes.vector_count, sizes.value_count, sizes.distinct_count) == (2, 2, 2)
    with pytest.raises(MetadataIndexNotFound, match="other"):
        scoped.facet(DOCS, "other", Scope(), 1)


def test_facets_count_booleans(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(MetadataIndex("flag", IndexType.BOOLEAN)))
    insert(engine, *(Record(f"{n}", [0, 0], "", {"flag": n > 0}) for n in range(3)))
    engine.compact(DOCS)

    facet = engine.facet(DOCS, "flag", Scope(), 5)

    assert facet.values == (FacetValue(True, 2), FacetValue(False, 1))
    assert [type(each.value) for each in facet.values] == [bool, bool]


# Changes of a scope


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        (Scope(namespace="n"), ["doc/2", "img/1", "img/2"]),
        (Scope(filter=RED), ["doc/2", "doc/ü", "img/1", "img/2"]),
        (Scope(id_prefix="doc/"), ["img/1", "img/2"]),
        (Scope("n", RED, "doc/"), ["doc/2", "doc/ü", "img/1", "img/2"]),
        (Scope(id_prefix="none"), ["doc/1", "doc/2", "doc/ü", "img/1", "img/2"]),
        (Scope(), []),
    ],
)
def test_a_scope_is_deleted_by_one_mutation(scoped: Engine, scope: Scope, left: list[str]) -> None:
    before = scoped.status(DOCS).applied_seqno

    accepted = apply(scoped, DeleteScope(scope))

    assert accepted.seqno == before + 1
    assert accepted.vector_count == len(SCOPED) - len(left)
    assert sorted(scoped.list(DOCS, 100, None).ids) == left
    assert scoped.status(DOCS).vector_count == len(left)


def test_metadata_is_patched_and_values_stay(scoped: Engine) -> None:
    values = {each.id: each.values.tolist() for each in scoped.get(DOCS, IDS_OF_SCOPED)}
    patch = PatchMetadata(Scope(id_prefix="doc/"), b'{"color":"red","size":null,"o":{"p":1}}')

    accepted = apply(scoped, patch)
    again = apply(scoped, PatchMetadata(["doc/1", "none", "img/2"], b'{"o":{"p":null,"q":[1]}}'))

    stored = {each.id: each for each in scoped.get(DOCS, IDS_OF_SCOPED)}
    assert (accepted.vector_count, again.vector_count) == (3, 2)
    assert {id_: metadata.decode(each.metadata) for id_, each in stored.items()} == {
        "doc/1": {"color": "red", "o": {"q": [1]}},
        "doc/2": {"color": "red", "o": {"p": 1}},
        "doc/ü": {"color": "red", "o": {"p": 1}},
        "img/1": {"size": "2"},
        "img/2": {"o": {"q": [1]}},
    }
    assert {id_: each.values.tolist() for id_, each in stored.items()} == values
    assert [stored[id_].namespace for id_ in IDS_OF_SCOPED] == ["n", "", "n", "m", ""]
    assert scoped.count(DOCS, Scope(filter=RED)) == 3
    assert scoped.count(DOCS, Scope(filter=(size(Operator.GTE, 0.0),))) == 0


def test_a_patch_that_would_exceed_the_limit_changes_nothing(scoped: Engine) -> None:
    before = scoped.status(DOCS).applied_seqno
    long = b"x" * 10_150
    apply(scoped, PatchMetadata(["doc/2"], b'{"long":"%b"}' % long))

    with pytest.raises(MetadataTooLarge):
        apply(scoped, PatchMetadata(Scope(), b'{"more":"%b"}' % long[:80]))

    assert scoped.status(DOCS).applied_seqno == before + 1
    assert [metadata.decode(each.metadata) for each in scoped.get(DOCS, ["img/2"])] == [{}]
    upsert(scoped, Record("later", [0, 0]))


def test_a_change_of_a_scope_that_no_filter_can_find_is_refused(scoped: Engine) -> None:
    scope = Scope(filter=(Predicate("x", Operator.NE, (1.0,)),))
    before = scoped.status(DOCS).applied_seqno

    for mutation in (DeleteScope(scope), PatchMetadata(scope, b"{}")):
        with pytest.raises(BadFilter, match="x"):
            apply(scoped, mutation)

    assert scoped.status(DOCS).applied_seqno == before


def test_a_change_that_matches_nothing_is_a_mutation_all_the_same(scoped: Engine) -> None:
    for mutation in (
        DeleteScope(Scope(id_prefix="none")),
        PatchMetadata(Scope(id_prefix="none"), b'{"a":1}'),
        PatchMetadata([], b'{"a":1}'),
    ):
        assert apply(scoped, mutation).vector_count == 0
    assert scoped.status(DOCS).vector_count == len(SCOPED)


def test_a_change_finds_what_was_appended_before_it_and_nothing_after(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(COLOR))
    red = [Record(f"r{n}", [0, 0], "", {"color": "red"}) for n in range(20)]
    futures = [engine.append(DOCS, Insert(batch(record))) for record in red[:10]]
    deleted = engine.append(DOCS, DeleteScope(Scope(filter=RED)))
    futures += [engine.append(DOCS, Insert(batch(record))) for record in red[10:]]
    patched = engine.append(DOCS, PatchMetadata(Scope(filter=RED), b'{"color":"blue"}'))
    last = engine.append(DOCS, Upsert(batch(red[0]))).result(APPLIED_WITHIN_S)
    assert engine.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)

    assert deleted.result().vector_count == 10
    assert patched.result().vector_count == 10
    seqnos = [each.result().seqno for each in futures]
    assert max(seqnos[:10]) < deleted.result().seqno < min(seqnos[10:])
    assert engine.count(DOCS, Scope(filter=RED)) == 1
    assert engine.status(DOCS).vector_count == 11


def test_concurrent_writers_lose_to_a_change_only_what_came_before_it(engine: Engine) -> None:
    apply(engine, CreateMetadataIndex(COLOR))
    accepted: list[tuple[int, str]] = []
    changes: list[Accepted] = []

    def write(name: str) -> None:
        for n in range(30):
            record = Record(f"{name}{n}", [0, 0], "", {"color": "red"})
            done = engine.append(DOCS, Upsert(batch(record))).result(APPLIED_WITHIN_S)
            accepted.append((done.seqno, record.id))

    def change() -> None:
        for _ in range(5):
            mutation = DeleteScope(Scope(filter=RED))
            changes.append(engine.append(DOCS, mutation).result(APPLIED_WITHIN_S))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    threads += [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seqno = max([*(each for each, _ in accepted), *(each.seqno for each in changes)])
    assert engine.wait_applied(DOCS, Seqno(seqno), APPLIED_WITHIN_S)

    last_change = max(each.seqno for each in changes)
    kept = sorted(id_ for each, id_ in accepted if each > last_change)
    assert sorted(engine.list(DOCS, 1_000, None).ids) == kept
    assert sum(each.vector_count or 0 for each in changes) == 90 - len(kept)


def test_a_resolved_change_survives_opening_again(
    open_engine: Open, implementation: Implementation
) -> None:
    if not implementation.durable:
        pytest.skip("keeps nothing")
    engine = open_engine()
    create(engine)
    apply(engine, CreateMetadataIndex(COLOR))
    insert(engine, *SCOPED)
    apply(engine, DeleteScope(Scope(filter=RED)))
    apply(engine, PatchMetadata(Scope(id_prefix="img/"), b'{"color":"red"}'))
    engine.close()

    engine = open_engine()

    assert sorted(engine.list(DOCS, 100, None).ids) == ["doc/2", "doc/ü", "img/1", "img/2"]
    assert engine.count(DOCS, Scope(filter=RED)) == 2


# Coverage of metadata indexes


def covered(engine: Engine) -> dict[str, tuple[int, int]]:
    return {
        each.metadata_index.property_name: (each.covered_count, each.vector_count)
        for each in engine.status(DOCS).partial
    }


def test_a_metadata_index_tells_how_many_vectors_it_covers(engine: Engine) -> None:
    insert(engine, *SCOPED[:2])
    engine.compact(DOCS)
    insert(engine, SCOPED[2])
    apply(engine, CreateMetadataIndex(SIZE))
    apply(engine, CreateMetadataIndex(COLOR, backfill=True))
    insert(engine, *SCOPED[3:])

    assert covered(engine) == {"size": (2, 5)}
    engine.compact(DOCS)
    assert covered(engine) == {"size": (2, 5)}
    upsert(engine, SCOPED[0])
    assert covered(engine) == {"size": (3, 5)}
    apply(engine, Delete(["doc/2"]))
    assert covered(engine) == {"size": (3, 4)}
    apply(engine, PatchMetadata(["doc/ü"], b"{}"))
    assert covered(engine) == {}


def test_a_query_tells_that_a_filter_knows_only_some_vectors(engine: Engine) -> None:
    insert(engine, *SCOPED)
    apply(engine, CreateMetadataIndex(SIZE))
    apply(engine, CreateMetadataIndex(COLOR))
    upsert(engine, SCOPED[0])

    result = engine.query(DOCS, where(size(Operator.GT, 0.0)))

    assert [(each.metadata_index, each.covered_count) for each in result.partial] == [(SIZE, 1)]
    assert [each.id for each in result.matches] == ["doc/1"]
    assert engine.query(DOCS, near(0, 0)).partial == ()


@pytest.mark.parametrize("is_sealed", [False, True])
def test_backfill_of_an_index_that_exists_covers_older_vectors(
    engine: Engine, is_sealed: bool
) -> None:
    insert(engine, *SCOPED[:3])
    for index in (SIZE, COLOR):
        apply(engine, CreateMetadataIndex(index))
    insert(engine, *SCOPED[3:])
    if is_sealed:
        engine.compact(DOCS)
    found_before = engine.count(DOCS, Scope(filter=RED))

    for index in (SIZE, COLOR):
        apply(engine, CreateMetadataIndex(index, backfill=True))

    assert found_before == 0
    assert covered(engine) == {}
    assert engine.count(DOCS, Scope(filter=RED)) == 1
    assert engine.count(DOCS, Scope(filter=(size(Operator.GTE, 1.0),))) == 3
    assert engine.count(DOCS, Scope(filter=(Predicate("color", Operator.CONTAINS, ("red",)),))) == 1
    apply(engine, CreateMetadataIndex(COLOR, backfill=True))
    engine.compact(DOCS)
    assert engine.count(DOCS, Scope(filter=RED)) == 1


def test_what_an_index_covers_survives_opening_again(
    open_engine: Open, implementation: Implementation
) -> None:
    if not implementation.durable:
        pytest.skip("keeps nothing")
    engine = open_engine()
    create(engine)
    insert(engine, *SCOPED[:2])
    apply(engine, CreateMetadataIndex(SIZE))
    apply(engine, CreateMetadataIndex(COLOR))
    insert(engine, *SCOPED[2:])
    engine.compact(DOCS)
    apply(engine, CreateMetadataIndex(COLOR, backfill=True))
    engine.close()

    engine = open_engine()

    assert covered(engine) == {"size": (3, 5)}
    engine.compact(DOCS)
    assert covered(engine) == {"size": (3, 5)}
    assert engine.count(DOCS, Scope(filter=RED)) == 1
    engine.close()
    engine = open_engine()
    assert covered(engine) == {"size": (3, 5)}
    assert engine.count(DOCS, Scope(filter=RED)) == 1
