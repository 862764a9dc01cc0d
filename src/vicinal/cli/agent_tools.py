"""The tools that an agent gets over MCP, on one account of a server.

A tool is bounded in what it takes and in what it returns, since all of it goes through a model: a
search finds at most `MATCHES_MAX`, and matches beyond `RESULT_BYTES_MAX` of metadata are left out
and counted. Errors are sentences, with the server's codes. Tools that change something are there
only where they were asked for.

Needs the package ``mcp``, so it is imported by its command alone. Types here are pydantic's, of
which ``mcp`` makes the schemas that a model reads; their docstrings are for it, too.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import click
import msgspec
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from vicinal.cli.client import Client, IndexResponse, QueryResponse
from vicinal.cli.query import MODEL_OF_DIMENSIONS, embed
from vicinal.limits import PROFILES
from vicinal.wire import schemas

MATCHES_MAX = 50
"""Ours: more is no answer to a question."""
IDS_MAX = 20
"""Of the platform: ids of one call."""
TEXTS_MAX = 100
"""Of the platform: texts that are embedded in one call."""
DELETED_MAX = 100
"""Of the platform: ids of one deletion; hosted indexes take more."""
TEXT_CHARS_MAX = 20_000
"""Ours: characters of a text; a model reads some 500 words of it."""
FILTER_BYTES_MAX = min(limits.filter_bytes_max for limits in PROFILES.values())
RESULT_BYTES_MAX = 200_000
"""Ours: bytes of metadata in one result."""

WORDS_CHARS_MAX = 8_192
"""Ours: characters of words to find; the server takes as many bytes."""

TEXT_PROPERTY = "text"
"""The property of metadata that keeps a text, as `vicinal import --keep-text` has it."""

_WAIT_S = 30
_TEXT = "text"  # the type of a metadata index of words
_EXTENDED = {"vicinal-filter": "extended"}

IndexName = Annotated[str, Field(min_length=1, max_length=64, description="Name of an index.")]
VectorId = Annotated[str, Field(min_length=1, max_length=512)]
Namespace = Annotated[
    str | None, Field(max_length=64, description="Only vectors of this namespace.")
]
FilterObject = Annotated[
    dict[str, Any] | None,
    Field(
        description='Conditions on indexed properties, like {"year": {"$gte": 1960}, "topic": '
        '"music"}; operators: $eq, $ne, $in, $nin, $lt, $lte, $gt, $gte, $exists, $contains, '
        "$startsWith, and $or, $and, $not of such objects."
    ),
]

P = ParamSpec("P")
T = TypeVar("T")


class IndexSummary(BaseModel):
    """An index."""

    name: str
    dimensions: int
    metric: str
    text_model: str | None
    description: str | None


class IndexSummaries(BaseModel):
    """The indexes of the account."""

    indexes: list[IndexSummary]


class FilterableProperty(BaseModel):
    """A property that filters may name."""

    name: str
    type: str


class IndexDescription(IndexSummary):
    """An index with what is in it; `text_properties` are those that words are found in."""

    vector_count: int
    filterable_properties: list[FilterableProperty]
    text_properties: list[str]


class FoundMatch(BaseModel):
    """A match of a search, with its metadata."""

    id: str
    score: float
    namespace: str | None
    metadata: dict[str, Any] | None


class FoundMatches(BaseModel):
    """Matches, best first; some may be left out as they are long. `notes` are the server's."""

    matches: list[FoundMatch]
    left_out: int
    notes: list[str]


class ReadVector(BaseModel):
    """A stored vector with its metadata."""

    id: str
    namespace: str | None
    metadata: dict[str, Any] | None
    values: list[float] | None


class ReadVectors(BaseModel):
    """Vectors of these ids, and the ids that no vector has; long ones may be left out."""

    vectors: list[ReadVector]
    unknown_ids: list[str]
    left_out: int


class GivenText(BaseModel):
    """A text to store, with properties that describe it."""

    id: VectorId
    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARS_MAX)]
    metadata: dict[str, Any] | None = None
    namespace: Annotated[str | None, Field(max_length=64)] = None


class ChangedVectors(BaseModel):
    """A write that is durable; `is_visible` tells whether searches see it already."""

    count: int
    mutation_id: str
    is_visible: bool


class _Stored(msgspec.Struct):
    id: str
    values: list[float]
    namespace: str | None = None
    metadata: dict[str, Any] | None = None


