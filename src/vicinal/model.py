"""The nouns that cross layers: index, vector, mutation, query, result.

Plain frozen data without behaviour, JSON or files. Wire spellings are in `wire/`. A value here is
valid: the code that builds it has checked it against `limits.Limits`, so nothing below the wire
refuses a request.

Two conventions keep the hot paths simple: a vector without a namespace has the namespace
``""`` (the wire treats both alike), and metadata travels as the bytes of compact JSON,
``b""`` for none (`metadata.py` reads and writes them).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.filters.nodes import Filter, Scalar
from vicinal.ranking import (
    Diversity,
    Grouping,
    Highlight,
    MatchScores,
    Reranking,
    TextQuery,
    WordsExplanation,
)

Floats = NDArray[np.float32]
Ordinals = NDArray[np.int64]
Mask = NDArray[np.bool_]

Seqno = NewType("Seqno", int)
"""The sequence number of a mutation in its index's log, from 1."""

BEFORE_ANY = Seqno(0)
"""Less than the number of every mutation."""


class Metric(StrEnum):
    """The distance function of an index."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
    DOT_PRODUCT = "dot-product"


class IndexType(StrEnum):
    """The JSON type that a metadata index holds; values of other types are not indexed.

    `TEXT` (an extension) is for keyword search instead of filters: the words of strings, and of the
    strings of arrays.
    """

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"


class MetadataLevel(StrEnum):
    """The part of a match's metadata that a query returns."""

    NONE = "none"
    INDEXED = "indexed"
    ALL = "all"


class Effort(StrEnum):
    """The search effort of a query where segments are searched by binary codes (an extension).

    `EXACT` measures every vector. The other levels are recalls for which a segment has found the
    oversampling that reaches them (`ann.calibration.RECALLS`).
    """

    LOW = "low"
    STANDARD = "standard"
    HIGH = "high"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class IndexAddress:
    """The account and the name of an index; accounts share nothing.

    With an `id` it means that index alone: after its deletion another index of the name is not
    found here. Without an `id` it means the index that has the name at the moment of the call.
    """

    account: str
    name: str
    id: str | None = None

    def of(self, index: "Index") -> "IndexAddress":
        """Return the address of `index` alone; `index` is the one at this address."""
        return IndexAddress(self.account, self.name, index.id)


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """The settings of an index, fixed at its creation.

    `effort` is the default of its queries, and `model` the name of the model whose vectors it
    holds; None if nobody said.
    """

    dimensions: int
    metric: Metric
    preset: str | None = None
    effort: Effort = Effort.STANDARD
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An entry of the catalog. `created_at` is in UTC.

    `id` is unique, also among indexes that had or will have the same name.
    """

    id: str
    name: str
    description: str | None
    config: IndexConfig
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MetadataIndex:
    """One indexed property; dots in `property_name` address nested objects.

    `language` is that of a text index whose words are cut to their stems
    (`keywords.analyzer.languages`), None leaves words whole.
    """

    property_name: str
    index_type: IndexType
    language: str | None = None

    @property
    def type_name(self) -> str:
        """The type, with the language where there is one: ``text:english``."""
        if self.language is None:
            return self.index_type.value
        return f"{self.index_type.value}:{self.language}"

    @classmethod
    def of_type_name(cls, property_name: str, type_name: str) -> "MetadataIndex":
        """Return the index of a property with this `type_name`.

        Raises:
            ValueError: the type is unknown.
        """
        index_type, _, language = type_name.partition(":")
        return cls(property_name, IndexType(index_type), language or None)


@dataclass(frozen=True, slots=True)
class IndexCoverage:
    """How many of an index's vectors a metadata index has indexed: the others are older than it and
    lack a value."""

    metadata_index: MetadataIndex
    covered_count: int
    vector_count: int


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Vectors of one request, column by column; all four have the same length n.

    `values` is ``(n, dimensions)`` float32, C-contiguous and finite. Ids may repeat.
    """

    ids: Sequence[str]
    values: Floats
    namespaces: Sequence[str]
    metadata: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.ids)


