"""The Workers binding in Python, in process: an engine without a server.

`Vectorize` has the methods of ``env.VECTORIZE`` in a Worker, under Python names; `Database` has the
indexes. The rules and their messages are the server's (`wire.requests`, `wire.vectors`);
`arguments` and `records` check Python objects and convert them for these. Nothing here knows the
kind of its engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, Unpack

from numpy.typing import ArrayLike

from vicinal import metadata
from vicinal.binding import arguments
from vicinal.binding.matches import Match, Matches
from vicinal.binding.records import Columns, Vector, Vectors, numbers, plain, records
from vicinal.binding.scopes import ScopedVectors, write
from vicinal.binding.searching import RankingOptions, requested
from vicinal.engine.base import Engine
from vicinal.errors import BadBody, BadCursor, BadFilter, BadRecord
from vicinal.limits import Limits
from vicinal.model import (
    Accepted,
    Delete,
    DeleteMetadataIndex,
    Effort,
    Index,
    IndexAddress,
    IndexType,
    Insert,
    MetadataIndex,
    MetadataLevel,
    Metric,
    Mutation,
    Page,
    Status,
    UnresolvedMutation,
    Upsert,
    VectorBatch,
)
from vicinal.wire import requests, schemas, scopes
from vicinal.wire.vectors import batch

__all__ = ["Columns", "Database", "Match", "Matches", "Vector", "Vectorize", "Vectors"]


class Vectorize:
    """An index, returned by `Database.index` and `Database.create_index`.

    Writes return when they are durable; queries see them a few milliseconds later, or,
    with ``wait=True``, as soon as the write returns. While earlier writes fill the memory for
    writes, a write waits: for `timeout_s` seconds, after which it raises `Overloaded` with nothing
    written, or without a bound. All methods may be called from any thread.

    All methods raise `InvalidInput` for an argument of a wrong type (NumPy's integers, floats,
    booleans and strings count as Python's), `IndexNotFound` when the index has been deleted, also
    if another index has its name by then, and `Unavailable` or `Corruption` when its files fail.

    >>> import numpy as np
    >>> import vicinal
    >>> with vicinal.open("data") as database:
    ...     docs = database.create_index("docs", dimensions=3, metric="cosine")
    ...     _ = docs.create_metadata_index("year", "number")
    ...     _ = docs.upsert(
    ...         [{"id": "1", "values": [1, 0, 0], "metadata": {"year": 1969}}], wait=True
    ...     )
    ...     rows = np.array([[0, 1, 0], [0, 1, 1]], dtype=np.float32)
    ...     _ = docs.upsert(vicinal.Columns(["2", "3"], rows), wait=True)
    ...     nearest = docs.query([1, 0, 0], top_k=1, return_metadata="all")
    ...     older = docs.query(np.ones(3), filter={"year": {"$lt": 1970}})
    >>> [(match.id, match.score, match.metadata) for match in nearest.matches]
    [('1', 1.0, {'year': 1969})]
    >>> [match.id for match in older.matches]
    ['1']
    """

    def __init__(self, engine: Engine, address: IndexAddress, limits: Limits) -> None:
        index = engine.get_index(address)
        self._engine = engine
        self._address = address.of(index)
        self._limits = limits
        self._dimensions = index.config.dimensions

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._address.name

    def describe(self) -> Status:
        """Return the number of vectors that queries see, and the newest mutation among them."""
        return self._engine.status(self._address)

    def insert(
        self, vectors: Vectors, *, wait: bool = False, timeout_s: float | None = None
    ) -> Accepted:
        """Add vectors whose id is new; of a repeated id the first vector counts.

        Raises:
            InvalidInput: a vector breaks a rule (`BadRecord`, `WrongDimensions`, ...). The
                message names the first such vector; nothing is stored.
            TooManyVectors: there are more than the limit of a call, 100,000 under ``open``.
            Overloaded: the memory for writes was full for `timeout_s` seconds.
        """
        return self._write(Insert(self._batch(vectors)), wait, timeout_s)

    def upsert(
        self, vectors: Vectors, *, wait: bool = False, timeout_s: float | None = None
    ) -> Accepted:
        """Add or replace vectors; of a repeated id the last vector counts.

        Raises:
            InvalidInput, TooManyVectors, Overloaded: as `insert`.
        """
        return self._write(Upsert(self._batch(vectors)), wait, timeout_s)

    def delete_by_ids(
        self, ids: Sequence[str], *, wait: bool = False, timeout_s: float | None = None
    ) -> Accepted:
        """Remove vectors; unknown ids are ignored.

        Raises:
            TooManyIds: there are more ids than one call may name.
            IdTooLong: an id is longer than a vector's may be.
            BadBody: `ids` is not a sequence of strings.
        """
        named = arguments.ids(ids, self._limits.delete_ids_max, self._limits)
        return self._write(Delete(named), wait, timeout_s)

    def patch_metadata(
        self,
        ids: Sequence[str],
        patch: Mapping[str, Any],
        *,
        wait: bool = False,
        timeout_s: float | None = None,
    ) -> Accepted:
        """Patch the metadata of vectors in one write; unknown ids are ignored and values stay.

        Raises:
            TooManyIds, IdTooLong, BadBody: as `delete_by_ids`.
            InvalidInput, MetadataTooLarge: as `ScopedVectors.patch_metadata`.
        """
        request = schemas.PatchMetadataRequest(
            ids=arguments.ids(ids, self._limits.delete_ids_max, self._limits),
            metadata=plain(patch, "patch", BadRecord),
        )
        return self._write(scopes.checked_patch(request, self._limits), wait, timeout_s)

    def query(
        self,
        vector: ArrayLike,
        *,
        top_k: int | None = None,
        namespace: str = "",
        filter: Mapping[str, Any] | None = None,
        return_values: bool = False,
        return_metadata: str | bool = "none",
        effort: Effort | str | None = None,
    ) -> Matches:
        """Return the nearest vectors.

        Args:
            vector: ``(dimensions,)``, any numeric type.
            top_k: The number of matches; 5 if not given.
            namespace: The namespace to search; ``""`` searches all.
            filter: Like ``{"year": {"$gte": 1960}}``; properties need a metadata index.
            return_values: Whether matches have values.
            return_metadata: ``none``, ``indexed`` or ``all``; True is ``all``.
            effort: ``low``, ``standard``, ``high`` or ``exact``; the index's if not given.

        Raises:
            InvalidInput: the vector, `top_k`, the filter or another argument is invalid.
        """
        return self._search(
            schemas.QueryRequest(),
            vector,
            top_k,
            namespace,
            filter,
            return_values,
            return_metadata,
            effort,
        )

    def query_by_id(
        self,
        vector_id: str,
        *,
        top_k: int | None = None,
        namespace: str = "",
        filter: Mapping[str, Any] | None = None,
        return_values: bool = False,
        return_metadata: str | bool = "none",
        effort: Effort | str | None = None,
    ) -> Matches:
        """Return the vectors nearest to a stored one; none if it is unknown.

        The stored vector is a match too, but not always the first: equal scores are in the order
        of ids, and by dot-product longer vectors score more. Arguments and errors are those of
        `query`.
        """
        request = schemas.QueryRequest(vector_id=arguments.text(vector_id, "vector_id"))
        return self._search(
            request, None, top_k, namespace, filter, return_values, return_metadata, effort
        )

    def search(
        self,
        text: str | None = None,
        *,
        vector: ArrayLike | None = None,
        vector_id: str | None = None,
        top_k: int | None = None,
        namespace: str = "",
        filter: Mapping[str, Any] | None = None,
        return_values: bool = False,
        return_metadata: str | bool = "none",
        effort: Effort | str | None = None,
        **ranking: Unpack[RankingOptions],
    ) -> Matches:
        """Return the vectors whose texts have words of a text, or are like a vector, or both.

        Args:
            text: Words to search for in the properties with a metadata index of type ``text``.
            vector: Searched for as well, like `vector_id`; without a text, alone.
            ranking: See `RankingOptions`.

        The others are those of `query`.

        Raises:
            InvalidInput: an argument is invalid.
            BadRanking: the index lacks a metadata index that this needs.
        """
        request = requested(text, vector_id, ranking)
        return self._search(
            request, vector, top_k, namespace, filter, return_values, return_metadata, effort
        )

    def get_by_ids(self, ids: Sequence[str]) -> list[Vector]:
        """Return the stored vectors among `ids`, in the order of `ids`.

        Raises:
            TooManyIds: there are more ids than one call may name.
            IdTooLong: an id is longer than a vector's may be.
            BadBody: `ids` is not a sequence of strings.
        """
        checked = arguments.ids(ids, self._limits.get_ids_max, self._limits)
        return [
            Vector(stored.id, stored.values, stored.namespace, _document(stored.metadata))
            for stored in self._engine.get(self._address, checked)
        ]

    def list_vectors(self, count: int | None = None, cursor: str | None = None) -> Page:
        """Return one page of ids.

        All pages reached through `Page.next_cursor` are of one snapshot of the index, taken with
        the first page.

        Raises:
            BadParameter: `count` is out of range.
            BadCursor: the cursor is unknown, of another index, or expired.
            Overloaded: unfinished listings use all of the memory for listings.
        """
        number = arguments.optional_integer(count, "count")
        text = None if number is None else str(number)
        page = requests.list_parameters(
            text, arguments.optional_text(cursor, "cursor", BadCursor), self._limits
        )
        return self._engine.list(self._address, page.count, page.cursor)

    def select(
        self,
        *,
        namespace: str | None = None,
        filter: Mapping[str, Any] | None = None,
        id_prefix: str | None = None,
    ) -> ScopedVectors:
        """Return the vectors that are in a namespace, pass a filter and have an id that begins so.

        Without any of these all vectors. The filter may have `$or`, `$and`, `$not`, `$exists`,
        `$contains` and `$startsWith` under any limits.

        Raises:
            InvalidInput: the filter or another argument is invalid.
        """
        request = schemas.ScopeRequest(
            arguments.optional_text(namespace, "namespace"),
            None if filter is None else plain(filter, "filter", BadFilter),
            arguments.optional_text(id_prefix, "id_prefix"),
        )
        return ScopedVectors(self._engine, self._address, self._limits, request)

    def create_metadata_index(
        self,
        property_name: str,
        index_type: IndexType | str,
        *,
        backfill: bool = False,
        language: str | None = None,
        wait: bool = False,
        timeout_s: float | None = None,
    ) -> Accepted:
        """Let filters name a property, of vectors written from now on, or `search` its words.

        Args:
            property_name: A dot separates the keys of nested objects.
            index_type: ``string``, ``number`` or ``boolean`` for filters, ``text`` for words.
            backfill: Index the vectors already stored, too.
            language: Of words that are cut to their stems, such as ``english``.
            wait: Return when it is visible.
            timeout_s: As for all writes.

        Raises:
            InvalidInput: no filter could name the property, or the type is unknown.
            LimitExceeded: the index has as many metadata indexes as it may have.
        """
        request = schemas.CreateMetadataIndexRequest(
            arguments.text(property_name, "property_name"),
            arguments.member(IndexType, index_type, "index_type"),
            arguments.boolean(backfill, "backfill"),
            arguments.optional_text(language, "language"),
        )
        mutation = requests.checked_metadata_index(request, self._limits)
        return self._write(mutation, wait, timeout_s)

    def list_metadata_indexes(self) -> Sequence[MetadataIndex]:
        """Return the metadata indexes, oldest first."""
        return self._engine.list_metadata_indexes(self._address)

    def delete_metadata_index(
        self, property_name: str, *, wait: bool = False, timeout_s: float | None = None
    ) -> Accepted:
        """Delete a metadata index.

        Raises:
            MetadataIndexNotFound: the property has no metadata index.
        """
        mutation = DeleteMetadataIndex(arguments.text(property_name, "property_name"))
        return self._write(mutation, wait, timeout_s)

    def _batch(self, vectors: Vectors) -> VectorBatch:
        return batch(records(vectors), self._dimensions, self._limits)

    def _write(
        self, mutation: Mutation | UnresolvedMutation, wait: bool, timeout_s: float | None
    ) -> Accepted:
        return write(self._engine, self._address, mutation, wait, timeout_s)

    def _search(
        self,
        request: schemas.QueryRequest,
        vector: object,
        top_k: int | None,
        namespace: str,
        filter_: Mapping[str, Any] | None,
        return_values: bool,
        return_metadata: str | bool,
        effort: Effort | str | None,
    ) -> Matches:
        request.top_k = None if top_k is None else arguments.number(top_k, "top_k")
        request.return_values = arguments.boolean(return_values, "return_values")
        request.return_metadata = arguments.level(return_metadata).value
        request.namespace = arguments.optional_text(namespace, "namespace")
        request.filter = None if filter_ is None else plain(filter_, "filter", BadFilter)
        values = numbers(vector, "vector", BadBody)
        query = requests.checked_query(request, values, self._dimensions, self._limits)
        if effort is not None:
            query = replace(query, effort=arguments.optional_member(Effort, effort, "effort"))
        result = self._engine.query(self._address, query)
        has_metadata = query.return_metadata is not MetadataLevel.NONE
        matches = [
            Match(
                match.id,
                match.score,
                match.namespace,
                match.values,
                _document(match.metadata) if has_metadata else None,
                match.scores,
                match.highlights,
            )
            for match in result.matches
        ]
        return Matches(tuple(matches), result.unindexed)


class Database:
    """The indexes of one account, returned by `vicinal.open`; close it, or use ``with``."""

    def __init__(self, engine: Engine, account: str, limits: Limits) -> None:
        self._engine = engine
        self._account = account
        self._limits = limits

    def create_index(
        self,
        name: str,
        *,
        dimensions: int | None = None,
        metric: Metric | str | None = None,
        preset: str | None = None,
        description: str | None = None,
        effort: Effort | str | None = None,
        model: str | None = None,
    ) -> Vectorize:
        """Create an empty index, by `dimensions` and `metric` or by `preset`.

        `effort` is the default of queries; ``standard`` if not given. `model` is the name of the
        model that makes its vectors, for programs that embed the texts of queries.

        Raises:
            IndexExists: the name is taken.
            BadIndexConfig: the name, dimensions, metric or preset is invalid.
            InvalidInput: an argument is of a wrong type.
            LimitExceeded: the account has as many indexes as it may have.
        """
        config = schemas.IndexConfigRequest(
            arguments.optional_integer(dimensions, "dimensions"),
            arguments.optional_member(Metric, metric, "metric"),
            arguments.optional_text(preset, "preset"),
            arguments.optional_member(Effort, effort, "effort"),
            arguments.optional_text(model, "model"),
        )
        request = schemas.CreateIndexRequest(
            arguments.text(name, "name"),
            config,
            arguments.optional_text(description, "description"),
        )
        checked = requests.checked_index(request, self._limits)
        address = self._address(checked.name)
        created = self._engine.create_index(address, checked.config, checked.description)
        return Vectorize(self._engine, address.of(created), self._limits)

    def index(self, name: str) -> Vectorize:
        """Return an index.

        Raises:
            IndexNotFound: no index has this name.
        """
        return Vectorize(self._engine, self._address(name), self._limits)

    def list_indexes(self) -> Sequence[Index]:
        """Return the indexes with their settings, oldest first."""
        return self._engine.list_indexes(self._account)

    def delete_index(self, name: str) -> None:
        """Delete an index and all of its vectors.

        Raises:
            IndexNotFound: no index has this name.
        """
        self._engine.delete_index(self._address(name))

    def close(self) -> None:
        """Release the data folder; acknowledged writes stay."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _address(self, name: str) -> IndexAddress:
        return IndexAddress(self._account, arguments.text(name, "name"))


def _document(blob: bytes | None) -> dict[str, Any] | None:
    return metadata.decode(blob) if blob else None
