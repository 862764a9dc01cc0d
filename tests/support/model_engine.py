"""The engine as a dict: simple, obviously right, slow.

The oracle of the engine's property tests and the engine under the server's tests. It
keeps every promise of `engine.base` except survival: nothing is written down, and a
mutation is applied before `append` returns.

Where the seam leaves a choice open, this is what is chosen:

* ids are listed in order of code points;
* `LimitExceeded` counts exactly what the index would hold after the mutation, and vectors
  without a namespace are in no namespace;
* a metadata index of another type on the same property is `AlreadyExists`;
* a match with nothing indexed has the metadata ``b""`` at the level `indexed`.
"""

import json
import math
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from vicinal import distance, metadata
from vicinal.errors import (
    AlreadyExists,
    BadCursor,
    BadFilter,
    BadQueryVector,
    BadRanking,
    IndexExists,
    IndexNotFound,
    LimitExceeded,
    MetadataIndexNotFound,
    MetadataTooLarge,
    WrongDimensions,
)
from vicinal.filters.evaluate import matches
from vicinal.filters.nodes import Filter, Value, predicates
from vicinal.index_storage import MEMTABLE, IndexStorage, StoredPart
from vicinal.keywords.analyzer import analyzer
from vicinal.limits import Limits
from vicinal.model import (
    Accepted,
    BatchWriter,
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    DeleteScope,
    Facet,
    FacetValue,
    Index,
    IndexAddress,
    IndexConfig,
    IndexCoverage,
    IndexType,
    Insert,
    ListedVector,
    MetadataIndex,
    MetadataLevel,
    Mutation,
    Page,
    Query,
    QueryResult,
    Scan,
    Scope,
    ScoredVector,
    Seqno,
    Status,
    StoredVector,
    UnresolvedMutation,
    Upsert,
    VectorBatch,
    VectorPage,
)
from vicinal.prepared import Prepared
from vicinal.usage import EngineUsage, IndexUsage
from vicinal.wire.rows import MemoryBatchWriter

BATCH_MAX = 5_000

CURSOR_LIFETIME = timedelta(minutes=15)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Stored:
    """A vector with what the metadata indexes of its time hold for it.

    `indexed` has a key for each property that had a metadata index when the vector was
    written, or whose index was backfilled since.
    """

    vector: StoredVector
    indexed: dict[str, Value | None]


@dataclass(frozen=True, slots=True)
class State:
    """What a query sees. A mutation makes a new one from it."""

    vectors: dict[str, Stored] = field(default_factory=dict)
    metadata_indexes: dict[str, MetadataIndex] = field(default_factory=dict)


