"""A query that ranks by more than one vector: by words, by both, diverse or in groups.

    candidates   the nearest rows, those with the best words, or both, fused (`fusion.py`)
    groups       at most n of each value of a property
    diversity    of these, rows that are unlike each other

Candidates are those of the whole index, so that ranks and scores do not depend on its segments.
When groups leave fewer than are wanted and there are more candidates, the search is done again,
deeper. Ties are broken by id.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from vicinal import metadata
from vicinal.ann.base import Selection
from vicinal.distance import score
from vicinal.engine import search
from vicinal.engine.candidates import RankedRows, ranked_rows
from vicinal.engine.fusion import BothFound, Found
from vicinal.engine.scoring import ScoredRows
from vicinal.engine.search import Hit, Rescored, ViewSearch
from vicinal.engine.snapshot import Snapshot
from vicinal.engine.text_search import TextSearch
from vicinal.errors import BadQueryVector, BadRanking
from vicinal.model import (
    Explanation,
    Floats,
    IndexConfig,
    IndexCoverage,
    Metric,
    Query,
    QueryResult,
    ScoredVector,
)
from vicinal.prepared import Prepared
from vicinal.ranking import Diversity, Fusion, Grouping, MatchScores, RankedScore, WordsExplanation
from vicinal.segment.base import View
from vicinal.segment.columns import values_of

CANDIDATES_MIN = 15  # of each of two searches; ours
WORDS = "words"
"""The method of explanations where words alone were searched for."""
DEEPER = 4  # times as many candidates, when groups leave too few; ours

_Row = tuple[int, int]
"""The numbers of a view and of a row in it."""


_NO_SCORES = MatchScores(None, None)
_NO_KEYS = np.empty(0, np.float64)
_NO_DISTANCES = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row with its score, better ones being greater, and the scores that it was made of, if they
    are wanted."""

    rank_score: float
    id: str
    row: _Row
    shown_score: float
    scores: MatchScores


