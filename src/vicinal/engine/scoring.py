"""Scores of rows for the terms of a query, by NumPy: what is used where nothing is compiled.

Terms are added up with those first that weigh most, in the same order for all views. So equal
documents have the same score to the last bit, and tie.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from time import perf_counter
from typing import Protocol

import numpy as np

from vicinal.ann.base import Selection
from vicinal.engine.snapshot import Snapshot
from vicinal.keywords.bm25 import K1, Scores, Statistics
from vicinal.model import Mask, Ordinals
from vicinal.segment.base import View
from vicinal.segment.postings import Postings


@dataclass(frozen=True, slots=True)
class TermsOfProperty:
    """The distinct terms of a query in one property, and how much the property counts."""

    property_name: str
    terms: Sequence[str]
    weight: float
    statistics: Statistics

    def weights(self, frequencies: Sequence[int]) -> list[float]:
        """Return the weights of the terms, which these numbers of live rows have, 0 too."""
        return [self.weight * self.statistics.idf(frequency) for frequency in frequencies]

    def full_score(self, weights: Sequence[float]) -> float:
        """Return the score of a row of average length that has each term once."""
        return sum(weights) / (1.0 + K1)


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows of a view, ascending, with their scores, above 0; both ``(m,)``.

    `scored_count` is the number of rows whose score was begun to find them, `posting_count` that of
    the postings read, `seconds` the time it took.
    """

    rows: Ordinals
    scores: Scores
    scored_count: int = 0
    posting_count: int = 0
    seconds: float = 0.0


NO_ROWS = ScoredRows(np.empty(0, np.int64), np.empty(0, np.float64))


class Scorer(Protocol):
    """Scores the rows of a snapshot (`text_search.TextSearch`).

    Attributes:
        full_score: The score of a row of average length that has each term of the query once;
            of several properties, in the one where it is most.
    """

    @property
    def full_score(self) -> float:
        """See the class."""
        ...

    def best(self, count: int, selections: Sequence[Selection]) -> list[ScoredRows]:
        """Return of each view the selected rows that are among the `count` best of all views, those
        that tie with them, and maybe some more."""
        ...

    def scores(self, part: int, rows: Ordinals) -> Scores:
        """Return the scores of rows of a view, which ascend; 0 for those without a term."""
        ...


@dataclass(frozen=True, slots=True)
class _QueryTerm:
    """A term of the query in one property; the postings are of live rows, one for each view."""

    property_name: str
    statistics: Statistics
    weight: float
    postings: Sequence[Postings]


