"""Keyword search over a snapshot: the rows that have words of a text, scored by BM25.

Number of documents, frequencies of terms and average length are those of the whole index: summed
over all views, of live rows alone. Deleted rows are subtracted exactly: a view counts its documents
under its mask, and of the rows of a term only live ones are counted and scored. So scores do not
depend on segments, merges or what was deleted. Namespace and filter choose rows, and change no
score.

A score over several properties is a weighted sum of the scores in them.
"""

from collections.abc import Sequence

from vicinal import metadata
from vicinal.ann.base import Selection
from vicinal.engine.compiled_scoring import CompiledScorer
from vicinal.engine.scoring import PlainScorer, ScoredRows, Scorer, TermsOfProperty
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadRanking
from vicinal.keywords.analyzer import analyzer
from vicinal.keywords.bm25 import Scores, Statistics
from vicinal.model import MetadataIndex, Ordinals
from vicinal.native.library import library
from vicinal.ranking import Highlight, TextQuery

HIGHLIGHTS_MAX = 100  # of one match, the first ones; ours


class TextSearch:
    """A text that is searched for in a snapshot.

    Raises:
        BadRanking: the index has no text index, or none on a property that the query names.
    """

    def __init__(self, snapshot: Snapshot, query: TextQuery) -> None:
        self._snapshot = snapshot
        self._indexes = _indexes(snapshot, query)
        self._text = query.text
        built = library()
        terms = [
            TermsOfProperty(
                index.property_name,
                list(analyzer(index.language).distinct(query.text)),
                weight,
                _statistics(snapshot, index.property_name),
            )
            for index, weight in self._indexes
        ]
        self._scorer: Scorer
        if built is None:
            self._scorer = PlainScorer(snapshot, terms)
        else:
            self._scorer = CompiledScorer(built, snapshot, terms)

    @property
    def property_names(self) -> frozenset[str]:
        """The properties that are searched."""
        return frozenset(index.property_name for index, _ in self._indexes)

    @property
    def full_score(self) -> float:
        """The score of a row of average length that has each word of the text once."""
        return self._scorer.full_score

    def best(self, count: int, selections: Sequence[Selection]) -> list[ScoredRows]:
        """Return of each view the selected rows that are among the `count` best of all views, those
        that tie with them, and maybe some more."""
        return self._scorer.best(count, selections)

    def scores(self, part: int, rows: Ordinals) -> Scores:
        """Return the scores of rows of a view, which ascend; 0 for those without a word."""
        return self._scorer.scores(part, rows)

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


def _statistics(snapshot: Snapshot, property_name: str) -> Statistics:
    totals = [view.term_totals(property_name) for view in snapshot.views]
    return Statistics(sum(count for count, _ in totals), sum(n for _, n in totals))


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
