"""The JSON shapes of requests and results.

`requests` decodes into these structs, `responses` encodes from them, `openapi` describes them.
Members are spelled as on the wire; the rules that a type cannot express are in `requests`.

A member that may be absent is ``T | None`` in requests, where null always means absent, and
``T | UnsetType`` in results, where absent members are left out. Unknown members are ignored,
and of a member given twice the last one counts, as for JSON.parse.

For speed, `vectors` reads vectors to store and `envelope` writes envelopes without these structs;
their shapes stand here for the OpenAPI document and for tests. Docstrings of structs are in the
OpenAPI document.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from vicinal.model import Effort, IndexType, Metric
from vicinal.wire.ranking_schemas import (
    GroupByRequest,
    HighlightSchema,
    HybridRequest,
    MatchScoresSchema,
    MmrRequest,
    RerankRequest,
)

_Numbers = Meta(extra_json_schema={"type": "array", "items": {"type": "number"}})
_Object = Meta(extra_json_schema={"type": "object"})
_Time = Meta(extra_json_schema={"format": "date-time"})


class IndexConfigRequest(Struct):
    """Either `dimensions` and `metric`, or `preset`; `effort` and `model` are extensions."""

    dimensions: int | None = None
    metric: Metric | None = None
    preset: str | None = None
    effort: Effort | None = None
    model: str | None = None


class CreateIndexRequest(Struct):
    """An index to create."""

    name: str
    config: IndexConfigRequest | None = None
    description: str | None = None


class QueryRequest(Struct, rename="camel"):
    """A search by a vector or by the id of a stored vector; of both, the id counts.

    `text` and what follows it are extensions: words to search for in the text indexes, alone or
    beside a vector, and ways to rank matches.
    """

    vector: Annotated[object, _Numbers] = None
    vector_id: str | None = None
    top_k: int | float | None = None
    return_values: bool | None = None
    return_metadata: Literal["none", "indexed", "all"] | bool | None = None
    namespace: str | None = None
    filter: Annotated[object, _Object] = None
    text: str | None = None
    text_weights: dict[str, float] | None = None
    hybrid: HybridRequest | bool | None = None
    mmr: MmrRequest | None = None
    group_by: GroupByRequest | None = None
    rerank: RerankRequest | None = None
    return_scores: bool | None = None
    return_highlights: bool | None = None


class ScopeRequest(Struct, rename="camel"):
    """The vectors that are in a namespace, pass a filter and have an id that begins so; without any
    of these all vectors. An extension."""

    namespace: str | None = None
    filter: Annotated[object, _Object] = None
    id_prefix: str | None = None


class ListContentRequest(ScopeRequest, rename="camel"):
    """A page of vectors with their content. With the cursor of the page before the scope is not
    given again. An extension."""

    return_values: bool | None = None
    return_metadata: bool | None = None
    count: int | None = None
    cursor: str | None = None


class ExportRequest(ScopeRequest, rename="camel"):
    """Vectors to export, with values and metadata unless these are false. With a cursor of `list`
    the rest of its listing but for the first `skip` vectors; the scope is not given again. An
    extension."""

    return_values: bool | None = None
    return_metadata: bool | None = None
    cursor: str | None = None
    skip: int | None = None


class FacetRequest(ScopeRequest, rename="camel"):
    """A property whose most frequent values are counted. An extension."""

    property_name: str = ""
    count: int | None = None


class MapRequest(ScopeRequest, rename="camel"):
    """Vectors to place on a map: at most `count`, from everywhere in the scope. `layout` says by
    what, `propertyName` which value of their metadata comes along, `vector` what they are scored
    by. An extension."""

    count: int | None = None
    layout: Literal["axes", "neighbors"] | None = None
    property_name: str | None = None
    vector: Annotated[object, _Numbers] = None


class DeleteScopeRequest(ScopeRequest, rename="camel"):
    """Vectors to delete in one write. A scope of all vectors needs `all`; with `dryRun` they are
    counted and stay. An extension."""

    all: bool | None = None
    dry_run: bool | None = None


class PatchMetadataRequest(DeleteScopeRequest, rename="camel"):
    """A JSON merge patch (RFC 7386) for the metadata of vectors, by their ids or a scope, in one
    write; values stay. An extension."""

    ids: list[str] | None = None
    metadata: Annotated[object, _Object] = None


class IdsRequest(Struct):
    """Ids of vectors to get or delete."""

    ids: list[str]


class CreateMetadataIndexRequest(Struct, rename="camel"):
    """A property to index; with `backfill`, of stored vectors as well. The type `text` is an
    extension: words to search for, in a `language` whose words are cut to their stems."""

    property_name: str
    index_type: IndexType
    backfill: bool | None = None
    language: str | None = None


class DeleteMetadataIndexRequest(Struct, rename="camel"):
    """A property whose index is to be deleted. One client calls it `property`."""

    property_name: str | None = None
    property: str | None = None


class EmbeddingRequest(Struct):
    """Text to embed."""

    text: str | list[str]
    pooling: Literal["mean", "cls"] | None = None


class BindingEmbeddingRequest(Struct):
    """Text to embed, as the Workers binding sends it."""

    inputs: EmbeddingRequest


class OpenAIEmbeddingRequest(Struct):
    """Text to embed, as OpenAI's clients send it."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class VectorRecordSchema(Struct):
    """One vector to store: a line of NDJSON."""

    id: str
    values: list[float]
    namespace: str | None = None
    metadata: Annotated[object, _Object] = None


