"""The vectors of a scope in Python: what `Vectorize.select` returns.

The rules and their messages are the server's (`wire.scopes`). A scope is evaluated anew by every
method, so that it is of the vectors that are there then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vicinal import metadata
from vicinal.binding import arguments
from vicinal.engine.base import Engine
from vicinal.errors import BadCursor
from vicinal.limits import Limits
from vicinal.model import Facet, Floats, IndexAddress, ListedVector, Scan, Scope
from vicinal.wire import schemas, scopes

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


def _selected(vector: ListedVector) -> SelectedVector:
    document = metadata.decode(vector.metadata) if vector.metadata else None
    return SelectedVector(vector.id, vector.namespace, vector.values, document)