@dataclass(slots=True)
class Shelf:
    """One index: its fixed part, its readable state and how far that has come."""

    index: Index
    state: State = field(default_factory=State)
    applied_seqno: int = 0
    applied_mutation: str | None = None
    applied_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the ids of a snapshot."""

    shelf: Shelf
    ids: Sequence[str]
    start: int
    expires_at: datetime
    vectors: Sequence[StoredVector] | None = None


class ModelEngine:
    """An `engine.base.Engine` that forgets everything when it goes.

    Args:
        limits: What an account and an index may hold.
        clock: Tells the time in UTC; cursors expire by it.
    """

    is_shared = False

    def __init__(
        self, limits: Limits | None = None, *, clock: Callable[[], datetime] = now
    ) -> None:
        self._limits = limits or Limits()
        self._clock = clock
        self._shelves: dict[IndexAddress, Shelf] = {}
        self._cursors: dict[str, Cursor] = {}
        self._lock = threading.RLock()

    def create_index(
        self, address: IndexAddress, config: IndexConfig, description: str | None
    ) -> Index:
        with self._lock:
            if _key(address) in self._shelves:
                raise IndexExists(address.name)
            bound = self._limits.indexes_per_account_max
            _hold(len(self.list_indexes(address.account)) + 1, bound, "indexes in an account")
            index = Index(str(uuid.uuid4()), address.name, description, config, self._clock())
            self._shelves[_key(address)] = Shelf(index)
            return index

    def delete_index(self, address: IndexAddress) -> None:
        with self._lock:
            self._shelf(address)
            del self._shelves[_key(address)]

    def answers_at_once(self, address: IndexAddress) -> bool:
        return True

    def get_index(self, address: IndexAddress) -> Index:
        with self._lock:
            return self._shelf(address).index

    def list_indexes(self, account: str) -> Sequence[Index]:
        with self._lock:
            return [s.index for address, s in self._shelves.items() if address.account == account]

    def list_metadata_indexes(self, address: IndexAddress) -> Sequence[MetadataIndex]:
        with self._lock:
            return list(self._shelf(address).state.metadata_indexes.values())

    def open_batch(self, address: IndexAddress) -> BatchWriter:
        return MemoryBatchWriter(self.get_index(address).config.dimensions, 0, BATCH_MAX)

    def append(
        self,
        address: IndexAddress,
        mutation: Mutation | UnresolvedMutation,
        *,
        wait_s: float = 0.0,
    ) -> Future[Accepted]:
        with self._lock:
            shelf = self._shelf(address)
            if isinstance(mutation, Insert | Upsert):
                length = mutation.batch.values.shape[1]
                if length != shelf.index.config.dimensions:
                    raise WrongDimensions(f"the vectors have {length} dimensions")
            count = None
            if isinstance(mutation, UnresolvedMutation):
                mutation, count = resolved(shelf.state, mutation, self._limits)
            after = applied(shelf.state, mutation, self._limits)
            self._check(after)
            shelf.state = after
            shelf.applied_seqno += 1
            shelf.applied_mutation = str(uuid.uuid4())
            shelf.applied_at = self._clock()
            future: Future[Accepted] = Future()
            accepted = Accepted(shelf.applied_mutation, Seqno(shelf.applied_seqno), count)
            future.set_result(accepted)
            return future

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        with self._lock:
            return self._shelf(address).applied_seqno >= seqno

    def status(self, address: IndexAddress) -> Status:
        with self._lock:
            shelf = self._shelf(address)
            return Status(
                dimensions=shelf.index.config.dimensions,
                vector_count=len(shelf.state.vectors),
                applied_seqno=Seqno(shelf.applied_seqno),
                applied_mutation=shelf.applied_mutation,
                applied_at=shelf.applied_at,
                partial=partial(shelf.state, shelf.state.metadata_indexes),
            )

    def storage(self, address: IndexAddress) -> IndexStorage:
        with self._lock:
            shelf = self._shelf(address)
            count, dimensions = len(shelf.state.vectors), shelf.index.config.dimensions
            size = 4 * count * dimensions
            return IndexStorage((StoredPart(MEMTABLE, count, 0, size),) if count else (), size)

    def usage(self) -> EngineUsage:
        with self._lock:
            return EngineUsage(
                len(self._shelves),
                [
                    IndexUsage(address, len(shelf.state.vectors), 0)
                    for address, shelf in self._shelves.items()
                ],
            )

    def query(self, address: IndexAddress, query: Query) -> QueryResult:
        with self._lock:
            shelf = self._shelf(address)
            if query.vector is not None and len(query.vector) != shelf.index.config.dimensions:
                raise BadQueryVector(f"the vector has {len(query.vector)} dimensions")
            return answer(shelf.state, shelf.index.config, query)

    def prepare(self, address: IndexAddress, query: Query) -> Prepared[QueryResult]:
        result = self.query(address, query)
        return Prepared(lambda: result)

    def get(self, address: IndexAddress, ids: Sequence[str]) -> Sequence[StoredVector]:
        with self._lock:
            vectors = self._shelf(address).state.vectors
            return [vectors[id_].vector for id_ in dict.fromkeys(ids) if id_ in vectors]

    def list(self, address: IndexAddress, count: int, cursor: str | None) -> Page:
        with self._lock:
            shelf = self._shelf(address)
            if cursor is None:
                ids = sorted(shelf.state.vectors)
                position = Cursor(shelf, ids, 0, self._clock() + CURSOR_LIFETIME)
            else:
                position = self._place(shelf, cursor)
                if position.vectors is not None:
                    raise BadCursor(f"cursor {cursor!r} is of a listing of vectors")
            end = position.start + count
            page = position.ids[position.start : end]
            if end >= len(position.ids):
                return Page(page, len(position.ids), None, None)
            following = str(uuid.uuid4())
            self._cursors[following] = Cursor(shelf, position.ids, end, position.expires_at)
            return Page(page, len(position.ids), following, position.expires_at)

    def list_vectors(
        self, address: IndexAddress, scan: Scan, count: int, cursor: str | None
    ) -> VectorPage:
        with self._lock:
            shelf = self._shelf(address)
            if cursor is None:
                listed = tuple(selected(shelf.state, scan.scope))
                position = Cursor(
                    shelf, [each.id for each in listed], 0, self._clock() + CURSOR_LIFETIME, listed
                )
            else:
                position = self._place(shelf, cursor)
                if position.vectors is None:
                    raise BadCursor(f"cursor {cursor!r} is of a listing of ids")
            assert position.vectors is not None
            end, total = position.start + count, len(position.ids)
            page = [shown(each, scan) for each in position.vectors[position.start : end]]
            if end >= total:
                return VectorPage(page, total, None, None)
            following = str(uuid.uuid4())
            self._cursors[following] = replace(position, start=end)
            return VectorPage(page, total, following, position.expires_at)

    def stream_vectors(
        self, address: IndexAddress, scan: Scan, count: int
    ) -> Iterator[Sequence[ListedVector]]:
        with self._lock:
            listed = [
                shown(each, scan) for each in selected(self._shelf(address).state, scan.scope)
            ]
        return iter([listed[first : first + count] for first in range(0, len(listed), count)])

    def sample_vectors(
        self, address: IndexAddress, scope: Scope, count_max: int, part_max: int
    ) -> Iterator[VectorBatch]:
        with self._lock:
            state = self._shelf(address).state
            listed = [state.vectors[each.id].vector for each in selected(state, scope)]
        listed = listed[:: max(1, -(-len(listed) // count_max))]
        parts = [listed[first : first + part_max] for first in range(0, len(listed), part_max)]
        return iter(
            [
                VectorBatch(
                    [each.id for each in part],
                    np.array([each.values for each in part], np.float32),
                    [each.namespace for each in part],
                    [each.metadata for each in part],
                )
                for part in parts
            ]
        )

    def count(self, address: IndexAddress, scope: Scope) -> int:
        with self._lock:
            return len(selected(self._shelf(address).state, scope))

    def facet(
        self, address: IndexAddress, property_name: str, scope: Scope, values_max: int
    ) -> Facet:
        with self._lock:
            state = self._shelf(address).state
            if property_name not in state.metadata_indexes:
                raise MetadataIndexNotFound(property_name)
            if state.metadata_indexes[property_name].index_type is IndexType.TEXT:
                raise MetadataIndexNotFound(property_name)
            listed = selected(state, scope)
            values = [state.vectors[each.id].indexed.get(property_name) for each in listed]
            held = [each for each in values if each is not None and not isinstance(each, tuple)]
            ranked = sorted(
                (FacetValue(each, held.count(each)) for each in set(held)),
                key=lambda each: (-each.count, each.value),
            )
            return Facet(
                property_name, state.metadata_indexes[property_name].index_type, len(listed),
                len(held), len(ranked), tuple(ranked[:values_max]),
            )  # fmt: skip

    def compact(self, address: IndexAddress) -> None:
        self._shelf(address)

    def close(self) -> None:
        """Nothing to release."""

    def copy(self) -> "ModelEngine":
        """Return another model in the same state, without the cursors."""
        other = ModelEngine(self._limits, clock=self._clock)
        with self._lock:
            other._shelves = {key: replace(shelf) for key, shelf in self._shelves.items()}
        return other

    def _shelf(self, address: IndexAddress) -> Shelf:
        shelf = self._shelves.get(_key(address))
        if shelf is None or address.id not in (None, shelf.index.id):
            raise IndexNotFound(address.name)
        return shelf

    def _place(self, shelf: Shelf, cursor: str) -> Cursor:
        position = self._cursors.get(cursor)
        if position is None or position.shelf is not shelf:
            raise BadCursor(f"cursor {cursor!r} is not one of this index")
        if position.expires_at <= self._clock():
            raise BadCursor(f"cursor {cursor!r} expired at {position.expires_at.isoformat()}")
        return position

    def _check(self, state: State) -> None:
        limits = self._limits
        namespaces = {stored.vector.namespace for stored in state.vectors.values()} - {""}
        _hold(len(state.vectors), limits.vectors_per_index_max, "vectors in an index")
        _hold(len(namespaces), limits.namespaces_per_index_max, "namespaces in an index")
        _hold(len(state.metadata_indexes), limits.metadata_indexes_max, "metadata indexes")


def _key(address: IndexAddress) -> IndexAddress:
    return replace(address, id=None)


def applied(state: State, mutation: Mutation, limits: Limits) -> State:
    """Return the state after a mutation; `state` itself does not change.

    Raises:
        AlreadyExists: the property has a metadata index of another type.
        MetadataIndexNotFound: there is no such metadata index to drop.
    """
    match mutation:
        case Insert(batch):
            written = _written(reversed(list(_vectors(batch))), state, limits)
            return State(written | state.vectors, state.metadata_indexes)
        case Upsert(batch):
            written = _written(_vectors(batch), state, limits)
            return State(state.vectors | written, state.metadata_indexes)
        case Delete(ids):
            kept = {id_: stored for id_, stored in state.vectors.items() if id_ not in set(ids)}
            return State(kept, state.metadata_indexes)
        case CreateMetadataIndex(metadata_index, backfill):
            return _with_metadata_index(state, metadata_index, backfill, limits)
        case DeleteMetadataIndex(property_name):
            return _without_metadata_index(state, property_name)


def resolved(state: State, mutation: UnresolvedMutation, limits: Limits) -> tuple[Mutation, int]:
    """Return what a mutation does to a state, and how many vectors it changes."""
    if isinstance(mutation, DeleteScope):
        ids = [vector.id for vector in selected(state, mutation.scope)]
        return Delete(ids), len(ids)
    if isinstance(mutation.target, Scope):
        vectors = selected(state, mutation.target)
    else:
        ids = [id_ for id_ in dict.fromkeys(mutation.target) if id_ in state.vectors]
        vectors = [state.vectors[id_].vector for id_ in ids]
    patch = json.loads(mutation.patch)
    documents = [_merge(json.loads(vector.metadata or b"{}"), patch) for vector in vectors]
    encoded = [metadata.encode(document) for document in documents]
    if any(len(each) > limits.metadata_bytes_max for each in encoded):
        raise MetadataTooLarge("a vector's metadata")
    if not vectors:
        return Delete([]), 0
    batch = VectorBatch(
        [vector.id for vector in vectors],
        np.array([vector.values for vector in vectors], np.float32),
        [vector.namespace for vector in vectors],
        [
            after if document or vector.metadata else b""
            for after, document, vector in zip(encoded, documents, vectors, strict=True)
        ],
    )
    return Upsert(batch), len(vectors)


def _merge(target: Any, patch: Any) -> Any:
    """The pseudocode of RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = _merge(target.get(name), value)
    return target


