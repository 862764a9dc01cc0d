"""The JSON shapes of members of queries and matches that are ours (`schemas` has the others)."""

from msgspec import UNSET, Struct, UnsetType, field

from vicinal.ranking import Fusion


class HybridRequest(Struct, rename="camel"):
    """How a vector and the words of a text make one score: by `ranks`, which is the default, or by
    `scores`; `textShare` is the weight of the words, from 0 to 1. An extension."""

    fusion: Fusion | None = None
    text_share: float | None = None


class MmrRequest(Struct, rename="camel"):
    """Maximal marginal relevance: `lambda` is the weight of the query, from 0 to 1, beside the
    distance of matches from each other, and `fetchK` the number of candidates. An extension."""

    relevance: float | None = field(name="lambda", default=None)
    fetch_k: int | None = None


class GroupByRequest(Struct, rename="camel"):
    """At most `count` matches of each value of an indexed property. An extension."""

    property_name: str = field(name="property")
    count: int | None = None


class RerankRequest(Struct, rename="camel"):
    """A model that scores the text of a property against the query's, of the `fetchK` best matches.
    An extension."""

    property_name: str = field(name="property")
    model: str | None = None
    fetch_k: int | None = None


class RankedScoreSchema(Struct):
    """A score of one search, and the rank of the match in it if it found the match."""

    score: float
    rank: int | UnsetType = UNSET


class MatchScoresSchema(Struct):
    """The scores that a score was made of."""

    vector: RankedScoreSchema | UnsetType = UNSET
    text: RankedScoreSchema | UnsetType = UNSET
    rerank: float | UnsetType = UNSET


class HighlightSchema(Struct):
    """A word of the query in a property: the characters (code points) that it begins and ends at,
    in the string that is number `element` of an array."""

    property: str
    start: int
    end: int
    element: int | UnsetType = UNSET