class AgentTools:
    """The tools of one account. Thread-safe.

    Args:
        client: Of the server.
        indexes: Names of the indexes that may be used; all if there is none.
    """

    def __init__(self, client: Client, indexes: Sequence[str] = ()) -> None:
        self._client = client
        self._allowed = frozenset(indexes)

    def list_indexes(self) -> IndexSummaries:
        """List the indexes that can be searched."""
        listed = self._client.get(self._client.indexes()).decode(list[IndexResponse])
        return IndexSummaries(
            indexes=[_summary(index) for index in listed if self._is_allowed(index.name)]
        )

    def describe_index(self, index: IndexName) -> IndexDescription:
        """Tell what an index holds, which properties filters may name, and which have words."""
        description = self._index(index)
        info = self._client.get(self._client.indexes(index, "info"))
        listed = self._client.get(self._client.indexes(index, "metadata_index", "list"))
        properties = listed.decode(schemas.MetadataIndexListSchema).metadata_indexes
        return IndexDescription(
            **_summary(description).model_dump(),
            vector_count=info.decode(schemas.IndexInfoSchema).vector_count,
            filterable_properties=[
                FilterableProperty(name=property_.property_name, type=property_.index_type)
                for property_ in properties
                if property_.index_type != _TEXT
            ],
            text_properties=[p.property_name for p in properties if p.index_type == _TEXT],
        )

    def search(
        self,
        index: IndexName,
        text: Annotated[
            str | None,
            Field(
                max_length=TEXT_CHARS_MAX,
                description="A text to find similar ones to. Give this, or `vector`, or `id`.",
            ),
        ] = None,
        vector: Annotated[
            list[float] | None,
            Field(max_length=4_096, description="As many numbers as dimensions."),
        ] = None,
        id: Annotated[  # the word that a model reads
            str | None, Field(max_length=512, description="Of a stored vector to find others like.")
        ] = None,
        words: Annotated[
            str | None,
            Field(
                min_length=1,
                max_length=WORDS_CHARS_MAX,
                description="Words to find as they are written, like names, versions and error "
                "codes; operators are taken as words. Alone, or beside `text`, `vector` or `id` to "
                "find by both. Needs an index with a property of type text.",
            ),
        ] = None,
        top_k: Annotated[int, Field(ge=1, le=MATCHES_MAX, description="How many to find.")] = 5,
        filter: FilterObject = None,
        namespace: Namespace = None,
    ) -> FoundMatches:
        """Find the vectors nearest to a text, a vector or a stored vector, those that have words,
        or by both, with their metadata."""
        given_count = sum(given is not None for given in (text, vector, id))
        if given_count > 1 or (not given_count and words is None):
            raise ToolError("give one of text, vector and id, or words, or both")
        description = self._index(index)
        body: dict[str, object] = {"topK": min(top_k, MATCHES_MAX), "returnMetadata": "all"}
        if text is not None:
            (body["vector"],) = embed(self._client, _model_of(description), [text])
        elif vector is not None:
            body["vector"] = vector
        elif id is not None:
            body["vectorId"] = id
        body |= {"text": words} if words is not None else {}
        body |= {"namespace": namespace} if namespace else {}
        body |= {"filter": _checked_filter(filter)} if filter else {}
        answer = self._client.post(self._client.indexes(index, "query"), body, _EXTENDED)
        matches = answer.decode(QueryResponse).matches
        kept = _within_bytes([match.metadata for match in matches])
        return FoundMatches(
            matches=[
                FoundMatch(
                    id=match.id,
                    score=match.score,
                    namespace=match.namespace,
                    metadata=match.metadata,
                )
                for match in matches[:kept]
            ],
            left_out=len(matches) - kept,
            notes=list(answer.remarks),
        )

    def get(
        self,
        index: IndexName,
        ids: Annotated[list[VectorId], Field(min_length=1, max_length=IDS_MAX)],
        values: Annotated[
            bool, Field(description="Whether the numbers are returned, too.")
        ] = False,
    ) -> ReadVectors:
        """Read stored vectors by their ids, with their metadata."""
        self._check_allowed(index)
        answer = self._client.post(self._client.indexes(index, "get_by_ids"), {"ids": ids})
        stored = answer.decode(list[_Stored])
        kept = _within_bytes([vector.metadata for vector in stored])
        known = {vector.id for vector in stored}
        return ReadVectors(
            vectors=[
                ReadVector(
                    id=vector.id,
                    namespace=vector.namespace,
                    metadata=vector.metadata,
                    values=vector.values if values else None,
                )
                for vector in stored[:kept]
            ],
            unknown_ids=[vector_id for vector_id in dict.fromkeys(ids) if vector_id not in known],
            left_out=len(stored) - kept,
        )

    def upsert_texts(
        self,
        index: IndexName,
        texts: Annotated[list[GivenText], Field(min_length=1, max_length=TEXTS_MAX)],
    ) -> ChangedVectors:
        """Store texts, so that searches find them; those whose id is there are replaced."""
        description = self._index(index)
        rows = embed(self._client, _model_of(description), [given.text for given in texts])
        lines = [
            msgspec.json.encode(
                {
                    "id": given.id,
                    "values": values,
                    "metadata": {**(given.metadata or {}), TEXT_PROPERTY: given.text},
                    **({"namespace": given.namespace} if given.namespace else {}),
                }
            )
            for given, values in zip(texts, rows, strict=True)
        ]
        answer = self._client.write(
            self._client.indexes(index, "upsert"), b"\n".join(lines), wait_s=_WAIT_S
        )
        mutation = answer.decode(schemas.MutationSchema)
        return ChangedVectors(
            count=len({given.id for given in texts}),
            mutation_id=mutation.mutation_id,
            is_visible=answer.is_visible,
        )

    def delete(
        self,
        index: IndexName,
        ids: Annotated[list[VectorId], Field(min_length=1, max_length=DELETED_MAX)],
    ) -> ChangedVectors:
        """Delete stored vectors by their ids; unknown ids are ignored. Nothing brings them back."""
        self._check_allowed(index)
        path = self._client.indexes(index, "delete_by_ids")
        answer = self._client.post(path, {"ids": ids}, {"prefer": f"wait={_WAIT_S}"})
        mutation = answer.decode(schemas.MutationSchema)
        return ChangedVectors(
            count=len(set(ids)), mutation_id=mutation.mutation_id, is_visible=answer.is_visible
        )

    def _index(self, name: str) -> IndexResponse:
        self._check_allowed(name)
        return self._client.get(self._client.indexes(name)).decode(IndexResponse)

    def _is_allowed(self, name: str) -> bool:
        return not self._allowed or name in self._allowed

    def _check_allowed(self, name: str) -> None:
        if not self._is_allowed(name):
            raise ToolError(
                f"the index {name!r} is not one of those that may be used here: "
                f"{', '.join(sorted(self._allowed))}"
            )