class BatchWriter(Protocol):
    """A batch that is made row by row, before the number of rows is known.

    Its methods may raise `Unavailable`: the values cannot be written. One thread at a time.
    """

    def free(self) -> Floats:
        """Return rows to write to: ``(n, d)`` float32, C-contiguous, n at least 1."""
        ...

    def advance(self, count: int) -> None:
        """Append the first `count` rows of the last `free()` to the batch."""
        ...

    def batch(
        self, ids: Sequence[str], namespaces: Sequence[str], metadata: Sequence[bytes]
    ) -> VectorBatch:
        """Return the batch of all appended rows, which is then complete."""
        ...

    def close(self) -> None:
        """Remove the values, unless a mutation has them; to be called in any case."""
        ...


@dataclass(frozen=True, slots=True)
class Insert:
    """Add vectors whose id is new; of a repeated id the first vector counts."""

    batch: VectorBatch


@dataclass(frozen=True, slots=True)
class Upsert:
    """Add vectors or replace them whole; of a repeated id the last vector counts."""

    batch: VectorBatch


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove vectors; unknown ids are ignored."""

    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class CreateMetadataIndex:
    """Index a property of vectors written from now on, and of older vectors with `backfill`.

    An index of the same property and type may exist: then nothing changes but for `backfill`.
    """

    metadata_index: MetadataIndex
    backfill: bool = False


@dataclass(frozen=True, slots=True)
class DeleteMetadataIndex:
    """Delete a metadata index; one that is created on the property again starts empty."""

    property_name: str


Mutation = Insert | Upsert | Delete | CreateMetadataIndex | DeleteMetadataIndex
"""A change of an index, as its log has it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The vectors of an index that are in a namespace (``""``: any), pass a filter, and have an id
    that begins with `id_prefix`; without any of these all vectors."""

    namespace: str = ""
    filter: Filter = ()
    id_prefix: str = ""


@dataclass(frozen=True, slots=True)
class DeleteScope:
    """Remove the vectors that are in a scope at the mutation's place in the log."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class PatchMetadata:
    """Apply a JSON merge patch (RFC 7386) to the metadata of vectors; their values stay.

    `target` is a scope, or ids of which unknown ones are ignored; `patch` is an object as compact
    JSON. As for any write, metadata indexes that there are then have the vectors.
    """

    target: Scope | Sequence[str]
    patch: bytes