def answer(state: State, config: IndexConfig, query: Query) -> QueryResult:
    """Return what a query finds in a state."""
    unindexed = dict.fromkeys(
        predicate.property_name
        for predicate in predicates(query.filter)
        if predicate.property_name not in filterable(state)
    )
    if query.text is not None:
        return answer_words(state, query, tuple(unindexed))
    target = query.vector
    if query.vector_id is not None:
        source = state.vectors.get(query.vector_id)
        target = source.vector.values if source else None
    if target is None:
        return QueryResult((), tuple(unindexed))
    passing = passing_ids(state, query.namespace, query.filter)
    rows = np.array([state.vectors[id_].vector.values for id_ in passing], np.float32)
    far = distance.distances(rows.reshape(-1, config.dimensions), target, config.metric).tolist()
    ranked = sorted(zip(far, passing, strict=True))
    asked = {predicate.property_name for predicate in predicates(query.filter)}
    return QueryResult(
        tuple(
            ScoredVector(
                id=id_,
                score=distance.score(near, config.metric),
                namespace=state.vectors[id_].vector.namespace,
                values=state.vectors[id_].vector.values if query.return_values else None,
                metadata=_shown_metadata(state.vectors[id_], state, query.return_metadata),
            )
            for near, id_ in ranked[: query.top_k]
        ),
        tuple(unindexed),
        partial=() if unindexed else partial(state, asked),
    )


