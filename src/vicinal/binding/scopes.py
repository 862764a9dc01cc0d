"""The vectors of a scope in Python: what `Vectorize.select` returns.

The rules and their messages are the server's (`wire.scopes`). A scope is evaluated anew by every
method, so that it is of the vectors that are there then.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vicinal import metadata
from vicinal.binding import arguments
from vicinal.binding.records import plain
from vicinal.engine.base import Engine
from vicinal.errors import BadCursor, BadRecord, Unavailable
from vicinal.limits import Limits
from vicinal.model import (
    Accepted,
    DeleteScope,
    Facet,
    Floats,
    IndexAddress,
    ListedVector,
    Mutation,
    Scan,
    Scope,
    UnresolvedMutation,
)
from vicinal.wire import schemas, scopes

VISIBLE_WITHIN_S = 60.0
AT_ONCE = 1_000  # vectors that an iteration reads at one time; ours


@dataclass(frozen=True, slots=True)
class SelectedVector:
    """A vector of a scope. `values` and `metadata` are None unless asked for and present."""

    id: str
    namespace: str
    values: Floats | None
    metadata: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class SelectedPage:
    """One page of vectors; `total_count` is of the whole listing. `next_cursor` is None on the last
    page."""

    vectors: tuple[SelectedVector, ...]
    total_count: int
    next_cursor: str | None


class ScopedVectors:
    """The vectors of an index in a namespace, that pass a filter, and whose id begins so.

    Methods raise `BadFilter` for a filter on a property without a metadata index.
    """

    def __init__(
        self, engine: Engine, address: IndexAddress, limits: Limits, request: schemas.ScopeRequest
    ) -> None:
        self._engine = engine
        self._address = address
        self._limits = limits
        self._request = request
        self._scope: Scope = scopes.checked_scope(request, limits)

    def count(self) -> int:
        """Return the number of vectors."""
        return self._engine.count(self._address, self._scope)

    def facet(self, property_name: str, count: int | None = None) -> Facet:
        """Return the most frequent values of an indexed property, with their counts.

        Args:
            property_name: Name of the property.
            count: How many values; 10 if not given.

        Raises:
            MetadataIndexNotFound: the property has no metadata index.
            BadParameter: `count` is out of range.
        """
        request = schemas.FacetRequest(
            property_name=arguments.text(property_name, "property_name"),
            count=arguments.optional_integer(count, "count"),
        )
        wanted = scopes.checked_facet(request, self._limits)
        return self._engine.facet(
            self._address, wanted.property_name, self._scope, wanted.values_max
        )

    def delete(
        self, *, all: bool = False, wait: bool = False, timeout_s: float | None = None
    ) -> Accepted:
        """Remove the vectors in one write; `Accepted.vector_count` says how many.

        Vectors are removed that are in the scope at the write's place among all writes; all of them
        or none. A
        scope of all vectors needs `all`.

        Raises:
            BadBody: the scope is of all vectors without `all`.
            Overloaded: the memory for writes was full for `timeout_s` seconds.
        """
        mutation = DeleteScope(self._checked(all))
        return write(self._engine, self._address, mutation, wait, timeout_s)

    def patch_metadata(
        self,
        patch: Mapping[str, Any],
        *,
        all: bool = False,
        wait: bool = False,
        timeout_s: float | None = None,
    ) -> Accepted:
        """Patch the metadata of the vectors in one write; their values stay.

        Args:
            patch: A JSON merge patch (RFC 7386): None removes a key, objects are merged.
            all: Whether the scope may be of all vectors.
            wait: Return when it is visible.
            timeout_s: As for all writes.

        Raises:
            InvalidInput: the patch is no metadata (`BadMetadataKey`, `MetadataTooLarge`, ...).
            MetadataTooLarge: a vector's metadata would exceed the limit; the message has its id.
                Nothing is written.
            LimitExceeded: more vectors match than one write takes.
            BadBody, Overloaded: as `delete`.
        """
        request = schemas.PatchMetadataRequest(
            namespace=self._request.namespace,
            filter=self._request.filter,
            id_prefix=self._request.id_prefix,
            all=arguments.boolean(all, "all") or None,
            metadata=plain(patch, "patch", BadRecord),
        )
        mutation = scopes.checked_patch(request, self._limits)
        return write(self._engine, self._address, mutation, wait, timeout_s)

    def _checked(self, all: bool) -> Scope:
        request = schemas.DeleteScopeRequest(
            namespace=self._request.namespace,
            filter=self._request.filter,
            id_prefix=self._request.id_prefix,
            all=arguments.boolean(all, "all"),
        )
        return scopes.checked_change_scope(request, self._limits)

    def vectors(
        self, *, return_values: bool = True, return_metadata: bool = True
    ) -> Iterator[SelectedVector]:
        """Return an iterator over the vectors, as they are when this is called."""
        scan = Scan(
            self._scope,
            arguments.boolean(return_values, "return_values"),
            arguments.boolean(return_metadata, "return_metadata"),
        )
        parts = self._engine.stream_vectors(self._address, scan, AT_ONCE)
        return (_selected(vector) for part in parts for vector in part)

    def page(
        self,
        count: int | None = None,
        cursor: str | None = None,
        *,
        return_values: bool = True,
        return_metadata: bool = True,
    ) -> SelectedPage:
        """Return one page; all pages reached through a cursor are of one snapshot.

        Raises:
            BadParameter: `count` is out of range.
            BadCursor: the cursor is unknown, of another index, or expired.
            Overloaded: unfinished listings use all of the memory for listings.
        """
        request = schemas.ListContentRequest(
            return_values=arguments.boolean(return_values, "return_values"),
            return_metadata=arguments.boolean(return_metadata, "return_metadata"),
            count=arguments.optional_integer(count, "count"),
            cursor=arguments.optional_text(cursor, "cursor", BadCursor),
        )
        wanted = scopes.checked_content_page(request, self._limits)
        scan = Scan(self._scope, wanted.scan.return_values, wanted.scan.return_metadata)
        page = self._engine.list_vectors(self._address, scan, wanted.count, wanted.cursor)
        return SelectedPage(tuple(map(_selected, page.vectors)), page.total_count, page.next_cursor)


def write(
    engine: Engine,
    address: IndexAddress,
    mutation: Mutation | UnresolvedMutation,
    wait: bool,
    timeout_s: float | None,
) -> Accepted:
    """Log a mutation, and wait until it is visible if that is wanted.

    Raises:
        Overloaded: the memory for writes was full for `timeout_s` seconds.
        Unavailable: the mutation is durable but was not visible in time.
    """
    is_to_wait = arguments.boolean(wait, "wait")
    wait_s = arguments.seconds(timeout_s, "timeout_s")
    accepted = engine.append(address, mutation, wait_s=wait_s).result()
    if is_to_wait and not engine.wait_applied(address, accepted.seqno, VISIBLE_WITHIN_S):
        raise Unavailable(
            f"mutation {accepted.mutation_id} is durable but not visible after "
            f"{VISIBLE_WITHIN_S:g} seconds"
        )
    return accepted


def _selected(vector: ListedVector) -> SelectedVector:
    document = metadata.decode(vector.metadata) if vector.metadata else None
    return SelectedVector(vector.id, vector.namespace, vector.values, document)
