"""A query that ranks by more than one vector: by words, by both, diverse or in groups.

    candidates   the nearest rows, those with the best words, or both, fused
    groups       at most n of each value of a property
    diversity    of these, rows that are unlike each other

Candidates are those of the whole index, so that ranks and scores do not depend on its segments.
When groups leave fewer than are wanted and there are more candidates, the search is done again,
deeper. Ties are broken by id.

Fusion by ranks adds ``weight / (60 + rank)`` of both searches (Cormack et al., 2009), of weights
that sum to 2. Fusion by scores adds weighted scores: BM25 over the best one, and nearness between
that of the farthest and of the nearest candidate.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from vicinal import metadata
from vicinal.distance import score
from vicinal.engine import search
from vicinal.engine.search import Hit, ViewSearch
from vicinal.engine.snapshot import Snapshot
from vicinal.engine.text_search import ScoredRows, TextSearch
from vicinal.errors import BadQueryVector, BadRanking
from vicinal.model import (
    Floats,
    IndexConfig,
    IndexCoverage,
    Metric,
    Query,
    QueryResult,
    ScoredVector,
)
from vicinal.prepared import Prepared
from vicinal.ranking import Diversity, Fusion, Grouping, MatchScores, RankedScore, TextQuery
from vicinal.segment.columns import values_of

RANK_OFFSET = 60  # source: Cormack, Clarke and Büttcher, 2009
FUSED_MIN = 50  # candidates of each of two searches; ours
DEEPER = 4  # times as many candidates, when groups leave too few; ours

_Row = tuple[int, int]
"""The numbers of a view and of a row in it."""


_NO_SCORES = MatchScores(None, None)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row with its score, better ones being greater, and the scores that it was made of, if they
    are wanted."""

    rank_score: float
    id: str
    row: _Row
    shown_score: float
    scores: MatchScores


def is_needed(query: Query) -> bool:
    """Tell whether a query is more than a search by a vector alone."""
    return not (
        query.text is None
        and query.diversity is None
        and query.grouping is None
        and query.reranking is None
        and not query.passage_property
        and not query.return_scores
    )


def prepare(snapshot: Snapshot, config: IndexConfig, query: Query) -> Prepared[QueryResult]:
    """Prepare such a query on a snapshot (`engine.base.Engine.prepare`).

    Raises:
        BadRanking: it needs a model.
    """
    if query.vector is not None and len(query.vector) != config.dimensions:
        raise BadQueryVector(
            f"the vector has {len(query.vector)} dimensions, the index has {config.dimensions}"
        )
    if query.reranking is not None:
        raise BadRanking("rerank: nothing here runs models")
    if query.text is not None and query.text.needs_vector:
        raise BadRanking("hybrid: give a vector, as nothing here embeds the text")
    return Prepared(partial(_answer, snapshot, config, query))


def _answer(snapshot: Snapshot, config: IndexConfig, query: Query) -> QueryResult:
    has_vector = query.vector is not None or query.vector_id is not None
    # Programs may send a text beside their vector to an index that has no text index.
    is_ignored = query.text is not None and has_vector and not snapshot.text_indexes
    text = None if query.text is None or is_ignored else TextSearch(snapshot, query.text)
    if query.grouping is not None:
        _check_grouping(snapshot, query.grouping)
    vector = search.vector_of(snapshot, query) if has_vector else None
    unindexed = snapshot.unindexed(query.filter)
    if unindexed or (vector is None and text is None):
        return QueryResult((), unindexed, is_text_ignored=is_ignored)
    ranking = _Ranking(snapshot, config, query, vector, text)
    chosen = ranking.chosen()
    return QueryResult(
        _matches(snapshot, config.metric, query, chosen, text),
        partial=search.partial_indexes(snapshot, query) + _partial_texts(snapshot, text),
        is_text_ignored=is_ignored,
    )


