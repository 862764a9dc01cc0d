"""A query over a snapshot: select, propose, measure, merge, load.

Each view selects the rows that may match, proposes candidates among them and has them
measured exactly; the nearest of all views are merged and cut to ``top_k``. Only the
winners' ids, values and metadata are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

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
    SearchStep,
)
from vicinal.segment.base import Selection, View

CHUNK_BYTES = 4 << 20  # of float32 values measured at once; ours


@dataclass(frozen=True, slots=True)
class _Hit:
    """A measured row; ordered as the wire orders matches."""

    distance: float
    id: str
    view: View
    row: int


@dataclass(frozen=True, slots=True)
class _Measured:
    """The candidates of one view with their distances. `times` are before and after each
    step, in seconds."""

    view: View
    rows: Ordinals
    distances: Floats
    selection: Selection
    times: Sequence[float]

    def step(self, query: Query) -> SearchStep:
        """Say how the view was searched."""
        method = self.view.method(self.selection, query.effort)
        select, propose, measure = (1e3 * (b - a) for a, b in pairwise(self.times))
        return SearchStep(
            part=self.view.name,
            vector_count=self.view.live_count,
            selected_count=self.selection.count,
            method=method.value if self.selection.count else "none selected",
            scored_count=self.view.scored_count(query.top_k, self.selection, query.effort),
            measured_count=len(self.rows),
            select_ms=select,
            propose_ms=propose,
            measure_ms=measure,
        )


_NO_ROWS: Ordinals = np.empty(0, np.int64)
_NO_DISTANCES: Floats = np.empty(0, np.float32)


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
    measured = [_measured(view, metric, vector, query) for view in snapshot.views]
    hits = _nearest(measured, query.top_k)
    return QueryResult(
        tuple(_match(snapshot, metric, query, hit) for hit in hits),
        steps=tuple(each.step(query) for each in measured) if query.explain else (),
    )


def _vector(snapshot: Snapshot, query: Query) -> Floats | None:
    if query.vector_id is None:
        assert query.vector is not None
        return query.vector
    found = snapshot.get([query.vector_id])
    return found[0].values if found else None


def _measured(view: View, metric: Metric, vector: Floats, query: Query) -> _Measured:
    times = [perf_counter()]
    selection = view.select(query.namespace, query.filter)
    times.append(perf_counter())
    rows = _NO_ROWS
    if selection.count:
        rows = view.candidates(vector, query.top_k, selection, query.effort)
    times.append(perf_counter())
    measured = _distances(view, rows, vector, metric)
    times.append(perf_counter())
    return _Measured(view, rows, measured, selection, times)


def _distances(view: View, rows: Ordinals, vector: Floats, metric: Metric) -> Floats:
    """Measure rows a chunk at a time: all may tie, and their values need not fit in memory."""
    chunk = max(1, CHUNK_BYTES // vector.nbytes)
    if len(rows) <= chunk:
        return distances(view.values(rows), vector, metric)
    starts = range(0, len(rows), chunk)
    return np.concatenate(
        [distances(view.values(rows[at : at + chunk]), vector, metric) for at in starts]
    )


def _nearest(measured: Sequence[_Measured], top_k: int) -> list[_Hit]:
    everything = np.concatenate([_NO_DISTANCES, *(each.distances for each in measured)])
    bound = np.float32(np.inf)
    if len(everything) > top_k:
        bound = np.partition(everything, top_k - 1)[top_k - 1]
    hits: list[_Hit] = []
    for each in measured:
        near = each.distances <= bound
        rows = each.rows[near]
        hits += [
            _Hit(distance, vector_id, each.view, row)
            for distance, vector_id, row in zip(
                each.distances[near].tolist(), each.view.ids(rows), rows.tolist(), strict=True
            )
        ]
    hits.sort(key=lambda hit: (hit.distance, hit.id))
    return hits[:top_k]


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