def partial(state: State, names: Collection[str]) -> tuple[IndexCoverage, ...]:
    """Return the metadata indexes of these names that do not cover all vectors."""
    coverages = [
        IndexCoverage(
            index, sum(name in each.indexed for each in state.vectors.values()), len(state.vectors)
        )
        for name, index in state.metadata_indexes.items()
        if name in names
    ]
    return tuple(each for each in coverages if each.covered_count < each.vector_count)


def selected(state: State, scope: Scope) -> list[StoredVector]:
    """Return the vectors of a scope, by id."""
    for predicate in predicates(scope.filter):
        if predicate.property_name not in filterable(state):
            raise BadFilter(predicate.property_name)
    return [
        state.vectors[id_].vector
        for id_ in sorted(passing_ids(state, scope.namespace, scope.filter))
        if id_.startswith(scope.id_prefix)
    ]


def shown(vector: StoredVector, scan: Scan) -> ListedVector:
    return ListedVector(
        vector.id,
        vector.namespace,
        vector.values if scan.return_values else None,
        vector.metadata if scan.return_metadata else None,
    )


def passing_ids(state: State, namespace: str, filter_: Filter) -> list[str]:
    """Return the ids of the vectors of a namespace, or of all for "", that pass a filter."""
    names = filterable(state)
    passes: dict[object, bool] = {}  # by values, which many vectors may share

    def is_passing(stored: Stored) -> bool:
        held = tuple(map(stored.indexed.get, names))
        key = held, tuple(map(type, held))  # as True equals 1.0
        if key not in passes:
            passes[key] = matches(filter_, indexed_values(stored, names))
        return passes[key]

    return [
        id_
        for id_, stored in state.vectors.items()
        if namespace in ("", stored.vector.namespace) and (not filter_ or is_passing(stored))
    ]