class _Ranking:
    """The candidates of one query, and the choice among them."""

    def __init__(
        self,
        snapshot: Snapshot,
        config: IndexConfig,
        query: Query,
        vector: Floats | None,
        text: TextSearch | None,
    ) -> None:
        self._snapshot = snapshot
        self._config = config
        self._query = query
        self._vector = vector
        self._text = text

    def chosen(self) -> list[_Candidate]:
        """Return the matches, best first."""
        query = self._query
        diversity, grouping = query.diversity, query.grouping
        wanted = query.top_k
        if diversity is not None:
            wanted = max(wanted, diversity.candidate_count)
        depth = wanted
        while True:
            candidates, is_complete = self._candidates(depth)
            if grouping is not None:
                candidates = self._grouped(candidates, grouping)
            if len(candidates) >= wanted or is_complete:
                break
            depth *= DEEPER
        candidates = candidates[:wanted]
        if diversity is not None:
            return self._diverse(candidates, diversity)
        return candidates

    def _candidates(self, depth: int) -> tuple[list[_Candidate], bool]:
        """Return the best candidates, at least `depth` while more exist, and whether these are
        all."""
        vector, text, query = self._vector, self._text, self._query.text
        if vector is not None and text is not None:
            assert query is not None
            deep = max(FUSED_MIN, 2 * depth)
            nearest = self._nearest(vector, deep)
            fused = self._fused(query, nearest, self._best_words(deep))
            return fused, len(nearest) < deep
        if vector is not None:
            nearest = self._nearest(vector, depth)
            candidates = [
                self._candidate(hit, -hit.distance, self._score(hit), rank, None)
                for rank, hit in enumerate(nearest, 1)
            ]
            return candidates, len(nearest) < depth
        words = self._best_words(depth)
        candidates = [
            self._candidate(hit, -hit.distance, -hit.distance, None, rank)
            for rank, hit in enumerate(words, 1)
        ]
        return candidates, len(words) < depth

    def _candidate(
        self,
        hit: Hit,
        rank_score: float,
        shown_score: float,
        vector_rank: int | None,
        text_rank: int | None,
    ) -> _Candidate:
        """Return the candidate of a hit of one search."""
        if not self._query.return_scores:
            row = hit.part, hit.row
            return _Candidate(rank_score, hit.id, row, shown_score, _NO_SCORES)
        vector = None if vector_rank is None else RankedScore(self._score(hit), vector_rank)
        text = None if text_rank is None else RankedScore(-hit.distance, text_rank)
        scores = MatchScores(vector, text)
        return _Candidate(rank_score, hit.id, (hit.part, hit.row), shown_score, scores)

    def _score(self, hit: Hit) -> float:
        return score(hit.distance, self._config.metric)

    def _nearest(self, vector: Floats, count: int) -> list[Hit]:
        query, config = replace(self._query, top_k=count), self._config
        effort = query.effort or config.effort
        searches = [
            ViewSearch.prepare(view, vector, query, effort) for view in self._snapshot.views
        ]
        for view_search in searches:
            for task in view_search.prepared.tasks:
                task.run()
        rescored = [view_search.rescore(vector, config.metric) for view_search in searches]
        return search.nearest(rescored, count)

    @cached_property
    def _scored(self) -> Sequence[ScoredRows]:
        """The rows of each view that have words of the text."""
        query, text = self._query, self._text
        assert text is not None
        return [
            text.score(part, view.select(query.namespace, query.filter))
            for part, view in enumerate(self._snapshot.views)
        ]

    def _best_words(self, count: int) -> list[Hit]:
        """Return the rows with the best words; their distances are scores, negative."""
        views, scored = self._snapshot.views, self._scored
        scores = np.concatenate([np.empty(0), *(rows.scores for rows in scored)])
        bound = 0.0
        if len(scores) > count:
            bound = float(np.partition(scores, len(scores) - count)[len(scores) - count])
        hits: list[Hit] = []
        left = count - int(np.count_nonzero(scores > bound))
        for part, (view, rows) in enumerate(zip(views, scored, strict=True)):
            above = rows.scores > bound
            kept, negative = rows.rows[above], (-rows.scores[above]).tolist()
            # Short texts tie often, and only few of those are needed.
            tied = view.first_by_id(rows.rows[rows.scores == bound], left)
            kept, negative = np.concatenate([kept, tied]), negative + [-bound] * len(tied)
            hits += map(Hit, negative, view.ids(kept), repeat(part), kept.tolist())
        hits.sort()
        return hits[:count]

    def _fused(
        self, query: TextQuery, nearest: Sequence[Hit], words: Sequence[Hit]
    ) -> list[_Candidate]:
        rows: dict[_Row, str] = {}
        ranks: list[dict[_Row, int]] = []
        for hits in (nearest, words):
            ranks.append({(hit.part, hit.row): rank for rank, hit in enumerate(hits, 1)})
            rows |= {(hit.part, hit.row): hit.id for hit in hits}
        has_scores = query.fusion is Fusion.SCORES or self._query.return_scores
        distances = self._distances(list(rows), nearest) if has_scores else {}
        of_words = {row: self._scored[row[0]].score(row[1]) for row in rows} if has_scores else {}
        if query.fusion is Fusion.RANKS:
            weights = (2.0 - 2.0 * query.share, 2.0 * query.share)
            fused = {row: _sum_of_ranks(row, weights, ranks) for row in rows}
        else:
            fused = _sums_of_scores(query.share, distances, of_words)
        ordered = sorted(rows.items(), key=lambda item: (-fused[item[0]], item[1]))
        metric = self._config.metric
        scores = {
            row: MatchScores(
                RankedScore(score(distances[row], metric), ranks[0].get(row)),
                RankedScore(of_words[row], ranks[1].get(row)),
            )
            for row in distances
        }
        return [
            _Candidate(fused[row], vector_id, row, fused[row], scores.get(row, _NO_SCORES))
            for row, vector_id in ordered
        ]

    def _distances(self, rows: Sequence[_Row], nearest: Sequence[Hit]) -> dict[_Row, float]:
        """Return the distances of rows, of which some are known."""
        vector = self._vector
        assert vector is not None
        distances = {(hit.part, hit.row): hit.distance for hit in nearest}
        missing: dict[int, list[int]] = {}
        for part, row in rows:
            if (part, row) not in distances:
                missing.setdefault(part, []).append(row)
        for part, numbers in missing.items():
            view, ordinals = self._snapshot.views[part], np.array(sorted(numbers), np.int64)
            computed = search.distances_of(view, ordinals, vector, self._config.metric)
            for row, distance in zip(ordinals.tolist(), computed.tolist(), strict=True):
                distances[part, row] = distance
        return distances

    def _grouped(self, candidates: Sequence[_Candidate], grouping: Grouping) -> list[_Candidate]:
        counts: Counter[Hashable] = Counter()
        kept = []
        for candidate in candidates:
            part, row = candidate.row
            column = values_of(self._snapshot.views[part].columns[grouping.property_name])
            value = None if column is None else column.value(row)
            if value is not None:
                counts[value] += 1
                if counts[value] > grouping.count:
                    continue
            kept.append(candidate)
        return kept

    def _diverse(self, candidates: Sequence[_Candidate], diversity: Diversity) -> list[_Candidate]:
        """Choose by maximal marginal relevance; nearness to each other is the cosine."""
        count = min(self._query.top_k, len(candidates))
        units = _unit_rows(self._values(candidates))
        if self._vector is not None and self._text is None:
            relevance = units @ _unit_rows(self._vector[np.newaxis])[0]
        else:
            best = max((candidate.rank_score for candidate in candidates), default=1.0)
            relevance = np.array([c.rank_score for c in candidates]) / (best or 1.0)
        closest = np.zeros(len(candidates))
        gains = diversity.relevance * relevance
        chosen: list[int] = []
        is_left = np.ones(len(candidates), np.bool_)
        for _ in range(count):
            marginal = gains - (1.0 - diversity.relevance) * closest
            number = int(np.argmax(np.where(is_left, marginal, -np.inf)))
            likeness = units @ units[number]
            closest = likeness if not chosen else np.maximum(closest, likeness)
            is_left[number] = False
            chosen.append(number)
        return [candidates[number] for number in chosen]

    def _values(self, candidates: Sequence[_Candidate]) -> Floats:
        values = np.empty((len(candidates), self._config.dimensions), np.float32)
        for part in {candidate.row[0] for candidate in candidates}:
            numbers = [n for n, candidate in enumerate(candidates) if candidate.row[0] == part]
            rows = np.array([candidates[n].row[1] for n in numbers], np.int64)
            values[numbers] = self._snapshot.views[part].values(rows)
        return values


