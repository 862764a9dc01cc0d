"""Resolving a mutation that names vectors by what is known of them, before it is logged.

    DeleteScope    -> Delete    of the ids that the scope selects
    PatchMetadata  -> Upsert    of the same vectors with their metadata patched

A log has resolved mutations alone, so that replay gives the same state from any older one, on any
engine and node. An engine resolves against the state just before the mutation's place in its log
and lets nothing in between: so a mutation changes exactly what matched there. Values are copied to
the batch chunk by chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vicinal import interruption, metadata
from vicinal.engine import scan
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import LimitExceeded, MetadataTooLarge
from vicinal.limits import Limits
from vicinal.model import (
    BatchWriter,
    Delete,
    DeleteScope,
    Ordinals,
    PatchMetadata,
    Scope,
    UnresolvedMutation,
    Upsert,
)
from vicinal.segment.base import View
from vicinal.segment.ids import hashes

CHUNK_ROWS = 4_096  # whose metadata is in memory as objects at one time; ours


@dataclass(frozen=True, slots=True)
class ResolvedMutation:
    """A mutation to be logged, and the number of vectors that it changes."""

    mutation: Delete | Upsert
    vector_count: int


def resolve(
    snapshot: Snapshot,
    mutation: UnresolvedMutation,
    limits: Limits,
    *,
    dimensions: int,
    bytes_max: int,
    open_batch: Callable[[], BatchWriter],
) -> ResolvedMutation:
    """Return what a mutation does to the state of a snapshot. May be interrupted.

    Args:
        snapshot: The state before it.
        mutation: The mutation.
        limits: Bounds on the metadata of a vector.
        dimensions: Of the index.
        bytes_max: Bound on the record of the mutation, about.
        open_batch: Returns the writer of a batch; the caller closes it.

    Raises:
        BadFilter: the filter names a property without a metadata index.
        MetadataTooLarge: a vector's metadata would exceed the limit; the message has its id.
        LimitExceeded: the mutation would be longer than the log takes.
    """
    match mutation:
        case DeleteScope(scope):
            ids = [
                id
                for view, rows in scan.select(snapshot, scope)
                for chunk in _chunks(rows)
                for id in view.ids(chunk)
            ]
            return ResolvedMutation(Delete(ids), len(ids))
        case PatchMetadata(target, patch):
            if isinstance(target, Scope):
                selected = scan.select(snapshot, target)
            else:
                selected = _rows_of_ids(snapshot, target)
            count = sum(len(rows) for _, rows in selected)
            if count * dimensions * 4 > bytes_max:
                raise LimitExceeded(
                    f"{count} vectors of {dimensions} dimensions match, {bytes_max} bytes of "
                    "values may be in one mutation: patch fewer at a time"
                )
            if not count:
                return ResolvedMutation(Delete(()), 0)
            return ResolvedMutation(_patched(selected, patch, limits, open_batch()), count)


def _rows_of_ids(snapshot: Snapshot, ids: Sequence[str]) -> scan.SelectedRows:
    distinct = list(dict.fromkeys(ids))
    id_hashes = hashes(distinct)
    selected = []
    for view in snapshot.views:
        rows = view.find(distinct, id_hashes)
        selected.append((view, np.sort(rows[rows >= 0])))
    return selected


def _patched(
    selected: scan.SelectedRows, encoded_patch: bytes, limits: Limits, writer: BatchWriter
) -> Upsert:
    patch = metadata.decode(encoded_patch)
    ids: list[str] = []
    namespaces: list[str] = []
    documents: list[bytes] = []
    known: dict[bytes, bytes] = {}  # vectors of one source have the same metadata
    for view, rows in selected:
        for chunk in _chunks(rows):
            some = view.ids(chunk)
            if len(known) > CHUNK_ROWS:
                known.clear()
            documents += _patched_documents(some, view.metadata(chunk), patch, known, limits)
            ids += some
            namespaces += view.namespaces(chunk)
            _copy_values(view, chunk, writer)
    return Upsert(writer.batch(ids, namespaces, documents))


def _patched_documents(
    ids: Sequence[str],
    encoded: Sequence[bytes],
    patch: dict[str, Any],
    known: dict[bytes, bytes],
    limits: Limits,
) -> Iterator[bytes]:
    for vector_id, before in zip(ids, encoded, strict=True):
        after = known.get(before)
        if after is None:
            document = metadata.patched(metadata.decode(before), patch)
            after = known[before] = metadata.encode(document) if document or before else b""
            if len(after) > limits.metadata_bytes_max:
                raise MetadataTooLarge(
                    f'oversized metadata for vector id="{vector_id}"; the patched metadata must '
                    f"not exceed {limits.metadata_bytes_max} bytes, got {len(after)} bytes"
                )
        yield after


def _copy_values(view: View, rows: Ordinals, writer: BatchWriter) -> None:
    while len(rows):
        free = writer.free()
        some, rows = rows[: len(free)], rows[len(free) :]
        free[: len(some)] = view.values(some)
        writer.advance(len(some))


def _chunks(rows: Ordinals) -> Iterator[Ordinals]:
    firsts = interruption.parts(range(0, len(rows), CHUNK_ROWS))
    return (rows[first : first + CHUNK_ROWS] for first in firsts)