def indexed_values(stored: Stored, names: Sequence[str]) -> dict[str, Value | None]:
    """Return what the metadata indexes of these names hold for a vector."""
    return {name: stored.indexed.get(name) for name in names}


def filterable(state: State) -> list[str]:
    """Return the properties whose metadata index filters read."""
    indexes = state.metadata_indexes.items()
    return [name for name, index in indexes if index.index_type is not IndexType.TEXT]


def answer_words(state: State, query: Query, unindexed: tuple[str, ...]) -> QueryResult:
    """Return what a search for words alone finds: BM25 as the textbooks have it."""
    assert query.text is not None
    assert (query.vector, query.vector_id) == (None, None), "the model knows no fusion"
    indexes = [i for i in state.metadata_indexes.values() if i.index_type is IndexType.TEXT]
    weights = dict(query.text.weights) or {index.property_name: 1.0 for index in indexes}
    names = {index.property_name for index in indexes}
    if not names or not weights.keys() <= names:
        raise BadRanking(
            "the index has no text index: create a metadata index of type text, with backfill for "
            "the vectors that are there"
        )
    if unindexed:
        return QueryResult((), unindexed)
    totals: dict[str, float] = {}
    for index in indexes:
        name = index.property_name
        documents = {
            id_: analyzer(index.language).terms(texts)
            for id_, stored in state.vectors.items()
            if isinstance(texts := stored.indexed.get(name), tuple)
        }
        scored = bm25(documents, analyzer(index.language).terms([query.text.text]))
        for id_, score in scored.items():
            if name in weights:
                totals[id_] = totals.get(id_, 0.0) + weights[name] * score
    passing = [
        (-score, id_)
        for id_, score in totals.items()
        if query.namespace in ("", state.vectors[id_].vector.namespace)
        and matches(query.filter, indexed_values(state.vectors[id_], filterable(state)))
    ]
    ranked = [(id_, -far, state.vectors[id_]) for far, id_ in sorted(passing)[: query.top_k]]
    wanted = {predicate.property_name for predicate in predicates(query.filter)}
    partial_names = [*partial(state, wanted), *partial(state, weights)]
    return QueryResult(
        tuple(
            ScoredVector(
                id=id_,
                score=score,
                namespace=stored.vector.namespace,
                values=stored.vector.values if query.return_values else None,
                metadata=_shown_metadata(stored, state, query.return_metadata),
            )
            for id_, score, stored in ranked
        ),
        partial=tuple(partial_names),
    )


