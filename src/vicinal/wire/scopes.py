"""Requests about the vectors of a scope, and their results: the bodies of routes that are ours.

Filters may always have the operators that are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw

from vicinal import errors, metadata, model
from vicinal.limits import Limits
from vicinal.model import DeleteScope, PatchMetadata, Scan, Scope, UnresolvedMutation
from vicinal.wire import documents, schemas
from vicinal.wire.requests import (
    FAILED,
    Body,
    check_id,
    check_ids,
    checked_filter,
    checked_namespace,
    decode,
)
from vicinal.wire.responses import timestamp

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class ContentPage:
    """The wanted page of vectors: what of them, how many, and the cursor of the page before."""

    scan: Scan
    count: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class ExportParameters:
    """The vectors to export: all of a scan, or what follows in a listing.

    Attributes:
        scan: The scope, and the parts of the vectors.
        cursor: Position in a listing, which then says the scope; None for a new one.
        skip: Vectors after the cursor to leave out.
    """

    scan: Scan
    cursor: str | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class ScopedChange:
    """A change of the vectors of a scope, or the wish to know how many it would change."""

    mutation: UnresolvedMutation
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class FacetParameters:
    """The property to count the values of, in which vectors, and how many values to return."""

    property_name: str
    scope: Scope
    values_max: int


def scope(body: Body, limits: Limits) -> Scope:
    """Read the body of a count.

    Raises:
        BadBody: the body is not JSON of this shape.
        NamespaceTooLong, IdTooLong: no vector can have the namespace, or an id that begins so.
        BadFilter: the filter is outside the grammar.
    """
    return checked_scope(decode(body, schemas.ScopeRequest), limits)


def checked_scope(request: schemas.ScopeRequest, limits: Limits) -> Scope:
    """Check a scope by the rules that its shape cannot express.

    Raises:
        NamespaceTooLong, IdTooLong, BadFilter: as `scope`.
    """
    check_id(request.id_prefix or "", "idPrefix", limits)
    return Scope(
        checked_namespace(request.namespace, limits),
        checked_filter(request.filter, limits, is_extended=True),
        request.id_prefix or "",
    )


def content_page(body: Body, limits: Limits) -> ContentPage:
    """Read the body of a listing with content.

    Raises:
        BadParameter: count is not in its range, or a scope is given beside a cursor.
        BadBody, NamespaceTooLong, IdTooLong, BadFilter: as `scope`.
    """
    return checked_content_page(decode(body, schemas.ListContentRequest), limits)


def checked_content_page(request: schemas.ListContentRequest, limits: Limits) -> ContentPage:
    """Check a listing with content by the rules that its shape cannot express.

    Raises:
        BadParameter, NamespaceTooLong, IdTooLong, BadFilter: as `content_page`.
    """
    count = limits.list_count_default if request.count is None else request.count
    _check_range("count", count, limits.list_count_max)
    scope = _scope_beside_cursor(request, request.cursor, limits)
    scan = Scan(scope, bool(request.return_values), bool(request.return_metadata))
    return ContentPage(scan, count, request.cursor or None)


def export(body: Body, limits: Limits) -> ExportParameters:
    """Read the body of an export; an empty body exports all.

    Raises:
        BadParameter: `skip` is negative, or there is no cursor beside it, or a scope beside a
            cursor.
        BadBody, NamespaceTooLong, IdTooLong, BadFilter: as `scope`.
    """
    request = decode(body or b"{}", schemas.ExportRequest)
    scan = Scan(
        _scope_beside_cursor(request, request.cursor, limits),
        request.return_values is not False,
        request.return_metadata is not False,
    )
    skip = request.skip or 0
    if skip < 0 or (skip and not request.cursor):
        raise errors.BadParameter(
            f"skip is a number of vectors after a cursor, got {str(skip)[:40]}"
            + ("" if request.cursor else " without a cursor")
        )
    return ExportParameters(scan, request.cursor or None, skip)


def _scope_beside_cursor(
    request: schemas.ScopeRequest, cursor: str | None, limits: Limits
) -> Scope:
    """Check the scope of a new listing; beside a cursor there is none."""
    scope = checked_scope(request, limits)
    if cursor and scope != Scope():
        raise errors.BadParameter(
            "a cursor goes on with the listing that returned it: "
            "namespace, filter and idPrefix are given with the first page alone"
        )
    return scope


def facet(body: Body, limits: Limits) -> FacetParameters:
    """Read the body of a facet count.

    Raises:
        BadParameter: count is not in its range.
        BadBody, NamespaceTooLong, IdTooLong, BadFilter: as `scope`.
    """
    return checked_facet(decode(body, schemas.FacetRequest), limits)


def checked_facet(request: schemas.FacetRequest, limits: Limits) -> FacetParameters:
    """Check a facet count by the rules that its shape cannot express.

    Raises:
        BadBody: no property is named.
        BadParameter, NamespaceTooLong, IdTooLong, BadFilter: as `facet`.
    """
    if not request.property_name:
        raise errors.BadBody(f"{FAILED}Object missing required field `propertyName`")
    count = limits.facet_values_default if request.count is None else request.count
    _check_range("count", count, limits.facet_values_max)
    return FacetParameters(request.property_name, checked_scope(request, limits), count)


def delete(body: Body, limits: Limits) -> ScopedChange:
    """Read the body of a deletion by scope.

    Raises:
        BadBody: the body is not JSON of this shape, or all vectors are named without `all`.
        NamespaceTooLong, IdTooLong, BadFilter: as `scope`.
    """
    request = decode(body, schemas.DeleteScopeRequest)
    scope = checked_change_scope(request, limits)
    return ScopedChange(DeleteScope(scope), is_dry_run=bool(request.dry_run))


def patch(body: Body, limits: Limits) -> ScopedChange:
    """Read the body of a patch of metadata.

    Raises:
        BadBody: the body is not JSON of this shape, all vectors are named without `all`, or ids
            are given beside a scope.
        BadRecord, BadMetadataKey, MetadataTooLarge: the patch is no metadata.
        TooManyIds, NamespaceTooLong, IdTooLong, BadFilter: as for any ids or scope.
    """
    request = decode(body, schemas.PatchMetadataRequest)
    return ScopedChange(checked_patch(request, limits), is_dry_run=bool(request.dry_run))


def checked_patch(request: schemas.PatchMetadataRequest, limits: Limits) -> PatchMetadata:
    """Check a patch of metadata by the rules that its shape cannot express.

    Raises:
        BadBody, BadRecord, BadMetadataKey, MetadataTooLarge, TooManyIds, NamespaceTooLong,
        IdTooLong, BadFilter: as `patch`.
    """
    if not isinstance(request.metadata, dict):
        got = metadata.kind(request.metadata)
        raise errors.BadBody(f"{FAILED}metadata: expected an object, a merge patch, got {got}")
    try:
        encoded = documents.blob(request.metadata, "", limits)
    except documents.RecordError as refused:
        raise refused.error(f"patch: {refused.rule}") from None
    if request.ids is None:
        return PatchMetadata(checked_change_scope(request, limits), encoded)
    if request.all or checked_scope(request, limits) != Scope():
        raise errors.BadBody(f"{FAILED}expected either ids or a scope, got both")
    return PatchMetadata(check_ids(request.ids, limits.delete_ids_max, limits), encoded)


def checked_change_scope(request: schemas.DeleteScopeRequest, limits: Limits) -> Scope:
    """Check the scope of a change, which is of all vectors only if that is said.

    Raises:
        BadBody: it is of all vectors without `all`, or has `all` and is of fewer.
        NamespaceTooLong, IdTooLong, BadFilter: as `scope`.
    """
    scope = checked_scope(request, limits)
    if scope == Scope() and not request.all:
        raise errors.BadBody(
            f"{FAILED}expected one of namespace, filter and idPrefix, "
            'or "all": true for all vectors of the index'
        )
    if scope != Scope() and request.all:
        raise errors.BadBody(
            f'{FAILED}"all" is for all vectors of the index; leave out namespace, filter and '
            "idPrefix, or leave out all"
        )
    return scope


def changed(accepted: model.Accepted) -> bytes:
    """Write the id of a durable mutation and the number of vectors that it changes."""
    return _encoder.encode(schemas.ChangedSchema(accepted.vector_count or 0, accepted.mutation_id))


def page(page: model.VectorPage) -> bytes:
    """Write one page of vectors."""
    return _encoder.encode(
        schemas.ContentListSchema(
            count=len(page.vectors),
            total_count=page.total_count,
            is_truncated=page.next_cursor is not None,
            next_cursor=page.next_cursor,
            cursor_expiration_timestamp=None
            if page.expires_at is None
            else timestamp(page.expires_at),
            vectors=[_listed(vector) for vector in page.vectors],
        )
    )


def lines(vectors: Sequence[model.ListedVector]) -> bytes:
    """Write vectors as lines of NDJSON, in the form that an upsert takes."""
    return _encoder.encode_lines([_listed(vector) for vector in vectors])


def count(count: int) -> bytes:
    """Write a number of vectors."""
    return _encoder.encode(schemas.CountSchema(count))


def facet_result(facet: model.Facet) -> bytes:
    """Write the values of a property with their counts."""
    return _encoder.encode(
        schemas.FacetSchema(
            facet.property_name,
            facet.index_type,
            facet.vector_count,
            facet.value_count,
            facet.distinct_count,
            [schemas.FacetValueSchema(value.value, value.count) for value in facet.values],
        )
    )


def _listed(vector: model.ListedVector) -> schemas.ListedContentSchema:
    return schemas.ListedContentSchema(
        vector.id,
        UNSET if vector.values is None else vector.values.tolist(),
        Raw(vector.metadata) if vector.metadata else UNSET,
        vector.namespace or UNSET,
    )


def _check_range(name: str, number: int, bound: int) -> None:
    if not 1 <= number <= bound:
        shown = str(number)[:40]
        raise errors.BadParameter(f"{name} must be an integer from 1 to {bound}, got {shown}")
