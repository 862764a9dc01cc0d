"""A query over a snapshot, in steps: select, propose, measure, merge, load.

Each view selects the rows that may match, proposes candidates among them and has them
measured exactly; the nearest of all views are merged and cut to ``top_k``. Only the
winners' ids, values and metadata are read.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import NamedTuple

import numpy as np

from vicinal import metadata
from vicinal.ann.base import Proposal
from vicinal.distance import distances, score
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadQueryVector
from vicinal.model import (
    Effort,
    Explanation,
    Floats,
    IndexConfig,
    MetadataLevel,
    Metric,
    Ordinals,
    Query,
    QueryResult,
    ScoredVector,
)
from vicinal.segment.base import Selection, View
from vicinal.steps import Steps, timed, together

CHUNK_BYTES = 4 << 20  # of float32 values measured at once; ours


class _Hit(NamedTuple):
    """A measured row; ordered as the wire orders matches. `part` is its view's place."""

    distance: float
    id: str
    part: int
    row: int


@dataclass(frozen=True, slots=True)
class _Measured:
    """The candidates of one view with their distances. `times` are the seconds that each
    step took, without waiting."""

    view: View
    rows: Ordinals
    distances: Floats
    scored_count: int
    selection: Selection
    effort: Effort
    times: tuple[float, float, float]

    def explanation(self) -> Explanation:
        """Say how the view was searched."""
        method = self.view.method(self.selection, self.effort)
        select, propose, measure = (1e3 * each for each in self.times)
        return Explanation(
            part=self.view.name,
            vector_count=self.view.live_count,
            selected_count=self.selection.count,
            method=method.value if self.selection.count else "none selected",
            scored_count=self.scored_count,
            rescored_count=len(self.rows),
            select_ms=select,
            candidates_ms=propose,
            rescore_ms=measure,
        )


_NO_ROWS = Proposal(np.empty(0, np.int64), 0)
_NO_DISTANCES: Floats = np.empty(0, np.float32)


def querying(snapshot: Snapshot, config: IndexConfig, query: Query) -> Steps[QueryResult]:
    """Return the nearest vectors of a snapshot (`engine.base.Engine.querying`)."""
    if query.vector is not None and len(query.vector) != config.dimensions:
        raise BadQueryVector(
            f"the vector has {len(query.vector)} dimensions, the index has {config.dimensions}"
        )
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
    metric, effort = config.metric, query.effort or config.effort
    measured = yield from together(
        _measured(view, metric, vector, query, effort) for view in snapshot.views
    )
    hits = _nearest(measured, query.top_k)
    return QueryResult(
        _matches(snapshot, metric, query, hits),
        explanations=tuple(each.explanation() for each in measured) if query.explain else (),
    )


def _vector(snapshot: Snapshot, query: Query) -> Floats | None:
    if query.vector_id is None:
        assert query.vector is not None
        return query.vector
    found = snapshot.get([query.vector_id])
    return found[0].values if found else None


def _measured(
    view: View, metric: Metric, vector: Floats, query: Query, effort: Effort
) -> Steps[_Measured]:
    start = perf_counter()
    selection = view.select(query.namespace, query.filter)
    selected = perf_counter()
    proposal, propose_s = _NO_ROWS, 0.0
    if selection.count:
        searching = view.searching(vector, query.top_k, selection, effort)
        proposal, propose_s = yield from timed(searching)
    proposed = perf_counter()
    measured = _distances(view, proposal.rows, vector, metric)
    times = (selected - start, propose_s, perf_counter() - proposed)
    return _Measured(view, proposal.rows, measured, proposal.scored_count, selection, effort, times)


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
    bound = _bound([each.distances for each in measured], top_k)
    hits: list[_Hit] = []
    for part, each in enumerate(measured):
        near = each.distances <= bound
        rows = each.rows[near]
        hits += map(
            _Hit, each.distances[near].tolist(), each.view.ids(rows), repeat(part), rows.tolist()
        )
    hits.sort()
    return hits[:top_k]


def _bound(distances_: Sequence[Floats], top_k: int) -> float:
    """Return the distance of the last hit; rows that tie with it are told apart by id."""
    if sum(map(len, distances_)) <= top_k:
        return math.inf
    return float(np.partition(np.concatenate(distances_), top_k - 1)[top_k - 1])


def _matches(
    snapshot: Snapshot, metric: Metric, query: Query, hits: Sequence[_Hit]
) -> tuple[ScoredVector, ...]:
    """Load what is wanted of each hit, view by view."""
    matches: list[ScoredVector | None] = [None] * len(hits)
    for part in {hit.part for hit in hits}:
        view = snapshot.views[part]
        places = [place for place, hit in enumerate(hits) if hit.part == part]
        rows = np.array([hits[place].row for place in places], np.int64)
        values = view.values(rows) if query.return_values else repeat(None)
        documents = _documents(snapshot, view, rows, query.return_metadata)
        loaded = zip(places, view.namespaces(rows), values, documents, strict=False)
        for place, namespace, vector, document in loaded:
            hit = hits[place]
            matches[place] = ScoredVector(
                hit.id, score(hit.distance, metric), namespace, vector, document
            )
    return tuple(each for each in matches if each is not None)


def _documents(
    snapshot: Snapshot, view: View, rows: Ordinals, level: MetadataLevel
) -> Iterable[bytes | None]:
    if level is MetadataLevel.ALL:
        return view.metadata(rows)
    if level is MetadataLevel.INDEXED:
        return [
            metadata.from_indexed_values(view.indexed_values(row, snapshot.metadata_indexes))
            for row in rows.tolist()
        ]
    return repeat(None)
