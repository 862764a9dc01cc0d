"""Fusion: one ranking of the candidates of a search by vector and of one by words.

    scores    (1 - share) · nearness + share · coverage
    ranks     2 (1 - share) / (60 + rank by vector) + 2 share / (60 + rank by words)

Nearness is the cosine. Distances of other metrics have no scale of their own: there it is where a
row is between the farthest candidate, 0, and the nearest, 1. Coverage is the BM25 score over that
of a row of average length that has each word of the query once, known words or not. So a row that
has the common words of a sentence alone gets little for them, where its rank, or its score over the
best one, would call it the best.

Both parts of each candidate are computed, whichever search found it; ranks alone need neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vicinal.distance import score
from vicinal.engine.candidates import RankedRows
from vicinal.model import Metric
from vicinal.ranking import Fusion, MatchScores, RankedScore, TextQuery
from vicinal.segment.base import View

RANK_OFFSET = 60  # source: Cormack, Clarke and Büttcher, 2009

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates of one of both searches, and the keys that they have in the other one, in
    the same order; empty where none are needed."""

    ranked: RankedRows
    others: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class BothFound:
    """The candidates of a search by vector, whose keys are distances, and of one by words, whose
    keys are negative scores. A row may be among both, with the same two keys."""

    nearest: Found
    words: Found

    def fused(
        self,
        query: TextQuery,
        metric: Metric,
        views: Sequence[View],
        full_score: float,
        count: int | None,
    ) -> tuple[RankedRows, list[str]]:
        """Return the best rows, best first, ties by id, and the ids. Keys are negative scores.

        Args:
            query: Says how they are fused.
            metric: The metric of the distances.
            views: The views that the rows are of.
            full_score: The score of words that counts 1; above 0 if there are words.
            count: The number of rows; None for all.
        """
        if query.fusion is Fusion.RANKS:
            sums = self._summed_ranks(query.share, views)
        else:
            nearness = _nearness(self._distances(), metric)
            coverage = self._scores_of_words() / (full_score or 1.0)
            both = (1.0 - query.share) * nearness + query.share * coverage
            sums = dict(zip(self._numbers(), both.tolist(), strict=True))
        numbers = sorted(sums, key=sums.__getitem__, reverse=True)
        if count is not None and count < len(numbers):
            bound = sums[numbers[count - 1]]
            while count < len(numbers) and sums[numbers[count]] == bound:
                count += 1
            del numbers[count:]
        keys = np.array([-sums[number] for number in numbers], np.float64)
        return RankedRows(np.array(numbers, np.int64), keys).ordered(views)

    def scores_of(
        self, rows: RankedRows, metric: Metric, views: Sequence[View]
    ) -> list[MatchScores]:
        """Return the scores that the fused ones of some of the rows are made of."""
        distances, of_words = self._distances().tolist(), self._scores_of_words().tolist()
        at = {number: position for position, number in enumerate(self._numbers())}
        by_vector, by_words = _ranks(self.nearest, views), _ranks(self.words, views)
        return [
            MatchScores(
                RankedScore(score(distances[at[number]], metric), by_vector.get(number)),
                RankedScore(of_words[at[number]], by_words.get(number)),
            )
            for number in rows.numbers.tolist()
        ]

    def _numbers(self) -> list[int]:
        by_vector: list[int] = self.nearest.ranked.numbers.tolist()
        by_words: list[int] = self.words.ranked.numbers.tolist()
        return by_vector + by_words

    def _distances(self) -> Scores:
        return np.concatenate([self.nearest.ranked.keys, self.words.others], dtype=np.float64)

    def _scores_of_words(self) -> Scores:
        return -np.concatenate([self.nearest.others, self.words.ranked.keys], dtype=np.float64)

    def _summed_ranks(self, share: float, views: Sequence[View]) -> dict[int, float]:
        sums: dict[int, float] = {}
        for side, weight in ((self.nearest, 2.0 - 2.0 * share), (self.words, 2.0 * share)):
            for number, rank in _ranks(side, views).items():
                sums[number] = sums.get(number, 0.0) + weight / (RANK_OFFSET + rank)
        return sums


def _nearness(distances: Scores, metric: Metric) -> Scores:
    if metric is Metric.COSINE:
        return -distances
    if not len(distances):
        return distances
    farthest, width = distances.max(), np.ptp(distances)
    return (farthest - distances) / width if width else np.ones(len(distances))


def _ranks(side: Found, views: Sequence[View]) -> dict[int, int]:
    """Return the numbers of the rows of a search with their ranks, counted from 1."""
    ordered, _ = side.ranked.ordered(views)
    return {number: rank for rank, number in enumerate(ordered.numbers.tolist(), 1)}
