"""The embedded engine beside a dict, under any order of calls, reopenings and crashes.

Both get the same calls and must give the same answers, errors included. The engine's memtable
is so small that most rows are in segments, which seal and merge all the time. After a crash
it must hold all that was acknowledged, and of a mutation in flight all or nothing.

Inline machines do everything in one thread, so that a failure shrinks to a few steps; the
threaded one has the real pools, and merges while it is asked.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.crash import Disk, Loss, Readout, read_all, watching
from tests.support.engines import APPLIED_WITHIN_S, Record, batch
from tests.support.inline import open_inline
from tests.support.memory import memory
from tests.support.model_engine import ModelEngine
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.errors import Error
from vicinal.filters.nodes import (
    LISTS,
    AnyOf,
    Clause,
    Filter,
    Not,
    Operator,
    Predicate,
    Scalar,
)
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    DeleteScope,
    IndexAddress,
    IndexConfig,
    IndexType,
    Insert,
    ListedVector,
    MetadataIndex,
    MetadataLevel,
    Metric,
    Mutation,
    PatchMetadata,
    Query,
    QueryResult,
    Scan,
    Scope,
    UnresolvedMutation,
    Upsert,
)
from vicinal.ranking import TextQuery

# Few of everything, so that calls meet: overwrites, re-adds, shared values, ties.
ADDRESSES = st.sampled_from([IndexAddress("acme", "one"), IndexAddress("acme", "two")])
IDS = st.sampled_from(["a", "b", "c", "d", "e", "f", "é", "\U0001f600"])
NAMESPACES = st.sampled_from(["", "", "n", "m"])
COMPONENTS = st.sampled_from([0.0, 0.0, 1.0, -1.0, 2.5, 0.1, 3.4e38, 1e-45])
LONG = "ü" * 40  # 80 bytes, of which 64 are indexed
DOCUMENTS: st.SearchStrategy[dict[str, object] | None] = st.sampled_from(
    [
        None,
        {},
        {"color": "red"},
        {"color": "blue", "size": 1},
        {"color": LONG, "size": 2.5, "flag": True},
        {"size": -0.0, "a": {"b": "x"}},
        {"color": 7, "size": "1", "flag": 1, "a": "x"},
        {"color": None, "flag": False, "a": {"b": {"c": 1}}},
        {"color": ["red", "x", LONG], "size": [1], "a": {"b": []}},
        {"color": ["re", 1, None], "size": ["1"], "a": {"b": ["x", "x"]}},
        {"note": "The red foxes are running, red foxes!", "color": "red"},
        {"note": ["a fox", 7, "ran 東京都 v1.2.3"], "color": "blue fox"},
        {"note": "running", "size": 1},
        {"note": 12, "color": "the fox"},
    ]
)
METADATA_INDEXES = st.sampled_from(
    [
        MetadataIndex("color", IndexType.STRING),
        MetadataIndex("size", IndexType.NUMBER),
        MetadataIndex("flag", IndexType.BOOLEAN),
        MetadataIndex("a.b", IndexType.STRING),
        MetadataIndex("size", IndexType.STRING),
        MetadataIndex("note", IndexType.TEXT, "english"),
        MetadataIndex("note", IndexType.TEXT, "english"),
        MetadataIndex("color", IndexType.TEXT),
    ]
)
PROPERTIES = st.sampled_from(["color", "size", "flag", "a.b", "note"])
OPERANDS: st.SearchStrategy[Scalar | None] = st.sampled_from(
    ["red", "re", "blue", "ü" * 32, "x", "1", 0.0, 1.0, 2.5, True, False, None]
)
PROBES: list[tuple[str, Scalar]] = [
    ("color", "red"), ("color", "ü" * 32), ("size", 1.0), ("size", "1"),
    ("flag", True), ("a.b", "x"),
]  # fmt: skip
RECORDS = st.builds(
    Record, IDS, st.lists(COMPONENTS, min_size=2, max_size=2), NAMESPACES, DOCUMENTS
)
BATCHES = st.lists(RECORDS, min_size=1, max_size=5).map(lambda records: batch(*records))
MUTATIONS: st.SearchStrategy[Mutation] = st.one_of(
    st.builds(Insert, BATCHES),
    st.builds(Upsert, BATCHES),
    st.builds(Upsert, BATCHES),
    st.builds(Delete, st.lists(IDS, min_size=1, max_size=3)),
    st.builds(CreateMetadataIndex, METADATA_INDEXES, st.booleans()),
    st.builds(DeleteMetadataIndex, PROPERTIES),
)
OPTIONS = st.builds(
    EngineOptions,
    memtable_rows_max=st.sampled_from([1, 3, 3, 1000]),
    memtables_max=st.just(1000),
    merges=st.sampled_from([True, True, False]),
)


@st.composite
def clauses(draw: st.DrawFn, depth: int = 0) -> Clause:
    if depth < 2 and draw(st.integers(0, 5)) == 0:
        if draw(st.booleans()):
            return Not(draw(filters(depth + 1)))
        return AnyOf(tuple(draw(st.lists(filters(depth + 1), max_size=3))))
    operator = draw(st.sampled_from(Operator))
    is_many = operator in LISTS
    operands = draw(st.lists(OPERANDS, max_size=3)) if is_many else [draw(OPERANDS)]
    return Predicate(draw(PROPERTIES), operator, tuple(operands))


@st.composite
def filters(draw: st.DrawFn, depth: int = 0) -> Filter:
    count = draw(st.sampled_from([0, 0, 1, 1, 2]))
    return tuple(draw(clauses(depth)) for _ in range(count))


@st.composite
def queries(draw: st.DrawFn) -> Query:
    by_id = draw(st.booleans())
    components = st.lists(COMPONENTS, min_size=2, max_size=2)
    return Query(
        top_k=draw(st.sampled_from([1, 2, 3, 100])),
        vector=None if by_id else np.array(draw(components), np.float32),
        vector_id=draw(IDS) if by_id else None,
        namespace=draw(NAMESPACES),
        filter=draw(filters()),
        return_values=draw(st.booleans()),
        return_metadata=draw(st.sampled_from(MetadataLevel)),
    )


WORDS = st.lists(
    st.sampled_from(["fox", "FOXES", "red", "ran", "running", "the", "京都", "1.2.3", "absent"]),
    max_size=4,
).map(" ".join)
WEIGHTS = st.sampled_from([(), (), (("note", 2.0),), (("color", 0.5), ("note", 1.0))])


@st.composite
def word_queries(draw: st.DrawFn) -> Query:
    return Query(
        top_k=draw(st.sampled_from([1, 3, 100])),
        text=TextQuery(draw(WORDS), draw(WEIGHTS)),
        namespace=draw(NAMESPACES),
        filter=draw(st.just(()) | filters()),
        return_metadata=draw(st.sampled_from(MetadataLevel)),
    )


SCOPES = st.builds(Scope, NAMESPACES, filters(), st.sampled_from(["", "", "a", "é", "x"]))
PATCHES = st.sampled_from(
    [b"{}", b'{"color":"blue"}', b'{"color":null,"size":7}', b'{"a":{"b":"x","c":null}}',
     b'{"a":null}', b'{"color":["x"],"flag":true}']
)  # fmt: skip
WRITES: st.SearchStrategy[Mutation | UnresolvedMutation] = (
    MUTATIONS
    | MUTATIONS
    | st.builds(DeleteScope, SCOPES)
    | st.builds(PatchMetadata, SCOPES | st.lists(IDS, max_size=4), PATCHES)
)
SCANS = st.builds(
    Scan,
    SCOPES,
    st.booleans(),
    st.booleans(),
)


def _listed(vector: ListedVector) -> tuple[Any, ...]:
    values = None if vector.values is None else vector.values.tobytes()
    return vector.id, vector.namespace, values, vector.metadata


@dataclass
class Listing:
    """A listing under way: what its pages have named, and what they must name in all."""

    address: IndexAddress
    cursor: str
    count: int
    seen: list[str]
    expected: list[str]


class EngineMachine(RuleBasedStateMachine):
    """An inline engine; crashes strike between calls and in the middle of them."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="vicinal-machine-", dir=memory()))
        self.folders = 0
        self.folder = self.new_folder()
        self.model = ModelEngine()
        self.listing: Listing | None = None
        self.last_mutation: dict[IndexAddress, str] = {}

    def open(self, options: EngineOptions) -> EmbeddedEngine:
        return open_inline(self.folder, options)

    def new_folder(self) -> Path:
        self.folders += 1
        return self.root / str(self.folders)

    @initialize(options=OPTIONS, metric=st.sampled_from(Metric))
    def begin(self, options: EngineOptions, metric: Metric) -> None:
        self.engine = self.open(options)
        for name in ("one", "two"):
            self.create_index(IndexAddress("acme", name), metric)

    def teardown(self) -> None:
        try:
            if hasattr(self, "engine"):
                self.check_everything()
        finally:
            if hasattr(self, "engine"):
                self.engine.close()
            shutil.rmtree(self.root)

    # Calls

    def both(self, call: Callable[[Any], object]) -> tuple[object, object]:
        """Do the same with engine and model; return their answers or classes of errors."""
        answers: list[object] = []
        for engine in (self.engine, self.model):
            try:
                answers.append(call(engine))
            except Error as error:
                answers.append(type(error))
        return answers[0], answers[1]

    def agree(self, call: Callable[[Any], object]) -> None:
        found, expected = self.both(call)
        assert found == expected

    def create_index(self, address: IndexAddress, metric: Metric) -> None:
        config = IndexConfig(2, metric)
        self.agree(lambda e: e.create_index(address, config, "text").config)

    @rule(address=ADDRESSES, metric=st.sampled_from(Metric))
    def replace_index(self, address: IndexAddress, metric: Metric) -> None:
        self.create_index(address, metric)  # which is refused
        self.agree(lambda e: e.delete_index(address))
        self.get(address, ["a"])  # which finds no index
        self.create_index(address, metric)
        self.last_mutation.pop(address, None)
        if self.listing is not None and self.listing.address == address:
            self.listing = None

    def write(self, address: IndexAddress, mutation: Mutation | UnresolvedMutation) -> None:
        def call(engine: Engine) -> object:
            accepted = engine.append(address, mutation).result(APPLIED_WITHIN_S)
            assert engine.wait_applied(address, accepted.seqno, APPLIED_WITHIN_S)
            assert engine.status(address).applied_mutation == accepted.mutation_id
            if engine is self.engine:
                self.last_mutation[address] = accepted.mutation_id
            return accepted.seqno, accepted.vector_count

        self.agree(call)

    @rule(address=ADDRESSES, mutation=WRITES)
    def mutate(self, address: IndexAddress, mutation: Mutation | UnresolvedMutation) -> None:
        self.write(address, mutation)

    @rule(address=ADDRESSES, mutations=st.lists(WRITES, min_size=2, max_size=6))
    def mutate_much(
        self, address: IndexAddress, mutations: list[Mutation | UnresolvedMutation]
    ) -> None:
        for mutation in mutations:
            self.write(address, mutation)

    @rule(address=ADDRESSES)
    def compact(self, address: IndexAddress) -> None:
        self.agree(lambda e: e.compact(address))

    @rule(address=ADDRESSES, query=queries())
    def query(self, address: IndexAddress, query: Query) -> None:
        def call(engine: Engine) -> object:
            result = engine.query(address, query)
            matches = [
                (
                    match.id,
                    match.score,
                    match.namespace,
                    None if match.values is None else match.values.tolist(),
                    match.metadata,
                )
                for match in result.matches
            ]
            return matches, sorted(result.unindexed), result.partial

        self.agree(call)

    @rule(address=ADDRESSES, query=word_queries())
    def query_words(self, address: IndexAddress, query: Query) -> None:
        everything = replace(query, top_k=100)
        found, _ = self.both(lambda e: e.query(address, query))
        _, expected = self.both(lambda e: e.query(address, everything))
        if not isinstance(expected, QueryResult):
            assert found == expected
            return
        assert isinstance(found, QueryResult)
        assert (found.unindexed, found.partial) == (expected.unindexed, expected.partial)
        scores = {match.id: match.score for match in expected.matches}
        assert len(found.matches) == min(query.top_k, len(scores))
        for match, like in zip(found.matches, expected.matches, strict=False):
            assert match.score == pytest.approx(scores[match.id], rel=1e-9)
            assert match.score == pytest.approx(like.score, rel=1e-9)
        ranked = [(-match.score, match.id) for match in found.matches]
        assert ranked == sorted(ranked)

    @rule(address=ADDRESSES, ids=st.lists(IDS, max_size=6))
    def get(self, address: IndexAddress, ids: list[str]) -> None:
        self.agree(
            lambda e: [
                (each.id, each.values.tobytes(), each.namespace, each.metadata)
                for each in e.get(address, ids)
            ]
        )

    @rule(address=ADDRESSES, scan=SCANS, count=st.integers(1, 4))
    def read_a_scope(self, address: IndexAddress, scan: Scan, count: int) -> None:
        self.agree(lambda e: e.count(address, scan.scope))
        self.agree(
            lambda e: sorted(
                _listed(each) for part in e.stream_vectors(address, scan, count) for each in part
            )
        )

        def pages(engine: Engine) -> object:
            vectors: list[ListedVector] = []
            cursor = None
            while True:
                page = engine.list_vectors(address, scan, count, cursor)
                vectors += page.vectors
                cursor = page.next_cursor
                if cursor is None:
                    return page.total_count, sorted(map(_listed, vectors))
                scan_ = replace(scan, scope=Scope())
                assert engine.list_vectors(address, scan_, count, cursor).vectors

        self.agree(pages)

    @rule(address=ADDRESSES, scan=SCANS, name=PROPERTIES, count=st.integers(1, 3))
    def count_values(self, address: IndexAddress, scan: Scan, name: str, count: int) -> None:
        self.agree(lambda e: e.facet(address, name, scan.scope, count))

    @precondition(lambda self: self.listing is None)
    @rule(address=ADDRESSES, count=st.integers(1, 4))
    def begin_listing(self, address: IndexAddress, count: int) -> None:
        page = self.engine.list(address, count, None)
        expected = list(self.model.list(address, 1000, None).ids)
        if page.next_cursor is None:
            assert sorted(page.ids) == expected
        else:
            seen = list(page.ids)
            self.listing = Listing(address, page.next_cursor, count, seen, expected)

    @precondition(lambda self: self.listing is not None)
    @rule()
    def go_on_listing(self) -> None:
        listing = self.listing
        assert listing is not None
        page = self.engine.list(listing.address, listing.count, listing.cursor)
        assert page.total_count == len(listing.expected)
        listing.seen += page.ids
        if page.next_cursor is None:
            assert sorted(listing.seen) == listing.expected
            self.listing = None
        else:
            assert len(page.ids) == listing.count
            listing.cursor = page.next_cursor

    # Endings

    @rule(options=OPTIONS)
    def close_and_open(self, options: EngineOptions) -> None:
        self.engine.close()
        self.reopen(options)
        self.check_everything()

    @rule(options=OPTIONS)
    def be_killed_and_open(self, options: EngineOptions) -> None:
        survivor = self.new_folder()
        shutil.copytree(self.folder, survivor)
        self.engine.close()
        self.folder = survivor
        self.reopen(options)
        self.check_everything()

    @rule(
        address=ADDRESSES,
        mutation=WRITES | st.just(None),
        step=st.integers(0, 80),
        loss=st.sampled_from(Loss),
        options=OPTIONS,
    )
    def crash_during_a_call_and_open(
        self,
        address: IndexAddress,
        mutation: Mutation | UnresolvedMutation | None,
        step: int,
        loss: Loss,
        options: EngineOptions,
    ) -> None:
        """Crash at some step of a mutation, or of maintenance, or just after it."""
        survivor = self.new_folder()
        before = self.model.copy()

        def photograph(disk: Disk, _: str) -> None:
            if len(disk.steps) == step:
                disk.image(survivor, loss)

        with watching(self.folder, photograph) as disk:
            if mutation is None:
                self.compact(address)
            else:
                self.write(address, mutation)
            is_over = not survivor.exists()
            if is_over:
                disk.image(survivor, loss)
        note(f"crashed at step {step} of {len(disk.steps)}, over: {is_over}")
        self.engine.close()
        self.folder = survivor
        self.reopen(options)
        if not is_over and self.everything(self.engine) == self.everything(before):
            self.model = before
            self.last_mutation.pop(address, None)
        self.check_everything()

    def reopen(self, options: EngineOptions) -> None:
        self.engine = self.open(options)
        self.listing = None

    # What must be so

    def everything(self, engine: Engine) -> dict[str, tuple[Readout, int]]:
        return {
            each.name: (
                read_all(engine, IndexAddress("acme", each.name), PROBES),
                engine.status(IndexAddress("acme", each.name)).applied_seqno,
            )
            for each in engine.list_indexes("acme")
        }

    def check_everything(self) -> None:
        assert self.everything(self.engine) == self.everything(self.model)
        for address, mutation_id in self.last_mutation.items():
            assert self.engine.status(address).applied_mutation == mutation_id

    @invariant()
    def indexes_are_those_of_the_model(self) -> None:
        if hasattr(self, "engine"):
            names = [each.name for each in self.model.list_indexes("acme")]
            assert [each.name for each in self.engine.list_indexes("acme")] == names
            for name in names:
                address = IndexAddress("acme", name)
                found, expected = self.engine.status(address), self.model.status(address)
                assert found.vector_count == expected.vector_count
                assert found.applied_seqno == expected.applied_seqno
                assert found.partial == expected.partial


class ThreadedMachine(EngineMachine):
    """The engine as it is used: it seals, merges and tidies while it is asked."""

    def open(self, options: EngineOptions) -> EmbeddedEngine:
        return EmbeddedEngine.open(self.folder, replace(options, idle_s=0.002))

    # What is copied while threads write is no image of a crash.
    be_killed_and_open = None  # type: ignore[assignment]  # a rule of the other machine only
    crash_during_a_call_and_open = None  # type: ignore[assignment]


def run(machine: type[EngineMachine], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps)
    )


def test_the_engine_answers_as_the_dict_does_through_crashes_and_reopenings() -> None:
    run(EngineMachine, examples=200, steps=30)


def test_the_engine_answers_as_the_dict_does_while_it_seals_and_merges() -> None:
    run(ThreadedMachine, examples=60, steps=30)


@pytest.mark.slow
def test_the_engine_answers_as_the_dict_does_for_long() -> None:
    run(EngineMachine, examples=2_000, steps=60)


@pytest.mark.slow
def test_the_threaded_engine_answers_as_the_dict_does_for_long() -> None:
    run(ThreadedMachine, examples=500, steps=60)