def bm25(documents: Mapping[str, Sequence[str]], query: Sequence[str]) -> dict[str, float]:
    """Return the scores above 0 of documents, by Lucene's form of BM25."""
    full = {id_: terms for id_, terms in documents.items() if terms}
    mean = sum(map(len, full.values())) / max(len(full), 1)
    scores: dict[str, float] = {}
    for term in dict.fromkeys(query):
        having = {id_: terms.count(term) for id_, terms in full.items() if term in terms}
        idf = math.log(1 + (len(full) - len(having) + 0.5) / (len(having) + 0.5))
        for id_, count in having.items():
            length = len(full[id_]) / mean
            tf = count / (count + 1.2 * (1 - 0.75 + 0.75 * length))
            scores[id_] = scores.get(id_, 0.0) + idf * tf
    return scores


def _hold(count: int, bound: int | None, noun: str) -> None:
    if bound is not None and count > bound:
        raise LimitExceeded(f"{count} {noun} is more than the {bound} there may be")


def _vectors(batch: VectorBatch) -> Iterable[StoredVector]:
    for id_, values, namespace, blob in zip(
        batch.ids, batch.values, batch.namespaces, batch.metadata, strict=True
    ):
        yield StoredVector(id_, values.copy(), namespace, blob)


def _written(vectors: Iterable[StoredVector], state: State, limits: Limits) -> dict[str, Stored]:
    """Return the vectors as they are stored, the last of a repeated id."""
    return {
        vector.id: Stored(
            vector,
            {
                name: _indexed(vector, metadata_index, limits)
                for name, metadata_index in state.metadata_indexes.items()
            },
        )
        for vector in vectors
    }


def _indexed(vector: StoredVector, metadata_index: MetadataIndex, limits: Limits) -> Value | None:
    document: Any = metadata.decode(vector.metadata)
    if metadata_index.index_type is IndexType.TEXT:
        return tuple(metadata.texts(document, metadata_index.property_name)) or None
    bytes_max = limits.indexed_string_bytes_max
    scalar = metadata.indexed_value(document, metadata_index, string_bytes_max=bytes_max)
    if scalar is not None or metadata_index.index_type is not IndexType.STRING:
        return scalar
    for name in metadata_index.property_name.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    strings = document if isinstance(document, list) else []
    return tuple(metadata.cut(s, bytes_max) for s in strings if isinstance(s, str)) or None


def _with_metadata_index(
    state: State, metadata_index: MetadataIndex, backfill: bool, limits: Limits
) -> State:
    name = metadata_index.property_name
    existing = state.metadata_indexes.get(name)
    if existing == metadata_index and not backfill:
        return state
    if existing not in (None, metadata_index):
        raise AlreadyExists(
            f"property {name!r} has a metadata index of type {existing.index_type} already"
        )
    vectors = {
        id_: Stored(
            stored.vector,
            {key: value for key, value in stored.indexed.items() if key != name}
            | ({name: _indexed(stored.vector, metadata_index, limits)} if backfill else {}),
        )
        for id_, stored in state.vectors.items()
    }
    return State(vectors, state.metadata_indexes | {name: metadata_index})


def _without_metadata_index(state: State, property_name: str) -> State:
    if property_name not in state.metadata_indexes:
        raise MetadataIndexNotFound(f"no metadata index is on property {property_name!r}")
    return State(
        state.vectors,
        {
            name: metadata_index
            for name, metadata_index in state.metadata_indexes.items()
            if name != property_name
        },
    )


def _shown_metadata(stored: Stored, state: State, level: MetadataLevel) -> bytes | None:
    match level:
        case MetadataLevel.NONE:
            return None
        case MetadataLevel.ALL:
            return stored.vector.metadata
        case MetadataLevel.INDEXED:
            held = [
                (name, value)
                for name, value in indexed_values(stored, filterable(state)).items()
                if value is not None and not isinstance(value, tuple)
            ]
            return metadata.from_indexed_values(held) if held else b""
