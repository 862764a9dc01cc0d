"""Keyword search over a snapshot: the rows that have words of a text, scored by BM25.

Number of documents, frequencies of terms and average length are those of the whole index: summed
over all views, of live rows alone. Deleted rows are subtracted exactly: a view counts its documents
under its mask, and of the rows of a term only live ones are counted and scored. So scores do not
depend on segments, merges or what was deleted. Namespace and filter choose rows, and change no
score.

A score over several properties is a weighted sum of the scores in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np

from vicinal import metadata
from vicinal.ann.base import Selection
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadRanking
from vicinal.keywords.analyzer import analyzer
from vicinal.keywords.bm25 import Scores, Statistics
from vicinal.model import MetadataIndex, Ordinals
from vicinal.ranking import Highlight, TextQuery
from vicinal.segment.base import View
from vicinal.segment.postings import Postings

HIGHLIGHTS_MAX = 100  # of one match, the first ones; ours


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows of a view, ascending, with their scores, above 0; both ``(m,)``."""

    rows: Ordinals
    scores: Scores

    def score(self, row: int) -> float:
        """Return the score of a row, 0 for one that has no word of the query."""
        at = int(np.searchsorted(self.rows, row))
        return float(self.scores[at]) if at < len(self.rows) and self.rows[at] == row else 0.0


_NONE = ScoredRows(np.empty(0, np.int64), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True)
class _QueryTerm:
    """A term of the query in one property; the postings are of live rows, one for each view."""

    property_name: str
    statistics: Statistics
    weight: float
    postings: Sequence[Postings]


class TextSearch:
    """A text that is searched for in a snapshot.

    Raises:
        BadRanking: the index has no text index, or none on a property that the query names.
    """

    def __init__(self, snapshot: Snapshot, query: TextQuery) -> None:
        self._snapshot = snapshot
        self._indexes = _indexes(snapshot, query)
        self._text = query.text
        self._terms = [
            term for index, weight in self._indexes for term in self._terms_of(index, weight)
        ]

    @property
    def property_names(self) -> frozenset[str]:
        """The properties that are searched."""
        return frozenset(index.property_name for index, _ in self._indexes)

    def score(self, part: int, selection: Selection) -> ScoredRows:
        """Return the selected rows of a view that have a word of the text."""
        view = self._snapshot.views[part]
        terms = [term for term in self._terms if len(term.postings[part].rows)]
        if not terms or not selection.count:
            return _NONE
        rows, parts = _concatenated(view, part, terms)
        rows, scores = (rows, parts) if len(terms) == 1 else _summed(rows, parts, len(view.live))
        if not selection.is_all:
            mask = selection.mask
            if mask is None:
                mask = np.zeros(len(view.live), np.bool_)
                mask[selection.rows] = True
            kept = mask[rows]
            rows, scores = rows[kept], scores[kept]
        return ScoredRows(rows, scores)

    def highlights(self, encoded: bytes) -> tuple[Highlight, ...]:
        """Return where the metadata of a match has words of the text, at most `HIGHLIGHTS_MAX`."""
        document = metadata.decode(encoded)
        spans: list[Highlight] = []
        for index, _ in self._indexes:
            name, words = index.property_name, analyzer(index.language)
            wanted = words.distinct(self._text)
            for element, text in metadata.numbered_texts(document, name):
                last: Highlight | None = None
                for term, start, end in words.spans(text):
                    if term not in wanted:
                        continue
                    if last is not None and start < last.end:  # pairs of characters overlap
                        spans.pop()
                        start = last.start
                    last = Highlight(name, start, end, element)
                    spans.append(last)
                    if len(spans) > HIGHLIGHTS_MAX:
                        return tuple(spans[:HIGHLIGHTS_MAX])
        return tuple(spans)

    def _terms_of(self, index: MetadataIndex, weight: float) -> list[_QueryTerm]:
        views, name = self._snapshot.views, index.property_name
        totals = [view.term_totals(name) for view in views]
        statistics = Statistics(sum(count for count, _ in totals), sum(n for _, n in totals))
        terms = []
        for term in analyzer(index.language).distinct(self._text):
            postings = [_live_postings(view, name, term) for view in views]
            frequency = sum(len(of_view.rows) for of_view in postings)
            if frequency:
                of_term = weight * statistics.idf(frequency)
                terms.append(_QueryTerm(name, statistics, of_term, postings))
        return terms


def _indexes(snapshot: Snapshot, query: TextQuery) -> list[tuple[MetadataIndex, float]]:
    """Return the text indexes that a query is about, with their weights."""
    indexes = {index.property_name: index for index in snapshot.text_indexes}
    if not indexes:
        raise BadRanking(
            "the index has no text index: create a metadata index of type text, with backfill for "
            "the vectors that are there"
        )
    for name, _ in query.weights:
        if name not in indexes:
            raise BadRanking(
                f"textWeights: the property {metadata.shown(name)} has no text index; "
                f"those with one are {', '.join(map(metadata.shown, indexes))}"
            )
    if not query.weights:
        return [(index, 1.0) for index in indexes.values()]
    return [(indexes[name], weight) for name, weight in query.weights]


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
