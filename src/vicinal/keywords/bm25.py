"""BM25: how well a document answers a query of several terms.

    score = Σ over the query's terms  idf · tf / (tf + K1 · (1 - B + B · length / average length))
    idf   = ln(1 + (documents - frequency + 0.5) / (frequency + 0.5))

A document is a vector whose property has at least one term; its length is its number of terms, tf
how often it has the term, and the frequency of a term is the number of documents that have it.
(Lucene's form: idf is never negative.) A term that a query has twice counts once, as in tantivy:
else the common words of a question prevail. All numbers are float64.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K1 = 1.2  # Lucene's
B = 0.75  # Lucene's

CONSTANT = K1 * (1.0 - B)
"""The part of the denominator that is the same for all documents."""

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Documents, and their terms all together."""

    document_count: int
    term_count: int

    def idf(self, frequency: int) -> float:
        """Return the weight of a term that this many documents have."""
        return math.log1p((self.document_count - frequency + 0.5) / (frequency + 0.5))

    @property
    def scale(self) -> float:
        """The part of the denominator that each term of a document adds."""
        return K1 * B * self.document_count / max(self.term_count, 1)

    def parts(
        self, weights: Scores, counts: NDArray[np.uint16], lengths: NDArray[np.uint32]
    ) -> Scores:
        """Return what terms add to the scores of documents; all arguments are ``(n,)``.

        Args:
            weights: Of the terms: the idf, times how much the term counts.
            counts: How often the document has the term.
            lengths: Of the documents.
        """
        parts = lengths.astype(np.float64)
        parts *= self.scale
        parts += CONSTANT
        parts += counts
        np.divide(counts, parts, out=parts)
        parts *= weights
        return parts
