"""Fusion: one ranking of the candidates of a search by vector and of one by words.

    scores    (1 - share) · nearness + share · coverage
    ranks     2 (1 - share) / (60 + rank by vector) + 2 share / (60 + rank by words)

Nearness is the cosine. Distances of other metrics have no scale of their own: there it is where a
row is between the farthest candidate, 0, and the nearest, 1. Coverage is the BM25 score over that
of a row of average length that has each word of the query once, known words or not. So a row that
has the common words of a sentence alone gets little for them, where its rank, or its score over the
best one, would call it the best.

Both parts of each candidate are computed, whichever search found it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vicinal.distance import score
from vicinal.engine.candidates import RankedRows
from vicinal.model import Metric, Ordinals
from vicinal.ranking import Fusion, MatchScores, RankedScore, TextQuery
from vicinal.segment.base import View

RANK_OFFSET = 60  # source: Cormack, Clarke and Büttcher, 2009

Scores = NDArray[np.float64]
Complete = Callable[[int, Ordinals], NDArray[np.floating]]
"""Computes the keys of rows of a view, which ascend."""


@dataclass(frozen=True, slots=True)
class Search:
    """The candidates of one of both searches, and how to get the keys of other rows."""

    ranked: RankedRows
    complete: Complete


@dataclass(frozen=True, slots=True)
class Fused:
    """Rows with their fused scores, whose negatives are the keys of `rows`.

    `scores` are those that the score of each row was made of; empty if not wanted.
    """

    rows: RankedRows
    scores: Sequence[MatchScores]

    def scores_of(self, rows: RankedRows) -> list[MatchScores]:
        """Return the scores of some of the rows."""
        positions = np.searchsorted(_keyed(self.rows), _keyed(rows))
        return [self.scores[position] for position in positions.tolist()]


def fused(
    query: TextQuery,
    metric: Metric,
    views: Sequence[View],
    nearest: Search,
    words: Search,
    full_score: float,
    *,
    has_scores: bool,
) -> Fused:
    """Fuse the candidates of both searches.

    Args:
        query: Says how.
        views: The views that the rows are of.
        nearest: By vector; its keys are distances.
        words: By words; its keys are negative scores.
        full_score: The score that counts 1; above 0 if there are words.
        has_scores: Whether the scores that a fused score is made of are wanted.
    """
    rows = _union(nearest.ranked, words.ranked)
    ranks = [_ranks(rows, search.ranked, views) for search in (nearest, words)] if (
        has_scores or query.fusion is Fusion.RANKS
    ) else []  # fmt: skip
    if query.fusion is Fusion.RANKS:
        shares = (2.0 - 2.0 * query.share, 2.0 * query.share)
        sums = sum(
            np.where(of_search > 0, share / (RANK_OFFSET + of_search), 0.0)
            for share, of_search in zip(shares, ranks, strict=True)
        )
        if not has_scores:
            return Fused(RankedRows(rows.parts, rows.rows, -np.asarray(sums)), ())
    distances, of_words = _completed(rows, nearest), -_completed(rows, words)
    if query.fusion is Fusion.SCORES:
        coverage = of_words / (full_score or 1.0)
        sums = (1.0 - query.share) * _nearness(distances, metric) + query.share * coverage
    scores = []
    if has_scores:
        scores = [
            MatchScores(
                RankedScore(score(distance, metric), vector_rank or None),
                RankedScore(of_word, text_rank or None),
            )
            for distance, of_word, vector_rank, text_rank in zip(
                distances.tolist(), of_words.tolist(), ranks[0].tolist(), ranks[1].tolist(),
                strict=True,
            )
        ]  # fmt: skip
    return Fused(RankedRows(rows.parts, rows.rows, -np.asarray(sums)), scores)


def _nearness(distances: Scores, metric: Metric) -> Scores:
    if metric is Metric.COSINE:
        return -distances
    if not len(distances):
        return distances
    farthest, width = distances.max(), np.ptp(distances)
    return (farthest - distances) / width if width else np.ones(len(distances))


def _keyed(rows: RankedRows) -> Ordinals:
    """Return one number for each row, which sorts as part and row do."""
    return (rows.parts << 32) | rows.rows


def _union(one: RankedRows, other: RankedRows) -> RankedRows:
    """Return the rows of both, each once, by part and row; their keys mean nothing."""
    numbers = np.sort(np.concatenate([_keyed(one), _keyed(other)]))
    is_first = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    numbers = numbers[is_first]
    return RankedRows(numbers >> 32, numbers & 0xFFFF_FFFF, np.zeros(len(numbers)))


def _ranks(rows: RankedRows, searched: RankedRows, views: Sequence[View]) -> Ordinals:
    """Return the rank of each row in a search, counted from 1; 0 where it was not found."""
    ranks = np.zeros(len(rows), np.int64)
    ordered, _ = searched.ordered(views)
    ranks[np.searchsorted(_keyed(rows), _keyed(ordered))] = np.arange(1, len(ordered) + 1)
    return ranks


def _completed(rows: RankedRows, search: Search) -> Scores:
    """Return the keys of rows, computing those that the search did not find."""
    keys = np.empty(len(rows), np.float64)
    is_missing = np.ones(len(rows), np.bool_)
    at = np.searchsorted(_keyed(rows), _keyed(search.ranked))
    keys[at], is_missing[at] = search.ranked.keys, False
    missing = np.flatnonzero(is_missing)
    parts = rows.parts[missing]
    for part in dict.fromkeys(parts.tolist()):
        positions = missing[parts == part]
        keys[positions] = search.complete(part, rows.rows[positions])
    return keys