class VectorBatchSchema(Struct):
    """Vectors to store, in one JSON document."""

    vectors: list[VectorRecordSchema]


class ColumnsRequest(Struct):
    """The first line of a columns body; `metadata` says that lines of it follow, one a vector.

    Then come the values: of every vector `dimensions` float32, little-endian. An extension.
    """

    dimensions: int
    ids: list[str]
    namespaces: list[str] | None = None
    metadata: bool = False


class IndexConfigSchema(Struct):
    """The settings of an index, fixed at its creation."""

    dimensions: int
    metric: Metric
    preset: str | UnsetType = UNSET
    effort: Effort | UnsetType = UNSET
    model: str | UnsetType = UNSET


class IndexSchema(Struct):
    """An index."""

    name: str
    created_on: Annotated[str, _Time]
    modified_on: Annotated[str, _Time]
    config: IndexConfigSchema
    description: str | UnsetType = UNSET


class MutationSchema(Struct, rename="camel"):
    """The id of a durable write; queries see it once the index's info names it or a later one."""

    mutation_id: str


class MatchSchema(Struct):
    """One match of a query; `scores` and `highlights` are extensions, where they were asked for."""

    id: str
    score: float
    values: list[float] | UnsetType = UNSET
    metadata: Annotated[Raw, _Object] | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    scores: MatchScoresSchema | UnsetType = UNSET
    highlights: list[HighlightSchema] | UnsetType = UNSET


class WordsStepSchema(Struct, rename="camel"):
    """The search for words in one part of the index: rows whose score was begun, and the postings
    (a word in a row) read for that. An extension."""

    scored_count: int
    posting_count: int
    search_ms: float


class SearchStepSchema(Struct, rename="camel"):
    """The search of one part of the index, with times in milliseconds; `words` where words were
    searched for, and where nothing else was, the `method` is `words` too and `scoredCount` and
    `measuredCount` are 0. An extension."""

    part: str
    vector_count: int
    selected_count: int
    method: str
    scored_count: int
    measured_count: int
    select_ms: float
    propose_ms: float
    measure_ms: float
    words: WordsStepSchema | UnsetType = UNSET


class QueryResultSchema(Struct):
    """Matches, best first; `explain` only when the header ``Vicinal-Explain`` asked for it."""

    count: int
    matches: list[MatchSchema]
    explain: list[SearchStepSchema] | UnsetType = UNSET


class VectorSchema(Struct):
    """A stored vector."""

    id: str
    values: list[float]
    metadata: Annotated[Raw, _Object] | UnsetType = UNSET
    namespace: str | UnsetType = UNSET


class CoverageSchema(Struct, rename="camel"):
    """A metadata index that has not indexed all vectors, and how many it has. An extension."""

    property_name: str
    index_type: IndexType
    covered_count: int


class SegmentSchema(Struct, rename="camel"):
    """A segment, or the memtable: its vectors, its rows that are deleted and take space, and the
    bytes of its files, or of the values in memory. An extension."""

    name: str
    vector_count: int
    deleted_count: int
    byte_count: int


