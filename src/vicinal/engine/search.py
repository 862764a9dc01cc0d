"""A query over a snapshot: select, find candidates, rescore, merge, load.

Each view selects the rows that may match and finds candidates among them; their exact distances
are computed, and the nearest of all views are merged and cut to ``top_k``. Only the matches' ids,
values and metadata are read.

`prepare` selects and plans; the searches are its tasks; the rest is done when it is finished.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from time import perf_counter
from typing import NamedTuple, Self

import numpy as np

from vicinal import metadata
from vicinal.ann.base import Candidates, Selection
from vicinal.distance import distances, score
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadQueryVector
from vicinal.filters.nodes import predicates
from vicinal.model import (
    Effort,
    Explanation,
    Floats,
    IndexConfig,
    IndexCoverage,
    MetadataLevel,
    Metric,
    Ordinals,
    Query,
    QueryResult,
    ScoredVector,
)
from vicinal.prepared import Prepared
from vicinal.segment.base import View
from vicinal.segment.columns import indexed_values

CHUNK_BYTES = 4 << 20  # of float32 values rescored at one time; ours


class Hit(NamedTuple):
    """A rescored row; ordered as the wire orders matches. `part` is the number of its view."""

    distance: float
    id: str
    part: int
    row: int


_NO_ROWS = Candidates(np.empty(0, np.int64), 0, "none selected")


@dataclass(frozen=True, slots=True)
class ViewSearch:
    """A prepared search of one view. Times are in seconds."""

    view: View
    selection: Selection
    prepared: Prepared[Candidates]
    select_s: float
    prepare_s: float

    @classmethod
    def prepare(
        cls,
        view: View,
        vector: Floats,
        query: Query,
        k: int,
        effort: Effort,
        selection: Selection | None = None,
    ) -> Self:
        """Select rows, if they are not yet, and prepare the search for the k nearest of them."""
        start = perf_counter()
        if selection is None:
            selection = view.select(query.namespace, query.filter)
        selected = perf_counter()
        if selection.count:
            prepared = view.index.prepare(vector, k, selection, effort)
        else:
            prepared = Prepared(lambda: _NO_ROWS)
        return cls(view, selection, prepared, selected - start, perf_counter() - selected)

    def rescore(self, vector: Floats, metric: Metric, others: Ordinals | None = None) -> "Rescored":
        """Finish the search and compute the distances of its candidates, and of other rows."""
        start = perf_counter()
        candidates = self.prepared.finish()
        searched = perf_counter()
        rows = candidates.rows
        count = len(rows)
        if others is not None and len(others):
            rows = np.concatenate([rows, others])
        exact = distances_of(self.view, rows, vector, metric)
        found_s, rescored_s = searched - start, perf_counter() - searched
        return Rescored(self, candidates, exact[:count], found_s, rescored_s, exact[count:])


@dataclass(frozen=True, slots=True)
class Rescored:
    """The candidates of one view with their distances. Times are in seconds.

    `of_others` are the distances of the other rows that were asked for.
    """

    search: ViewSearch
    candidates: Candidates
    distances: Floats
    finish_s: float
    rescore_s: float
    of_others: Floats

    def explanation(self) -> Explanation:
        """Explain how the view was searched."""
        view, selection = self.search.view, self.search.selection
        tasks_s = sum(task.seconds for task in self.search.prepared.tasks)
        return Explanation(
            part=view.name,
            vector_count=view.live_count,
            selected_count=selection.count,
            method=self.candidates.method,
            scored_count=self.candidates.scored_count,
            rescored_count=len(self.candidates.rows),
            select_ms=1e3 * self.search.select_s,
            candidates_ms=1e3 * (self.search.prepare_s + tasks_s + self.finish_s),
            rescore_ms=1e3 * self.rescore_s,
        )


def prepare(snapshot: Snapshot, config: IndexConfig, query: Query) -> Prepared[QueryResult]:
    """Prepare a query on a snapshot (`engine.base.Engine.prepare`)."""
    if query.vector is not None and len(query.vector) != config.dimensions:
        raise BadQueryVector(
            f"the vector has {len(query.vector)} dimensions, the index has {config.dimensions}"
        )
    vector = vector_of(snapshot, query)
    unindexed = snapshot.unindexed(query.filter)
    if vector is None or unindexed:
        return Prepared(lambda: QueryResult((), unindexed))
    effort = query.effort or config.effort
    searches = [
        ViewSearch.prepare(view, vector, query, query.top_k, effort) for view in snapshot.views
    ]
    return Prepared(
        partial(_finish, snapshot, config.metric, query, vector, searches),
        [task for search in searches for task in search.prepared.tasks],
    )


def _finish(
    snapshot: Snapshot,
    metric: Metric,
    query: Query,
    vector: Floats,
    searches: Sequence[ViewSearch],
) -> QueryResult:
    rescored = [search.rescore(vector, metric) for search in searches]
    explain = partial(_explanations, rescored)
    hits = nearest(rescored, query.top_k)
    return QueryResult(
        matches(snapshot, metric, query, hits),
        explanations=explain() if query.explain else (),
        partial=partial_indexes(snapshot, query),
        explain=explain,
    )


def _explanations(rescored: Sequence[Rescored]) -> tuple[Explanation, ...]:
    return tuple(view.explanation() for view in rescored)


def partial_indexes(snapshot: Snapshot, query: Query) -> tuple[IndexCoverage, ...]:
    """Return the metadata indexes of filtered properties that do not cover all vectors."""
    if not query.filter or not snapshot.partial:
        return ()
    names = {predicate.property_name for predicate in predicates(query.filter)}
    return tuple(c for c in snapshot.partial if c.metadata_index.property_name in names)


def vector_of(snapshot: Snapshot, query: Query) -> Floats | None:
    """Return the vector to search for; None if it is that of an unknown id."""
    if query.vector_id is None:
        assert query.vector is not None
        return query.vector
    vectors = snapshot.get([query.vector_id])
    return vectors[0].values if vectors else None


def distances_of(view: View, rows: Ordinals, vector: Floats, metric: Metric) -> Floats:
    """Compute distances in chunks: all rows may tie, and their values need not fit in memory."""
    chunk = max(1, CHUNK_BYTES // vector.nbytes)
    if len(rows) <= chunk:
        return distances(view.values(rows), vector, metric)
    starts = range(0, len(rows), chunk)
    return np.concatenate(
        [distances(view.values(rows[at : at + chunk]), vector, metric) for at in starts]
    )


def nearest(rescored: Sequence[Rescored], top_k: int) -> list[Hit]:
    """Return the nearest rows of all views, ties by id."""
    bound = _bound([part.distances for part in rescored], top_k)
    hits: list[Hit] = []
    for part, view in enumerate(rescored):
        near = view.distances <= bound
        rows = view.candidates.rows[near]
        ids = view.search.view.ids(rows)
        hits += map(Hit, view.distances[near].tolist(), ids, repeat(part), rows.tolist())
    hits.sort()
    return hits[:top_k]


def _bound(distances_: Sequence[Floats], top_k: int) -> float:
    """Return the distance of the last hit; rows that tie with it are told apart by id."""
    if sum(map(len, distances_)) <= top_k:
        return math.inf
    return float(np.partition(np.concatenate(distances_), top_k - 1)[top_k - 1])


def matches(
    snapshot: Snapshot,
    metric: Metric,
    query: Query,
    hits: Sequence[Hit],
    scores: Sequence[float] | None = None,
) -> tuple[ScoredVector, ...]:
    """Load values, namespace and metadata of the hits, view by view.

    `scores` of None are those of the distances.
    """
    loaded_matches: dict[int, ScoredVector] = {}
    for part in {hit.part for hit in hits}:
        view = snapshot.views[part]
        ranks = [rank for rank, hit in enumerate(hits) if hit.part == part]
        rows = np.array([hits[rank].row for rank in ranks], np.int64)
        values = view.values(rows) if query.return_values else repeat(None)
        documents = _documents(snapshot, view, rows, query.return_metadata)
        loaded = zip(ranks, view.namespaces(rows), values, documents, strict=False)
        for rank, namespace, vector, document in loaded:
            hit = hits[rank]
            shown = score(hit.distance, metric) if scores is None else scores[rank]
            loaded_matches[rank] = ScoredVector(hit.id, shown, namespace, vector, document)
    return tuple(map(loaded_matches.__getitem__, range(len(hits))))


def _documents(
    snapshot: Snapshot, view: View, rows: Ordinals, level: MetadataLevel
) -> Iterable[bytes | None]:
    if level is MetadataLevel.ALL:
        return view.metadata(rows)
    if level is MetadataLevel.INDEXED:
        indexed = snapshot.indexed_properties
        properties = [
            index.property_name
            for index in snapshot.metadata_indexes
            if index.property_name in indexed
        ]
        return [
            metadata.from_indexed_values(indexed_values(view.columns, row, properties))
            for row in rows.tolist()
        ]
    return repeat(None)
