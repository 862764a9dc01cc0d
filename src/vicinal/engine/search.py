"""A query over a snapshot: select, propose, measure, merge, load.

Each view selects the rows that may match, proposes candidates among them and has them
measured exactly; the nearest of all views are merged and cut to ``top_k``. Only the
winners' ids, values and metadata are read.
"""

from dataclasses import dataclass

import numpy as np

from vicinal import metadata
from vicinal.distance import distances, score
from vicinal.engine.snapshot import Snapshot
from vicinal.model import (
    Floats,
    Match,
    MetadataLevel,
    Metric,
    Ordinals,
    Query,
    QueryResult,
)
from vicinal.segment.base import View


@dataclass(frozen=True, slots=True)
class _Hit:
    """A measured row; ordered as the wire orders matches."""

    distance: float
    id: str
    view: View
    row: int


def query(snapshot: Snapshot, metric: Metric, query: Query) -> QueryResult:
    """Return the nearest vectors of a snapshot (`engine.base.Engine.query`)."""
    vector = _vector(snapshot, query)
    unindexed = tuple(
        dict.fromkeys(
            each.property_name
            for each in query.filter
            if each.property_name not in snapshot.indexed_properties
        )
    )
    if vector is None or unindexed:
        return QueryResult((), unindexed)
    hits = _nearest(snapshot, metric, vector, query)
    return QueryResult(tuple(_match(snapshot, metric, query, hit) for hit in hits))


def _vector(snapshot: Snapshot, query: Query) -> Floats | None:
    if query.vector_id is None:
        assert query.vector is not None
        return query.vector
    found = snapshot.get([query.vector_id])
    return found[0].values if found else None


def _nearest(snapshot: Snapshot, metric: Metric, vector: Floats, query: Query) -> list[_Hit]:
    measured: list[tuple[View, Ordinals, Floats]] = []
    for view in snapshot.views:
        selection = view.select(query.namespace, query.filter)
        if selection.count:
            rows = view.candidates(vector, query.top_k, selection)
            measured.append((view, rows, distances(view.values(rows), vector, metric)))
    if not measured:
        return []
    everything = np.concatenate([each for _, _, each in measured])
    bound = np.float32(np.inf)
    if len(everything) > query.top_k:
        bound = np.partition(everything, query.top_k - 1)[query.top_k - 1]
    hits = []
    for view, rows, row_distances in measured:
        near = row_distances <= bound
        rows = rows[near]
        hits += [
            _Hit(distance, vector_id, view, row)
            for distance, vector_id, row in zip(
                row_distances[near].tolist(), view.ids(rows), rows.tolist(), strict=True
            )
        ]
    hits.sort(key=lambda hit: (hit.distance, hit.id))
    return hits[: query.top_k]


def _match(snapshot: Snapshot, metric: Metric, query: Query, hit: _Hit) -> Match:
    rows = np.array([hit.row])
    document: bytes | None = None
    if query.return_metadata is MetadataLevel.ALL:
        document = hit.view.metadata(rows)[0]
    elif query.return_metadata is MetadataLevel.INDEXED:
        document = metadata.from_indexed_values(
            hit.view.indexed_values(hit.row, snapshot.metadata_indexes)
        )
    return Match(
        id=hit.id,
        score=score(hit.distance, metric),
        namespace=hit.view.namespaces(rows)[0],
        values=hit.view.values(rows)[0] if query.return_values else None,
        metadata=document,
    )