class PlainScorer:
    """See `Scorer`."""

    def __init__(self, snapshot: Snapshot, terms: Sequence[TermsOfProperty]) -> None:
        self.full_score = 0.0
        self._snapshot = snapshot
        self._terms = [term for of_property in terms for term in self._terms_of(of_property)]
        self._terms.sort(key=lambda term: -term.weight)
        self._scored: dict[int, ScoredRows] = {}

    def best(self, count: int, selections: Sequence[Selection]) -> list[ScoredRows]:
        """See `Scorer`."""
        scored = []
        for part, selection in enumerate(selections):
            start = perf_counter()
            selected = self._selected(part, selection)
            scored.append(replace(selected, seconds=perf_counter() - start))
        scores = np.concatenate([np.empty(0), *(rows.scores for rows in scored)])
        if len(scores) <= count:
            return scored
        bound = float(np.partition(scores, len(scores) - count)[len(scores) - count])
        return [
            replace(of_view, rows=of_view.rows[kept], scores=of_view.scores[kept])
            for of_view in scored
            for kept in [of_view.scores >= bound]
        ]

    def scores(self, part: int, rows: Ordinals) -> Scores:
        """See `Scorer`."""
        scored = self._all(part)
        if not len(scored.rows):
            return np.zeros(len(rows))
        at = np.minimum(np.searchsorted(scored.rows, rows), len(scored.rows) - 1)
        return np.where(scored.rows[at] == rows, scored.scores[at], 0.0)

    def _selected(self, part: int, selection: Selection) -> ScoredRows:
        if not selection.count:
            return NO_ROWS
        scored = self._all(part)
        if selection.is_all or not len(scored.rows):
            return scored
        kept = allowed(selection, len(self._snapshot.views[part].live))[scored.rows]
        return replace(scored, rows=scored.rows[kept], scores=scored.scores[kept])

    def _all(self, part: int) -> ScoredRows:
        """Return all rows of a view that have a term."""
        scored = self._scored.get(part)
        if scored is None:
            terms = [term for term in self._terms if len(term.postings[part].rows)]
            scored = NO_ROWS
            if terms:
                view = self._snapshot.views[part]
                rows, scores = _concatenated(view, part, terms)
                if len(terms) > 1:
                    rows, scores = _summed(rows, scores, len(view.live))
                posting_count = sum(len(term.postings[part].rows) for term in terms)
                scored = ScoredRows(rows, scores, len(rows), posting_count)
            self._scored[part] = scored
        return scored

    def _terms_of(self, of_property: TermsOfProperty) -> list[_QueryTerm]:
        name, statistics = of_property.property_name, of_property.statistics
        views = self._snapshot.views
        postings = [
            [_live_postings(view, name, term) for view in views] for term in of_property.terms
        ]
        frequencies = [sum(len(of_view.rows) for of_view in per_view) for per_view in postings]
        weights = of_property.weights(frequencies)
        self.full_score = max(self.full_score, of_property.full_score(weights))
        return [
            _QueryTerm(name, statistics, weight, per_view)
            for frequency, weight, per_view in zip(frequencies, weights, postings, strict=True)
            if frequency
        ]


def allowed(selection: Selection, row_count: int) -> Mask:
    """Return the selected rows as a mask, ``(row_count,)``; not for a selection of all."""
    mask = selection.masked().mask
    if mask is None:
        mask = np.zeros(row_count, np.bool_)
        mask[selection.rows] = True
    return mask


def _live_postings(view: View, property_name: str, term: str) -> Postings:
    postings = view.postings(property_name, term)
    if view.live_count == len(view.live) or not len(postings.rows):
        return postings
    live = view.live[postings.rows]
    return Postings(postings.rows[live], postings.counts[live])


def _concatenated(view: View, part: int, terms: Sequence[_QueryTerm]) -> tuple[Ordinals, Scores]:
    """Return the rows of all terms, term by term, and what each term adds to their scores."""
    all_rows, all_parts = [], []
    for name, of_property in groupby(terms, attrgetter("property_name")):
        group = list(of_property)
        lengths = view.term_lengths(name)
        assert lengths is not None
        postings = [term.postings[part] for term in group]
        rows = np.concatenate([of_term.rows for of_term in postings])
        counts = np.concatenate([of_term.counts for of_term in postings])
        weights = np.repeat(
            [term.weight for term in group], [len(of_term.rows) for of_term in postings]
        )
        all_rows.append(rows)
        all_parts.append(group[0].statistics.parts(weights, counts, lengths[rows]))
    return np.concatenate(all_rows).astype(np.int64), np.concatenate(all_parts)


def _summed(rows: Ordinals, parts: Scores, row_count: int) -> tuple[Ordinals, Scores]:
    """Return the distinct rows, ascending, and the sums of their parts, added in their order."""
    if len(rows) * 16 > row_count:  # ours: about where sorting takes as long as a scan
        totals: Scores = np.bincount(rows, parts, row_count).astype(np.float64, copy=False)
        distinct: Ordinals = np.flatnonzero(totals > 0.0)  # of floats it takes ten times as long
        return distinct, totals[distinct]
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    first = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    sums: Scores = np.bincount(np.cumsum(first) - 1, parts[order]).astype(np.float64, copy=False)
    return rows[first], sums