def server_of(tools: AgentTools, version: str, *, writes: bool) -> MCPServer[Any]:
    """Return a server with the tools; with `writes` also those that change something."""
    server: MCPServer[Any] = MCPServer(
        "vicinal",
        title="Vicinal",
        instructions="Finds texts and other things by their meaning, in indexes of vectors. Ask "
        "for the indexes first; describe one to know which properties a filter may name.",
        version=version,
        log_level="WARNING",
    )
    for read in (tools.list_indexes, tools.describe_index, tools.search, tools.get):
        server.add_tool(_told(read), annotations=ToolAnnotations(read_only_hint=True))
    if writes:
        server.add_tool(
            _told(tools.upsert_texts),
            annotations=ToolAnnotations(destructive_hint=True, idempotent_hint=True),
        )
        server.add_tool(
            _told(tools.delete),
            annotations=ToolAnnotations(destructive_hint=True, idempotent_hint=True),
        )
    return server


def _told(tool: Callable[P, T]) -> Callable[P, T]:
    """Return a tool whose expected errors are sentences for the model."""

    @wraps(tool)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return tool(*arguments, **named)
        except click.ClickException as error:
            raise ToolError(error.message) from error

    return call


def _summary(index: IndexResponse) -> IndexSummary:
    return IndexSummary(
        name=index.name,
        dimensions=index.config.dimensions,
        metric=index.config.metric,
        text_model=index.config.text_model or MODEL_OF_DIMENSIONS.get(index.config.dimensions),
        description=index.description,
    )


def _model_of(index: IndexResponse) -> str:
    model = _summary(index).text_model
    if model is None:
        raise ToolError(
            f"no known model makes the {index.config.dimensions} dimensions of index "
            f"{index.name!r}, so it cannot be used with texts"
        )
    return model


def _checked_filter(given: Mapping[str, Any]) -> Mapping[str, Any]:
    size = len(json.dumps(given).encode())
    if size > FILTER_BYTES_MAX:
        raise ToolError(f"the filter has {size} bytes, the maximum is {FILTER_BYTES_MAX}")
    return given


def _within_bytes(documents: Sequence[object]) -> int:
    """Return how many of the documents are within the bound on a result, one at least."""
    size = 0
    for count, document in enumerate(documents):
        size += len(msgspec.json.encode(document))
        if size > RESULT_BYTES_MAX and count:
            return count
    return len(documents)