UnresolvedMutation = DeleteScope | PatchMetadata
"""A change that an engine resolves into a `Mutation` when it comes to its place in the log."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receipt for a durable mutation, which will be applied even after a crash.

    `vector_count` is the number of vectors that it changes, of one that was resolved.
    """

    mutation_id: str
    seqno: Seqno
    vector_count: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search by `vector` or by `vector_id`, of which at most one is set, by `text`, or by both.

    `vector` is ``(dimensions,)`` float32 and finite. `namespace` ``""`` searches all namespaces.
    An `effort` of None is the index's. With `explain` the result has `explanations`, with
    `return_scores` and `return_highlights` its matches have `scores` and `highlights`, with
    `passage_property` a `passage`: the texts of that property.
    """

    top_k: int
    vector: Floats | None = None
    vector_id: str | None = None
    namespace: str = ""
    filter: Filter = ()
    return_values: bool = False
    return_metadata: MetadataLevel = MetadataLevel.NONE
    effort: Effort | None = None
    explain: bool = False
    text: TextQuery | None = None
    diversity: Diversity | None = None
    grouping: Grouping | None = None
    reranking: Reranking | None = None
    passage_property: str = ""
    return_scores: bool = False
    return_highlights: bool = False


@dataclass(frozen=True, slots=True)
class ScoredVector:
    """A match. `score` is the wire's; `values`, `metadata`, `scores` and `highlights` are None if
    not asked for."""

    id: str
    score: float
    namespace: str
    values: Floats | None = None
    metadata: bytes | None = None
    scores: MatchScores | None = None
    highlights: tuple[Highlight, ...] | None = None
    passage: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The search of one part of an index: a segment or the memtable. Of a query by words alone the
    counts and times of vectors are 0.

    Attributes:
        part: Its name, in the engine's words.
        vector_count: Vectors in it.
        selected_count: Vectors that namespace and filter let pass.
        method: The way candidates were found, in the engine's words.
        scored_count: Vectors scored to find candidates.
        rescored_count: Candidates whose distance was computed exactly.
        select_ms: Time for namespace and filter.
        candidates_ms: Time to find candidates.
        rescore_ms: Time for exact distances.
        words: The search for words, None without one.
    """

    part: str
    vector_count: int
    selected_count: int
    method: str
    scored_count: int
    rescored_count: int
    select_ms: float
    candidates_ms: float
    rescore_ms: float
    words: WordsExplanation | None = None

    @property
    def total_ms(self) -> float:
        """Time for all of it."""
        words_ms = 0.0 if self.words is None else self.words.search_ms
        return self.select_ms + self.candidates_ms + self.rescore_ms + words_ms


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Matches, best first, ties by id; and the filtered properties that have no index.

    `explanations` is empty unless the query wants them; `explain` returns them also when it does
    not, and needs the engine to be open. `partial` are the filtered properties whose metadata index
    does not cover all vectors, and the text indexes that do not. `is_text_ignored` says that there
    is no text index for the words beside a vector.
    """

    matches: tuple[ScoredVector, ...]
    unindexed: tuple[str, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    partial: tuple[IndexCoverage, ...] = ()
    is_text_ignored: bool = False
    explain: Callable[[], tuple[Explanation, ...]] = field(default=tuple, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A vector of an index; `values` is ``(dimensions,)`` float32 as it was written."""

    id: str
    values: Floats
    namespace: str
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """A listing of a scope with the parts of vectors that it returns."""

    scope: Scope = Scope()
    return_values: bool = False
    return_metadata: bool = False


@dataclass(frozen=True, slots=True)
class ListedVector:
    """A vector of a listing. `values` and `metadata` are None if not asked for."""

    id: str
    namespace: str
    values: Floats | None = None
    metadata: bytes | None = None


@dataclass(frozen=True, slots=True)
class VectorPage:
    """One page of vectors from a snapshot of an index.

    `total_count` is of the whole listing. `next_cursor` and `expires_at` (UTC) are None on the last
    page.
    """

    vectors: Sequence[ListedVector]
    total_count: int
    next_cursor: str | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a property, and the number of vectors that have it."""

    value: Scalar
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of an indexed property that the most vectors of a scope have.

    Attributes:
        property_name: Name of the property.
        index_type: Type of its metadata index.
        vector_count: Vectors in the scope.
        value_count: Vectors of these that have a value.
        distinct_count: Distinct values.
        values: The most frequent ones, most frequent first, ties by value.
    """

    property_name: str
    index_type: IndexType
    vector_count: int
    value_count: int
    distinct_count: int
    values: Sequence[FacetValue]


@dataclass(frozen=True, slots=True)
class Status:
    """The readable state of an index.

    `applied_mutation` is the id of the newest mutation in it and `applied_at` the time when that
    mutation became readable (UTC); both are None before the first mutation. `partial` are the
    metadata indexes that do not cover all vectors, oldest first.
    """

    dimensions: int
    vector_count: int
    applied_seqno: Seqno
    applied_mutation: str | None
    applied_at: datetime | None
    partial: tuple[IndexCoverage, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of ids from a snapshot of an index.

    `next_cursor` and `expires_at` (UTC) are None on the last page.
    """

    ids: Sequence[str]
    total_count: int
    next_cursor: str | None
    expires_at: datetime | None