@dataclass(frozen=True, slots=True)
class _Selected:
    """The selected rows of a view, and the time that it took to select them."""

    selection: Selection
    seconds: float


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
        explanations=ranking.explanations() if query.explain else (),
        explain=ranking.explanations,
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
        self._selected = [_select(view, query) for view in snapshot.views]
        self._rescored: Sequence[Rescored] = ()
        self._scored: Sequence[ScoredRows] = ()

    def explanations(self) -> tuple[Explanation, ...]:
        """Explain how each view was searched the last time, which was the deepest."""
        parts = [rescored.explanation() for rescored in self._rescored]
        words = [
            WordsExplanation(scored.scored_count, scored.posting_count, 1e3 * scored.seconds)
            for scored in self._scored
        ]
        return tuple(
            replace(
                parts[number] if parts else _by_words(view, selected.selection),
                select_ms=1e3 * selected.seconds,
                words=words[number] if words else None,
            )
            for number, (view, selected) in enumerate(
                zip(self._snapshot.views, self._selected, strict=True)
            )
        )

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
        if self._vector is not None and self._text is not None:
            return self._fused(self._vector, self._text, depth)
        by_vector = self._vector is not None
        if self._vector is not None:
            ranked = self._nearest(self._vector, depth)
        else:
            ranked = self._best_words(depth)
        ordered, ids = ranked.ordered(self._snapshot.views)
        shown = [self._score(key) if by_vector else -key for key in ordered.keys.tolist()]
        scores: Iterable[MatchScores] = repeat(_NO_SCORES)
        if self._query.return_scores:
            of_rows = [RankedScore(of_row, rank) for rank, of_row in enumerate(shown, 1)]
            of_search = MatchScores.of_vector if by_vector else MatchScores.of_text
            scores = map(of_search, of_rows)
        candidates = self._listed(ordered, ids, (-ordered.keys).tolist(), shown, scores)
        return candidates, len(ranked) < depth

    def _listed(
        self,
        rows: RankedRows,
        ids: Sequence[str],
        rank_scores: Iterable[float],
        shown_scores: Iterable[float],
        scores: Iterable[MatchScores],
    ) -> list[_Candidate]:
        numbers = zip(rows.parts.tolist(), rows.rows.tolist(), strict=True)
        return [*map(_Candidate, rank_scores, ids, numbers, shown_scores, scores)]

    def _score(self, distance: float) -> float:
        return score(distance, self._config.metric)

    def _nearest(self, vector: Floats, count: int) -> RankedRows:
        self._rescored = [
            view_search.rescore(vector, self._config.metric)
            for view_search in self._searched(vector, count)
        ]
        return self._rescored_rows(count)

    def _searched(self, vector: Floats, count: int) -> Sequence[ViewSearch]:
        """Search each view for the nearest rows."""
        query = self._query
        effort = query.effort or self._config.effort
        searches = [
            ViewSearch.prepare(view, vector, query, count, effort, selected.selection)
            for view, selected in zip(self._snapshot.views, self._selected, strict=True)
        ]
        for view_search in searches:
            for task in view_search.prepared.tasks:
                task.run()
        return searches

    def _rescored_rows(self, count: int) -> RankedRows:
        per_view = [(view.candidates.rows, view.distances) for view in self._rescored]
        return ranked_rows(per_view).best(self._snapshot.views, count)

    def _best_words(self, count: int) -> RankedRows:
        """Return the rows with the best words; their keys are scores, negative."""
        assert self._text is not None
        self._scored = self._text.best(count, [selected.selection for selected in self._selected])
        ranked = ranked_rows([(rows.rows, -rows.scores) for rows in self._scored])
        return ranked.best(self._snapshot.views, count)

    def _fused(self, vector: Floats, text: TextSearch, depth: int) -> tuple[list[_Candidate], bool]:
        """Return what `_candidates` does, of both searches."""
        query, views, metric = self._query, self._snapshot.views, self._config.metric
        assert query.text is not None
        found_count = max(CANDIDATES_MIN, depth + depth // 2)  # of each search
        both = self._found(vector, text, found_count)
        count = depth if query.grouping is None else None
        ordered, ids = both.fused(query.text, metric, views, text.full_score, count)
        if count is not None and count < len(ids):
            ordered, ids = ordered.taken(np.arange(count)), ids[:count]
        scores = (-ordered.keys).tolist()
        made_of = (
            both.scores_of(ordered, metric, views) if query.return_scores else repeat(_NO_SCORES)
        )
        listed = self._listed(ordered, ids, scores, scores, made_of)
        return listed, len(both.nearest.ranked) < found_count

    def _found(self, vector: Floats, text: TextSearch, count: int) -> BothFound:
        """Return the candidates of both searches, with both keys of each if they are needed."""
        query, metric = self._query, self._config.metric
        assert query.text is not None
        words = self._best_words(count)
        if query.text.fusion is Fusion.RANKS and not query.return_scores:
            nearest = self._nearest(vector, count)
            return BothFound(Found(nearest, _NO_KEYS), Found(words, _NO_KEYS))
        # The distances of all in one pass.
        words, part_count = words.by_row(), len(self._snapshot.views)
        self._rescored = [
            view_search.rescore(vector, metric, rows)
            for view_search, rows in zip(
                self._searched(vector, count), words.rows_by_part(part_count), strict=True
            )
        ]
        distances = np.concatenate([_NO_DISTANCES, *(part.of_others for part in self._rescored)])
        nearest = self._rescored_rows(count).by_row()
        rows_of = enumerate(nearest.rows_by_part(part_count))
        scores = [text.scores(part, rows) for part, rows in rows_of if len(rows)]
        return BothFound(
            Found(nearest, -np.concatenate([_NO_KEYS, *scores])), Found(words, distances)
        )

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
            # A best score that is not positive is that of a vector: as a cosine is.
            scale = best if best > 0.0 else 1.0
            relevance = np.array([c.rank_score for c in candidates]) / scale
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


def _select(view: View, query: Query) -> _Selected:
    """Select the rows of a view that namespace and filter let pass."""
    start = perf_counter()
    selection = view.select(query.namespace, query.filter)
    return _Selected(selection, perf_counter() - start)


def _by_words(view: View, selection: Selection) -> Explanation:
    """Explain how a view was not searched for vectors."""
    return Explanation(view.name, view.live_count, selection.count, WORDS, 0, 0, 0.0, 0.0, 0.0)


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
