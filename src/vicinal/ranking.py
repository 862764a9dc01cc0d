"""Ways to rank matches other than by a vector alone, and what a match tells of its rank.

All of it is an extension: keyword search and its fusion with a search by vector, diversity, groups.
"""

from dataclasses import dataclass
from enum import StrEnum

WEIGHT_MIN, WEIGHT_MAX = 1e-6, 1e6
"""Of a property beside others: past these, sums of scores would leave float64. Ours."""


class Fusion(StrEnum):
    """The way to one score of a vector's nearness and of a text's words.

    `RANKS` adds reciprocal ranks, `SCORES` nearness and the share of the query's words.
    """

    RANKS = "ranks"
    SCORES = "scores"


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A search for the words of a text.

    Attributes:
        text: The words; nothing in it is an operator.
        weights: Properties with a text index and how much each counts, `WEIGHT_MIN` to
            `WEIGHT_MAX`; empty: all, each 1.
        fusion: How it joins a search by vector.
        share: The weight of the words beside the vector, 0 to 1.
        needs_vector: Whether a vector of the text is to be searched for, too; who has models adds
            it.
    """

    text: str
    weights: tuple[tuple[str, float], ...] = ()
    fusion: Fusion = Fusion.SCORES
    share: float = 0.5
    needs_vector: bool = False


@dataclass(frozen=True, slots=True)
class Diversity:
    """Maximal marginal relevance: matches that are near the query and far from each other.

    Attributes:
        relevance: The weight of the query, 0 to 1; the rest is that of the other matches.
        candidate_count: The best matches that are chosen from.
    """

    relevance: float
    candidate_count: int


@dataclass(frozen=True, slots=True)
class Grouping:
    """At most `count` matches of each value of an indexed property; those without one are not
    grouped."""

    property_name: str
    count: int


@dataclass(frozen=True, slots=True)
class Reranking:
    """A second ranking, by a model that reads the query's text beside that of a property.

    `model` is its name, None the only one; it is given the best `candidate_count` matches.
    """

    property_name: str
    model: str | None
    candidate_count: int


@dataclass(frozen=True, slots=True)
class RankedScore:
    """A score of one search; `rank` counts from 1, None where that search did not find it."""

    score: float
    rank: int | None


@dataclass(frozen=True, slots=True)
class MatchScores:
    """The scores that a match's score was made of; None where there was no such search."""

    vector: RankedScore | None
    text: RankedScore | None
    rerank: float | None = None

    @classmethod
    def of_vector(cls, ranked: RankedScore) -> "MatchScores":
        """Return those of a search by vector alone."""
        return cls(ranked, None)

    @classmethod
    def of_text(cls, ranked: RankedScore) -> "MatchScores":
        """Return those of a search by words alone."""
        return cls(None, ranked)


@dataclass(frozen=True, slots=True)
class Highlight:
    """A word of a query in a text: the code points of the property that it begins and ends at.

    `element` is the number of the string, where the property is an array.
    """

    property_name: str
    start: int
    end: int
    element: int | None = None


@dataclass(frozen=True, slots=True)
class WordsExplanation:
    """The search for words in one part of an index.

    Attributes:
        scored_count: Rows whose score was begun.
        posting_count: Pairs of a word and a row that were read for that.
        search_ms: Time for all of it.
    """

    scored_count: int
    posting_count: int
    search_ms: float