def _sum_of_ranks(row: _Row, weights: Sequence[float], ranks: Sequence[dict[_Row, int]]) -> float:
    return sum(
        weight / (RANK_OFFSET + of_search[row])
        for weight, of_search in zip(weights, ranks, strict=True)
        if row in of_search
    )


def _sums_of_scores(
    share: float, distances: dict[_Row, float], of_words: dict[_Row, float]
) -> dict[_Row, float]:
    farthest, nearest = max(distances.values()), min(distances.values())
    best = max(of_words.values()) or 1.0
    width = farthest - nearest
    return {
        row: (1.0 - share) * ((farthest - distances[row]) / width if width else 1.0)
        + share * of_word / best
        for row, of_word in of_words.items()
    }


def _unit_rows(values: Floats) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    norms = np.sqrt(np.vecdot(wide, wide))
    unit: NDArray[np.float64] = wide / np.where(norms > 0.0, norms, 1.0)[:, np.newaxis]
    return unit


def _check_grouping(snapshot: Snapshot, grouping: Grouping) -> None:
    if grouping.property_name not in snapshot.indexed_properties:
        raise BadRanking(
            f"groupBy: the property {metadata.shown(grouping.property_name)} has no metadata index "
            "of strings, numbers or booleans; create one with backfill first"
        )


