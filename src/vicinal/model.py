"""The nouns that cross layers: what an index, a vector, a mutation and a query are.

Plain frozen data, no behaviour beyond small conveniences, no JSON and no files. Wire
spellings live in `wire/`; a value here is already valid: whoever builds one has checked
it against `limits.Limits`, so nothing below the wire refuses a request.

Two conventions keep the hot paths simple: a vector without a namespace has the namespace
``""`` (the wire treats both alike), and metadata travels as the bytes of compact JSON,
``b""`` when there is none (`metadata.py` reads and writes them).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.filters.nodes import Filter

Floats = NDArray[np.float32]
Ordinals = NDArray[np.int64]
Mask = NDArray[np.bool_]

Seqno = NewType("Seqno", int)
"""The place of a mutation in its index's log; the first is 1, 0 is before any."""

BEFORE_ANY = Seqno(0)


class Metric(StrEnum):
    """How the distance of two vectors is measured."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
    DOT_PRODUCT = "dot-product"


class IndexType(StrEnum):
    """Which JSON type a metadata index holds; values of other types are not indexed."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"


class MetadataLevel(StrEnum):
    """How much of a match's metadata a query returns."""

    NONE = "none"
    INDEXED = "indexed"
    ALL = "all"


class Effort(StrEnum):
    """How hard a query looks, where segments are searched by codes (an extension).

    Each but `EXACT`, which measures every vector, is a recall that segments have measured
    what it takes for (`ann.calibration.RECALLS`).
    """

    LOW = "low"
    STANDARD = "standard"
    HIGH = "high"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class IndexAddress:
    """Where an index is found: every account is a world of its own.

    With an `id` it means that index alone: once it is dropped, another of its name is not
    found here. Without one it means the index that has the name at the moment of the call.
    """

    account: str
    name: str
    id: str | None = None

    def of(self, index: "Index") -> "IndexAddress":
        """Return the address of `index` alone, which was found at this one."""
        return IndexAddress(self.account, self.name, index.id)


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """What is fixed when an index is created. `effort` is that of queries that name none."""

    dimensions: int
    metric: Metric
    preset: str | None = None
    effort: Effort = Effort.STANDARD


@dataclass(frozen=True, slots=True)
class Index:
    """An index as the catalog knows it. `created_at` is in UTC.

    `id` tells it from every other index, those of the same name before and after it included.
    """

    id: str
    name: str
    description: str | None
    config: IndexConfig
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MetadataIndex:
    """One filterable property; dots in `property_name` address nested objects."""

    property_name: str
    index_type: IndexType


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


class Rows(Protocol):
    """Takes the values of a batch row by row, when it is not known how many there will be."""

    def free(self) -> Floats:
        """Return rows to write to, ``(n, d)`` float32, C-contiguous, n at least 1."""
        ...

    def take(self, count: int) -> None:
        """Let the first `count` of the rows that `free` returned be the next ones of the batch."""
        ...

    def values(self) -> Floats:
        """Return all rows taken, ``(n, d)``; after that no more are."""
        ...


@dataclass(frozen=True, slots=True)
class Insert:
    """Add vectors whose id is new; the first of a repeated id wins, others are ignored."""

    batch: VectorBatch


@dataclass(frozen=True, slots=True)
class Upsert:
    """Add or replace vectors whole; the last of a repeated id wins."""

    batch: VectorBatch


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove vectors; unknown ids are ignored."""

    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class CreateMetadataIndex:
    """Index a property of vectors written from now on, and of older ones with `backfill`.

    Creating one that exists with the same type changes nothing.
    """

    metadata_index: MetadataIndex
    backfill: bool = False


@dataclass(frozen=True, slots=True)
class DropMetadataIndex:
    """Forget a metadata index; creating it again starts empty."""

    property_name: str


Mutation = Insert | Upsert | Delete | CreateMetadataIndex | DropMetadataIndex


@dataclass(frozen=True, slots=True)
class Accepted:
    """Proof that a mutation is durable: it will be applied whatever happens."""

    mutation_id: str
    seqno: Seqno


@dataclass(frozen=True, slots=True)
class Query:
    """A search; exactly one of `vector` and `vector_id` is set.

    `vector` is ``(dimensions,)`` float32 and finite. `namespace` ``""`` searches all. An
    `effort` of None is the index's. With `explain` the result says how it was found.
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


@dataclass(frozen=True, slots=True)
class Match:
    """One hit. `score` is the wire's; `values` and `metadata` are None unless asked for."""

    id: str
    score: float
    namespace: str
    values: Floats | None = None
    metadata: bytes | None = None


@dataclass(frozen=True, slots=True)
class SearchStep:
    """How one part of an index was searched.

    Attributes:
        part: Which, in the engine's words.
        vector_count: How many vectors it holds.
        selected_count: How many of them namespace and filter let pass.
        method: How candidates were found, in the engine's words.
        scored_count: How many vectors were scored to propose candidates.
        measured_count: How many candidates were measured exactly.
        select_ms: Time for namespace and filter.
        propose_ms: Time to find candidates.
        measure_ms: Time to measure them exactly.
    """

    part: str
    vector_count: int
    selected_count: int
    method: str
    scored_count: int
    measured_count: int
    select_ms: float
    propose_ms: float
    measure_ms: float


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Matches, best first, ties by id; and the filtered properties that have no index.

    `steps` says how they were found, if the query asked.
    """

    matches: tuple[Match, ...]
    unindexed: tuple[str, ...] = ()
    steps: tuple[SearchStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Vector:
    """A stored vector; `values` is ``(dimensions,)`` float32 as it was given."""

    id: str
    values: Floats
    namespace: str
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """What the readable state of an index contains.

    `applied_mutation` is the id of the newest mutation it contains and `applied_at` when
    that became readable (UTC); both are None before the first.
    """

    dimensions: int
    vector_count: int
    applied_seqno: Seqno
    applied_mutation: str | None
    applied_at: datetime | None


@dataclass(frozen=True, slots=True)
class IndexUsage:
    """What an open index holds: vectors that queries see, and acknowledged ones that they do
    not see yet."""

    address: IndexAddress
    vector_count: int
    pending_count: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How many indexes an engine has, over all accounts, and those that are open."""

    index_count: int
    open_indexes: Sequence[IndexUsage]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of ids from a snapshot of an index.

    `next_cursor` and `expires_at` (UTC) are None on the last page.
    """

    ids: Sequence[str]
    total_count: int
    next_cursor: str | None
    expires_at: datetime | None


SqlValue = int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class SqlStatement:
    """SQL and its parameters; SQL of several statements takes none."""

    sql: str
    parameters: Sequence[SqlValue] = ()


@dataclass(frozen=True, slots=True)
class SqlResult:
    """What one SQL statement did.

    Attributes:
        columns: Their names, in order; none when it returns no rows.
        rows: A value for each column.
        changes: How many rows it wrote.
        last_row_id: Of the newest row of the call, 0 when there is none.
        seconds: How long it took.
        file_bytes: How large the database is.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[SqlValue]]
    changes: int
    last_row_id: int
    seconds: float
    file_bytes: int


@dataclass(frozen=True, slots=True)
class SqlDatabase:
    """What is known of an SQL database without asking it."""

    id: str
    created_at: datetime
    file_bytes: int