class IndexInfoSchema(Struct, rename="camel"):
    """The readable state of an index; `partialIndexes` only where a metadata index is younger than
    some of the vectors, `byteCount` (of all files) and `segments` only where `detail` asks for
    them."""

    dimensions: int
    vector_count: int
    processed_up_to_datetime: Annotated[str, _Time] | None
    processed_up_to_mutation: str | None
    partial_indexes: list[CoverageSchema] | UnsetType = UNSET
    byte_count: int | UnsetType = UNSET
    segments: list[SegmentSchema] | UnsetType = UNSET


class ListedVectorSchema(Struct):
    """The id of a stored vector."""

    id: str


class VectorListSchema(Struct, rename="camel"):
    """One page of ids."""

    count: int
    total_count: int
    is_truncated: bool
    next_cursor: str | None
    cursor_expiration_timestamp: Annotated[str, _Time] | None
    vectors: list[ListedVectorSchema]


class ListedContentSchema(Struct):
    """A listed vector, with what was asked for."""

    id: str
    values: list[float] | UnsetType = UNSET
    metadata: Annotated[Raw, _Object] | UnsetType = UNSET
    namespace: str | UnsetType = UNSET


class ContentListSchema(Struct, rename="camel"):
    """One page of vectors."""

    count: int
    total_count: int
    is_truncated: bool
    next_cursor: str | None
    cursor_expiration_timestamp: Annotated[str, _Time] | None
    vectors: list[ListedContentSchema]


class ChangedSchema(Struct, rename="camel"):
    """The id of a durable write and the number of vectors that it changes; of a dry run the number
    alone."""

    count: int
    mutation_id: str | UnsetType = UNSET


class CountSchema(Struct):
    """A number of vectors."""

    count: int


class FacetValueSchema(Struct):
    """A value of a property, and how many vectors have it."""

    value: str | float | bool
    count: int


class FacetSchema(Struct, rename="camel"):
    """The most frequent values of a property. `vectorCount` is of the scope, `valueCount` of its
    vectors that have a value, `distinctCount` of their values."""

    property_name: str
    index_type: IndexType
    vector_count: int
    value_count: int
    distinct_count: int
    values: list[FacetValueSchema]


class MapHeadSchema(Struct, rename="camel"):
    """The first line of a map; `count` is of its points, `totalCount` of the scope. Values follow
    as little-endian float32: x and y of every point; with `hasValues` the value of every point, or
    the number of one of `categories`, -1 for any other, NaN for none; with `query`, the position of
    the vector that was given, the score of every point."""

    count: int
    total_count: int
    layout: Literal["axes", "neighbors"]
    explained: list[float]
    ids: list[str]
    has_values: bool
    categories: list[str] | None
    query: list[float] | None


class MetadataIndexSchema(Struct, rename="camel"):
    """A property that filters may name, or that words are searched in."""

    property_name: str
    index_type: IndexType
    language: str | UnsetType = UNSET


class MetadataIndexListSchema(Struct, rename="camel"):
    """The metadata indexes of an index."""

    metadata_indexes: list[MetadataIndexSchema]


class EmbeddingSchema(Struct):
    """Embeddings, one for every text, in the order of the texts."""

    shape: list[int]
    data: list[list[float]]
    pooling: str | UnsetType = UNSET


class OpenAIEmbeddingSchema(Struct):
    """One embedding: numbers, or base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class OpenAIUsageSchema(Struct):
    """The number of tokens of the texts."""

    prompt_tokens: int
    total_tokens: int


class OpenAIEmbeddingListSchema(Struct):
    """Embeddings in OpenAI's form."""

    data: list[OpenAIEmbeddingSchema]
    model: str
    usage: OpenAIUsageSchema
    object: Literal["list"] = "list"


class ItemSchema(Struct):
    """An error, or a notice."""

    code: int
    message: str


class SuccessSchema(Struct):
    """The envelope around a result."""

    result: Any
    success: bool
    errors: list[ItemSchema]
    messages: list[ItemSchema]


class FailureSchema(Struct):
    """The envelope of an error."""

    result: None
    success: bool
    errors: list[ItemSchema]
    messages: list[ItemSchema]


class OpenAIErrorSchema(Struct):
    """The details of an error in OpenAI's form."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIFailureSchema(Struct):
    """An error of the OpenAI-compatible routes."""

    error: OpenAIErrorSchema