def _matches(
    snapshot: Snapshot,
    metric: Metric,
    query: Query,
    chosen: Sequence[_Candidate],
    text: TextSearch | None,
) -> tuple[ScoredVector, ...]:
    hits = [Hit(0.0, candidate.id, *candidate.row) for candidate in chosen]
    matches = search.matches(snapshot, metric, query, hits, [c.shown_score for c in chosen])
    if query.return_scores:
        matches = tuple(
            replace(match, scores=candidate.scores)
            for match, candidate in zip(matches, chosen, strict=True)
        )
    if query.return_highlights and text is not None:
        matches = tuple(
            replace(match, highlights=text.highlights(_document(snapshot, candidate)))
            for match, candidate in zip(matches, chosen, strict=True)
        )
    if query.passage_property:
        matches = tuple(
            replace(match, passage=_passage(_document(snapshot, candidate), query.passage_property))
            for match, candidate in zip(matches, chosen, strict=True)
        )
    return matches


def _passage(encoded: bytes, property_name: str) -> str:
    return "\n".join(metadata.texts(metadata.decode(encoded), property_name))


def _document(snapshot: Snapshot, candidate: _Candidate) -> bytes:
    part, row = candidate.row
    return snapshot.views[part].metadata(np.array([row], np.int64))[0]


def _partial_texts(snapshot: Snapshot, text: TextSearch | None) -> tuple[IndexCoverage, ...]:
    """Return the text indexes of a search that do not cover all vectors."""
    if text is None:
        return ()
    names = text.property_names
    return tuple(c for c in snapshot.partial if c.metadata_index.property_name in names)
