"""Scores of rows for the terms of a query, by the compiled search (``native/words.c``)."""

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from vicinal.ann.base import Selection
from vicinal.engine.scoring import NO_ROWS, ScoredRows, TermsOfProperty, allowed
from vicinal.engine.snapshot import Snapshot
from vicinal.keywords import bm25
from vicinal.keywords.bm25 import Scores
from vicinal.model import Ordinals
from vicinal.native.library import Library
from vicinal.native.structures import WordSearch
from vicinal.segment.postings import FoundTerms, Terms, no_terms


class CompiledScorer:
    """See `scoring.Scorer`."""

    def __init__(
        self, built: Library, snapshot: Snapshot, terms: Sequence[TermsOfProperty]
    ) -> None:
        self._library = built
        self._snapshot = snapshot
        self._keepalive: list[object] = []
        self.full_score = 0.0
        weights: list[float] = []
        scales: list[float] = []
        frequencies: list[int] = []
        postings: list[list[FoundTerms]] = [[] for _ in snapshot.views]
        self._lookup_s = [0.0] * len(postings)
        self._row_counts = [0] * len(postings)  # of each view: no more rows have a term
        for of_property in terms:
            counts = self._frequencies(of_property, postings).tolist()
            frequencies += counts
            new = of_property.weights(counts)
            self.full_score = max(self.full_score, of_property.full_score(new))
            weights += new
            scales += [of_property.statistics.scale] * len(counts)
        order = [number for number, frequency in enumerate(frequencies) if frequency]
        order.sort(key=lambda number: -weights[number])
        self._weights = np.array([weights[number] for number in order], np.float64)
        self._scales = np.array([scales[number] for number in order], np.float64)
        self._postings = [np.concatenate(parts)[order] for parts in postings]
        self._searches = [self._search(part) for part in range(len(postings))]

    def best(self, count: int, selections: Sequence[Selection]) -> list[ScoredRows]:
        """See `scoring.Scorer`."""
        row_count = sum(len(view.live) for view in self._snapshot.views)
        best = np.empty(min(count, row_count), np.float64)
        best_count = 0
        scored = []
        for part, selection in enumerate(selections):
            start = perf_counter()
            if not selection.count or not self._row_counts[part]:
                scored.append(replace(NO_ROWS, seconds=self._lookup_s[part]))
                continue
            search = self._searches[part]
            search.best, search.k, search.best_count = best.ctypes.data, len(best), best_count
            search.allowed = None
            if not selection.is_all:
                mask = np.ascontiguousarray(allowed(selection, search.row_count))
                search.allowed = mask.ctypes.data
            capacity = min(search.row_count, self._row_counts[part])
            rows, scores = np.empty(capacity, np.int64), np.empty(capacity, np.float64)
            search.rows, search.scores = rows.ctypes.data, scores.ctypes.data
            search.capacity = capacity
            self._library.best_words(search)
            best_count, kept = search.best_count, search.found_count
            seconds = self._lookup_s[part] + perf_counter() - start
            scored.append(
                ScoredRows(
                    rows[:kept].copy(), scores[:kept].copy(), search.scored_count,
                    search.posting_count, seconds,
                )
            )  # fmt: skip
        return scored

    def scores(self, part: int, rows: Ordinals) -> Scores:
        """See `scoring.Scorer`."""
        return self._library.word_scores(self._searches[part], rows)

    def _frequencies(
        self, of_property: TermsOfProperty, postings: Sequence[list[FoundTerms]]
    ) -> NDArray[np.int64]:
        """Find the postings of each view; return the frequencies of the terms in all of them."""
        terms = Terms.of(of_property.terms)
        frequencies = np.zeros(len(terms.terms), np.int64)
        for part, view in enumerate(self._snapshot.views):
            start = perf_counter()
            lookup = view.term_lookup(self._library, of_property.property_name, terms)
            if lookup is None:
                postings[part].append(no_terms(len(terms.terms)))
                continue
            postings[part].append(lookup.postings)
            frequencies += lookup.frequencies
            self._row_counts[part] += int(lookup.frequencies.sum())
            self._keepalive.append(lookup.keepalive)
            self._lookup_s[part] += perf_counter() - start
        return frequencies

    def _search(self, part: int) -> WordSearch:
        return WordSearch(
            terms=self._postings[part].ctypes.data,
            weights=self._weights.ctypes.data,
            scales=self._scales.ctypes.data,
            term_count=len(self._weights),
            row_count=len(self._snapshot.views[part].live),
            constant=bm25.CONSTANT,
        )
